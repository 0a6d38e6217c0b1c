"""Addresses that are nobody's on the web: this machine's, a private network's, a cloud's metadata service.

A name that somebody else may set in DNS could lead an edge to any of them, so that a stranger's request reaches what
only this machine, or this network, should (server-side request forgery).  The ranges are those of IANA's registries of
special-purpose addresses (RFC 6890 and what came after), and an IPv6 address that carries an IPv4 one is judged by that
one, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["METADATA", "Network", "special_kind", "special_name"]

Network = IPv4Network | IPv6Network

METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # most clouds
            "169.254.170.2",  # AWS, tasks of ECS
            "169.254.170.23",  # AWS, pods of EKS
            "168.63.129.16",  # Azure's host agent, an address like any other
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",  # AWS
            "fd00:ec2::23",
            "fd20:ce::254",  # Google
        ),
    )
)
"""What gives keys to whoever asks from the right machine.  A network that holds one of them does not allow it: it has
to be named itself."""

_TEXTS: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "reserved"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "reserved"),
    ("198.51.100.0/24", "reserved"),
    ("203.0.113.0/24", "reserved"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
    ("2001:db8::/32", "reserved"),
    ("3fff::/20", "reserved"),
)
_RANGES = tuple((ip_network(text), kind) for text, kind in _TEXTS)

_GLOBAL = IPv6Network("2000::/3")
"""All that IANA has given out of IPv6; the rest is for special purposes or for nobody."""

_PROTOCOLS = IPv6Network("2001::/23")
"""IETF protocol assignments: Teredo is in there, and nothing that serves web pages."""

_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_TEREDO = IPv6Network("2001::/32")
_6TO4 = IPv6Network("2002::/16")


def special_kind(address: str, allowed: Sequence[Network] = ()) -> str | None:
    """What kind of address this is that an origin on the web never has; None where one may be reached there.

    :param address: IPv4 or IPv6, as text; a zone (``%eth0``) says nothing
    :param allowed: networks that are allowed all the same; for an IPv6 address that carries an IPv4 one they may name
        either
    :raises ValueError: it is no address
    """
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return _kind(found, (found,), allowed)
    carried, by = _carried(found)
    for inner in carried:
        kind = _kind(inner, (inner, found), allowed)
        if kind is not None:
            return f"{kind} ({inner}, {by})"
    return None if carried else _kind(found, (found,), allowed)


def special_name(host: str) -> bool:
    """Whether a name is this machine's whatever DNS says (RFC 6761 section 6.3)."""
    return host == "localhost" or host.endswith(".localhost")


def _kind(
    judged: IPv4Address | IPv6Address, spellings: Iterable[IPv4Address | IPv6Address], allowed: Sequence[Network]
) -> str | None:
    if judged in METADATA:
        named = any(network.num_addresses == 1 and spelt in network for network in allowed for spelt in spellings)
        return None if named else "metadata"
    kind = next((kind for network, kind in _RANGES if judged in network), None)
    if kind is None and isinstance(judged, IPv6Address) and (judged not in _GLOBAL or judged in _PROTOCOLS):
        kind = "reserved"
    if kind is None or any(spelt in network for network in allowed for spelt in spellings):
        return None
    return kind


def _carried(address: IPv6Address) -> tuple[tuple[IPv4Address, ...], str]:
    """The IPv4 addresses that an IPv6 one leads to, and by what."""
    number = int(address)
    last = IPv4Address(number & 0xFFFFFFFF)
    if address in _MAPPED or address in _TRANSLATED:
        return (last,), "mapped"
    if address in _NAT64:
        return (last,), "NAT64"
    if address in _6TO4:
        return (IPv4Address(number >> 80 & 0xFFFFFFFF),), "6to4"
    if address in _TEREDO:
        # its server, and its client, whose bits are turned round (RFC 4380 section 4)
        return (IPv4Address(number >> 64 & 0xFFFFFFFF), IPv4Address(number & 0xFFFFFFFF ^ 0xFFFFFFFF)), "Teredo"
    return (), ""
