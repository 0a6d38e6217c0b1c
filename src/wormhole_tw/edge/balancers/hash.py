"""Consistent hashing: requests with the same key go to the same candidate, unless that is much fuller than the others.

A request without a key (no such header or cookie) goes where power of two choices says.  See
:mod:`wormhole_tw.control.ring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from random import Random
from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.control.ring import Ring
from wormhole_tw.edge.balancers.p2c import PowerOfTwoChoices
from wormhole_tw.edge.interfaces import IBalancer, IUpstream
from wormhole_tw.edge.keys import key_of

if TYPE_CHECKING:
    from wormhole_tw.control.balancing import Balance
    from wormhole_tw.edge.seeker import Seeker

__all__ = ["ConsistentHash", "make"]


@implementer(IBalancer)
class ConsistentHash:
    """See the module."""

    __slots__ = ("_key", "_known", "_on_ring", "_otherwise", "_overload", "_places", "_ring", "_weights")

    always = False

    def __init__(self, settings: Balance, random: Random) -> None:
        self._key = settings.key
        self._overload = settings.overload
        self._otherwise = PowerOfTwoChoices(random)
        self._known: Sequence[IUpstream] = ()
        self._places: dict[bytes, tuple[IUpstream, float]] = {}
        self._weights = 1.0
        self._on_ring: dict[bytes, float] = {}
        self._ring = Ring({})

    def pick(self, candidates: Sequence[IUpstream], seeker: Seeker | None, now: float) -> IUpstream:
        key = None if seeker is None else key_of(self._key, seeker)
        if not key:
            return self._otherwise.pick(candidates, seeker, now)
        if candidates is not self._known:
            self._look_at(candidates)
        # its share of all that would be in flight with this one, and so much more
        each = self._overload * (sum(upstream.load for upstream in candidates) + 1) / self._weights
        for identity in self._ring.walk(key):
            place = self._places.get(identity)
            if place is not None and place[0].load < ceil(each * place[1]):
                return place[0]
        return self._otherwise.pick(candidates, seeker, now)

    def _look_at(self, candidates: Sequence[IUpstream]) -> None:
        weights = {u.identity: u.standing.weight for u in candidates if u.standing is not None}
        self._known = candidates
        self._places = {u.identity: (u, weights[u.identity]) for u in candidates}
        self._weights = sum(weights.values())
        # a ring on which some are absent for a moment (a try elsewhere, an ejection) need not be made anew
        if not weights.items() <= self._on_ring.items() or len(self._on_ring) > 2 * len(weights):
            self._on_ring = weights
            self._ring = Ring(weights)


def make(settings: Balance, random: Random) -> IBalancer:
    """See :mod:`wormhole_tw.edge.balancers`."""
    return ConsistentHash(settings, random)
