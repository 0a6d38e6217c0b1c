"""The shorter way from epoll to a transport, on a reactor of its own that nobody runs."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests._harness import LoggedFailures
from wormhole_tw.cli import polling
from wormhole_tw.net.turn import turn_end_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


class Reader:
    """One end of a pair, as a reactor's selectable."""

    def __init__(self) -> None:
        self.socket, self.far = socket.socketpair()
        self.socket.setblocking(False)
        self.seen: list[bytes] = []
        self.lost: list[Any] = []
        self.fault: Exception | None = None
        self.answer: Any = None

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "reader"

    def doRead(self) -> Any:
        self.seen.append(self.socket.recv(100))
        if self.fault is not None:
            raise self.fault
        return self.answer

    def connectionLost(self, reason: Any) -> None:
        self.lost.append(reason)

    def close(self) -> None:
        self.socket.close()
        self.far.close()


@pytest.fixture
def loop() -> Iterator[Any]:
    from twisted.internet.epollreactor import EPollReactor

    from wormhole_tw.cli.polling import dispatch_directly

    reactor: Any = EPollReactor()
    assert dispatch_directly(reactor)
    yield reactor
    for reader in [*reactor.removeAll(), *reactor._internalReaders]:
        reader.connectionLost(None)
    reactor._poller.close()


@pytest.fixture
def reader(loop: Any) -> Iterator[Reader]:
    reader = Reader()
    loop.addReader(reader)
    yield reader
    loop.removeReader(reader)
    reader.close()


def test_what_is_readable_is_read_and_the_turn_ends_behind_it(loop: Any, reader: Reader) -> None:
    turn = turn_end_of(loop)
    order: list[object] = []
    read = reader.doRead

    def do_read() -> Any:
        turn.call(lambda: order.append("end of turn"))
        order.append("read")
        return read()

    reader.doRead = do_read  # type: ignore[method-assign]
    reader.far.send(b"one")
    loop.doIteration(None)
    assert reader.seen == [b"one"]
    assert order == ["read", "end of turn"]
    assert loop.getDelayedCalls() == []


def test_nothing_that_waits_for_the_end_of_a_turn_waits_for_an_event(loop: Any) -> None:
    seen: list[int] = []
    turn_end_of(loop).call(lambda: seen.append(1))  # as a delayed call does
    loop.doIteration(None)  # would sleep for ever
    assert seen == [1]


@pytest.mark.parametrize("what", ["nothing", "a delayed call", "a thread's call", "its end", "a turn without end"])
def test_polls_follow_each_other_until_the_loop_has_something_to_do(loop: Any, reader: Reader, what: str) -> None:
    turn = turn_end_of(loop)
    read = reader.doRead
    rounds: list[int] = []

    def again() -> None:
        turn.call(again)

    def do_read() -> Any:
        rounds.append(len(rounds))
        if len(rounds) == 3 and what != "nothing":
            match what:
                case "a delayed call":
                    loop.callLater(60, rounds.clear)
                case "a thread's call":
                    loop.callFromThread(rounds.clear)
                case "its end":
                    loop._justStopped = True
                case _:
                    turn.call(again)
        why = read()
        reader.far.send(b"more")
        return why

    reader.doRead = do_read  # type: ignore[method-assign]
    loop.running = True  # as it is while somebody runs it
    reader.far.send(b"one")
    loop.doIteration(10)
    loop.running = False
    assert len(rounds) == (polling.ROUNDS if what == "nothing" else 3)
    assert all(seen == b"more" for seen in reader.seen[1:])
    for call in loop.getDelayedCalls():
        call.cancel()
    del loop.threadCallQueue[:]
    loop._justStopped = False
    turn._functions.clear()


def test_no_poll_sleeps_beyond_what_is_due(loop: Any, reader: Reader) -> None:
    loop.running = True
    call = loop.callLater(0.001, lambda: None)
    loop.timeout()  # which takes it in
    reader.far.send(b"one")
    while call.time > loop.seconds():
        loop.doIteration(10)  # the second poll of one would sleep for ever
    assert reader.seen == [b"one"]
    loop.running = False
    call.cancel()


def test_who_fails_to_read_is_disconnected_and_logged(
    loop: Any, reader: Reader, logged_failures: LoggedFailures
) -> None:
    reader.fault = ZeroDivisionError("a fault")
    reader.far.send(b"one")
    loop.doIteration(None)
    assert [reason.type for reason in reader.lost] == [ZeroDivisionError]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert reader not in loop.getReaders()


def test_who_says_that_it_is_over_is_disconnected(loop: Any, reader: Reader) -> None:
    from twisted.internet.main import CONNECTION_LOST

    reader.answer = CONNECTION_LOST
    reader.far.send(b"one")
    loop.doIteration(None)
    assert [reason.type for reason in reader.lost] == [type(CONNECTION_LOST)]


def test_an_end_goes_twisteds_way(loop: Any, reader: Reader) -> None:
    reader.far.close()
    loop.doIteration(None)
    assert reader.seen == [b""]


def test_other_reactors_are_left_alone() -> None:
    from wormhole_tw.cli.polling import dispatch_directly

    assert not dispatch_directly(Clock())


def test_who_reads_and_writes_comes_and_goes_as_with_twisted(loop: Any, reader: Reader) -> None:
    for twice in (loop.addReader, loop.addReader, loop.addWriter, loop.addWriter):
        twice(reader)
    assert (loop.getReaders().count(reader), loop.getWriters()) == (1, [reader])
    loop.removeReader(reader)
    assert (reader in loop.getReaders(), loop.getWriters()) == (False, [reader])
    loop.addReader(reader)
    loop.removeWriter(reader)
    loop.removeWriter(reader)
    assert (reader in loop.getReaders(), loop.getWriters()) == (True, [])
    reader.far.send(b"one")
    loop.doIteration(None)
    assert reader.seen == [b"one"]
    loop.removeReader(reader)
    loop.removeReader(reader)
    assert reader not in loop.getReaders()


def test_who_is_closed_already_goes_quietly(loop: Any, reader: Reader) -> None:
    loop.removeReader(reader)
    reader.socket.close()
    loop.removeReader(reader)
    loop.removeWriter(reader)
    assert reader not in loop.getReaders() + loop.getWriters()


def test_a_file_which_epoll_does_not_take_is_read_all_the_same(loop: Any, tmp_path: Path) -> None:
    class File(Reader):
        def __init__(self) -> None:
            super().__init__()
            self.file = (tmp_path / "file").open("w+")

        def fileno(self) -> int:
            return self.file.fileno()

    file = File()
    loop.addReader(file)
    loop.addWriter(file)
    assert loop.getReaders().count(file) == 1
    assert loop.getWriters() == [file]
    loop.removeReader(file)
    loop.removeWriter(file)
    assert file not in loop.getReaders() + loop.getWriters()
    file.file.close()
    file.close()
