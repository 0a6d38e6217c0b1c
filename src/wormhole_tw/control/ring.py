"""Consistent hashing with bounded loads: a key has the same place for as long as that place is there and has room.

Each place owns points on a ring, as many as its weight wants; a key belongs to the next point behind its own.  Where a
place is fuller than its share allows, the key goes on to the next one (Mirrokni, Thorup, Zadimoghaddam, "Consistent
Hashing with Bounded Loads").  The same keys lie at the same places at every edge that knows the same identities.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from hashlib import blake2b

__all__ = ["POINTS", "Ring", "point_of"]

POINTS = 100
"""Points of a place of weight 1: shares differ by a tenth or so, and a thousand places take a tenth of a second."""

MOST_POINTS = 1000
"""Points of one place at most: weights beyond ten times the usual one are served by those."""


def point_of(data: bytes) -> int:
    """Where a key lies: 64 bits, the same everywhere and in every version."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


class Ring:
    """The places, by identity.

    :param weights: identity → weight, above 0
    """

    __slots__ = ("_owners", "_points")

    def __init__(self, weights: Mapping[bytes, float]) -> None:
        found: list[tuple[int, bytes]] = []
        for identity, weight in weights.items():
            count = min(max(1, round(weight * POINTS)), MOST_POINTS)
            found += [(point_of(b"%d:%s" % (number, identity)), identity) for number in range(count)]
        found.sort()
        self._points = [point for point, _ in found]
        self._owners = [identity for _, identity in found]

    def walk(self, key: bytes) -> Iterator[bytes]:
        """The places of a key, the one it belongs to first, each once."""
        owners = self._owners
        start = bisect_left(self._points, point_of(key))
        seen: set[bytes] = set()
        for index in range(start, start + len(owners)):
            owner = owners[index % len(owners)]
            if owner not in seen:
                seen.add(owner)
                yield owner
