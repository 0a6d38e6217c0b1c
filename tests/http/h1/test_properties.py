"""What holds for any bytes, cut in any way."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests._support import sized
from wormhole_tw.http.events import Body, End, Failed, Raw, ResponseHead
from wormhole_tw.http.h1 import H1ClientCodec, H1Limits, H1ServerCodec

from .talk import GET, OK, ask, joined

PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"POST /x?y HTTP/1.1\r\n",
    b"HEAD * HTTP/1.0\r\n",
    b"GET / HTTP/2.0\r\n",
    b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Host: a.test\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"X: y\r\n",
    b"X: y\n",
    b" fold\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b":",
    b" ",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"5;a=b\r\n",
    b"ffffffffffffffff\r\n",
    b"hello",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 No\r\n",
    b"HTTP/1.1 101 S\r\n",
    b"HTTP/1.1 103 E\r\n",
    GET,
    GET,
]
"""Crumbs of messages: strung together at random they reach far more states than random bytes do."""

CRUMBS = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6)), max_size=14).map(b"".join)
LIMITS = H1Limits(head=200, fields=5, target=100, chunk_line=8, chunk_extensions=20, trailers=60, held=100, drain=30)


class Visit:
    """A server codec whose exchange answers each request at its end, a 101 where it may."""

    def __init__(self):
        self.codec = H1ServerCodec(LIMITS)
        self.events = []

    def feed(self, data):
        self._handle(self.codec.receive_data(data, 0.0))

    def end(self):
        self._handle(self.codec.receive_eof(0.0))

    def _handle(self, events):
        codec = self.codec
        while events:
            self.events += events
            upgrade = False
            for stream, event in events:
                upgrade = getattr(event, "upgrade", None) is not None or upgrade
                if isinstance(event, End):
                    if upgrade:
                        codec.send(stream, ResponseHead(101, b"", []))
                    else:
                        codec.send(stream, OK)
                        codec.send(stream, End())
                if isinstance(event, Body | Raw):
                    assert event.data
                    codec.acknowledge(stream, len(event.data))
            events = codec.receive_data(b"", 0.0) if codec.has_held else []

    def outcome(self):
        return joined(self.events), b"".join(self.codec.data_to_send()), self.codec.should_close


def in_pieces(data, cuts):
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.deadline(sized(60, 600))
@settings(max_examples=sized(150, 20000))
@given(CRUMBS, st.lists(st.integers(0, 10000), max_size=20), st.booleans())
@example(b"\r\n\r\nGET", [1, 2, 3], False)
def test_a_visitor_s_bytes_mean_the_same_however_they_are_cut(data, cuts, octets):
    whole, cut = Visit(), Visit()
    whole.feed(data)
    for piece in [data[i : i + 1] for i in range(len(data))] if octets else in_pieces(data, cuts):
        cut.feed(piece)
    assert whole.outcome() == cut.outcome()
    whole.end()
    cut.end()
    assert whole.outcome() == cut.outcome()


@pytest.mark.deadline(sized(60, 600))
@settings(max_examples=sized(150, 20000))
@given(st.sampled_from([b"GET", b"HEAD"]), CRUMBS, st.lists(st.integers(0, 10000), max_size=20), st.booleans())
def test_an_origin_s_bytes_mean_the_same_however_they_are_cut(method, data, cuts, start):
    if start:
        data = b"HTTP/1.1 200 OK\r\n" + data
    outcomes = []
    for pieces in ([data], in_pieces(data, cuts), [data[i : i + 1] for i in range(len(data))]):
        codec = H1ClientCodec(LIMITS)
        ask(codec, method, b"websocket")
        events = []
        for piece in pieces:
            events += codec.receive_data(piece, 0.0)
        before = (joined(events), codec.reusable, codec.should_close, codec.should_abort)
        outcomes.append((before, joined(codec.receive_eof(0.0)), codec.should_abort))
        assert sum(isinstance(event, Failed) for _, event in events) <= 1
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.deadline(sized(60, 600))
@settings(max_examples=sized(100, 10000))
@given(
    st.one_of(st.binary(max_size=300), CRUMBS), st.lists(st.sampled_from(["eof", "ok", "reset", "go on"]), max_size=6)
)
def test_nothing_a_peer_sends_raises(data, turns):
    server, client = H1ServerCodec(LIMITS), H1ClientCodec(LIMITS)
    ask(client)
    for codec in (server, client):
        codec.receive_data(data, 0.0)
        for turn in turns:
            if turn == "eof":
                codec.receive_eof(0.0)
            elif turn == "go on":
                codec.receive_data(b"", 0.0)
            elif turn == "reset":
                codec.reset(1)
            elif turn == "ok" and codec is server and server.sendable(1) and not server._out:
                server.send(1, OK)
        for event in codec.receive_data(data, 0.0):
            assert event[0] >= 0


def held_by(codec):
    """Octets of memory in the codec's buffers."""
    size = sys.getsizeof(codec._head.held)
    if codec._body is not None and hasattr(codec._body, "_line"):
        size += sys.getsizeof(codec._body._line)
    return size


@pytest.mark.parametrize(
    "flood",
    [
        b"G" * 64,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 60000,
        b"\r\n" * 32,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"a" * 60000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;aaaaaaaa\r\nx\r\n" * 4000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 10000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10000,
    ],
)
def test_memory_is_bounded(flood):
    """At most a head's limit and one read are held, whatever comes; and never more than a few times the input."""
    codec = H1ServerCodec()
    events = []
    for _ in range(50):
        events += codec.receive_data(flood, 0.0)
        assert held_by(codec) <= 2 * (32 * 1024 + len(flood))
    size = sum(sys.getsizeof(event) + sys.getsizeof(getattr(event, "data", b"")) for _, event in events)
    assert size <= 4 * 50 * len(flood) + 4096


def test_pipelined_requests_do_not_grow_beyond_one_read():
    codec = H1ServerCodec()
    codec.receive_data(GET, 0.0)
    fed = 0
    while codec.wants_data:
        codec.receive_data(GET, 0.0)
        fed += len(GET)
    assert fed <= H1Limits().held + len(GET)
