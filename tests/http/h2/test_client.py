"""The client codec: requests out, answers in, each stream by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import NeverIndexedHeaderTuple

from tests.http.h2.service import KEY, OK, TRAILERS, Service, request, websocket
from tests.http.h2.talk import ACCEPT, raw
from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Body, End, Framing, Raw, RawEnd, RequestHead, ResponseHead
from wormhole_tw.http.h2 import H2ClientCodec, H2Limits
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.frames import PREFACE
from wormhole_tw.http.h2.limits import CANCELS

KIB = 1024


def heads(service: Service, data: bytes) -> list[Any]:
    return [event for _, event in service.codec.receive_data(data, 0.0)]


def as_they_are(stream: int, fields: list[tuple[str, str]]) -> bytes:
    """A header block with END_STREAM that no encoder has mended, in as many frames as it takes."""
    block = b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)
    pieces = [block[at : at + 16384] for at in range(0, len(block), 16384)] or [b""]
    out = b""
    for number, piece in enumerate(pieces):
        last = 4 if number == len(pieces) - 1 else 0
        out += raw(9, last, stream, piece) if number else raw(1, last | 1, stream, piece)
    return out


def _string(text: str) -> bytes:
    data = text.encode("latin-1")
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    out, size = [127], size - 127
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    return bytes((*out, size)) + data


# what leaves


def test_the_preface_comes_first_and_pushes_are_not_wanted() -> None:
    service = Service(hello=False)
    service.ask()
    assert service.preface == PREFACE
    kind, settings = service.heard[0]
    assert kind == "SETTINGS"
    assert settings[2] == 0  # ENABLE_PUSH
    assert settings[4] == 64 * KIB
    assert settings[6] == 32 * KIB
    assert ("WINDOW_UPDATE", 0, 100 * 64 * KIB + 8 * KIB * KIB - 65535) in service.heard
    assert service.heard[-1][0] == "HEADERS"


def test_a_request_is_pseudo_header_fields_and_lower_case_names() -> None:
    service = Service()
    stream = service.ask(request(b"GET", b"/a?b", (b"X-Some", b"thing"), (b"TE", b"trailers")))
    assert service.heard == [
        (
            "HEADERS",
            1,
            [
                (b":method", b"GET"),
                (b":scheme", b"http"),
                (b":authority", b"a.test"),
                (b":path", b"/a?b"),
                (b"x-some", b"thing"),
                (b"te", b"trailers"),
            ],
            "end",
        )
    ]
    assert stream == 1
    assert service.ask() == 3


def test_what_belongs_to_an_http1_connection_stays_there() -> None:
    service = Service()
    named = [(name, b"x") for name in (b"Connection", b"Keep-Alive", b"Upgrade", b"Proxy-Connection")]
    fields = service.asked(service.ask(request(b"GET", b"/", *named, (b"Transfer-Encoding", b"chunked"))))
    assert set(fields) == {b":method", b":scheme", b":authority", b":path"}


def test_what_is_secret_or_one_visitors_is_never_indexed() -> None:
    service = Service()
    names = (b"Authorization", b"Cookie", b"Forwarded", b"X-Forwarded-For")
    service.ask(request(b"GET", b"/", *[(name, b"secret") for name in names], (b"X-Plain", b"x")))
    service.codec.request_id = b"id-1"
    service.ask()
    found = {field[0]: type(field) for frame in service.heard for field in frame[2]}
    for name in (*names, b"x-request-id"):
        assert found[name.lower()] is NeverIndexedHeaderTuple
    assert found[b"x-plain"] is not NeverIndexedHeaderTuple


def test_a_request_has_its_name_and_no_other_ones() -> None:
    service = Service()
    head = request(common=True)
    for name in (b"first", b"second", b"x" * 200):
        service.codec.request_id = name
        assert service.asked(service.ask(head))[b"x-request-id"] == name
    service.codec.request_id = b""
    assert b"x-request-id" not in service.asked(service.ask(head))


def test_a_body_with_a_length() -> None:
    service = Service()
    stream = service.begin(length=5)
    service.push(stream, b"12345", end=True)
    assert service.asked(stream)[b"content-length"] == b"5"
    assert service.heard[1:] == [("DATA", 1, b"12345", "end")]


def test_a_body_without_a_length_and_trailers() -> None:
    service = Service()
    stream = service.begin()
    service.push(stream, b"12345")
    service.push(stream, b"", trailers=[(b"X-Sum", b"5")])
    assert b"content-length" not in service.asked(stream)
    assert service.heard[1:] == [("DATA", 1, b"12345"), ("HEADERS", 1, [(b"x-sum", b"5")], "end")]


def test_an_empty_body_is_the_heads_end() -> None:
    service = Service()
    stream = service.begin(length=0)
    service.push(stream, b"", end=True)
    assert service.asked(stream)[b"content-length"] == b"0"
    assert service.heard[0][3:] == ("end",)
    assert len(service.heard) == 1


def test_an_expectation_goes_along() -> None:
    service = Service()
    stream = service.codec.new_stream()
    head = request(b"POST", b"/", framing=Framing.LENGTH, length=2)
    head.expect_continue = True
    service.codec.send(stream, head)
    service.listen()
    assert service.asked(stream)[b"expect"] == b"100-continue"
    service.head(stream, [(":status", "100")], end=False)
    assert service.events == [(1, "interim", 100)]


def test_heads_leave_in_the_order_of_their_numbers() -> None:
    service = Service()
    first = service.begin()
    second = service.codec.send_whole(request())
    third = service.begin()
    service.codec.send(third, End())
    service.listen()
    assert [frame[1] for frame in service.heard if frame[0] == "HEADERS"] == [first, second, third]


def test_a_head_longer_than_a_frame() -> None:
    service = Service()
    service.ask(request(b"GET", b"/", *[(b"X-%d" % n, b"v" * 4000) for n in range(10)]))
    assert [frame[0] for frame in service.heard] == ["BLOCK", "BLOCK", "BLOCK"]


@pytest.mark.parametrize(
    "head",
    [
        request(b"GET", b"/ x"),
        request(b"GET", b"/\r\nx"),
        request(b"GET", b"http://a.test/"),
        request(b"GET", b""),
        request(b"GET\n", b"/"),
        RequestHead(b"GET", b"/", b"a\r\n", (1, 1), []),
        request(b"GET", b"/", (b"x", b"a\nb")),
        request(b"GET", b"/", (b"x\0", b"a")),
        request(b"POST", b"/", framing=Framing.CLOSE),
        request(b"GET", b"/", upgrade=b"websocket"),
    ],
)  # fmt: skip
def test_what_would_break_a_head_does_not_leave(head: RequestHead) -> None:
    service = Service()
    with pytest.raises(MisuseError):
        service.codec.send(1, head)
    assert service.listen() == []
    assert service.lives()


def test_an_upgrade_that_is_no_websocket_does_not_leave() -> None:
    service = Service(connect=1)
    with pytest.raises(MisuseError):
        service.codec.send_whole(request(b"GET", b"/", upgrade=b"other"))
    assert service.lives()


def test_misuse_is_told() -> None:
    service = Service()
    codec = service.codec
    with pytest.raises(MisuseError, match="not whole"):
        codec.send_whole(request(b"POST", b"/", framing=Framing.CHUNKED))
    with pytest.raises(MisuseError, match="not the next"):
        codec.send(3, request())
    codec.request_id = b"a\r\nb"
    with pytest.raises(MisuseError, match="line end"):
        codec.send_whole(request())
    codec.request_id = b""
    stream = service.begin(length=3)
    with pytest.raises(MisuseError, match="longer"):
        codec.send(stream, Body(b"1234"))
    with pytest.raises(MisuseError, match="shorter"):
        codec.send(stream, End())
    with pytest.raises(MisuseError, match="Raw cannot"):
        codec.send(stream, Raw(b"x"))
    codec.send(7, Body(b"of a stream that is not there"))
    codec.shut_down()
    with pytest.raises(MisuseError, match="no request can begin"):
        codec.new_stream()


def test_a_service_without_a_table() -> None:
    """SETTINGS_HEADER_TABLE_SIZE of 0: the change stands in front of the next block, names of requests or not."""
    service = Service()
    head = request(b"GET", b"/", (b"X-Some", b"thing"), common=True)
    service.codec.request_id = b"first"
    service.ask(head)
    service.settings(table=0)
    service.decoder.max_allowed_table_size = 0
    for name in (b"second", b"third"):
        service.codec.request_id = name
        fields = service.asked(service.ask(head))
        assert (fields[b"x-some"], fields[b"x-request-id"]) == (b"thing", name)
    assert service.decoder.header_table_size == 0


def test_the_same_head_is_written_once() -> None:
    service = Service()
    head = request(b"GET", b"/", (b"X-Some", b"thing"), common=True)
    assert service.asked(service.ask(head)) == service.asked(service.ask(head))


# what comes


def test_a_whole_answer() -> None:
    service = Service()
    stream = service.ask()
    service.answer(stream, b"body", ("content-length", "4"), ("x-some", "thing"))
    assert service.events == [(1, "answer", 200), (1, "body", b"body"), (1, "end")]
    assert service.codec.idle
    assert service.lives()


def test_its_head() -> None:
    service = Service()
    stream = service.ask()
    block = service.block([(":status", "404"), ("content-length", "4"), ("x-some", "thing")])
    [head] = heads(service, raw(1, 4, stream, block))
    assert head == ResponseHead(404, b"Not Found", [(b"x-some", b"thing")], (2, 0), Framing.LENGTH, 4)
    service.data(stream, b"1234", end=True)
    stream = service.ask()
    again = service.block([(":status", "404"), ("content-length", "4"), ("x-some", "thing")])
    assert heads(service, raw(1, 4, stream, again))[0] is head
    assert head.common


@pytest.mark.parametrize(
    ("more", "end", "framing", "length"),
    [
        ([], True, Framing.NONE, None),
        ([("content-length", "0")], True, Framing.NONE, None),
        ([("content-length", "0")], False, Framing.LENGTH, 0),
        ([("content-length", "7")], False, Framing.LENGTH, 7),
        ([], False, Framing.CHUNKED, None),
    ],
)  # fmt: skip
def test_how_its_length_is_known(more: Any, end: bool, framing: Framing, length: int | None) -> None:
    service = Service()
    stream = service.ask()
    head = heads(service, raw(1, 5 if end else 4, stream, service.block([*OK, *more])))[0]
    assert (head.framing, head.length) == (framing, length)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", "200"), (b"GET", "304"), (b"GET", "204")])
@pytest.mark.parametrize("end", [True, False])
def test_answers_that_have_no_body(method: bytes, status: str, end: bool) -> None:
    service = Service()
    stream = service.ask(request(method))
    block = service.block([(":status", status), ("content-length", "7")])
    found = heads(service, raw(1, 5 if end else 4, stream, block))
    head = found[0]
    assert (head.framing, head.length) == (Framing.NONE, None if status == "204" else 7)
    if not end:
        service.data(stream, b"", end=True)
        assert service.events == [(1, "end")]
    else:
        assert found[1:] == [End()]
    assert service.lives()
    if not end:
        stream = service.ask(request(method))
        service.head(stream, [(":status", status)], end=False)
        service.events.clear()
        service.data(stream, b"x")
        assert service.events == [(stream, "failed", 502, "bad-answer")]


def test_trailers() -> None:
    service = Service()
    stream = service.ask()
    service.answer(stream, b"message", trailers=TRAILERS)
    assert service.events[-1] == (1, "end", (b"grpc-status", b"0"), (b"grpc-message", b"fine"))


def test_trailers_only() -> None:
    """gRPC's answer to what went wrong at once: one block, which ends the stream."""
    service = Service()
    stream = service.begin()
    service.push(stream, b"first")
    service.head(stream, [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")])
    assert service.events == [(1, "answer", 200), (1, "end")]
    service.listen()
    # it has answered, and wants no more of the request
    assert service.resets == [(1, "NO_ERROR")]
    service.push(stream, b"more")
    assert service.lives()


def test_interim_answers() -> None:
    service = Service()
    stream = service.ask()
    service.head(stream, [(":status", "103"), ("link", "</a>")], end=False)
    service.head(stream, [(":status", "102")], end=False)
    service.answer(stream, b"body")
    assert service.events == [
        (1, "interim", 103),
        (1, "interim", 102),
        (1, "answer", 200),
        (1, "body", b"body"),
        (1, "end"),
    ]


def test_many_at_once() -> None:
    service = Service()
    streams = [service.ask() for _ in range(50)]
    for stream in reversed(streams):
        service.head(stream, OK, end=False)
    for stream in streams:
        service.data(stream, b"%d" % stream, end=True)
    assert [event[0] for event in service.events if event[1] == "end"] == streams
    assert {event[0]: event[2] for event in service.events if event[1] == "body"} == {n: b"%d" % n for n in streams}


BAD_HEADS: list[tuple[str, list[tuple[str, str]]]] = [
    ("no status", []),
    ("a status that is none", [(":status", "2OO")]),
    ("a short status", [(":status", "20")]),
    ("a status of nothing", [(":status", "099")]),
    ("two of them", [(":status", "200"), (":status", "200")]),
    ("behind a field", [("x", "y"), (":status", "200")]),
    ("another pseudo-header field", [(":status", "200"), (":path", "/")]),
    ("an upper-case name", [(":status", "200"), ("X-Some", "y")]),
    ("a name with a space", [(":status", "200"), ("x y", "y")]),
    ("an empty name", [(":status", "200"), ("", "y")]),
    ("a line end", [(":status", "200"), ("x", "a\r\nset-cookie: b")]),
    ("a NUL", [(":status", "200"), ("x", "a\0")]),
    ("white space in front", [(":status", "200"), ("x", " a")]),
    ("Connection", [(":status", "200"), ("connection", "close")]),
    ("Transfer-Encoding", [(":status", "200"), ("transfer-encoding", "chunked")]),
    ("a length that is none", [(":status", "200"), ("content-length", "+1")]),
    ("an endless length", [(":status", "200"), ("content-length", "9" * 30)]),
    ("two lengths", [(":status", "200"), ("content-length", "1"), ("content-length", "1")]),
    ("a length and no body", [(":status", "200"), ("content-length", "1")]),
    ("101", [(":status", "101")]),
    ("an interim one that ends", [(":status", "103")]),
    ("too many fields", [(":status", "200"), *[("x", "y")] * 101]),
    ("too much of them", [(":status", "200"), ("x", "y" * 33000)]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "fields"), BAD_HEADS, ids=[what for what, _ in BAD_HEADS])
def test_heads_that_are_refused(what: str, fields: Any) -> None:
    service = Service()
    other = service.ask()
    stream = service.ask()
    service.say(as_they_are(stream, fields))
    assert service.events == [(stream, "failed", 502, "bad-answer")]
    service.listen()
    assert [number for number, _ in service.resets] == [stream]
    service.answer(other, b"as ever")
    assert service.events[1:] == [(other, "answer", 200), (other, "body", b"as ever"), (other, "end")]


def test_an_interim_answer_that_claims_a_body_is_refused() -> None:
    service = Service()
    service.head(service.ask(), [(":status", "103"), ("content-length", "5")], end=False)
    assert service.events == [(1, "failed", 502, "bad-answer")]


def test_interim_answers_without_an_end_are_refused() -> None:
    service = Service()
    stream = service.ask()
    for _ in range(4):
        service.head(stream, [(":status", "103"), ("link", "l" * 20000)], end=False)
    assert service.events[-1] == (1, "failed", 502, "bad-answer")
    assert service.listen()[-1] == ("RST_STREAM", 1, "ENHANCE_YOUR_CALM")
    assert service.lives()


@pytest.mark.parametrize(
    ("length", "pieces"), [("3", [b"1234"]), ("3", [b"12", b"34"]), ("5", [b"1234", None]), ("5", [b"12", "trailers"])]
)
def test_a_body_that_is_not_as_long_as_its_head_says(length: str, pieces: list[Any]) -> None:
    service = Service()
    stream = service.ask()
    service.head(stream, OK, ("content-length", length), end=False)
    for piece in pieces:
        if piece == "trailers":
            service.head(stream, TRAILERS)
        elif piece is None:
            service.data(stream, end=True)
        else:
            service.data(stream, piece)
    assert service.events[-1] == (1, "failed", 502, "bad-answer")
    service.listen()
    # where both sides had ended there is nothing left to reset
    assert service.resets == ([] if None in pieces else [(1, "PROTOCOL_ERROR")])
    assert service.lives()


def test_data_in_front_of_a_head_is_refused() -> None:
    service = Service()
    service.data(service.ask(), b"x")
    assert service.events == [(1, "failed", 502, "bad-answer")]
    service.listen()
    assert ("RST_STREAM", 1, "PROTOCOL_ERROR") in service.heard
    assert ("WINDOW_UPDATE", 0, 1) in service.heard
    assert service.lives()


@pytest.mark.parametrize(
    "trailers", [[(":status", "200")], [("content-length", "1")], [("X", "y")], [("x", "\0")], [("x", "y" * 33000)]]
)
def test_trailers_that_are_refused(trailers: Any) -> None:
    service = Service()
    stream = service.ask()
    service.head(stream, OK, end=False)
    service.events.clear()
    service.say(as_they_are(stream, trailers))
    assert service.events == [(1, "failed", 502, "bad-answer")]
    assert service.lives()


def test_a_second_head_is_refused() -> None:
    service = Service()
    stream = service.ask()
    service.head(stream, OK, end=False)
    service.head(stream, OK, end=False)
    assert service.events == [(1, "answer", 200), (1, "failed", 502, "bad-answer")]
    assert service.lives()


def test_a_head_that_depends_on_itself_is_refused() -> None:
    service = Service()
    stream = service.ask()
    service.say(raw(1, 0x25, stream, stream.to_bytes(4, "big") + b"\x0f" + service.block(OK)))
    assert service.events == [(1, "failed", 502, "bad-answer")]


# resets, and the end


@pytest.mark.parametrize("code", [0, 1, 2, 7, 8, 11, 13, 4711])
def test_a_reset_of_the_services(code: int) -> None:
    service = Service()
    other = service.ask()
    stream = service.ask()
    [event] = service.codec.receive_data(raw(3, 0, stream, code.to_bytes(4, "big")), 0.0)
    assert (event[0], event[1].code) == (stream, code)  # type: ignore[union-attr]
    service.answer(other, b"")
    assert service.lives()


def test_a_request_that_is_given_up() -> None:
    service = Service()
    stream = service.begin()
    service.push(stream, b"x" * 200000)
    service.codec.reset(stream)
    service.codec.reset(stream)
    service.codec.reset(99)
    assert service.listen() == [("RST_STREAM", 1, "CANCEL")]
    # what was under way counts, and does no harm
    service.events.clear()
    service.head(stream, OK, end=False)
    service.data(stream, b"late", end=True)
    service.reset(stream)
    service.window(stream, 5)
    assert service.events == []
    assert ("WINDOW_UPDATE", 0, 4) in service.listen()
    assert service.lives()


def test_one_that_has_not_left_yet_is_not_reset() -> None:
    service = Service()
    service.begin()
    stream = service.begin()
    service.codec.reset(stream)
    assert [frame[:2] for frame in service.listen()] == [("HEADERS", 1)]
    assert service.lives()


def test_a_service_that_cancelled_too_often_gets_nothing_new() -> None:
    service = Service()
    last = service.begin()
    for _ in range(CANCELS):
        assert service.codec.reusable
        service.codec.reset(service.ask())
        service.listen()
    assert not service.codec.reusable
    service.push(last, b"as ever", end=True)
    service.answer(last, b"fine")
    assert service.events[-1] == (last, "end")


def test_goaway_names_what_was_not_processed() -> None:
    service = Service()
    first, second, third = service.ask(), service.begin(), service.codec.send_whole(request())
    service.leave(first)
    assert service.events == [(second, "abandoned", "REFUSED_STREAM"), (third, "abandoned", "REFUSED_STREAM")]
    assert not service.codec.reusable
    assert not service.codec.should_close
    service.answer(first, b"whole")
    assert service.events[-1] == (first, "end")
    assert service.codec.should_close
    with pytest.raises(MisuseError):
        service.codec.new_stream()


def test_a_head_that_waits_when_goaway_comes() -> None:
    service = Service()
    stream = service.begin()
    service.leave(0, 11, b"calm down" * 100)
    assert service.events == [(stream, "abandoned", "REFUSED_STREAM")]
    assert service.codec.left == (11, (b"calm down" * 100)[:200])
    service.leave(0)
    assert service.codec.left == (11, (b"calm down" * 100)[:200])
    assert [frame for frame in service.heard if frame[0] == "HEADERS"] == []


def test_a_finished_websocket_says_nothing_of_a_goaway() -> None:
    service = Service(connect=1)
    stream = opened(service)
    service.codec.finish(stream)
    service.leave()
    service.leave(0)
    assert service.events == []
    assert service.codec.should_close


def test_a_graceful_goaway_in_two_steps() -> None:
    service = Service()
    stream = service.ask()
    assert service.codec.left is None
    service.leave()
    assert service.codec.left == (0, b"")
    assert service.events == []
    service.ping()
    service.leave(stream)
    service.answer(stream)
    assert service.codec.should_close


def test_our_own_end() -> None:
    service = Service()
    stream = service.ask()
    service.codec.shut_down()
    service.codec.shut_down()
    assert service.listen() == [("GOAWAY", 0, "NO_ERROR")]
    assert not service.codec.reusable
    service.answer(stream, b"as ever")
    assert service.events[-1] == (stream, "end")
    assert service.codec.should_close
    assert service.codec.wants_data


def test_a_head_that_waits_goes_before_our_own_end() -> None:
    service = Service()
    stream = service.begin()
    service.codec.shut_down()
    assert [frame[0] for frame in service.listen()] == ["HEADERS", "GOAWAY"]
    service.codec.send(stream, End())
    service.answer(stream, b"as ever")
    assert service.events[-1] == (stream, "end")


def test_the_service_closes() -> None:
    service = Service()
    service.begin()
    service.ask()
    events = service.codec.receive_eof(0.0)
    assert [(stream, event.error.reason) for stream, event in events] == [(1, "origin-closed"), (3, "origin-closed")]  # type: ignore[union-attr]
    assert service.codec.should_close
    assert service.codec.receive_eof(0.0) == []
    assert not service.codec.wants_data


def test_settings_bound_what_runs_at_once() -> None:
    service = Service(streams=2)
    streams = [service.ask(), service.ask()]
    assert not service.codec.reusable
    service.answer(streams[0])
    assert service.codec.reusable
    service.settings(streams=1)
    assert not service.codec.reusable
    assert not service.codec.spent
    service.settings(streams=1000000)
    for _ in range(99):
        service.ask()
    assert not service.codec.reusable


def test_a_service_that_takes_none_at_all() -> None:
    service = Service(streams=0)
    assert not service.codec.reusable


# flow control


def test_the_services_window_holds_a_body_back() -> None:
    service = Service(window=10)
    stream = service.begin()
    service.push(stream, b"0123456789ab", end=True)
    assert service.heard[-1] == ("DATA", 1, b"0123456789")
    assert service.codec.sendable(stream) == 0
    assert (service.codec.queued(stream), service.codec.window(stream)) == (2, 0)
    service.window(stream, 5)
    assert service.listen() == [("DATA", 1, b"ab", "end")]


def test_a_stream_that_is_full_says_when_it_has_room() -> None:
    service = Service(window=0)
    stream, other = service.begin(), service.begin()
    service.push(stream, b"x" * 65536)
    assert not service.codec.writable(stream)
    assert service.codec.writable(other)
    assert service.codec.writable(99)
    service.window(stream, 65536)
    service.listen()
    assert service.events[-1] == (stream, "writable")


def test_one_that_nobody_takes_leaves_room_for_all_others() -> None:
    """100 streams, of which 99 are not read by anyone: the last one still has its whole window."""
    service = Service()
    streams = [service.ask() for _ in range(100)]
    for stream in streams:
        service.head(stream, OK, end=False)
    for stream in streams[1:]:
        for _ in range(4):
            service.data(stream, bytes(16384))
    service.listen()
    assert service.goaway is None
    assert service.resets == []
    first = streams[0]
    for _ in range(40):
        service.data(first, bytes(16384))
        service.codec.acknowledge(first, 16384)
        service.listen()
    assert service.resets == []
    assert service.codec.unread(first) == 0
    assert service.codec.unread(streams[1]) == 65536


def test_a_window_grows_while_its_reader_keeps_pace() -> None:
    service = Service()
    stream, slow = service.ask(), service.ask()
    for number in (stream, slow):
        service.head(number, OK, end=False)
    room = {stream: 64 * KIB, slow: 64 * KIB}
    for _ in range(2000):
        for number in (stream, slow):
            if room[number] >= 16384:
                service.data(number, bytes(16384))
                room[number] -= 16384
        service.codec.acknowledge(stream, 16384)
        for frame in service.listen():
            if frame[0] == "WINDOW_UPDATE" and frame[1]:
                room[frame[1]] += frame[2]
    # it is refilled by halves
    assert 512 * KIB <= room[stream] <= 1024 * KIB
    assert room[slow] == 0
    assert service.codec._connection.growth == 7 * 1024 * KIB + 64 * KIB
    service.data(stream, b"", end=True)
    assert service.codec._connection.growth == 8 * 1024 * KIB


def test_all_windows_together_grow_within_bounds() -> None:
    service = Service(H2Limits(streams=4, window=1000, most_window=4000, growth=5000, connection_window=9000))
    streams = [service.ask() for _ in range(4)]
    for stream in streams:
        service.head(stream, OK, end=False)
    for _ in range(20):
        for stream in streams:
            service.data(stream, bytes(500))
            service.codec.acknowledge(stream, 500)
            service.listen()
    known = service.codec._streams
    assert sum(known[stream].window for stream in streams) == 9000
    assert max(known[stream].window for stream in streams) <= 4000
    assert service.resets == []


def test_data_past_a_window_is_refused() -> None:
    service = Service()
    stream = service.ask()
    service.head(stream, OK, end=False)
    for _ in range(5):
        service.data(stream, bytes(16384))
    assert service.events[-1] == (stream, "failed", 502, "bad-answer")
    assert service.listen()[-2:] == [("RST_STREAM", 1, "FLOW_CONTROL_ERROR"), ("WINDOW_UPDATE", 0, 16384)]
    assert service.lives()


def test_what_was_acknowledged_of_a_stream_that_is_over_is_ignored() -> None:
    service = Service()
    stream = service.ask()
    service.answer(stream, b"x" * 1000)
    service.codec.acknowledge(stream, 1000)
    assert service.lives()


# WebSockets


def opened(service: Service) -> int:
    stream = service.ask(websocket())
    service.head(stream, [(":status", "200"), ("sec-websocket-protocol", "chat")], end=False)
    service.events.clear()
    service.heard.clear()
    return stream


def test_a_websocket_is_an_extended_connect() -> None:
    service = Service(connect=1)
    assert service.codec.connects
    stream = service.ask(websocket())
    assert service.heard == [
        (
            "HEADERS",
            1,
            [
                (b":method", b"CONNECT"),
                (b":protocol", b"websocket"),
                (b":scheme", b"http"),
                (b":authority", b"a.test"),
                (b":path", b"/"),
                (b"sec-websocket-version", b"13"),
            ],
        )
    ]
    [head] = heads(service, raw(1, 4, stream, service.block([*OK, ("sec-websocket-accept", "no matter")])))
    assert head.status == 101
    assert head.fields == [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", ACCEPT)]
    assert KEY not in b"".join(value for _, value in service.heard[0][2])


def test_octets_both_ways_and_the_end_of_each() -> None:
    service = Service(connect=1)
    stream = opened(service)
    service.data(stream, b"ping")
    service.codec.send(stream, Raw(b"pong"))
    service.listen()
    assert service.events == [(1, "raw", b"ping")]
    assert service.heard == [("DATA", 1, b"pong")]
    service.codec.acknowledge(stream, 4)
    service.data(stream, b"bye", end=True)
    assert service.events[1:] == [(1, "raw", b"bye"), (1, "raw end")]
    assert not service.codec.idle
    service.codec.send(stream, Raw(b"bye"))
    service.codec.send(stream, RawEnd())
    assert service.listen()[-1:] == [("DATA", 1, b"bye", "end")]
    assert service.codec.idle
    assert service.lives()


def test_our_end_first() -> None:
    service = Service(connect=1)
    stream = opened(service)
    service.codec.send(stream, RawEnd())
    assert service.listen() == [("DATA", 1, b"", "end")]
    service.data(stream, b"last", end=True)
    assert service.events == [(1, "raw", b"last"), (1, "raw end")]
    assert service.codec.idle
    assert service.lives()


def test_a_websocket_that_ends_with_its_head() -> None:
    service = Service(connect=1)
    stream = service.ask(websocket())
    service.head(stream, OK)
    assert service.events == [(1, "answer", 101), (1, "raw end")]
    service.head(stream, OK)
    assert service.listen()[-1] == ("RST_STREAM", 1, "STREAM_CLOSED")


def test_a_websocket_that_is_refused() -> None:
    service = Service(connect=1)
    stream = service.ask(websocket())
    service.head(stream, [(":status", "403")], end=False)
    service.data(stream, b"no", end=True)
    assert service.events == [(1, "answer", 403), (1, "body", b"no"), (1, "end")]
    assert service.listen()[-1] == ("RST_STREAM", 1, "NO_ERROR")
    assert service.lives()


def test_trailers_on_a_websocket_are_refused() -> None:
    service = Service(connect=1)
    stream = opened(service)
    service.head(stream, TRAILERS)
    assert service.events == [(1, "failed", 502, "bad-answer")]


@pytest.mark.parametrize("ended", [False, True])
def test_a_websocket_is_finished_behind_what_is_queued(ended: bool) -> None:
    service = Service(connect=1, window=4)
    stream = opened(service)
    service.codec.send(stream, Raw(b"farewell"))
    if ended:
        service.codec.send(stream, RawEnd())
    service.codec.finish(stream)
    service.codec.finish(99)
    service.listen()
    service.window(stream, 10)
    service.listen()
    assert b"".join(frame[2] for frame in service.heard if frame[0] == "DATA") == b"farewell"
    assert service.heard[-1][3:] == ("end",)
    service.data(stream, b"nobody reads this")
    service.reset(stream) if ended else service.data(stream, end=True)
    assert service.events == []
    assert service.codec.idle
    assert not service.codec.lingers


def test_a_service_that_does_not_end_it_is_reset() -> None:
    service = Service(connect=1)
    stream = opened(service)
    service.codec.finish(stream)
    assert service.codec.lingers
    service.let_go()
    assert service.resets == [(stream, "NO_ERROR")]
    assert service.codec.idle
    assert service.events == []


def test_extended_connect_is_not_taken_back() -> None:
    service = Service(connect=1)
    service.settings(connect=1)
    assert service.goaway is None
    service.settings(connect=0)
    service.listen()
    assert service.goaway == "PROTOCOL_ERROR"


# the whole connection


NO_HTTP2 = [
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    b"<!DOCTYPE HTML>\n<html>",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x15\x03\x01\x00\x02\x02\x50extra",
    raw(6, 0, 0, bytes(8)),
    raw(4, 1, 0),
]


@pytest.mark.parametrize("said", NO_HTTP2)
def test_a_service_that_does_not_speak_http2(said: bytes) -> None:
    service = Service(hello=False)
    service.ask()
    service.begin()
    for octet in said:
        service.say(bytes((octet,)))
    assert service.events == [(1, "failed", 502, "not-http2"), (3, "failed", 502, "not-http2")]
    assert service.codec.should_close
    assert not service.codec.settled
    assert service.codec.receive_data(b"more", 0.0) == []


@pytest.mark.parametrize(
    ("what", "said", "code"),
    [
        ("a push", raw(5, 4, 1, b"\0\0\0\x02"), "PROTOCOL_ERROR"),
        ("a push switched on", raw(4, 0, 0, b"\0\x02\0\0\0\x01"), "PROTOCOL_ERROR"),
        ("a stream of the service's own", raw(1, 4, 2, b""), "PROTOCOL_ERROR"),
        ("HEADERS on an idle stream", raw(1, 4, 99, b""), "PROTOCOL_ERROR"),
        ("DATA on an idle stream", raw(0, 0, 99, b"x"), "PROTOCOL_ERROR"),
        ("DATA on an even stream", raw(0, 0, 2, b"x"), "PROTOCOL_ERROR"),
        ("RST_STREAM on an idle stream", raw(3, 0, 99, bytes(4)), "PROTOCOL_ERROR"),
        ("WINDOW_UPDATE on an idle stream", raw(8, 0, 99, b"\0\0\0\x01"), "PROTOCOL_ERROR"),
        ("WINDOW_UPDATE by nothing", raw(8, 0, 0, bytes(4)), "PROTOCOL_ERROR"),
        ("a window past all bounds", raw(8, 0, 0, b"\x7f\xff\xff\xff"), "FLOW_CONTROL_ERROR"),
        ("a broken SETTINGS", raw(4, 0, 0, bytes(5)), "FRAME_SIZE_ERROR"),
        ("a setting out of bounds", raw(4, 0, 0, b"\0\x08\0\0\0\x02"), "PROTOCOL_ERROR"),
        ("a frame too long", raw(0, 0, 1, bytes(16385)), "FRAME_SIZE_ERROR"),
        ("a block that is no HPACK", raw(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), "COMPRESSION_ERROR"),
    ],
)  # fmt: skip
def test_faults_of_the_connection(what: str, said: bytes, code: str) -> None:
    service = Service()
    service.ask()
    service.ask()
    service.say(said)
    assert service.events == [(1, "failed", 502, "bad-answer"), (3, "failed", 502, "bad-answer")]
    service.listen()
    assert service.goaway == code
    assert service.fault
    assert service.codec.should_close


@pytest.mark.parametrize("said", [raw(1, 5, 1, b""), raw(0, 0, 1, b"x")])
def test_frames_behind_an_end(said: bytes) -> None:
    service = Service()
    service.answer(service.ask(), b"whole")
    service.say(said)
    service.listen()
    assert service.goaway == "STREAM_CLOSED"


def test_a_window_of_a_stream_past_all_bounds() -> None:
    service = Service()
    stream = service.ask()
    service.window(stream, 0x7FFFFFFF)
    assert service.events == [(1, "failed", 502, "bad-answer")]
    assert service.lives()


def test_pings_are_answered() -> None:
    service = Service()
    service.ping(b"abcdefgh")
    assert service.listen() == [("PING", b"abcdefgh", "ack")]


def test_a_shape_of_one_answer_at_a_time_is_not_ours() -> None:
    codec = H2ClientCodec()
    assert codec.receive_whole(b"HTTP/1.1 200 OK\r\n\r\n") is None
    assert not codec.has_held
    assert not codec.output_ended
    assert codec.sendable(1) == 0
    assert (codec.unread(1), codec.queued(1), codec.window(1)) == (0, 0, 0)
    assert ErrorCode.CANCEL == 8


def test_no_number_is_left() -> None:
    service = Service()
    assert not service.codec.spent
    service.codec._connection.highest = 0x7FFFFFFD
    assert not service.codec.reusable
    assert service.codec.spent
