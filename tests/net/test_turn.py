"""The end of a turn: once for all, in order, whatever one of them raises."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from wormhole_tw.net.turn import MAX_ROUNDS, TurnEnd, turn_end_of


def test_all_callers_share_one_delayed_call() -> None:
    clock = Clock()
    turn = TurnEnd(clock)
    seen: list[str] = []
    turn.call(lambda: seen.append("a"))
    turn.call(lambda: seen.append("b"))
    assert len(clock.getDelayedCalls()) == 1
    assert seen == []
    clock.advance(0)
    assert seen == ["a", "b"]
    assert clock.getDelayedCalls() == []
    turn.call(lambda: seen.append("c"))
    clock.advance(0)
    assert seen == ["a", "b", "c"]


def test_a_loop_that_ends_its_turns_itself_needs_no_delayed_call() -> None:
    clock = Clock()
    turn = TurnEnd(clock)
    turn.hook()
    seen: list[str] = []
    turn.call(lambda: turn.call(lambda: seen.append("later")))
    assert turn.pending
    assert clock.getDelayedCalls() == []
    turn.run()
    assert seen == ["later"]
    assert not turn.pending


def test_what_a_function_adds_runs_in_the_same_flush() -> None:
    clock = Clock()
    turn = TurnEnd(clock)
    seen: list[str] = []
    turn.call(lambda: turn.call(lambda: seen.append("later")))
    turn.call(lambda: seen.append("first"))
    clock.advance(0)
    assert seen == ["first", "later"]
    assert clock.getDelayedCalls() == []


def test_functions_that_keep_adding_one_leave_the_reactor_its_turn() -> None:
    clock = Clock()
    turn = TurnEnd(clock)
    count = 0
    others: list[int] = []

    def again() -> None:
        nonlocal count
        count += 1
        if count == 1:
            clock.callLater(0, lambda: others.append(count))
        if count < 3 * MAX_ROUNDS:
            turn.call(again)

    turn.call(again)
    clock.advance(0)
    assert others == [MAX_ROUNDS]
    assert count == 3 * MAX_ROUNDS
    assert clock.getDelayedCalls() == []


def test_an_error_in_one_is_logged_and_loses_no_other(logged_failures: Any) -> None:
    clock = Clock()
    turn = TurnEnd(clock)
    seen: list[str] = []

    def broken() -> None:
        raise ZeroDivisionError("a bug")

    turn.call(broken)
    turn.call(lambda: seen.append("mine"))
    clock.advance(0)
    assert seen == ["mine"]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_one_for_a_reactor() -> None:
    one, other = Clock(), Clock()
    assert turn_end_of(one) is turn_end_of(one)
    assert turn_end_of(one) is not turn_end_of(other)


async def test_on_the_real_reactor_it_is_the_same_turn(reactor: Any) -> None:
    done: Deferred[str] = Deferred()
    turn_end_of(reactor).call(lambda: done.callback("flushed"))
    assert await done == "flushed"
