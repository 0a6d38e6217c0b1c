"""The carrier for networks and load balancers that let only HTTP pass: the tunnel's octets in binary WebSocket messages
(RFC 6455), at :data:`PATH` of the edge's own names. docs/protocol.md, "WebSocket", specifies it."""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, generate_accept_token
from zope.interface import implementer

from wormhole_tw.errors import LinkLost, NotAnEdge
from wormhole_tw.net.addresses import format_host_port
from wormhole_tw.net.http_answer import AnswerHead, AnswerReader
from wormhole_tw.net.immediate import immediate_reactor
from wormhole_tw.net.opening import Opening, Openings
from wormhole_tw.net.tls_dialling import wrap_client_tls
from wormhole_tw.net.tls_transport import write_at_once
from wormhole_tw.tunnel.carriers.tls import CONNECT_TIMEOUT

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime

__all__ = ["ALPN", "MAX_MESSAGE", "PATH", "WebSocketTransport", "accept_token", "websocket_link_endpoint"]

ALPN = b"http/1.1"
"""What is offered in TLS: an Upgrade is HTTP/1.1's."""

PATH = "/.wormhole/tunnel"

MESSAGE = 64 * 1024
"""Octets of a message that is sent, at the most: intermediaries hold whole messages, or have limits of their own."""

MAX_MESSAGE = 1024 * 1024
"""Octets of a message that is taken. None of it is gathered, so that this bounds no memory; whoever sends more does not
speak this carrier."""

MAX_USELESS = 100
"""Pings, pongs and empty frames that are taken in a second: intermediaries send one in many seconds."""

VERSION = "13"


@implementer(IConsumer)
class WebSocketTransport:
    """A WebSocket whose handshake is done, between the transport below it and a protocol: a carrier's byte pipe.

    To the protocol it is an ``ITransport`` and ``IConsumer`` with ``abortConnection``; backpressure is that of the
    transport below. ``loseConnection`` sends a Close frame and waits for the peer's: who does not trust the peer to
    answer calls ``abortConnection`` after a while. Pings are answered; of those that come while the transport below is
    full, the last (RFC 6455 §5.5.3), so that who asks and does not read fills no memory.

    :param kind: which side of it this is
    :param clock: for what is counted by the second
    :param protocol: connected by :meth:`makeConnection`
    """

    def __init__(self, kind: ConnectionType, clock: IReactorTime, protocol: IProtocol) -> None:
        self.factory = None
        self.transport: Any = None
        self.protocol = protocol
        self._socket = Connection(kind)
        self._clock = clock
        self._message = 0
        self._useless = 0
        self._since = clock.seconds()
        self._lost = False
        self._hanging_up = False
        self._why = ""
        self._writer = _Writer(self)

    # For the transport below.

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        write_at_once(transport)  # the link collects what it has to say itself
        self.protocol.makeConnection(cast(Any, self))

    def connectionMade(self) -> None:
        """All is done in :meth:`makeConnection`."""

    def logPrefix(self) -> str:
        return "websocket"

    def dataReceived(self, data: bytes) -> None:
        if self._lost or self._socket.state in (ConnectionState.CLOSED, ConnectionState.REMOTE_CLOSING):
            return
        pieces: list[bytes] = []
        try:
            self._socket.receive_data(bytes(data))
            for event in self._socket.events():
                if type(event) is BytesMessage:
                    self._count(event, len(event.data))
                    pieces.append(bytes(event.data))
                else:
                    self._of_the_socket(event)
                if self._hanging_up:
                    break
        except _Refused as refused:
            self._close(refused.code, str(refused))
        if pieces and not self._lost:
            self.protocol.dataReceived(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        if self._why:
            reason = Failure(ConnectionLost(self._why))
        self.protocol.connectionLost(reason)

    def _count(self, event: BytesMessage, size: int) -> None:
        self._message += size
        if self._message > MAX_MESSAGE:
            raise _Refused(CloseReason.MESSAGE_TOO_BIG, f"a message of more than {MAX_MESSAGE} octets")
        if event.message_finished:
            self._message = 0
        if not size:
            self._count_useless()

    def _count_useless(self) -> None:
        now = self._clock.seconds()
        if now - self._since >= 1:
            self._since, self._useless = now, 0
        self._useless += 1
        if self._useless > MAX_USELESS:
            raise _Refused(CloseReason.POLICY_VIOLATION, f"more than {MAX_USELESS} pings or empty frames in a second")

    def _of_the_socket(self, event: object) -> None:
        if isinstance(event, Ping):
            self._count_useless()
            if self._writer.full:
                self._writer.unanswered = event
            else:
                self._send(event.response())
        elif isinstance(event, Pong):
            self._count_useless()
        elif isinstance(event, CloseConnection):
            self._closed_there(event)
        else:
            raise _Refused(CloseReason.UNSUPPORTED_DATA, "a message of text")

    def _closed_there(self, event: CloseConnection) -> None:
        if self._socket.state is ConnectionState.OPEN:
            raise _Refused(CloseReason(event.code), f"it breaks RFC 6455: {event.reason}")
        if self._socket.state is ConnectionState.REMOTE_CLOSING:
            if event.code not in (CloseReason.NORMAL_CLOSURE, CloseReason.NO_STATUS_RCVD):
                said = "".join(char for char in event.reason or "" if " " <= char <= "~")[:100]
                self._why = f"its WebSocket was closed with {int(event.code)}{': ' if said else ''}{said}"
            self._send(event.response())
        self._hang_up()

    # For the protocol above.

    def write(self, data: bytes) -> None:
        if self._lost or self._socket.state is not ConnectionState.OPEN:
            return
        if len(data) <= MESSAGE:
            if data:
                self._send(BytesMessage(data=bytes(data)))
            return
        view = memoryview(data)
        for begin in range(0, len(data), MESSAGE):
            self._send(BytesMessage(data=bytes(view[begin : begin + MESSAGE])))

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self._lost and self._socket.state is ConnectionState.OPEN:
            self._send(CloseConnection(code=CloseReason.NORMAL_CLOSURE))

    def abortConnection(self) -> None:
        self.transport.abortConnection()

    def getPeer(self) -> IAddress:
        return cast(IAddress, self.transport.getPeer())

    def getHost(self) -> IAddress:
        return cast(IAddress, self.transport.getHost())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._writer.producer = producer
        self.transport.registerProducer(self._writer, streaming)

    def unregisterProducer(self) -> None:
        self.transport.unregisterProducer()

    # within

    def answer(self, ping: Ping) -> None:
        """What could not be said before."""
        self._send(ping.response())

    def _send(self, event: Any) -> None:
        try:
            self.transport.write(bytes(self._socket.send(event)))
        except LocalProtocolError:
            pass  # it is closing: nothing more can be said

    def _close(self, code: CloseReason, why: str) -> None:
        """The peer broke a rule: it is told, and heard no more."""
        self._why = f"the WebSocket was closed here: {why}"
        self._send(CloseConnection(code=code, reason=why[:100]))
        self._hang_up()

    def _hang_up(self) -> None:
        self._hanging_up = True
        # what waits is written first; a producer would keep the transport open for more
        self.transport.unregisterProducer()
        self.transport.loseConnection()


@implementer(IPushProducer)
class _Writer:
    """Hands the transport's word on to the producer above, and remembers it.

    :ivar full: the transport has enough
    :ivar unanswered: the last ping that came meanwhile
    """

    def __init__(self, socket: WebSocketTransport) -> None:
        self.producer: Any = None
        self.full = False
        self.unanswered: Ping | None = None
        self._socket = socket

    def pauseProducing(self) -> None:
        self.full = True
        self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        self.full = False
        ping, self.unanswered = self.unanswered, None
        if ping is not None:
            self._socket.answer(ping)
        if not self.full:
            self.producer.resumeProducing()

    def stopProducing(self) -> None:
        self.producer.stopProducing()


class _Refused(Exception):
    """What came is not this carrier's."""

    def __init__(self, code: CloseReason, message: str) -> None:
        super().__init__(message)
        self.code = code


def accept_token(key: bytes) -> bytes:
    """``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key`` (RFC 6455 §4.2.2)."""
    return generate_accept_token(key)


def websocket_link_endpoint(
    reactor: Any,
    host: str,
    port: int,
    creator: IOpenSSLClientConnectionCreator,
    *,
    timeout: float = CONNECT_TIMEOUT,
    below: IStreamClientEndpoint | None = None,
) -> IStreamClientEndpoint:
    """Where a link is dialled by WebSocket over TLS: each ``connect()`` looks the name up anew.

    It fires when the edge has taken the WebSocket. It fails as ``tls_link_endpoint`` does, with
    :class:`~wormhole_tw.errors.NotAnEdge` where something else answered, in one sentence, or with
    :class:`~wormhole_tw.errors.LinkLost` where nothing did in time.

    :param creator: ``net.tls.client_creator(host, alpn=[ALPN], …)``; make it once and keep it
    :param timeout: seconds for the connection, for TLS and for the answer each
    :param below: another way to ``host:port``, through a proxy
    """
    if below is None:
        below = HostnameEndpoint(immediate_reactor(reactor), host, port, timeout=timeout)
    return WebSocketEndpoint(reactor, wrap_client_tls(reactor, creator, below, timeout=timeout), host, port, timeout)


@implementer(IStreamClientEndpoint)
class WebSocketEndpoint:
    """Upgrades what ``below`` connects."""

    def __init__(self, clock: IReactorTime, below: IStreamClientEndpoint, host: str, port: int, timeout: float) -> None:
        self._clock = clock
        self._below = below
        self._host = host
        self._port = port
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        upgrades = Openings(factory, lambda address: _Upgrade(factory, address, self._clock, self._host, self._port))
        upgrade = cast(_Upgrade, await self._below.connect(upgrades))
        return await upgrade.outcome(self._clock, self._timeout)


class _Upgrade(Opening):
    """Asks for the WebSocket."""

    def __init__(
        self, factory: IProtocolFactory, address: IAddress | None, clock: IReactorTime, host: str, port: int
    ) -> None:
        super().__init__(factory, address)
        self._clock = clock
        self._peer = format_host_port(host, port)
        self._authority = format_host_port(host, port, 443)
        self._key = b64encode(secrets.token_bytes(16))
        self._answer = AnswerReader()

    def begin(self) -> bytes:
        lines = (
            f"GET {PATH} HTTP/1.1",
            f"Host: {self._authority}",
            "User-Agent: wormhole-tw",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self._key.decode('ascii')}",
            f"Sec-WebSocket-Version: {VERSION}",
        )
        return "\r\n".join((*lines, "", "")).encode("ascii")

    def hear(self, data: bytes) -> bytes | None:
        try:
            answer = self._answer.feed(data)
        except ValueError as error:
            raise NotAnEdge(f"what answers at {self._peer} does not speak HTTP: {error}") from None
        if answer is None:
            return None
        if reason := self._refusal(answer):
            raise NotAnEdge(reason)
        return self._answer.rest

    def over(self, protocol: IProtocol) -> IProtocol:
        return cast(IProtocol, WebSocketTransport(ConnectionType.CLIENT, self._clock, protocol))

    def closed(self) -> NotAnEdge:
        return NotAnEdge(f"{self._peer} closed the connection without an answer to the WebSocket")

    def late(self, seconds: float) -> LinkLost:
        return LinkLost(f"{self._peer} did not answer to the WebSocket within {seconds:g} s")

    def _refusal(self, answer: AnswerHead) -> str:
        """Why this answer is no WebSocket of an edge; empty where it is one (RFC 6455 §4.1)."""
        fields = answer.fields
        if answer.status != 101:
            return f"{self._peer} answered {answer} to the WebSocket{_hint(answer)}"
        named = {token.strip().lower() for token in fields.get("connection", "").split(",")}
        if (
            fields.get("upgrade", "").lower() != "websocket"
            or "upgrade" not in named
            or fields.get("sec-websocket-accept", "") != accept_token(self._key).decode("ascii")
            or "sec-websocket-extensions" in fields
            or "sec-websocket-protocol" in fields
        ):
            return f"{self._peer} answered 101 to the WebSocket, but not as RFC 6455 has it"
        return ""


_OF_AN_EDGE = {
    "unknown-host": "the edge there does not know this name as its own; see edge.names, and let Host pass unchanged",
    "websocket-expected": "something before the edge does not pass Upgrade on",
    "tunnels-not-here": "the edge takes no tunnels there: what ends TLS before it has to stand in trusted_proxies",
    "tunnel-from-browser": "something before the edge adds an Origin field",
    "misdirected": "something before the edge sends it another server name (SNI) than Host",
}
_BY_STATUS = {
    400: "something there takes no Upgrade, or the edge is too old for it",
    401: "something before the edge wants a login",
    403: "something before the edge does not allow it",
    404: "no edge there, or one that takes no tunnels by WebSocket",
    405: "no edge there",
    407: "a proxy on the way wants a user and a password; set HTTPS_PROXY",
    426: "something before the edge does not pass Upgrade on",
    502: "what stands before the edge does not reach it",
    503: "what stands before the edge does not reach it",
    504: "what stands before the edge does not reach it",
}


def _hint(answer: AnswerHead) -> str:
    hint = _OF_AN_EDGE.get(answer.fields.get("x-wormhole-error", "")) or _BY_STATUS.get(answer.status, "")
    if not hint and 200 <= answer.status < 300:
        hint = "a page, and no edge"
    if not hint and 300 <= answer.status < 400:
        where = "".join(char for char in answer.fields.get("location", "") if "!" <= char <= "~")[:200]
        hint = f"it leads on to {where}" if where else "it leads elsewhere"
    return f" ({hint})" if hint else ""
