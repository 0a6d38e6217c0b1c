"""A listener and TLS clients of ours that talk to it over real sockets."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.net.peers import SslPeer
from wormhole_tw.net.immediate import immediate_reactor
from wormhole_tw.net.tls import wrap_client_tls
from wormhole_tw.net.tls_transport import alpn_of


class Talker(Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.events: list[str] = []
        self.alpn: bytes | None = None
        self.lost: list[Failure] = []
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self._waiters.append((condition, waiter))
        self.look()
        return waiter

    def look(self) -> None:
        waiters, self._waiters = self._waiters, []
        for condition, waiter in waiters:
            if condition():
                waiter.callback(None)
            else:
                self._waiters.append((condition, waiter))

    def connectionMade(self) -> None:
        self.alpn = alpn_of(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason)
        self.look()

    async def gone(self) -> BaseException:
        await self.until(lambda: bool(self.lost))
        assert self.lost[0].value is not None
        return self.lost[0].value


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class HalfTalker(Talker):
    def handshakeCompleted(self) -> None:
        self.events.append("handshake")

    def readConnectionLost(self) -> None:
        self.events.append("read lost")
        self.look()

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")
        self.look()


class Service:
    """Listens with whatever protocol the test gives."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.accepted: list[Any] = []
        self.made: list[Talker] = []
        self.port: Any = None

    async def listen(self, build: Callable[[], Any]) -> None:
        def accept() -> Any:
            self.accepted.append(build())
            return self.accepted[-1]

        factory: Factory = Factory.forProtocol(accept)  # type: ignore[arg-type]
        factory.noisy = False
        self.port = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(factory)

    def endpoint(self, creator: Any, timeout: float = 5) -> Any:
        tcp = TCP4ClientEndpoint(immediate_reactor(self.reactor), "127.0.0.1", self.port.getHost().port)
        return wrap_client_tls(self.reactor, creator, tcp, timeout=timeout)

    async def dial(self, creator: Any, protocol: Talker | None = None, **how: Any) -> Any:
        made = protocol or Talker()
        factory = Factory.forProtocol(lambda: made)  # type: ignore[arg-type]
        factory.noisy = False
        self.made.append(made)
        return await self.endpoint(creator, **how).connect(factory)

    async def stop(self) -> None:
        for made in self.made:
            if made.transport is not None and not made.lost:
                made.transport.abortConnection()  # type: ignore[attr-defined]
                await made.gone()
        for peer in self.accepted:
            if isinstance(peer, SslPeer) and peer.transport is not None and peer.lost is None:
                await peer.gone()
        await maybeDeferred(self.port.stopListening)


def tls_peer(context: ssl.SSLContext, cut: int = 0) -> Callable[[], SslPeer]:
    return lambda: SslPeer(context, server_side=True, cut=cut)


def turn(reactor: Any) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done
