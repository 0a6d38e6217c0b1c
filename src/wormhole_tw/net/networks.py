"""Sets of IP networks, and addresses in one spelling."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["Networks", "canonical_address", "counted_address"]

MAX_KNOWN = 4096
"""Addresses whose verdict is kept; a proxy in front names many visitors, and the same ones again and again."""

_MAPPED = "::ffff:"

_SUBNET = ~((1 << 64) - 1)
"""What counts of an IPv6 address: everybody has a whole /64, and could else come with another address every time."""


def canonical_address(text: str) -> str:
    """An address as it is compared and shown: an IPv4 one that a socket for both families maps into IPv6 stands by
    itself. Whatever else is given comes back as it is."""
    return text[len(_MAPPED) :] if text.startswith(_MAPPED) and "." in text else text


@lru_cache(maxsize=MAX_KNOWN)
def counted_address(address: str) -> str:
    """What is counted where there is a limit by address: an IPv4 address, the /64 of an IPv6 one, or whatever else is
    given."""
    if ":" not in address:
        return address
    try:
        whole = IPv6Address(address)
    except AddressValueError:
        return address
    if whole.ipv4_mapped is not None:  # from a socket that takes both
        return str(whole.ipv4_mapped)
    return str(IPv6Address(int(whole) & _SUBNET))


class Networks:
    """Networks of either family; an empty set holds nobody.

    ``address in networks`` takes text, also that of an IPv4-mapped IPv6 address; what is no address (the path of a
    Unix socket, an empty string, an IPv6 address with a zone) is in none.
    """

    __slots__ = ("_holds", "_networks")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self._networks = tuple(networks)
        self._holds = lru_cache(maxsize=MAX_KNOWN)(self._judge)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        return self._holds(address)

    def _judge(self, address: str) -> bool:
        if "%" in address:
            return False
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if not isinstance(found, IPv4Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found.version == network.version and found in network for network in self._networks)
