"""Two links joined: over fakes with a clock of the test's own, or over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.fakes import BoundedTransport
from tests.tunnel.openings import Opening
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.immediate import immediate_port, immediate_reactor
from wormhole_tw.net.tls import CertificateMap, ServerTls, client_creator
from wormhole_tw.net.tls_transport import TlsAcceptor
from wormhole_tw.net.turn import TurnEnd, turn_end_of
from wormhole_tw.tunnel.carriers import websocket
from wormhole_tw.tunnel.carriers.tls import ALPN, tls_link_endpoint
from wormhole_tw.tunnel.interfaces import ILinkOwner
from wormhole_tw.tunnel.protocol import LinkProtocol
from wormhole_tw.tunnel.stream import TunnelStream
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Goaway, Hello, Open, Service, Visitor, Welcome
from wormhole_tw.wire.session import Side

HTTP = Open(kind="http")
TCP = Open(kind="tcp")
VISITED = Open(
    kind="tcp", dedicated=True, visitor=Visitor(address="192.0.2.44", port=5555, server_name="app.test", local_port=443)
)


def hello(**facts: Any) -> Hello:
    return Hello(
        **{
            "role": "agent",
            "versions": [1],
            "token": "a-token",
            "instance": bytes(16),
            "generation": 1,
            "services": [Service()],
            **facts,
        }
    )


@implementer(ILinkOwner)
class Owner:
    """Keeps what it is told; welcomes who says hello, unless told to do something else."""

    def __init__(self, on_stream: Callable[[TunnelStream], object] | None = None) -> None:
        self.on_stream = on_stream or (lambda stream: None)
        self.on_hello: Callable[[LinkProtocol, Hello], object] = lambda link, hello: link.welcome(
            Welcome(session="s-1", edge="edge-1")
        )
        self.said: list[str] = []
        self.streams: list[TunnelStream] = []
        self.goaway: Goaway | None = None
        self.reason: Exception | None = None
        self.ready: tuple[bool, str] | None = None
        self.standing: Deferred[LinkProtocol] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def hello_received(self, link: LinkProtocol, hello: Hello) -> None:
        self.said.append("hello")
        self.on_hello(link, hello)
        if link.standing:
            self.standing.callback(link)

    def welcomed(self, link: LinkProtocol, welcome: Welcome) -> None:
        self.said.append("welcomed")
        self.standing.callback(link)

    def status_changed(self, link: LinkProtocol, ready: bool, reason: str) -> None:
        self.ready = (ready, reason)

    def stream_opened(self, link: LinkProtocol, stream: TunnelStream, message: Open) -> None:
        self.streams.append(stream)
        self.on_stream(stream)

    def goaway_received(self, link: LinkProtocol, goaway: Goaway) -> None:
        self.said.append("goaway")
        self.goaway = goaway

    def drained(self, link: LinkProtocol) -> None:
        self.said.append("drained")

    def link_lost(self, link: LinkProtocol, reason: Exception) -> None:
        self.said.append("lost")
        self.reason = reason
        self.lost.callback(None)


class Reader(Protocol):
    """A protocol that remembers; with ``closeable()`` it is told of half-closes."""

    transport: Any

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.said: list[str] = []
        self.reason: Failure | None = None
        self.gone: Deferred[None] = Deferred()
        self.on_data: Callable[[bytes], object] = self.received.append

    @property
    def data(self) -> bytes:
        return b"".join(self.received)

    def dataReceived(self, data: bytes) -> None:
        self.on_data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.reason is None, "connectionLost twice"
        self.said.append("lost")
        self.reason = reason
        self.gone.callback(None)

    @property
    def error(self) -> Any:
        assert self.reason is not None, "connectionLost was not called"
        return self.reason.value


@implementer(IHalfCloseableProtocol)
class HalfReader(Reader):
    def readConnectionLost(self) -> None:
        self.said.append("read ended")

    def writeConnectionLost(self) -> None:
        self.said.append("write ended")


class Echo(Protocol):
    """Sends back what comes; closes when the other side has."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class PushProducer:
    """Writes ``chunk`` to a consumer for as long as it is not paused, and counts."""

    def __init__(self, consumer: Any, chunk: bytes = bytes(16384), total: int = 10**9) -> None:
        self.consumer = consumer
        self.chunk = chunk
        self.left = total
        self.written = 0
        self.running = True
        self.stopped = False
        self.pauses = 0

    def start(self) -> None:
        self.consumer.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.running = True
        while self.running and self.left > 0:
            piece = self.chunk[: self.left]
            self.left -= len(piece)
            self.written += len(piece)
            self.consumer.write(piece)
        if self.left == 0 and self.running and not self.stopped:
            self.stopped = True
            self.consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        self.pauses += 1
        self.running = False

    def stopProducing(self) -> None:
        self.running = False
        self.stopped = True


class Pair:
    """A dialling and an accepting link over two bounded transports, with time in the test's hands.

    ``run()`` lets everything happen that can happen without time passing.
    """

    def __init__(
        self,
        *,
        capacity: int = 65536,
        config: SessionConfig | None = None,
        on_stream: Callable[[TunnelStream], object] | None = None,
        connected: bool = True,
        **facts: Any,
    ) -> None:
        self.clock: Any = Clock()
        self.turn = TurnEnd(self.clock)
        config = config or SessionConfig()
        self.near_owner = Owner()
        self.far_owner = Owner(on_stream)
        # "near" accepts (an edge) and opens streams; "far" dialled (an agent) and is given them
        self.near = LinkProtocol(self.clock, Side.ACCEPTOR, config, self.near_owner, turn=self.turn)
        self.far = LinkProtocol(
            self.clock, Side.DIALLER, config, self.far_owner, turn=self.turn, hello=hello(**facts), peer_name="edge:443"
        )
        self.near_end = BoundedTransport(self.near, capacity=capacity)
        self.far_end = BoundedTransport(self.far, capacity=capacity)
        self.near.makeConnection(self.near_end)  # type: ignore[arg-type]
        self.far.makeConnection(self.far_end)  # type: ignore[arg-type]
        if connected:
            self.run()
            assert self.near.standing
            assert self.far.standing

    def run(self, steps: int = 100_000) -> None:
        """Move bytes and end turns until nothing moves."""
        for _ in range(steps):
            if not self.step():
                return
        raise AssertionError("it does not come to rest")

    def step(self) -> bool:
        due = [call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds()]
        if due:
            self.clock.advance(0)
        moved = bool(due)
        for one, other in ((self.near_end, self.far_end), (self.far_end, self.near_end)):
            if other.disconnected and not one.disconnected:
                one.lose()
                moved = True
            if data := one.take():
                other.deliver(data)
                moved = True
        return moved

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass on a living connection."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(step, end - self.clock.seconds()))
            self.run()

    def open(self, message: Open = HTTP, protocol: Any = None) -> tuple[TunnelStream, Any]:
        """A stream from near to far, with a protocol."""
        stream = self.near.open(message)
        protocol = protocol or HalfReader()
        stream.attach(protocol)
        return stream, protocol

    def open_both(self, message: Open = HTTP, far: Any = None, near: Any = None) -> tuple[Any, Any]:
        """A stream with a protocol on each side; their transports are its two ends."""
        far = far or HalfReader()
        self.far_owner.on_stream = lambda stream: (stream.attach(far), stream.accept())
        _, near = self.open(message, near)
        self.run()
        return near, far

    def close(self) -> None:
        self.near.abort()
        self.far.abort()
        self.run()
        assert not self.clock.getDelayedCalls()


class Sockets:
    """The same over real sockets on loopback, with TLS or without.

    :param carrier: ``tls`` or ``websocket``, where there is a folder for a CA
    """

    def __init__(
        self, reactor: Any, state: Any = None, config: SessionConfig | None = None, *, carrier: str = "tls"
    ) -> None:
        self.carrier = carrier
        self.reactor = reactor
        self.config = config or SessionConfig()
        self.state = state
        self.near_owner = Owner()
        self.far_owner = Owner()
        self.turn = turn_end_of(reactor)
        self.near: Any = None
        self.far: Any = None

    async def connect(self) -> None:
        acceptor = None
        if self.state is not None:
            ca = DevCa(self.state)
            material = ca.certificate_for(["localhost"])
            self.ca_pem = ca.ca_pem
            acceptor = TlsAcceptor(self.reactor, ServerTls(CertificateMap([material]), [ALPN, b"http/1.1"]))
        sockets = self

        class Accept(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                if acceptor is None:
                    return self.link()
                within = Opening(sockets.reactor, self.link) if sockets.carrier == "websocket" else self.link()
                return acceptor.wrap(within)

            def link(self) -> LinkProtocol:
                sockets.near = LinkProtocol(
                    sockets.reactor, Side.ACCEPTOR, sockets.config, sockets.near_owner, turn=sockets.turn
                )
                return sockets.near  # type: ignore[no-any-return]

        class Dial(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                return LinkProtocol(
                    sockets.reactor, Side.DIALLER, sockets.config, sockets.far_owner, turn=sockets.turn, hello=hello()
                )

        listening = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        self.port: Any = immediate_port(await listening.listen(Accept()))
        number = self.port.getHost().port
        endpoint: Any
        if acceptor is not None and self.carrier == "websocket":
            creator = client_creator("localhost", ca_pem=self.ca_pem, alpn=[websocket.ALPN])
            endpoint = websocket.websocket_link_endpoint(self.reactor, "localhost", number, creator)
        elif acceptor is not None:
            creator = client_creator("localhost", ca_pem=self.ca_pem, alpn=[ALPN])
            endpoint = tls_link_endpoint(self.reactor, "localhost", number, creator)
        else:
            endpoint = TCP4ClientEndpoint(immediate_reactor(self.reactor), "127.0.0.1", number)
        self.far = await endpoint.connect(Dial())
        await self.near_owner.standing
        await self.far_owner.standing

    async def close(self) -> None:
        self.far.abort()
        await self.far_owner.lost
        await self.near_owner.lost
        await self.port.stopListening()
