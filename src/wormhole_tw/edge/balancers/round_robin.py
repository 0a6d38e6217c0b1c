"""Round robin: each in turn; with weights, as evenly mixed as it goes (the smooth way of nginx).

Each candidate gains its weight every time; the one that has most is taken and pays all that was gained.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from random import Random
from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.edge.interfaces import IBalancer, IUpstream

if TYPE_CHECKING:
    from wormhole_tw.control.balancing import Balance
    from wormhole_tw.edge.seeker import Seeker

__all__ = ["RoundRobin", "make"]


@implementer(IBalancer)
class RoundRobin:
    """See the module."""

    __slots__ = ("_even", "_gained", "_grown_at", "_known", "_next")

    always = False

    def __init__(self, random: Random) -> None:
        # several edges that start at once do not all begin with the same one
        self._next = int(random.random() * (1 << 30))
        self._known: Sequence[IUpstream] = ()
        self._even = True
        self._grown_at = 0.0
        self._gained: dict[Hashable, float] = {}

    def pick(self, candidates: Sequence[IUpstream], seeker: Seeker | None, now: float) -> IUpstream:
        if candidates is not self._known:
            self._look_at(candidates)
        if self._even and now >= self._grown_at:
            self._next += 1
            return candidates[self._next % len(candidates)]
        gained, total, best = self._gained, 0.0, candidates[0]
        for upstream in candidates:
            standing = upstream.standing
            assert standing is not None
            weight = standing.weight * standing.grown(now)
            total += weight
            gained[upstream.key] = gained.get(upstream.key, 0.0) + weight
            if gained[upstream.key] > gained[best.key]:
                best = upstream
        gained[best.key] -= total
        return best

    def _look_at(self, candidates: Sequence[IUpstream]) -> None:
        standings = [upstream.standing for upstream in candidates if upstream.standing is not None]
        self._known = candidates
        self._even = len({standing.weight for standing in standings}) == 1
        self._grown_at = max(standing.grown_at for standing in standings)
        self._gained = {u.key: self._gained[u.key] for u in candidates if u.key in self._gained}


def make(settings: Balance, random: Random) -> IBalancer:
    """See :mod:`wormhole_tw.edge.balancers`."""
    return RoundRobin(random)
