"""What every balancer does, and what power of two choices does besides."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, cast

import pytest

from wormhole_tw.edge.balancers import DEFAULT, balancer, names
from wormhole_tw.edge.interfaces import IBalancer
from wormhole_tw.errors import MisuseError


class Upstream:
    """One with a load."""

    def __init__(self, key: int, load: int = 0) -> None:
        self.key = key
        self.load = load


def upstreams(*loads: int) -> list[Any]:
    return [cast(Any, Upstream(key, load)) for key, load in enumerate(loads)]


@pytest.mark.parametrize("name", names())
class TestEvery:
    def test_is_a_balancer(self, name: str) -> None:
        assert IBalancer.providedBy(balancer(name, Random(1)))

    def test_picks_the_only_one(self, name: str) -> None:
        only = upstreams(1000)
        assert balancer(name, Random(1)).pick(only) is only[0]

    @pytest.mark.parametrize("count", [2, 3, 17])
    def test_picks_a_candidate_and_in_time_each_of_them(self, name: str, count: int) -> None:
        candidates = upstreams(*[0] * count)
        pick = balancer(name, Random(1)).pick
        seen = Counter(pick(candidates).key for _ in range(count * 200))
        assert set(seen) == set(range(count))
        assert min(seen.values()) > 80

    def test_the_same_chance_gives_the_same_choices(self, name: str) -> None:
        candidates = upstreams(1, 2, 3, 4, 5)
        one, other = balancer(name, Random(9)), balancer(name, Random(9))
        assert [one.pick(candidates).key for _ in range(50)] == [other.pick(candidates).key for _ in range(50)]

    def test_takes_a_tuple_and_changes_nothing(self, name: str) -> None:
        candidates = tuple(upstreams(3, 1))
        balancer(name, Random(1)).pick(candidates)
        assert [candidate.load for candidate in candidates] == [3, 1]


def test_two_choices_spread_the_work_evenly() -> None:
    candidates = upstreams(*[0] * 10)
    pick = balancer("p2c", Random(3)).pick
    for _ in range(10_000):
        pick(candidates).load += 1
    loads = [candidate.load for candidate in candidates]
    # by chance alone the spread would be about ±100
    assert max(loads) - min(loads) <= 6


def test_of_two_the_busier_one_gets_nothing() -> None:
    candidates = upstreams(100, 0)
    pick = balancer("p2c", Random(3)).pick
    assert {pick(candidates).key for _ in range(100)} == {1}


def test_the_default_is_there_and_others_are_not() -> None:
    assert DEFAULT in names()
    with pytest.raises(MisuseError, match="p2c"):
        balancer("round-robin-of-dreams", Random(1))
