"""What a process uses: CPU from the scheduler's own account, memory from the kernel's account of its pages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

from .model import ProcessUse
from .processes import family

__all__ = ["Meter", "cpu_seconds", "private_bytes", "resident_bytes"]

_SAMPLE_SECONDS = 0.25
"""Between two looks at memory: the kernel walks all pages of the process for one."""


def cpu_seconds(pid: int) -> float:
    """CPU that a process and what descends from it used so far, all threads that run still (schedstat, nanoseconds)."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    """Memory that a process and what descends from it hold resident."""
    return sum(_rollup(member).get("Rss", 0) for member in family(pid))


def private_bytes(pid: int) -> int:
    """The part of it that no other process shares: what grows when a process takes memory."""
    total = 0
    for member in family(pid):
        fields = _rollup(member)
        total += fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0) + fields.get("Swap", 0)
    return total


def _rollup(pid: int) -> dict[str, int]:
    fields: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value = line.split(":")
            fields[name] = int(value.split()[0]) * 1024
    return fields


class Meter:
    """The use of several processes from now on.

    :param pids: role → process; what descends from it counts with it
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._peaks = dict.fromkeys(pids, 0)
        self._sampled = 0.0
        self._cpu = {role: cpu_seconds(pid) for role, pid in pids.items()}

    def sample(self) -> None:
        """Look at memory, unless that was done a moment ago."""
        if time.monotonic() - self._sampled >= _SAMPLE_SECONDS:
            for role, pid in self._pids.items():
                self._peaks[role] = max(self._peaks[role], resident_bytes(pid))
            self._sampled = time.monotonic()

    def stop(self, units: float) -> dict[str, ProcessUse]:
        """CPU for each of ``units`` (seconds of CPU a unit), and the most memory seen (octets)."""
        cpu = {role: (cpu_seconds(pid) - self._cpu[role]) / units for role, pid in self._pids.items()}
        self._sampled = 0.0
        self.sample()
        return {role: ProcessUse(cpu[role], self._peaks[role]) for role in self._pids}
