"""RFC 9113 and RFC 7541 section by section: what is sent, and what must come of it.

The rows are those of h2spec, strict ones included, and more of the same kind.  After every fault of a stream the
connection must still serve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame, PriorityFrame, SettingsFrame

from tests.http.h2.talk import GET, POST, Peer, raw
from wormhole_tw.http.h2.frames import PREFACE

Say = Callable[[Peer], object]

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
U32 = (0xFFFFFFFF).to_bytes(4, "big")


def opened(*, end: bool = False, fields: Any = POST) -> Say:
    return lambda peer: peer.ask(1, fields, end=end)


def then(*steps: Say) -> Say:
    def say(peer: Peer) -> None:
        for step in steps:
            step(peer)

    return say


def bytes_of(data: bytes) -> Say:
    return lambda peer: peer.say(data)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> Say:
    return bytes_of(raw(kind, flags, stream, payload))


def block(fields: Any, flags: int, stream: int = 1, prefix: bytes = b"", suffix: bytes = b"") -> Say:
    return lambda peer: peer.say(raw(HEADERS, flags, stream, prefix + peer.block(fields) + suffix))


def part(stream: int = 1, *flags: str) -> Say:
    return lambda peer: peer.frame(HeadersFrame(stream, peer.block(GET)), *flags)


def continued(stream: int, fields: Any = (("x", "y"),), *flags: str) -> Say:
    return lambda peer: peer.frame(ContinuationFrame(stream, peer.block(fields)), *flags)


def settings(*pairs: tuple[int, int]) -> Say:
    return frame(SETTINGS, 0, 0, b"".join(n.to_bytes(2, "big") + v.to_bytes(4, "big") for n, v in pairs))


def answered(peer: Peer) -> None:
    peer.answer(1, b"x")
    peer.listen()


def listened(peer: Peer) -> None:
    peer.listen()


def ask(stream: int = 1, *more: tuple[str, str], fields: Any = GET, end: bool = True) -> Say:
    return lambda peer: peer.ask(stream, fields, *more, end=end)


def without(name: str) -> Any:
    return [line for line in GET if line[0] != name]


DEPENDS_ON_1 = (1).to_bytes(4, "big") + b"\x0f"

CONNECTION: list[tuple[str, str, Say, str]] = [
    ("4.2", "DATA longer than the limit", then(opened(), frame(DATA, 0, 1, bytes(16385))), "FRAME_SIZE_ERROR"),
    ("4.2", "HEADERS longer than the limit", frame(HEADERS, 4, 1, bytes(16385)), "FRAME_SIZE_ERROR"),
    ("4.3", "a block that is no HPACK", frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), "COMPRESSION_ERROR"),
    ("4.3", "a block that is cut", frame(HEADERS, 5, 1, b"\x40\x05ab"), "COMPRESSION_ERROR"),
    ("4.3", "PRIORITY within a block", then(part(), frame(PRIORITY, 0, 1, bytes(5))), "PROTOCOL_ERROR"),
    ("4.3", "HEADERS of another stream within a block", then(part(), ask(3)), "PROTOCOL_ERROR"),
    ("5.1", "DATA on an idle stream", frame(DATA, 1, 1, b"x"), "PROTOCOL_ERROR"),
    ("5.1", "RST_STREAM on an idle stream", frame(RST, 0, 1, bytes(4)), "PROTOCOL_ERROR"),
    ("5.1", "WINDOW_UPDATE on an idle stream", frame(WINDOW, 0, 1, b"\0\0\0\x01"), "PROTOCOL_ERROR"),
    ("5.1", "WINDOW_UPDATE by nothing on an idle stream", frame(WINDOW, 0, 1, bytes(4)), "PROTOCOL_ERROR"),
    ("5.1", "CONTINUATION on an idle stream", continued(1), "PROTOCOL_ERROR"),
    ("5.1", "CONTINUATION on a half-closed stream", then(opened(end=True), continued(1)), "PROTOCOL_ERROR"),
    (
        "5.1",
        "CONTINUATION after RST_STREAM",
        then(opened(), lambda p: p.reset(1), continued(1)),
        "PROTOCOL_ERROR",
    ),
    ("5.1", "HEADERS on an ended stream", then(ask(), answered, ask()), "STREAM_CLOSED"),
    ("5.1", "CONTINUATION on an ended stream", then(ask(), answered, continued(1)), "PROTOCOL_ERROR"),
    ("5.1.1", "an even number", ask(2), "PROTOCOL_ERROR"),
    ("5.1.1", "a smaller number than before", then(ask(5), ask(3)), "PROTOCOL_ERROR"),
    ("5.3.1", "PRIORITY of an idle stream on itself", frame(PRIORITY, 0, 1, DEPENDS_ON_1), "PROTOCOL_ERROR"),
    ("5.4.1", "a fault ends in GOAWAY", frame(PING, 0, 0, b"short"), "FRAME_SIZE_ERROR"),
    ("5.5", "an unknown frame within a block", then(part(), frame(0xFF, 0, 0)), "PROTOCOL_ERROR"),
    ("6.1", "DATA on stream 0", frame(DATA, 0, 0, b"x"), "PROTOCOL_ERROR"),
    ("6.1", "padding longer than DATA", then(opened(), frame(DATA, 8, 1, b"\x05xx")), "PROTOCOL_ERROR"),
    ("6.1", "padding without a length", then(opened(), frame(DATA, 8, 1)), "PROTOCOL_ERROR"),
    ("6.2", "HEADERS on stream 0", frame(HEADERS, 5, 0, b"\x82"), "PROTOCOL_ERROR"),
    ("6.2", "padding longer than HEADERS", frame(HEADERS, 13, 1, b"\x05\x82"), "PROTOCOL_ERROR"),
    ("6.2", "HEADERS too short for its priority", frame(HEADERS, 37, 1, b"\0\0"), "FRAME_SIZE_ERROR"),
    ("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), "PROTOCOL_ERROR"),
    ("6.3", "PRIORITY of four octets, idle", frame(PRIORITY, 0, 1, bytes(4)), "FRAME_SIZE_ERROR"),
    ("6.4", "RST_STREAM on stream 0", frame(RST, 0, 0, bytes(4)), "PROTOCOL_ERROR"),
    ("6.4", "RST_STREAM of three octets", then(opened(), frame(RST, 0, 1, bytes(3))), "FRAME_SIZE_ERROR"),
    ("6.5", "SETTINGS acknowledged with a payload", frame(SETTINGS, 1, 0, bytes(6)), "FRAME_SIZE_ERROR"),
    ("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1), "PROTOCOL_ERROR"),
    ("6.5", "SETTINGS of seven octets", frame(SETTINGS, 0, 0, bytes(7)), "FRAME_SIZE_ERROR"),
    ("6.5.2", "ENABLE_PUSH of 2", settings((2, 2)), "PROTOCOL_ERROR"),
    ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", settings((4, 1 << 31)), "FLOW_CONTROL_ERROR"),
    ("6.5.2", "MAX_FRAME_SIZE of 16383", settings((5, 16383)), "PROTOCOL_ERROR"),
    ("6.5.2", "MAX_FRAME_SIZE of 2^24", settings((5, 1 << 24)), "PROTOCOL_ERROR"),
    ("6.6", "PUSH_PROMISE", then(opened(), frame(PUSH, 4, 1, b"\0\0\0\x02\x82")), "PROTOCOL_ERROR"),
    ("6.7", "PING on a stream", frame(PING, 0, 1, bytes(8)), "PROTOCOL_ERROR"),
    ("6.7", "PING of six octets", frame(PING, 0, 0, bytes(6)), "FRAME_SIZE_ERROR"),
    ("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), "PROTOCOL_ERROR"),
    ("6.8", "GOAWAY of seven octets", frame(GOAWAY, 0, 0, bytes(7)), "FRAME_SIZE_ERROR"),
    ("6.9", "WINDOW_UPDATE by nothing", frame(WINDOW, 0, 0, bytes(4)), "PROTOCOL_ERROR"),
    ("6.9", "WINDOW_UPDATE of three octets", frame(WINDOW, 0, 0, bytes(3)), "FRAME_SIZE_ERROR"),
    (
        "6.9.1",
        "the connection's window beyond 2^31-1",
        then(lambda p: p.window(0, 0x7FFFFFFF), lambda p: p.window(0, 0x7FFFFFFF)),
        "FLOW_CONTROL_ERROR",
    ),
    (
        "6.9.2",
        "a stream's window beyond 2^31-1 by SETTINGS",
        then(opened(), lambda p: p.window(1, 0x7FFFFFFF - 65535), settings((4, 65536))),
        "FLOW_CONTROL_ERROR",
    ),
    ("6.10", "CONTINUATION, then another frame", then(part(), continued(1), ask(3)), "PROTOCOL_ERROR"),
    ("6.10", "CONTINUATION on stream 0", then(part(), frame(CONTINUATION, 4, 0, b"\x82")), "PROTOCOL_ERROR"),
    ("6.10", "CONTINUATION of another stream", then(part(), continued(3)), "PROTOCOL_ERROR"),
    ("6.10", "CONTINUATION after a whole block", then(ask(), continued(1)), "PROTOCOL_ERROR"),
    (
        "6.10",
        "CONTINUATION after the last one",
        then(part(), continued(1, (("x", "y"),), "END_HEADERS"), continued(1)),
        "PROTOCOL_ERROR",
    ),
    (
        "6.10",
        "CONTINUATION after DATA",
        then(opened(), lambda p: p.data(1, b"x"), continued(1)),
        "PROTOCOL_ERROR",
    ),
    ("7541 2.3.3", "an index past the tables", block([], 5, suffix=b"\xfe"), "COMPRESSION_ERROR"),
    ("7541 2.3.3", "a name's index past the tables", block([], 5, suffix=b"\x7e\x01x"), "COMPRESSION_ERROR"),
    ("7541 4.2", "a table size after a field", block(GET, 5, suffix=b"\x20"), "COMPRESSION_ERROR"),
    (
        "7541 5.2",
        "more than seven bits of padding",
        block(GET, 5, suffix=b"\x00\x01a\x83\x1f\xff\xff"),
        "COMPRESSION_ERROR",
    ),
    ("7541 5.2", "padding of zeros", block(GET, 5, suffix=b"\x00\x01a\x81\x18"), "COMPRESSION_ERROR"),
    (
        "7541 5.2",
        "the end of the string within it",
        block(GET, 5, suffix=b"\x00\x01a\x84\xff\xff\xff\xff"),
        "COMPRESSION_ERROR",
    ),
    ("7541 6.1", "index 0", block(GET, 5, suffix=b"\x80"), "COMPRESSION_ERROR"),
    ("7541 6.3", "a table larger than allowed", block(GET, 5, prefix=b"\x3f\xe1\xff\x03"), "COMPRESSION_ERROR"),
]


@pytest.mark.parametrize(
    ("section", "what", "say", "code"), CONNECTION, ids=lambda value: value if isinstance(value, str) else ""
)
def test_faults_of_the_connection(section: str, what: str, say: Say, code: str) -> None:
    peer = Peer()
    say(peer)
    peer.listen()
    assert peer.goaway == code, (section, what)
    assert peer.codec.should_close
    assert not peer.codec.wants_data
    assert peer.codec.fault
    # deaf from then on, and silent
    peer.heard.clear()
    assert peer.ask(99) == []
    assert peer.listen() == []


PREFACES = [
    (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "PROTOCOL_ERROR"),
    (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PROTOCOL_ERROR"),
    (PREFACE + raw(PING, 0, 0, bytes(8)), "PROTOCOL_ERROR"),
    (PREFACE + raw(SETTINGS, 1, 0), "PROTOCOL_ERROR"),
    (PREFACE + raw(GOAWAY, 0, 0, bytes(8)), "PROTOCOL_ERROR"),
]


@pytest.mark.parametrize(("data", "code"), PREFACES)
def test_3_4_the_preface(data: bytes, code: str) -> None:
    peer = Peer(hello=False)
    peer.say(data)
    assert [frame[0] for frame in peer.listen()] == ["SETTINGS", "WINDOW_UPDATE", "GOAWAY"]
    assert peer.goaway == code


def test_3_4_and_6_5_the_first_words_of_the_server() -> None:
    peer = Peer(hello=False)
    [settings_frame, window] = peer.listen()
    assert settings_frame[1] == {1: 4096, 2: 0, 3: 100, 4: 262144, 5: 16384, 6: 32768, 8: 1}
    assert window == ("WINDOW_UPDATE", 0, 1024 * 1024 - 65535)


STREAM: list[tuple[str, str, Say, str]] = [
    ("5.1", "DATA on a half-closed stream", then(opened(end=True), lambda p: p.data(1, b"x")), "STREAM_CLOSED"),
    ("5.1", "HEADERS on a half-closed stream", then(opened(end=True), ask()), "STREAM_CLOSED"),
    (
        "5.1",
        "DATA after RST_STREAM",
        then(opened(), lambda p: p.reset(1), lambda p: p.data(1, b"x", pad=3)),
        "STREAM_CLOSED",
    ),
    ("5.1", "HEADERS after RST_STREAM", then(opened(), lambda p: p.reset(1), ask()), "STREAM_CLOSED"),
    ("5.1", "DATA on an ended stream", then(ask(), answered, lambda p: p.data(1, b"x")), "STREAM_CLOSED"),
    ("5.3.1", "HEADERS that depend on themselves", block(GET, 37, prefix=DEPENDS_ON_1), "PROTOCOL_ERROR"),
    ("5.3.1", "PRIORITY on itself", then(opened(), frame(PRIORITY, 0, 1, DEPENDS_ON_1)), "PROTOCOL_ERROR"),
    (
        "5.3.1",
        "trailers that depend on themselves",
        then(opened(), block([], 37, prefix=DEPENDS_ON_1)),
        "PROTOCOL_ERROR",
    ),
    ("6.3", "PRIORITY of four octets", then(opened(), frame(PRIORITY, 0, 1, bytes(4))), "FRAME_SIZE_ERROR"),
    ("6.9", "WINDOW_UPDATE by nothing", then(opened(), frame(WINDOW, 0, 1, bytes(4))), "PROTOCOL_ERROR"),
    (
        "6.9.1",
        "a stream's window beyond 2^31-1",
        then(opened(), lambda p: p.window(1, 0x7FFFFFFF)),
        "FLOW_CONTROL_ERROR",
    ),
    (
        "6.9.1",
        "DATA past the stream's window",
        then(opened(), *[lambda p: p.data(1, bytes(16384))] * 17),
        "FLOW_CONTROL_ERROR",
    ),
    ("8.1", "a second HEADERS without END_STREAM", then(opened(), ask(end=False)), "PROTOCOL_ERROR"),
    ("8.1", "trailers with a pseudo-header field", then(opened(), ask(1, fields=GET)), "PROTOCOL_ERROR"),
    ("8.1", "trailers that frame", then(opened(), ask(1, fields=[("content-length", "1")])), "PROTOCOL_ERROR"),
    ("8.1", "trailers with upper case", then(opened(), ask(1, fields=[("X", "1")])), "PROTOCOL_ERROR"),
    (
        "8.1.1",
        "less body than its length",
        then(ask(1, ("content-length", "2"), fields=POST, end=False), lambda p: p.data(1, b"x", end=True)),
        "PROTOCOL_ERROR",
    ),
    (
        "8.1.1",
        "more body than its length",
        then(ask(1, ("content-length", "2"), fields=POST, end=False), lambda p: p.data(1, b"xyz")),
        "PROTOCOL_ERROR",
    ),
    (
        "8.1.1",
        "more in two frames",
        then(
            ask(1, ("content-length", "2"), fields=POST, end=False),
            lambda p: p.data(1, b"xy"),
            lambda p: p.data(1, b"z", end=True),
        ),
        "PROTOCOL_ERROR",
    ),
    (
        "8.1.1",
        "trailers before its length",
        then(ask(1, ("content-length", "2"), fields=POST, end=False), ask(1, fields=[("x", "y")])),
        "PROTOCOL_ERROR",
    ),
    ("8.1.1", "a length and no body", ask(1, ("content-length", "2"), fields=POST), "PROTOCOL_ERROR"),
    (
        "8.1.1",
        "two lengths",
        ask(1, ("content-length", "2"), ("content-length", "2"), fields=POST, end=False),
        "PROTOCOL_ERROR",
    ),
    ("8.1.1", "a length that is no number", ask(1, ("content-length", "+2"), fields=POST, end=False), "PROTOCOL_ERROR"),
    (
        "8.1.1",
        "a length of nineteen digits",
        ask(1, ("content-length", "1" * 19), fields=POST, end=False),
        "PROTOCOL_ERROR",
    ),
    ("8.2", "upper case", ask(1, ("X-Test", "ok")), "PROTOCOL_ERROR"),
    *[
        ("8.2.1", f"a name with {octet!r}", ask(1, (f"x{octet}y", "ok")), "PROTOCOL_ERROR")
        for octet in ("\0", "\r", "\n", ":", " ", "\t", "\x7f", "é", "(", ",")
    ],
    ("8.2.1", "an empty name", ask(1, ("", "ok")), "PROTOCOL_ERROR"),
    *[
        ("8.2.1", f"a value {value!r}", ask(1, ("x", value)), "PROTOCOL_ERROR")
        for value in ("a\rb", "a\nb", "a\0b", " a", "a ", "\ta", "a\t", "a\x01b", "a\x7fb", "\r\nx: y")
    ],
    *[
        ("8.2.2", f"{name}", ask(1, (name, value)), "PROTOCOL_ERROR")
        for name, value in [
            ("connection", "keep-alive"),
            ("keep-alive", "3"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "trailers, deflate"),
            ("http2-settings", "AAAA"),
        ]
    ],
    ("8.3", "an unknown pseudo-header field", ask(1, fields=[(":test", "ok"), *GET]), "PROTOCOL_ERROR"),
    ("8.3", "a pseudo-header field of answers", ask(1, fields=[(":status", "200"), *GET]), "PROTOCOL_ERROR"),
    *[
        ("8.3", f"a pseudo-header field after {line[0]}", ask(1, fields=[line, *GET], end=False), "PROTOCOL_ERROR")
        for line in [("x", "y"), ("cookie", "a"), ("host", "a.test"), ("content-length", "1"), ("expect", "x")]
    ],
    *[
        ("8.3.1", f"no {name}", ask(1, fields=without(name)), "PROTOCOL_ERROR")
        for name in (":method", ":scheme", ":path")
    ],
    *[
        ("8.3.1", f"{name} twice", ask(1, fields=[line, *GET]), "PROTOCOL_ERROR")
        for name, line in [(line[0], line) for line in GET]
    ],
    *[
        ("8.3.1", f":path {path!r}", ask(1, fields=[*without(":path"), (":path", path)]), "PROTOCOL_ERROR")
        for path in ("", "*", "x", "//\n", "/a b", "/a#b", "/\x80", "https://a.test/", "/ HTTP/1.1\r\nx: y")
    ],
    *[
        ("8.3.1", f":method {name!r}", ask(1, fields=[(":method", name), *without(":method")]), "PROTOCOL_ERROR")
        for name in ("", "GET ", "G:T", "GET / HTTP/1.1", "GE\nT")
    ],
    *[
        ("8.3.1", f":scheme {name!r}", ask(1, fields=[(":scheme", name), *without(":scheme")]), "PROTOCOL_ERROR")
        for name in ("", "ftp", "https://evil/", "HTTPS")
    ],
    ("8.3.1", "Host that is not the authority", ask(1, ("host", "b.test")), "PROTOCOL_ERROR"),
    ("8.3.1", "Host twice", ask(1, ("host", "a.test"), ("host", "a.test")), "PROTOCOL_ERROR"),
    ("8.5", "CONNECT with a path", ask(1, fields=[(":method", "CONNECT"), *without(":method")]), "PROTOCOL_ERROR"),
    ("8441 4", ":protocol without CONNECT", ask(1, fields=[(":protocol", "websocket"), *GET]), "PROTOCOL_ERROR"),
    (
        "8441 4",
        "a WebSocket that ends at once",
        ask(1, fields=[(":method", "CONNECT"), (":protocol", "websocket"), *without(":method")]),
        "PROTOCOL_ERROR",
    ),
    (
        "8441 5",
        "a header block on a WebSocket",
        then(
            ask(1, fields=[(":method", "CONNECT"), (":protocol", "websocket"), *without(":method")], end=False),
            ask(1, fields=[("x", "y")]),
        ),
        "PROTOCOL_ERROR",
    ),
]


@pytest.mark.parametrize(
    ("section", "what", "say", "code"), STREAM, ids=lambda value: value if isinstance(value, str) else ""
)
def test_faults_of_one_stream(section: str, what: str, say: Say, code: str) -> None:
    peer = Peer()
    say(peer)
    peer.listen()
    assert peer.resets == [(1, code)], (section, what)
    assert peer.goaway is None
    # an exchange that has begun hears of it, once; one that had not is never begun
    begun = [event for event in peer.events if event[1] == "request"]
    assert sum(event[1] in ("abandoned", "closed") for event in peer.events) == len(begun)
    # what was under way on it is ignored; the connection goes on
    peer.heard.clear()
    if code != "STREAM_CLOSED":
        peer.data(1, b"late")
        peer.reset(1)
        peer.window(1, 10)
        peer.ask(1)
    assert peer.lives(103)
    assert peer.resets == []


FINE: list[tuple[str, str, Say]] = [
    ("4.1", "a frame of an unknown type", then(frame(0x16, 0xFF, 0, b"what"), frame(0x16, 0, 1, bytes(8)))),
    ("4.1", "undefined flags", frame(PING, 0x16, 0, bytes(8))),
    ("4.1", "the reserved bit", bytes_of(raw(PING, 0, 0x80000000, bytes(8)))),
    ("4.2", "DATA of 16384 octets", then(ask(3, fields=POST, end=False), lambda p: p.data(3, bytes(16384), end=True))),
    (
        "5.5",
        "extension frames",
        then(frame(0x0A, 0, 0, b"\0\0"), frame(0x0C, 0, 1), frame(0x10, 0, 0, b"\0\0\0\x01u=1")),
    ),
    (
        "5.3.2",
        "PRIORITY of streams open, idle and closed",
        then(
            frame(PRIORITY, 0, 9, bytes(5)),
            ask(),
            answered,
            frame(PRIORITY, 0, 1, bytes(5)),
            frame(PRIORITY, 0, 1, bytes(4)),
        ),
    ),
    ("6.1", "padding", then(ask(3, fields=POST, end=False), lambda p: p.data(3, b"x", pad=255, end=True))),
    ("6.2", "padding and priority", block(GET, 0x2D, stream=3, prefix=b"\x03" + bytes(5), suffix=bytes(3))),
    (
        "6.4",
        "RST_STREAM twice, and with an unknown code",
        then(ask(3, end=False), lambda p: p.reset(3, 8), lambda p: p.reset(3, 13)),
    ),
    ("6.5", "an unknown setting", settings((0x99, 1), (0xFFFF, 0xFFFFFFFF))),
    ("6.5.2", "a table of 4 GB, and frames of 16 MB", settings((1, 0xFFFFFFFF), (5, (1 << 24) - 1))),
    ("6.5.3", "an acknowledgement", frame(SETTINGS, 1, 0)),
    ("6.7", "an acknowledgement that nobody asked for", frame(PING, 1, 0, bytes(8))),
    ("6.9", "WINDOW_UPDATE after the end", then(ask(), answered, lambda p: p.window(1, 1))),
    ("6.9.2", "MAX_FRAME_SIZE of 2^24-1", settings((5, (1 << 24) - 1))),
    (
        "6.10",
        "CONTINUATION, thrice",
        then(
            part(3, "END_STREAM"),
            continued(3, [("a", "b")]),
            continued(3, [("c", "d")]),
            continued(3, [("e", "f")], "END_HEADERS"),
        ),
    ),
    (
        "8.1",
        "HEAD, POST and trailers",
        then(ask(3, fields=POST, end=False), lambda p: p.data(3, b"x"), ask(3, fields=[("x", "y")])),
    ),
    ("8.2.2", "TE: trailers", ask(3, ("te", "trailers"))),
    ("8.3.1", "Host that is the authority", ask(3, ("host", "A.test"))),
    (
        "8.3.1",
        "* of OPTIONS",
        ask(3, fields=[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "a.test")]),
    ),
    ("7541 4.3", "a smaller table", settings((1, 0))),
    ("7541 6.3", "a table size first", block(GET, 5, stream=3, prefix=b"\x3f\xe1\x1f")),
]


@pytest.mark.parametrize(("section", "what", "say"), FINE, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_legal(section: str, what: str, say: Say) -> None:
    peer = Peer()
    say(peer)
    peer.listen()
    assert peer.resets == [], (section, what)
    assert peer.goaway is None, (section, what)
    assert not [event for event in peer.events if event[1] == "failed"]
    assert peer.lives(103)


def test_6_5_3_settings_are_acknowledged_each() -> None:
    peer = Peer()
    peer.settings(window=1)
    peer.settings()
    assert peer.listen() == [("SETTINGS", "ack")] * 2


def test_6_5_3_settings_are_taken_in_order() -> None:
    peer = Peer()
    settings((4, 100), (4, 1))(peer)
    peer.ask(1)
    peer.answer(1, b"xyz")
    assert ("DATA", 1, b"x") in peer.listen()


def test_6_7_a_ping_is_answered() -> None:
    peer = Peer()
    peer.ping(b"abcdefgh")
    assert peer.listen() == [("PING", b"abcdefgh", "ack")]


def test_6_9_2_windows_change_with_the_setting_and_may_be_negative() -> None:
    peer = Peer(window=0)
    peer.ask(1)
    peer.answer(1, b"0123456789")
    assert [frame[0] for frame in peer.listen()] == ["HEADERS"]
    peer.settings(window=4)
    assert ("DATA", 1, b"0123") in peer.listen()
    peer.settings(window=1)
    peer.window(1, 2)
    assert not [frame for frame in peer.listen() if frame[0] == "DATA"]
    peer.window(1, 2)
    assert peer.listen() == [("DATA", 1, b"4")]
    peer.window(1, 100)
    assert peer.listen() == [("DATA", 1, b"56789", "end")]


def test_5_1_2_more_streams_than_are_allowed_are_refused() -> None:
    peer = Peer()
    for stream in range(1, 201, 2):
        peer.ask(stream)
    peer.events.clear()
    assert peer.ask(201, GET, ("x-first", "indexed")) == []
    peer.listen()
    assert peer.resets == [(201, "REFUSED_STREAM")]
    peer.data(201, b"under way")
    peer.answer(1)
    peer.listen()
    # the refused block is in the table of both
    assert peer.ask(203, GET, ("x-first", "indexed")) == [(203, "request", b"GET", b"/"), (203, "end")]


def test_5_1_data_past_the_connections_window() -> None:
    peer = Peer()
    for stream in (1, 3, 5, 7, 9):
        peer.ask(stream, POST, end=False)
    for _ in range(16):
        for stream in (1, 3, 5, 7):
            peer.data(stream, bytes(16384))
    assert peer.goaway is None
    peer.data(9, b"x")
    peer.listen()
    assert peer.goaway == "FLOW_CONTROL_ERROR"


def test_priority_frames_of_hyperframe_are_read() -> None:
    peer = Peer()
    peer.frame(PriorityFrame(3, depends_on=1, stream_weight=5, exclusive=True))
    peer.frame(SettingsFrame(0))
    assert peer.lives(5)
