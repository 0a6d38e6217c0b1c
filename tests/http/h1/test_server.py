"""Conversations of the visitor's side."""

from __future__ import annotations

import pytest

from wormhole_tw.errors import HttpError, MisuseError
from wormhole_tw.http.events import (
    Body,
    End,
    Failed,
    Framing,
    InformationalHead,
    Raw,
    RawEnd,
    RequestHead,
    ResponseHead,
)
from wormhole_tw.http.h1 import H1Limits, H1ServerCodec

from .talk import GET, OK, answer, joined, said, told

HOST = b"Host: a.test\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = ResponseHead(200, b"OK", [], framing=Framing.CHUNKED)
UPGRADE = b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = ResponseHead(101, b"Switching Protocols", [(b"Upgrade", b"websocket")])
WHOLE = [(1, "request", b"GET", b"/"), (1, "end")]


def length(n, **changes):
    return ResponseHead(200, b"OK", [], framing=Framing.LENGTH, length=n, **changes)


# Answers


@pytest.mark.parametrize(
    ("request_bytes", "head", "bodies", "expected", "closes"),
    [
        (GET, length(2), [b"hi"], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", False),
        (GET, length(2, keep_alive=False), [b"h", b"i"],
         b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", True),
        (GET, ResponseHead(404, b"", [(b"A", b"b"), (b"C", b"")]), [],
         b"HTTP/1.1 404 \r\nA: b\r\nC: \r\nContent-Length: 0\r\n\r\n", False),
        (GET, CHUNKED, [b"hi", b"x" * 1024],
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n",
         False),
        (GET, ResponseHead(200, b"OK", [], framing=Framing.CLOSE), [b"hi"],
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", CHUNKED, [],
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", length(2), [b"hi"],
         b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", length(2), [b"hi"],
         b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", CHUNKED, [b"hi", b"ho"],
         b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhiho", True),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", length(9), [b"dropped"],
         b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", False),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", CHUNKED, [b"dropped"], b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HEAD / HTTP/1.0\r\n\r\n", CHUNKED, [], b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", True),
        (GET, ResponseHead(304, b"", [], length=7), [], b"HTTP/1.1 304 \r\nContent-Length: 7\r\n\r\n", False),
        (GET, ResponseHead(304, b"", []), [], b"HTTP/1.1 304 \r\n\r\n", False),
        (GET, ResponseHead(204, b"", [], framing=Framing.LENGTH, length=0), [], b"HTTP/1.1 204 \r\n\r\n", False),
        (GET, ResponseHead(426, b"", [(b"Upgrade", b"x")]), [],
         b"HTTP/1.1 426 \r\nUpgrade: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\r\n", False),
    ],
)  # fmt: skip
def test_answers(request_bytes, head, bodies, expected, closes):
    codec = H1ServerCodec()
    told(codec, request_bytes)
    assert answer(codec, 1, head, *bodies) == expected
    assert codec.should_close is closes
    assert not codec.should_abort
    assert codec.idle is not closes
    assert codec.data_to_send() == []


def test_a_whole_answer_goes_in_one_call():
    codec = H1ServerCodec()
    with pytest.raises(MisuseError, match="whole answer"):
        codec.send_whole(1, length(2), b"hi")
    told(codec, GET)
    codec.send_whole(1, length(2), b"hi")
    assert said(codec) == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    told(codec, GET)
    codec.send_whole(2, ResponseHead(404, b"", []), b"")
    assert said(codec) == b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"
    assert not codec.waits_for_answer
    told(codec, GET)
    assert codec.waits_for_answer
    large = b"x" * (1 << 20)
    codec.send_whole(3, length(len(large)), large)
    assert not codec.waits_for_answer
    _, body = codec.data_to_send()
    assert body is large  # a copy costs more than a second piece
    codec.shut_down()
    codec.send_whole(3, length(2), b"nobody hears this")
    assert said(codec) == b""


def test_a_request_that_came_before_begins_in_one_step():
    limits = H1Limits()
    first, codec = H1ServerCodec(limits), H1ServerCodec(limits)
    assert codec.receive_whole(GET) is None  # nobody has judged it yet
    [(_, head), _] = first.receive_data(GET, 0.0)
    assert codec.receive_whole(GET) == (1, head)
    assert codec.waits_for_answer
    assert codec.receive_whole(GET) is None  # its answer is not out
    assert answer(codec, 1) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert codec.receive_whole(GET + GET) is None  # two are not one
    assert told(codec, GET[:5]) == []
    assert codec.receive_whole(GET) is None  # another has begun
    assert told(codec, GET[5:]) == [(2, "request", b"GET", b"/"), (2, "end")]
    answer(codec, 2)
    assert told(codec, b"\r\n") == []
    assert codec.receive_whole(GET) is None  # a blank line came, and may come once
    assert told(codec, GET) == [(3, "request", b"GET", b"/"), (3, "end")]


def test_a_request_that_comes_again_on_its_connection_begins_as_on_another():
    limits = H1Limits()
    posted = POST + b"Content-Length: 2\r\n\r\n"
    other = GET.replace(b"a.test", b"b.test")
    for raw in (GET, posted, other):
        H1ServerCodec(limits).receive_data(raw, 0.0)
    kept, stream = H1ServerCodec(limits), 0
    assert kept.receive_whole(b"") is None
    for raw in (GET, GET, other, GET, GET + GET, GET[:-1], posted, posted, b"", GET):
        anew = H1ServerCodec(limits)
        begun, whole = anew.receive_whole(raw), kept.receive_whole(raw)
        assert (begun is None) is (whole is None) is (raw not in (GET, other))
        if whole is not None:
            stream += 1
            assert whole == (stream, begun[1])
            assert whole[1] is begun[1]
            answer(kept, stream)
        elif raw == posted:
            # its head alone, of a connection that had it before
            kept.receive_data(raw + b"hi", 0.0)
            stream += 1
            answer(kept, stream)


def test_a_request_with_a_body_does_not_begin_in_one_step():
    limits = H1Limits()
    raw = POST + b"Content-Length: 2\r\n\r\n"
    H1ServerCodec(limits).receive_data(raw, 0.0)
    assert H1ServerCodec(limits).receive_whole(raw) is None


def test_trailers_go_out_behind_chunks_only():
    codec = H1ServerCodec()
    told(codec, GET)
    codec.send(1, CHUNKED)
    codec.send(1, End([(b"X", b"y")]))
    assert said(codec).endswith(b"\r\n\r\n0\r\nX: y\r\n\r\n")
    told(codec, GET)
    codec.send(2, OK)
    codec.send(2, End([(b"X", b"y")]))
    assert said(codec).endswith(b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize("data", [b"HEAD / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/1.1\r\nX: \n", b"HEAD /" + b"a" * 40000])
def test_a_refusal_of_head_has_no_body(data):
    codec = H1ServerCodec()
    [(stream, kind, *_)] = told(codec, data)
    assert kind == "failed"
    head = ResponseHead(400, b"Bad Request", [], framing=Framing.LENGTH, length=2)
    assert answer(codec, stream, head, b"no") == (
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    )


def test_interim_answers_pass_to_those_who_know_them():
    codec = H1ServerCodec()
    told(codec, GET)
    codec.send(1, InformationalHead(103, [(b"Link", b"</a>")]))
    assert said(codec) == b"HTTP/1.1 103 \r\nLink: </a>\r\n\r\n"
    answer(codec, 1)
    old = H1ServerCodec()
    told(old, b"GET / HTTP/1.0\r\n\r\n")
    old.send(1, InformationalHead(103, []))
    assert said(old) == b""


def test_large_pieces_are_not_joined():
    codec = H1ServerCodec()
    told(codec, GET)
    data = b"x" * 100000
    codec.send(1, CHUNKED)
    codec.send(1, Body(data))
    assert any(piece is data for piece in codec.data_to_send())
    codec.send(1, End())
    told(codec, GET)
    codec.send(2, length(len(data)))
    codec.send(2, Body(data))
    assert any(piece is data for piece in codec.data_to_send())


# Order of requests


def test_pipelined_requests_come_one_by_one():
    codec = H1ServerCodec()
    assert told(codec, GET * 3 + b"GET /x") == WHOLE
    assert not codec.has_held
    assert told(codec, b"") == []
    for stream in (2, 3):
        answer(codec, stream - 1)
        assert codec.has_held
        assert told(codec, b"") == [(stream, "request", b"GET", b"/"), (stream, "end")]
    answer(codec, 3)
    assert told(codec, b"") == []
    assert not codec.idle
    assert told(codec, b" HTTP/1.1\r\n" + HOST + b"\r\n") == [(4, "request", b"GET", b"/x"), (4, "end")]


def test_reading_pauses_when_enough_is_held():
    codec = H1ServerCodec(H1Limits(held=100))
    told(codec, GET)
    assert codec.wants_data
    told(codec, GET * 4)
    assert not codec.wants_data
    for stream in range(1, 5):
        answer(codec, stream)
        told(codec, b"")
    assert codec.wants_data


def test_a_body_is_read_while_its_answer_is_sent():
    codec = H1ServerCodec()
    assert told(codec, POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n") == [
        (1, "request", b"POST", b"/"),
        (1, "body", b"ab"),
    ]
    codec.send(1, CHUNKED)
    codec.send(1, Body(b"ab"))
    assert told(codec, b"2\r\ncd\r\n") == [(1, "body", b"cd")]
    codec.send(1, Body(b"cd"))
    assert told(codec, b"0\r\nX: y\r\n\r\n" + GET) == [(1, "end", (b"X", b"y"))]
    codec.send(1, End())
    assert said(codec).endswith(b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")
    assert told(codec, b"") == [(2, "request", b"GET", b"/"), (2, "end")]


def test_reading_pauses_while_a_body_is_not_acknowledged():
    codec = H1ServerCodec(H1Limits(window=10))
    told(codec, POST + b"Content-Length: 100\r\n\r\n" + b"x" * 9)
    assert codec.wants_data
    told(codec, b"xxx")
    assert not codec.wants_data
    codec.acknowledge(7, 100)
    assert not codec.wants_data
    codec.acknowledge(1, 2)
    assert not codec.wants_data
    codec.acknowledge(1, 1)
    assert codec.wants_data


def test_head_since_is_when_a_head_began():
    codec = H1ServerCodec()
    assert codec.head_since is None
    codec.receive_data(b"GET", 5.0)
    codec.receive_data(b" / HTTP/1.1\r\n", 6.0)
    assert codec.head_since == 5.0
    assert not codec.idle
    codec.receive_data(HOST + b"\r\n", 7.0)
    assert codec.head_since is None


def test_sendable_while_open():
    codec = H1ServerCodec()
    assert codec.sendable(0) == 0
    told(codec, GET)
    assert codec.sendable(1) > 1 << 20
    assert codec.sendable(2) == 0
    answer(codec, 1)
    assert codec.sendable(1) == 0


# Early answers


def test_the_rest_of_a_short_body_is_thrown_away():
    codec = H1ServerCodec()
    told(codec, POST + b"Content-Length: 10\r\n\r\nab")
    answer(codec, 1)
    assert not codec.should_close
    assert not codec.idle
    assert codec.wants_data
    assert told(codec, b"cdef") == []
    assert told(codec, b"ghij" + GET) == [(2, "request", b"GET", b"/"), (2, "end")]


def test_the_rest_of_a_chunked_body_is_thrown_away():
    codec = H1ServerCodec()
    told(codec, POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
    answer(codec, 1)
    assert told(codec, b"cde\r\n0\r\n") == []
    assert told(codec, b"\r\n" + GET) == [(2, "request", b"GET", b"/"), (2, "end")]


def test_a_long_rest_closes_the_connection_at_once():
    codec = H1ServerCodec()
    told(codec, POST + b"Content-Length: 1000000\r\n\r\nab")
    answer(codec, 1)
    assert codec.should_close
    assert told(codec, b"x" * 100 + GET) == []


@pytest.mark.parametrize("rest", [b"ffff\r\n" + b"x" * 200, b"zz\r\n", b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n"])
def test_a_rest_that_turns_out_long_or_broken_closes(rest):
    codec = H1ServerCodec(H1Limits(drain=100))
    told(codec, POST + b"Transfer-Encoding: chunked\r\n\r\n")
    answer(codec, 1)
    assert not codec.should_close
    assert told(codec, rest + GET) == []
    assert codec.should_close


def test_the_end_of_the_connection_while_throwing_away():
    codec = H1ServerCodec()
    told(codec, POST + b"Content-Length: 10\r\n\r\nab")
    answer(codec, 1)
    assert codec.receive_eof(0.0) == []
    assert codec.should_close


def test_an_early_answer_that_wants_to_close_does():
    codec = H1ServerCodec()
    told(codec, POST + b"Content-Length: 10\r\n\r\nab")
    assert b"Connection: close" in answer(codec, 1, ResponseHead(413, b"", [], keep_alive=False))
    assert codec.should_close


def test_a_body_that_waits_for_its_100_may_never_come():
    expecting = POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    codec = H1ServerCodec()
    told(codec, expecting)
    assert b"Connection: close" in answer(codec, 1)
    assert codec.should_close
    codec = H1ServerCodec()
    told(codec, expecting)
    codec.send(1, InformationalHead(103, []))
    codec.send(1, InformationalHead(100, []))
    assert said(codec) == b"HTTP/1.1 103 \r\n\r\nHTTP/1.1 100 \r\n\r\n"
    assert told(codec, b"abc") == [(1, "body", b"abc"), (1, "end")]
    assert b"Connection: close" not in answer(codec, 1)
    codec = H1ServerCodec()
    assert told(codec, expecting + b"a")[1:] == [(1, "body", b"a")]
    assert b"Connection: close" not in answer(codec, 1)


# Refusals


def test_a_refused_request_can_be_answered():
    codec = H1ServerCodec()
    assert told(codec, b"BAD\r\n\r\n" + GET) == [(1, "failed", 400, "bad-request")]
    assert told(codec, GET) == []
    assert not codec.should_close
    assert answer(codec, 1, ResponseHead(400, b"", [])) == (
        b"HTTP/1.1 400 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert codec.should_close


def test_a_refusal_behind_a_good_request_waits_its_turn():
    codec = H1ServerCodec()
    assert told(codec, GET + b"BAD\r\n\r\n") == WHOLE
    answer(codec, 1)
    assert told(codec, b"") == [(2, "failed", 400, "bad-request")]


def test_a_broken_body_ends_the_connection():
    codec = H1ServerCodec()
    assert told(codec, POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n" + GET) == [
        (1, "request", b"POST", b"/"),
        (1, "body", b"ab"),
        (1, "failed", 400, "bad-chunk"),
    ]
    assert b"Connection: close" in answer(codec, 1, ResponseHead(400, b"", []))
    assert codec.should_close


def test_a_head_that_is_too_slow_can_be_answered():
    codec = H1ServerCodec()
    told(codec, b"GET / HT")
    assert joined(codec.refuse(HttpError(408, "head-timeout", "Too slow."))) == [(1, "failed", 408, "head-timeout")]
    assert answer(codec, 1, ResponseHead(408, b"", [])).startswith(b"HTTP/1.1 408 ")
    assert codec.should_close
    busy = H1ServerCodec()
    told(busy, GET)
    with pytest.raises(MisuseError):
        busy.refuse(HttpError(408, "head-timeout", "Too slow."))


# Ends


def test_the_end_of_an_idle_connection():
    codec = H1ServerCodec()
    assert codec.receive_eof(0.0) == []
    assert codec.should_close
    assert not codec.should_abort


def test_the_end_within_a_head():
    codec = H1ServerCodec()
    told(codec, b"GET / HT")
    assert codec.receive_eof(0.0) == []
    assert codec.should_close


def test_the_end_within_a_body():
    codec = H1ServerCodec()
    told(codec, POST + b"Content-Length: 3\r\n\r\nab")
    assert joined(codec.receive_eof(0.0)) == [(1, "failed", 400, "request-truncated")]
    assert codec.receive_eof(0.0) == []
    assert not codec.should_close
    answer(codec, 1, ResponseHead(400, b"", []))
    assert codec.should_close


def test_requests_sent_before_the_end_are_all_answered():
    codec = H1ServerCodec()
    told(codec, GET + GET)
    assert codec.receive_eof(0.0) == []
    assert b"close" not in answer(codec, 1)
    assert not codec.should_close
    assert codec.has_held
    assert told(codec, b"") == [(2, "request", b"GET", b"/"), (2, "end")]
    assert b"Connection: close" in answer(codec, 2)
    assert codec.should_close


def test_part_of_a_request_before_the_end_is_dropped():
    codec = H1ServerCodec()
    told(codec, GET + b"GET / HT")
    codec.receive_eof(0.0)
    answer(codec, 1)
    assert told(codec, b"") == []
    assert codec.should_close


def test_a_truncated_body_behind_the_end():
    codec = H1ServerCodec()
    told(codec, GET + POST + b"Content-Length: 5\r\n\r\nab")
    codec.receive_eof(0.0)
    answer(codec, 1)
    assert told(codec, b"") == [
        (2, "request", b"POST", b"/"),
        (2, "body", b"ab"),
        (2, "failed", 400, "request-truncated"),
    ]


def test_reset_cuts_the_answer():
    codec = H1ServerCodec()
    told(codec, GET)
    codec.send(1, CHUNKED)
    codec.reset(2)
    assert not codec.should_abort
    codec.reset(1, 2)
    assert codec.should_abort
    assert codec.should_close
    codec.send(1, Body(b"late"))
    codec.send(1, End())
    assert said(codec).endswith(b"chunked\r\n\r\n")
    assert told(codec, GET) == []
    assert codec.receive_eof(0.0) == []


def test_reset_of_a_request_that_is_over_does_nothing():
    codec = H1ServerCodec()
    told(codec, GET)
    answer(codec, 1)
    codec.reset(1)
    assert not codec.should_abort
    assert codec.idle


@pytest.mark.parametrize("before", [b"", b"GET / HT"])
def test_shutting_down_between_requests(before):
    codec = H1ServerCodec()
    told(codec, before)
    codec.shut_down()
    assert codec.should_close


def test_shutting_down_within_a_request():
    codec = H1ServerCodec()
    told(codec, GET + GET)
    codec.shut_down()
    assert not codec.should_close
    assert b"Connection: close" in answer(codec, 1)
    assert codec.should_close
    assert told(codec, b"") == []


# Switching protocols


def test_what_follows_a_101_is_raw():
    codec = H1ServerCodec()
    head = codec.receive_data(UPGRADE + b"early", 0.0)[0][1]
    assert isinstance(head, RequestHead)
    assert head.upgrade == b"websocket"
    codec.send(1, SWITCH)
    assert said(codec) == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    assert codec.has_held
    assert told(codec, b"") == [(1, "raw", b"early")]
    assert not codec.has_held
    assert told(codec, GET) == [(1, "raw", GET)]
    codec.send(1, Raw(b"down"))
    assert said(codec) == b"down"
    codec.send(1, RawEnd())
    assert codec.output_ended
    assert not codec.should_close
    assert joined(codec.receive_eof(0.0)) == [(1, "raw end")]
    assert codec.should_close
    assert not codec.should_abort


def test_without_a_101_a_pipelined_request_is_one():
    codec = H1ServerCodec()
    told(codec, UPGRADE + GET)
    answer(codec, 1)
    assert told(codec, b"") == [(2, "request", b"GET", b"/"), (2, "end")]


def test_the_visitor_may_end_first():
    codec = H1ServerCodec()
    told(codec, UPGRADE)
    codec.send(1, SWITCH)
    assert joined(codec.receive_eof(0.0)) == [(1, "raw end")]
    assert not codec.has_held
    assert not codec.should_close
    codec.send(1, Raw(b"last words"))
    codec.send(1, RawEnd())
    assert said(codec).endswith(b"last words")
    assert codec.should_close


def test_the_visitor_may_end_before_the_101():
    codec = H1ServerCodec()
    told(codec, UPGRADE + b"early")
    assert codec.receive_eof(0.0) == []
    codec.send(1, SWITCH)
    assert codec.has_held
    assert told(codec, b"") == [(1, "raw", b"early"), (1, "raw end")]
    codec = H1ServerCodec()
    told(codec, UPGRADE)
    codec.receive_eof(0.0)
    codec.send(1, SWITCH)
    assert codec.has_held
    assert told(codec, b"") == [(1, "raw end")]


def test_raw_octets_are_acknowledged():
    codec = H1ServerCodec(H1Limits(window=10))
    told(codec, UPGRADE)
    codec.send(1, SWITCH)
    told(codec, b"x" * 10)
    assert not codec.wants_data
    codec.acknowledge(1, 1)
    assert codec.wants_data


def test_shutting_down_leaves_a_switched_connection():
    codec = H1ServerCodec()
    told(codec, UPGRADE)
    codec.send(1, SWITCH)
    codec.shut_down()
    assert not codec.should_close
    assert told(codec, b"x") == [(1, "raw", b"x")]


# Misuse


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], Body(b"x")),
        ([], End()),
        ([], Raw(b"x")),
        ([], RawEnd()),
        ([], RequestHead(b"GET", b"/", b"", (1, 1), [])),
        ([], Failed(HttpError(400, "x", "x"))),
        ([], SWITCH),
        ([], ResponseHead(200, b"a\r\nb", [])),
        ([], ResponseHead(200, b"", [(b"X", b"a\r\nSet-Cookie: b")])),
        ([], ResponseHead(200, b"", [(b"X", b"a\nb")])),
        ([], ResponseHead(200, b"", [(b"X\r", b"a")])),
        ([], ResponseHead(200, b"", [(b"X", b"a\0")])),
        ([], InformationalHead(103, [(b"X", b"a\nb")])),
        ([OK], OK),
        ([OK], InformationalHead(103, [])),
        ([length(1)], Body(b"xy")),
        ([length(1)], End()),
        ([CHUNKED], End([(b"X", b"a\r\nb")])),
    ],
)
def test_misuse(before, event):
    codec = H1ServerCodec()
    told(codec, GET)
    for sent in before:
        codec.send(1, sent)
    with pytest.raises(MisuseError):
        codec.send(1, event)


def test_misuse_of_streams_and_of_a_switched_connection():
    codec = H1ServerCodec()
    with pytest.raises(MisuseError):
        codec.send(1, OK)
    told(codec, UPGRADE)
    with pytest.raises(MisuseError):
        codec.send(2, OK)
    codec.send(1, SWITCH)
    codec.send(1, RawEnd())
    for event in (Raw(b"x"), RawEnd(), OK):
        with pytest.raises(MisuseError):
            codec.send(1, event)
