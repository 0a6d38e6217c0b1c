"""One command as a process of its own: started without a shell, told signals, ended with all that it has started."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from wormhole_tw.agent.launch import ABOUT_TO, NO_LIMIT, OVER, REPORT, WATCH

__all__ = ["CANNOT_RUN", "NOT_FOUND", "Command", "Ending", "trouble_with"]

_log = Logger()

NOT_FOUND = 127
CANNOT_RUN = 126
"""The exit statuses of shells for a command that does not exist, and for one that cannot be run."""

SIGNALLED = 128
"""Shells add the signal's number to this."""

MAX_LINE = 8192
"""Octets of a line of the command's output that go into our log as one."""

_LOOK = 0.05  # seconds between two looks whether what a command has left behind is gone
_LAST_WORDS = 1.0  # seconds for the rest of its output; a daemon that it has left behind may hold that open for ever
_LAUNCHER = str(Path(__file__).with_name("launch.py"))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended, or that it could not begin.

    :ivar status: what a shell would give: its exit status, or 128 and the number of the signal
    :ivar sentence: the same for people; it begins with the command's name
    """

    status: int
    sentence: str


def trouble_with(command: Sequence[str], environ: Mapping[str, str]) -> Ending | None:
    """Why a command cannot be run, as far as one sees from here; None where it looks as if it could.

    :param environ: its environment, of which ``PATH`` counts
    """
    name = command[0]
    path = environ.get("PATH", os.defpath)
    if not name or shutil.which(name, os.F_OK, path) is None:
        return Ending(NOT_FOUND, _explain(name, errno.ENOENT))
    if shutil.which(name, os.F_OK | os.X_OK, path) is None:
        return Ending(CANNOT_RUN, _explain(name, errno.EACCES))
    return None


def _explain(name: str, number: int) -> str:
    if number == errno.ENOENT and os.path.dirname(name) and os.path.exists(name):
        return f"{name} cannot be run: what its first line (#!) names does not exist"
    if number == errno.ENOENT and not os.path.dirname(name):
        hint = "; there is no shell: for a line with blanks and pipes give sh -c 'LINE'" if " " in name else ""
        return f"{name or 'the empty name'} was not found in PATH{hint}"
    if number == errno.ENOENT:
        return f"{name} does not exist"
    if number == errno.EACCES:
        return f"{name} is not executable"
    if number == errno.ENOEXEC:
        return f"{name} is no program, and has no first line (#!) that names one"
    return f"{name} cannot be run: {os.strerror(number)}"


class Command(ProcessProtocol):
    """A command that runs, or has run.

    :param log_output: what it writes goes into our log, line by line; otherwise it shares our standard streams
    :param descriptors: its soft limit of open files; None leaves it as it is
    :param started: called when it runs
    :param ended: called once, when it has ended or could not begin
    :ivar name: what it is called in logs: its first word, for arguments may hold secrets
    :ivar pid: its process, None before
    :ivar running: it was started, and has not ended
    :ivar ending: None while it runs
    """

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        log_output: bool,
        descriptors: int | None,
        started: Callable[[], None],
        ended: Callable[[Ending], None],
    ) -> None:
        self._reactor = reactor
        self._command = list(command)
        self._environ = dict(environ)
        self._log_output = log_output
        self._descriptors = descriptors
        self._started = started
        self._ended = ended
        self._report = b""
        self._launched = False
        self._exited: Failure | None = None
        self.running = False
        self._signals: list[int] = []
        self._lines = {1: bytearray(), 2: bytearray()}
        self._waiters: list[Deferred[None]] = []
        self._to_read = {1, 2} if log_output else set()
        self._all_read: Deferred[None] | None = None
        self.name = os.path.basename(self._command[0]) or self._command[0]
        self.pid: int | None = None
        self.ending: Ending | None = None

    def start(self) -> None:
        """Start it.

        :raises OSError: there can be no more processes
        """
        limit = NO_LIMIT if self._descriptors is None else str(self._descriptors)
        arguments = [sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), limit, *self._command]
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            streams: dict[int, int | str] = {REPORT: "r", WATCH: "w"}
            for number, stream in enumerate((sys.__stdin__, sys.__stdout__, sys.__stderr__)):
                # One that was closed when we started has become something of ours: a connection to an edge, maybe.
                streams[number] = "r" if self._log_output and number else number if stream is not None else nothing
            self._reactor.spawnProcess(self, sys.executable, arguments, env=self._environ, path=None, childFDs=streams)
        finally:
            os.close(nothing)

    # ProcessProtocol

    def connectionMade(self) -> None:
        self.pid = cast(Any, self.transport).pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == REPORT:
            self._report += data
            return
        lines = self._lines[childFD]
        lines += data
        while (end := lines.find(b"\n")) >= 0 or len(lines) > MAX_LINE:
            end = min(end, MAX_LINE) if end >= 0 else MAX_LINE
            self._say_line(bytes(lines[:end]))
            del lines[: end + (lines[end : end + 1] == b"\n")]

    def _say_line(self, line: bytes) -> None:
        _log.info("{command}: {line}", command=self.name, line=line.decode("utf-8", "replace").rstrip("\r"))

    def childConnectionLost(self, childFD: int) -> None:
        if childFD == REPORT:
            self._launched = True
            if self._exited is not None:
                self._conclude(self._exited)
            elif self._report == ABOUT_TO:  # the exec has closed it; otherwise it has ended, and that is told next
                self.running = True
                self._started()
                signals, self._signals = self._signals, []
                for number in signals:
                    self.signal(number)
            return
        if self._lines.get(childFD):
            rest, self._lines[childFD] = self._lines[childFD], bytearray()
            self._say_line(bytes(rest))
        self._to_read.discard(childFD)
        if self._all_read is not None and not self._to_read:
            waiter, self._all_read = self._all_read, None
            waiter.callback(None)

    def processExited(self, reason: Failure) -> None:
        self._exited = reason
        if self._launched:  # otherwise the pipe has to tell first why it has exited
            self._conclude(reason)

    def _conclude(self, reason: Failure) -> None:
        value: Any = reason.value
        number = int(self._report.removeprefix(ABOUT_TO) or b"0")
        if number:
            status = NOT_FOUND if number == errno.ENOENT and not os.path.exists(self._command[0]) else CANNOT_RUN
            self.ending = Ending(status, _explain(self._command[0], number))
        elif value.signal is not None:
            self.ending = Ending(SIGNALLED + value.signal, f"{self.name} was ended by {_signal_name(value.signal)}")
        else:
            status = value.exitCode or 0
            self.ending = Ending(status, f"{self.name} ended with status {status}")
        self.running = False
        self._ended(self.ending)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    # What one does with it

    def signal(self, number: int) -> None:
        """Send it a signal; once it runs, if it is only about to."""
        if self.running:
            self._kill(number)
        elif self.ending is None:
            self._signals.append(number)

    def _kill(self, number: int) -> None:
        """To the process alone: what it has started is its own to tell, and many servers' workers die of a signal that
        their master knows."""
        if self.pid is None or self.ending is not None:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # it is about to be reaped
        except PermissionError:
            _log.warn("{command} runs as another user: no {signal}", command=self.name, signal=_signal_name(number))

    def kill_group(self) -> None:
        """End it and all that it has started, now. Safe in a signal handler."""
        if self.pid is not None:
            if self.ending is None:
                with suppress(OSError):
                    os.kill(self.pid, signal.SIGKILL)  # it has no group yet, or has left it
            _to_group(self.pid, signal.SIGKILL)

    async def end(self, number: int, seconds: float) -> None:
        """End it: by ``number`` first; what is left after ``seconds`` is killed, with all that it has started.

        What it leaves behind when it ends is told SIGTERM, and has the rest of that time. A process that has made
        itself a session of its own is left alone. What they have written is in the log by then, where it goes there.
        """
        if self.pid is None:
            return
        until = self._reactor.seconds() + seconds
        if self.ending is None:
            self._kill(number)
            self._kill(signal.SIGCONT)  # a stopped one hears nothing
            await self._exit(seconds)
        if self.ending is None:
            sentence = f"{self.name} has not ended {seconds:g} s after {_signal_name(number)}: killed"
            _log.warn("{sentence}", sentence=sentence)
            self.kill_group()
            await self._exit(None)
        if _to_group(self.pid, signal.SIGTERM):
            _to_group(self.pid, signal.SIGCONT)
            while (anybody := _anybody_in(self.pid)) and self._reactor.seconds() < until:
                await deferLater(self._reactor, _LOOK)
            if anybody and _to_group(self.pid, signal.SIGKILL):
                _log.warn("what {command} has left behind did not end: killed", command=self.name)
        if self._to_read:  # its end may be known before its last words are read
            self._all_read = Deferred()
            self._all_read.addTimeout(_LAST_WORDS, self._reactor, onTimeoutCancel=lambda _result, _seconds: None)
            await self._all_read
            self._all_read = None
        self.close()

    def _exit(self, seconds: float | None) -> Deferred[None]:
        """Fires when it has ended, or the time is over."""
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        if self.ending is not None:
            waiter.callback(None)
            return waiter
        self._waiters.append(waiter)
        if seconds is not None:
            waiter.addTimeout(seconds, self._reactor, onTimeoutCancel=lambda _result, _seconds: None)
        return waiter

    def close(self) -> None:
        """Read no more of its output, and dismiss who would end it if we died."""
        process: Any = self.transport
        if process is not None:
            pipes = cast(dict[int, Any], process.pipes)
            if WATCH in pipes:
                with suppress(OSError):  # it was ended by somebody
                    os.write(pipes[WATCH].fileno(), OVER)  # now: the reactor may have no other turn
            for pipe in list(pipes.values()):
                pipe.loseConnection()


def _to_group(pid: int, number: int) -> bool:
    """Send a signal to the group that ``pid`` leads; gives whether there is anybody in it.

    A group's number is nobody else's as long as one process is in it.
    """
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _anybody_in(group: int) -> bool:
    """Whether somebody in a group still runs.  One that has ended counts as long as nobody has asked for its end, which
    the first process of a container may never do: so the kernel is asked who they are, where ``/proc`` tells."""
    if not _to_group(group, 0):
        return False
    states = list(_states_in(group))
    return not states or any(state not in "ZX" for state in states)


def _states_in(group: int) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):  # it is gone meanwhile
            # proc_pid_stat(5): behind the name, which may hold anything, come state, parent and group
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group:
                yield state


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
