"""Transports that send at once: same order, backpressure and errors as Twisted's own, which are held to it too."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IFileDescriptorReceiver, IHalfCloseableProtocol, IPullProducer, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tests import _support
from wormhole_tw.errors import ConfigError
from wormhole_tw.net import choice
from wormhole_tw.net.immediate import (
    ImmediateClient,
    ImmediateServer,
    ImmediateUnixClient,
    ImmediateUnixServer,
    immediate_port,
    immediate_reactor,
)
from wormhole_tw.net.listening import open_port

BIG = 8 * 1024 * 1024


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """Counts and hashes what comes."""

    transport: Any

    def __init__(self) -> None:
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[BaseException | None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.size = 0
        self.hash = hashlib.sha256()

    def connectionMade(self) -> None:
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.size += len(data)
        self.hash.update(data)

    def readConnectionLost(self) -> None:
        self.ended.callback(None)

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.value)


class Pair:
    """A server's end and a client's end of one connection over loopback, TCP or a Unix socket.

    :param fast: whether they are ours, or Twisted's
    """

    def __init__(self, reactor: Any, kind: str, folder: Path, fast: bool) -> None:
        self.reactor = reactor
        self.kind = kind
        self.fast = fast
        self.path = str(folder / "socket")
        self.server = Peer()
        self.client = Peer()

    async def __aenter__(self) -> Pair:
        factory: Factory = Factory.forProtocol(lambda: self.server)  # type: ignore[arg-type]
        factory.noisy = False
        description = f"unix:{self.path}" if self.kind == "unix" else "tcp:0:interface=127.0.0.1"
        self.port: Any = open_port(self.reactor, description, factory, source="test", key="port")
        dial = immediate_reactor(self.reactor)
        endpoint: Any
        if self.kind == "unix":
            endpoint = UNIXClientEndpoint(dial, self.path)
        else:
            endpoint = TCP4ClientEndpoint(dial, "127.0.0.1", self.port.getHost().port)
        await connectProtocol(endpoint, self.client)
        await self.server.made
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in (self.client, self.server):
            if not peer.lost.called:
                peer.transport.abortConnection()
                await peer.lost
        await self.port.stopListening()

    def small(self) -> None:
        """Let the client's socket take little at a time."""
        self.client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)


@pytest.fixture(params=["fast", "twisted"])
def transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose: both are held to the same."""
    monkeypatch.setenv(choice.VARIABLE, request.param)
    name: str = request.param
    return name


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest, reactor: Any, tmp_path: Path, transports: str) -> Pair:
    return Pair(reactor, request.param, tmp_path, transports == "fast")


KINDS: dict[tuple[str, bool], tuple[type, type]] = {
    ("tcp", True): (ImmediateServer, ImmediateClient),
    ("tcp", False): (tcp.Server, tcp.Client),
    ("unix", True): (ImmediateUnixServer, ImmediateUnixClient),
    ("unix", False): (unix.Server, unix.Client),
}


async def test_both_sides_get_them(pair: Pair) -> None:
    async with pair:
        server, client = KINDS[pair.kind, pair.fast]
        assert type(pair.server.transport) is server
        assert type(pair.client.transport) is client


async def test_a_small_write_has_left_when_write_returns(pair: Pair, reactor: Any) -> None:
    async with pair:
        pair.client.transport.write(b"hello")
        handle: socket.socket = pair.server.transport.getHandle()
        if pair.fast:
            assert handle.recv(100, socket.MSG_PEEK) == b"hello"
            assert pair.client.transport not in reactor.getWriters()
        else:
            with pytest.raises(BlockingIOError):
                handle.recv(100, socket.MSG_PEEK)
            assert pair.client.transport in reactor.getWriters()


async def test_what_the_socket_refuses_follows_in_order_then_the_end(pair: Pair, reactor: Any) -> None:
    pieces = [bytes([number % 251]) * (1 + number * 37 % 90000) for number in range(200)]
    async with pair:
        pair.small()
        for piece in pieces:
            pair.client.transport.write(piece)
        assert pair.client.transport in reactor.getWriters()  # more than any socket takes at once
        pair.client.transport.writeSequence([b"and", b"then"])
        pair.client.transport.loseWriteConnection()
        await pair.server.ended
        assert pair.server.hash.digest() == hashlib.sha256(b"".join(pieces) + b"andthen").digest()
        pair.server.transport.write(b"heard")
        pair.server.transport.loseConnection()
        await pair.client.ended
        assert pair.client.size == 5
        pair.client.transport.loseConnection()
        assert isinstance(await pair.client.lost, ConnectionDone)


async def test_a_socket_that_takes_a_part_or_nothing(pair: Pair) -> None:
    async with pair:
        pair.small()
        pair.server.transport.pauseProducing()
        written = hashlib.sha256()
        size = 0
        refused = 0
        while refused < 3:
            piece = bytes([size % 251]) * 50_000
            pair.client.transport.write(piece)
            written.update(piece)
            size += len(piece)
            refused += bool(buffered(pair.client.transport))
        pair.client.transport.write(b"")
        assert buffered(pair.client.transport) > 50_000
        pair.server.transport.resumeProducing()
        pair.client.transport.loseConnection()
        pair.client.transport.loseConnection()
        await pair.server.ended
        assert (pair.server.size, pair.server.hash.digest()) == (size, written.digest())


def buffered(transport: Any) -> int:
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


@implementer(IPushProducer)
class Push:
    def __init__(self, transport: Any, left: int) -> None:
        self.transport = transport
        self.left = left
        self.paused = 0
        self.stopped = 0
        self.most_buffered = 0
        self._running = False

    def start(self) -> None:
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self.paused += 1
        self._running = False

    def resumeProducing(self) -> None:
        self._running = True
        while self._running and self.left:
            self.left -= 1
            self.transport.write(b"x" * 65536)
            self.most_buffered = max(self.most_buffered, buffered(self.transport))
        if not self.left and self._running:
            self._running = False
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()

    def stopProducing(self) -> None:
        self.stopped += 1
        self._running = False


async def test_a_push_producer_is_paused_by_a_reader_that_does_not_read(pair: Pair) -> None:
    async with pair:
        pair.server.transport.pauseProducing()
        producer = Push(pair.client.transport, BIG // 65536)
        producer.start()
        # Twisted's learns from its own buffer alone that nobody reads; both are resumed when that is empty.
        while buffered(pair.client.transport) <= 65536 or not producer.paused:
            await turn(pair.reactor)
        assert producer.left
        pair.server.transport.resumeProducing()
        await pair.server.ended
        assert pair.server.size == BIG
        assert producer.most_buffered <= 3 * 65536


def turn(reactor: Any) -> Deferred[None]:
    return deferLater(reactor, 0)


@implementer(IPullProducer)
class Pull:
    def __init__(self, transport: Any, left: int) -> None:
        self.transport = transport
        self.left = left

    def resumeProducing(self) -> None:
        if self.left:
            self.left -= 1
            self.transport.write(b"y" * 1000)
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self) -> None:
        pass


async def test_a_pull_producer_is_asked_again_and_again(pair: Pair) -> None:
    async with pair:
        pair.client.transport.registerProducer(Pull(pair.client.transport, 50), False)
        await pair.server.ended
        assert pair.server.size == 50000


async def test_one_producer_after_another_and_writes_between(pair: Pair) -> None:
    class Few(Pull):
        def __init__(self, transport: Any) -> None:
            super().__init__(transport, 3)
            self.done: Deferred[None] = Deferred()

        def resumeProducing(self) -> None:
            self.left -= 1
            self.transport.write(b"%d" % self.left)
            if not self.left:
                self.transport.unregisterProducer()
                self.done.callback(None)

    async with pair:
        transport = pair.client.transport
        pushing = Push(transport, 0)
        for _ in range(3):
            pulled = Few(transport)
            transport.write(b"<")
            transport.registerProducer(pulled, False)
            with pytest.raises(RuntimeError):
                transport.registerProducer(pushing, True)
            await pulled.done
            transport.registerProducer(pushing, True)
            transport.write(b"-")
            transport.unregisterProducer()
            transport.write(b">")
        transport.loseConnection()
        await pair.server.ended
        assert pair.server.hash.digest() == hashlib.sha256(b"<210->" * 3).digest()


async def test_lose_connection_waits_for_the_producer_and_for_what_it_writes(pair: Pair) -> None:
    async with pair:
        transport = pair.client.transport
        transport.registerProducer(Push(transport, 0), True)
        transport.loseConnection()
        transport.write(b"late, ")
        await turn(pair.reactor)
        assert not pair.client.lost.called
        transport.write(b"and in time")
        transport.unregisterProducer()
        await pair.server.ended
        assert pair.server.size == 17
        assert isinstance(await pair.client.lost, ConnectionDone)


async def test_a_producer_is_stopped_when_the_connection_breaks(pair: Pair) -> None:
    async with pair:
        pair.server.transport.pauseProducing()
        producer = Push(pair.client.transport, 1 << 20)
        producer.start()
        assert producer.left
        pair.server.transport.abortConnection()
        await pair.client.lost
        assert producer.stopped == 1
        late = Push(pair.client.transport, 1)
        pair.client.transport.registerProducer(late, True)
        assert late.stopped == 1


async def test_a_write_after_the_peer_reset_is_told_by_connection_lost(pair: Pair) -> None:
    async with pair:
        pair.server.transport.abortConnection()
        await pair.server.lost
        for _ in range(3):
            pair.client.transport.write(b"into the void")
            assert not pair.client.lost.called, "never told out of a call"
        assert isinstance(await pair.client.lost, ConnectionLost | ConnectionDone)
        pair.client.transport.write(b"more")  # dropped, as Twisted drops it


@pytest.mark.parametrize("end", ["loseConnection", "loseWriteConnection", "abortConnection"])
async def test_an_error_found_by_a_direct_send_is_told_once_and_later(pair: Pair, end: str) -> None:
    async with pair:
        transport = pair.client.transport
        # Broken under its feet: the next send is EPIPE, as it is when the peer's reset came in this very turn.
        transport.getHandle().shutdown(socket.SHUT_WR)
        transport.write(b"into the void")
        assert not pair.client.lost.called
        transport.write(b"and again")
        getattr(transport, end)()
        transport.write(b"and again")
        assert not pair.client.lost.called
        # (Peer.connectionLost fails if it is called twice.)
        reason = await pair.client.lost
        assert isinstance(reason, ConnectionAborted if end == "abortConnection" else ConnectionLost)
        transport.write(b"and again")
        transport.loseConnection()
        transport.abortConnection()
        await turn(pair.reactor)


async def test_nothing_is_sent_after_an_abort(pair: Pair) -> None:
    async with pair:
        pair.client.transport.abortConnection()
        pair.client.transport.write(b"too late")
        # A Unix socket has no reset: an abort looks like any end there.
        await (pair.server.ended if pair.kind == "unix" else pair.server.lost)
        assert pair.server.size == 0
        assert isinstance(await pair.client.lost, ConnectionAborted)


async def test_nothing_is_sent_after_the_half_is_closed(pair: Pair) -> None:
    async with pair:
        pair.client.transport.write(b"in time")
        pair.client.transport.loseWriteConnection()
        await pair.server.ended
        pair.client.transport.write(b"too late")
        pair.server.transport.write(b"still heard")
        pair.server.transport.loseConnection()
        await pair.client.ended
        assert (pair.server.size, pair.client.size) == (7, 11)


async def test_written_out_of_data_received_and_out_of_resume(pair: Pair) -> None:
    class Echo(Peer):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.write(data)

        def readConnectionLost(self) -> None:
            super().readConnectionLost()
            self.transport.loseConnection()

    pair.server = Echo()
    async with pair:
        Push(pair.client.transport, BIG // 65536).start()
        await pair.client.ended
        assert pair.client.size == BIG
        assert pair.client.hash.digest() == pair.server.hash.digest()


@pytest.mark.parametrize("data", ["text", bytearray(b"octets"), memoryview(b"octets"), None])
async def test_what_is_no_bytes_is_refused(pair: Pair, data: Any) -> None:
    # Twisted's refuses them always; sent at once they would go through until the first full socket.
    async with pair:
        with pytest.raises(TypeError):
            pair.client.transport.write(data)
        pair.client.transport.loseConnection()
        await pair.server.ended
        assert pair.server.size == 0


async def test_descriptors_go_with_the_data_behind_them(reactor: Any, tmp_path: Path, transports: str) -> None:
    @implementer(IFileDescriptorReceiver)
    class Taker(Peer):
        events: list[Any] = []

        def fileDescriptorReceived(self, descriptor: int) -> None:
            self.events.append("descriptor")
            os.close(descriptor)

        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.events.append(data)

    pair = Pair(reactor, "unix", tmp_path, transports == "fast")
    pair.server = taker = Taker()
    async with pair:
        sent, received = os.pipe()
        pair.client.transport.write(b"before")
        pair.client.transport.sendFileDescriptor(sent)
        pair.client.transport.write(b"after")
        pair.client.transport.loseConnection()
        await pair.server.ended
        os.close(sent)
        os.close(received)
        data = b"".join(event for event in taker.events if event != "descriptor")
        assert data == b"beforeafter"
        assert taker.events.count("descriptor") == 1


def test_other_reactors_and_ports_are_left_alone() -> None:
    clock = Clock()
    assert immediate_reactor(clock) is clock

    class Other(tcp.Port):
        pass

    port = Other(0, Factory(), reactor=clock)
    assert immediate_port(port) is port
    assert port.transport is tcp.Server


async def test_the_choice_is_the_operators(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, ours in (("fast", True), ("", True), (" Twisted ", False)):
        monkeypatch.setenv(choice.VARIABLE, said)
        assert choice.ours() is ours
        assert (immediate_reactor(reactor) is not reactor) is ours
    monkeypatch.delenv(choice.VARIABLE)
    assert choice.ours()
    monkeypatch.setenv(choice.VARIABLE, "slow")
    with pytest.raises(ConfigError, match=r"^WORMHOLE_TRANSPORTS: fast or twisted, not 'slow'$"):
        immediate_reactor(reactor)
    assert _support.TRANSPORTS == choice.VARIABLE
