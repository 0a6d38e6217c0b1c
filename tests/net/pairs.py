"""Both ends of one connection over loopback, and what comes out of them."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.net.immediate import (
    immediate_reactor,
)
from wormhole_tw.net.listening import open_port

BIG = 8 * 1024 * 1024
"""More octets than any socket takes at once."""


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
        """Let the kernel hold little of what the client writes."""
        self.client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.server.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def buffered(transport: Any) -> int:
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def turn(reactor: Any) -> Deferred[None]:
    return deferLater(reactor, 0)


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
