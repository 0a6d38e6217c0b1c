"""What active checks say of an upstream, and when they come."""

from __future__ import annotations

from random import Random

from wormhole_tw.control.balancing import HealthCheck
from wormhole_tw.control.checks import Verdict


def test_it_takes_some_in_a_row_to_say_otherwise() -> None:
    verdict = Verdict(HealthCheck("/", healthy=2, unhealthy=3))
    seen = []
    for passed in (False, False, True, False, False, False, False, True, False, True, True, True):
        changed = verdict.note(passed)
        seen.append((verdict.well, changed))
    assert [well for well, _ in seen] == [True] * 5 + [False] * 5 + [True] * 2
    assert [number for number, (_, changed) in enumerate(seen) if changed] == [5, 10]


def test_checks_come_a_tenth_sooner_or_later() -> None:
    verdict = Verdict(HealthCheck("/", interval=10.0))
    waits = [verdict.wait(Random(seed)) for seed in range(200)]
    assert 9.0 <= min(waits) < 9.3
    assert 10.7 < max(waits) <= 11.0


def test_the_first_comes_soon() -> None:
    assert all(0.0 <= Verdict(HealthCheck("/", interval=60.0)).first(Random(seed)) <= 1.0 for seed in range(50))
    assert all(Verdict(HealthCheck("/", interval=0.2)).first(Random(seed)) <= 0.2 for seed in range(50))
