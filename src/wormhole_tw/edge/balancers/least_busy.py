"""Least busy: the candidate with the least work in flight for its weight; of equals, one by chance."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.edge.interfaces import IBalancer, IUpstream

if TYPE_CHECKING:
    from wormhole_tw.control.balancing import Balance
    from wormhole_tw.edge.seeker import Seeker

__all__ = ["LeastBusy", "make"]


@implementer(IBalancer)
class LeastBusy:
    """See the module."""

    __slots__ = ("_random",)

    always = False

    def __init__(self, random: Random) -> None:
        self._random = random.random

    def pick(self, candidates: Sequence[IUpstream], seeker: Seeker | None, now: float) -> IUpstream:
        count = len(candidates)
        start = int(self._random() * count)
        best, least = candidates[start], float("inf")
        for index in range(start, start + count):
            upstream = candidates[index % count]
            standing = upstream.standing
            assert standing is not None
            work = (upstream.load + 1) / (standing.weight * standing.grown(now))
            if work < least:
                best, least = upstream, work
        return best


def make(settings: Balance, random: Random) -> IBalancer:
    """See :mod:`wormhole_tw.edge.balancers`."""
    return LeastBusy(random)
