"""A whole answer in one call is what its three events are, in octets and in what becomes of the connection."""

from __future__ import annotations

from itertools import product

import pytest

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Body, End, Framing, RequestHead, ResponseHead
from wormhole_tw.http.h1 import H1ServerCodec
from wormhole_tw.http.h1.writer import JOIN_WHOLE_BELOW

LENGTH, CHUNKED, NONE = Framing.LENGTH, Framing.CHUNKED, Framing.NONE

REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nab",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET /next HTTP/1.1\r\nHost: a.test\r\n\r\n",
)

FIELDS = [(b"Server", b"it"), (b"X-A", b"1")]


def asked(request: bytes, *, stopping: bool) -> H1ServerCodec:
    codec = H1ServerCodec()
    events = codec.receive_data(request, 0.0)
    assert isinstance(events[0][1], RequestHead)
    if stopping:
        codec.shut_down()
    return codec


def outcome(codec: H1ServerCodec) -> tuple[object, ...]:
    sent = b"".join(codec.data_to_send())
    after = [event for _, event in codec.receive_data(b"", 0.0)]
    return sent, codec.should_close, codec.should_abort, codec.idle, codec.wants_data, after


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("status", [200, 204, 304, 404, 426])
def test_it_is_what_its_events_are(request_: bytes, status: int) -> None:
    said = []
    for framing, keep_alive, stopping in product((LENGTH, CHUNKED, NONE), (True, False), (False, True)):
        for size in (0, 5, JOIN_WHOLE_BELOW):
            body = b"x" * size if framing is not NONE else b""
            length = len(body) if framing is LENGTH else None

            def head(common: bool, length: int | None = length) -> ResponseHead:
                return ResponseHead(status, b"Why", FIELDS, (1, 1), framing, length, keep_alive, common)  # noqa: B023

            apart = asked(request_, stopping=stopping)
            apart.send(1, head(False))
            if body:
                apart.send(1, Body(body))
            apart.send(1, End())
            wanted = outcome(apart)
            for common in (False, True, True):
                whole = asked(request_, stopping=stopping)
                whole.send_whole(1, head(common), body)
                assert outcome(whole) == wanted, (framing, keep_alive, stopping, size, common)
            said.append(wanted[0])
    assert all(b" %d " % status in sent.partition(b"\r\n")[0] for sent in said)


def test_one_memo_keeps_lengths_and_statuses_apart() -> None:
    for status, body in ((200, b"one"), (200, b"three"), (404, b"one"), (200, b"one")):
        codec = asked(REQUESTS[0], stopping=False)
        codec.send_whole(1, ResponseHead(status, b"Why", FIELDS, (1, 1), LENGTH, len(body), True, True), body)
        sent = b"".join(codec.data_to_send())
        assert sent == b"HTTP/1.1 %d Why\r\nServer: it\r\nX-A: 1\r\nContent-Length: %d\r\n\r\n%s" % (
            status,
            len(body),
            body,
        )


@pytest.mark.parametrize("length", [2, 4])
def test_a_body_of_another_length_is_a_mistake(length: int) -> None:
    codec = asked(REQUESTS[0], stopping=False)
    with pytest.raises(MisuseError):
        codec.send_whole(1, ResponseHead(200, b"", FIELDS, (1, 1), LENGTH, length, True, True), b"abc")


def test_what_cannot_be_sent_whole() -> None:
    codec = asked(REQUESTS[0], stopping=False)
    with pytest.raises(MisuseError):
        codec.send_whole(1, ResponseHead(101, b"", []), b"")
    with pytest.raises(MisuseError):
        codec.send_whole(2, ResponseHead(200, b"", []), b"")
    codec.reset(1)
    codec.send_whole(1, ResponseHead(200, b"", []), b"")
    assert codec.data_to_send() == []
