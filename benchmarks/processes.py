"""The programs of a measurement: started on free ports of loopback, their CPU and memory read, and always ended."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 20.0
"""How long a program may take until it answers."""


def find(program: str) -> str:
    """The path of a program that is needed.

    :raises SystemExit: it is not installed
    """
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        raise SystemExit(f"{program} is not installed: apt-get install nginx-light wrk curl openssl")
    return path


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """CPU that a process used so far, all threads, from the scheduler's own account in nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def peak_megabytes(pid: int) -> float:
    """The most memory that a process held resident so far (VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def workers(pid: int) -> list[int]:
    """The children of a process."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Set:
    """Programs in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, argv: list[str], port: int, env: dict[str, str] | None = None) -> int:
        """Start a program, wait until it listens on ``port``, and give its pid; 0 is no port to wait for."""
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                argv,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        self._running.append(process)
        until = time.monotonic() + START_SECONDS
        while port:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{name} did not start:\n{(self.folder / f'{name}.log').read_text()}")
            time.sleep(0.05)
        return process.pid

    def twistd(self, name: str, args: list[str], port: int, env: dict[str, str] | None = None) -> int:
        """Start one of our plugins in the foreground."""
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
        return self.start(name, [*twistd, *args], port, env)

    def end(self) -> None:
        """End all of them."""
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def programs() -> Iterator[Set]:
    """A :class:`Set` that is ended, and its folder removed, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="wormhole-bench-") as folder:
        running = Set(Path(folder))
        try:
            yield running
        finally:
            running.end()
