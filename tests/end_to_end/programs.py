"""Real programs for the end-to-end tests: started, watched by what they print, and always ended.

Nothing here sleeps but :func:`wait_until`.  A test waits for a line of output, for an exit, or for an answer; each with
a deadline.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests._ports import free_port
from tests._support import TRANSPORTS

__all__ = [
    "LINE_DEADLINE",
    "SRC",
    "TWISTD",
    "Program",
    "Programs",
    "free_port",
    "need_program",
    "programs",
    "wait_until",
]

SRC = Path(__file__).resolve().parents[2] / "src"
LINE_DEADLINE = 30.0
"""Seconds to wait for a line or an exit: far more than any of them takes, on a busy machine of two cores."""

TWISTD = (sys.executable, str(Path(sys.executable).with_name("twistd")))


def need_program(name: str) -> str:
    """The path of a program, or a skip that names it (a failure where ``CI=true``)."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        message = f"the program {name!r} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def wait_until(
    true: Callable[[], object], seconds: float = LINE_DEADLINE, *, every: float = 0.02, program: Program | None = None
) -> float:
    """Look until it is true, for what nobody tells; fails where it does not come to be so in time.

    :param every: seconds between two looks, 0 where looking waits itself
    :param program: brings it about: the failure shows what it said, and comes at once where it has ended
    :returns: the seconds that it took
    """
    began = time.monotonic()
    while not true():
        said = "" if program is None else f":\n{program.output}"
        assert program is None or program.running, f"{program.name} has ended, and it never came to be so{said}"
        assert time.monotonic() - began < seconds, f"it did not come to be so within {seconds:g} s{said}"
        time.sleep(every)
    return time.monotonic() - began


class Program:
    """A child process whose output can be waited for, line by line.

    :param name: for messages
    :param argv: program and arguments
    :param env: added to a bare environment (PATH, HOME and the source folder)
    :param cwd: its working folder
    """

    def __init__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.name = name
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._closed = False
        # Only what a program may rely on: a variable of the person who runs the tests must not change them.
        wanted = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START", TRANSPORTS)
        base = {key: os.environ[key] for key in wanted if key in os.environ}
        base["PYTHONPATH"] = str(SRC)
        base["PYTHONUNBUFFERED"] = "1"
        self.process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**base, **(env or {})},
            cwd=cwd,
            text=True,
            errors="replace",
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, name=f"{name} output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        with self._news:
            return "\n".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    def wait_for(self, pattern: str, *, after: int = 0, deadline: float = LINE_DEADLINE) -> re.Match[str]:
        """The first match of ``pattern`` in a line from number ``after`` on; waits for it.

        Fails the test with the whole output where the program ends, or the deadline comes, first.
        """
        wanted = re.compile(pattern)
        until = time.monotonic() + deadline
        seen = after
        with self._news:
            while True:
                while seen < len(self.lines):
                    match = wanted.search(self.lines[seen])
                    seen += 1
                    if match:
                        return match
                left = until - time.monotonic()
                if self._closed or left <= 0:
                    why = "ended" if self._closed else f"said nothing of it in {deadline} s"
                    raise AssertionError(f"{self.name} {why}; waited for {pattern!r} in:\n" + "\n".join(self.lines))
                self._news.wait(left)

    def count(self, pattern: str) -> int:
        """How many lines match so far."""
        wanted = re.compile(pattern)
        with self._news:
            return sum(1 for line in self.lines if wanted.search(line))

    def mark(self) -> int:
        """The number of lines so far, for ``wait_for(after=…)``."""
        with self._news:
            return len(self.lines)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, deadline: float = LINE_DEADLINE) -> int:
        """The exit status; fails with the output where it does not end in time."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end in {deadline} s:\n{self.output}") from None
        self._reader.join(LINE_DEADLINE)
        return status

    def stop(self, number: int = signal.SIGTERM, deadline: float = LINE_DEADLINE) -> int:
        """Send a signal and wait for the exit status."""
        self.send(number)
        return self.wait(deadline)

    def peak_memory(self) -> int:
        """The most memory it ever held resident, in bytes."""
        return self._memory("VmHWM")

    def resident_memory(self) -> int:
        """The memory that it holds resident now, in bytes."""
        return self._memory("VmRSS")

    def _memory(self, which: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{which}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name} has no {which}: it has ended")

    def end(self) -> None:
        """End it whatever state it is in: stopped, hanging, gone."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


class Programs:
    """Starts programs and ends every one of them, the newest first."""

    def __init__(self) -> None:
        self._all: list[Program] = []

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Program:
        program = Program(name, argv, env=env, cwd=cwd)
        self._all.append(program)
        return program

    def python(self, name: str, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Program:
        """A program in this Python (``-m`` and what follows, or a script)."""
        return self.start(name, [sys.executable, *args], env=env, cwd=cwd)

    def twistd(
        self, name: str, plugin: str, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Program:
        """``twistd -n PLUGIN …``, as an operator runs it."""
        return self.start(name, [*TWISTD, "-n", plugin, *args], env=env, cwd=cwd)

    def named(self, name: str) -> Program:
        """The program started last under this name."""
        return next(program for program in reversed(self._all) if program.name == name)

    def outputs(self) -> str:
        """What each has said, for whoever wants to know why it did not come up."""
        return "\n".join(f"--- {program.name} ---\n{program.output}" for program in self._all)

    def end_all(self) -> None:
        while self._all:
            self._all.pop().end()


@contextlib.contextmanager
def programs() -> Iterator[Programs]:
    mine = Programs()
    try:
        yield mine
    except BaseException as error:
        # whatever it was (a deadline from outside too): what the programs said is all that tells why
        error.add_note(mine.outputs())
        raise
    finally:
        mine.end_all()
