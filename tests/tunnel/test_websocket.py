"""The WebSocket under a link: what is said on it, and what is refused. Its peer is wsproto, or octets of the test's."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from tests.fakes import BoundedTransport
from tests.tunnel.openings import Opening
from wormhole_tw.errors import LinkLost, NotAnEdge
from wormhole_tw.tunnel.carriers.websocket import (
    MAX_MESSAGE,
    MAX_USELESS,
    MESSAGE,
    PATH,
    WebSocketEndpoint,
    WebSocketTransport,
)


class Above(Protocol):
    """The protocol whose octets are carried."""

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost: Failure | None = None
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.lost is None
        self.lost = reason
        self.gone.callback(None)


class Talk:
    """A WebSocket of ours over a transport of the test's, and its peer."""

    def __init__(self, kind: ConnectionType = ConnectionType.SERVER) -> None:
        self.clock = Clock()
        self.above = Above()
        self.ours = WebSocketTransport(kind, self.clock, self.above)  # type: ignore[arg-type]
        self.below: Any = BoundedTransport(self.ours, capacity=10**7)  # type: ignore[arg-type]
        other = ConnectionType.CLIENT if kind is ConnectionType.SERVER else ConnectionType.SERVER
        self.peer = Connection(other)
        self.ours.makeConnection(self.below)

    def says(self, *events: Any) -> None:
        """The peer says this, in one piece."""
        self.below.deliver(b"".join(bytes(self.peer.send(event)) for event in events))

    def heard(self) -> list[Any]:
        """What the peer has heard since the last time."""
        self.peer.receive_data(self.below.take_all())
        return list(self.peer.events())

    @property
    def why(self) -> str:
        assert self.above.lost is not None
        return self.above.lost.getErrorMessage()


@pytest.mark.parametrize("kind", list(ConnectionType))
def test_octets_both_ways(kind: ConnectionType) -> None:
    talk = Talk(kind)
    talk.says(BytesMessage(data=b"one "), BytesMessage(data=b"t"), BytesMessage(data=b"wo", message_finished=False))
    assert talk.above.got == b"one two"
    talk.says(BytesMessage(data=b" three", message_finished=True))
    assert talk.above.got == b"one two three"
    sent = os.urandom(3 * MESSAGE + 1)
    talk.above.transport.write(sent)
    talk.above.transport.writeSequence([b"a", b"b"])
    talk.above.transport.write(b"")
    messages = talk.heard()
    assert all(type(message) is BytesMessage and message.message_finished for message in messages)
    assert [len(message.data) for message in messages] == [MESSAGE, MESSAGE, MESSAGE, 1, 2]
    assert b"".join(message.data for message in messages) == sent + b"ab"


def test_a_message_need_not_be_whole_to_be_heard() -> None:
    talk = Talk()
    frame = bytes(talk.peer.send(BytesMessage(data=b"0123456789")))
    for octet in frame[:-3]:
        talk.below.deliver(bytes([octet]))
    assert talk.above.got == b"0123456"


def test_pings_are_answered() -> None:
    talk = Talk()
    talk.says(Ping(payload=b"there?"), BytesMessage(data=b"data"), Pong(payload=b"unasked"))
    assert talk.heard() == [Pong(payload=b"there?")]
    assert talk.above.got == b"data"


def test_addresses_are_those_below() -> None:
    talk = Talk()
    assert talk.above.transport.getPeer() is talk.below.getPeer()
    assert talk.above.transport.getHost() is talk.below.getHost()


def test_a_full_transport_pauses_who_writes() -> None:
    talk = Talk()
    talk.below.capacity = 1000
    paused: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            paused.append("paused")

        def resumeProducing(self) -> None:
            paused.append("resumed")

        def stopProducing(self) -> None:
            paused.append("stopped")

    talk.above.transport.registerProducer(Producer(), True)
    talk.above.transport.write(bytes(5000))
    assert paused == ["paused"]
    talk.below.take_all()
    assert paused == ["paused", "resumed"]
    talk.above.transport.unregisterProducer()


def test_pings_of_who_does_not_read_fill_no_memory() -> None:
    talk = Talk()
    talk.below.capacity = 1000
    heard: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            heard.append("paused")

        def resumeProducing(self) -> None:
            heard.append("resumed")
            talk.above.transport.write(b"more")

    talk.above.transport.registerProducer(Producer(), True)
    talk.above.transport.write(bytes(5000))
    full = talk.below.queued
    for number in range(MAX_USELESS - 1):
        talk.says(Ping(payload=b"ping %d" % number))
    assert talk.below.queued == full
    # the last one is answered as soon as there is room, and what runs goes on
    last = Pong(payload=b"ping %d" % (MAX_USELESS - 2))
    assert talk.heard() == [BytesMessage(data=bytes(5000)), last, BytesMessage(data=b"more")]
    assert heard == ["paused", "resumed"]
    talk.says(Ping(payload=b"again"))
    assert talk.heard() == [Pong(payload=b"again")]
    talk.above.transport.unregisterProducer()


@pytest.mark.parametrize(
    ("events", "code", "why"),
    [
        ([TextMessage(data="words")], 1003, "the WebSocket was closed here: a message of text"),
        ([Ping()] * (MAX_USELESS + 1), 1008, f"more than {MAX_USELESS} pings or empty frames in a second"),
        ([Pong()] * (MAX_USELESS + 1), 1008, f"more than {MAX_USELESS} pings or empty frames in a second"),
        ([BytesMessage(data=b"")] * (MAX_USELESS + 1), 1008, f"more than {MAX_USELESS} pings or empty frames"),
        ([BytesMessage(data=bytes(MAX_MESSAGE + 1))], 1009, f"a message of more than {MAX_MESSAGE} octets"),
        (
            [*[BytesMessage(data=bytes(MAX_MESSAGE // 4), message_finished=False)] * 4, BytesMessage(data=b"x")],
            1009,
            f"a message of more than {MAX_MESSAGE} octets",
        ),
    ],
)
def test_what_is_not_of_this_carrier_ends_it(events: list[Any], code: int, why: str) -> None:
    talk = Talk()
    talk.says(*events, BytesMessage(data=b"after"))
    assert not talk.above.got.endswith(b"after")
    closed = [event for event in talk.heard() if type(event) is CloseConnection]
    assert [int(event.code) for event in closed] == [code]
    assert talk.below.disconnecting
    talk.below.lose(ConnectionDone())
    assert why in talk.why


def test_what_is_rare_is_no_flood() -> None:
    talk = Talk()
    for _ in range(3):
        talk.says(*[Ping()] * MAX_USELESS)
        talk.clock.advance(1.0)
    assert not talk.below.disconnecting


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"\x82\x01x", 1002),  # not masked, from a client
        (b"\xc2\x81\x00\x00\x00\x00x", 1002),  # a reserved bit
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # an unknown kind
        (b"\x80\x80\x00\x00\x00\x00", 1002),  # goes on with nothing
        (b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + bytes(126), 1002),  # a ping that is too long
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1002),  # more than 2^63
    ],
)
def test_what_is_no_websocket_ends_it(octets: bytes, code: int) -> None:
    talk = Talk()
    talk.below.deliver(octets)
    [closed] = talk.heard()
    assert (type(closed), int(closed.code)) == (CloseConnection, code)
    talk.below.lose(ConnectionDone())
    assert "it breaks RFC 6455" in talk.why


def test_our_close_waits_for_theirs() -> None:
    talk = Talk()
    talk.above.transport.write(b"last words")
    talk.above.transport.loseConnection()
    talk.above.transport.write(b"too late")
    talk.above.transport.loseConnection()
    words, closed = talk.heard()
    assert words.data == b"last words"
    assert int(closed.code) == 1000
    assert not talk.below.disconnecting
    talk.says(closed.response())
    assert talk.below.disconnecting
    talk.below.lose(ConnectionDone())
    assert talk.above.lost is not None
    assert talk.above.lost.check(ConnectionDone)


def test_what_crosses_our_close_is_heard() -> None:
    talk = Talk()
    frame = bytes(talk.peer.send(BytesMessage(data=b"crossed it")))
    talk.above.transport.loseConnection()
    talk.below.deliver(frame)
    assert talk.above.got == b"crossed it"


def test_a_ping_that_crosses_our_close_gets_no_answer() -> None:
    talk = Talk()
    frame = bytes(talk.peer.send(Ping()))
    talk.above.transport.loseConnection()
    talk.below.deliver(frame)
    assert [type(event) for event in talk.heard()] == [CloseConnection]


@pytest.mark.parametrize("code", [1000, None])
def test_their_close_is_answered(code: int | None) -> None:
    talk = Talk()
    talk.says(BytesMessage(data=b"last"), CloseConnection(code=code or 1005))
    assert talk.above.got == b"last"
    assert [type(event) for event in talk.heard()] == [CloseConnection]
    assert talk.below.disconnecting
    talk.below.deliver(b"\x82\x81\x00\x00\x00\x00x")
    assert talk.above.got == b"last"
    talk.below.lose(ConnectionDone())
    assert talk.above.lost is not None
    assert talk.above.lost.check(ConnectionDone)


def test_their_reason_is_told() -> None:
    talk = Talk()
    talk.says(CloseConnection(code=1011, reason="an \x1b[31m error"))
    talk.below.lose(ConnectionDone())
    assert talk.why.endswith("its WebSocket was closed with 1011: an [31m error.")


def test_an_end_without_a_close() -> None:
    talk = Talk()
    talk.below.lose(ConnectionLost())
    assert talk.above.lost is not None
    assert talk.above.lost.check(ConnectionLost)
    talk.above.transport.write(b"nobody hears it")
    talk.above.transport.loseConnection()


def test_giving_it_up() -> None:
    talk = Talk()
    talk.above.transport.abortConnection()
    assert talk.above.lost is not None


# The opening, over sockets.


class Says(Protocol):
    """Answers the opening with what the test says; None: never."""

    transport: Any

    def __init__(self, text: bytes | None) -> None:
        self.text = text

    def dataReceived(self, data: bytes) -> None:
        if self.text is not None:
            self.transport.write(self.text)
            if not self.text:
                self.transport.loseConnection()


async def opened(reactor: Any, make: Any, *, timeout: float = 10.0, cancel: bool = False) -> Any:
    """What a dial gives: the protocol above, or what it fails with."""
    factory = Factory.forProtocol(make)
    factory.noisy = False
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    below = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    above = Factory.forProtocol(Above)
    above.noisy = False
    try:
        dialled = WebSocketEndpoint(reactor, below, "edge.example", 8443, timeout).connect(above)
        if cancel:
            reactor.callLater(0.05, dialled.cancel)
        return await dialled
    finally:
        await port.stopListening()


async def test_the_opening(reactor: Any) -> None:
    far = Above()
    opening = Opening(reactor, lambda: far)
    near = await opened(reactor, lambda: opening)
    assert opening.asked.startswith(b"GET " + PATH.encode() + b" HTTP/1.1\r\nHost: edge.example:8443\r\n")
    assert b"\r\nOrigin:" not in opening.asked
    assert b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" in opening.asked
    near.transport.write(b"hello")
    near.transport.loseConnection()
    await near.gone
    await far.gone
    assert far.got == b"hello"


REFUSALS = [
    (b"404 Not Found", "answered 404 Not Found to the WebSocket (no edge there, or one that takes no tunnels by "),
    (
        b"400 Bad Request",
        "answered 400 Bad Request to the WebSocket (something there takes no Upgrade, or the edge is ",
    ),
    (b"403 Forbidden", "answered 403 Forbidden to the WebSocket (something before the edge does not allow it)"),
    (b"407 Who", "answered 407 Who to the WebSocket (a proxy on the way wants a user and a password; set HTTPS_PROXY)"),
    (b"502 Bad Gateway", "answered 502 Bad Gateway to the WebSocket (what stands before the edge does not reach it)"),
    (b"200 OK", "answered 200 OK to the WebSocket (a page, and no edge)"),
    (b"302 Found", "answered 302 Found to the WebSocket (it leads elsewhere)"),
    (
        b"302 Found\r\nLocation: http://portal/\x1b",
        "answered 302 Found to the WebSocket (it leads on to http://portal/)",
    ),
    (b"418 Teapot", "answered 418 Teapot to the WebSocket"),
    (
        b"404 Not Found\r\nX-Wormhole-Error: unknown-host",
        "(the edge there does not know this name as its own; see edge.",
    ),
    (
        b"403 No\r\nX-Wormhole-Error: tunnels-not-here",
        "(the edge takes no tunnels there: what ends TLS before it has to stand in trusted_proxies)",
    ),
    (
        b"421 No\r\nX-Wormhole-Error: misdirected",
        "(something before the edge sends it another server name (SNI) than H",
    ),
    (b"101 Yes", "answered 101 to the WebSocket, but not as RFC 6455 has it"),
    (
        b"101 Yes\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: AAAA",
        "answered 101 to the WebSocket, but not as RFC 6455 has it",
    ),
]


@pytest.mark.parametrize(("answer", "sentence"), REFUSALS)
async def test_another_answer_is_explained_in_a_line(reactor: Any, answer: bytes, sentence: str) -> None:
    with pytest.raises(NotAnEdge) as raised:
        await opened(reactor, lambda: Says(b"HTTP/1.1 " + answer + b"\r\n\r\n<html>"))
    assert str(raised.value).startswith("edge.example:8443 ")
    assert sentence in str(raised.value)
    assert str(raised.value).isprintable()


async def test_no_http(reactor: Any) -> None:
    with pytest.raises(NotAnEdge, match="what answers at edge.example:8443 does not speak HTTP: it is not HTTP/1"):  # noqa: RUF043
        await opened(reactor, lambda: Says(b"220 mail\r\n"))


async def test_no_answer(reactor: Any) -> None:
    with pytest.raises(NotAnEdge, match="closed the connection without an answer to the WebSocket"):
        await opened(reactor, lambda: Says(b""))


async def test_an_answer_that_is_too_late(reactor: Any) -> None:
    with pytest.raises(LinkLost, match=r"did not answer to the WebSocket within 0.2 s"):
        await opened(reactor, lambda: Says(None), timeout=0.2)


async def test_an_opening_that_is_given_up(reactor: Any) -> None:
    with pytest.raises(CancelledError):
        await opened(reactor, lambda: Says(None), cancel=True)


@given(st.lists(st.binary(max_size=40), max_size=12), st.sampled_from(list(ConnectionType)))
def test_whatever_comes_ends_it_or_is_carried(pieces: list[bytes], kind: ConnectionType) -> None:
    talk = Talk(kind)
    for piece in pieces:
        talk.below.deliver(b"\x82" + piece if len(piece) % 3 else piece)
    talk.below.lose(ConnectionDone())
    assert len(talk.above.got) <= sum(len(piece) + 1 for piece in pieces)
    assert talk.above.lost is not None
