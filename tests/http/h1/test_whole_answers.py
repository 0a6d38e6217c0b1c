"""A whole answer in one call is what its three events are, in octets and in what becomes of the connection."""

from __future__ import annotations

from itertools import product

import pytest

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Body, End, Framing, InformationalHead, RequestHead, ResponseHead
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


def outcome(codec: H1ServerCodec, at_once: bytes = b"") -> tuple[object, ...]:
    if at_once:
        assert codec.idle  # and so nothing is queued before it
    sent = b"".join((at_once, *codec.data_to_send()))
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
                at_once = whole.send_whole(1, head(common), body)
                assert outcome(whole, at_once) == wanted, (framing, keep_alive, stopping, size, common)
            if len(wanted[-1]) == 0 and not stopping:
                # the very same head again, on the same connection
                shared, whole = head(True), asked(request_, stopping=False)
                for stream in (1, 2, 3):
                    at_once = whole.send_whole(stream, shared, body)
                    assert outcome(whole, at_once) == wanted, (framing, keep_alive, size, stream)
                    if whole.should_close or not whole.idle:
                        break
                    whole.receive_data(request_, 0.0)
            said.append(wanted[0])
    assert all(b" %d " % status in sent.partition(b"\r\n")[0] for sent in said)


def test_one_memo_keeps_lengths_and_statuses_apart() -> None:
    for status, body in ((200, b"one"), (200, b"three"), (404, b"one"), (200, b"one")):
        codec = asked(REQUESTS[0], stopping=False)
        head = ResponseHead(status, b"Why", FIELDS, (1, 1), LENGTH, len(body), True, True)
        assert codec.send_whole(
            1, head, body
        ) == b"HTTP/1.1 %d Why\r\nServer: it\r\nX-A: 1\r\nContent-Length: %d\r\n\r\n%s" % (
            status,
            len(body),
            body,
        )


def test_a_head_that_was_written_is_written_for_its_own_request_alone() -> None:
    shared = ResponseHead(200, b"Why", FIELDS, (1, 1), LENGTH, 3, True, True)
    for request in REQUESTS[:5] * 2:
        apart = asked(request, stopping=False)
        apart.send(1, ResponseHead(200, b"Why", FIELDS, (1, 1), LENGTH, 3))
        apart.send(1, Body(b"one"))
        apart.send(1, End())
        whole = asked(request, stopping=False)
        at_once = whole.send_whole(1, shared, b"one")
        assert outcome(whole, at_once) == outcome(apart)


def test_what_waits_to_be_sent_goes_before_an_answer() -> None:
    shared = ResponseHead(200, b"Why", FIELDS, (1, 1), LENGTH, 3, True, True)
    codec = asked(REQUESTS[0], stopping=False)
    first = codec.send_whole(1, shared, b"one")
    codec.receive_data(REQUESTS[0], 0.0)
    codec.send(2, InformationalHead(103, []))
    assert codec.send_whole(2, shared, b"two") == b""
    assert b"".join(codec.data_to_send()) == b"HTTP/1.1 103 \r\n\r\n" + first.replace(b"one", b"two")
    assert codec.idle


@pytest.mark.parametrize("length", [2, 4])
def test_a_body_of_another_length_is_a_mistake(length: int) -> None:
    codec = asked(REQUESTS[0], stopping=False)
    with pytest.raises(MisuseError):
        codec.send_whole(1, ResponseHead(200, b"", FIELDS, (1, 1), LENGTH, length, True, True), b"abc")


def test_a_body_of_another_length_is_a_mistake_also_behind_a_head_that_was_written() -> None:
    shared = ResponseHead(200, b"", FIELDS, (1, 1), LENGTH, 3, True, True)
    codec = asked(REQUESTS[0], stopping=False)
    assert codec.send_whole(1, shared, b"abc").endswith(b"abc")
    codec.receive_data(REQUESTS[0], 0.0)
    with pytest.raises(MisuseError):
        codec.send_whole(2, shared, b"ab")


def test_what_cannot_be_sent_whole() -> None:
    codec = asked(REQUESTS[0], stopping=False)
    with pytest.raises(MisuseError):
        codec.send_whole(1, ResponseHead(101, b"", []), b"")
    with pytest.raises(MisuseError):
        codec.send_whole(2, ResponseHead(200, b"", []), b"")
    codec.reset(1)
    assert codec.send_whole(1, ResponseHead(200, b"", []), b"") == b""
    assert codec.data_to_send() == []
