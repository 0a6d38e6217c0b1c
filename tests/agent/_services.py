"""Private services for tests of the agent: real servers on real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.net.tls import ServerTls
from wormhole_tw.net.tls_transport import TlsAcceptor


@implementer(IHalfCloseableProtocol)
class Connection(Protocol):
    """Echoes in capitals; at the visitor's end it says how much came, and closes."""

    transport: Any

    def __init__(self, service: LocalServer) -> None:
        self.service = service
        self.received = bytearray()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.service.connections.append(self)
        if self.service.first_word:
            self.transport.write(self.service.first_word)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.service.heard(self, data)

    def readConnectionLost(self) -> None:
        self.transport.write(b"<%d bytes>" % len(self.received))
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Ours is said."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.service.closed += 1
        self.lost.callback(None)


class LocalServer:
    """A service on a port or a Unix socket, with or without TLS."""

    def __init__(self, reactor: Any, tls: ServerTls | None = None) -> None:
        self.reactor = reactor
        self.tls = TlsAcceptor(reactor, tls) if tls is not None else None
        self.connections: list[Connection] = []
        self.closed = 0
        self.first_word = b""
        self.number = 0
        self._port: Any = None

    def heard(self, connection: Connection, data: bytes) -> None:
        """What it does with what comes."""
        connection.transport.write(data.upper())

    async def listen(self, path: Path | None = None) -> None:
        factory = _Factory(self)
        if path is not None:
            self._port = await UNIXServerEndpoint(self.reactor, str(path)).listen(factory)
            return
        self._port = await TCP4ServerEndpoint(self.reactor, self.number, interface="127.0.0.1").listen(factory)
        self.number = self._port.getHost().port

    async def stop_listening(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()

    async def close(self) -> None:
        await self.stop_listening()
        for connection in self.connections:
            if not connection.lost.called:
                connection.transport.abortConnection()
                await connection.lost

    @property
    def open(self) -> int:
        return len(self.connections) - self.closed

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.number}"


class _Factory(Factory):
    noisy = False

    def __init__(self, service: LocalServer) -> None:
        self.service = service

    def buildProtocol(self, addr: Any) -> Any:
        connection = Connection(self.service)
        return connection if self.service.tls is None else self.service.tls.wrap(connection)
