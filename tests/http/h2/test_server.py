"""The HTTP/2 codec as an exchange meets it: streaming both ways, windows, early answers, WebSockets, the end."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, TrailersReceived

from tests.http.h2.talk import ACCEPT, GET, KEY, POST, WEBSOCKET, Peer
from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import (
    Body,
    End,
    Framing,
    InformationalHead,
    Raw,
    RawEnd,
    RequestHead,
    ResponseHead,
)
from wormhole_tw.http.h2 import H2Limits, H2ServerCodec
from wormhole_tw.http.h2.faults import ErrorCode

OK = ResponseHead(200, b"OK", [], framing=Framing.CHUNKED)


def head_of(
    peer: Peer, stream: int, fields: list[tuple[str, str]], *more: tuple[str, str], end: bool = True
) -> RequestHead:
    """The head that comes of a header block."""
    peer.codec.take_events()
    got = peer.codec.receive_data(
        b"".join(
            (
                len(block := peer.block([*fields, *more])).to_bytes(3, "big"),
                bytes((1, 4 | end)),
                stream.to_bytes(4, "big"),
                block,
            )
        ),
        0.0,
    )
    head = got[0][1]
    assert isinstance(head, RequestHead)
    return head


# Requests.


def test_the_head_of_a_request() -> None:
    peer = Peer()
    head = head_of(
        peer, 1, GET, ("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("te", "trailers"), ("host", "A.TEST")
    )
    assert (head.method, head.target, head.authority, head.version) == (b"GET", b"/", b"a.test", (2, 0))
    assert head.fields == [(b"x", b"1"), (b"TE", b"trailers"), (b"cookie", b"a=1; b=2")]
    assert (head.framing, head.length, head.upgrade, head.keep_alive) == (Framing.NONE, None, None, True)


@pytest.mark.parametrize(
    ("more", "end", "framing", "length"),
    [
        ([], True, Framing.NONE, None),
        ([], False, Framing.CHUNKED, None),
        ([("content-length", "5")], False, Framing.LENGTH, 5),
        ([("content-length", "0")], True, Framing.LENGTH, 0),
        ([("content-length", "0")], False, Framing.LENGTH, 0),
    ],
)
def test_how_long_a_body_is(more: list[tuple[str, str]], end: bool, framing: Framing, length: int | None) -> None:
    head = head_of(Peer(), 1, POST, *more, end=end)
    assert (head.framing, head.length, head.fields) == (framing, length, [])


@pytest.mark.parametrize(
    ("more", "end", "expect"), [([], False, True), ([("content-length", "0")], False, False), ([], True, False)]
)
def test_an_expectation(more: list[tuple[str, str]], end: bool, expect: bool) -> None:
    head = head_of(Peer(), 1, POST, ("expect", "100-Continue"), *more, end=end)
    assert head.expect_continue is expect
    assert head.fields == []


def test_host_alone_is_enough() -> None:
    head = head_of(Peer(), 1, GET[:3], ("host", "b.test:8443"))
    assert head.authority == b"b.test:8443"


def test_the_same_head_is_the_same_object() -> None:
    peer = Peer()
    first, second = head_of(peer, 1, GET, ("x", "1")), head_of(peer, 3, GET, ("x", "1"))
    assert first is second
    assert second.common
    assert head_of(peer, 5, GET, ("x", "2")) is not first
    assert head_of(peer, 7, GET, ("x", "1"), end=False) is not first


REFUSED = [
    ([(":method", "CONNECT"), (":authority", "a.test:443")], 501, "connect-refused"),
    ([(":method", "TRACE"), (":scheme", "https"), (":path", "/"), (":authority", "a.test")], 501, "trace-refused"),
    ([(":method", "CONNECT"), (":protocol", "connect-udp"), *GET[1:]], 501, "protocol-not-supported"),
    (GET[:3], 400, "bad-host"),
    ([*GET[:3], (":authority", "")], 400, "bad-host"),
    ([*GET[:3], (":authority", "user@a.test")], 400, "bad-host"),
    ([*GET[:3], (":authority", "a.test, b.test")], 400, "bad-host"),
    ([*GET, ("expect", "200-ok")], 417, "bad-expect"),
    ([*GET, ("expect", "100-continue"), ("expect", "100-continue")], 417, "bad-expect"),
    ([(":method", "X" * 33), *GET[1:]], 501, "method-too-long"),
    ([*GET[:2], (":path", "/" + "x" * 8192), GET[3]], 414, "target-too-long"),
    ([*GET, *[("x", "y")] * 97], 431, "too-many-fields"),
    ([*GET, ("x", "y" * 32768)], 431, "head-too-large"),
]


@pytest.mark.parametrize(("fields", "status", "reason"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_is_well_formed_and_refused_can_be_answered(
    fields: list[tuple[str, str]], status: int, reason: str
) -> None:
    peer = Peer()
    block = peer.block(fields)
    flags = 1
    peer.say(
        len(block[:16384]).to_bytes(3, "big")
        + bytes((1, flags | (4 if len(block) <= 16384 else 0)))
        + b"\0\0\0\x01"
        + block[:16384]
    )
    if len(block) > 16384:
        peer.say(len(block[16384:]).to_bytes(3, "big") + b"\x09\x04\0\0\0\x01" + block[16384:])
    assert peer.events == [(1, "failed", status, reason)]
    peer.answer(1, b"no", status=status)
    assert [frame[0] for frame in peer.listen()] == ["HEADERS", "DATA"]
    assert peer.events[1:] == [(1, "closed")]
    assert peer.lives(3)


def test_a_refused_request_whose_body_runs() -> None:
    peer = Peer()
    peer.ask(1, POST, ("expect", "x"), end=False)
    assert peer.data(1, b"body") == []
    peer.answer(1, status=417)
    assert peer.listen() == [("HEADERS", 1, [(b":status", b"417"), (b"content-length", b"0")], "end")]
    assert peer.let_go() == [("RST_STREAM", 1, "NO_ERROR")]


# Bodies and windows.


def test_windows_are_refilled_as_the_application_consumes() -> None:
    peer = Peer(H2Limits(window=65535, connection_window=65535))
    peer.ask(1, POST, end=False)
    for _ in range(3):
        peer.data(1, bytes(16384))
    peer.data(1, bytes(16383))
    assert peer.listen() == []
    assert (peer.codec.unread(1), peer.codec.unread(99)) == (65535, 0)
    assert peer.codec.held_back
    peer.codec.acknowledge(1, 40000)
    assert not peer.codec.held_back
    assert peer.listen() == [("WINDOW_UPDATE", 0, 40000), ("WINDOW_UPDATE", 1, 40000)]
    # nobody gives back more than there is
    peer.codec.acknowledge(1, 1 << 20)
    peer.codec.acknowledge(99, 5)
    peer.data(1, bytes(16384))
    peer.codec.acknowledge(1, 16384)
    peer.listen()
    assert sum(frame[2] for frame in peer.heard if frame[:2] == ("WINDOW_UPDATE", 1)) <= 65535 + 16384


def test_padding_is_given_back_at_once() -> None:
    peer = Peer(H2Limits(window=65535, connection_window=65535))
    peer.ask(1, POST, end=False)
    for _ in range(300):
        peer.data(1, b"x", pad=255)
    peer.listen()
    assert sum(frame[2] for frame in peer.heard if frame[:2] == ("WINDOW_UPDATE", 0)) > 65535
    assert peer.goaway is None


def test_what_a_reset_stream_held_goes_back_to_the_connection() -> None:
    peer = Peer(H2Limits(window=65535, connection_window=65535))
    peer.ask(1, POST, end=False)
    for _ in range(3):
        peer.data(1, bytes(16384))
    peer.reset(1)
    assert peer.listen() == [("WINDOW_UPDATE", 0, 49152)]


def test_what_comes_on_a_stream_that_we_reset_goes_back_too() -> None:
    peer = Peer()
    peer.ask(1, POST, end=False)
    peer.codec.reset(1, ErrorCode.CANCEL)
    peer.listen()
    peer.data(1, bytes(1000))
    peer.data(1, bytes(1000), pad=9)
    assert peer.listen() == [("WINDOW_UPDATE", 0, 1000), ("WINDOW_UPDATE", 0, 1010)]
    assert peer.events[-1] == (1, "closed")


def test_a_body_and_trailers() -> None:
    peer = Peer()
    peer.ask(1, POST, end=False)
    peer.data(1, b"one")
    peer.data(1, b"two")
    assert peer.ask(1, [("x-check", "1"), ("range", "no")]) == [(1, "end", (b"x-check", b"1"))]
    assert peer.events[1:3] == [(1, "body", b"one"), (1, "body", b"two")]


def test_a_body_that_ends_with_nothing() -> None:
    peer = Peer()
    peer.ask(1, POST, end=False)
    assert peer.data(1, b"one") == [(1, "body", b"one")]
    assert peer.data(1, end=True) == [(1, "end")]


def test_trailers_that_are_too_many() -> None:
    peer = Peer()
    peer.ask(1, POST, end=False)
    assert peer.ask(1, [("x", "y")] * 101) == [(1, "failed", 431, "trailers-too-large")]
    peer.answer(1, status=431)
    peer.listen()
    assert peer.resets == []
    assert peer.lives(3)


def test_trailers_after_a_refusal_are_not_read() -> None:
    peer = Peer()
    peer.ask(1, POST, ("expect", "x"), end=False)
    assert peer.ask(1, [("x", "y")]) == []
    peer.answer(1, status=417)
    peer.listen()
    assert peer.resets == []


# Answers.


def test_an_answer_in_pieces_with_trailers() -> None:
    peer = Peer()
    peer.ask(1)
    peer.codec.send(1, InformationalHead(103, [(b"Link", b"</a>")]))
    peer.codec.send(
        1, ResponseHead(200, b"OK", [(b"Content-Type", b"x/y"), (b"Connection", b"close")], framing=Framing.CHUNKED)
    )
    assert peer.listen() == [
        ("HEADERS", 1, [(b":status", b"103"), (b"link", b"</a>")]),
        ("HEADERS", 1, [(b":status", b"200"), (b"content-type", b"x/y")]),
    ]
    peer.codec.send(1, Body(b"one"))
    assert peer.listen() == [("DATA", 1, b"one")]
    peer.codec.send(1, Body(b"two"))
    peer.codec.send(1, Body(b"three"))
    peer.codec.send(1, End([(b"X-Check", b"7")]))
    assert peer.listen() == [("DATA", 1, b"twothree"), ("HEADERS", 1, [(b"x-check", b"7")], "end")]
    assert peer.events[-1] == (1, "closed")


def test_an_end_that_comes_later() -> None:
    peer = Peer()
    peer.ask(1)
    peer.answer(1, b"x", end=False)
    peer.listen()
    peer.codec.send(1, End())
    assert peer.listen() == [("DATA", 1, b"", "end")]


def test_an_answer_of_trailers_alone() -> None:
    peer = Peer()
    peer.ask(1)
    peer.answer(1, trailers=[(b"grpc-status", b"5")])
    assert peer.listen() == [("HEADERS", 1, [(b":status", b"200")]), ("HEADERS", 1, [(b"grpc-status", b"5")], "end")]


@pytest.mark.parametrize(
    ("method", "status", "length"), [("HEAD", 200, b"3"), ("GET", 304, b"3"), ("GET", 204, None), ("HEAD", 204, None)]
)
def test_answers_without_a_body(method: str, status: int, length: bytes | None) -> None:
    peer = Peer()
    peer.ask(1, [(":method", method), *GET[1:]])
    peer.answer(1, b"abc", status=status)
    fields = [(b":status", b"%d" % status), *([(b"content-length", length)] if length else [])]
    assert peer.listen() == [("HEADERS", 1, fields, "end")]


def test_a_whole_answer_at_once() -> None:
    peer = Peer()
    for stream, body in ((1, b"body"), (3, b"")):
        peer.ask(stream)
        assert not peer.codec.waits_for_answer
        head = ResponseHead(200, b"", [], framing=Framing.LENGTH, length=len(body))
        peer.codec.send_whole(stream, head, body)
    assert [frame[0] for frame in peer.listen()] == ["HEADERS", "HEADERS", "DATA"]
    assert peer.codec.idle


def test_cookies_are_never_indexed_and_common_heads_are_written_once() -> None:
    peer = Peer()
    fields = [(b"Set-Cookie", b"secret"), (b"X", b"y")]
    for stream in (1, 3, 5):
        peer.ask(stream)
        peer.codec.send(stream, ResponseHead(200, b"", fields, framing=Framing.LENGTH, length=0, common=True))
        peer.codec.send(stream, End())
        assert peer.listen()[0][2] == [
            (b":status", b"200"), (b"set-cookie", b"secret"), (b"x", b"y"), (b"content-length", b"0")
        ]  # fmt: skip
    assert (b"set-cookie", b"secret") not in peer.decoder.header_table.dynamic_entries


def test_a_large_head_is_split() -> None:
    peer = Peer()
    peer.ask(1)
    peer.answer(1, fields=[(b"x", bytes([33 + n % 90 for n in range(40000)]))])
    assert [frame[0] for frame in peer.listen()] == ["BLOCK", "BLOCK", "BLOCK"]


def test_a_large_body_goes_by_the_windows_and_in_frames() -> None:
    peer = Peer(window=30000)
    peer.ask(1)
    peer.answer(1, bytes(range(250)) * 400)
    sizes = [len(frame[2]) for frame in peer.listen() if frame[0] == "DATA"]
    assert sizes == [16384, 13616]
    assert (peer.codec.sendable(1), peer.codec.queued(1)) == (0, 70000)
    peer.window(1, 1 << 20)
    sizes = [len(frame[2]) for frame in peer.listen()]
    assert sizes == [16384, 16384, 2767]
    peer.window(0, 1 << 20)
    peer.listen()
    assert b"".join(frame[2] for frame in peer.heard if frame[0] == "DATA") == bytes(range(250)) * 400
    assert peer.heard[-1][-1] == "end"
    assert peer.events[-1] == (1, "closed")


def test_small_pieces_are_joined_into_a_frame_and_large_ones_are_not() -> None:
    peer = Peer()
    peer.ask(1)
    peer.codec.send(1, OK)
    for piece in (b"a" * 20000, b"b" * 10000, b"c" * 10000, b"d", b"e"):
        peer.codec.send(1, Body(piece))
    peer.codec.send(1, End())
    sizes = [len(frame[2]) for frame in peer.listen() if frame[0] == "DATA"]
    assert sizes == [16384, 13616, 10002]


def test_the_streams_are_sent_in_turn_and_a_little_at_a_time() -> None:
    peer = Peer(window=1 << 20)
    peer.window(0, 1 << 20)
    for stream in (1, 3, 5):
        peer.ask(stream)
        peer.answer(stream, bytes(40000))
    first = [frame[1] for frame in peer.listen(40000) if frame[0] == "DATA"]
    assert first == [1, 3, 5]
    assert [frame[1] for frame in peer.listen(0)] == []
    peer.ping()
    assert peer.listen(0) == [("PING", b"12345678", "ack")]
    assert [frame[1] for frame in peer.listen()] == [1, 3, 5, 1, 3, 5]


def test_writable_says_when_to_stop_and_when_to_go_on() -> None:
    peer = Peer(H2Limits(queue=1000, queues=3000), window=0)
    for stream in (1, 3, 5):
        peer.ask(stream)
        peer.codec.send(stream, OK)
    codec = peer.codec
    codec.send(1, Body(bytes(999)))
    assert codec.writable(1)
    codec.send(1, Body(bytes(1)))
    assert not codec.writable(1)
    codec.send(3, Body(bytes(999)))
    assert codec.writable(3)
    codec.send(3, Body(bytes(1001)))
    # all of them together are over the bound; who holds nothing may still begin
    assert codec.writable(5)
    codec.send(5, Body(b"x"))
    assert not codec.writable(5)
    assert codec.writable(99)
    peer.events.clear()
    peer.window(1, 500)
    peer.listen()
    assert peer.events == []
    peer.window(1, 1)
    peer.listen()
    assert peer.events == []
    peer.window(3, 2000)
    peer.listen()
    assert peer.events == [(1, "writable"), (5, "writable")]
    assert codec.sendable(99) == 0
    assert codec.queued(99) == 0


def test_what_is_sent_while_the_window_is_empty_waits() -> None:
    peer = Peer(window=2)
    peer.ask(1)
    assert (peer.codec.window(1), peer.codec.window(99)) == (2, 0)
    peer.answer(1, b"abc", end=False)
    assert peer.codec.has_output
    peer.listen()
    assert not peer.codec.has_output  # but for the window
    assert peer.codec.sendable(1) == 0
    assert (peer.codec.window(1), peer.codec.sent) == (0, 2)
    peer.codec.send(1, Body(b"def"))
    peer.codec.send(1, End())
    assert peer.listen() == []
    assert peer.codec.sendable(1) == 0
    peer.window(1, 10)
    assert peer.listen() == [("DATA", 1, b"cdef", "end")]


def test_a_setting_does_not_reach_a_stream_that_is_closed() -> None:
    peer = Peer()
    peer.ask(1)
    peer.window(1, 0x7FFFFFFF - 65535)
    peer.answer(1, b"")
    peer.listen()
    peer.settings(window=100_000)
    assert peer.lives(3)
    assert peer.goaway is None


def test_what_is_remembered_of_old_streams_is_bounded() -> None:
    peer = Peer()
    for number in range(600):
        peer.now += 1.0
        peer.ask(2 * number + 1)
        peer.codec.reset(2 * number + 1)
    peer.listen()
    peer.resets.clear()
    peer.data(1, b"x")
    assert peer.lives(2001)


def test_an_answer_before_the_end_of_its_request() -> None:
    peer = Peer()
    peer.ask(1, POST, ("content-length", "1000000"), end=False)
    peer.data(1, bytes(1000))
    peer.answer(1, b"too large", status=413)
    assert peer.listen()[1:] == [("DATA", 1, b"too large", "end")]
    assert peer.events[-1] == (1, "closed")
    # it has a moment to hear that, and goes on sending meanwhile, as far as the window lets it
    assert peer.codec.lingers
    assert peer.data(1, bytes(1000)) == []
    peer.codec.let_go()
    peer.codec.reset(1)
    assert peer.listen() == []
    peer.codec.let_go()
    assert peer.listen() == [("RST_STREAM", 1, "NO_ERROR")]
    assert not peer.codec.lingers
    assert peer.data(1, bytes(1000)) == []
    peer.reset(1)
    assert peer.lives(3)


@pytest.mark.parametrize("end", ["data", "trailers", "reset", "fault", "loss"])
def test_a_request_that_ends_itself_after_its_answer(end: str) -> None:
    peer = Peer()
    peer.ask(1, POST, ("content-length", "5"), end=False)
    peer.answer(1, b"no", status=403)
    peer.listen()
    peer.events.clear()
    if end == "data":
        peer.data(1, b"12345", end=True)
    elif end == "trailers":
        peer.data(1, b"12345")
        peer.ask(1, [("x", "y")])
    elif end == "reset":
        peer.reset(1)
    elif end == "fault":
        peer.data(1, b"123456")
    else:
        peer.codec.receive_eof(0.0)
    assert peer.events == []
    assert peer.let_go() == ([("RST_STREAM", 1, "PROTOCOL_ERROR")] if end == "fault" else [])
    assert peer.codec.idle


def test_a_body_that_ends_while_its_answer_waits_for_the_window() -> None:
    peer = Peer(window=1)
    peer.ask(1, POST, end=False)
    peer.answer(1, b"xyz")
    peer.listen()
    peer.events.clear()
    # its exchange is done: what still comes is for nobody
    assert peer.data(1, b"late", end=True) == []
    peer.window(1, 10)
    assert peer.listen()[-1] == ("DATA", 1, b"yz", "end")
    assert peer.events == [(1, "closed")]
    assert peer.resets == []


def test_a_stream_that_the_peer_gives_up() -> None:
    peer = Peer(window=0)
    peer.ask(1)
    peer.answer(1, b"xyz", end=False)
    peer.listen()
    assert peer.reset(1, 8) == [(1, "abandoned", "CANCEL")]
    assert peer.codec.idle
    peer.codec.send(1, Body(b"more"))
    peer.codec.reset(1)
    assert peer.listen() == []


def test_a_stream_that_we_give_up() -> None:
    peer = Peer()
    peer.ask(1)
    peer.answer(1, b"xyz", end=False)
    peer.codec.reset(1)
    assert peer.listen() == [("RST_STREAM", 1, "INTERNAL_ERROR")]
    assert peer.events[-1] == (1, "closed")


def test_misuse_is_told() -> None:
    codec = (peer := Peer()).codec
    for stream in range(1, 17, 2):
        peer.ask(stream)
    with pytest.raises(MisuseError):
        codec.send(1, Body(b"x"))
    with pytest.raises(MisuseError):
        codec.send(1, End())
    with pytest.raises(MisuseError):
        codec.send(1, Raw(b"x"))
    with pytest.raises(MisuseError):
        codec.send(1, ResponseHead(101, b"", []))
    with pytest.raises(MisuseError):
        codec.send(1, ResponseHead(200, b"", [(b"x", b"a\r\nb: c")]))
    with pytest.raises(MisuseError):
        codec.send(1, InformationalHead(103, [(b"x\n", b"a")]))
    codec.send(3, ResponseHead(200, b"", [], framing=Framing.LENGTH, length=2))
    with pytest.raises(MisuseError):
        codec.send(3, Body(b"xyz"))
    with pytest.raises(MisuseError):
        codec.send(3, End())
    with pytest.raises(MisuseError):
        codec.send(3, ResponseHead(200, b"", []))


# WebSockets.


def switched(*more: tuple[bytes, bytes], accept: bytes = ACCEPT) -> ResponseHead:
    fields = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", accept), *more]
    return ResponseHead(101, b"Switching Protocols", fields)


def test_a_websocket_is_an_upgrade() -> None:
    peer = Peer()
    head = head_of(peer, 1, WEBSOCKET, ("sec-websocket-version", "13"), ("sec-websocket-key", "mine"), end=False)
    assert (head.method, head.target, head.upgrade, head.framing) == (b"GET", b"/", b"websocket", Framing.NONE)
    assert head.fields == [(b"sec-websocket-version", b"13"), (b"Sec-WebSocket-Key", KEY)]
    assert peer.data(1, b"early") == []
    assert peer.data(1) == []
    assert peer.codec.opens(1, switched())
    peer.codec.send(1, switched((b"Sec-WebSocket-Protocol", b"chat")))
    assert peer.listen() == [("HEADERS", 1, [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")])]
    assert peer.events == [(1, "raw", b"early")]
    peer.data(1, b"to it")
    peer.codec.send(1, Raw(b"from it"))
    assert peer.listen() == [("DATA", 1, b"from it")]
    peer.codec.acknowledge(1, 10)
    peer.codec.send(1, RawEnd())
    assert peer.listen() == [("DATA", 1, b"", "end")]
    assert not peer.codec.idle
    assert peer.data(1, b"bye") == [(1, "raw", b"bye")]
    assert peer.data(1, end=True) == [(1, "raw end"), (1, "closed")]
    assert peer.codec.idle


def test_a_websocket_that_its_visitor_ends_first() -> None:
    peer = Peer()
    peer.ask(1, WEBSOCKET, end=False)
    peer.data(1, end=True)
    peer.codec.send(1, switched())
    assert peer.codec.take_events() == [(1, RawEnd())]
    peer.codec.send(1, RawEnd())
    peer.listen()
    assert peer.events[-1] == (1, "closed")
    assert peer.resets == []


@pytest.mark.parametrize(
    "head", [switched(accept=b"wrong"), ResponseHead(101, b"", []), ResponseHead(200, b"", [], framing=Framing.CHUNKED)]
)
def test_a_success_that_opens_no_websocket(head: ResponseHead) -> None:
    peer = Peer()
    peer.ask(1, WEBSOCKET, end=False)
    peer.data(1, b"early")
    assert not peer.codec.opens(1, head)
    peer.codec.send(1, head)
    assert peer.listen()[0][2][0] == (b":status", b"502")
    assert peer.resets == [(1, "NO_ERROR")]
    assert peer.events[-1] == (1, "abandoned", "NO_ERROR")
    peer.codec.send(1, Body(b"dropped"))
    assert peer.lives(3)


def test_a_websocket_that_is_refused() -> None:
    peer = Peer()
    peer.ask(1, WEBSOCKET, end=False)
    peer.answer(1, b"not you", status=403)
    assert peer.listen()[1:] == [("DATA", 1, b"not you", "end")]
    assert peer.let_go() == [("RST_STREAM", 1, "NO_ERROR")]


# The end.


def test_a_drain_tells_the_peer_twice() -> None:
    peer = Peer()
    peer.ask(1)
    peer.codec.shut_down()
    assert peer.listen() == [("GOAWAY", 0x7FFFFFFF, "NO_ERROR"), ("PING", b"draining")]
    # what was under way is served
    peer.ask(3)
    peer.ping(b"draining", "ACK")
    assert peer.listen() == [("GOAWAY", 3, "NO_ERROR")]
    # and what comes after it is not, without a word
    assert peer.ask(5, POST, ("x-first", "indexed"), end=False) == []
    assert peer.data(5, b"unheard") == []
    assert peer.reset(5) == []
    assert peer.window(5, 1) == []
    peer.codec.shut_down()
    assert not peer.codec.should_close
    peer.answer(1, b"one")
    peer.answer(3, b"three")
    assert [frame[0] for frame in peer.listen()] == ["WINDOW_UPDATE", "HEADERS", "HEADERS", "DATA", "DATA"]
    assert peer.codec.should_close


def test_a_drain_need_not_wait_for_the_peer() -> None:
    peer = Peer()
    peer.ask(1)
    peer.codec.shut_down()
    peer.codec.shut_down()
    assert [frame[:2] for frame in peer.listen()] == [("GOAWAY", 0x7FFFFFFF), ("PING", b"draining"), ("GOAWAY", 1)]


def test_a_drain_of_an_idle_connection_is_its_end() -> None:
    peer = Peer()
    peer.codec.shut_down()
    assert peer.codec.should_close
    assert peer.listen() == [("GOAWAY", 0, "NO_ERROR")]


def test_the_end_of_an_idle_connection_may_be_announced_first() -> None:
    peer = Peer()
    peer.codec.announce_end()
    peer.codec.announce_end()
    assert peer.listen() == [("GOAWAY", 0x7FFFFFFF, "NO_ERROR"), ("PING", b"draining")]
    assert not peer.codec.should_close
    # a request crosses it
    peer.ask(1)
    peer.ping(b"draining", "ACK")
    assert peer.listen() == [("GOAWAY", 1, "NO_ERROR")]
    peer.answer(1, b"one")
    assert peer.listen()[-1] == ("DATA", 1, b"one", "end")
    assert peer.codec.should_close
    peer.codec.announce_end()
    assert peer.listen() == []


def test_an_announced_end_that_nobody_hears() -> None:
    peer = Peer()
    peer.codec.announce_end()
    peer.codec.shut_down()
    assert [frame[:2] for frame in peer.listen()] == [("GOAWAY", 0x7FFFFFFF), ("PING", b"draining"), ("GOAWAY", 0)]
    assert peer.codec.should_close


def test_a_peer_that_leaves_gets_its_answers() -> None:
    peer = Peer()
    peer.ask(1)
    peer.say(b"\0\0\x08\x07\0\0\0\0\0" + bytes(4) + b"\0\0\0\xff")
    assert not peer.codec.should_close
    peer.answer(1, b"x")
    assert peer.listen()[-1] == ("DATA", 1, b"x", "end")
    assert peer.codec.should_close
    assert peer.goaway is None


def test_the_end_of_the_connection_is_the_end_of_its_streams() -> None:
    peer = Peer()
    peer.ask(1)
    peer.ask(3, POST, end=False)
    peer.ask(5, GET, ("expect", "x"))
    assert [event for _, event in peer.codec.receive_eof(0.0)].__len__() == 3
    assert peer.codec.should_close
    assert peer.codec.receive_eof(0.0) == []
    peer.codec.shut_down()
    assert peer.listen() == []


def test_a_fault_of_the_connection_ends_every_stream() -> None:
    peer = Peer()
    peer.ask(1)
    peer.ask(3, POST, end=False)
    peer.answer(3, b"x" * 100000, end=False)
    peer.events.clear()
    peer.say(b"\0\0\x01\x06\0\0\0\0\0x")
    assert peer.events == [(1, "abandoned", "CANCEL"), (3, "abandoned", "CANCEL")]
    assert [frame[0] for frame in peer.listen()] == ["GOAWAY"]
    peer.codec.acknowledge(3, 1)
    assert not peer.codec.output_ended
    assert not peer.codec.should_abort
    assert not peer.codec.has_held


def test_a_head_that_drips_is_seen() -> None:
    peer = Peer(hello=False)
    codec = peer.codec
    assert codec.head_since is None
    peer.say(b"PRI *")
    assert codec.head_since == 0.0
    peer.now = 5.0
    peer.say(b" HTTP/2.0\r\n\r\nSM\r\n\r\n")
    peer.settings()
    assert codec.head_since is None
    peer.say(b"\0\0\x10\x01\x05\0\0\0\x01\x82")
    assert codec.head_since == 5.0
    peer.now = 6.0
    peer.say(b"\x82")
    assert codec.head_since == 5.0


def test_the_h2_library_as_its_client() -> None:
    """Another implementation reads what is written here, strictly."""
    codec = H2ServerCodec()
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    client.initiate_connection()
    client.send_headers(1, [*POST, ("cookie", "a=b")])
    client.send_data(1, b"x" * 5000)
    client.send_headers(1, [("x-sum", "1")], end_stream=True)
    events = codec.receive_data(client.data_to_send(), 0.0)
    assert [type(event).__name__ for _, event in events] == ["RequestHead", "Body", "End"]
    codec.acknowledge(1, 5000)
    codec.send(1, InformationalHead(100, []))
    codec.send(1, ResponseHead(200, b"OK", [(b"Server", b"x")], framing=Framing.CHUNKED))
    codec.send(1, Body(b"y" * 50000))
    codec.send(1, End([(b"X-Sum", b"2")]))
    got = client.receive_data(b"".join(codec.data_to_send()))
    assert [event.headers for event in got if isinstance(event, ResponseReceived)] == [
        [(b":status", b"200"), (b"server", b"x")]
    ]
    assert b"".join(event.data for event in got if isinstance(event, DataReceived)) == b"y" * 50000
    assert [event.headers for event in got if isinstance(event, TrailersReceived)] == [[(b"x-sum", b"2")]]
    assert any(isinstance(event, StreamEnded) for event in got)
