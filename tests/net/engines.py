"""TLS between the engine under test and another one: itself, Twisted's, or the standard library's."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.net.peers import SslPeer, chain_pem, client_context, self_signed, server_context
from tests.net.wires import End, Wire
from wormhole_tw.net.tls import CertificateMap, ServerTls, client_creator
from wormhole_tw.net.tls_transport import TlsFactory

HOST = "localhost"

MATERIAL = self_signed(HOST)
"""The server's certificate, which clients trust for itself."""

VERSIONS = ("TLSv1.2", "TLSv1.3")

OTHERS = ("engine", "twisted", "ssl")

ROLES = ("client", "server")
"""Of the engine under test."""

Matrix = tuple[str, str, str]
"""Role, other, version."""


@implementer(IHandshakeListener)
class App(Protocol):
    """Keeps what it is told, in order.

    :ivar events: ``made``, ``handshake``, ``data`` (once for many in a row), ``read lost``, ``write lost``, ``lost``
    :ivar reason: what ``connectionLost`` was told
    """

    transport: Any

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = b""
        self.reason: BaseException | None = None

    def connectionMade(self) -> None:
        self.events.append("made")

    def handshakeCompleted(self) -> None:
        self.events.append("handshake")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.events[-1] != "data":
            self.events.append("data")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.reason is None, "told twice"
        self.events.append("lost")
        self.reason = reason.value


@implementer(IHalfCloseableProtocol)
class HalfApp(App):
    """Goes on when the other half has ended."""

    def readConnectionLost(self) -> None:
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")


class Limited:
    """A connection creator whose connections speak one version only, and may bring a session."""

    def __init__(self, creator: Any, version: str, session: Any = None) -> None:
        self._creator = creator
        self._not = SSL.OP_NO_TLSv1_3 if version == "TLSv1.2" else SSL.OP_NO_TLSv1_2
        self._session = session

    def _limit(self, connection: SSL.Connection) -> SSL.Connection:
        connection.set_options(self._not)
        if self._session is not None:
            connection.set_session(self._session)
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class LimitedClient(Limited):
    """The client's."""

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return self._limit(self._creator.clientConnectionForTLS(protocol))


@implementer(IOpenSSLServerConnectionCreator)
class LimitedServer(Limited):
    """The server's."""

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return self._limit(self._creator.serverConnectionForTLS(protocol))


@cache
def _client(host: str, alpn: tuple[bytes, ...]) -> Any:
    return client_creator(host, ca_pem=chain_pem(MATERIAL), alpn=alpn)  # which reads all of the system's CAs


@cache
def _server(alpn: tuple[bytes, ...]) -> Any:
    return ServerTls(CertificateMap([MATERIAL]), alpn)


def client_of(version: str, *, host: str = HOST, alpn: tuple[bytes, ...] = (), session: Any = None) -> LimitedClient:
    """What makes clients that trust the server's certificate."""
    return LimitedClient(_client(host, alpn), version, session)


def server_of(version: str, *, alpn: tuple[bytes, ...] = ()) -> LimitedServer:
    """What makes servers."""
    return LimitedServer(_server(alpn), version)


def engine(wire: Wire, creator: Any, is_client: bool, app: Any) -> Any:
    """The engine under test, not connected yet."""
    factory = TlsFactory(creator, is_client, Factory(), wire.clock)
    return factory.kind(factory, app)


class Other:
    """The engine at the far end, whichever it is."""

    def __init__(self, app: Any, tls: Any) -> None:
        self.app = app
        self.protocol = tls

    @property
    def shaken(self) -> bool:
        return self.app.shaken if isinstance(self.app, SslPeer) else "handshake" in self.app.events

    @property
    def received(self) -> bytes:
        received: bytes = self.app.received
        return received

    @property
    def ended(self) -> bool:
        """It saw the end, said by close_notify."""
        if isinstance(self.app, SslPeer):
            return self.app.closed
        return "read lost" in self.app.events or isinstance(self.app.reason, ConnectionDone)

    @property
    def failed(self) -> bool:
        """It saw the connection break off."""
        if isinstance(self.app, SslPeer):
            return (self.app.error is not None or self.app.lost is not None) and not self.app.closed
        return self.app.reason is not None and not isinstance(self.app.reason, ConnectionDone)

    @property
    def failure(self) -> str:
        """What it has to say of that."""
        reason = (self.app.error or self.app.lost) if isinstance(self.app, SslPeer) else self.app.reason
        return str(reason).lower()

    @property
    def alpn(self) -> bytes | None:
        if isinstance(self.app, SslPeer):
            said = self.app.tls.selected_alpn_protocol()
            return said.encode() if said else None
        handle: SSL.Connection = self.protocol.getHandle()
        return handle.get_alpn_proto_negotiated() or None

    def send(self, data: bytes) -> None:
        if isinstance(self.app, SslPeer):
            self.app.send(data)
        else:
            self.protocol.write(data)

    def finish(self) -> None:
        """Say close_notify."""
        if isinstance(self.app, SslPeer):
            self.app.close_notify()
        elif hasattr(self.protocol, "_close_write"):
            self.protocol.loseWriteConnection()
        else:
            self.protocol.loseConnection()


class Conversation:
    """The engine under test and another one, joined by a wire; nothing has moved yet.

    :ivar app: the protocol on the engine under test
    :ivar tls: that engine
    :ivar far: the other one
    """

    def __init__(
        self,
        role: str,
        other: str,
        version: str,
        *,
        app: Any = None,
        alpn: tuple[bytes, ...] = (),
        creator: Any = None,
        far: Any = None,
        far_session: ssl.SSLSession | None = None,
        clock: Clock | None = None,
    ) -> None:
        """
        :param creator: of the engine under test, in place of the ordinary one
        :param far: of the other one: a creator, for ``ssl`` a context
        :param far_session: what ``ssl`` as a client brings
        """
        self.wire = Wire(clock)
        self.app = app or App()
        is_client = role == "client"
        creator = creator or (client_of if is_client else server_of)(version, alpn=alpn)
        self.tls = engine(self.wire, creator, is_client, self.app)
        if other == "ssl":
            context = far or ssl_context(not is_client, version, alpn)
            name = None if is_client else HOST
            peer = SslPeer(context, server_side=is_client, server_hostname=name, session=far_session)
            self.far = Other(peer, peer)
        else:
            creator = far or (server_of if is_client else client_of)(version, alpn=alpn)
            there = HalfApp()
            if other == "engine":
                tls: Any = engine(self.wire, creator, not is_client, there)
            else:
                factory = TLSMemoryBIOFactory(creator, not is_client, Factory(), self.wire.clock)  # type: ignore[no-untyped-call]
                tls = factory.protocol(factory, there)
            self.far = Other(there, tls)
        near_end, far_end = self.wire.ends
        self.near_end: End = near_end
        self.far_end: End = far_end
        ends = ((near_end, self.tls), (far_end, self.far.protocol))
        for end, protocol in ends if not is_client else reversed(ends):  # a server listens before a client dials
            end.connect(protocol)

    def shake(self) -> None:
        self.wire.run(lambda: "handshake" in self.app.events and self.far.shaken)

    def run(self) -> None:
        self.wire.run()


@cache
def ssl_context(client: bool, version: str, alpn: tuple[bytes, ...] = ()) -> ssl.SSLContext:
    """The standard library's, for the far end."""
    names = [name.decode() for name in alpn]
    if client:
        context = client_context(chain_pem(MATERIAL), names, strict=False)
    else:
        with TemporaryDirectory() as folder:
            context = server_context(Path(folder), MATERIAL, names)
    limited = ssl.TLSVersion.TLSv1_2 if version == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    context.minimum_version = context.maximum_version = limited
    return context
