"""The client codec: requests out, answers in, each stream by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import NeverIndexedHeaderTuple

from tests.http.h2.service import OK, TRAILERS, Service, heads, request
from tests.http.h2.talk import raw
from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Body, End, Framing, Raw, RequestHead, ResponseHead
from wormhole_tw.http.h2.frames import PREFACE

KIB = 1024


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
