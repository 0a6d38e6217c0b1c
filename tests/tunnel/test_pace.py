"""How much is written at a time: as much as the path sends in a few milliseconds."""

from __future__ import annotations

import pytest

from wormhole_tw.tunnel.pace import BITE, BULK_BITE, QUICK, Pace


def pause(pace: Pace, seconds: float) -> bool:
    pace.paused(10.0)
    return pace.resumed(10.0 + seconds)


def test_a_path_that_takes_all_at_once_gets_more_and_more() -> None:
    pace = Pace()
    assert pace.bite == BITE
    for _ in range(10):
        assert not pause(pace, QUICK / 2)
    assert pace.bite == BULK_BITE
    for _ in range(3):
        pace.faster()
    assert pace.bite == BULK_BITE
    assert not pace.slow


def test_a_path_that_takes_its_time_gets_what_it_sends_in_a_few_milliseconds() -> None:
    pace = Pace()
    for _ in range(10):
        pace.faster()
    assert not pause(pace, 4 * QUICK)
    assert pace.bite == pytest.approx(BULK_BITE // 4, abs=1)
    assert not pace.slow, "smaller bites may be enough"


def test_a_slow_path_is_known_until_it_is_quick_again() -> None:
    pace = Pace()
    assert pause(pace, 5 * QUICK), "it is slow even with the smallest bites"
    assert (pace.bite, pace.slow) == (BITE, True)
    assert not pause(pace, 5 * QUICK), "nothing new"
    assert pause(pace, QUICK / 2)
    assert (pace.bite, pace.slow) == (2 * BITE, False)


def test_a_long_standstill_shrinks_all_at_once() -> None:
    pace = Pace()
    for _ in range(10):
        pace.faster()
    assert pause(pace, 10.0)
    assert (pace.bite, pace.slow) == (BITE, True)
