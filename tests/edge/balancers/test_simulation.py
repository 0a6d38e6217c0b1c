"""How evenly work is spread, and how long requests take, in simulation: ten upstreams, requests that come by chance.

Each upstream is a queue: it serves one request after the other.  ``make test-full`` simulates a million requests for
each line of the table; ``pytest -s`` shows it.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random
from statistics import fmean, pstdev
from typing import Any, NamedTuple

import pytest

from tests._support import sized
from tests.edge.balancers.upstreams import Upstream, upstreams
from wormhole_tw.control.balancing import Balance
from wormhole_tw.edge.balancers import balancer

COUNT = sized(12_000, 1_000_000)

SERVICE = 0.01
"""Seconds of work in a request, on average."""

UPSTREAMS = 10

USE = 0.8
"""Of what all of them could do."""


class Chance:
    """Sends each request anywhere: what the others are compared with."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def pick(self, candidates: Any, seeker: None, now: float) -> Any:
        return candidates[int(self._random.random() * len(candidates))]


class Seen(NamedTuple):
    """What came of it.

    :ivar spread: of the requests in flight, at moments: the deviation between upstreams
    :ivar worst: the most that ever waited at one
    :ivar mean: seconds of a request
    :ivar late: seconds in which 99 of 100 were answered
    :ivar shares: of the requests, for each upstream
    """

    spread: float
    worst: int
    mean: float
    late: float
    shares: list[float]


def simulate(
    method: str,
    *,
    speeds: tuple[float, ...] = (1.0,) * UPSTREAMS,
    stale: float = 0.0,
    failing: int | None = None,
    use: float = USE,
    count: int = COUNT,
) -> Seen:
    """Let requests come.

    :param speeds: how fast each upstream is
    :param stale: seconds for which a balancer sees the loads of the last look; it learns of no answer itself then, as
        where others give work to the same upstreams
    :param failing: one that fails each request at once
    """
    random = Random(7)
    balancing: Any = Chance(random) if method == "chance" else balancer(Balance(method=method), random)
    candidates = upstreams(*[0] * len(speeds))
    free = [0.0] * len(speeds)
    queued = [0] * len(speeds)
    ends: list[tuple[float, int, float]] = []
    rate = use * sum(speeds) / SERVICE
    now, looked, took, given, spreads, worst = 0.0, 0.0, [], [0] * len(speeds), [], 0
    exponential = random.expovariate
    for number in range(count):
        now += exponential(rate)
        while ends and ends[0][0] <= now:
            end, index, began = heappop(ends)
            queued[index] -= 1
            took.append(end - began)
            _ended(candidates[index], end, began, failed=index == failing, stale=bool(stale))
        if stale and now - looked >= stale:
            looked = now
            for index, upstream in enumerate(candidates):
                upstream.load = queued[index]
        upstream = balancing.pick(candidates, None, now)
        index = upstream.key
        given[index] += 1
        queued[index] += 1
        worst = max(worst, queued[index])
        upstream.standing.begin(now, timed=True)
        if not stale:
            upstream.load += 1
        work = 0.0001 if index == failing else exponential(1.0) * SERVICE / speeds[index]
        free[index] = max(now, free[index]) + work
        heappush(ends, (free[index], index, now))
        if number % 50 == 0:
            spreads.append(pstdev(queued))
    took.sort()
    return Seen(fmean(spreads), worst, fmean(took), took[len(took) * 99 // 100], [n / count for n in given])


def _ended(upstream: Upstream, now: float, began: float, *, failed: bool, stale: bool) -> None:
    upstream.standing.answered(now, now - began, failed)
    upstream.standing.end()
    if not stale:
        upstream.load -= 1


METHODS = ("chance", "round_robin", "least_busy", "p2c")

UNEVEN = (0.25, 0.25, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0, 2.5)
"""A factor of ten between the slowest and the fastest; as much as the even ten together."""


def table(title: str, seen: dict[str, Seen]) -> None:
    print(f"\n{title} ({COUNT:,} requests each)")
    print(f"{'':14}{'spread':>8}{'worst':>8}{'mean ms':>10}{'99 % ms':>10}")
    for method, of in seen.items():
        print(f"{method:14}{of.spread:8.2f}{of.worst:8d}{of.mean * 1000:10.1f}{of.late * 1000:10.1f}")


@pytest.mark.deadline(600)
def test_even_upstreams() -> None:
    seen = {method: simulate(method) for method in METHODS}
    table("even", seen)
    assert seen["p2c"].spread < seen["chance"].spread / 2
    assert seen["p2c"].spread < seen["round_robin"].spread / 1.5
    assert seen["p2c"].late < seen["round_robin"].late < seen["chance"].late
    assert seen["p2c"].worst < seen["chance"].worst / 2


@pytest.mark.deadline(600)
def test_uneven_upstreams() -> None:
    seen = {method: simulate(method, speeds=UNEVEN, use=0.7) for method in METHODS}
    table("uneven, a factor of ten", seen)
    # those that give everybody the same drown the slow ones
    assert seen["p2c"].late < seen["chance"].late / 5
    assert seen["p2c"].late < seen["round_robin"].late / 5
    assert seen["p2c"].mean < 5 * SERVICE
    shares = seen["p2c"].shares
    assert min(shares[8:]) > 3 * max(shares[:2])


@pytest.mark.deadline(600)
def test_stale_loads() -> None:
    """What is seen is a tenth of a second old, ten times as long as a request takes."""
    seen = {method: simulate(method, stale=0.1, use=0.6) for method in METHODS}
    table("loads a tenth of a second old", seen)
    # who runs to the least busy one runs there with everybody else
    assert seen["p2c"].late < seen["least_busy"].late / 1.5
    assert seen["p2c"].worst < seen["least_busy"].worst / 1.5


@pytest.mark.deadline(600)
def test_one_that_fails_at_once_attracts_nothing() -> None:
    seen = {method: simulate(method, failing=3, use=0.6) for method in METHODS}
    table("one fails at once", seen)
    print("share of the failing one:", {method: round(of.shares[3], 3) for method, of in seen.items()})
    assert seen["least_busy"].shares[3] > 0.2  # a fast failure leaves it free for the next
    assert seen["p2c"].shares[3] < 0.02
