"""From a stream of the tunnel to a connection of the private service.

Every stream gets a connection of its own.  The agent reads none of the bytes, so that whatever speaks over a connection
passes.  What arrives before the service's connection stands waits in the stream, bounded by its window.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.agent.interfaces import IStreamFactory
from wormhole_tw.agent.local import PUBLIC_SENTENCES, LocalService
from wormhole_tw.net.addresses import is_ip_address
from wormhole_tw.net.proxy_protocol import encode_header
from wormhole_tw.net.relay import Relay, RelayEnd
from wormhole_tw.net.transport import tune
from wormhole_tw.tunnel.stream import TunnelStream
from wormhole_tw.wire.codes import ResetCode
from wormhole_tw.wire.messages import Open, Service

__all__ = ["Bridge"]

_log = Logger()


class Bridge:
    """Joins streams to the private service.

    :ivar services: what HELLO offers
    """

    def __init__(self, local: LocalService) -> None:
        self._local = local
        self._passages: set[_Passage] = set()
        self._idle_waiters: list[Deferred[None]] = []
        self.services = [Service()]

    @property
    def load(self) -> int:
        """Streams that are joined, or are about to be."""
        return len(self._passages)

    def stream_opened(self, stream: TunnelStream, message: Open) -> None:
        """Dial the service for a stream that the edge opened. Its failure is that stream's and nobody else's."""
        service = next((known for known in self.services if known.name == message.service), None)
        if service is None:
            stream.reset(ResetCode.NO_SUCH_SERVICE, "this agent has no service of that name", delivered=False)
        elif message.kind not in service.kinds:
            stream.reset(ResetCode.UNSUPPORTED_KIND, "this agent's service takes no such stream", delivered=False)
        else:
            passage = _Passage(self, stream)
            self._passages.add(passage)
            passage.start(self._local, proxy_header(message) if message.proxy_protocol is not None else b"")

    def gone(self, passage: _Passage) -> None:
        """A passage is over on both sides."""
        self._passages.discard(passage)
        if not self._passages:
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                if not waiter.called:
                    waiter.callback(None)

    def when_idle(self) -> Deferred[None]:
        """Fires when nothing is joined: no stream, no connection to the service. A Deferred of the caller's own."""
        waiter: Deferred[None] = Deferred(self._forget)
        if self._passages:
            self._idle_waiters.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def _forget(self, waiter: Deferred[None]) -> None:
        if waiter in self._idle_waiters:  # or it is about to be told, and another one that was told first cancels it
            self._idle_waiters.remove(waiter)

    def abort(self) -> None:
        """End every passage now."""
        for passage in list(self._passages):
            passage.abort()


class _Passage:
    """One stream and its connection to the service."""

    __slots__ = ("_bridge", "_dialling", "_local", "_relay", "_stream")

    def __init__(self, bridge: Bridge, stream: TunnelStream) -> None:
        self._bridge = bridge
        self._stream = stream
        self._relay = Relay(self._broke, self._over)
        self._dialling: Deferred[Any] | None = None

    def start(self, local: LocalService, header: bytes) -> None:
        """
        :param header: what the service gets before anything else, and before TLS with it
        """
        self._local = local
        # Attached at once, so that the stream's end cancels the dial; the relay pauses it until the far end stands.
        self._stream.attach(self._relay.near)
        dialling = local.connect(_Once(self._relay.far, self._stream), header)
        self._dialling = dialling
        dialling.addCallbacks(self._stands, self._dial_failed)
        dialling.addErrback(self._bug)

    def _stands(self, _protocol: object) -> None:
        self._dialling = None
        tune(self._relay.far.transport)
        self._stream.accept()

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        if self._relay.near.lost is not None:  # cancelled: nobody waits for it any more
            self._bridge.gone(self)
            return
        code, _ = self._local.explain(failure)
        self._stream.reset(code, PUBLIC_SENTENCES.get(code, ""), delivered=False)

    def _bug(self, failure: Failure) -> None:
        _log.failure("joining a stream to the service failed", failure)
        self._stream.reset(ResetCode.INTERNAL, "the agent failed", delivered=self._relay.delivered)

    def _broke(self, lost: RelayEnd, reason: Failure) -> None:
        """One of the two ended otherwise than by its end."""
        if lost is self._relay.near:
            self._relay.far.transport.abortConnection()
        else:
            # Its place is behind what the service sent before: an early answer arrives whole.
            self._stream.reset(
                ResetCode.SERVICE_FAILED, "the service's connection broke", delivered=self._relay.delivered
            )

    def _over(self, _relay: Relay) -> None:
        """Both are gone, or the stream went before the service was there."""
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()  # its end says that we are gone
        else:
            self._bridge.gone(self)

    def abort(self) -> None:
        """End both now."""
        self._relay.abort()


def proxy_header(message: Open) -> bytes:
    """What the PROXY protocol tells the service of a stream's visitor.

    A stream that belongs to nobody, or to a visitor without an IP address (by a Unix socket), says so.
    """
    assert message.proxy_protocol is not None
    visitor = message.visitor if message.dedicated else None
    if visitor is None or not is_ip_address(visitor.address):
        return encode_header(message.proxy_protocol, None)
    tls = visitor.tls
    # what TLS named holds for the connection, the host name that a request asks for does not
    named = (tls.sni if tls is not None else None) or (visitor.server_name if message.kind == "tcp" else "")
    return encode_header(
        message.proxy_protocol,
        (visitor.address, visitor.port),
        (visitor.local_address, visitor.local_port),
        authority=named,
        tls=(tls.version, tls.cipher) if tls is not None else None,
        verified=tls is not None and tls.client_fingerprint is not None,
    )


@implementer(IStreamFactory)
class _Once(Factory):
    """Builds the one protocol that it was made with, for one stream."""

    noisy = False

    def __init__(self, protocol: Any, stream: TunnelStream) -> None:
        self._protocol = protocol
        self._stream = stream

    @property
    def peer(self) -> IAddress:
        return self._stream.getPeer()

    @property
    def host(self) -> IAddress:
        return self._stream.getHost()

    def buildProtocol(self, addr: IAddress) -> IProtocol:  # type: ignore[override]
        return self._protocol  # type: ignore[no-any-return]
