"""Relays: bytes both ways, backpressure, half-close, and which error does what to whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.fakes import BoundedTransport
from wormhole_tw.net.immediate import immediate_port, immediate_reactor
from wormhole_tw.net.relay import Relay, RelayEnd


class Pair:
    """A relay over two bounded transports."""

    def __init__(self, *, connect: str = "near far", capacity: int = 1000, **hooks: Any) -> None:
        self.done = 0
        self.relay = Relay(on_done=self._done, **hooks)
        self.near = BoundedTransport(self.relay.near, capacity=capacity)
        self.far = BoundedTransport(self.relay.far, capacity=capacity)
        for name in connect.split():
            self.connect(name)

    def connect(self, name: str) -> None:
        getattr(self.relay, name).makeConnection(getattr(self, name))

    def _done(self, relay: Relay) -> None:
        assert relay is self.relay
        self.done += 1

    def lose(self, name: str, error: Exception) -> None:
        getattr(self, name).disconnected = True
        getattr(self.relay, name).connectionLost(Failure(error))


def test_bytes_both_ways_are_counted() -> None:
    pair = Pair()
    assert not pair.relay.delivered
    pair.near.deliver(b"question")
    pair.far.deliver(b"answer!")
    assert pair.far.take() == b"question"
    assert pair.near.take() == b"answer!"
    assert (pair.relay.near.received, pair.relay.far.written) == (8, 8)
    assert (pair.relay.far.received, pair.relay.near.written) == (7, 7)
    assert pair.relay.delivered


@pytest.mark.parametrize("order", ["near far", "far near"])
def test_the_first_one_waits_for_the_second(order: str) -> None:
    pair = Pair(connect="")
    first, second = order.split()
    pair.connect(first)
    assert getattr(pair, first).paused
    getattr(pair, first).deliver(b"early ")
    getattr(pair.relay, first).dataReceived(b"in hand ")
    pair.connect(second)
    assert not getattr(pair, first).paused
    getattr(pair, first).deliver(b"late")
    assert getattr(pair, second).take() == b"in hand early late"


def test_a_half_that_ended_before_the_other_side_stood() -> None:
    pair = Pair(connect="near")
    pair.relay.near.dataReceived(b"all of it")
    pair.near.end_reading()
    assert not pair.relay.delivered
    pair.connect("far")
    assert pair.far.take() == b"all of it"
    assert pair.far.write_closed
    pair.far.deliver(b"answer")
    assert pair.near.take() == b"answer"


def test_a_slow_reader_pauses_the_other_side_only() -> None:
    pair = Pair(capacity=1000)
    pair.near.deliver(b"x" * 1500)
    assert pair.near.paused
    assert not pair.far.paused
    pair.near.deliver(b"y" * 10)
    pair.far.deliver(b"z")
    assert pair.near.take() == b"z"
    assert pair.far.take() == b"x" * 1500 + b"y" * 10 or pair.far.take() == b"y" * 10
    assert not pair.near.paused


def test_half_close_each_way_then_both_are_closed() -> None:
    pair = Pair()
    pair.near.deliver(b"request")
    pair.near.end_reading()
    assert pair.far.take() == b"request"
    assert pair.far.write_closed
    assert not pair.near.write_closed
    pair.far.deliver(b"answer")
    assert pair.near.take() == b"answer"
    assert pair.done == 0
    pair.far.end_reading()
    pair.near.take_all()
    assert pair.near.disconnecting
    assert pair.far.disconnecting
    assert pair.near.disconnected
    assert pair.far.disconnected
    assert pair.done == 1


def test_the_end_waits_behind_what_is_queued() -> None:
    pair = Pair(capacity=100)
    pair.near.deliver(b"x" * 500)
    pair.near.end_reading()
    assert pair.near.paused
    assert not pair.far.write_closed
    assert pair.far.take_all() == b"x" * 500
    assert pair.far.write_closed
    assert pair.near.paused, "what ended is not resumed: Twisted's TCP would report the end again"


def test_an_end_told_twice_counts_once() -> None:
    pair = Pair()
    pair.relay.near.readConnectionLost()
    pair.relay.near.readConnectionLost()
    pair.relay.far.writeConnectionLost()
    assert not pair.near.disconnecting


def test_without_half_close_the_end_waits_for_the_other() -> None:
    class Whole:
        """A transport that can only be closed as a whole."""

        def __init__(self) -> None:
            self.written = b""
            self.closed = False

        def write(self, data: bytes) -> None:
            self.written += data

        def loseConnection(self) -> None:
            self.closed = True

        def registerProducer(self, producer: Any, streaming: bool) -> None:
            pass

        def unregisterProducer(self) -> None:
            pass

        def pauseProducing(self) -> None:
            pass

        def resumeProducing(self) -> None:
            pass

    relay = Relay()
    near, far = BoundedTransport(relay.near), Whole()
    relay.near.makeConnection(near)
    relay.far.makeConnection(far)  # type: ignore[arg-type]
    near.deliver(b"question")
    near.end_reading()
    assert not far.closed
    relay.far.dataReceived(b"answer")
    relay.far.connectionLost(Failure(ConnectionDone()))
    assert near.take() == b"answer"
    assert near.disconnected


@pytest.mark.parametrize("name", ["near", "far"])
def test_an_error_aborts_the_other_side(name: str) -> None:
    pair = Pair()
    pair.lose(name, ConnectionLost())
    other = pair.far if name == "near" else pair.near
    assert other.disconnected
    assert getattr(pair.relay, "far" if name == "near" else "near").lost.check(ConnectionAborted)
    assert pair.done == 1


def test_an_error_can_be_mapped() -> None:
    failures: list[tuple[RelayEnd, type]] = []

    def map_failure(lost: RelayEnd, reason: Failure) -> None:
        failures.append((lost, type(reason.value)))
        lost.other.transport.abortConnection()

    pair = Pair(on_failure=map_failure)
    pair.near.deliver(b"x")
    pair.lose("far", ConnectionLost())
    assert failures == [(pair.relay.far, ConnectionLost)]
    assert pair.relay.delivered
    assert pair.near.disconnected
    assert pair.done == 1


def test_a_clean_close_of_the_whole_lets_the_other_drain() -> None:
    pair = Pair()
    pair.far.deliver(b"last words")
    pair.lose("far", ConnectionDone())
    assert pair.near.disconnecting
    assert not pair.near.disconnected
    assert pair.near.take() == b"last words"
    assert pair.near.disconnected
    assert pair.done == 1


def test_lost_before_the_other_side_stood() -> None:
    pair = Pair(connect="near")
    pair.lose("near", ConnectionLost())
    assert pair.done == 1
    pair.connect("far")
    assert pair.far.disconnected
    assert pair.done == 1


def test_abort_takes_both() -> None:
    pair = Pair()
    pair.relay.abort()
    assert pair.near.disconnected
    assert pair.far.disconnected
    assert pair.done == 1
    Relay().abort()


@given(st.lists(st.tuples(st.sampled_from(["near", "far", "take near", "take far"]), st.binary(max_size=400))))
def test_nothing_is_lost_reordered_or_held_without_bound(plan: list[tuple[str, bytes]]) -> None:
    pair = Pair(capacity=500)
    sent = {"near": b"", "far": b""}
    got = {"near": b"", "far": b""}
    for what, data in plan:
        if what in sent:
            getattr(pair, what).deliver(data)
            sent[what] += data
        else:
            name = what.split()[1]
            got[name] += getattr(pair, name).take(len(data))
    for name in got:
        got[name] += getattr(pair, name).take_all()
    assert got == {"near": sent["far"], "far": sent["near"]}
    assert pair.near.most <= 500 + 400
    assert pair.far.most <= 500 + 400


@implementer(IHalfCloseableProtocol)
class Talker(Protocol):
    def __init__(self) -> None:
        self.received = 0
        self.ended: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)

    def readConnectionLost(self) -> None:
        self.ended.callback(None)

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


async def test_real_sockets_megabytes_both_ways_with_half_close(reactor: Any) -> None:
    """client ── near │ far ── service; the service answers only after the client's end."""
    size = 20_000_000
    service = Talker()
    gone: Deferred[None] = Deferred()
    relays: list[Relay] = []

    def accept_client() -> RelayEnd:
        relay = Relay(on_done=lambda _relay: gone.callback(None))
        relays.append(relay)
        reactor.callLater(0, connect_service, relay)
        return relay.near

    def connect_service(relay: Relay) -> None:
        dial = TCP4ClientEndpoint(immediate_reactor(reactor), "127.0.0.1", service_port.getHost().port)
        dialling.append(connectProtocol(dial, relay.far))

    dialling: list[Deferred[Any]] = []
    ports = []
    for build in (lambda: service, accept_client):
        factory = Factory.forProtocol(build)  # type: ignore[arg-type]
        factory.noisy = False
        ports.append(immediate_port(await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)))
    service_port, relay_port = ports
    client = Talker()
    await connectProtocol(
        TCP4ClientEndpoint(immediate_reactor(reactor), "127.0.0.1", relay_port.getHost().port), client
    )
    client.transport.write(b"q" * size)  # type: ignore[union-attr]
    client.transport.loseWriteConnection()  # type: ignore[union-attr]
    await service.ended
    assert service.received == size
    service.transport.write(b"a" * size)  # type: ignore[union-attr]
    service.transport.loseConnection()  # type: ignore[union-attr]
    await client.ended
    assert client.received == size
    client.transport.loseConnection()  # type: ignore[union-attr]
    for waiting in (gone, client.lost, service.lost):
        await waiting
    assert relays[0].near.received == relays[0].far.written == size
    for port in ports:
        await port.stopListening()
