"""A link's life: handshake, status, GOAWAY and drain, ids, and what a session tells its shell."""

from __future__ import annotations

import pytest

from tests.wire.links import HELLO, HTTP, WELCOME, Link, frames, joined, octets, of
from wormhole_tw.errors import MisuseError
from wormhole_tw.structs import replace
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.events import (
    DataReceived,
    Drained,
    GoawayReceived,
    HelloReceived,
    IdsLow,
    LinkClosed,
    LinkFailed,
    SendReady,
    StatusChanged,
    StreamAccepted,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamWasReset,
    Welcomed,
)
from wormhole_tw.wire.frames import END, PREFACE, FrameType, encode_frame
from wormhole_tw.wire.messages import Goaway, Limits, Open, Opened, Status, Timers, Welcome, decode, encode
from wormhole_tw.wire.session import Session, SessionConfig, SessionState, Side
from wormhole_tw.wire.table import IDS_LOW, MAX_ID


def test_the_handshake_fills_in_what_the_session_keeps() -> None:
    config = SessionConfig(initial_credit=5000, max_window=9000, max_streams=7, ping_after=1.0, dead_after=3.0)
    link = Link(config, dialler_config=SessionConfig(initial_credit=6000))
    link.dialler.hello(HELLO, 0.0)
    _, events = link.settle()
    [came] = of(HelloReceived, events)
    assert came.hello == replace(HELLO, initial_credit=6000)
    assert link.acceptor.role == link.dialler.role == "agent"
    assert link.acceptor.heard_frame
    assert not link.dialler.heard_frame
    assert not link.acceptor.stood
    assert not link.dialler.stood
    link.acceptor.welcome(replace(WELCOME, timers=Timers(drain=9.0)), 0.0)
    events, _ = link.settle()
    assert link.acceptor.stood
    assert link.dialler.stood
    [welcomed] = of(Welcomed, events)
    assert welcomed.welcome.limits == Limits(max_streams=7)
    assert welcomed.welcome.timers == Timers(ping_after=1.0, dead_after=3.0, drain=9.0)
    stream_id = link.acceptor.open(HTTP, 0.0)
    assert link.acceptor.credit(stream_id) == 6000
    link.settle()
    assert link.dialler.credit(stream_id) == 5000
    assert link.dialler.next_timer(0.0) == 1.0


def test_a_conversation() -> None:
    link = Link().greet()
    edge, agent = link.acceptor, link.dialler
    assert edge.can_open
    assert not agent.can_open
    stream_id = edge.open(HTTP, 0.0)
    edge.send(stream_id, b"GET / ")
    edge.send(stream_id, memoryview(b"HTTP/1.1"))
    edge.send(stream_id, b"")
    assert edge.queued(stream_id) == 14
    events, _ = link.settle()
    assert events == [StreamOpened(1, HTTP), DataReceived(1, b"GET / HTTP/1.1")]
    agent.accept(stream_id, Opened(address="127.0.0.1:80"))
    agent.send(stream_id, b"200")
    agent.end(stream_id)
    agent.end(stream_id)
    with pytest.raises(MisuseError, match="after its end"):
        agent.send(stream_id, b"more")
    _, events = link.settle()
    assert events == [StreamAccepted(1, Opened(address="127.0.0.1:80")), DataReceived(1, b"200"), StreamEnded(1)]
    assert edge.held == 3
    edge.acknowledge(1, 3, 0.0)
    assert edge.held == 0
    edge.end(stream_id)
    events, theirs = link.settle()
    assert events == [StreamEnded(1), StreamClosed(1)]
    assert theirs == [StreamClosed(1)]
    assert edge.open_streams == agent.open_streams == 0


def test_data_on_an_offered_stream_accepts_it() -> None:
    link = Link().greet()
    one, two = link.acceptor.open(HTTP, 0.0), link.acceptor.open(HTTP, 0.0)
    link.settle()
    link.dialler.send(one, b"x")
    link.dialler.end(two)
    _, events = link.settle()
    assert events == [
        StreamAccepted(one, Opened()),
        StreamAccepted(two, Opened()),
        DataReceived(one, b"x"),
        StreamEnded(two),
    ]


def test_end_rides_on_open_where_no_data_comes() -> None:
    link = Link().greet()
    edge = link.acceptor
    empty, full, doomed = (edge.open(HTTP, 0.0) for _ in range(3))
    edge.end(empty)
    edge.send(full, b"x")
    edge.end(full)
    edge.end(doomed)
    edge.reset(doomed, ResetCode.CANCELLED, delivered=False)
    sent = joined(edge.data_to_send(1 << 20))
    assert [(kind, stream) for kind, stream, _ in frames(sent)] == [
        (FrameType.OPEN | END, empty),
        (FrameType.OPEN, full),
        (FrameType.OPEN | END, doomed),
        (FrameType.DATA | END, full),
        (FrameType.RESET, doomed),
    ]
    events = link.dialler.receive_data(sent, 0.0)
    assert [event for event in events if event.stream_id == empty] == [  # type: ignore[union-attr]
        StreamOpened(empty, HTTP),
        StreamEnded(empty),
    ]
    assert events[-2:] == [StreamWasReset(doomed, ResetCode.CANCELLED, "", False), StreamClosed(doomed)]


def test_status_is_said_after_welcome_and_only_when_it_changes() -> None:
    link = Link()
    link.dialler.set_status(False, "starting")
    link.acceptor.set_status(True)
    link.greet(ready=False)
    link.dialler.set_status(False, "starting")
    assert not link.dialler.has_data
    link.dialler.set_status(True, "x" * 600)
    _, events = link.settle()
    assert events == [StatusChanged(True, "x" * 511 + "…")]
    link = Link()
    link.dialler.set_status(False, "starting")
    link.dialler.hello(HELLO, 0.0)
    link.settle()
    link.acceptor.welcome(WELCOME, 0.0)
    assert StatusChanged(False, "starting") in link.settle()[1]


def test_a_refusal_in_place_of_welcome() -> None:
    link = Link()
    link.dialler.hello(HELLO, 0.0)
    link.settle()
    link.acceptor.goaway(GoawayCode.UNAUTHORIZED, "no such token", 0.0, retry_after=60.0)
    assert link.acceptor.goaway_sent == Goaway(code=2, message="no such token", retry_after=60.0)
    events, theirs = link.settle()
    assert theirs == [LinkClosed()]
    assert events == [GoawayReceived(Goaway(code=2, message="no such token", retry_after=60.0)), LinkClosed()]
    assert link.dialler.goaway_received is not None
    assert link.dialler.heard_frame
    assert link.acceptor.state is link.dialler.state is SessionState.CLOSED


def test_a_failure_behind_hello_leaves_welcome_without_effect() -> None:
    session = Session(Side.ACCEPTOR, config=SessionConfig(), now=0.0)
    hello = encode_frame(FrameType.HELLO, 0, encode(HELLO))
    events = session.receive_data(PREFACE + hello + encode_frame(FrameType.PING, 0, bytes(8)), 0.0)
    assert [type(event) for event in events] == [HelloReceived, LinkFailed]
    session.welcome(WELCOME, 0.0)
    assert [kind for kind, _, _ in frames(joined(session.data_to_send(99999)))] == [FrameType.GOAWAY]


def test_what_follows_a_refusal_is_ignored() -> None:
    session = Session(Side.DIALLER, config=SessionConfig(), now=0.0)
    session.hello(HELLO, 0.0)
    goaway = encode_frame(FrameType.GOAWAY, 0, encode(Goaway(code=2)))
    events = session.receive_data(goaway + goaway + b"\xff" * 20, 0.0)
    assert [type(event) for event in events] == [GoawayReceived, LinkClosed]


def test_something_that_is_no_edge() -> None:
    session = Session(Side.DIALLER, config=SessionConfig(), now=0.0)
    session.hello(HELLO, 0.0)
    events = session.receive_data(b"HTTP/1.1 400 Bad Request\r\n\r\n", 0.0)
    assert [type(event) for event in events] == [LinkFailed]
    assert not session.heard_frame


def test_drain_lets_open_streams_end() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.goaway(GoawayCode.NORMAL, "leaving", 0.0)
    events, theirs = link.settle()
    assert events == []
    assert theirs == [GoawayReceived(Goaway(code=0, message="leaving", last_stream_id=stream_id))]
    assert link.acceptor.state is link.dialler.state is SessionState.DRAINING
    assert not link.acceptor.can_open
    with pytest.raises(MisuseError, match="DRAINING"):
        link.acceptor.open(HTTP, 0.0)
    link.acceptor.send(stream_id, b"still")
    link.acceptor.end(stream_id)
    link.dialler.end(stream_id)
    events, theirs = link.settle()
    assert octets(events, stream_id) == b"still"
    assert events[-2:] == theirs[-2:] == [StreamClosed(stream_id), Drained()]
    assert link.settle() == ([], [])
    assert link.dialler.receive_eof(0.0) == [LinkClosed()]


def test_an_open_that_crosses_goaway_was_not_processed() -> None:
    link = Link().greet()
    kept = link.stream()
    crossing = link.acceptor.open(HTTP, 0.0)
    link.acceptor.send(crossing, b"POST")
    on_the_way = joined(link.acceptor.data_to_send(1 << 20))
    unsent = link.acceptor.open(HTTP, 0.0)
    link.dialler.goaway(GoawayCode.NORMAL, "leaving", 0.0)
    goodbye = joined(link.dialler.data_to_send(1 << 20))
    assert link.dialler.receive_data(on_the_way, 0.0) == []
    assert link.dialler.open_streams == 1
    events = link.acceptor.receive_data(goodbye, 0.0)
    assert events == [
        StreamWasReset(crossing, ResetCode.NOT_AVAILABLE, "leaving", False),
        StreamClosed(crossing),
        StreamWasReset(unsent, ResetCode.NOT_AVAILABLE, "leaving", False),
        StreamClosed(unsent),
        GoawayReceived(Goaway(code=0, message="leaving", last_stream_id=kept)),
    ]
    assert not link.acceptor.has_data
    # a further GOAWAY does not raise last_stream_id, though a higher id was seen
    link.dialler.goaway(GoawayCode.NORMAL, "still leaving", 0.0)
    assert of(LinkFailed, link.settle()[1]) == []
    assert link.acceptor.goaway_received == Goaway(code=0, message="still leaving", last_stream_id=kept)


def test_our_goaway_takes_back_what_was_not_sent() -> None:
    link = Link().greet()
    old = link.stream()
    new = link.acceptor.open(HTTP, 0.0)
    link.acceptor.goaway(GoawayCode.NORMAL, "edge stops", 0.0)
    assert link.acceptor.take_events() == [
        StreamWasReset(new, ResetCode.NOT_AVAILABLE, "edge stops", False),
        StreamClosed(new),
    ]
    events, _ = link.settle()
    assert of(StreamOpened, events) == []
    assert link.dialler.open_streams == 1
    link.acceptor.reset(old, ResetCode.CANCELLED, delivered=True)
    assert Drained() in link.settle()[0]


def test_an_idle_link_is_drained_at_once() -> None:
    link = Link().greet()
    link.acceptor.goaway(GoawayCode.REPLACED, "", 0.0)
    assert link.acceptor.take_events() == [Drained()]


@pytest.mark.parametrize("fatal", [True, False])
def test_a_goaway_that_ends_the_link(fatal: bool) -> None:
    link = Link().greet()
    untouched, touched, sending = (link.stream() for _ in range(3))
    link.acceptor.send(touched, b"x")
    link.settle()
    link.acceptor.send(sending, b"never leaves")
    link.acceptor.goaway(GoawayCode.NORMAL if fatal else GoawayCode.TOKEN_REVOKED, "m" * 600, 0.0, fatal=fatal)
    said = "m" * 511 + "…"
    assert link.acceptor.take_events() == [
        StreamWasReset(untouched, ResetCode.LINK_LOST, said, False),
        StreamClosed(untouched),
        StreamWasReset(touched, ResetCode.LINK_LOST, said, True),
        StreamClosed(touched),
        StreamWasReset(sending, ResetCode.LINK_LOST, said, False),
        StreamClosed(sending),
        LinkClosed(),
    ]
    assert [kind for kind, _, _ in frames(joined(link.acceptor.data_to_send(1 << 20)))] == [FrameType.GOAWAY]
    assert link.acceptor.over


def test_a_link_that_ends_has_everything_end() -> None:
    link = Link(role="edge").greet()
    ours = link.acceptor.open(HTTP, 0.0)
    theirs = link.dialler.open(HTTP, 0.0)
    link.settle()
    link.acceptor.accept(theirs)
    link.acceptor.send(theirs, bytes(65537))
    link.acceptor.data_to_send(1 << 20)
    link.acceptor.reset(theirs, ResetCode.CANCELLED, delivered=True)
    unsent = link.acceptor.open(HTTP, 0.0)
    other = link.dialler.open(HTTP, 0.0)
    link.acceptor.receive_data(joined(link.dialler.data_to_send(1 << 20)), 0.0)
    link.acceptor.send(other, b"waiting")
    lost = "the connection of the tunnel ended"
    assert link.acceptor.receive_eof(0.0) == [
        StreamWasReset(ours, ResetCode.LINK_LOST, lost, False),
        StreamClosed(ours),
        StreamClosed(theirs),  # its owner had reset it
        StreamWasReset(unsent, ResetCode.LINK_LOST, lost, False),
        StreamClosed(unsent),
        StreamWasReset(other, ResetCode.LINK_LOST, lost, True),
        StreamClosed(other),
        LinkClosed(),
    ]
    assert link.acceptor.held == 0
    assert not link.acceptor.has_data


def test_edges_open_both_ways() -> None:
    link = Link(role="edge").greet()
    message = Open(kind="tcp", backend="app", hops=1)
    assert (link.acceptor.open(message, 0.0), link.dialler.open(message, 0.0)) == (1, 2)
    assert (link.acceptor.open(message, 0.0), link.dialler.open(message, 0.0)) == (3, 4)
    events, theirs = link.settle()
    assert [event.stream_id for event in of(StreamOpened, events)] == [1, 3]
    assert [event.stream_id for event in of(StreamOpened, theirs)] == [2, 4]


def test_calls_about_streams_that_are_gone_do_nothing() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.reset(stream_id, ResetCode.CANCELLED, delivered=True)
    link.settle()
    for session in (link.acceptor, link.dialler):
        session.send(stream_id, b"x")
        session.end(stream_id)
        session.accept(stream_id)
        session.reset(stream_id, ResetCode.INTERNAL, delivered=True)
        session.acknowledge(stream_id, 5, 0.0)
        assert session.queued(stream_id) == session.credit(stream_id) == 0
        assert not session.has_data


@pytest.mark.parametrize("stream_id", [0, 2, 3, -1])
def test_calls_about_streams_that_never_were(stream_id: int) -> None:
    link = Link().greet()
    link.stream()
    with pytest.raises(MisuseError, match="there is no stream"):
        link.acceptor.send(stream_id, b"x")


def test_an_agent_opens_nothing() -> None:
    link = Link().greet()
    with pytest.raises(MisuseError, match="this side"):
        link.dialler.open(HTTP, 0.0)


def test_ids_come_to_an_end() -> None:
    link = Link().greet()
    edge = link.acceptor
    edge._table._next_id = MAX_ID - IDS_LOW - 2
    edge.open(HTTP, 0.0)
    assert edge.take_events() == []
    edge.open(HTTP, 0.0)
    assert edge.take_events() == [IdsLow()]
    edge.open(HTTP, 0.0)
    assert edge.take_events() == []
    edge._table._next_id = MAX_ID
    last = edge.open(HTTP, 0.0)
    assert last == MAX_ID
    with pytest.raises(MisuseError, match="used up"):
        edge.open(HTTP, 0.0)
    events, _ = link.settle()
    assert of(StreamOpened, events)[-1].stream_id == MAX_ID


def test_welcome_may_lower_what_the_dialler_does() -> None:
    link = Link(role="edge")
    link.dialler.hello(replace(HELLO, role="edge"), 0.0)
    link.settle()
    welcome = Welcome(session="s", limits=Limits(max_streams=1, max_data=1024))
    link.dialler.receive_data(encode_frame(FrameType.WELCOME, 0, encode(welcome)), 0.0)
    stream_id = link.dialler.open(HTTP, 0.0)
    with pytest.raises(MisuseError, match="1 streams are open"):
        link.dialler.open(HTTP, 0.0)
    link.dialler.send(stream_id, bytes(3000))
    sizes = [len(payload) for _, _, payload in frames(joined(link.dialler.data_to_send(1 << 20)))]
    assert sizes[1:] == [1024, 1024, 952]


def test_send_ready_comes_when_the_queue_falls_to_the_mark() -> None:
    link = Link(SessionConfig(low_water=1000)).greet()
    stream_id = link.stream()
    edge = link.acceptor
    edge.send(stream_id, bytes(1000))
    edge.data_to_send(1 << 20)
    assert edge.take_events() == []  # it was never above
    edge.send(stream_id, bytes(64 * 1024 + 500))
    edge.data_to_send(1 << 20)  # all the credit there is
    assert edge.queued(stream_id) == 1500
    assert edge.take_events() == []
    edge.receive_data(encode_frame(FrameType.WINDOW, stream_id, (499).to_bytes(4, "big")), 0.0)
    edge.data_to_send(1 << 20)
    assert edge.take_events() == []
    edge.receive_data(encode_frame(FrameType.WINDOW, stream_id, (1).to_bytes(4, "big")), 0.0)
    edge.data_to_send(1 << 20)
    assert edge.take_events() == [SendReady(stream_id)]


def test_sentences_are_cut_and_codes_go_as_numbers() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.reset(stream_id, ResetCode.REFUSED, "x" * 600, delivered=False)
    _, events = link.settle()
    assert events == [StreamWasReset(stream_id, 1, "x" * 511 + "…", False), StreamClosed(stream_id)]
    assert decode(Status, encode(Status(ready=True))) == Status(ready=True)
