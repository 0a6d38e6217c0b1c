"""Run the whole suite, its lanes beside each other: ``python -m tests`` (``make test``).

What a lane says comes when it ends.  As many run at a time as there are cores, and one more: some of them mostly wait.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests._lanes import LANES, SOCKETS
from tests._support import ROOT

NO_TESTS = 5
"""How pytest ends where its arguments name tests of other lanes alone."""

TRACED = {"covered": "thread", "floors": "greenlet,thread", "programs": "greenlet,thread"}
"""Lanes that can be traced, and what may switch in them: coverage asks at every call.  Of programs it sees nothing."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description="Run the suite, its lanes beside each other.")
    parser.add_argument("--transports", choices=("ours", "twisted", "both"), default="ours")
    parser.add_argument("--trace", choices=("nothing", "covered", "all"), default="nothing", help="lanes to trace")
    parser.add_argument("--at-once", type=int, default=(os.cpu_count() or 1) + 1, metavar="N", help="lanes at a time")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="for pytest; behind -- where they have dashes")
    options = parser.parse_args()
    traced = {"nothing": (), "covered": ("covered",), "all": tuple(TRACED)}[options.trace]
    lanes: dict[str, tuple[int, list[str]]] = {}
    if options.transports != "twisted":
        for name, seconds in LANES.items():
            lanes[name] = seconds, command(name, options.arguments, name in traced)
    if options.transports != "ours":
        arguments = ["--transports=twisted", *options.arguments]
        for name, seconds in SOCKETS.items():
            lanes[f"{name}, Twisted's transports"] = seconds, command(name, arguments)
    longest_first = sorted(lanes, key=lambda name: lanes[name][0], reverse=True)
    return Lanes([(name, lanes[name][1]) for name in longest_first]).run(max(1, options.at_once))


def command(lane: str, arguments: list[str], traced: bool = False) -> list[str]:
    """What runs a lane."""
    tracing = ["coverage", "run", "--parallel-mode", f"--concurrency={TRACED[lane]}", "-m"] if traced else []
    return [sys.executable, "-m", *tracing, "pytest", f"--lane={lane}", *arguments]


class Lanes:
    """Those to be run, and those that run."""

    def __init__(self, lanes: list[tuple[str, list[str]]]) -> None:
        self._waiting = lanes
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._ended = 0
        self._failed: list[str] = []

    def run(self, at_once: int) -> int:
        """Run all, so many at once; 1 if one failed, or 128 and the number of the signal that ended them."""
        # Ctrl-C reaches them without us, and ends them: what they say then is printed, too.
        signal.signal(signal.SIGINT, lambda number, frame: self._end(number))
        signal.signal(signal.SIGTERM, lambda number, frame: self._end(number))
        with ThreadPoolExecutor(at_once) as threads:
            list(threads.map(self._run, self._waiting))
        if self._failed:
            print(f"\nfailed: {', '.join(self._failed)}", flush=True)
        return 128 + self._ended if self._ended else bool(self._failed)

    def _run(self, lane: tuple[str, list[str]]) -> None:
        name, argv = lane
        began = time.monotonic()
        with tempfile.TemporaryFile() as output:
            with self._lock:
                if self._ended:
                    return
                process = subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=output)
                self._running.add(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            with self._lock:
                self._running.discard(process.pid)
                process.returncode = code = os.waitstatus_to_exitcode(status)
                if code not in (0, NO_TESTS):
                    self._failed.append(name)
                output.seek(0)
                seconds, cpu = time.monotonic() - began, usage.ru_utime + usage.ru_stime
                print(f"\n== {name}: {seconds:.0f} s, {cpu:.0f} s of CPU", flush=True)
                sys.stdout.buffer.write(output.read())
                sys.stdout.flush()

    def _end(self, number: int) -> None:
        self._ended = number
        for pid in list(self._running):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue


if __name__ == "__main__":
    sys.exit(main())
