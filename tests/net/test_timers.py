"""The timer wheel: never early, at most a tick late, one delayed call, none when empty."""

from __future__ import annotations

import functools
import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from wormhole_tw.net.timers import REST, Timer, TimerWheel


def test_fires_once_at_its_time() -> None:
    clock = Clock()
    wheel = TimerWheel(clock, tick=0.25)
    fired: list[float] = []
    timer = wheel.start(1.0, lambda: fired.append(clock.seconds()))
    assert timer.active
    clock.advance(0.9)
    assert fired == []
    clock.pump([0.05] * 10)
    assert len(fired) == 1
    assert 1.0 <= fired[0] <= 1.25
    assert not timer.active
    assert len(wheel) == 0
    assert clock.getDelayedCalls() == []


def test_many_timers_are_one_delayed_call() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    timers = [wheel.start(1 + n % 30, lambda: None) for n in range(1000)]
    assert len(clock.getDelayedCalls()) == 1
    assert len(wheel) == 1000
    for timer in timers:
        timer.cancel()
        timer.cancel()
    assert clock.getDelayedCalls() == []
    assert len(wheel) == 0


def test_restart_moves_it_both_ways() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    fired: list[float] = []
    timer = wheel.start(5, lambda: fired.append(clock.seconds()))
    clock.advance(4)
    timer.restart()
    clock.advance(4)
    assert fired == []
    timer.restart(1)
    clock.advance(1.25)
    assert fired == [9.25]
    timer.restart(60)
    timer.restart(2)
    clock.advance(2.25)
    assert fired == [9.25, 11.5]
    timer.restart()  # as long as the last time
    clock.advance(2.25)
    assert len(fired) == 3
    assert clock.getDelayedCalls() == []


def test_a_cancelled_timer_can_be_restarted() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    fired: list[str] = []
    timer = wheel.start(1, lambda: fired.append("x"))
    timer.cancel()
    clock.advance(10)
    assert fired == []
    timer.restart()
    clock.advance(1.25)
    assert fired == ["x"]


def test_callbacks_may_touch_any_timer(logged_failures: Any) -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        second.cancel()
        third.restart(1)
        wheel.start(1, lambda: seen.append("new"))
        raise ZeroDivisionError("a bug")

    wheel.start(1, first)
    second = wheel.start(1, lambda: seen.append("second"))
    third = wheel.start(1, lambda: seen.append("third"))
    clock.advance(1)
    assert seen == ["first"]
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(1.25)
    assert sorted(seen[1:]) == ["new", "third"]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert clock.getDelayedCalls() == []


def test_stop_cancels_all_even_from_a_callback() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    seen: list[str] = []
    wheel.start(1, wheel.stop)
    other = wheel.start(1, lambda: seen.append("other"))
    wheel.start(50, lambda: seen.append("later"))
    clock.advance(100)
    assert seen == []
    assert not other.active
    assert len(wheel) == 0
    assert clock.getDelayedCalls() == []
    wheel.start(1, lambda: seen.append("again"))
    clock.advance(2)
    assert seen == ["again"]


def test_zero_and_odd_ticks() -> None:
    clock = Clock()
    wheel = TimerWheel(clock, tick=0.1)
    seen: list[str] = []
    wheel.start(0, lambda: seen.append("at once"))
    assert seen == []
    clock.advance(0)
    assert seen == ["at once"]
    assert wheel.now == clock.seconds()
    with pytest.raises(ValueError):
        TimerWheel(clock, tick=0)


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["run", "cancel", "restart"])), max_size=30), st.integers())
def test_never_early_and_at_most_two_ticks_late(plan: list[tuple[float, str]], seed: int) -> None:
    clock, tick, step = Clock(), 0.25, 0.01
    clock.advance(random.Random(seed).random() * 1e6)
    wheel = TimerWheel(clock, tick)
    due: dict[int, float] = {}
    fired: dict[int, float] = {}
    timers: list[Timer] = []
    for number, (seconds, _) in enumerate(plan):
        timers.append(wheel.start(seconds, lambda number=number: fired.__setitem__(number, clock.seconds())))  # type: ignore[misc]
        due[number] = clock.seconds() + seconds
    clock.advance(step)
    for number, (seconds, what) in enumerate(plan):
        if number in fired:
            continue
        if what == "cancel":
            timers[number].cancel()
            del due[number]
        elif what == "restart":
            timers[number].restart(seconds / 2)
            due[number] = clock.seconds() + seconds / 2
    clock.pump([step * 5] * int(21 / step / 5))
    assert fired.keys() == due.keys()
    for number, at in fired.items():
        assert due[number] <= at <= due[number] + 2 * tick + 5 * step
    assert clock.getDelayedCalls() == []


def crowd(clock: Clock, wheel: TimerWheel, order: list[str]) -> list[Timer]:
    """Timers that are due at the same moment, and whose callbacks take a millisecond each."""

    def slow(name: str) -> None:
        order.append(name)
        clock.rightNow += 0.001

    return [wheel.start(1.0, functools.partial(slow, str(number))) for number in range(40)]


def test_a_crowd_that_is_due_at_once_gives_way_to_the_reactor() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    order: list[str] = []
    timers = crowd(clock, wheel, order)

    def other() -> None:
        """Of the same moment, and nothing to the wheel."""
        order.append("other")
        assert len(wheel) == 40 - order.index("other") + 1
        assert len(clock.getDelayedCalls()) == 1
        timers[30].cancel()
        timers[31].restart(5.0)
        wheel.start(0.1, lambda: order.append("new"))

    clock.callLater(1.0, other)
    wheel.start(2.0, lambda: order.append("later"))
    clock.advance(1.0)
    assert 0 < order.index("other") < 10
    order.remove("other")
    done = len(order)
    clock.advance(REST / 2)
    assert len(order) == done, "the wheel rests, for whoever comes meanwhile"
    clock.pump([REST / 2] * 100)
    assert order[:38] == [str(number) for number in range(40) if number not in (30, 31)]
    clock.pump([0.25] * 25)
    assert order[38:] == ["new", "later", "31"]
    assert clock.getDelayedCalls() == []


def test_a_crowd_that_is_late_already_is_not_kept_waiting_by_rests() -> None:
    clock = Clock()
    wheel = TimerWheel(clock, tick=0.02)
    order: list[str] = []
    crowd(clock, wheel, order)
    clock.advance(1.0)
    done = [len(order)]
    while clock.rightNow < 1.02:
        clock.advance(REST)
        done.append(len(order))
    assert max(after - before for before, after in itertools.pairwise(done[:-1])) < 4, "it rests between them"
    assert done[-1] == 40, "from a tick on, the reactor has its turn between them, and no more"
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("how", ["each", "all"])
def test_a_crowd_may_be_cancelled_between_two_turns(how: str) -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    order: list[str] = []
    timers = crowd(clock, wheel, order)

    def cancel() -> None:
        assert 0 < len(wheel) < 40
        if how == "all":
            wheel.stop()
        for timer in timers:
            timer.cancel()

    clock.callLater(1.0, cancel)
    clock.advance(1.0)
    assert 0 < len(order) < 10
    assert len(wheel) == 0
    assert clock.getDelayedCalls() == []
    timers[0].restart()
    clock.advance(1.25)
    assert order[-1] == "0"
