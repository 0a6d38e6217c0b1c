"""Every limit that a peer can run into, and that it costs the stream or the link as the page says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wire.links import HELLO, HTTP, Link, frames, joined, of
from wormhole_tw.errors import MisuseError
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.events import (
    DataReceived,
    Event,
    LinkFailed,
    StreamClosed,
    StreamOpened,
    StreamWasReset,
)
from wormhole_tw.wire.floods import FLOOD_LIMITS, Flood
from wormhole_tw.wire.frames import PREFACE, FrameType, encode_frame, pack_header
from wormhole_tw.wire.handshake import MAX_BEFORE_WELCOME
from wormhole_tw.wire.liveness import MAX_WAITING_CONTROL
from wormhole_tw.wire.messages import Goaway, Open, Opened, Reset, Status, decode, encode
from wormhole_tw.wire.session import Session, SessionConfig, SessionState, Side
from wormhole_tw.wire.table import SPARE_HEADS
from wormhole_tw.wire.windows import Budget

F = FrameType
OPEN = encode(HTTP)


def failure(events: list[Event]) -> GoawayCode:
    """The code with which a link ended."""
    last = events[-1]
    assert isinstance(last, LinkFailed)
    return GoawayCode(last.error.code)


def resets(data: bytes) -> list[tuple[int, Reset]]:
    return [(stream, decode(Reset, payload)) for kind, stream, payload in frames(data) if kind == F.RESET]


def test_streams_over_the_limit_are_refused_and_the_link_goes_on() -> None:
    link = Link(dialler_config=SessionConfig(max_streams=2)).greet()
    for stream_id in (1, 3, 5):
        link.dialler.receive_data(encode_frame(F.OPEN, stream_id, OPEN), 0.0)
    [(stream, reset)] = resets(joined(link.dialler.data_to_send(1 << 20)))
    assert (stream, reset.code, reset.delivered) == (5, ResetCode.OVER_LIMIT, False)
    assert link.dialler.open_streams == 2
    # what follows for it is for a stream that is gone
    assert link.dialler.receive_data(encode_frame(F.DATA, 5, b"x"), 0.0) == []
    assert link.dialler.state is SessionState.OPEN


def test_our_own_streams_over_the_limit_are_a_misuse() -> None:
    link = Link(SessionConfig(max_streams=2)).greet()
    one = link.acceptor.open(HTTP, 0.0)
    link.acceptor.open(HTTP, 0.0)
    with pytest.raises(MisuseError, match="2 streams are open"):
        link.acceptor.open(HTTP, 0.0)
    link.acceptor.reset(one, ResetCode.CANCELLED, delivered=False)
    link.acceptor.open(HTTP, 0.0)


def test_an_open_out_of_range_is_a_misuse_and_takes_no_id() -> None:
    link = Link().greet()
    with pytest.raises(MisuseError, match="OPEN is not valid"):
        link.acceptor.open(Open(kind=""), 0.0)
    assert link.acceptor.open(HTTP, 0.0) == 1


def test_data_over_credit_ends_the_stream_alone() -> None:
    link = Link().greet()
    one, two = link.stream(), link.stream()
    data = encode_frame(F.DATA, one, bytes(65536))
    events = link.dialler.receive_data(data + encode_frame(F.DATA, one, b"x"), 0.0)
    assert events == [
        DataReceived(one, bytes(65536)),
        StreamWasReset(one, ResetCode.FLOW_CONTROL, "more data than credit", True),
        StreamClosed(one),
    ]
    assert link.dialler.held == 0
    _, events = link.settle()
    assert [(event.stream_id, event.code) for event in of(StreamWasReset, events)] == [(one, ResetCode.FLOW_CONTROL)]
    assert link.acceptor.open_streams == 1
    link.acceptor.send(two, b"x")
    assert link.settle()[0] == [DataReceived(two, b"x")]


@pytest.mark.parametrize("end", [False, True])
def test_past_the_cap_the_stream_that_holds_most_goes(end: bool) -> None:
    link = Link(dialler_config=SessionConfig(max_held=100_000)).greet()
    small, large, last = link.stream(), link.stream(), link.stream()
    link.acceptor.send(small, bytes(30000))
    link.acceptor.send(large, bytes(60000))
    link.settle()
    link.acceptor.send(last, bytes(20000))
    if end:
        link.acceptor.end(last)
    events, theirs = link.settle()
    assert [(e.stream_id, e.code) for e in of(StreamWasReset, events)] == [(large, ResetCode.OVER_LIMIT)]
    assert [(e.stream_id, e.code) for e in of(StreamWasReset, theirs)] == [(large, ResetCode.OVER_LIMIT)]
    assert link.dialler.held == 50000
    link.acceptor.send(small, bytes(35000))
    link.settle()
    assert link.dialler.held == 85000


def test_the_stream_that_passes_the_cap_may_be_the_one() -> None:
    link = Link(dialler_config=SessionConfig(max_held=10_000)).greet()
    stream_id = link.stream()
    link.acceptor.send(stream_id, bytes(10001))
    link.acceptor.end(stream_id)
    events, _ = link.settle()
    assert [type(event) for event in events] == [DataReceived, StreamWasReset, StreamClosed]


def test_window_growth_comes_from_the_budget_and_goes_back() -> None:
    process = Budget(1 << 20)
    link = Link(SessionConfig(budget=process, link_budget=100_000)).greet()
    one, two = link.stream(), link.stream()
    link.acceptor.handle_timer(5.0)  # silence: how long is the way?
    link.settle()
    assert link.acceptor.rtt == 0.0
    for stream_id in (one, two):
        link.dialler.send(stream_id, bytes(65536))
        link.settle()
        link.acceptor.acknowledge(stream_id, 65536, 0.0)
    assert process.used == 65536  # the second would be over the link's
    link.settle()
    assert (link.dialler.credit(one), link.dialler.credit(two)) == (131072, 65536)
    link.acceptor.reset(one, ResetCode.CANCELLED, delivered=True)
    assert process.used == 0
    link.dialler.send(two, bytes(65536))
    link.settle()
    link.acceptor.acknowledge(two, 65536, 0.0)
    assert process.used == 65536
    link.acceptor.receive_eof(0.0)
    assert process.used == 0


def test_a_round_trip_is_measured_when_the_link_is_busy() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(65536))
    link.settle()
    link.now = 1.0
    link.acceptor.acknowledge(stream_id, 65536, 1.0)
    ping = joined(link.acceptor.data_to_send(1 << 20))
    assert [kind for kind, _, _ in frames(ping)] == [F.PING, F.WINDOW]
    link.dialler.receive_data(ping, 1.0)
    pong = joined(link.dialler.data_to_send(1 << 20))
    stray = encode_frame(F.PONG, 0, b"whatever")
    link.acceptor.receive_data(stray + pong + pong, 1.25)
    assert link.acceptor.rtt == 0.25
    link.dialler.send(stream_id, bytes(65536))
    link.settle()
    link.acceptor.acknowledge(stream_id, 65536, 2.0)
    assert F.PING not in [kind for kind, _, _ in frames(joined(link.acceptor.data_to_send(1 << 20)))]


def opens(count: int) -> bytes:
    return b"".join(encode_frame(F.OPEN, 2 * n + 1, OPEN) for n in range(count))


FLOODS: dict[Flood, Callable[[int], bytes]] = {
    Flood.OPEN: opens,
    Flood.RESET: lambda n: opens(1) + encode_frame(F.RESET, 1, encode(Reset(code=0))) * n,
    Flood.WINDOW: lambda n: opens(1) + encode_frame(F.WINDOW, 1, b"\0\0\0\1") * n,
    Flood.PING: lambda n: encode_frame(F.PING, 0, bytes(8)) * n,
    Flood.PONG: lambda n: encode_frame(F.PONG, 0, bytes(8)) * n,
    Flood.STATUS: lambda n: encode_frame(F.STATUS, 0, encode(Status(ready=True))) * n,
    Flood.GOAWAY: lambda n: encode_frame(F.GOAWAY, 0, encode(Goaway(code=0))) * n,
    Flood.UNKNOWN: lambda n: encode_frame(F.DATAGRAM, 1, b"") * (n // 2) + encode_frame(99, 0, b"x") * (n - n // 2),
    Flood.EMPTY_DATA: lambda n: opens(1) + encode_frame(F.DATA, 1, b"") * n,
}


@pytest.mark.parametrize("kind", Flood, ids=lambda kind: kind.name)
def test_a_flood_ends_the_link(kind: Flood, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = min(FLOOD_LIMITS[kind], 500)
    monkeypatch.setitem(FLOOD_LIMITS, kind, limit)
    config = SessionConfig(max_streams=limit + 2)
    for count, code in ((limit, None), (limit + 1, GoawayCode.OVER_LIMIT)):
        link = Link(config).greet()
        link.now += 2.0
        events = link.dialler.receive_data(FLOODS[kind](count), 2.0)
        if code is None:
            assert of(LinkFailed, events) == []
        else:
            assert failure(events) is code


def test_a_flood_is_counted_by_the_second() -> None:
    link = Link().greet()
    for second in range(1, 5):
        events = link.dialler.receive_data(FLOODS[Flood.PONG](FLOOD_LIMITS[Flood.PONG]), float(second))
        assert events == []


def test_a_peer_that_asks_and_does_not_read() -> None:
    link = Link().greet()
    seconds = 0
    events: list[Event] = []
    while not events:
        seconds += 1
        events = link.dialler.receive_data(FLOODS[Flood.PING](FLOOD_LIMITS[Flood.PING]), float(seconds))
    assert failure(events) is GoawayCode.OVER_LIMIT
    assert seconds == MAX_WAITING_CONTROL // FLOOD_LIMITS[Flood.PING] + 1
    # what waits is still bounded
    assert len(joined(link.dialler.data_to_send(1 << 20))) < MAX_WAITING_CONTROL * 16 + 200


def test_a_peer_that_opens_and_does_not_read() -> None:
    link = Link(dialler_config=SessionConfig(max_streams=1)).greet()
    events = link.dialler.receive_data(opens(SPARE_HEADS + 4), 2.0)
    assert of(LinkFailed, events) == []
    first = SPARE_HEADS + 4
    more = b"".join(encode_frame(F.OPEN, 2 * n + 1, OPEN) for n in range(first, first + 9))
    assert failure(link.dialler.receive_data(more, 2.0)) is GoawayCode.OVER_LIMIT


def test_a_peer_whose_streams_our_shell_resets_and_that_does_not_read() -> None:
    link = Link(dialler_config=SessionConfig(max_streams=10)).greet()
    events: list[Event] = []
    count = 0
    while not of(LinkFailed, events):
        events = link.dialler.receive_data(encode_frame(F.OPEN, 2 * count + 1, OPEN), 2.0)
        for event in of(StreamOpened, events):
            link.dialler.reset(event.stream_id, ResetCode.NO_SUCH_SERVICE, delivered=False)
        count += 1
    assert failure(events) is GoawayCode.OVER_LIMIT
    assert count < SPARE_HEADS + 30


def test_before_welcome_a_peer_holds_little() -> None:
    session = Session(Side.ACCEPTOR, config=SessionConfig(), now=0.0)
    events = session.receive_data(PREFACE + pack_header(F.HELLO, 0, 16384), 0.0)
    for _ in range(16383):
        events += session.receive_data(b"x", 0.0)
    assert events == []
    assert session.held == 16383
    assert failure(session.receive_data(b"x", 0.0)) is GoawayCode.PROTOCOL_ERROR
    # even where frames would be legal: a dialler that is offered nothing but the start of a large frame
    session = Session(Side.DIALLER, config=SessionConfig(), now=0.0)
    session.hello(HELLO, 0.0)
    events = session.receive_data(pack_header(F.DATA, 0, 65536) + bytes(MAX_BEFORE_WELCOME - 8), 0.0)
    assert events == []
    assert failure(session.receive_data(b"x", 0.0)) is GoawayCode.OVER_LIMIT


def test_credit_over_the_maximum_ends_the_link() -> None:
    link = Link().greet()
    stream_id = link.stream()
    most = 2**31 - 1 - link.dialler.credit(stream_id)
    assert link.dialler.receive_data(encode_frame(F.WINDOW, stream_id, most.to_bytes(4, "big")), 0.0) == []
    events = link.dialler.receive_data(encode_frame(F.WINDOW, stream_id, b"\0\0\0\1"), 0.0)
    assert failure(events) is GoawayCode.PROTOCOL_ERROR


def test_a_kind_that_is_not_taken_here() -> None:
    link = Link(dialler_config=SessionConfig(kinds=frozenset({"tcp"}))).greet()
    stream_id = link.acceptor.open(HTTP, 0.0)
    events, theirs = link.settle()
    assert events == []
    assert [(e.stream_id, e.code, e.delivered) for e in of(StreamWasReset, theirs)] == [
        (stream_id, ResetCode.UNSUPPORTED_KIND, False)
    ]


def test_opened_for_a_stream_that_is_gone_is_dropped() -> None:
    link = Link().greet()
    stream_id = link.acceptor.open(HTTP, 0.0)
    link.acceptor.data_to_send(1 << 20)
    link.acceptor.reset(stream_id, ResetCode.CANCELLED, delivered=False)
    link.acceptor.take_events()
    assert link.acceptor.receive_data(encode_frame(F.OPENED, stream_id, encode(Opened())), 0.0) == []


def test_what_is_consumed_is_counted_in_one_call_until_credit_is_due() -> None:
    link = Link(role="edge").greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(60_000))
    link.settle()
    streams = link.acceptor.streams
    assert link.acceptor.held == 60_000
    assert streams.consumed(stream_id, 30_000)
    assert link.acceptor.held == 30_000
    assert not streams.consumed(stream_id, 30_001)  # more than came: for acknowledge to refuse
    assert not streams.consumed(stream_id, 3000)  # half a window: for acknowledge to grant
    assert not streams.consumed(stream_id + 2, 1)
    assert link.acceptor.held == 30_000
    assert not link.acceptor.has_data
    link.acceptor.acknowledge(stream_id, 3000, 0.0)
    assert link.acceptor.has_data


def test_queueing_tells_how_much_waits() -> None:
    link = Link(role="edge").greet()
    stream_id = link.stream()
    streams = link.dialler.streams
    assert streams.send(stream_id, b"") == 0
    assert streams.send(stream_id, b"12") == 2
    assert streams.send(stream_id, b"345") == 5
    link.dialler.reset(stream_id, ResetCode.CANCELLED, delivered=True)
    assert streams.send(stream_id, b"6") == 0  # its RESET waits
    link.settle()
    assert streams.send(stream_id, b"7") == 0  # it is gone
