"""Who the visitor of a request is where a trusted proxy passes it on (X-Forwarded-*, RFC 7239).

Each proxy adds to the right what it saw itself, so the list is read from there: what the nearest one wrote is believed
because it is trusted, what the one before wrote because its address is, and so on.  The first address that is nobody's
of ours is the visitor, and nothing to the left of it is looked at: that was the visitor's own to write.

Of the two kinds of field one is read, which the proxies are known to write; of the other kind everything is dropped,
for a proxy that does not know a field passes on what the visitor made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from wormhole_tw.http.events import Fields

__all__ = ["MAX_HOPS", "NOTHING", "Told", "by_forwarded", "by_x_forwarded"]

MAX_HOPS = 32
"""Trusted proxies in a row that are followed; the address beyond counts as the visitor's."""

MAX_ELEMENT = 1024
"""Octets of one element of ``Forwarded``: an address, a host name and two words have some 350."""

Trusts = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Told:
    """What trusted proxies tell of a visitor.

    :ivar address: its IP address, in one spelling; empty where nothing usable is told
    :ivar port: its port, or 0
    :ivar hops: addresses of the trusted proxies between it and the peer, nearest to the visitor first
    :ivar scheme: what the visitor spoke, ``http`` or ``https``; None where that is not told
    :ivar host: the host (and port) that it asked for, None where that is not told; it routes nothing
    :ivar public_port: the port that it reached, or 0
    """

    address: str = ""
    port: int = 0
    hops: tuple[str, ...] = ()
    scheme: str | None = None
    host: bytes | None = None
    public_port: int = 0


NOTHING = Told()
"""A proxy that says nothing."""

_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
"""Traefik and others call a WebSocket's by its own name."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""What goes on as a host name: nothing that would need quotes, or could be read as a list."""

_PORT = re.compile(rb"[1-9][0-9]{0,4}")


def by_x_forwarded(fields: Fields, trusts: Trusts) -> Told:
    """Read X-Forwarded-For, -Proto, -Host and -Port.

    An entry of X-Forwarded-For that is no address (``unknown``, an obfuscated name) ends the search: the address of the
    proxy that wrote it stands for the visitor.  The other three are single values: what comes twice, as a list or not
    in its form counts as not told.

    :param trusts: whether an address is a proxy's that is believed
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        if len(name) >= 15 and name[:12].lower() == b"x-forwarded-":
            values.setdefault(name.lower(), []).append(value)
    if not values:
        return NOTHING
    chain = b",".join(values.get(b"x-forwarded-for", ()))
    entries = (_node(entry.strip(b" \t")) for entry in _from_the_right(chain)) if chain else ()
    address, port, hops = _visitor(entries, trusts)
    host = _single(values, b"x-forwarded-host")
    public = _single(values, b"x-forwarded-port")
    return Told(
        address,
        port,
        hops,
        _SCHEMES.get(_single(values, b"x-forwarded-proto").lower()),
        host if _HOST.fullmatch(host) else None,
        _port(public),
    )


def _single(values: dict[bytes, list[bytes]], name: bytes) -> bytes:
    found = values.get(name, ())
    return found[0] if len(found) == 1 else b""


def _from_the_right(chain: bytes) -> Iterator[bytes]:
    end = len(chain)
    while True:  # until nobody asks for more
        comma = chain.rfind(b",", 0, end)
        yield chain[comma + 1 : end]
        if comma < 0:
            return
        end = comma


def by_forwarded(fields: Fields, trusts: Trusts) -> Told:
    """Read Forwarded (RFC 7239 §4).

    ``host`` and ``proto`` are those of the visitor's own element.  One that is malformed, or has no address in ``for``
    (``unknown``, ``_hidden``), ends the search, as above.
    """
    chain = b",".join(value for name, value in fields if len(name) == 9 and name.lower() == b"forwarded")
    if not chain:
        return NOTHING
    elements: list[dict[bytes, bytes]] = []

    def entries() -> Iterator[tuple[str, int] | None]:
        for element in _elements(chain):
            elements.append(element)
            yield _node(element.get(b"for", b""))

    address, port, hops = _visitor(entries(), trusts)
    if not address:
        return NOTHING
    own = elements[len(hops)]
    host = own.get(b"host", b"")
    scheme = _SCHEMES.get(own.get(b"proto", b"").lower())
    return Told(address, port, hops, scheme, host if _HOST.fullmatch(host) else None)


def _visitor(entries: Iterable[tuple[str, int] | None], trusts: Trusts) -> tuple[str, int, tuple[str, ...]]:
    """The visitor's address and port, and the trusted ones on the way: the entries come nearest first."""
    known: list[tuple[str, int]] = []
    for entry in entries:
        if entry is None:
            break
        known.append(entry)
        if len(known) > MAX_HOPS or not trusts(entry[0]):
            break
    if not known:
        return "", 0, ()
    address, port = known.pop()
    return address, port, tuple(hop for hop, _ in reversed(known))


_WITH_PORT = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?")
_BARE_IPV6 = re.compile(rb"[0-9A-Fa-f:.]+")


def _node(text: bytes) -> tuple[str, int] | None:
    """An IP address, in brackets or not, with a port or not; None for all else, a zone included."""
    match = _WITH_PORT.fullmatch(text)
    port = 0
    if match is not None:
        literal = match[1] or match[2]
        port = _port(match[3] or b"")
        if match[1] is not None and b":" not in literal:
            return None
    elif _BARE_IPV6.fullmatch(text):
        literal = text
    else:
        return None
    try:
        address = ip_address(literal.decode("ascii"))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address), port


def _port(text: bytes) -> int:
    return int(text) if _PORT.fullmatch(text) and int(text) < 65536 else 0


_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_PAIR = re.compile(rb"(%s)=(%s|%s)" % (_TOKEN, _TOKEN, _QUOTED))
_ELEMENT = re.compile(rb"[ \t]*((?:%s)(?:;(?:%s))*)[ \t]*" % (_PAIR.pattern, _PAIR.pattern))
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def _elements(chain: bytes) -> Iterator[dict[bytes, bytes]]:
    """Elements from the right, up to the first that is malformed.

    A comma may stand in a quoted value, so that each element is the shortest tail that is one: what a visitor wrote
    before it, an opening quote for instance, cannot reach into what a proxy added.
    """
    end = len(chain)
    while True:  # until nobody asks for more
        start = end
        match = None
        while match is None:
            if start < 0:
                return
            start = chain.rfind(b",", max(end - MAX_ELEMENT, 0), start)
            if start < 0 and end > MAX_ELEMENT:
                return
            match = _ELEMENT.fullmatch(chain, start + 1, end)
        pairs = [(name.lower(), value) for name, value in _PAIR.findall(match[1])]
        element = {name: _ESCAPED.sub(rb"\1", value[1:-1]) if value[:1] == b'"' else value for name, value in pairs}
        if len(element) != len(pairs):  # §4: a parameter stands there once
            return
        yield element
        if start < 0:
            return
        end = start
