"""Links over real sockets, bare and with TLS."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tests.tunnel.links import HTTP, TCP, VISITED, Echo, HalfReader, Owner, PushProducer, Reader, Sockets, hello
from wormhole_tw.errors import LinkLost, LinkRefused, NotAnEdge
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tls import client_creator
from wormhole_tw.net.tls_transport import TlsTransport
from wormhole_tw.net.turn import turn_end_of
from wormhole_tw.tunnel.carriers.tls import ALPN, tls_link_endpoint
from wormhole_tw.tunnel.endpoints import StreamEndpoint
from wormhole_tw.tunnel.protocol import LinkProtocol
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.session import Side


@pytest_twisted.async_yield_fixture(params=["tcp", "tls", "websocket"])
async def sockets(request: Any, reactor: Any, tmp_path: Path) -> AsyncIterator[Sockets]:
    sockets = Sockets(reactor, None if request.param == "tcp" else tmp_path / "dev", carrier=request.param)
    await sockets.connect()
    yield sockets
    await sockets.close()


class Readers(Factory):
    noisy = False
    protocol = HalfReader  # type: ignore[assignment]


class Waiter(HalfReader):
    """Fires ``enough`` when so many octets have come."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.count = 0
        self.sha256 = hashlib.sha256()
        self.enough: Deferred[None] = Deferred()
        self.on_data = self.count_up

    def count_up(self, data: bytes) -> None:
        self.count += len(data)
        self.sha256.update(data)
        if self.count >= self.size and not self.enough.called:
            self.enough.callback(None)


async def test_echo_and_half_close(sockets: Sockets) -> None:
    sockets.far_owner.on_stream = lambda stream: (stream.attach(Echo()), stream.accept())
    protocol: Any = await StreamEndpoint(sockets.near, TCP).connect(Readers())
    sent = bytes(range(256)) * 8192
    protocol.transport.write(sent)
    protocol.transport.loseWriteConnection()
    await protocol.gone
    assert protocol.data == sent
    assert protocol.said == ["write ended", "read ended", "lost"]


async def test_fifty_megabytes_down_and_up_at_once(sockets: Sockets) -> None:
    size = 50_000_000
    chunk = bytes(range(256)) * 64
    wanted = hashlib.sha256()
    for _ in range(size // len(chunk)):
        wanted.update(chunk)
    wanted.update(chunk[: size % len(chunk)])
    far, near = Waiter(size), Waiter(size)
    sockets.far_owner.on_stream = lambda stream: (stream.attach(far), stream.accept())
    stream = sockets.near.open(HTTP)
    stream.attach(near)
    PushProducer(stream, chunk, size).start()
    stream.loseWriteConnection()
    await far.enough
    PushProducer(far.transport, chunk, size).start()
    far.transport.loseWriteConnection()
    await near.enough
    await near.gone
    assert near.sha256.digest() == far.sha256.digest() == wanted.digest()


async def test_256_streams_and_one_that_is_never_read(sockets: Sockets) -> None:
    waiters = [Waiter(300_000) for _ in range(256)]
    producers: list[PushProducer] = []

    def serve(stream: Any) -> None:
        stream.attach(HalfReader())
        stream.accept()
        producers.append(PushProducer(stream, total=300_000))
        producers[-1].start()

    sockets.far_owner.on_stream = serve
    for waiter in waiters:
        sockets.near.open(HTTP).attach(waiter)
    never = waiters[77]
    never.transport.pauseProducing()
    for waiter in waiters:
        if waiter is not never:
            await waiter.enough
    assert never.count == 0
    assert sockets.near.session.held <= 2 * SessionConfig().initial_credit, "a window, and a frame that is half there"
    assert sum(not producer.stopped for producer in producers) == 1
    never.transport.resumeProducing()
    await never.enough


async def test_drain_over_sockets(sockets: Sockets) -> None:
    sockets.far_owner.on_stream = lambda stream: (stream.attach(Echo()), stream.accept())
    protocol: Any = await StreamEndpoint(sockets.near, TCP).connect(Readers())
    drained = sockets.near.drain(30, message="moving")
    protocol.transport.write(b"still served")
    protocol.transport.loseWriteConnection()
    await protocol.gone
    assert protocol.data == b"still served"
    await drained
    await sockets.far_owner.lost
    assert sockets.far_owner.goaway is not None
    assert str(sockets.far_owner.reason) == "moving"


async def test_goaway_arrives_though_the_peer_still_sends(sockets: Sockets) -> None:
    """Closing a socket with octets unread would take away what the peer has not read yet: our reason."""
    stream_far: list[Any] = []
    sockets.far_owner.on_stream = stream_far.append
    near = HalfReader()
    sockets.near.open(HTTP).attach(near)
    near.transport.write(b"x")
    while not stream_far:
        await later(sockets.reactor)
    stream_far[0].attach(HalfReader())
    PushProducer(stream_far[0]).start()
    while not near.received:
        await later(sockets.reactor)
    sockets.near.fail(GoawayCode.TOKEN_REVOKED, "the token was taken away")
    await sockets.far_owner.lost
    assert isinstance(sockets.far_owner.reason, LinkRefused)
    assert sockets.far_owner.reason.code == GoawayCode.TOKEN_REVOKED


def later(reactor: Any) -> Deferred[None]:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0, waiting.callback, None)
    return waiting


async def test_loss_over_sockets(sockets: Sockets) -> None:
    far = Reader()
    sockets.far_owner.on_stream = lambda stream: (stream.attach(far), stream.accept())
    protocol: Any = await StreamEndpoint(sockets.near, TCP).connect(Readers())
    sockets.near.abort()
    await protocol.gone
    await far.gone
    await sockets.far_owner.lost
    assert protocol.error.code == far.error.code == ResetCode.LINK_LOST
    assert isinstance(sockets.far_owner.reason, LinkLost)


class Page(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        request.setHeader(b"content-type", b"text/plain")
        return f"{request.getClientAddress().host} asked {request.getHost().hostname.decode()}".encode() * 5000

    def render_POST(self, request: Any) -> bytes:
        return hashlib.sha256(request.content.read()).hexdigest().encode()


async def test_a_twisted_web_site_over_a_stream(sockets: Sockets) -> None:
    """A stream is transport enough for twisted.web: keep-alive, a body, producers, the visitor's address."""
    site = Site(Page(), reactor=sockets.reactor)
    site.noisy = False
    site.startFactory()
    sockets.far_owner.on_stream = lambda stream: stream.attach(site.buildProtocol(stream.getPeer()))  # type: ignore[arg-type,func-returns-value]
    sockets.near.open(VISITED).attach(client := HalfReader())
    client.transport.write(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    page = b"192.0.2.44 asked app.test" * 5000
    while not client.data.endswith(page):
        await later(sockets.reactor)
    assert client.data.startswith(b"HTTP/1.1 200 OK\r\n")
    client.received.clear()
    body = b"u" * 300_000
    client.transport.write(
        b"POST / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n" + body
    )
    while "read ended" not in client.said:
        await later(sockets.reactor)
    client.transport.loseConnection()
    await client.gone
    assert client.data.endswith(hashlib.sha256(body).hexdigest().encode())
    assert client.said == ["read ended", "lost"]
    site.stopFactory()


class Watched(Protocol):
    """Passes all on, and remembers its loss."""

    lost = False

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def connectionMade(self) -> None:
        self.wrapped.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.wrapped.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self.wrapped.connectionLost(reason)


@implementer(IOpenSSLServerConnectionCreator)
class NoAlpn:
    """TLS as a load balancer ends it that never heard of ALPN."""

    def __init__(self, material: Any) -> None:
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.use_certificate(material.certificate)
        self.context.use_privatekey(material.key)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


async def test_tls_that_ends_at_something_else(reactor: Any, tmp_path: Path) -> None:
    ca = DevCa(tmp_path / "dev")
    material = ca.certificate_for(["localhost"])
    site = Site(Resource(), reactor=reactor)
    site.noisy = False
    connections: list[Any] = []

    class Listener(Factory):
        noisy = False

        def buildProtocol(self, addr: Any) -> Any:
            connections.append(Watched(site.buildProtocol(addr)))
            return connections[-1]

    tls = TLSMemoryBIOFactory(NoAlpn(material), False, Listener(), clock=reactor)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(tls)
    number = port.getHost().port
    owner = Owner()

    class Dial(Factory):
        noisy = False

        def buildProtocol(self, addr: Any) -> Any:
            return LinkProtocol(
                reactor,
                Side.DIALLER,
                SessionConfig(),
                owner,
                turn=turn_end_of(reactor),
                hello=hello(),
                peer_name=f"localhost:{number}",
            )

    creator = client_creator("localhost", ca_pem=ca.ca_pem, alpn=[ALPN])
    await tls_link_endpoint(reactor, "localhost", number, creator).connect(Dial())
    await owner.lost
    assert isinstance(owner.reason, NotAnEdge)
    assert str(owner.reason) == f"TLS at localhost:{number} ends at something that is not an edge"
    await port.stopListening()
    while not all(wrapper.lost for wrapper in connections):
        await later(reactor)


class Resting:
    """The records of a TLS connection; tells when it is said to rest."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.rested: Deferred[None] = Deferred()

    def rest(self) -> None:
        self._records.rest()
        if not self.rested.called:
            self.rested.callback(None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)


async def test_a_silent_link_keeps_no_buffers_and_goes_on(reactor: Any, tmp_path: Path) -> None:
    sockets = Sockets(reactor, tmp_path / "dev", SessionConfig(ping_after=0.2, dead_after=60.0))
    await sockets.connect()
    transport = sockets.near.transport
    if isinstance(transport, TlsTransport):
        sockets.far_owner.on_stream = lambda stream: (stream.attach(Echo()), stream.accept())
        for _ in range(2):
            near: Any = await StreamEndpoint(sockets.near, TCP).connect(Readers())
            near.transport.write(bytes(1_000_000))
            near.transport.loseWriteConnection()
            await near.gone
            assert len(near.data) == 1_000_000
            transport._records = resting = Resting(transport._records)
            await resting.rested
    await sockets.close()
