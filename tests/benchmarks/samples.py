"""A summary as the benchmark makes it, without running anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.model import CPU_A_REQUEST, P50, RATE, Options, ProcessUse, Reading, Scenario
from benchmarks.runner import Measured, summary


def reading(rate: float, cpu: float = 20.0, p50: float = 1.0) -> Reading:
    return Reading({"rate": rate, "p50": p50, "cpu": cpu}, {"edge": ProcessUse(cpu / 1e6, 50_000_000)})


def made(
    readings: Mapping[str, Sequence[Reading]], *, absent: Mapping[str, str] | None = None, error: str = ""
) -> dict[str, Any]:
    """The summary of one scenario ``small``."""
    scenario = Scenario("small", "100 B <small>", (RATE, P50, CPU_A_REQUEST), lambda world: {}, (), ("µs", 1e6))
    result = Measured(scenario)
    result.readings = {name: list(those) for name, those in readings.items()}
    result.absent = dict(absent or {})
    result.error = error
    return summary([result], Options(rounds=3))
