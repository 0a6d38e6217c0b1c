"""Producers on the TLS engine: paused, resumed and stopped as `IConsumer` says, with nothing lost and little held."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import _producer_helpers
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.task import Clock, Cooperator
from zope.interface import implementer

from tests.net.engines import App, Conversation, HalfApp, Matrix

pytestmark = pytest.mark.usefixtures("way_through_openssl")

PIECE = bytes(range(250)) * 40
PIECES = 200
HELD = 400_000
"""More octets than may wait anywhere: a buffer of 64 KiB in the engine, one in the transport, what was being made, and
the ciphertext of as much."""


@implementer(IPushProducer, IPullProducer)
class Producer:
    """Makes pieces until it is paused, or one when it is asked.

    :ivar end: called when all were made
    """

    def __init__(self, consumer: Any, streaming: bool, pieces: int = PIECES, end: Any = None) -> None:
        self.consumer = consumer
        self.streaming = streaming
        self.left = pieces
        self.end = end
        self.calls: list[str] = []
        self._paused = True

    def start(self) -> None:
        self.consumer.registerProducer(self, self.streaming)
        if self.streaming:
            self._go()

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self._go()

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        self._paused = True

    def stopProducing(self) -> None:
        self.calls.append("stop")
        self._paused = True
        self.left = 0

    def _go(self) -> None:
        self._paused = False
        while self.left and not self._paused:
            self.left -= 1
            self.consumer.write(PIECE)
            if not self.left:
                self.consumer.unregisterProducer()
                if self.end is not None:
                    self.end()
            if not self.streaming:
                return


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The wire's; Twisted's TLS asks pull producers by the global cooperator, which for once runs by it, too."""
    made = Clock()
    cooperator = Cooperator(scheduler=lambda function: made.callLater(0, function))
    monkeypatch.setattr(_producer_helpers, "cooperate", cooperator.cooperate)
    return made


@pytest.mark.parametrize("streaming", [True, False])
def test_all_arrives_and_little_is_held(matrix: Matrix, streaming: bool, clock: Clock) -> None:
    talk = Conversation(*matrix, clock=clock)
    talk.shake()
    talk.far_end.pauseProducing()
    producer = Producer(talk.tls, streaming)
    producer.start()
    talk.run()
    assert producer.left > PIECES // 2
    assert "pause" in producer.calls or not streaming
    talk.far_end.resumeProducing()
    talk.run()
    assert producer.left == 0
    assert talk.far.received == PIECE * PIECES
    assert talk.near_end.most < HELD
    assert "stop" not in producer.calls


@pytest.mark.parametrize("streaming", [True, False])
def test_paused_again_and_again(matrix: Matrix, streaming: bool, clock: Clock) -> None:
    talk = Conversation(*matrix, clock=clock)
    talk.shake()
    producer = Producer(talk.tls, streaming)
    producer.start()
    while producer.left:
        talk.far_end.pauseProducing()
        talk.run()
        before = producer.left
        talk.far_end.resumeProducing()
        talk.run()
        assert producer.left < before
    assert talk.far.received == PIECE * PIECES


@pytest.mark.parametrize("streaming", [True, False])
def test_registered_before_the_handshake(role: str, version: str, streaming: bool, clock: Clock) -> None:
    made: list[Producer] = []

    class Early(App):
        def connectionMade(self) -> None:
            made.append(Producer(self.transport, streaming))
            made[0].start()

    talk = Conversation(role, "ssl", version, clock=clock, app=Early())
    talk.far_end.barrier = 0  # nothing comes: the handshake waits
    talk.run()
    assert made[0].left > PIECES // 2
    talk.far_end.barrier = None
    talk.run()
    assert talk.far.received == PIECE * PIECES


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_the_end_comes_behind_what_the_producer_made(matrix: Matrix, streaming: bool, half: bool, clock: Clock) -> None:
    talk = Conversation(*matrix, clock=clock, app=HalfApp())
    talk.shake()
    producer = Producer(talk.tls, streaming)
    producer.end = talk.tls.loseWriteConnection if half else talk.tls.loseConnection
    producer.start()
    talk.run()
    assert talk.far.received == PIECE * PIECES
    assert talk.far.ended


@pytest.mark.parametrize("streaming", [True, False])
def test_lose_connection_waits_for_the_producer(matrix: Matrix, streaming: bool, clock: Clock) -> None:
    talk = Conversation(*matrix, clock=clock)
    talk.shake()
    talk.far_end.pauseProducing()
    producer = Producer(talk.tls, streaming)
    producer.start()
    talk.tls.loseConnection()
    talk.run()
    assert producer.left
    assert talk.app.reason is None
    talk.far_end.resumeProducing()
    talk.run()
    assert talk.far.received == PIECE * PIECES
    assert talk.far.ended
    talk.far.finish()
    talk.run()
    assert isinstance(talk.app.reason, ConnectionDone)


def test_what_is_written_last_leaves_before_the_end(matrix: Matrix, clock: Clock) -> None:
    talk = Conversation(*matrix, clock=clock)
    talk.shake()
    producer = Producer(talk.tls, True, 0)
    talk.tls.registerProducer(producer, True)
    talk.tls.loseConnection()
    talk.tls.write(b"the producer's last word")
    talk.tls.unregisterProducer()
    talk.tls.write(b"too late")
    talk.run()
    assert talk.far.received == b"the producer's last word"
    assert talk.far.ended


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("how", ["ours", "theirs", "abort"])
def test_stopped_when_the_connection_is_lost(matrix: Matrix, streaming: bool, how: str, clock: Clock) -> None:
    talk = Conversation(*matrix, clock=clock)
    talk.shake()
    talk.far_end.pauseProducing()
    producer = Producer(talk.tls, streaming, 10_000)
    producer.start()
    talk.run()
    if how == "ours":
        talk.tls.abortConnection()
    elif how == "theirs":
        talk.far_end.abortConnection()
    else:
        talk.near_end.abortConnection()
    talk.run()
    assert talk.app.events[-1] == "lost"
    assert producer.calls.count("stop") == 1
    late = Producer(talk.tls, True, 0)
    talk.tls.registerProducer(late, True)
    assert late.calls == ["stop"]
    talk.tls.unregisterProducer()


def test_two_at_once_are_refused_and_one_after_the_other_are_not(matrix: Matrix, clock: Clock) -> None:
    talk = Conversation(*matrix, clock=clock)
    talk.shake()
    talk.tls.registerProducer(Producer(talk.tls, True), True)
    with pytest.raises(RuntimeError):
        talk.tls.registerProducer(Producer(talk.tls, True), True)
    talk.tls.unregisterProducer()
    talk.tls.unregisterProducer()
    for streaming in (True, False, True):
        Producer(talk.tls, streaming, 20).start()
        talk.run()
    assert talk.far.received == PIECE * 60


def test_reading_is_paused_and_resumed(matrix: Matrix, clock: Clock) -> None:
    talk = Conversation(*matrix, clock=clock)
    talk.shake()
    talk.run()
    talk.tls.pauseProducing()
    talk.far.send(PIECE)
    talk.run()
    assert talk.app.received == b""
    talk.tls.resumeProducing()
    talk.run()
    assert talk.app.received == PIECE


def test_paused_while_it_reads(matrix: Matrix, clock: Clock) -> None:
    class Slow(App):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.pauseProducing()

    talk = Conversation(*matrix, clock=clock, app=Slow())
    talk.shake()
    talk.wire.cut(20_000)
    talk.far.send(PIECE * 20)
    talk.run()
    turns = 0
    while len(talk.app.received) < len(PIECE) * 20:
        turns += 1
        assert turns < 100
        talk.tls.resumeProducing()
        talk.run()
    assert turns > 5
    assert talk.app.received == PIECE * 20
