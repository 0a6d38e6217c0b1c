"""A program of the operator's that writes the records of DNS-01 challenges.

It is run as ``PROGRAM [ARGUMENT…] present|cleanup RECORD VALUE``, with the record's name ending in the root's dot: the
order of arguments that lego's ``exec`` provider uses, so scripts written for that work here. One run at a time.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.certificates.dns01.interfaces import IRecordWriter
from wormhole_tw.errors import ChallengeFailed
from wormhole_tw.net import children
from wormhole_tw.net.threads import Turns

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

    from wormhole_tw.control.dns import HookConfig

__all__ = ["MAX_OUTPUT", "HookWriter", "hook_environment"]

MAX_OUTPUT = 8192
"""Octets of one run's output that are kept: a traceback or an API's error page; the rest is read and dropped."""

LAST_WORDS = 0.5
"""Seconds to read on after the program ended: something that it left behind may hold its output open for ever."""

_TICK = 0.1
"""Seconds between two looks at whether the program has ended or shall; only while one runs."""

_MAX_LINES = 40
"""Lines of the output that reach the log."""

#: What is the edge's own: tokens, and what systemd gave to this process alone (sd_notify(3), sd_listen_fds(3)).
_PRIVATE = ("FLY_", "WORMHOLE_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")

log = Logger()


def hook_environment(inherited: Mapping[str, str], action: str, name: str, record: str, value: str) -> dict[str, str]:
    """The environment of a run: the edge's, less its secrets, and the same facts as the arguments, by name."""
    environment = {key: text for key, text in inherited.items() if not key.startswith(_PRIVATE)}
    environment.update(
        WORMHOLE_DNS_ACTION=action,
        WORMHOLE_DNS_NAME=name,
        WORMHOLE_DNS_RECORD=record,
        WORMHOLE_DNS_VALUE=value,
    )
    return environment


@implementer(IRecordWriter)
class HookWriter:
    """Runs the program; two of its runs never overlap: scripts that edit a zone's file are seldom ready for that."""

    def __init__(self, reactor: IReactorFromThreads, config: HookConfig) -> None:
        self._turns = Turns(reactor)
        self._config = config

    def add(self, name: str, record: str, value: str) -> Deferred[None]:
        """Have a value added to a record.  Cancelling it kills the program.

        :param name: the challenge's own name, without the root's dot
        :param record: the name to write, which is another where the first is a CNAME
        :raises ChallengeFailed: the program did not start, ended with a status other than 0, or was too slow
        """
        return self._run("present", name, record, value)

    def remove(self, name: str, record: str, value: str) -> Deferred[None]:
        """Have it taken away again; see :meth:`add`."""
        return self._run("cleanup", name, record, value)

    def _run(self, action: str, name: str, record: str, value: str) -> Deferred[None]:
        run = _Run(self._config, action, name, record, value)
        return self._turns.take(run.run, run.kill).addCallback(self._judge, run.program)

    def _judge(self, result: tuple[str, str | None], program: str) -> None:
        output, error = result
        for line in output.splitlines()[:_MAX_LINES]:
            log.info("{program}: {line}", program=program, line=line)
        if error is not None:
            raise ChallengeFailed(error)


class _Run:
    """One run of the program, all of it in one thread, except for :meth:`kill`."""

    def __init__(self, config: HookConfig, action: str, name: str, record: str, value: str) -> None:
        self.program = os.path.basename(config.command[0])
        self._config = config
        self._action = action
        self._arguments = [*config.command, action, f"{record}.", value]
        self._environment = hook_environment(os.environ, action, name, record, value)
        self._killed = threading.Event()

    def kill(self) -> None:
        """From any thread: have it ended, now or as soon as it begins."""
        self._killed.set()

    def run(self) -> tuple[str, str | None]:
        """Start it and wait for its end.

        :return: what it wrote, and what went wrong, in one sentence, or None
        """
        try:
            # A session of its own, so that what it starts can be killed with it; no descriptor of ours but these three.
            process = children.start(
                lambda: subprocess.Popen(
                    self._arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env=self._environment,
                    close_fds=True,
                    start_new_session=True,
                )
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            return "", f"{self.program} (tls.dns.hook) cannot be started: {reason}"
        assert process.stdout is not None
        try:
            with process.stdout:
                output, too_slow = self._watch(process, process.stdout.fileno())
        finally:
            children.forget(process)
        said = _text(output)
        if too_slow:
            limit = f"{self._config.timeout:g}"
            return said, f"{self.program} {self._action} was ended after {limit} s (tls.dns.hook_timeout)"
        status = process.returncode
        if status == 0:
            return said, None
        how = f"by {_signal_name(-status)}" if status < 0 else f"with status {status}"
        last = said.splitlines()[-1] if said else "it said nothing"
        return said, f"{self.program} {self._action} ended {how}: {last}"

    def _watch(self, process: subprocess.Popen[bytes], pipe: int) -> tuple[bytes, bool]:
        """Read until its end, or until it has to be killed; whichever way, it is reaped afterwards."""
        output = bytearray()
        deadline = time.monotonic() + self._config.timeout
        too_slow = False
        open_pipe = True
        while process.poll() is None:
            if too_slow := time.monotonic() >= deadline or self._killed.is_set():
                break
            if not open_pipe:
                self._killed.wait(_TICK)
            elif _readable(pipe, _TICK):
                open_pipe = _read(pipe, output)
        if too_slow:
            _kill_group(process.pid)  # not reaped yet, so that number is nobody else's
            process.wait()
        else:
            # What it left running is its own affair (a script may well start a name server), and so is its output.
            until = time.monotonic() + LAST_WORDS
            while open_pipe and (left := until - time.monotonic()) > 0 and _readable(pipe, left):
                open_pipe = _read(pipe, output)
        return bytes(output), too_slow


def _readable(pipe: int, seconds: float) -> bool:
    """Whether there is something to read, or its end; not select(2), which takes no descriptor above 1023."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _read(pipe: int, output: bytearray) -> bool:
    """Take what there is; False at its end."""
    data = os.read(pipe, 65536)
    output += data[: MAX_OUTPUT - len(output)]
    return bool(data)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended by itself (PermissionError: macOS, for a zombie)


def _text(output: bytes) -> str:
    """What a program wrote, fit for a log: no control characters but ends of lines."""
    text = output.decode("utf-8", errors="replace")
    return "".join(char if char == "\n" or char.isprintable() else " " for char in text).strip()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
