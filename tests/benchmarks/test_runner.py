"""Rounds in turn, failures that are said, and one real run from end to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from benchmarks.__main__ import main
from benchmarks.model import RATE, Options, Reading, Runners, Scenario
from benchmarks.processes import Failed, clean_environment, family
from benchmarks.runner import measure
from benchmarks.scenarios import SCENARIOS
from benchmarks.world import World

from tests._support import ROOT
from tests.benchmarks.samples import reading
from tests.benchmarks.test_processes import runs, wait_until

BENCHMARK = [sys.executable, "-m", "benchmarks"]


def scenario(*, fails: str = "", asked: list[str] | None = None, begins: bool = True) -> Scenario:
    """One of three contenders; ``fails`` names the one whose second run fails."""
    seen: list[str] = [] if asked is None else asked

    def prepare(world: World) -> Runners:
        if not begins:
            raise Failed("the edge did not start")
        world.absent["frp"] = "frps and frpc not on PATH"

        def runner(name: str) -> Reading:
            seen.append(name)
            if name == fails and seen.count(name) == 2:
                raise Failed(f"{name} broke")
            return reading(1000)

        return {name: lambda name=name: runner(name) for name in ("ours", "nginx", "haproxy")}  # type: ignore[misc]

    return Scenario("fake", "A fake", (RATE,), prepare)


def test_contenders_are_measured_in_turn() -> None:
    asked: list[str] = []
    lines: list[str] = []
    result = measure(scenario(asked=asked), Options(rounds=3), say=lines.append)
    assert asked == ["ours", "nginx", "haproxy"] * 3
    assert {name: len(readings) for name, readings in result.readings.items()} == dict.fromkeys(asked, 3)
    assert result.absent == {"frp": "frps and frpc not on PATH"}
    assert "round 2 of 3, nginx: requests 1,000 a second" in lines


def test_a_warm_up_comes_before_the_rounds_and_counts_nothing() -> None:
    asked: list[str] = []
    result = measure(scenario(asked=asked), Options(rounds=2, warm_up=1e-9))
    assert asked == ["ours", "nginx", "haproxy"] * 3
    assert {len(readings) for readings in result.readings.values()} == {2}


def test_a_peer_that_breaks_has_no_figures() -> None:
    asked: list[str] = []
    result = measure(scenario(fails="nginx", asked=asked), Options(rounds=3))
    assert [*result.readings] == ["ours", "haproxy"]
    assert asked.count("nginx") == 2
    assert result.absent["nginx"] == "failed: nginx broke"
    assert not result.error


def test_what_breaks_of_ours_ends_the_scenario() -> None:
    result = measure(scenario(fails="ours"), Options(rounds=3))
    assert result.error == "ours broke"


def test_what_does_not_start_ends_the_scenario() -> None:
    assert measure(scenario(begins=False), Options()).error == "the edge did not start"


def test_names_are_unique_and_metrics_too() -> None:
    assert len(SCENARIOS) >= 30
    for name, found in SCENARIOS.items():
        assert found.name == name
        keys = [metric.key for metric in found.metrics]
        assert len(keys) == len(set(keys))


def test_the_list_names_scenarios_and_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    for name in (*SCENARIOS, "nginx", "haproxy", "ssh", "frp", "rathole", "chisel"):
        assert f"\n{name} " in f"\n{text}"


@pytest.mark.parametrize("arguments", [["--only", "no-such"], ["--rounds", "0"], ["--seconds", "-1"], ["--peers", "x"]])
def test_mistakes_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code


@pytest.mark.deadline(120)
@pytest.mark.requires_program("nginx", "wrk", "openssl")
def test_one_run_from_end_to_end(tmp_path: Path) -> None:
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.svg"
    command = [*BENCHMARK, "--quick", "--seconds", "0.5", "--only", "small-1", "--peers", "nginx"]
    done = subprocess.run(
        [*command, "--json", str(figures), "--svg", str(picture)],
        cwd=ROOT,
        env={**clean_environment(), "FLY_TOKEN": "somebody's"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/1 small-1] round 1 of 1, nginx:" in done.stderr
    assert "not measured: haproxy (left out)" in done.stdout
    found = json.loads(figures.read_text())["scenarios"]["small-1"]
    assert [*found["contenders"]] == ["ours", "nginx"]
    for contender, roles in (("ours", {"edge", "agent"}), ("nginx", {"nginx"})):
        values = found["contenders"][contender]["values"]
        assert all(values[key]["median"] > 0 for key in ("rate", "p50", "p99", "cpu"))
        processes = found["contenders"][contender]["processes"]
        assert set(processes) == roles
        assert all(use["cpu"] > 0 and use["peak_megabytes"] > 1 for use in processes.values())
    assert found["ratios"]["nginx"]["rate"]["median"] > 0
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


@pytest.mark.full
@pytest.mark.deadline(900)
@pytest.mark.requires_program("nginx", "wrk", "openssl", "curl")
def test_every_scenario_runs(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    sizes = ["--quick", "--megabytes", "10", "--agents", "20", "--visitors", "20", "--streams", "100"]
    done = subprocess.run(
        [*BENCHMARK, *sizes, "--json", str(figures)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())["scenarios"]
    assert [*found] == [*SCENARIOS]
    assert all(scenario["contenders"]["ours"]["values"] for scenario in found.values())


@pytest.mark.deadline(60)
@pytest.mark.requires_program("nginx", "wrk", "openssl")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(number: signal.Signals) -> None:
    command = [*BENCHMARK, "--only", "small-1", "--seconds", "30", "--peers", "nginx"]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as benchmark:
        try:
            assert benchmark.stderr is not None
            started = next(line for line in benchmark.stderr if "starting nginx" in line)
            assert "small-1" in started
            wait_until(lambda: len(family(benchmark.pid)) >= 4)  # the benchmark, origin, edge, agent at least
            pids = family(benchmark.pid)
        finally:
            benchmark.send_signal(number)
        assert benchmark.wait(30) in (130, 128 + number)
        wait_until(lambda: not any(runs(pid) for pid in pids))
