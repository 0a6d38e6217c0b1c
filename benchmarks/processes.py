"""The programs of a measurement: started on free ports of loopback, and ended whatever happens.

Every program leads a process group of its own and is killed by the kernel when the benchmark is (PR_SET_PDEATHSIG);
in any other case :meth:`Set.end` ends it, with all that it has started.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import wormhole_tw

__all__ = ["ROOT", "Failed", "Set", "clean_environment", "family", "find", "free_port", "programs", "which"]

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

START_SECONDS = 20.0
"""How long a program may take until it listens."""

END_SECONDS = 5.0
"""How long a program has to end after SIGTERM."""

TICK = 0.1
"""Seconds between two looks at a program that is waited for."""

_PORTS = (10_240, 32_768)
_PR_SET_PDEATHSIG = 1
_PROCESS_CONTROL: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


class Failed(Exception):
    """A measurement that cannot be had; says why in one sentence, or with the output of the program that failed."""


def which(program: str) -> str | None:
    """The path of a program, also where root's programs are; None where it is not installed."""
    return shutil.which(program) or shutil.which(program, path=_SYSTEM_FOLDERS)


def find(program: str) -> str:
    """The path of a program that is needed.

    :raises Failed: it is not installed
    """
    path = which(program)
    if path is None:
        raise Failed(f"{program} is not installed: make bench-deps")
    return path


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago, and is not of those that the system gives to connections."""
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def clean_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the programs: without what would configure an edge or an agent, and with the package that the
    benchmark itself has imported."""
    environment = {name: value for name, value in environ.items() if not name.startswith(("FLY_", "WORMHOLE_EDGE_"))}
    package = str(Path(wormhole_tw.__file__).resolve().parent.parent)
    paths = [package, str(ROOT), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def family(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they run."""
    found = [pid]
    for member in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                with contextlib.suppress(OSError):
                    found += [int(text) for text in (task / "children").read_text().split()]
    return found


class Set:
    """Programs in a folder of their own.

    :param folder: where they run, and where their logs are
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        name: str,
        argv: Sequence[str],
        port: int = 0,
        *,
        env: Mapping[str, str] | None = None,
        ready: str = "",
        seconds: float = START_SECONDS,
    ) -> int:
        """Start a program and give its pid, once it listens on ``port`` (0: none) and has printed ``ready``.

        :raises Failed: it ended, or was not ready in time
        """
        process = self._spawn(name, argv, env)
        until = time.monotonic() + seconds
        while not (_listens(port) and self._has_said(name, ready)):
            if process.poll() is not None or time.monotonic() > until:
                how = "was not ready in time" if process.poll() is None else f"ended with status {process.returncode}"
                raise Failed(f"{name} {how}:\n{self.log(name)}")
            time.sleep(TICK / 5)
        return process.pid

    def run(
        self, name: str, argv: Sequence[str], seconds: float, *, meanwhile: Callable[[], object] = lambda: None
    ) -> str:
        """Run a program to its end and give its standard output; ``meanwhile()`` is called about ten times a second.

        :raises Failed: it failed, or took longer than ``seconds``
        """
        return self.run_all(name, [argv], seconds, meanwhile=meanwhile)[0]

    def run_all(
        self,
        name: str,
        commands: Sequence[Sequence[str]],
        seconds: float,
        *,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> list[str]:
        """The same for several programs at once.

        :raises Failed: one failed, or took longer than ``seconds``
        """
        names = [name if len(commands) == 1 else f"{name}-{number}" for number in range(len(commands))]
        started: list[subprocess.Popen[bytes]] = []
        until = time.monotonic() + seconds
        try:
            for each, argv in zip(names, commands, strict=True):
                started.append(self._spawn(each, argv, None, errors=f"{each}.errors"))
            for each, process in zip(names, started, strict=True):
                while True:
                    try:
                        process.wait(TICK)
                        break
                    except subprocess.TimeoutExpired:
                        meanwhile()
                    if time.monotonic() > until:
                        raise Failed(f"{each} did not end within {seconds:.0f} s:\n{self.log(each)}")
                if process.returncode:
                    errors = (self.folder / f"{each}.errors").read_text(errors="replace")
                    raise Failed(f"{each} ended with status {process.returncode}:\n{self.log(each)}{errors}".strip())
        finally:
            self._end(started)
        return [self.log(each) for each in names]

    def runs(self, pid: int) -> bool:
        """Whether a program that was started has not ended."""
        return any(process.pid == pid and process.poll() is None for process in self._running)

    def stop(self, pid: int) -> None:
        """End one program that was started."""
        self._end([process for process in self._running if process.pid == pid])

    def log(self, name: str) -> str:
        """What a program has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def twistd(self, name: str, args: Sequence[str], port: int, *, env: Mapping[str, str] | None = None) -> int:
        """Start one of our plugins in the foreground, with the Python that runs here."""
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
        return self.start(name, [*twistd, *args], port, env=env)

    def end(self) -> None:
        """End all of them."""
        self._end(self._running[:])

    def _spawn(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None, errors: str = ""
    ) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def die_with_parent() -> None:
            if _PROCESS_CONTROL is not None:
                _PROCESS_CONTROL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:  # it went before we asked
                    os._exit(1)

        with contextlib.ExitStack() as files:
            out = files.enter_context(open(self.folder / f"{name}.log", "wb"))
            err = files.enter_context(open(self.folder / errors, "wb")) if errors else subprocess.STDOUT
            process = subprocess.Popen(
                list(argv),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**clean_environment(), **(env or {})},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._running.append(process)
        return process

    def _has_said(self, name: str, ready: str) -> bool:
        return not ready or ready in self.log(name)

    def _end(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        # A program may have put what it started into another session, as sshd does: by descent it is found all the
        # same, for as long as its parent lives.
        others = {pid for process in processes if process.poll() is None for pid in family(process.pid)[1:]}
        for process in reversed(processes):
            _kill_group(process, signal.SIGTERM)
        until = time.monotonic() + END_SECONDS
        for process in reversed(processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(until - time.monotonic(), 0.01))
            _kill_group(process, signal.SIGKILL)
            process.wait()
            if process in self._running:
                self._running.remove(process)
        for pid in others:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _kill_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(OSError):  # nobody of the group is left
        os.killpg(process.pid, number)


def _listens(port: int) -> bool:
    if port:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
    return not port


@contextlib.contextmanager
def programs() -> Iterator[Set]:
    """A :class:`Set` that is ended, and its folder removed, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="wormhole-bench-", ignore_cleanup_errors=True) as folder:
        running = Set(Path(folder))
        try:
            yield running
        finally:
            running.end()
