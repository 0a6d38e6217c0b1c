"""What an answer that is kept weighs: octets of memory, and the arithmetic of variants and spans that stores share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

from wormhole_tw.edge.caching.queues import GHOST

if TYPE_CHECKING:
    from wormhole_tw.http.caching.records import Stored

__all__ = ["MOST_VARIANTS", "Variant", "is_whole", "superseded", "weight"]

MOST_VARIANTS = 64
"""Answers under one key, variants and spans together; each request looks at all of them."""

OBJECT = 1200 + GHOST
"""Octets of one answer without its octets: the objects, the places in the index, and one name that is remembered.
``tests/edge/caching/test_bounds.py`` measures it."""

FIELD = 2 * 160
"""Octets of one field: a tuple, two bytes objects and their rounding; twice, since its reader keeps it as sent."""

ROUND = 48
"""Octets round one bytes object: its head and what the allocator rounds it up to."""


HOLES = 5
"""One part in so many of a body that is not small is added, for what the allocator cannot use between blocks of all
sizes: 11 to 24 % were measured when many answers had passed (``tests/edge/caching/test_bounds.py``)."""

NO_HOLES = 4096
"""Octets of a body up to which there are none to speak of."""


class Variant(Protocol):
    """What is judged here: see :class:`~wormhole_tw.edge.interfaces.IKept`."""

    @property
    def stored(self) -> Stored: ...

    @property
    def size(self) -> int: ...


V = TypeVar("V", bound=Variant)


def weight(key: bytes, stored: Stored, size: int) -> int:
    """Octets of memory for an answer, an honest estimate: rather too much than too little.

    :param size: octets of its body
    """
    octets = OBJECT + ROUND + len(key) + ROUND + size + (size // HOLES if size > NO_HOLES else 0)
    for name, value in stored.fields:
        octets += FIELD + 2 * (len(name) + len(value))
    for name, wanted in stored.vary:
        octets += FIELD + len(name) + len(wanted or b"")
    for tag in stored.tags:
        octets += ROUND + len(tag)
    return octets


def is_whole(stored: Stored, size: int) -> bool:
    """Whether this many octets are the whole representation."""
    return not stored.first and (stored.length is None or stored.length == size)


def superseded(stored: Stored, size: int, others: Iterable[V]) -> list[V] | None:
    """Which of those under the same key a new one takes the place of; None where it is not wanted beside them.

    A whole one takes the place of all of the same ``vary``.  A span: of those that lie in it, and of those that belong
    to another representation; and it is not wanted where the whole, or a span that it lies in, is there already.
    """
    same = [other for other in others if other.stored.vary == stored.vary]
    if is_whole(stored, size):
        return same
    gone: list[V] = []
    for other in same:
        if not _alike(stored, other.stored):
            gone.append(other)
        elif other.stored.first <= stored.first and stored.first + size <= other.stored.first + other.size:
            if (other.stored.first, other.size) != (stored.first, size):
                return None
            gone.append(other)
        elif stored.first <= other.stored.first and other.stored.first + other.size <= stored.first + size:
            gone.append(other)
    return gone


def _alike(one: Stored, other: Stored) -> bool:
    """Whether both are spans of the same representation, for all we know."""
    return one.length == other.length and one.etag == other.etag
