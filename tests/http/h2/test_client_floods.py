"""What a hostile service floods with has an end, and what an honest one does often is no flood."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from hpack import Encoder

from tests.http.h2.service import OK, Service, request
from tests.http.h2.talk import raw
from wormhole_tw.http.h2.frames import frame_header
from wormhole_tw.http.h2.limits import PINGS, RESETS

FRAMES = 100_000
SECONDS = 2.0
MEBIBYTES = 20


def literal_block(fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in fields)


def pings() -> Iterator[bytes]:
    while True:
        yield raw(6, 0, 0, bytes(8))


def settings() -> Iterator[bytes]:
    while True:
        yield raw(4, 0, 0, b"\0\x04\0\0\xff\xff")


def settings_acknowledged() -> Iterator[bytes]:
    while True:
        yield raw(4, 1, 0)


def resets_of_what_is_over() -> Iterator[bytes]:
    yield raw(3, 0, 1, bytes(4))
    while True:
        yield raw(3, 0, 1, bytes(4))


def empty_data() -> Iterator[bytes]:
    yield raw(1, 4, 1, b"\x88")
    while True:
        yield raw(0, 0, 1)


def interim_answers() -> Iterator[bytes]:
    block = literal_block([(b":status", b"103")])
    while True:
        yield raw(1, 4, 1, block)


def windows() -> Iterator[bytes]:
    while True:
        yield raw(8, 0, 0, b"\0\0\0\x01")


def windows_of_a_stream() -> Iterator[bytes]:
    while True:
        yield raw(8, 0, 1, b"\0\0\0\x01")


def priorities() -> Iterator[bytes]:
    while True:
        yield raw(2, 0, 1, b"\0\0\0\x05\x0f")


def unknown() -> Iterator[bytes]:
    while True:
        yield raw(0xBE, 0, 1, bytes(8))


def goaways() -> Iterator[bytes]:
    while True:
        yield raw(7, 0, 0, b"\x7f\xff\xff\xff" + bytes(4))


def continuations() -> Iterator[bytes]:
    yield raw(1, 0, 1)
    while True:
        yield raw(9, 0, 1)


def long_continuations() -> Iterator[bytes]:
    yield raw(1, 0, 1)
    while True:
        yield raw(9, 0, 1, b"\x00\x01a\x01b" * 3000)


def bomb() -> Iterator[bytes]:
    """A field of 4 KB in the table, and a block that names it again and again."""
    encoder = Encoder()
    yield raw(1, 4, 1, encoder.encode([(":status", "103"), ("x", "y" * 3900)]))
    while True:
        yield raw(1, 4, 1, b"\xbe" * 16000)


FLOODS: list[Callable[[], Iterator[bytes]]] = [
    pings,
    settings,
    settings_acknowledged,
    resets_of_what_is_over,
    empty_data,
    interim_answers,
    windows,
    windows_of_a_stream,
    priorities,
    unknown,
    goaways,
    continuations,
    long_continuations,
    bomb,
]


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_a_flood_ends_or_costs_nothing(flood: Callable[[], Iterator[bytes]]) -> None:
    service = Service()
    service.ask()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for sent, frame in enumerate(islice(flood(), FRAMES)):
        service.codec.receive_data(frame, sent * 1e-5)
        service.codec.data_to_send()
        if service.codec.should_close:
            break
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert service.codec.should_close, "it may go on for ever"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS
    assert (after.ru_maxrss - before.ru_maxrss) / 1024 < MEBIBYTES


def test_late_frames_of_a_stream_that_was_left_are_bounded() -> None:
    service = Service()
    stream = service.begin()
    service.listen()
    service.codec.reset(stream)
    for sent in range(FRAMES):
        service.codec.receive_data(raw(0, 0, stream, b"x"), sent * 1e-5)
        service.codec.data_to_send()
        if service.codec.should_close:
            break
    # as many as its window has room for, and some more
    assert 8192 <= sent < 10_000


# what is honest


def test_a_service_that_resets_after_each_answer() -> None:
    """RFC 9113 §8.1 has it do so where it wants no more of the request; gRPC's do, as often as they are asked."""
    service = Service()
    for _ in range(20 * RESETS.burst):
        stream = service.begin()
        service.push(stream, b"first of many")
        service.head(stream, OK)
        service.reset(stream, 0)
    assert service.lives()


def test_a_service_that_resets_each_request() -> None:
    service = Service()
    for _ in range(20 * RESETS.burst):
        service.reset(service.ask(), 8)
    assert service.lives()


def test_a_service_whose_every_answer_is_malformed_is_still_answered_for() -> None:
    service = Service()
    for _ in range(3 * RESETS.burst):
        service.head(service.ask(), [("x", "no status")])
    assert service.lives()


def test_a_stream_of_small_messages_that_its_visitor_leaves() -> None:
    service = Service()
    for _ in range(5):
        stream = service.ask(request())
        service.codec.reset(stream)
        message = frame_header(5, 0, 0, stream) + b"small"
        for _ in range(8000):
            service.codec.receive_data(message, 0.0)
        service.codec.data_to_send()
    assert service.lives()


def test_a_service_that_measures_the_path_while_it_is_sent_to() -> None:
    service = Service(window=1 << 30)
    service.window(0, 1 << 30)
    stream = service.begin()
    for _ in range(20 * PINGS.burst):
        service.push(stream, bytes(16384))
        service.ping()
    assert service.goaway is None
    for _ in range(PINGS.burst + 1):
        service.ping()
    service.listen()
    assert service.goaway == "ENHANCE_YOUR_CALM"
