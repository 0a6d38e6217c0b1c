"""Power of two choices: two candidates by chance, of these the one where a request costs less.

Nearly as even as asking all of them, at the price of two, and without the herd that "the least loaded of all" makes
of several edges that see the same numbers (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
What a request costs, :meth:`~wormhole_tw.control.standing.Standing.cost` knows: work in flight, times how slow its
answers are, times how often they are failures.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.edge.interfaces import IBalancer, IUpstream

if TYPE_CHECKING:
    from wormhole_tw.control.balancing import Balance
    from wormhole_tw.edge.seeker import Seeker

__all__ = ["PowerOfTwoChoices", "make"]


@implementer(IBalancer)
class PowerOfTwoChoices:
    """See the module."""

    __slots__ = ("_chances", "_known", "_random")

    always = False

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._known: Sequence[IUpstream] = ()
        self._chances: list[float] | None = None  # weights, added up; None where they are equal

    def pick(self, candidates: Sequence[IUpstream], seeker: Seeker | None, now: float) -> IUpstream:
        if candidates is not self._known:
            self._look_at(candidates)
        random, chances = self._random, self._chances
        if chances is None:
            count = len(candidates)
            # int(random() * n) is a third of randrange's price, and its bias at these counts is far below notice
            first = int(random() * count)
            second = int(random() * (count - 1)) if count > 1 else 0
            if second >= first and count > 1:
                second += 1
        else:
            # each with the chance of its weight, perhaps one twice: while nobody has work, that is their share
            first = bisect(chances, random() * chances[-1])
            second = bisect(chances, random() * chances[-1])
        one, other = candidates[first], candidates[second]
        a, b = one.standing, other.standing
        assert a is not None
        assert b is not None
        if b.cost(now, other.load) < a.cost(now, one.load):
            one, other, a = other, one, b
        if now < a.grown_at and random() >= a.grown(now):
            return other  # it is new, and this one is not yet for it
        return one

    def _look_at(self, candidates: Sequence[IUpstream]) -> None:
        weights = [upstream.standing.weight for upstream in candidates if upstream.standing is not None]
        self._known = candidates
        self._chances = None if len(set(weights)) == 1 else list(accumulate(weights))


def make(settings: Balance, random: Random) -> IBalancer:
    """See :mod:`wormhole_tw.edge.balancers`."""
    return PowerOfTwoChoices(random)
