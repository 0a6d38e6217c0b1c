"""What floods has an end: by GOAWAY(ENHANCE_YOUR_CALM), or by costing next to nothing (RELIABILITY 9's list)."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hpack import Encoder, HeaderTuple

from tests.http.h2.talk import GET, POST, Peer, raw
from wormhole_tw.http.events import Body
from wormhole_tw.http.h2 import H2Limits
from wormhole_tw.http.h2.faults import ConnectionFault
from wormhole_tw.http.h2.floods import Bucket
from wormhole_tw.http.h2.limits import PINGS, Budget

FRAMES = 100_000
SECONDS = 2.0
"""CPU that a whole flood may cost; one that ends in GOAWAY costs a hundredth of it."""

MEBIBYTES = 20


def streams() -> Iterator[int]:
    return count(1, 2)


def asks(more: tuple[tuple[str, str], ...] = (), *, end: bool = True) -> Callable[[int], bytes]:
    """HEADERS for any stream; the block never touches the table."""
    encoder = Encoder()
    block = b"".join(encoder.encode([HeaderTuple(*line)]) for line in ())
    for name, value in [*GET, *more]:
        block += b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
    return lambda stream: raw(1, 5 if end else 4, stream, block)


def rapid_reset() -> Iterator[bytes]:
    ask = asks()
    for stream in streams():
        yield ask(stream) + raw(3, 0, stream, b"\0\0\0\x08")


def made_you_reset_by_window() -> Iterator[bytes]:
    ask = asks(end=False)
    for stream in streams():
        yield ask(stream) + raw(8, 0, stream, bytes(4))


def made_you_reset_by_priority() -> Iterator[bytes]:
    ask = asks(end=False)
    for stream in streams():
        yield ask(stream) + raw(2, 0, stream, stream.to_bytes(4, "big") + b"\x0f")


def made_you_reset_by_data_after_the_end() -> Iterator[bytes]:
    ask = asks()
    for stream in streams():
        yield ask(stream) + raw(0, 0, stream, b"x")


def made_you_reset_by_malformed_heads() -> Iterator[bytes]:
    ask = asks((("x", "\0"),))
    for stream in streams():
        yield ask(stream)


def made_you_reset_by_overflow() -> Iterator[bytes]:
    ask = asks(end=False)
    for stream in streams():
        yield ask(stream) + raw(8, 0, stream, b"\x7f\xff\xff\xff")


def crowding() -> Iterator[bytes]:
    ask = asks()
    for stream in streams():
        yield ask(stream)


def continuations() -> Iterator[bytes]:
    yield raw(1, 1, 1, b"")
    while True:
        yield raw(9, 0, 1, b"")


def long_continuations() -> Iterator[bytes]:
    yield raw(1, 1, 1, b"")
    while True:
        yield raw(9, 0, 1, bytes(16384))


def repeated(*frames: bytes, first: bytes = b"") -> Callable[[], Iterator[bytes]]:
    def flood() -> Iterator[bytes]:
        yield first
        while True:
            yield from frames

    return flood


def old_streams() -> Iterator[bytes]:
    yield asks()(1) + raw(3, 0, 1, bytes(4))
    while True:
        yield raw(0, 0, 1, b"x")


def ended_streams_reset() -> Iterator[bytes]:
    yield asks()(1) + raw(3, 0, 1, bytes(4))
    while True:
        yield raw(3, 0, 1, bytes(4))


def bomb() -> Iterator[bytes]:
    value = b"x" * 3900
    yield raw(1, 5, 1, b"\x82\x87\x84\x41\x01a\x40\x01x\x7f\xbd\x1d" + value)
    for stream in count(3, 2):
        yield raw(1, 5, stream, b"\x82\x87\x84\xbf" + b"\xbe" * 10000)


OPEN = asks(end=False)(1)
FLOODS = {
    "rapid reset": rapid_reset,
    "MadeYouReset, window by nothing": made_you_reset_by_window,
    "MadeYouReset, window too large": made_you_reset_by_overflow,
    "MadeYouReset, PRIORITY": made_you_reset_by_priority,
    "MadeYouReset, DATA": made_you_reset_by_data_after_the_end,
    "MadeYouReset, malformed": made_you_reset_by_malformed_heads,
    "crowding": crowding,
    "CONTINUATION": continuations,
    "long CONTINUATION": long_continuations,
    "PING": repeated(raw(6, 0, 0, bytes(8))),
    "PING acknowledged": repeated(raw(6, 1, 0, bytes(8))),
    "SETTINGS": repeated(raw(4, 0, 0)),
    "SETTINGS of many": repeated(raw(4, 0, 0, bytes(6) * 2000)),
    "SETTINGS acknowledged": repeated(raw(4, 1, 0)),
    "empty DATA": repeated(raw(0, 0, 1), first=OPEN),
    "padded empty DATA": repeated(raw(0, 8, 1, b"\x00"), first=OPEN),
    "PRIORITY": repeated(raw(2, 0, 1, bytes(5))),
    "unknown frames": repeated(raw(0x77, 0, 1, bytes(50))),
    "GOAWAY": repeated(raw(7, 0, 0, bytes(8)), first=OPEN),
    "WINDOW_UPDATE": repeated(raw(8, 0, 0, b"\0\0\0\x01")),
    "WINDOW_UPDATE of a stream": repeated(raw(8, 0, 1, b"\0\0\0\x01"), first=OPEN),
    "DATA on an old stream": old_streams,
    "RST_STREAM on an old stream": ended_streams_reset,
    "HPACK bomb": bomb,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends(name: str) -> None:
    peer = Peer()
    began = resource.getrusage(resource.RUSAGE_SELF)
    sent = 0
    for data in FLOODS[name]():
        sent += 1
        peer.now += 0.00001
        peer.codec.receive_data(data, peer.now)
        if peer.codec.should_close or sent > FRAMES:
            break
    ended = resource.getrusage(resource.RUSAGE_SELF)
    peer.listen()
    assert peer.goaway in ("ENHANCE_YOUR_CALM", "STREAM_CLOSED"), peer.codec.fault
    assert sent < 2500
    assert ended.ru_utime - began.ru_utime < SECONDS
    assert ended.ru_maxrss - began.ru_maxrss < MEBIBYTES * 1024


def test_what_no_event_tells_of_is_counted_by_its_reason() -> None:
    peer = Peer(H2Limits(streams=1))
    assert peer.codec.untold == {"http2-malformed": 0, "http2-streams": 0}
    assert peer.ask(1, [*GET, ("X-Upper", "1")]) == []
    peer.ask(3, end=False)
    assert peer.ask(5) == []
    assert peer.codec.untold == {"http2-malformed": 1, "http2-streams": 1}
    peer.say(raw(6, 0, 1, bytes(8)))
    assert peer.codec.untold == {"http2-malformed": 1, "http2-streams": 1, "http2-broken": 1}


def test_a_flood_is_counted_as_one() -> None:
    peer = Peer()
    while not peer.codec.should_close:
        peer.ping()
    assert peer.codec.untold == {"http2-malformed": 0, "http2-streams": 0, "http2-flood": 1}


def test_a_slow_trickle_of_the_same_is_no_flood() -> None:
    peer = Peer()
    for _ in range(300):
        peer.now += 1.0
        peer.ping()
        peer.settings()
        peer.window(0, 1)
    peer.listen()
    assert peer.goaway is None


def test_a_browser_that_leaves_a_page_is_no_flood() -> None:
    peer = Peer()
    numbers = streams()
    for _ in range(10):
        opened = [next(numbers) for _ in range(100)]
        for stream in opened:
            peer.ask(stream)
        for stream in opened:
            peer.reset(stream)
        peer.now += 5.0
    peer.listen()
    assert peer.goaway is None
    assert peer.resets == []


def test_windows_that_earn_themselves() -> None:
    """A download of 20 MB with two WINDOW_UPDATEs for every frame, and no time passing."""
    peer = Peer()
    peer.ask(1)
    peer.answer(1, bytes(20_000_000))
    got = 0
    while got < 20_000_000:
        sizes = [len(frame[2]) for frame in peer.listen() if frame[0] == "DATA"]
        got += sum(sizes)
        peer.heard.clear()
        for size in sizes:
            peer.window(0, size)
            peer.window(1, size)
    assert peer.goaway is None


def test_windows_of_single_octets_earn_nothing() -> None:
    peer = Peer(window=0)
    peer.ask(1, POST)
    peer.answer(1, bytes(100_000))
    for _ in range(1100):
        peer.window(1, 1)
        peer.listen()
    assert peer.goaway == "ENHANCE_YOUR_CALM"


def test_a_bucket() -> None:
    bucket = Bucket("things", Budget(3, 2.0))
    for _ in range(3):
        bucket.take(10.0)
    with pytest.raises(ConnectionFault, match="too many things"):
        bucket.take(10.1)
    bucket.take(10.7)
    with pytest.raises(ConnectionFault):
        bucket.take(10.7)
    bucket.earn(10)
    for _ in range(3):
        bucket.take(10.7)
    for _ in range(3):
        bucket.take(1000.0)
    with pytest.raises(ConnectionFault):
        bucket.take(1000.0)


def test_a_client_that_measures_the_path_while_it_is_answered() -> None:
    """gRPC's do (BDP): a PING whenever DATA comes and none is under way."""
    peer = Peer(window=1 << 30)
    peer.window(0, 1 << 30)
    peer.ask(1)
    peer.answer(1, end=False)
    for _ in range(20 * PINGS.burst):
        peer.codec.send(1, Body(bytes(16384)))
        assert any(frame[0] == "DATA" for frame in peer.listen())
        peer.ping()
    assert peer.goaway is None
    for _ in range(PINGS.burst + 1):
        peer.ping()
    peer.listen()
    assert peer.goaway == "ENHANCE_YOUR_CALM"
