"""PING after silence, dead after more of it, and the time that a handshake may take."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.wire.links import HELLO, HTTP, Link, frames, joined
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.events import LinkDead, LinkFailed, StreamClosed, StreamWasReset
from wormhole_tw.wire.floods import FloodGuard
from wormhole_tw.wire.frames import PREFACE, FrameType, encode_frame
from wormhole_tw.wire.liveness import RTT_MAX_AGE, SHORTEST_AGE, Liveness
from wormhole_tw.wire.messages import encode
from wormhole_tw.wire.outbox import Outbox
from wormhole_tw.wire.session import Session, SessionConfig, SessionState, Side


def pings(session: Session) -> int:
    sent = joined(session.data_to_send(1 << 20))
    return len([1 for kind, _, _ in frames(sent) if kind == FrameType.PING])


def test_silence() -> None:
    link = Link().greet()
    session = link.acceptor
    stream_id = session.open(HTTP, 0.0)
    session.data_to_send(1 << 20)
    assert session.next_timer(0.0) == 5.0
    assert session.handle_timer(4.9) == []
    assert pings(session) == 0
    assert session.handle_timer(5.0) == []
    assert pings(session) == 1
    assert session.next_timer(5.0) == 10.0
    assert session.handle_timer(10.0) == []
    assert pings(session) == 1
    assert session.next_timer(10.0) == 12.0
    assert session.handle_timer(12.0) == [
        StreamWasReset(stream_id, ResetCode.LINK_LOST, "the peer was silent for too long", False),
        StreamClosed(stream_id),
        LinkDead(),
    ]
    assert session.state is SessionState.CLOSED
    assert not session.has_data
    assert session.next_timer(12.0) is None


@pytest.mark.parametrize("life", [b"\x00", encode_frame(FrameType.PONG, 0, b"whatever")])
def test_any_octet_is_life(life: bytes) -> None:
    session = Link().greet().acceptor
    session.handle_timer(5.0)
    session.handle_timer(10.0)
    session.receive_data(life, 11.9)
    assert session.next_timer(11.9) == 16.9
    assert session.handle_timer(12.0) == []
    session.handle_timer(16.9)
    assert session.next_timer(17.0) == pytest.approx(21.9)


def test_a_ping_is_answered_and_measured() -> None:
    link = Link().greet()
    link.acceptor.handle_timer(5.0)
    link.now = 5.1
    link.carry(link.acceptor, link.dialler)
    link.now = 5.2
    link.carry(link.dialler, link.acceptor)
    assert link.acceptor.rtt == pytest.approx(0.2)
    assert link.dialler.rtt is None
    assert link.acceptor.next_timer(5.2) == 10.2


def test_the_shortest_round_trip_is_the_paths_own() -> None:
    outbox = Outbox(cast(Any, None), [], slice_size=1, low_water=1)
    liveness = Liveness(0.0, 5.0, 12.0, outbox, FloodGuard(0.0))
    now = 100.0

    def ping(takes: float) -> None:
        nonlocal now
        now += RTT_MAX_AGE
        liveness.busy(now)
        (frame,) = outbox.take(1000)
        now += takes
        liveness.on_pong(bytes(frame)[8:], now)
        assert liveness.rtt == pytest.approx(takes)

    assert liveness.shortest is None
    for takes, shortest in ((0.05, 0.05), (0.3, 0.05), (0.04, 0.04), (0.06, 0.04)):
        ping(takes)
        assert liveness.shortest == pytest.approx(shortest)
    now += SHORTEST_AGE
    ping(0.2)
    assert liveness.shortest == pytest.approx(0.2), "an old one may be of another path"


def test_a_process_that_slept_asks_before_it_judges() -> None:
    session = Link().greet().acceptor
    session.handle_timer(5.0)
    assert session.handle_timer(100.0) == []
    assert session.next_timer(100.0) == 105.0
    session.handle_timer(105.0)
    assert session.handle_timer(107.0) == [LinkDead()]


def test_the_dialler_keeps_the_timers_of_welcome() -> None:
    link = Link(SessionConfig(ping_after=1.0, dead_after=1.5), dialler_config=SessionConfig()).greet()
    assert link.dialler.next_timer(0.0) == 1.0
    link.dialler.handle_timer(1.0)
    assert link.dialler.handle_timer(1.5) == [LinkDead()]


@pytest.mark.parametrize(
    ("data", "goaway"),
    [
        (b"", False),
        (PREFACE[:5], False),
        (PREFACE, True),
        (PREFACE + encode_frame(FrameType.HELLO, 0, encode(HELLO)), True),
    ],
)
def test_an_acceptor_waits_ten_seconds(data: bytes, goaway: bool) -> None:
    session = Session(Side.ACCEPTOR, config=SessionConfig(), now=100.0)
    session.receive_data(data, 105.0)
    assert session.next_timer(105.0) == 110.0
    session.take_events()
    assert session.handle_timer(109.9) == []
    [failed] = session.handle_timer(110.0)
    assert isinstance(failed, LinkFailed)
    assert failed.error.code == GoawayCode.TIMED_OUT
    assert session.has_data is goaway


@pytest.mark.parametrize("said", [False, True])
def test_a_dialler_waits_ten_seconds(said: bool) -> None:
    session = Session(Side.DIALLER, config=SessionConfig(), now=0.0)
    if said:
        session.hello(HELLO, 1.0)
    [failed] = session.handle_timer(10.0)
    assert isinstance(failed, LinkFailed)
    assert failed.error.message == "no WELCOME in time"
    assert session.has_data is said
