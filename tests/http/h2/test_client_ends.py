"""The client codec: resets, GOAWAY, the end, and services that break the rules of the connection."""

from __future__ import annotations

import pytest

from tests.http.h2.service import OK, Service, opened, request
from tests.http.h2.talk import raw
from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import End
from wormhole_tw.http.h2 import H2ClientCodec
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.limits import CANCELS

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
