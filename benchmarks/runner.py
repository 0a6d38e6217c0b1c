"""Measures scenarios: every contender once a round, in turn."""

from __future__ import annotations

import contextlib
import os
import platform
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .model import Options, Reading, Scenario
from .processes import Failed, clean_environment, programs
from .report import number
from .statistics import median, ratios
from .world import World

__all__ = ["Measured", "machine", "measure", "summary"]

SHORT = 300
"""Letters of a failure that stand in the report; the whole is printed when it happens."""


class Measured:
    """What one scenario gave.

    :ivar readings: contender → one for each round, ours first
    :ivar absent: peers that were not measured → why
    :ivar error: why there is nothing, empty where there is
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.readings: dict[str, list[Reading]] = {}
        self.absent: dict[str, str] = {}
        self.error = ""
        self.seconds = 0.0


def measure(
    scenario: Scenario,
    options: Options,
    *,
    wanted: Sequence[str] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Measured:
    """Start what the scenario needs, measure it, and end it all. A failure is the scenario's and is noted.

    :param wanted: peers that may be used; None: all
    """
    result = Measured(scenario)
    begin = time.monotonic()
    try:
        with programs() as running:
            world = World(running, options, wanted=wanted, say=say)
            try:
                runners = dict(scenario.prepare(world))
                if options.warm_up:
                    _warm_up(runners, options.warm_up, say)
                _run_rounds(result, runners, options.rounds, say)
            finally:
                result.absent = {**world.absent, **result.absent}
    except Failed as failure:
        result.error = str(failure)
        say(f"failed: {failure}")
    result.seconds = time.monotonic() - begin
    return result


def _warm_up(runners: Mapping[str, Callable[[], Reading]], seconds: float, say: Callable[[str], object]) -> None:
    """Run each contender for so long. Who fails here fails in the rounds again, and is named there."""
    for name, run in runners.items():
        say(f"warming up {name}")
        until = time.monotonic() + seconds
        with contextlib.suppress(Failed):
            run()
            while time.monotonic() < until:
                run()


def _run_rounds(
    result: Measured, runners: dict[str, Callable[[], Reading]], rounds: int, say: Callable[[str], object]
) -> None:
    headline = result.scenario.metrics[0]
    for count in range(rounds):
        for name, run in list(runners.items()):
            try:
                reading = run()
            except Failed as failure:
                if name == "ours":
                    raise
                # A peer that broke has no figures, rather than those of fewer rounds.
                say(f"{name} failed: {failure}")
                result.absent[name] = f"failed: {failure}"
                result.readings.pop(name, None)
                del runners[name]
                continue
            result.readings.setdefault(name, []).append(reading)
            value = reading.values[headline.key]
            say(f"round {count + 1} of {rounds}, {name}: {headline.label} {number(value)} {headline.unit}")


def summary(measured: Sequence[Measured], options: Options) -> dict[str, Any]:
    """All of it as JSON has it; tables, charts and bounds are made from this."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "options": {name: getattr(options, name) for name in options.__dataclass_fields__},
        "scenarios": {result.scenario.name: _scenario(result) for result in measured},
    }


def _scenario(result: Measured) -> dict[str, Any]:
    scenario = result.scenario
    keys = [metric.key for metric in scenario.metrics]
    ours = result.readings.get("ours", [])
    compared = {name: readings for name, readings in result.readings.items() if name != "ours"}
    return {
        "title": scenario.title,
        "metrics": [
            {"key": metric.key, "label": metric.label, "unit": metric.unit, "more_is_better": metric.more_is_better}
            for metric in scenario.metrics
        ],
        "contenders": {name: _contender(readings, scenario) for name, readings in result.readings.items()},
        "ratios": {
            peer: {
                key: {"median": median(found), "rounds": found}
                for key in keys
                if (found := ratios([one.values[key] for one in ours], [one.values[key] for one in readings]))
            }
            for peer, readings in compared.items()
        },
        "absent": {peer: _short(why) for peer, why in result.absent.items()},
        "error": _short(result.error),
        "seconds": round(result.seconds, 1),
    }


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHORT else line[:SHORT] + " …"


def _contender(readings: Sequence[Reading], scenario: Scenario) -> dict[str, Any]:
    unit, factor = scenario.cpu_unit
    values = {}
    for metric in scenario.metrics:
        rounds = [reading.values[metric.key] for reading in readings]
        values[metric.key] = {"median": median(rounds), "least": min(rounds), "most": max(rounds), "rounds": rounds}
    processes: dict[str, Mapping[str, object]] = {}
    for role in readings[0].processes:
        uses = [reading.processes[role] for reading in readings]
        processes[role] = {
            "cpu": median([use.cpu * factor for use in uses]) if unit else None,
            "cpu_unit": unit,
            "peak_megabytes": max(use.peak for use in uses) / 1e6,
        }
    return {"values": values, "processes": processes}


def machine() -> dict[str, object]:
    """What it ran on. Figures of two machines are not to be compared, ratios hardly."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION,
        "environment": {name: value for name, value in clean_environment().items() if name.startswith("WORMHOLE_")},
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
