"""What stores really take while many different answers pass through them, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests._support import ROOT, program_environment, sized

MIB = 1024 * 1024
MEMORY_SLACK = 16 * MIB
"""What the process takes beside what is kept: buffers, and what the allocator holds back."""

DISK_SLACK = 24 * MIB
"""The write-ahead log, and files that are being written."""


def passing(store: str, folder: Path, memory: int, disk: int, count: int, median: float) -> dict[str, list[int]]:
    """What such a process says."""
    figures = [str(figure) for figure in (memory, disk, count, median)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.edge.caching.passing", store, str(folder), *figures],
        cwd=ROOT,
        env=program_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return dict(json.loads(done.stdout))


@pytest.mark.deadline(sized(120, 3600))
@pytest.mark.parametrize(("count", "median"), sized([(12_000, 7.0)], [(1_000_000, 7.0), (100_000, 10.5)]))
def test_memory_stays_within_its_bound(tmp_path: Path, count: int, median: float) -> None:
    limit = sized(24, 128) * MIB
    says = passing("memory", tmp_path, limit, 0, count, median)
    entries, octets, _, evicted = says["memory"]
    assert evicted > count // 4
    assert entries + evicted == count - says["refused"]  # type: ignore[operator]
    assert limit * 0.9 < octets <= limit
    assert limit * 0.4 < says["resident"] < limit * 1.05 + MEMORY_SLACK  # type: ignore[operator]


@pytest.mark.deadline(sized(120, 7200))
@pytest.mark.parametrize(("count", "median"), sized([(2000, 8.0)], [(1_000_000, 8.0), (20_000, 11.0)]))
def test_the_disk_stays_within_its_bound(tmp_path: Path, count: int, median: float) -> None:
    limit = sized(12, 256) * MIB
    says = passing("disk", tmp_path, 0, limit, count, median)
    entries, octets, _, evicted = says["disk"]
    assert evicted > count // 5
    assert entries + evicted == count - says["refused"]  # type: ignore[operator]
    assert limit * 0.6 < octets <= limit
    assert limit * 0.6 < says["blocks"] < limit * 1.1 + DISK_SLACK  # type: ignore[operator]
    assert says["resident"] < 64 * MIB  # type: ignore[operator]
