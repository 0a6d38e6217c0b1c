"""What was measured against what must be reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import main
from benchmarks.bounds import Bound, Outcome
from benchmarks.peers.registry import NEEDS
from benchmarks.scenarios import SCENARIOS

from benchmarks import bounds
from tests.benchmarks.samples import made, reading

BOTH = {"ours": [reading(60, cpu=24), reading(30, cpu=26)], "nginx": [reading(100), reading(50)]}

TOML = """
[[bounds]]
what = "requests"
scenario = "small"
metric = "rate"
peer = "{peer}"
at_least = {limit}
"""


def rate(limit: float, aim: float | None = None, peer: str = "nginx") -> Bound:
    return Bound("requests", "small", "rate", limit, False, peer, aim)


def test_the_bounds_name_what_is_measured() -> None:
    limits = bounds.load()
    assert len(limits) >= 14
    for bound in limits:
        scenario = SCENARIOS[bound.scenario]
        assert bound.metric in [metric.key for metric in scenario.metrics], bound
        if bound.peer:
            assert bound.peer in scenario.peers, bound
            assert bound.peer in {*NEEDS, "proxied"}, bound
        if bound.aim is not None:
            assert bound.holds(bound.aim, bound.limit), bound


@pytest.mark.parametrize(
    ("bound", "outcome"),
    [
        (rate(0.55), Outcome.HELD),
        (rate(0.55, aim=0.6), Outcome.AIM),
        (rate(0.55, aim=0.8), Outcome.HELD),
        (rate(0.61), Outcome.MISSED),
        (rate(30, peer=""), Outcome.HELD),
        (rate(46, peer=""), Outcome.MISSED),
        (rate(0.1, peer="haproxy"), Outcome.NOT_MEASURED),
        (Bound("CPU", "small", "cpu", 1.4, True, "nginx", 1.0), Outcome.HELD),
        (Bound("CPU", "small", "cpu", 1.2, True, "nginx"), Outcome.MISSED),
        (Bound("CPU", "other", "cpu", 1.2, True, "nginx"), Outcome.NOT_MEASURED),
        (Bound("memory", "small", "memory", 1.2, True), Outcome.NOT_MEASURED),
    ],
)
def test_outcomes(bound: Bound, outcome: Outcome) -> None:
    assert bounds.judge(bound, made(BOTH)).outcome is outcome


def test_a_scenario_that_failed_has_missed_its_bounds() -> None:
    verdict = bounds.judge(rate(0.55), made({}, error="the edge did not start"))
    assert verdict.outcome is Outcome.MISSED
    assert verdict.why == "the edge did not start"


def test_the_table_says_everything() -> None:
    found = made(BOTH, absent={"haproxy": "haproxy not on PATH"})
    text = bounds.render([bounds.judge(bound, found) for bound in (rate(0.55, aim=0.8), rate(0.9, peer="haproxy"))])
    assert "requests, to nginx's" in text
    assert "≥ 0.55 ×" in text
    assert "0.600 ×" in text
    assert "requests, to haproxy's: not measured (haproxy: haproxy not on PATH)" in text


@pytest.mark.parametrize(
    "line",
    ["at_most = 1", "colour = 'red'", "at_least = 'much'", "what = 'twice'"],
    ids=["both", "unknown", "text", "toml"],
)
def test_mistakes_in_the_file_are_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "bounds.toml"
    text = TOML.format(peer="nginx", limit=0.5)
    file.write_text(text.replace("at_least = 0.5", line) if "much" in line else text + line + "\n")
    with pytest.raises(ValueError):
        bounds.load(file)


@pytest.mark.parametrize(
    ("peer", "limit", "more", "status"),
    [
        ("nginx", 0.5, [], 0),
        ("nginx", 0.9, [], 1),
        ("haproxy", 0.5, [], 0),
        ("haproxy", 0.5, ["--strict"], 1),
    ],
)
def test_the_exit_status(
    peer: str, limit: float, more: list[str], status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bounds.toml").write_text(TOML.format(peer=peer, limit=limit))
    (tmp_path / "all.json").write_text(json.dumps(made(BOTH)))
    files: list[Any] = ["--from", str(tmp_path / "all.json"), "--bounds", str(tmp_path / "bounds.toml")]
    assert main(["--check", *files, *more]) == status
    assert "outcome" in capsys.readouterr().out
