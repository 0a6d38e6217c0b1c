"""The listeners of ``[edge]``: ``https``, ``http`` and ``[[edge.listeners]]``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from wormhole_tw.errors import ConfigError

from .endpoints import endpoint_port
from .tables import EdgeTable, ListenerTable
from .trust import Trusted, read_trusted

__all__ = ["Listener", "read_listeners"]


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening port.

    :ivar endpoint: a Twisted server endpoint description without TLS, which the edge adds where ``tls`` says so
    :ivar on_plain: what a listener without TLS does with a request: ``redirect`` to https, or ``serve`` it
    :ivar proxy_protocol: trusted peers begin with a header of the PROXY protocol
    :ivar trusted: networks of proxies: their PROXY header and forwarding fields are believed
    :ivar trusts_unix: so is whoever comes by a Unix socket
    :ivar trusted_header: which field they write, ``x-forwarded-for`` (and its family) or ``forwarded``
    :ivar tunnels: whether agents' tunnels are taken; None: with TLS all, without it those that speak the tunnel's own
        protocol, and by WebSocket those that a trusted proxy passes on
    :ivar key: where it stands in the file, for errors (``$.edge.https[0]``)
    """

    endpoint: str
    tls: bool = True
    on_plain: Literal["redirect", "serve"] = "redirect"
    proxy_protocol: bool = False
    trusted: tuple[IPv4Network | IPv6Network, ...] = ()
    trusts_unix: bool = False
    trusted_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    tunnels: bool | None = None
    key: str = field(default="", compare=False)

    @property
    def untrusting(self) -> Listener:
        """The same without whom it trusts: what only a restart changes."""
        return replace(self, trusted=(), trusts_unix=False, trusted_header="x-forwarded-for")

    @property
    def endpoint_key(self) -> str:
        """Where the endpoint stands in the file."""
        return f"{self.key}.endpoint" if self.key.startswith("$.edge.listeners") else self.key

    @property
    def port(self) -> int | None:
        """The TCP port of the endpoint; 0 for any free one, None where it has none (``unix:``)."""
        return endpoint_port(self.endpoint)


def read_listeners(edge: EdgeTable, source: str, general: Trusted) -> tuple[Listener, ...]:
    """Check the listeners; their endpoints are looked at where every port is known.

    :param general: the edge's own ``trusted_proxies``
    :raises ConfigError: something in them is wrong, or there is none for TLS
    """
    tables = [
        *((f"$.edge.https[{index}]", ListenerTable(endpoint=text)) for index, text in enumerate(edge.https)),
        *((f"$.edge.http[{index}]", ListenerTable(endpoint=text, tls=False)) for index, text in enumerate(edge.http)),
        *((f"$.edge.listeners[{index}]", table) for index, table in enumerate(edge.listeners)),
    ]
    listeners = tuple(_listener(key, table, edge, source, general) for key, table in tables)
    if not any(listener.tls for listener in listeners):
        reason = 'no TLS listener; agents and visitors need one: https = ["tcp:443"]'
        raise ConfigError(source, "$.edge.https", reason)
    return listeners


def _listener(key: str, table: ListenerTable, edge: EdgeTable, source: str, trusted: Trusted) -> Listener:
    if table.trusted is not None:
        trusted = read_trusted(table.trusted, source, f"{key}.trusted")
    if table.proxy_protocol and not (trusted.networks or trusted.unix):
        reason = "nobody is trusted to send it: name the proxies in trusted, or in edge.trusted_proxies"
        raise ConfigError(source, f"{key}.proxy_protocol", reason)
    if table.tls and table.on_plain is not None:
        raise ConfigError(source, f"{key}.on_plain", "only for a listener with tls = false")
    return Listener(
        table.endpoint,
        table.tls,
        table.on_plain or "redirect",
        table.proxy_protocol,
        trusted.networks,
        trusted.unix,
        table.trusted_header or edge.trusted_header,
        table.tunnels,
        key,
    )
