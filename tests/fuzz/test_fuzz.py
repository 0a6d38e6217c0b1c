"""The seeds, what hypothesis makes of them, and a short run of the real fuzzer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests._support import ROOT, missing, program_environment, sized
from tests.fuzz.__main__ import NAMES
from tests.fuzz.seeds import seeds_of
from tests.fuzz.targets import TARGETS

RUNS = sized(3000, -1)
"""Inputs of a short run, the same each time; ``make fuzz`` and ``make test-full`` look further."""

SECONDS = 60
EXAMPLES = sized(150, 5000)


def test_every_target_has_its_name_and_its_seeds() -> None:
    assert tuple(TARGETS) == NAMES
    assert all(len(seeds_of(name)) >= 8 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_seeds(name: str) -> None:
    for seed in seeds_of(name):
        TARGETS[name](seed)
        for end in range(len(seed)):
            TARGETS[name](seed[:end])


@st.composite
def changed(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with pieces put in, taken out, doubled, or taken from another one."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        other = draw(st.sampled_from(seeds))
        at = draw(st.integers(0, len(other)))
        middle = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"0", b"\r\n\r\n", b"chunked"]),
                st.just(data[start:end] * 2),
                st.just(other[at : at + 30]),
            )
        )
        data = data[:start] + middle + data[end:]
    return data


@pytest.mark.parametrize("name", NAMES)
def test_changed_seeds(name: str) -> None:
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    @given(changed(seeds_of(name)))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()


@pytest.mark.deadline(SECONDS + 60)
@pytest.mark.parametrize("name", NAMES)
def test_the_fuzzer_finds_nothing(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris (pip install atheris)")
    argv = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--seconds",
        str(SECONDS),
        "--runs",
        str(RUNS),
        "--found",
        str(tmp_path / "found"),
        name,
    ]
    run = subprocess.run(
        argv, cwd=ROOT, env=program_environment(), capture_output=True, text=True, errors="replace", check=False
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert "stat::number_of_executed_units" in run.stderr
