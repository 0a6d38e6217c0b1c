"""Real processes of ``twistd`` for tests, watched by the reactor of the test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests import _support


class Program(ProcessProtocol):
    """A process: what it says, and how it ends.

    :ivar output: standard output and standard error so far
    :ivar status: its exit status, or the negative number of the signal that ended it; None while it runs
    """

    transport: Any

    def __init__(self) -> None:
        self.output = ""
        self.status: int | None = None
        self._ended: list[Deferred[int]] = []
        self._waiters: list[tuple[str, Deferred[None]]] = []

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data.decode("utf-8", "replace")
        for waiter in [waiter for waiter in self._waiters if waiter[0] in self.output]:
            self._waiters.remove(waiter)
            waiter[1].callback(None)

    def processEnded(self, reason: Failure) -> None:
        value = reason.value
        self.status = (
            0 if isinstance(value, ProcessDone) else (value.exitCode if value.signal is None else -value.signal)
        )  # type: ignore[attr-defined]
        waiters, self._waiters = self._waiters, []
        for text, waiter in waiters:
            waiter.errback(AssertionError(f"it ended ({self.status}) and never said {text!r}:\n{self.output}"))
        ended, self._ended = self._ended, []
        for deferred in ended:
            deferred.callback(self.status)

    def says(self, text: str) -> Deferred[None]:
        """Fires when it has said this."""
        said: Deferred[None] = Deferred()
        if text in self.output:
            said.callback(None)
        elif self.status is not None:
            said.errback(AssertionError(f"it ended ({self.status}) and never said {text!r}:\n{self.output}"))
        else:
            self._waiters.append((text, said))
        return said

    def end(self) -> Deferred[int]:
        """Fires with its status when it has ended."""
        ended: Deferred[int] = Deferred()
        if self.status is not None:
            ended.callback(self.status)
        else:
            self._ended.append(ended)
        return ended

    def signal(self, name: str) -> None:
        self.transport.signalProcess(name)

    async def kill(self) -> None:
        """End it, however it is."""
        if self.status is None:
            os.kill(self.transport.pid, signal.SIGKILL)
            await self.end()


def twistd(
    reactor: Any,
    *arguments: str,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    script: str = "from twisted.scripts.twistd import run; run()",
    terminal: bool = False,
) -> Program:
    """``twistd`` with these arguments, in this folder; the environment holds nothing of the test's own ``FLY_*``, nor
    a proxy.

    :param script: Python to run in its place
    :param terminal: in a terminal of its own, at which ``transport.write(b"\\x03")`` is Ctrl-C
    """
    program = Program()
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FLY_") and not name.lower().endswith("_proxy")
    }
    environment = {**clean, "PYTHONPATH": str(_support.SRC), "PYTHONUNBUFFERED": "1", **(environ or {})}
    command = [sys.executable, "-c", script, *arguments]
    reactor.spawnProcess(program, sys.executable, command, env=environment, path=str(folder), usePTY=terminal)
    return program
