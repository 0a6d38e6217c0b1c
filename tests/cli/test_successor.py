"""Starting the process that replaces this one: what becomes of the two, whatever the new one does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from tests._harness import LogLines
from wormhole_tw.cli import successor
from wormhole_tw.cli.notify import Notifier
from wormhole_tw.cli.successor import Succession
from wormhole_tw.net.listening import open_port

SERVES = """
import os
from wormhole_tw.net.inherited import inherit
inherited, predecessor = inherit(os.environ)
own = inherited.take("tcp:0:interface=127.0.0.1", None)
assert own.getsockname()[1] == {port}
assert os.environ["NOTIFY_SOCKET"] == "@nobody"
assert os.getcwd() == {folder!r}
predecessor.tell()
"""


class Process:
    """A reactor that the test does not want to end."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.stopped: Deferred[None] = Deferred()
        self.before_shutdown: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def addSystemEventTrigger(self, phase: str, event: str, call: Any) -> None:
        assert (phase, event) == ("before", "shutdown")
        self.before_shutdown.append(call)

    def stop(self) -> None:
        for call in self.before_shutdown:
            call()
        self.stopped.callback(None)


@pytest.fixture
def becomes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say what the new process does."""

    def program(text: str) -> None:
        monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", text])

    return program


async def test_it_has_the_sockets_and_then_the_place(
    reactor: Any, becomes: Any, log_lines: LogLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory: Factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    description = "tcp:0:interface=127.0.0.1"
    port: Any = open_port(reactor, description, factory, source="test", key="port")
    becomes(SERVES.format(port=port.getHost().port, folder=os.getcwd()))
    handed: list[str] = []
    process = Process(reactor)
    succession = Succession(process, ports=lambda: [(description, port)], hand_over=lambda: handed.append("over"))
    succession.settle(Notifier({"NOTIFY_SOCKET": "@nobody"}))
    monkeypatch.chdir(tmp_path)  # as twistd does with --rundir
    succession.begin()
    succession.begin()  # one is enough
    await process.stopped
    assert handed == ["over"]
    assert len(log_lines.matching("takes over when it serves")) == 1
    assert len(log_lines.matching("has taken over; finishing what runs")) == 1
    succession.begin()
    assert len(log_lines.matching("takes over when it serves")) == 1
    await port.stopListening()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise SystemExit(3)", "it ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "it was killed"),
        ("import time; time.sleep(100)", "it did not serve within 1 s"),
        ("import os, time; os.write(3, b'nonsense'); time.sleep(100)", "it did not serve within 1 s"),
    ],
)
async def test_one_that_does_not_come_so_far(
    reactor: Any, becomes: Any, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.setattr(successor, "START_WITHIN", 1.0)
    becomes(text)
    process = Process(reactor)
    succession = Succession(process)
    succession.begin()
    await log_lines.wait_for(f"did not take over: {why}; this one goes on")
    log_lines.clear()
    becomes("raise SystemExit(4)")
    succession.begin()  # it may be tried again
    await log_lines.wait_for("did not take over: it ended with status 4")
    assert not process.stopped.called


async def test_this_one_ends_before_the_new_one_serves(reactor: Any, becomes: Any, log_lines: LogLines) -> None:
    becomes("import time; time.sleep(100)")
    process = Process(reactor)
    succession = Succession(process)
    succession.begin()
    pid = int((await log_lines.wait_for("takes over when it serves"))["pid"])
    process.stop()
    descriptor = os.pidfd_open(pid)
    gone: Deferred[None] = Deferred()

    class Ended:
        def fileno(self) -> int:
            return descriptor

        def doRead(self) -> None:
            reactor.removeReader(self)
            gone.callback(None)

        def connectionLost(self, reason: Any) -> None:
            """Nobody is left to be told."""

        def logPrefix(self) -> str:
            return "test"

    reactor.addReader(Ended())
    await gone
    os.close(descriptor)
    assert "did not take over" not in log_lines


def test_where_it_cannot_be(reactor: Any, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines) -> None:
    Succession(Process(reactor), foreground=False).begin()
    assert "only a process in the foreground" in log_lines
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        Succession(Process(reactor)).begin()
    assert "the first process of a container cannot be replaced" in log_lines

    def refuse(*_: object) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(successor, "hand_on", refuse)
    succession = Succession(Process(reactor))
    succession.begin()
    assert "no new process can be started" in log_lines
