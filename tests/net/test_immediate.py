"""Transports that send at once: same order, same backpressure, same errors as Twisted's own."""

from __future__ import annotations

import hashlib
import socket
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.net.immediate import ImmediateClient, ImmediateServer, immediate_port, immediate_reactor
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
    """A server's end and a client's end of one connection over loopback."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.server = Peer()
        self.client = Peer()

    async def __aenter__(self) -> Pair:
        factory: Factory = Factory.forProtocol(lambda: self.server)  # type: ignore[arg-type]
        factory.noisy = False
        self.port: Any = open_port(self.reactor, "tcp:0:interface=127.0.0.1", factory, source="test", key="port")
        dial = immediate_reactor(self.reactor)
        await connectProtocol(TCP4ClientEndpoint(dial, "127.0.0.1", self.port.getHost().port), self.client)
        await self.server.made
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in (self.client, self.server):
            if not peer.lost.called:
                peer.transport.abortConnection()
                await peer.lost
        await self.port.stopListening()


async def test_both_sides_get_them(reactor: Any) -> None:
    async with Pair(reactor) as pair:
        assert type(pair.server.transport) is ImmediateServer
        assert type(pair.client.transport) is ImmediateClient


async def test_a_small_write_has_left_when_write_returns(reactor: Any) -> None:
    async with Pair(reactor) as pair:
        pair.client.transport.write(b"hello")
        handle: socket.socket = pair.server.transport.getHandle()
        assert handle.recv(100, socket.MSG_PEEK) == b"hello"
        assert pair.client.transport not in reactor.getWriters()


async def test_what_the_socket_refuses_follows_in_order_then_the_end(reactor: Any) -> None:
    pieces = [bytes([number % 251]) * (1 + number * 37 % 90000) for number in range(200)]
    async with Pair(reactor) as pair:
        pair.client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
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


@implementer(IPushProducer)
class Push:
    def __init__(self, transport: Any, left: int) -> None:
        self.transport = transport
        self.left = left
        self.paused = 0
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
            transport = self.transport
            buffered = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
            self.most_buffered = max(self.most_buffered, buffered)
        if not self.left and self._running:
            self._running = False
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()

    def stopProducing(self) -> None:
        self._running = False


async def test_a_push_producer_is_paused_by_a_reader_that_does_not_read(reactor: Any) -> None:
    async with Pair(reactor) as pair:
        pair.server.transport.pauseProducing()
        producer = Push(pair.client.transport, BIG // 65536)
        producer.start()
        assert producer.paused
        assert producer.left
        pair.server.transport.resumeProducing()
        await pair.server.ended
        assert pair.server.size == BIG
        assert producer.most_buffered <= 2 * 65536


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


async def test_a_pull_producer_is_asked_again_and_again(reactor: Any) -> None:
    async with Pair(reactor) as pair:
        pair.client.transport.registerProducer(Pull(pair.client.transport, 50), False)
        await pair.server.ended
        assert pair.server.size == 50000


async def test_a_write_after_the_peer_reset_is_told_by_connection_lost(reactor: Any) -> None:
    async with Pair(reactor) as pair:
        pair.server.transport.abortConnection()
        await pair.server.lost
        for _ in range(3):
            pair.client.transport.write(b"into the void")
        assert await pair.client.lost is not None
        pair.client.transport.write(b"more")  # dropped, as Twisted drops it


async def test_text_is_refused(reactor: Any) -> None:
    async with Pair(reactor) as pair:
        with pytest.raises(TypeError):
            pair.client.transport.write("text")


def test_other_reactors_and_ports_are_left_alone() -> None:
    clock = Clock()
    assert immediate_reactor(clock) is clock

    class Other(tcp.Port):
        pass

    port = Other(0, Factory(), reactor=clock)
    assert immediate_port(port) is port
    assert port.transport is tcp.Server
