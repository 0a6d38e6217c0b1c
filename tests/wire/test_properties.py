"""What holds whatever the peer sends, and however the connection cuts it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests._support import sized
from tests.wire.links import HELLO, HTTP, WELCOME, Link, joined, of
from tests.wire.test_frames import chop
from wormhole_tw.wire.events import DataReceived, Event, LinkClosed, LinkDead, LinkFailed, StreamClosed, StreamOpened
from wormhole_tw.wire.frames import END, PREFACE, FrameType, encode_frame
from wormhole_tw.wire.messages import Goaway, Opened, Reset, Status, encode
from wormhole_tw.wire.session import Session, SessionConfig, SessionState, Side

CONFIG = SessionConfig(initial_credit=2048, max_window=8192, max_streams=4, max_held=5000)

HELD_MULTIPLE = 4
"""A session holds (unfinished frame, unacknowledged data, answers to be sent) at most this times what came …"""
HELD_CONSTANT = 400
"""… plus this: a GOAWAY with a sentence."""

EMPTY_OPEN = encode(HTTP)

ids = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 2**32 - 1])


def framed(kinds: list[int], streams: st.SearchStrategy[int], payloads: st.SearchStrategy[bytes]) -> Any:
    return st.builds(encode_frame, st.sampled_from(kinds), streams, payloads)


zero = st.just(0)
eight = st.binary(min_size=8, max_size=8)
some_frames = st.one_of(
    framed([FrameType.OPEN, FrameType.OPEN | END], ids, st.just(EMPTY_OPEN)),
    framed([FrameType.DATA, FrameType.DATA | END], ids, st.binary(max_size=900)),
    framed([FrameType.OPENED], ids, st.just(encode(Opened()))),
    framed([FrameType.WINDOW], ids, st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(4, "big"))),
    framed([FrameType.RESET], ids, st.just(encode(Reset(code=3, delivered=False)))),
    framed([FrameType.PING, FrameType.PONG], zero, eight),
    framed([FrameType.GOAWAY], zero, ids.map(lambda n: encode(Goaway(code=0, last_stream_id=n)))),
    framed([FrameType.STATUS], zero, st.just(encode(Status(ready=True)))),
    framed(list(range(128)), ids, st.binary(max_size=40)),
)
noise = st.binary(max_size=60)
bytes_of_a_peer = st.lists(st.one_of(some_frames, some_frames, some_frames, noise), max_size=25).map(b"".join)
cuts = st.lists(st.integers(0, 10**6), max_size=12)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Frames that were right, with some octets changed, cut out or doubled."""
    data = bytearray(b"".join(draw(st.lists(some_frames, max_size=25))))
    for _ in range(draw(st.integers(0, 3))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(st.integers(0, 2))
        if kind == 0:
            data[at] = draw(st.integers(0, 255))
        elif kind == 1:
            del data[at : at + draw(st.integers(1, 9))]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 30))]
    return bytes(data)


def fresh_acceptor() -> Session:
    return Session(Side.ACCEPTOR, config=CONFIG, now=0.0)


def fresh_dialler() -> Session:
    session = Session(Side.DIALLER, config=CONFIG, now=0.0)
    session.hello(HELLO, 0.0)
    session.data_to_send(1 << 20)
    return session


def acceptor_of_an_agent() -> Session:
    link = Link(CONFIG).greet()
    for _ in range(2):
        link.acceptor.open(HTTP, 0.0)
    link.settle()
    return link.acceptor


def dialler_of_an_edge() -> Session:
    link = Link(CONFIG, role="edge").greet()
    stream_id = link.dialler.open(HTTP, 0.0)
    link.dialler.send(stream_id, bytes(5000))
    link.settle()
    return link.dialler


SESSIONS: list[Callable[[], Session]] = [fresh_acceptor, fresh_dialler, acceptor_of_an_agent, dialler_of_an_edge]


def check_ends(events: list[Event], before: set[int]) -> None:
    """Streams end exactly once; the link at most once, and last."""
    opened = [event.stream_id for event in of(StreamOpened, events)]
    closed = [event.stream_id for event in of(StreamClosed, events)]
    assert len(set(opened)) == len(opened)
    assert len(set(closed)) == len(closed)
    assert set(closed) <= before | set(opened)
    ends = [event for event in events if isinstance(event, LinkFailed | LinkClosed | LinkDead)]
    assert len(ends) <= 1
    if ends:
        assert events[-1] is ends[0]
        assert set(closed) == before | set(opened)
    over: set[int] = set()
    for event in events:
        stream_id = getattr(event, "stream_id", None)
        assert stream_id not in over
        if isinstance(event, StreamClosed):
            over.add(event.stream_id)


@settings(max_examples=sized(60, 2000))
@pytest.mark.parametrize("make", SESSIONS, ids=lambda make: make.__name__)
@given(data=st.one_of(bytes_of_a_peer, mutated(), st.binary(max_size=400)), where=cuts, preface=st.booleans())
def test_any_octets_in_any_pieces(make: Callable[[], Session], data: bytes, where: list[int], preface: bool) -> None:
    if make is fresh_acceptor and preface:
        data = PREFACE + encode_frame(FrameType.HELLO, 0, encode(HELLO)) + data
    runs = []
    for pieces in ([data], chop(data, where), [data[n : n + 1] for n in range(len(data))]):
        session = make()
        before = {n for n in range(1, 5) if session.stream_state(n).name != "CLOSED"}
        start = sum(stream.queued for stream in session._table._streams.values())
        events: list[Event] = []
        came = 0
        for piece in pieces:
            came += len(piece)
            events += session.receive_data(piece, 0.0)
        held = session.held + session._parser.held
        sent = joined(session.data_to_send(1 << 30))
        events += session.take_events()
        assert held + len(sent) <= HELD_MULTIPLE * came + HELD_CONSTANT + start
        assert session.held <= CONFIG.max_held + 65536
        runs.append((list(map(repr, events)), sent, session.state))
        events = events + session.receive_eof(0.0)
        check_ends(events, before)
        assert session.held <= came
    # a failure inside a piece hides nothing that came before it, so that all runs agree
    assert runs[0] == runs[1] == runs[2]


@given(data=st.binary(max_size=3000), step=st.integers(1, 7))
def test_before_authentication_memory_is_bounded_by_the_input(data: bytes, step: int) -> None:
    data = PREFACE + encode_frame(FrameType.HELLO, 0, data)[: len(data)]
    session = fresh_acceptor()
    for start in range(0, len(data), step):
        session.receive_data(data[start : start + step], 0.0)
    pieces = session._parser._pieces
    assert sum(map(sys.getsizeof, pieces)) <= HELD_MULTIPLE * len(data) + HELD_CONSTANT


def test_welcome_changes_nothing_for_what_is_cut_around_it() -> None:
    data = encode_frame(FrameType.WELCOME, 0, encode(WELCOME)) + encode_frame(FrameType.OPEN, 1, EMPTY_OPEN)
    for cut in range(len(data)):
        session = fresh_dialler()
        events = session.receive_data(data[:cut], 0.0) + session.receive_data(data[cut:], 0.0)
        assert [type(event).__name__ for event in events] == ["Welcomed", "StreamOpened"]


@settings(max_examples=sized(40, 1000))
@given(
    loads=st.lists(st.lists(st.integers(1, 9000), max_size=6), min_size=1, max_size=4),
    limit=st.integers(1, 40000),
    piece=st.integers(1, 20000),
    consume=st.integers(1, 5000),
)
@example(loads=[[70000]], limit=100000, piece=65536, consume=100)
def test_everything_arrives_in_order_once_within_credit(
    loads: list[list[int]], limit: int, piece: int, consume: int
) -> None:
    """Streams of both directions, written at once, carried in pieces, consumed little by little."""
    link = Link(SessionConfig(initial_credit=2048, max_window=16384), role="edge").greet()
    streams = []
    for number, sizes in enumerate(loads):
        opener, far = (link.acceptor, link.dialler) if number % 2 else (link.dialler, link.acceptor)
        stream_id = opener.open(HTTP, 0.0)
        wanted = b""
        for size in sizes:
            chunk = bytes([len(wanted) % 251]) * size
            opener.send(stream_id, chunk)
            wanted += chunk
        opener.end(stream_id)
        streams.append((stream_id, opener, far, wanted))
    got: dict[int, bytes] = {stream_id: b"" for stream_id, *_ in streams}
    backlog: dict[int, int] = dict.fromkeys(got, 0)
    closed: dict[int, list[int]] = {0: [], 1: []}

    def handle(side: int, session: Session, events: list[Event]) -> None:
        assert of(LinkFailed, events) == []
        for event in events:
            if isinstance(event, DataReceived):
                got[event.stream_id] += event.data
                backlog[event.stream_id] += len(event.data)
            elif isinstance(event, StreamOpened):
                session.accept(event.stream_id)
                session.end(event.stream_id)
            elif isinstance(event, StreamClosed):
                closed[side].append(event.stream_id)
        for stream_id, _, far, _ in streams:
            if far is session and backlog[stream_id]:
                amount = min(consume, backlog[stream_id])
                backlog[stream_id] -= amount
                session.acknowledge(stream_id, amount, 0.0)

    for _ in range(200_000):
        moved = False
        for side, (source, target) in enumerate(((link.dialler, link.acceptor), (link.acceptor, link.dialler))):
            data = joined(source.data_to_send(limit))
            handle(side, source, source.take_events())
            moved = moved or bool(data)
            for start in range(0, len(data), piece):
                handle(1 - side, target, target.receive_data(data[start : start + piece], 0.0))
        if not moved and not any(backlog.values()):
            break
    assert got == {stream_id: wanted for stream_id, _, _, wanted in streams}
    everything = sorted(got)
    assert sorted(closed[0]) == sorted(closed[1]) == everything
    for session in (link.dialler, link.acceptor):
        assert session.open_streams == session.held == 0
        assert session._table._budget.used == 0
        assert session.state is SessionState.OPEN
