"""What of a request tells it from others, for balancers that keep like requests together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.control.balancing import Key
    from wormhole_tw.edge.seeker import Seeker

__all__ = ["cookie_of", "key_of"]


def key_of(key: Key, seeker: Seeker) -> bytes | None:
    """The value of a key; None, or empty, where the request has none."""
    if key.kind == "address":
        return seeker.facts.address.encode("latin-1", "replace")
    head = seeker.head
    if head is None:
        return None  # a connection that is passed through has nothing but its address
    if key.kind == "path":
        return head.target.partition(b"?")[0]
    if key.kind == "cookie":
        return cookie_of(seeker, key.name)
    length = len(key.name)
    return next((value for name, value in head.fields if len(name) == length and name.lower() == key.name), None)


def cookie_of(seeker: Seeker, name: bytes) -> bytes | None:
    """The value of the first cookie of that name (RFC 6265 §5.4); None where there is none."""
    head = seeker.head
    if head is None:
        return None
    for field, value in head.fields:
        if len(field) == len(b"cookie") and field.lower() == b"cookie":
            for pair in value.split(b";"):
                found, equals, text = pair.strip(b" \t").partition(b"=")
                if equals and found == name:
                    return text.strip(b'"')
    return None
