"""``[[tcp]]``: public TCP ports, from the tables to checked values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

from wormhole_tw.errors import ConfigError

from .trust import Trusted, read_networks, read_trusted

if TYPE_CHECKING:
    from .tables import TcpTable

__all__ = ["Checks", "Merged", "TcpService", "merge_tcp", "read_tcp"]

NO_NETWORK = Trusted()


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpService:
    """One public TCP port, and the backend that its connections lead to.

    :ivar name: for logs and metrics; what tells it from the others when a file is read anew
    :ivar listen: a Twisted server endpoint description
    :ivar allow: who may connect; None for everybody
    :ivar deny: who may not, whatever ``allow`` says
    :ivar connections: how many there may be at once
    :ivar connections_per_address: how many of one address (of IPv6: of one /64); 0 is off
    :ivar connect: seconds until a connection stands, the agent's dial of its service included; None for the edge's
        ``limits.connect``
    :ivar idle: seconds without an octet either way; 0 is off
    :ivar proxy_protocol: trusted peers begin with a header of the PROXY protocol
    :ivar trusted: networks of these proxies; they are not counted by address
    :ivar trusts_unix: so is whoever comes by a Unix socket
    :ivar key: where it stands in the file, for errors (``$.tcp[0]``)
    """

    name: str
    listen: str
    backend: str
    allow: Trusted | None = None
    deny: Trusted = NO_NETWORK
    connections: int
    connections_per_address: int = 0
    connect: float | None = None
    idle: float
    proxy_protocol: bool = False
    trusted: tuple[IPv4Network | IPv6Network, ...] = ()
    trusts_unix: bool = False
    key: str = field(default="", compare=False)


class Checks(NamedTuple):
    """What the rest of the file has to say: each takes a key, for its error, and the value that stands there.

    :ivar name: gives a good name back
    :ivar endpoint: a description is good, and no other listener's
    :ivar backend: it is one of the file's
    """

    name: Callable[[str, str], str]
    endpoint: Callable[[str, str], None]
    backend: Callable[[str, str], None]


def read_tcp(tables: Sequence[TcpTable], source: str, general: Trusted, checks: Checks) -> tuple[TcpService, ...]:
    """Check the services.

    :param general: the edge's own ``trusted_proxies``
    :raises ConfigError: something in them is wrong
    """
    services: dict[str, TcpService] = {}
    for number, table in enumerate(tables):
        key = f"$.tcp[{number}]"
        if table.listen.startswith(("ssl:", "tls:")):
            reason = 'the edge ends no TLS on a TCP service: write "tcp:5432", and let the service itself speak TLS'
            raise ConfigError(source, f"{key}.listen", reason)
        checks.endpoint(f"{key}.listen", table.listen)
        checks.backend(f"{key}.backend", table.backend)
        name = table.backend if table.name is None else checks.name(f"{key}.name", table.name)
        if name in services:
            reason = f"there are two TCP services named {name}; give each a name of its own"
            raise ConfigError(source, f"{key}.name", reason)
        if table.allow is not None and not table.allow:
            raise ConfigError(source, f"{key}.allow", "empty: nobody could connect; leave it out for everybody")
        trusted = general if table.trusted is None else read_trusted(table.trusted, source, f"{key}.trusted")
        if table.proxy_protocol and not (trusted.networks or trusted.unix):
            reason = "nobody is trusted to send it: name the proxies in trusted, or in edge.trusted_proxies"
            raise ConfigError(source, f"{key}.proxy_protocol", reason)
        services[name] = TcpService(
            name=name,
            listen=table.listen,
            backend=table.backend,
            allow=None if table.allow is None else read_networks(table.allow, source, f"{key}.allow"),
            deny=read_networks(table.deny, source, f"{key}.deny"),
            connections=table.connections,
            connections_per_address=table.connections_per_address,
            connect=table.connect,
            idle=table.idle,
            proxy_protocol=table.proxy_protocol,
            trusted=trusted.networks,
            trusts_unix=trusted.unix,
            key=key,
        )
    return tuple(services.values())


class Merged(NamedTuple):
    """What a running edge takes over of its TCP services: all but which ports there are.

    :ivar services: for each port, in its order, what holds for it from now on; None where that has left the file
    :ivar kept: the same as configuration, with the ports as they are
    :ivar keys: what only a restart changes, each with the service that it is about
    """

    services: tuple[TcpService | None, ...]
    kept: tuple[TcpService, ...]
    keys: tuple[str, ...]


def merge_tcp(old: Sequence[TcpService], new: Sequence[TcpService]) -> Merged:
    """Compare what the ports were opened for with what a file wants now; services are known by their names."""
    wanted = {service.name: service for service in new}
    services: list[TcpService | None] = []
    kept = []
    keys = []
    for service in old:
        found = wanted.pop(service.name, None)
        services.append(found)
        if found is None:
            keys.append(f"$.tcp ({service.name} is gone; its port takes nobody until then)")
            kept.append(service)
            continue
        if found.listen != service.listen:
            keys.append(f"{found.key}.listen ({service.name})")
        kept.append(replace(found, listen=service.listen))
    keys += [f"{service.key} ({service.name} is new)" for service in wanted.values()]
    return Merged(tuple(services), tuple(kept), tuple(keys))
