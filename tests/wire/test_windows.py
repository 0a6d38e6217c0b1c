"""Budgets, and windows that grow while they are what holds a stream back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import MisuseError
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.windows import RTT_FLOOR, Budget, ReceiveWindow

KIB = 1024
WHOLE = Budget(2**40)


def test_a_budget_inside_another() -> None:
    process = Budget(100)
    one, two = Budget(80, process), Budget(80, process)
    assert one.take(80)
    assert not one.take(1)
    assert not two.take(21)
    assert two.used == 0
    assert two.take(20)
    one.release(80)
    assert (process.used, one.used, two.used) == (20, 0, 20)
    with pytest.raises(MisuseError):
        two.release(21)


def test_grants_come_in_halves() -> None:
    window = ReceiveWindow(64 * KIB, 0.0)
    assert window.received(64 * KIB, 0.0)
    assert window.consumed(32 * KIB - 1, 9.0, 1.0, WHOLE, 64 * KIB) == 0
    assert window.consumed(1, 9.0, 1.0, WHOLE, 64 * KIB) == 32 * KIB
    assert window.available == window.unacknowledged == 32 * KIB


def test_more_than_was_granted() -> None:
    window = ReceiveWindow(10, 0.0)
    assert window.received(10, 0.0)
    assert not window.received(1, 0.0)


@pytest.mark.parametrize("amount", [-1, 6])
def test_only_what_came_can_be_acknowledged(amount: int) -> None:
    window = ReceiveWindow(10, 0.0)
    window.received(5, 0.0)
    with pytest.raises(MisuseError):
        window.consumed(amount, 0.0, None, WHOLE, 10)


@pytest.mark.parametrize(
    ("took", "rtt", "left", "grows"),
    [
        (0.09, 0.1, 0, True),  # half a window in a round trip
        (0.11, 0.1, 0, False),
        (0.09, 0.1, 16 * KIB, True),
        (99.0, None, 0, True),  # nothing measured: who keeps up is busy
        (0.0, None, 16 * KIB, False),
        (RTT_FLOOR * 0.9, 0.0, 0, True),  # a turn of the reactor is a round trip
        (RTT_FLOOR * 1.1, 0.0, 0, False),
    ],
)
def test_busy(took: float, rtt: float | None, left: int, grows: bool) -> None:
    window = ReceiveWindow(64 * KIB, -100.0)
    window.received(32 * KIB + left, 0.0)
    budget = Budget(64 * KIB)
    grant = window.consumed(32 * KIB, took, rtt, budget, 1024 * KIB)
    assert grant == (96 * KIB if grows else 32 * KIB)
    assert window.extra == budget.used == (64 * KIB if grows else 0)


def test_growth_ends_at_the_limit_and_with_the_budget() -> None:
    budget = Budget(300 * KIB)
    window = ReceiveWindow(64 * KIB, 0.0)
    sizes = []
    for _ in range(6):
        window.received(window.available, 0.0)
        window.consumed(window.unacknowledged, 0.0, None, budget, 200 * KIB)
        sizes.append(window.size // KIB)
    assert sizes == [128, 200, 200, 200, 200, 200]
    other = ReceiveWindow(256 * KIB, 0.0)
    other.received(256 * KIB, 0.0)
    assert other.consumed(256 * KIB, 0.0, None, budget, 4096 * KIB) == 256 * KIB
    assert other.extra == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5000), st.floats(0, 1)), max_size=60))
def test_credit_is_neither_lost_nor_made(steps: list[tuple[bool, int, float]]) -> None:
    budget = Budget(20000)
    window = ReceiveWindow(2048, 0.0)
    now = 0.0
    credit = 2048
    for arrives, amount, seconds in steps:
        now += seconds
        if arrives:
            amount = min(amount, credit)
            assert window.received(amount, now)
            credit -= amount
        else:
            credit += window.consumed(min(amount, window.unacknowledged), now, 0.01, budget, 16384)
        assert credit == window.available
        assert window.size == window.available + window.unacknowledged + window.pending == 2048 + window.extra
        assert window.extra == budget.used
        assert window.pending * 2 < window.size


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial_credit": 1023},
        {"initial_credit": 4096, "max_window": 4095},
        {"max_window": 2**31},
        {"ping_after": 0.0},
        {"ping_after": 12.0},
        {"slice": 0},
        {"max_streams": 0},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(MisuseError):
        SessionConfig(**wrong)  # type: ignore[arg-type]
