"""Counts of the last seconds, the circuit breaker, the retry budget."""

from __future__ import annotations

from wormhole_tw.control.windows import Breaker, BreakerState, RetryBudget, Window


class TestWindow:
    def test_counts_what_is_young_enough(self) -> None:
        window = Window(10.0)
        for second in range(5):
            window.note(100.0 + second, failed=second % 2 == 0)
        assert (window.total, window.failed) == (5, 3)
        window.look(112.5)
        assert (window.total, window.failed) == (3, 2)
        window.look(130.0)
        assert (window.total, window.failed) == (0, 0)

    def test_many_at_one_moment_take_no_more_room_than_one(self) -> None:
        window = Window(10.0)
        for _ in range(10_000):
            window.note(1.0, failed=False)
        assert window.total == 10_000
        window.clear()
        assert window.total == 0


def breaker() -> Breaker:
    return Breaker(share=0.5, requests=4, window=10.0, seconds=5.0, trials=2)


def broken(now: float = 0.0) -> Breaker:
    found = breaker()
    for _ in range(4):
        assert found.allows(now)
        found.note(now, failed=True)
    return found


class TestBreaker:
    def test_a_few_requests_say_nothing(self) -> None:
        found = breaker()
        assert [found.note(0.0, failed=True) for _ in range(3)] == [False, False, False]
        assert found.allows(0.0)

    def test_it_opens_where_too_many_fail(self) -> None:
        found = breaker()
        for failed in (False, False, True):
            assert not found.note(0.0, failed)
        assert found.note(0.0, failed=True)
        assert found.state is BreakerState.OPEN
        assert found.opened == 1
        assert not found.allows(4.9)
        assert found.left(2.0) == 3.0

    def test_it_stays_closed_where_most_go_well(self) -> None:
        found = breaker()
        for number in range(100):
            assert not found.note(0.0, failed=number % 3 == 2)
        assert found.left(0.0) == 0.0

    def test_failures_of_long_ago_do_not_count(self) -> None:
        found = breaker()
        for second in range(0, 60, 4):
            assert not found.note(float(second), failed=True)

    def test_after_its_time_a_few_may_try_and_close_it(self) -> None:
        found = broken()
        assert [found.allows(5.0) for _ in range(3)] == [True, True, False]
        assert found.state is BreakerState.HALF_OPEN
        assert not found.note(5.1, failed=False)
        assert not found.allows(5.1)
        assert found.note(5.2, failed=False)
        assert found.state is BreakerState.CLOSED
        # what was before is forgotten
        assert not found.note(5.3, failed=True)

    def test_one_of_them_that_fails_opens_it_again(self) -> None:
        found = broken()
        assert found.allows(5.0)
        assert found.note(5.1, failed=True)
        assert found.opened == 2
        assert not found.allows(10.0)
        assert found.allows(10.1)

    def test_what_was_on_its_way_when_it_opened_changes_nothing(self) -> None:
        found = broken()
        assert not found.note(1.0, failed=False)
        assert not found.note(1.0, failed=True)
        assert found.state is BreakerState.OPEN

    def test_a_trial_whose_visitor_left_may_be_made_again(self) -> None:
        found = broken()
        assert found.allows(5.0)
        assert found.allows(5.0)
        found.abandon()
        assert found.allows(5.0)
        assert not found.allows(5.0)

    def test_nothing_is_to_be_given_back_while_it_is_closed(self) -> None:
        found = breaker()
        found.abandon()
        assert found.allows(0.0)


class TestRetryBudget:
    def test_a_few_are_free(self) -> None:
        budget = RetryBudget(0.2, least=3, now=0.0)
        assert [budget.take(0.0, 5) for _ in range(4)] == [True, True, True, False]
        assert budget.refused == 1

    def test_of_many_a_share(self) -> None:
        budget = RetryBudget(0.2, least=3, now=0.0)
        taken = 0
        for requests in range(1, 1001):
            taken += budget.take(requests / 1000, requests + taken)
        assert 195 <= taken <= 201

    def test_it_comes_back_with_time(self) -> None:
        budget = RetryBudget(0.2, least=2, now=0.0)
        assert [budget.take(0.0, 2) for _ in range(3)] == [True, True, False]
        assert [budget.take(12.0, 2) for _ in range(3)] == [True, True, False]

    def test_none_is_none(self) -> None:
        assert not RetryBudget(0.0, least=0, now=0.0).take(0.0, 100)

    def test_a_quiet_hour_saves_nothing_up(self) -> None:
        budget = RetryBudget(0.2, least=1, now=0.0)
        # 360,000 in an hour are 1,000 in ten seconds
        taken = 0
        for _ in range(1000):
            taken += budget.take(3600.0, 360_000 + taken)
        assert 195 <= taken <= 201

    def test_one_that_begins_later_counts_from_there(self) -> None:
        budget = RetryBudget(0.5, least=1, now=100.0, requests=10_000)
        taken = 0
        for _ in range(100):
            taken += budget.take(101.0, 10_010 + taken)
        assert taken == 5
