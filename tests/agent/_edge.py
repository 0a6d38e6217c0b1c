"""An edge for tests of the agent: the accepting side of real links over real TLS, which does as the test says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.tunnel.openings import Opening
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.immediate import immediate_port
from wormhole_tw.net.tls import CertificateMap, ServerTls
from wormhole_tw.net.tls_transport import TlsAcceptor
from wormhole_tw.net.turn import turn_end_of
from wormhole_tw.tunnel.ending import ALPN
from wormhole_tw.tunnel.interfaces import ILinkOwner
from wormhole_tw.tunnel.protocol import LinkProtocol
from wormhole_tw.tunnel.stream import TunnelStream
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Goaway, Hello, Open, Timers, Welcome
from wormhole_tw.wire.session import Side

TOKEN = "wh_the-token-of-this-test"


async def until(reactor: Any, condition: Callable[[], object]) -> None:
    """Wait until something is so. The test's deadline is the limit."""
    while not condition():
        await deferLater(reactor, 0.005)


@implementer(ILinkOwner)
class FarLink:
    """What the edge knows of one link."""

    def __init__(self, edge: FakeEdge) -> None:
        self.edge = edge
        self.hello: Hello | None = None
        self.ready: bool | None = None
        self.reason = ""
        self.goaway: Goaway | None = None
        self.lost: Exception | None = None
        self.protocol = LinkProtocol(
            edge.reactor, Side.ACCEPTOR, SessionConfig(), self, turn=turn_end_of(edge.reactor), peer_name="an agent"
        )

    def hello_received(self, link: LinkProtocol, hello: Hello) -> None:
        self.hello = hello
        if self.edge.silent:
            return
        refusal = self.edge.refusal
        if refusal is not None:
            link.fail(*refusal)
            return
        self.edge.admitted += 1
        link.welcome(
            Welcome(
                session=f"s{self.edge.admitted}",
                edge="edge-1",
                region="test",
                urls=["https://app.example.test"],
                timers=Timers(drain=self.edge.drain),
                granted=self.edge.granted,
            )
        )

    def welcomed(self, link: LinkProtocol, welcome: Welcome) -> None:
        raise AssertionError("an edge says WELCOME")

    def status_changed(self, link: LinkProtocol, ready: bool, reason: str) -> None:
        self.ready, self.reason = ready, reason

    def stream_opened(self, link: LinkProtocol, stream: TunnelStream, message: Open) -> None:
        raise AssertionError("an agent opens no streams")

    def goaway_received(self, link: LinkProtocol, goaway: Goaway) -> None:
        self.goaway = goaway

    def drained(self, link: LinkProtocol) -> None:
        """The link closes by itself."""

    def link_lost(self, link: LinkProtocol, reason: Exception) -> None:
        self.lost = reason

    def visit(self, kind: str = "http", **open_info: Any) -> Visitor:
        """Open a stream to the agent's service."""
        visitor = Visitor()
        self.protocol.open(Open(kind=kind, **open_info)).attach(visitor)
        return visitor


@implementer(IHalfCloseableProtocol)
class Visitor(Protocol):
    """The edge's end of a stream: keeps what it gets."""

    transport: Any

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.lost: Failure | None = None
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._check()

    def readConnectionLost(self) -> None:
        self.ended = True
        self._check()

    def writeConnectionLost(self) -> None:
        """Ours is said."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason
        self.ended = True
        self._check()

    def _check(self) -> None:
        for waiter in list(self._waiters):
            if waiter[0]():
                self._waiters.remove(waiter)
                waiter[1].callback(None)

    def _when(self, condition: Callable[[], bool]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._waiters.append((condition, done))
        self._check()
        return done

    async def bytes(self, count: int) -> bytes:
        """The first ``count`` bytes."""
        await self._when(lambda: len(self.data) >= count or self.ended)
        return bytes(self.data[:count])

    async def end(self) -> bytes:
        """All bytes, when there will be no more."""
        await self._when(lambda: self.ended)
        return bytes(self.data)

    async def failure(self) -> Any:
        """Why the stream ended."""
        await self._when(lambda: self.lost is not None)
        assert self.lost is not None
        return self.lost.value


class FakeEdge:
    """A port with TLS at which agents are welcomed.

    :ivar refusal: what agents are told instead of WELCOME: code, sentence, retry_after
    :ivar silent: answer no HELLO
    :ivar links: every link that ever came, in order
    :ivar web: what ends TLS speaks HTTP alone, and hands WebSockets on
    """

    def __init__(self, reactor: Any, folder: Path, *, alpn: bytes = ALPN, names: list[str] | None = None) -> None:
        self.reactor = reactor
        self.ca = DevCa(folder)
        self.ca_file = str(self.ca.ca_path)
        self.links: list[FarLink] = []
        self.admitted = 0
        self.refusal: tuple[GoawayCode, str, float | None] | None = None
        self.silent = False
        self.drain = 30.0
        self.granted: list[str] = []
        self.number = 0
        self.web = False
        self._links = _Links(self)
        certificates = CertificateMap([self.ca.certificate_for(names or [])])
        self._tls = TlsAcceptor(reactor, ServerTls(certificates, [alpn]))
        self._web = TlsAcceptor(reactor, ServerTls(certificates, [b"http/1.1"]))
        self._port: Any = None

    async def listen(self) -> None:
        """On the port it had before, if any."""
        endpoint = TCP4ServerEndpoint(self.reactor, self.number, interface="127.0.0.1")
        self._port = immediate_port(await endpoint.listen(self._links))
        self.number = self._port.getHost().port

    async def stop_listening(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()

    async def close(self) -> None:
        """Stop listening and drop every link."""
        await self.stop_listening()
        for link in self.links:
            link.protocol.abort()
            await link.protocol.when_lost()

    @property
    def address(self) -> str:
        return f"localhost:{self.number}"

    @property
    def standing(self) -> list[FarLink]:
        return [link for link in self.links if link.protocol.standing]

    async def link(self, count: int = 1) -> FarLink:
        """The link number ``count``, when it stands."""
        await until(self.reactor, lambda: len(self.links) >= count and self.links[count - 1].protocol.standing)
        return self.links[count - 1]

    async def ready_link(self, count: int = 1) -> FarLink:
        link = await self.link(count)
        await until(self.reactor, lambda: link.ready)
        return link


class _Links(Factory):
    noisy = False

    def __init__(self, edge: FakeEdge) -> None:
        self.edge = edge

    def buildProtocol(self, addr: Any) -> Any:
        if self.edge.web:
            return self.edge._web.wrap(Opening(self.edge.reactor, self.link))
        return self.edge._tls.wrap(self.link())

    def link(self) -> LinkProtocol:
        link = FarLink(self.edge)
        self.edge.links.append(link)
        return link.protocol
