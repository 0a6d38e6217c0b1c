"""What every balancer does: those that stand in the package, and one that comes as a plugin."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.edge.balancers.upstreams import Group, Request, upstreams
from wormhole_tw.control.balancing import Balance, Key, Policy
from wormhole_tw.control.model import Backend
from wormhole_tw.edge.balancers import balancer, check_balancers, names
from wormhole_tw.edge.interfaces import IBalancer
from wormhole_tw.errors import ConfigError, MisuseError

NOW = 1000.0


def made(name: str, seed: int = 1) -> IBalancer:
    return balancer(Balance(method=name), Random(seed))


def asking(number: int) -> Request:
    """One of many visitors."""
    return Request(address=f"192.0.2.{number % 250}:{number}")


@pytest.mark.parametrize("name", names())
class TestEvery:
    def test_is_a_balancer(self, name: str) -> None:
        assert IBalancer.providedBy(made(name))

    def test_picks_the_only_one(self, name: str) -> None:
        only = upstreams(1000)
        assert made(name).pick(only, asking(1), NOW) is only[0]

    @pytest.mark.parametrize("count", [2, 3, 17])
    def test_picks_a_candidate_and_in_time_each_of_them(self, name: str, count: int) -> None:
        candidates = upstreams(*[0] * count)
        pick = made(name).pick
        seen = Counter(pick(candidates, asking(number), NOW).key for number in range(count * 200))
        assert set(seen) == set(range(count))
        assert min(seen.values()) > 80

    def test_the_same_chance_gives_the_same_choices(self, name: str) -> None:
        candidates = upstreams(1, 2, 3, 4, 5)
        one, other = made(name, 9), made(name, 9)
        for number in range(50):
            assert one.pick(candidates, asking(number), NOW) is other.pick(candidates, asking(number), NOW)

    def test_takes_a_tuple_and_changes_nothing(self, name: str) -> None:
        candidates = upstreams(3, 1)
        made(name).pick(candidates, asking(1), NOW)
        assert [candidate.load for candidate in candidates] == [3, 1]

    def test_serves_who_tells_nothing_of_himself(self, name: str) -> None:
        candidates = upstreams(0, 0)
        assert made(name).pick(candidates, None, NOW) in candidates
        assert made(name).pick(candidates, Request(head=False), NOW) in candidates

    def test_follows_candidates_that_come_and_go(self, name: str) -> None:
        many = upstreams(*[0] * 5)
        pick = made(name).pick
        for candidates in (many, many[:2], many[1:], (many[4],), many):
            seen = {pick(candidates, asking(number), NOW).key for number in range(300)}
            assert seen == {upstream.key for upstream in candidates}

    def test_weights_are_shares(self, name: str) -> None:
        candidates = upstreams(0, 0, weights=(3.0, 1.0))
        pick = made(name).pick
        seen = Counter(pick(candidates, asking(number), NOW).key for number in range(4000))
        if name == "least_busy":  # nobody has work, and the stronger one would have least of it
            assert set(seen) == {0}
        else:
            assert 2.0 < seen[0] / seen[1] < 4.5

    def test_one_that_is_new_is_given_little_at_first(self, name: str) -> None:
        candidates = upstreams(0, 0, group=Group(slow_start=10.0), now=NOW)
        candidates[0].standing.grown_at = NOW  # it has been here for long
        pick = made(name).pick
        seen = Counter(pick(candidates, asking(number), NOW + 1.0).key for number in range(1000))
        if name != "hash":  # whose keys have their places
            assert seen[1] < 200


def test_one_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(MisuseError, match="no balancer is called dreams; there are hash, least_busy, p2c"):
        made("dreams")


def test_the_configuration_names_the_key_of_one_that_is_not_there() -> None:
    policy = Policy(balance=Balance(method="dreams", where="$.backends[3].balance"))
    with pytest.raises(ConfigError, match=r"edge.toml: \$.backends\[3\].balance.method: no balancer is called dreams"):
        check_balancers([Backend("app", policy=policy), Backend("docs")], "edge.toml")


class TestPowerOfTwoChoices:
    def test_spreads_work_evenly(self) -> None:
        candidates = upstreams(*[0] * 10)
        pick = made("p2c", 3).pick
        for number in range(10_000):
            pick(candidates, asking(number), NOW).load += 1
        loads = [candidate.load for candidate in candidates]
        # by chance alone the spread would be about ±100
        assert max(loads) - min(loads) <= 6

    def test_of_two_the_busier_one_gets_nothing(self) -> None:
        candidates = upstreams(100, 0)
        pick = made("p2c", 3).pick
        assert {pick(candidates, None, NOW).key for _ in range(100)} == {1}

    def test_the_slower_one_gets_less(self) -> None:
        candidates = upstreams(0, 0, latencies=(0.5, 0.01), now=NOW)
        pick = made("p2c", 3).pick
        assert {pick(candidates, None, NOW).key for _ in range(100)} == {1}
        candidates[1].load = 200
        assert {pick(candidates, None, NOW).key for _ in range(100)} == {0}

    def test_one_that_is_new_does_not_attract_everything(self) -> None:
        """It has nothing to do, and begins with the mean of the others' latency."""
        given = {}
        for name in ("p2c", "least_busy"):
            candidates = upstreams(10, 10, 10, 10, 10, 0, latencies=(0.1,) * 6, now=NOW)
            pick, new = made(name, 4).pick, candidates[5]
            for _ in range(10):
                pick(candidates, None, NOW).load += 1
            given[name] = new.load
        assert given["least_busy"] == 10
        assert given["p2c"] <= 6


class TestRoundRobin:
    def test_takes_each_in_turn(self) -> None:
        candidates = upstreams(9, 0, 5)
        pick = made("round_robin").pick
        seen = [pick(candidates, None, NOW).key for _ in range(9)]
        assert seen[:3] == seen[3:6] == seen[6:]
        assert sorted(seen[:3]) == [0, 1, 2]

    def test_mixes_weights_evenly(self) -> None:
        candidates = upstreams(0, 0, 0, weights=(5.0, 1.0, 1.0))
        pick = made("round_robin").pick
        assert [pick(candidates, None, NOW).key for _ in range(7)] == [0, 0, 1, 0, 2, 0, 0]


class TestLeastBusy:
    def test_takes_the_least_busy_for_its_weight(self) -> None:
        candidates = upstreams(5, 3, 4)
        assert {made("least_busy", n).pick(candidates, None, NOW).key for n in range(30)} == {1}
        candidates = upstreams(5, 3, 4, weights=(9.0, 1.0, 1.0))
        assert {made("least_busy", n).pick(candidates, None, NOW).key for n in range(30)} == {0}


class TestHash:
    def test_a_key_has_its_place(self) -> None:
        candidates = upstreams(0, 0, 0, 0)
        one, other = made("hash", 1), made("hash", 2)
        for number in range(100):
            place = one.pick(candidates, asking(number), NOW)
            assert other.pick(candidates[::-1], asking(number), NOW) is place

    def test_of_those_that_stay_few_keys_move(self) -> None:
        candidates = upstreams(0, 0, 0, 0)
        balancing = made("hash")
        before = [balancing.pick(candidates, asking(number), NOW) for number in range(400)]
        after = [balancing.pick(candidates[:3], asking(number), NOW) for number in range(400)]
        assert all(a is b for a, b in zip(before, after, strict=True) if b is not candidates[3] and a in candidates[:3])
        assert [a for a, b in zip(before, after, strict=True) if a is not b] == [candidates[3]] * before.count(
            candidates[3]
        )

    def test_one_that_is_much_fuller_hands_on(self) -> None:
        candidates = upstreams(0, 0, 0)
        balancing = made("hash")
        place = balancing.pick(candidates, asking(7), NOW)
        place.load = 10
        other = balancing.pick(candidates, asking(7), NOW)
        assert other is not place
        place.load = 0
        assert balancing.pick(candidates, asking(7), NOW) is place

    @pytest.mark.parametrize(
        ("key", "same", "otherwise"),
        [
            (Key("path"), {"target": b"/a?b"}, {"target": b"/a/b?b"}),
            (Key("header", b"x-user"), {"fields": [(b"x-user", b"ann")]}, {"fields": [(b"x-user", b"bob")]}),
            (Key("cookie", b"u"), {"fields": [(b"cookie", b'a=1; u="x"')]}, {"fields": [(b"cookie", b"u=y")]}),
            (Key("address"), {"address": "192.0.2.1"}, {"address": "192.0.2.2"}),
        ],
    )
    def test_goes_by_what_it_is_told(self, key: Key, same: dict[str, object], otherwise: dict[str, object]) -> None:
        candidates = upstreams(*[0] * 50)
        balancing = balancer(Balance(method="hash", key=key), Random(1))
        places = {balancing.pick(candidates, Request(**same), NOW).key for _ in range(5)}  # type: ignore[arg-type]
        others = {balancing.pick(candidates, Request(**otherwise), NOW).key for _ in range(5)}  # type: ignore[arg-type]
        assert len(places) == len(others) == 1
        assert places != others


class TestSticky:
    def test_the_cookie_leads_back(self) -> None:
        candidates = upstreams(0, 0, 0)
        request = Request()
        place = made("sticky", 5).pick(candidates, request, NOW)
        assert request.cookie is not None
        assert request.cookie.endswith(b"; Path=/; HttpOnly; SameSite=Lax; Secure")
        pair = request.cookie.partition(b";")[0]
        assert pair.startswith(b"wormhole_agent=")
        for seed in range(20):
            again = Request(fields=[(b"cookie", b"a=b; " + pair)])
            assert made("sticky", seed).pick(candidates, again, NOW) is place
            assert again.cookie is None

    def test_another_one_takes_over_where_it_is_gone(self) -> None:
        candidates = upstreams(0, 0, 0)
        request = Request()
        place = made("sticky").pick(candidates, request, NOW)
        assert request.cookie is not None
        again = Request(fields=[(b"cookie", request.cookie.partition(b";")[0])])
        rest = tuple(upstream for upstream in candidates if upstream is not place)
        assert made("sticky").pick(rest, again, NOW) in rest
        assert again.cookie is not None
        assert again.cookie != request.cookie

    def test_a_made_up_cookie_leads_nowhere(self) -> None:
        candidates = upstreams(0, 0)
        request = Request(fields=[(b"cookie", b"wormhole_agent=../../etc")])
        assert made("sticky").pick(candidates, request, NOW) in candidates
        assert request.cookie is not None

    def test_its_name_and_time_are_the_configurations(self) -> None:
        balancing = balancer(Balance(method="sticky", cookie="place", cookie_time=60), Random(1))
        request = Request(secure=False)
        balancing.pick(upstreams(0, 0), request, NOW)
        assert request.cookie is not None
        assert request.cookie.startswith(b"place=")
        assert request.cookie.endswith(b"; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")
