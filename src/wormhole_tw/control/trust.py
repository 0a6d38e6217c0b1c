"""Who is trusted: the lists of networks in edge.toml, from text to values."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from wormhole_tw.errors import ConfigError

__all__ = ["UNIX", "Trusted", "read_networks", "read_trusted", "refuse_mapped"]

_MAPPED = IPv6Network("::ffff:0:0/96")

UNIX = "unix"
"""Stands in a list for everybody who comes by a Unix socket: whoever may open it has a place on this machine."""


class Trusted(NamedTuple):
    """A list of peers.

    :ivar networks: those with an address
    :ivar unix: those without one, too
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False


def read_trusted(texts: Sequence[str], source: str, key: str) -> Trusted:
    """Read a list of proxies.

    :param key: of the list, for errors
    :raises ConfigError: one of them is no network, or would be everybody
    """
    trusted = read_networks(texts, source, key)
    for index, text in enumerate(texts):
        if text.endswith("/0"):
            reason = "everybody: a visitor could say that it is anybody; name the proxies"
            raise ConfigError(source, f"{key}[{index}]", reason)
    return trusted


def refuse_mapped(network: IPv4Network | IPv6Network) -> None:
    """Nobody comes from an IPv4 address in an IPv6 one (RFC 4291 section 2.5.5.2): it is taken for the IPv4 one, and a
    list of the others would hold nobody.

    :raises ValueError: it is a network of those
    """
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        first = IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        raise ValueError(f"visitors of IPv4 are judged by their IPv4 address: write {first}/{network.prefixlen - 96}")


def read_networks(texts: Sequence[str], source: str, key: str, *, mapped: bool = False) -> Trusted:
    """Read a list of networks, which may be everybody.

    :param key: of the list, for errors
    :param mapped: it is of addresses as they are dialled: IPv4 ones in IPv6 have their own place there
    :raises ConfigError: one of them is no network
    """
    networks: list[IPv4Network | IPv6Network] = []
    unix = False
    for index, text in enumerate(texts):
        if text == UNIX:
            unix = True
            continue
        where = f"{key}[{index}]"
        try:
            network = ip_network(text)
            if not mapped:
                refuse_mapped(network)
        except ValueError as error:
            raise ConfigError(source, where, f'no network ("192.0.2.0/24", "2001:db8::1"; "unix"): {error}') from error
        if isinstance(network, IPv6Network) and network.network_address.scope_id is not None:
            raise ConfigError(source, where, "a network has no zone")
        networks.append(network)
    return Trusted(tuple(networks), unix)
