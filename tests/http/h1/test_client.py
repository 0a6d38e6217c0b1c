"""Conversations of the origin's side."""

from __future__ import annotations

import pytest

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Body, End, Framing, Raw, RawEnd, RequestHead
from wormhole_tw.http.h1 import H1ClientCodec, H1Limits

from .talk import OK, ask, joined, said, told

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
SEEN = [("answer", 200), ("body", b"hi"), ("end",)]
SWITCHED = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def seen(stream):
    return [(stream, *event) for event in SEEN]


def head(method=b"GET", fields=(), **changes):
    return RequestHead(method, b"/x?y", b"a.test:81", (1, 1), list(fields), **changes)


@pytest.mark.parametrize(
    ("request_head", "bodies", "end", "expected"),
    [
        (head(), [], End(), b"GET /x?y HTTP/1.1\r\nHost: a.test:81\r\n\r\n"),
        (head(fields=[(b"A", b"b"), (b"C", b"")]), [], End(),
         b"GET /x?y HTTP/1.1\r\nHost: a.test:81\r\nA: b\r\nC: \r\n\r\n"),
        (head(b"POST", framing=Framing.LENGTH, length=4), [b"hi", b"ho"], End(),
         b"POST /x?y HTTP/1.1\r\nHost: a.test:81\r\nContent-Length: 4\r\n\r\nhiho"),
        (head(b"POST", framing=Framing.LENGTH, length=0), [], End(),
         b"POST /x?y HTTP/1.1\r\nHost: a.test:81\r\nContent-Length: 0\r\n\r\n"),
        (head(b"POST", framing=Framing.CHUNKED), [b"hi"], End([(b"X", b"y")]),
         b"POST /x?y HTTP/1.1\r\nHost: a.test:81\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n"),
        (head(b"POST", framing=Framing.LENGTH, length=1, expect_continue=True), [b"x"], End(),
         b"POST /x?y HTTP/1.1\r\nHost: a.test:81\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx"),
        (head(upgrade=b"websocket"), [], End(),
         b"GET /x?y HTTP/1.1\r\nHost: a.test:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        (head(fields=[(b"TE", b"trailers")], upgrade=b"x"), [], End(),
         b"GET /x?y HTTP/1.1\r\nHost: a.test:81\r\nTE: trailers\r\nUpgrade: x\r\nConnection: Upgrade, TE\r\n\r\n"),
    ],
)  # fmt: skip
def test_requests(request_head, bodies, end, expected):
    codec = H1ClientCodec()
    stream = codec.new_stream()
    codec.send(stream, request_head)
    assert not codec.reusable
    assert codec.sendable(stream) > 1 << 20
    for body in bodies:
        codec.send(stream, Body(body))
    codec.send(stream, end)
    assert codec.sendable(stream) == 0
    assert said(codec) == expected
    assert codec.data_to_send() == []


def test_a_request_without_a_body_goes_in_one_call():
    codec = H1ClientCodec()
    assert codec.whole_request(head()) == b"GET /x?y HTTP/1.1\r\nHost: a.test:81\r\n\r\n"
    assert codec.stream == 1
    assert said(codec) == b""
    with pytest.raises(MisuseError, match="no request can begin"):
        codec.whole_request(head())
    assert told(codec, ANSWER) == seen(1)
    codec.whole_request(head())
    assert codec.stream == 2


@pytest.mark.parametrize("common", [False, True])
def test_the_name_of_a_request_goes_with_its_head(common):
    codec = H1ClientCodec()
    shared = head(fields=[(b"A", b"b")], common=common)
    for number in (1, 2):
        codec.request_id = b"id-%d" % number
        said_whole = codec.whole_request(shared)
        told(codec, ANSWER)
        codec.send(codec.new_stream(), shared)
        codec.send(codec.stream, End())
        assert said_whole == said(codec)  # in its two pieces it is the same
        assert said_whole == (b"GET /x?y HTTP/1.1\r\nHost: a.test:81\r\nA: b\r\nX-Request-Id: id-%d\r\n\r\n" % number)
        told(codec, ANSWER)
    codec.request_id = b"id\r\nX: y"
    with pytest.raises(MisuseError, match="line end"):
        codec.whole_request(shared)


@pytest.mark.parametrize("framing", [{"framing": Framing.CHUNKED}, {"framing": Framing.LENGTH, "length": 3}])
def test_a_request_with_a_body_does_not(framing):
    with pytest.raises(MisuseError, match="not whole"):
        H1ClientCodec().whole_request(head(b"POST", **framing))


def test_an_answer_whose_head_came_before_is_taken_in_one_step():
    limits = H1Limits()
    codec = H1ClientCodec(limits)
    assert codec.receive_whole(ANSWER) is None  # nothing was asked
    ask(codec)
    assert codec.receive_whole(ANSWER) is None  # nobody has judged its head yet
    assert told(codec, ANSWER) == seen(1)
    ask(codec)
    head, body = codec.receive_whole(ANSWER)
    assert (head.status, body) == (200, b"hi")
    assert codec.reusable
    ask(codec)
    assert codec.receive_whole(ANSWER + b"x") is None  # too much: for receive_data to judge
    assert codec.receive_whole(ANSWER[:-1]) is None
    assert codec.receive_whole(ANSWER.replace(b"OK", b"KO")) is None
    assert told(codec, ANSWER[:3]) == []
    assert codec.receive_whole(ANSWER) is None  # one has begun
    assert told(codec, ANSWER[3:]) == seen(3)


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        (b"GET", ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_other_answers_are_not(method, raw):
    limits = H1Limits()
    first, codec = H1ClientCodec(limits), H1ClientCodec(limits)
    ask(first, method)
    first.receive_data(raw, 0.0)
    ask(codec, method)
    assert codec.receive_whole(raw) is None


def test_a_connection_that_just_had_a_head_takes_what_another_takes():
    """It compares octets with those of its last answer, where another looks them up."""
    limits = H1Limits()
    kept = H1ClientCodec(limits)
    other = ANSWER.replace(b"OK", b"Fine")
    closing = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    taken = []
    for raw in (ANSWER, other, closing):
        first = H1ClientCodec(limits)
        ask(first)
        first.receive_data(raw, 0.0)
    for method, upgrade, raw in [
        (b"GET", None, ANSWER),
        (b"GET", None, ANSWER.replace(b"hi", b"ho")),
        (b"GET", None, other),
        (b"GET", None, ANSWER),
        (b"HEAD", None, ANSWER),
        (b"GET", b"websocket", ANSWER),
        (b"POST", None, ANSWER),
        (b"GET", None, ANSWER + b"more"),
        (b"GET", None, ANSWER[:-1]),
        (b"GET", None, ANSWER.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n")),
        (b"GET", None, closing),
        (b"GET", None, ANSWER[:9]),
    ]:
        ask(kept, method, upgrade)
        anew = H1ClientCodec(limits)
        ask(anew, method, upgrade)
        whole = kept.receive_whole(raw)
        assert whole == anew.receive_whole(raw)
        assert kept.reusable is anew.reusable is (whole is not None)
        taken.append(whole is not None)
        if whole is None:
            kept.reset(kept.stream)
            kept = H1ClientCodec(limits)
            ask(kept)
            assert kept.receive_whole(ANSWER) is not None
    assert taken == [True] * 4 + [False, False, True] + [False] * 5


def test_no_answer_to_an_upgrade_is_taken_in_one_step():
    limits = H1Limits()
    first, codec = H1ClientCodec(limits), H1ClientCodec(limits)
    ask(first)
    first.receive_data(ANSWER, 0.0)
    ask(codec, upgrade=b"websocket")
    assert codec.receive_whole(ANSWER) is None


def test_a_connection_is_used_again():
    codec = H1ClientCodec()
    for stream in (1, 2, 3):
        assert codec.reusable
        assert ask(codec) == stream
        assert not codec.reusable
        assert told(codec, ANSWER) == seen(stream)
    assert codec.reusable
    assert not codec.should_close
    assert not codec.has_held
    assert codec.receive_eof(0.0) == []
    assert codec.should_close
    assert not codec.should_abort
    with pytest.raises(MisuseError):
        codec.new_stream()


def test_chunks_and_trailers():
    codec = H1ClientCodec()
    ask(codec)
    assert told(codec, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n") == [
        (1, "answer", 200),
        (1, "body", b"hi"),
        (1, "end", (b"X", b"y")),
    ]
    assert codec.reusable


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 No\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 No\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_answers_without_a_body(method, answer):
    codec = H1ClientCodec()
    ask(codec, method)
    assert [event[1] for event in told(codec, answer)] == ["answer", "end"]
    assert codec.reusable


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_no_body_that_comes_late_is_taken_for_the_next_answer(method, answer):
    codec = H1ClientCodec()
    ask(codec, method)
    assert [event[1] for event in told(codec, answer)] == ["answer", "end"]
    assert not codec.reusable
    assert told(codec, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") == []


def test_the_end_of_the_connection_ends_a_body_without_a_length():
    codec = H1ClientCodec()
    ask(codec)
    assert told(codec, b"HTTP/1.1 200 OK\r\n\r\nhi") == [(1, "answer", 200), (1, "body", b"hi")]
    assert joined(codec.receive_eof(0.0)) == [(1, "end")]
    assert codec.should_close
    assert not codec.should_abort
    assert not codec.reusable


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "origin-closed"),
        (b"HTTP/1.1 2", "answer-truncated"),
        (b"HTTP/1.1 103 x\r\n\r\n", "answer-truncated"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "answer-truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", "answer-truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "answer-truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "answer-truncated"),
    ],
)
def test_an_answer_that_is_cut_is_never_a_clean_end(data, reason):
    codec = H1ClientCodec()
    ask(codec)
    assert "end" not in [event[1] for event in told(codec, data)]
    assert joined(codec.receive_eof(0.0)) == [(1, "failed", 502, reason)]
    assert codec.should_abort
    assert codec.receive_eof(0.0) == []


def test_a_broken_body_fails_with_502():
    codec = H1ClientCodec()
    ask(codec)
    assert told(codec, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\n") == [
        (1, "answer", 200),
        (1, "body", b"hi"),
        (1, "failed", 502, "bad-answer"),
    ]
    assert codec.should_abort
    assert told(codec, b"more") == []


def test_interim_answers_are_counted():
    codec = H1ClientCodec(H1Limits(interim=2 * len(b"HTTP/1.1 103 x\r\n\r\n")))
    ask(codec)
    early = b"HTTP/1.1 103 x\r\n\r\n"
    assert told(codec, early + early + ANSWER) == [(1, "interim", 103), (1, "interim", 103), *seen(1)]
    ask(codec)
    assert told(codec, early * 3) == [(2, "interim", 103), (2, "interim", 103), (2, "failed", 502, "bad-answer")]


@pytest.mark.parametrize("extra", [b"x", ANSWER])
@pytest.mark.parametrize("together", [True, False])
def test_bytes_that_answer_nothing_end_the_connection(extra, together):
    codec = H1ClientCodec()
    ask(codec)
    events = told(codec, ANSWER + extra) if together else told(codec, ANSWER) + told(codec, extra)
    assert events == [*seen(1), (0, "failed", 502, "bad-answer")]
    assert not codec.reusable
    assert codec.should_abort


def test_bytes_before_any_request_end_the_connection():
    codec = H1ClientCodec()
    assert told(codec, ANSWER) == [(0, "failed", 502, "bad-answer")]
    assert codec.should_close


def test_an_origin_that_will_close_is_not_used_again():
    codec = H1ClientCodec()
    ask(codec)
    assert told(codec, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") == [
        (1, "answer", 200),
        (1, "end"),
    ]
    assert codec.should_close
    assert not codec.reusable


def test_an_answer_before_the_request_s_end():
    codec = H1ClientCodec()
    stream = codec.new_stream()
    codec.send(stream, head(b"POST", framing=Framing.CHUNKED))
    assert told(codec, b"HTTP/1.1 413 x\r\nContent-Length: 2\r\n\r\n") == [(1, "answer", 413)]
    codec.send(stream, Body(b"still"))
    assert told(codec, b"no") == [(1, "body", b"no"), (1, "end")]
    assert codec.should_close
    assert not codec.should_abort
    codec.send(stream, Body(b"dropped"))
    codec.send(stream, End())
    assert b"dropped" not in said(codec)


def test_both_ways_at_once():
    codec = H1ClientCodec()
    stream = codec.new_stream()
    codec.send(stream, head(b"POST", framing=Framing.CHUNKED))
    told(codec, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    codec.send(stream, Body(b"x"))
    assert told(codec, b"1\r\nx\r\n") == [(1, "body", b"x")]
    codec.send(stream, End())
    assert told(codec, b"0\r\n\r\n") == [(1, "end")]
    assert codec.reusable


def test_reading_pauses_while_a_body_is_not_acknowledged():
    codec = H1ClientCodec(H1Limits(window=10))
    ask(codec)
    told(codec, b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"x" * 10)
    assert not codec.wants_data
    codec.acknowledge(5, 10)
    assert not codec.wants_data
    codec.acknowledge(1, 10)
    assert codec.wants_data
    told(codec, b"x" * 10)
    assert codec.wants_data
    codec.acknowledge(1, 10)
    assert codec.wants_data


def test_switching_protocols():
    codec = H1ClientCodec(H1Limits(window=10))
    ask(codec, upgrade=b"websocket")
    assert told(codec, SWITCHED + b"early") == [(1, "answer", 101), (1, "raw", b"early")]
    codec.send(1, Raw(b"up"))
    assert said(codec) == b"up"
    assert codec.sendable(1) > 1 << 20
    told(codec, b"x" * 10)
    assert not codec.wants_data
    codec.acknowledge(1, 15)
    assert codec.wants_data
    assert joined(codec.receive_eof(0.0)) == [(1, "raw end")]
    assert not codec.should_close
    codec.send(1, RawEnd())
    assert codec.output_ended
    assert codec.should_close
    assert not codec.should_abort


def test_we_may_end_a_switched_connection_first():
    codec = H1ClientCodec()
    ask(codec, upgrade=b"websocket")
    told(codec, SWITCHED)
    codec.send(1, RawEnd())
    assert codec.output_ended
    for event in (Raw(b"x"), RawEnd(), Body(b"x")):
        with pytest.raises(MisuseError):
            codec.send(1, event)
    assert not codec.should_close
    assert told(codec, b"last") == [(1, "raw", b"last")]
    assert joined(codec.receive_eof(0.0)) == [(1, "raw end")]
    assert codec.should_close


def test_switching_before_the_request_s_end_is_refused():
    codec = H1ClientCodec()
    codec.send(codec.new_stream(), head(upgrade=b"websocket"))
    assert told(codec, SWITCHED) == [(1, "failed", 502, "bad-answer")]


def test_reset_ends_the_connection():
    codec = H1ClientCodec()
    codec.reset(0)
    assert not codec.should_abort
    ask(codec)
    codec.reset(2)
    assert not codec.should_abort
    codec.reset(1, 8)
    assert codec.should_abort
    assert codec.should_close
    assert told(codec, ANSWER) == []
    codec.send(1, End())
    assert said(codec) == b""


def test_reset_after_the_end_does_nothing():
    codec = H1ClientCodec()
    ask(codec)
    told(codec, ANSWER)
    codec.reset(1)
    assert codec.reusable
    codec.receive_eof(0.0)
    codec.reset(1)
    assert not codec.should_abort


def test_shutting_down():
    codec = H1ClientCodec()
    codec.shut_down()
    assert codec.should_close
    busy = H1ClientCodec()
    ask(busy)
    busy.shut_down()
    assert not busy.should_close
    assert told(busy, ANSWER) == seen(1)
    assert busy.should_close
    assert not busy.should_abort


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], Body(b"x")),
        ([], OK),
        ([], RequestHead(b"GET", b"/a b", b"a", (1, 1), [])),
        ([], RequestHead(b"G T", b"/", b"a", (1, 1), [])),
        ([], RequestHead(b"GET", b"/a\r\nX:", b"a", (1, 1), [])),
        ([], RequestHead(b"GET", b"/", b"a\r\nX: y", (1, 1), [])),
        ([], head(fields=[(b"X", b"a\r\nY: b")])),
        ([], head(framing=Framing.CLOSE)),
        ([head(framing=Framing.LENGTH, length=1)], Body(b"xy")),
        ([head(framing=Framing.LENGTH, length=1)], End()),
        ([head()], Body(b"x")),
        ([head()], head()),
        ([head()], Raw(b"x")),
        ([head()], OK),
        ([head(), End()], End()),
    ],
)
def test_misuse(before, event):
    codec = H1ClientCodec()
    stream = codec.new_stream()
    for sent in before:
        codec.send(stream, sent)
    with pytest.raises(MisuseError):
        codec.send(stream, event)


def test_misuse_of_streams():
    codec = H1ClientCodec()
    with pytest.raises(MisuseError):
        codec.send(2, head())
    codec.send(1, head())
    with pytest.raises(MisuseError):
        codec.send(2, End())
    with pytest.raises(MisuseError):
        codec.new_stream()
