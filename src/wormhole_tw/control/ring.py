"""Consistent hashing with bounded loads: a key has the same place for as long as that place is there and has room.

Each place owns points on a ring, as many as its weight wants; a key belongs to the next point behind its own.  Where a
place is fuller than its share allows, the key goes on to the next one (Mirrokni, Thorup, Zadimoghaddam, "Consistent
Hashing with Bounded Loads").  The same keys lie at the same places at every edge that knows the same identities.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b

__all__ = ["Ring", "point_of"]

POINTS = ((50, 100), (200, 40), (800, 16))
"""Up to so many places, so many points of a place of weight 1: shares of a few differ by a tenth, of many by a quarter,
which bounded loads even out; and a ring is made anew within milliseconds where a thousand agents come back one by one.
Where a step is crossed half of the keys move, not all of them, for the fewer points are among the more."""

FEWEST = 8
"""Points of each where there are still more places."""

MOST = 10
"""Times the usual number of points that one place has at most: weights beyond that are served by those."""


def point_of(data: bytes) -> int:
    """Where a key lies: 64 bits, the same everywhere and in every version."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


@lru_cache(maxsize=4096)
def _points(identity: bytes, count: int) -> tuple[int, ...]:
    """A place's points; kept, for a ring is made anew whenever another place comes or goes."""
    return tuple(point_of(b"%d:%s" % (number, identity)) for number in range(count))


class Ring:
    """The places, by identity.

    :param weights: identity → weight, above 0
    """

    __slots__ = ("_owners", "_points")

    def __init__(self, weights: Mapping[bytes, float]) -> None:
        usual = next((points for places, points in POINTS if len(weights) <= places), FEWEST)
        found: list[tuple[int, bytes]] = []
        for identity, weight in weights.items():
            count = min(max(1, round(weight * usual)), usual * MOST)
            found += [(point, identity) for point in _points(identity, count)]
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
