"""The seeds, what hypothesis makes of them, and a short run of the real fuzzer."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

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


@pytest.fixture(scope="module")
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the fuzzer said of each target that is wanted, one after another in one run."""
    if importlib.util.find_spec("atheris") is None:
        missing("atheris (pip install atheris)")
    tests = [
        item for item in request.session.items if getattr(item, "originalname", "").endswith("fuzzer_finds_nothing")
    ]
    names = [item.callspec.params["name"] for item in tests]  # type: ignore[attr-defined]
    found = tmp_path_factory.mktemp("fuzz") / "found"
    argv = [sys.executable, "-m", "tests.fuzz", "--seconds", str(SECONDS), "--runs", str(RUNS), "--found", str(found)]
    run = subprocess.run(
        [*argv, *names],
        cwd=ROOT,
        env=program_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=len(names) * (SECONDS + 60),
        check=False,
    )
    _, *parts = re.split(r"^== (\w+), .*\n", run.stdout, flags=re.MULTILINE)
    assert parts, run.stdout[-3000:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_fuzzer_finds_nothing(name: str, said: dict[str, str]) -> None:
    heard = said[name]
    # libFuzzer tells its figures when it has found nothing to the end, and where it has found something, too
    assert "Done " in heard, heard[-5000:]
    assert "stat::number_of_executed_units" in heard
    assert "Test unit written to" not in heard, heard[-5000:]
