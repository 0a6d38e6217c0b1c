"""The client codec: how much goes each way at a time, and WebSockets."""

from __future__ import annotations

import pytest

from tests.http.h2.service import KEY, OK, TRAILERS, Service, heads, opened, websocket
from tests.http.h2.talk import ACCEPT, raw
from wormhole_tw.http.events import Raw, RawEnd
from wormhole_tw.http.h2 import H2Limits

KIB = 1024


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
