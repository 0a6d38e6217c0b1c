"""What was measured against what must be reached (``bounds.toml``)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from .report import number, table

__all__ = ["FILE", "Bound", "Outcome", "Verdict", "judge", "load", "render"]

FILE = Path(__file__).with_name("bounds.toml")


class Outcome(StrEnum):
    """Of one bound."""

    AIM = "aim reached"
    HELD = "held"
    MISSED = "MISSED"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Bound:
    """One line of the table.

    :ivar what: for people
    :ivar scenario: its name
    :ivar metric: the metric's key
    :ivar peer: the bound is of the ratio to it; empty: of ours alone
    :ivar limit: what must not be passed
    :ivar most: the limit is the most, otherwise the least
    :ivar aim: what is hoped for, None for nothing beyond the limit
    """

    what: str
    scenario: str
    metric: str
    limit: float
    most: bool
    peer: str = ""
    aim: float | None = None

    def holds(self, value: float, limit: float) -> bool:
        """Whether ``value`` is on the good side of ``limit``."""
        return value <= limit if self.most else value >= limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bound and what was found. ``value`` is None where nothing was, and ``why`` says why."""

    bound: Bound
    outcome: Outcome
    value: float | None = None
    why: str = ""


def load(path: Path = FILE) -> list[Bound]:
    """Read the bounds.

    :raises ValueError: a bound is not as it should be
    """
    bounds = []
    for entry in tomllib.loads(path.read_text())["bounds"]:
        limits = [key for key in ("at_most", "at_least") if key in entry]
        if len(limits) != 1:
            raise ValueError(f"{path}: {entry.get('what')!r} needs at_most or at_least, and not both")
        known = {"what", "scenario", "metric", "peer", "aim", *limits}
        if set(entry) - known or not {"what", "scenario", "metric"} <= set(entry):
            raise ValueError(f"{path}: {entry.get('what')!r}: what, scenario, metric, peer, aim and a limit are known")
        bounds.append(
            Bound(
                entry["what"],
                entry["scenario"],
                entry["metric"],
                float(entry[limits[0]]),
                limits[0] == "at_most",
                entry.get("peer", ""),
                float(entry["aim"]) if "aim" in entry else None,
            )
        )
    return bounds


def judge(bound: Bound, summary: Mapping[str, Any]) -> Verdict:
    """Hold a bound against a summary. A scenario that failed has missed it; a peer that is not here leaves it open."""
    scenario = summary["scenarios"].get(bound.scenario)
    if scenario is None:
        return Verdict(bound, Outcome.NOT_MEASURED, why=f"{bound.scenario} did not run")
    if scenario["error"]:
        return Verdict(bound, Outcome.MISSED, why=scenario["error"])
    if bound.peer:
        found = scenario["ratios"].get(bound.peer, {}).get(bound.metric)
        why = f"{bound.peer}: {scenario['absent'].get(bound.peer, 'not measured')}"
    else:
        found = scenario["contenders"]["ours"]["values"].get(bound.metric)
        why = f"{bound.scenario} has no {bound.metric}"
    if found is None:
        return Verdict(bound, Outcome.NOT_MEASURED, why=why)
    value = float(found["median"])
    if not bound.holds(value, bound.limit):
        return Verdict(bound, Outcome.MISSED, value)
    if bound.aim is not None and bound.holds(value, bound.aim):
        return Verdict(bound, Outcome.AIM, value)
    return Verdict(bound, Outcome.HELD, value)


def render(verdicts: Sequence[Verdict]) -> str:
    """The table: bound, aim, measured, outcome."""
    rows = [["bound", "limit", "aim", "measured", "outcome"]]
    notes = []
    for verdict in verdicts:
        bound = verdict.bound
        times = " ×" if bound.peer else ""
        what = f"{bound.what}, to {bound.peer}'s" if bound.peer else bound.what
        limit = f"{'≤' if bound.most else '≥'} {bound.limit:g}{times}"
        aim = f"{bound.aim:g}{times}" if bound.aim is not None else "–"
        value = f"{number(verdict.value)}{times}" if verdict.value is not None else "–"
        rows.append([what, limit, aim, value, verdict.outcome.value])
        if verdict.why:
            notes.append(f"{what}: {verdict.outcome.value.lower()} ({verdict.why})")
    return "\n".join([table(rows), *([""] if notes else []), *notes])
