"""``[tls.dns]``: how the edge proves by DNS that a name is its own (ACME's DNS-01 challenge, RFC 8555 §8.4).

The only proof for a wildcard. What is configured is who writes the record, a hook program or a dynamic update
(RFC 2136), and how the edge makes sure that the world sees it before the CA looks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import Meta, Struct

from .names import MAX_HOSTNAME, normalise_hostname
from .tsig import TsigAlgorithm, TsigKey, read_key_file

__all__ = [
    "CHALLENGE_LABEL",
    "DnsConfig",
    "DnsServer",
    "DnsTable",
    "HookConfig",
    "UpdateConfig",
    "UpdateTable",
    "check_provable",
    "read_dns",
]

#: What stands before a name in its challenge's record (RFC 8555 §8.4).
CHALLENGE_LABEL = "_acme-challenge"

#: Where name servers listen (RFC 1035 §4.2).
DNS_PORT = 53

#: Seconds: no record needs an hour to be written or seen, and orders do not live much longer than that.
_HOUR = 3600

#: A label of a zone's or key's name; these need not be host names, but nobody needs more than these characters.
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)

#: Octets of the longest name in a message (RFC 1035 §2.3.4), as text without the root's dot.
_MAX_NAME = 253

_ADDRESS_WITH_PORT = re.compile(r"\[([^\]]*)\](?::(.*))?", re.DOTALL)

_ONE_OF_TWO = '[tls.dns] hook = ["/path/to/program"] or [tls.dns.rfc2136]'


class UpdateTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tls.dns.rfc2136]``."""

    server: str
    key_file: str
    key_name: str | None = None
    algorithm: TsigAlgorithm | None = None
    zone: str | None = None
    ttl: Annotated[int, Meta(ge=0, le=86400)] = 60
    timeout: Annotated[float, Meta(gt=0, le=60)] = 5


class DnsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tls.dns]``."""

    hook: list[str] | None = None
    hook_timeout: Annotated[float, Meta(gt=0, le=_HOUR)] = 60
    rfc2136: UpdateTable | None = None
    follow_cname: bool = True
    resolvers: list[str] = []
    propagation_timeout: Annotated[float, Meta(ge=0, le=_HOUR)] = 120
    propagation_servers: list[str] = []
    propagation_delay: Annotated[float, Meta(ge=0, le=_HOUR)] = 0


@dataclass(frozen=True, slots=True)
class DnsServer:
    """A name server: an address, or a host name that is looked up when it is needed."""

    host: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DNS_PORT else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HookConfig:
    """A program that writes the record.

    :ivar command: its absolute path and the arguments that come before ours
    :ivar timeout: seconds that one run may take
    """

    command: tuple[str, ...]
    timeout: float = 60


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """A name server that takes dynamic updates (RFC 2136), signed with a shared key (RFC 8945).

    :ivar zone: which zone the records belong to, without the root's dot; None: the server is asked
    :ivar ttl: seconds, of the records
    :ivar timeout: seconds for each answer
    """

    server: DnsServer
    key: TsigKey
    zone: str | None = None
    ttl: int = 60
    timeout: float = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """A checked ``[tls.dns]``.

    :ivar writer: who writes the records
    :ivar follow_cname: where the record's name is a CNAME, its target is written instead
    :ivar resolvers: who is asked for CNAMEs and for a zone's servers; empty for those of the machine
    :ivar propagation_timeout: seconds until every server must have the record; 0: nobody is asked
    :ivar propagation_servers: who must have it; empty for the authoritative servers of the zone
    :ivar propagation_delay: seconds more, after all have it
    """

    writer: HookConfig | UpdateConfig
    follow_cname: bool = True
    resolvers: tuple[DnsServer, ...] = ()
    propagation_timeout: float = 120
    propagation_servers: tuple[DnsServer, ...] = ()
    propagation_delay: float = 0


def read_dns(table: DnsTable, folder: Path, source: str, key: str = "$.tls.dns") -> DnsConfig:
    """Check the table, and read the key file that it names.

    :param folder: what relative paths are relative to
    :raises ConfigError: nobody or two write the record; a program that cannot be run; a key file that is not there,
        open to others or no key; something that is no server or no zone
    """
    if (table.hook is None) == (table.rfc2136 is None):
        reason = "two ways to write the records: leave one out" if table.hook is not None else f"needs {_ONE_OF_TWO}"
        raise ConfigError(source, key, reason)
    writer: HookConfig | UpdateConfig
    if table.rfc2136 is not None:
        writer = _update(table.rfc2136, folder, source, f"{key}.rfc2136")
    else:
        assert table.hook is not None
        writer = HookConfig(_command(table.hook, folder, source, f"{key}.hook"), table.hook_timeout)
    return DnsConfig(
        writer=writer,
        follow_cname=table.follow_cname,
        resolvers=read_resolvers(table.resolvers, source, f"{key}.resolvers"),
        propagation_timeout=table.propagation_timeout,
        propagation_servers=_servers(table.propagation_servers, source, f"{key}.propagation_servers"),
        propagation_delay=table.propagation_delay,
    )


def check_provable(name: str, dns: DnsConfig | None, source: str, key: str) -> None:
    """See to it that a name that has to be proved by DNS can be.

    :param name: normalised
    :param key: where it stands, for errors
    :raises ConfigError: nobody writes the DNS; no room in the name for the challenge's label
    """
    if dns is None:
        what = f"a CA gives a certificate for the wildcard {name} only to whoever can write its DNS"
        reason = f"{what}: set {_ONE_OF_TWO}, or write every name in place of the wildcard"
        raise ConfigError(source, key, reason)
    if len(name.removeprefix("*.")) + len(CHALLENGE_LABEL) + 1 > MAX_HOSTNAME:
        raise ConfigError(source, key, f"too long to be proved by DNS: no room for {CHALLENGE_LABEL} before it")


def _command(words: Sequence[str], folder: Path, source: str, key: str) -> tuple[str, ...]:
    if not words:
        raise ConfigError(source, key, "empty: the path of a program, then its arguments")
    for index, word in enumerate(words):
        if "\0" in word:
            raise ConfigError(source, f"{key}[{index}]", "no program takes a NUL in an argument")
    if not words[0]:
        raise ConfigError(source, f"{key}[0]", "no path")
    program = folder / words[0]
    if not program.exists():
        reason = f"there is no program {program}; a path is relative to this file, and PATH is not searched"
        raise ConfigError(source, f"{key}[0]", reason)
    if not program.is_file() or not os.access(program, os.X_OK):
        raise ConfigError(source, f"{key}[0]", f"{program} is no program that may be run: chmod +x")
    return (str(program), *words[1:])


def _update(table: UpdateTable, folder: Path, source: str, key: str) -> UpdateConfig:
    server = _server(table.server, source, f"{key}.server")
    zone = None
    if table.zone is not None:
        zone = _name(table.zone, "zone", source, f"{key}.zone")
    name = None
    if table.key_name is not None:
        name = _name(table.key_name, "key", source, f"{key}.key_name")
    if not table.key_file or "\0" in table.key_file:
        raise ConfigError(source, f"{key}.key_file", "no path")
    tsig = read_key_file(folder / table.key_file, name, table.algorithm, source, key)
    return UpdateConfig(server, tsig, zone, table.ttl, table.timeout)


def _name(text: str, what: str, source: str, key: str) -> str:
    name = text.removesuffix(".").lower()
    if len(name) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ConfigError(
            source, key, f'no name of a {what}: labels of letters, digits, "-" and "_", with dots between'
        )
    return name


def _servers(texts: Sequence[str], source: str, key: str) -> tuple[DnsServer, ...]:
    return tuple(_server(text, source, f"{key}[{index}]") for index, text in enumerate(texts))


def read_resolvers(texts: Sequence[str], source: str, key: str) -> tuple[DnsServer, ...]:
    """Servers that names are looked up by.

    :raises ConfigError: one of them is no address
    """
    servers = _servers(texts, source, key)
    for index, server in enumerate(servers):
        try:
            ip_address(server.host)
        except ValueError:
            raise ConfigError(
                source, f"{key}[{index}]", "an address: who resolves names has to be found without"
            ) from None
    return servers


def _server(text: str, source: str, key: str) -> DnsServer:
    """``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1``, ``[2001:db8::1]:5353``, ``ns1.example.com:5353``."""
    host, port = text, None
    if bracketed := _ADDRESS_WITH_PORT.fullmatch(text):
        host, port = bracketed[1], bracketed[2]
    elif text.count(":") == 1:
        host, port = text.split(":")
    number = DNS_PORT
    if port is not None:
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
        if not 1 <= number <= 65535:
            raise ConfigError(source, key, "a port is 1 to 65535")
    try:
        return DnsServer(normalise_hostname(host), number)
    except ValueError:
        reason = 'no server: "192.0.2.1", "[2001:db8::1]:5353" or "ns1.example.com"'
        raise ConfigError(source, key, reason) from None
