"""What is remembered of an upstream, and what follows from it."""

from __future__ import annotations

import math

import pytest

from wormhole_tw.control.balancing import Ejection
from wormhole_tw.control.standing import FLOOR, FORGET, MEMORY, Place, Standing


def served(standing: Standing, at: float, seconds: float, *, failed: bool = False) -> None:
    """A request comes, and is answered after so many seconds."""
    standing.begin(at, timed=True)
    standing.answered(at + seconds, seconds, failed)
    standing.end()


class TestLatency:
    def test_nothing_is_known_at_first(self) -> None:
        standing = Standing(now=0.0)
        assert standing.estimate(0.0) == 0.0
        assert standing.cost(0.0, 0) == FLOOR

    def test_the_first_answer_is_the_mean(self) -> None:
        standing = Standing(now=0.0)
        served(standing, 0.0, 0.2)
        assert standing.estimate(0.2) == pytest.approx(0.2)

    def test_one_that_became_slow_is_known_within_seconds(self) -> None:
        standing = Standing(now=0.0)
        for number in range(1000):
            served(standing, number / 100, 0.01)
        assert standing.estimate(10.0) == pytest.approx(0.01, rel=0.01)
        for number in range(200):
            served(standing, 10.0 + number / 100, 1.0)
        assert standing.estimate(12.0) > 0.3

    def test_one_slow_answer_among_fast_ones_does_not_count_for_much(self) -> None:
        standing = Standing(now=0.0)
        for number in range(1000):
            served(standing, number / 100, 0.01)
        standing.answered(10.0, 1.0, failed=False)
        assert standing.estimate(10.0) < 0.02

    def test_a_quick_failure_is_no_merit_and_a_slow_one_counts(self) -> None:
        standing = Standing(now=0.0)
        served(standing, 0.0, 0.5)
        served(standing, 20.0, 0.001, failed=True)
        assert standing.latency == 0.5
        served(standing, 40.0, 5.0, failed=True)
        assert standing.latency > 4.0

    def test_time_that_says_nothing_changes_nothing(self) -> None:
        standing = Standing(now=0.0, latency=0.3)
        standing.begin(0.0, timed=False)
        assert (standing.active, standing.waiting) == (1, 0)
        assert standing.estimate(9.0) < 0.3  # an upload takes as long as its visitor likes
        standing.answered(9.0, -1.0, failed=False)
        assert standing.latency == 0.3
        standing.begin(9.0, timed=False)
        standing.unanswered(timed=False)
        assert standing.waiting == 0

    def test_it_is_forgotten_slowly_where_nobody_asks(self) -> None:
        standing = Standing(now=0.0, latency=1.0)
        assert standing.estimate(FORGET) == pytest.approx(1 / math.e)
        assert standing.estimate(60.0) < 0.01

    def test_it_rises_while_somebody_waits_for_an_answer(self) -> None:
        standing = Standing(now=0.0, latency=0.01)
        standing.begin(0.0, timed=True)
        standing.begin(2.0, timed=True)
        assert standing.estimate(3.0) == 3.0
        assert standing.cost(3.0, 0) == pytest.approx(3.0 + FLOOR)
        standing.answered(3.0, 1.0, failed=False)
        assert standing.estimate(3.1) < 1.0

    def test_a_visitor_who_leaves_says_nothing(self) -> None:
        standing = Standing(now=0.0, latency=0.01)
        standing.begin(0.0, timed=True)
        standing.unanswered(timed=True)
        standing.end()
        assert standing.estimate(5.0) < 0.01
        assert (standing.active, standing.waiting) == (0, 0)

    def test_a_clock_that_was_set_back_breaks_nothing(self) -> None:
        standing = Standing(now=1e6)
        served(standing, 1e6, 0.1)
        assert standing.estimate(0.0) == pytest.approx(0.1)
        assert standing.cost(0.0, 0) == pytest.approx(0.1 + FLOOR)
        served(standing, 0.0, 0.2)
        assert standing.estimate(0.2) < 1.0
        assert MEMORY < 1e6


class TestCost:
    def test_more_work_costs_more_and_weight_bears_it(self) -> None:
        light, strong = Standing(now=0.0, latency=0.1), Standing(now=0.0, latency=0.1, weight=4.0)
        assert light.cost(0.0, 0) == strong.cost(0.0, 0)
        assert light.cost(0.0, 1) == pytest.approx(strong.cost(0.0, 4))
        assert light.cost(0.0, 5) > light.cost(0.0, 4)

    def test_one_failure_among_many_answers_costs_little(self) -> None:
        standing = Standing(now=0.0)
        for number in range(100):
            served(standing, number / 100, 0.05)
        before = standing.cost(1.0, 0)
        served(standing, 1.0, 0.001, failed=True)
        assert before < standing.cost(1.05, 0) < 3 * before

    def test_one_that_fails_is_dear_however_fast_it_is(self) -> None:
        failing, slow = Standing(now=0.0, latency=0.001), Standing(now=0.0, latency=0.05)
        for number in range(10):
            served(failing, number / 10, 0.001, failed=True)
        assert failing.cost(1.0, 0) > 20 * slow.cost(1.0, 0)
        for number in range(30):
            served(failing, 1 + number / 10, 0.001)
        assert failing.cost(5.0, 0) < slow.cost(5.0, 0)


class TestSlowStart:
    def test_a_reload_that_takes_it_off_is_at_once_whatever_numbers_are_rounded_to(self) -> None:
        for tenths in range(200):
            now = tenths / 10
            standing = Standing(now=now, slow_start=0.1)
            standing.configure(1.0, 0.0)
            assert standing.grown(now) == 1.0

    def test_it_grows_to_its_share(self) -> None:
        standing = Standing(now=100.0, slow_start=10.0)
        assert [standing.grown(now) for now in (100.0, 105.0, 109.0, 110.0, 200.0)] == [0.1, 0.5, 0.9, 1.0, 1.0]

    def test_without_it_it_is_grown_at_once(self) -> None:
        assert Standing(now=100.0).grown(100.0) == 1.0

    def test_a_reload_may_change_it_midway(self) -> None:
        standing = Standing(now=100.0, slow_start=10.0)
        standing.configure(2.0, 20.0)
        assert standing.grown(110.0) == 0.5
        assert standing.weight == 2.0
        standing.configure(2.0, 20.0)
        assert standing.grown(110.0) == 0.5


class TestEjection:
    settings = Ejection(seconds=10.0, longest=60.0)

    def test_each_time_lasts_twice_as_long_up_to_a_bound(self) -> None:
        standing = Standing(now=0.0)
        now, seconds = 0.0, []
        for _ in range(5):
            seconds.append(standing.eject(now, self.settings))
            assert standing.place is Place.OUT
            now = standing.until
            standing.let_try()
            assert standing.place is Place.TRIAL
        assert seconds == [10.0, 20.0, 40.0, 60.0, 60.0]

    def test_back_and_out_again_goes_on_where_it_was(self) -> None:
        standing = Standing(now=0.0, slow_start=5.0)
        standing.eject(0.0, self.settings)
        standing.let_try()
        standing.take_back(10.0)
        assert standing.place is Place.IN
        assert standing.grown(10.0) == 0.1
        assert standing.eject(15.0, self.settings) == 20.0

    def test_long_without_trouble_it_begins_anew(self) -> None:
        standing = Standing(now=0.0)
        standing.eject(0.0, self.settings)
        standing.let_try()
        standing.take_back(10.0)
        assert standing.eject(71.0, self.settings) == 10.0
