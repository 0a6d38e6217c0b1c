"""Every state against every input, for streams and for sessions, by driving real ones into each state."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wire.links import HELLO, HTTP, WELCOME, Link, frames, joined
from wormhole_tw.errors import MisuseError
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.events import (
    DataReceived,
    Event,
    GoawayReceived,
    HelloReceived,
    LinkClosed,
    LinkFailed,
    StreamAccepted,
    StreamClosed,
    StreamEnded,
    StreamWasReset,
    Welcomed,
)
from wormhole_tw.wire.frames import END, PREFACE, FrameType, encode_frame
from wormhole_tw.wire.messages import Goaway, Opened, Reset, Status, encode
from wormhole_tw.wire.session import Session, SessionConfig, SessionState, Side
from wormhole_tw.wire.states import SESSION_TABLE, Verdict
from wormhole_tw.wire.streams import STREAM_TABLE, StreamInput, StreamState

S = StreamState
In = StreamInput
X = None

# The table once more, as the page draws it: rows are states, columns inputs.
PAGE: dict[StreamState, list[StreamState | None]] = {
    # OPENED, DATA, END, WINDOW, RESET come; accept, end sent, reset queued, reset sent
    S.OPENING: [S.OPEN, X, X, S.OPENING, S.CLOSED, X, S.OPENING_ENDED, S.RESETTING, S.CLOSED],
    S.OPENING_ENDED: [S.LOCAL_ENDED, X, X, S.OPENING_ENDED, S.CLOSED, X, X, X, S.CLOSED],
    S.OFFERED: [X, S.OFFERED, S.OFFERED_ENDED, S.OFFERED, S.CLOSED, S.OPEN, X, X, S.CLOSED],
    S.OFFERED_ENDED: [X, X, X, S.OFFERED_ENDED, S.CLOSED, S.REMOTE_ENDED, X, X, S.CLOSED],
    S.OPEN: [X, S.OPEN, S.REMOTE_ENDED, S.OPEN, S.CLOSED, X, S.LOCAL_ENDED, S.RESETTING, S.CLOSED],
    S.LOCAL_ENDED: [X, S.LOCAL_ENDED, S.CLOSED, S.LOCAL_ENDED, S.CLOSED, X, X, X, S.CLOSED],
    S.REMOTE_ENDED: [X, X, X, S.REMOTE_ENDED, S.CLOSED, X, S.CLOSED, S.RESETTING, S.CLOSED],
    S.RESETTING: [S.RESETTING] * 4 + [S.CLOSED, X, S.RESETTING, S.RESETTING, S.CLOSED],
    S.CLOSED: [S.CLOSED] * 5 + [X] * 4,
}


def test_the_table_is_the_one_of_the_page() -> None:
    assert [list(row) for row in STREAM_TABLE] == [PAGE[state] for state in StreamState]


def in_state(state: StreamState) -> tuple[Session, int]:
    """A session with a stream in this state, nothing else going on, and the stream's id."""
    link = Link(role="edge").greet()
    session = link.acceptor
    if state in (S.OPENING, S.OPENING_ENDED):
        stream_id = session.open(HTTP, 0.0)
        session.data_to_send(1 << 20)
        if state is S.OPENING_ENDED:
            session.end(stream_id)
    else:
        stream_id = link.dialler.open(HTTP, 0.0)
        link.settle()
        if state not in (S.OFFERED, S.OFFERED_ENDED):
            session.accept(stream_id)
            link.settle()
        if state in (S.OFFERED_ENDED, S.REMOTE_ENDED):
            link.dialler.end(stream_id)
            link.settle()
        elif state is S.LOCAL_ENDED:
            session.end(stream_id)
        elif state is S.RESETTING:
            session.send(stream_id, b"x" * (session.credit(stream_id) + 1))
            session.reset(stream_id, ResetCode.CANCELLED, delivered=True)
        elif state is S.CLOSED:
            session.reset(stream_id, ResetCode.CANCELLED, delivered=True)
    session.data_to_send(1 << 20)
    session.take_events()
    assert session.stream_state(stream_id) is state
    return session, stream_id


CAME: dict[StreamInput, tuple[int, bytes, type[object] | None]] = {
    In.OPENED_CAME: (FrameType.OPENED, encode(Opened()), StreamAccepted),
    In.DATA_CAME: (FrameType.DATA, b"x", DataReceived),
    In.END_CAME: (FrameType.DATA | END, b"", StreamEnded),
    In.WINDOW_CAME: (FrameType.WINDOW, b"\0\0\0\1", None),
    In.RESET_CAME: (FrameType.RESET, encode(Reset(code=5, message="m", delivered=False)), StreamWasReset),
}


@pytest.mark.parametrize("given", CAME, ids=lambda given: given.name)
@pytest.mark.parametrize("state", StreamState, ids=lambda state: state.name)
def test_what_comes(state: StreamState, given: StreamInput) -> None:
    session, stream_id = in_state(state)
    credit = session.credit(stream_id)
    kind, payload, told = CAME[given]
    events: list[Event] = session.receive_data(encode_frame(kind, stream_id, payload), 0.0)
    after = STREAM_TABLE[state][given]
    if after is None:
        assert [type(event) for event in events] == [StreamWasReset, StreamClosed, LinkFailed]
        failed = events[-1]
        assert isinstance(failed, LinkFailed)
        assert failed.error.code == GoawayCode.PROTOCOL_ERROR
        assert session.state is SessionState.CLOSING
        return
    assert session.stream_state(stream_id) is after
    expected: list[type[object]] = []
    if told is not None and state is not S.CLOSED and state is not S.RESETTING:
        expected.append(told)
    if after is S.CLOSED and state is not S.CLOSED:
        expected.append(StreamClosed)
    assert [type(event) for event in events] == expected
    if given is In.WINDOW_CAME and state is S.RESETTING:
        # the credit lets the last octet go, and the RESET behind it
        sent = [kind for kind, _, _ in frames(joined(session.data_to_send(1 << 20)))]
        assert sent == [FrameType.DATA, FrameType.RESET]
        assert session.stream_state(stream_id) is S.CLOSED
    elif given is In.WINDOW_CAME and state is not S.CLOSED:
        assert session.credit(stream_id) == credit + 1


DONE: dict[StreamInput, Callable[[Session, int], None]] = {
    In.ACCEPTED: lambda session, stream_id: session.accept(stream_id),
    In.END_SENT: lambda session, stream_id: session.end(stream_id),
    In.RESET_SENT: lambda session, stream_id: session.reset(stream_id, ResetCode.INTERNAL, delivered=True, cancel=True),
}


@pytest.mark.parametrize("given", DONE, ids=lambda given: given.name)
@pytest.mark.parametrize("state", StreamState, ids=lambda state: state.name)
def test_what_we_do(state: StreamState, given: StreamInput) -> None:
    session, stream_id = in_state(state)
    after = STREAM_TABLE[state][given]
    if given is In.ACCEPTED and after is None and state not in (S.RESETTING, S.CLOSED):
        with pytest.raises(MisuseError):
            session.accept(stream_id)
        return
    if given is In.END_SENT and state in (S.OFFERED, S.OFFERED_ENDED):
        # our end says OPENED by itself
        after = STREAM_TABLE[STREAM_TABLE[state][In.ACCEPTED] or 0][given]
    DONE[given](session, stream_id)
    session.data_to_send(1 << 20)
    # what may not be done is nothing, twice or too late
    assert session.stream_state(stream_id) is (state if after is None else after)
    closed = session.stream_state(stream_id) is S.CLOSED and state is not S.CLOSED
    assert session.take_events() == ([StreamClosed(stream_id)] if closed else [])


@pytest.mark.parametrize("state", [S.OPENING, S.OPEN, S.REMOTE_ENDED], ids=lambda state: state.name)
def test_a_reset_behind_data(state: StreamState) -> None:
    session, stream_id = in_state(state)
    session.send(stream_id, b"last words")
    session.reset(stream_id, ResetCode.SERVICE_FAILED, "m", delivered=True)
    assert session.stream_state(stream_id) is S.RESETTING
    session.reset(stream_id, ResetCode.CANCELLED, "again", delivered=True)
    sent = frames(joined(session.data_to_send(1 << 20)))
    assert sent == [
        (FrameType.DATA, stream_id, b"last words"),
        (FrameType.RESET, stream_id, encode(Reset(code=ResetCode.SERVICE_FAILED, message="m"))),
    ]
    assert session.take_events() == [StreamClosed(stream_id)]


# Sessions.


def session_in(state: SessionState) -> Session:
    side = Side.ACCEPTOR if state in (SessionState.AWAIT_HELLO, SessionState.JUDGING) else Side.DIALLER
    session = Session(side, config=SessionConfig(), now=0.0)
    if state is SessionState.AWAIT_HELLO:
        session.receive_data(PREFACE, 0.0)
    elif state is SessionState.JUDGING:
        session.receive_data(PREFACE + encode_frame(FrameType.HELLO, 0, encode(HELLO)), 0.0)
    elif state is not SessionState.START:
        session.hello(HELLO, 0.0)
        session.data_to_send(1 << 20)
        if state is not SessionState.AWAIT_WELCOME:
            session.receive_data(encode_frame(FrameType.WELCOME, 0, encode(WELCOME)), 0.0)
        if state is SessionState.DRAINING:
            session.goaway(GoawayCode.NORMAL, "", 0.0)
            session.data_to_send(1 << 20)
        elif state >= SessionState.CLOSING:
            session.goaway(GoawayCode.INTERNAL, "", 0.0)
            if state is SessionState.CLOSED:
                session.data_to_send(1 << 20)
    session.take_events()
    assert session.state is state
    return session


PAYLOADS: dict[FrameType | None, tuple[int, int, bytes]] = {
    FrameType.HELLO: (1, 0, encode(HELLO)),
    FrameType.WELCOME: (2, 0, encode(WELCOME)),
    FrameType.STATUS: (3, 0, encode(Status(ready=True))),
    FrameType.OPEN: (4, 1, encode(HTTP)),
    FrameType.OPENED: (5, 1, encode(Opened())),
    FrameType.DATA: (6, 1, b"x"),
    FrameType.WINDOW: (7, 1, b"\0\0\0\1"),
    FrameType.RESET: (8, 1, encode(Reset(code=0))),
    FrameType.PING: (9, 0, b"12345678"),
    FrameType.PONG: (10, 0, b"12345678"),
    FrameType.GOAWAY: (11, 0, encode(Goaway(code=0))),
    None: (99, 3, b"?"),
}
AFTER = {
    FrameType.HELLO: (SessionState.JUDGING, [HelloReceived]),
    FrameType.WELCOME: (SessionState.OPEN, [Welcomed]),
}


@pytest.mark.parametrize("given", PAYLOADS, ids=str)
@pytest.mark.parametrize("state", SessionState, ids=lambda state: state.name)
def test_frames_in_a_session(state: SessionState, given: FrameType | None) -> None:
    session = session_in(state)
    verdict = SESSION_TABLE[state][given]
    data = encode_frame(*PAYLOADS[given])
    if verdict is Verdict.TAKE and given in (FrameType.OPENED, FrameType.DATA, FrameType.WINDOW, FrameType.RESET):
        data = encode_frame(*PAYLOADS[FrameType.OPEN]) + data
        if given is FrameType.OPENED:
            return  # legal in a session, illegal for a stream that the peer opened: see above
    events = session.receive_data(data, 0.0)
    if verdict is Verdict.IGNORE:
        assert (events, session.state) == ([], state)
    elif verdict is Verdict.ERROR:
        assert [type(event) for event in events] == [LinkFailed]
        started = state is not SessionState.START
        assert session.state is (SessionState.CLOSING if started else SessionState.CLOSED)
        sent = [kind for kind, _, _ in frames(joined(session.data_to_send(1 << 20)))]
        assert sent == ([FrameType.GOAWAY] if started else [])
        assert session.state is SessionState.CLOSED
    elif given is FrameType.GOAWAY:
        if state.stands:
            assert session.state is SessionState.DRAINING
            assert isinstance(events[0], GoawayReceived)
        else:
            assert [type(event) for event in events] == [GoawayReceived, LinkClosed]
            assert session.state is SessionState.CLOSED
    else:
        after = AFTER.get(given, (state, None))
        assert session.state is after[0]
        assert after[1] is None or [type(event) for event in events] == after[1]
        assert LinkFailed not in [type(event) for event in events]


@pytest.mark.parametrize("state", SessionState, ids=lambda state: state.name)
def test_the_connection_ends(state: SessionState) -> None:
    session = session_in(state)
    events = session.receive_eof(1.0)
    assert events == ([] if state >= SessionState.CLOSING else [LinkClosed()])
    assert session.state is SessionState.CLOSED
    assert session.receive_eof(1.0) == []
    assert session.receive_data(b"late", 1.0) == []
    assert session.data_to_send(99) == []
    assert not session.has_data
    assert session.next_timer(1.0) is None
    assert session.handle_timer(1e9) == []
    session.goaway(GoawayCode.NORMAL, "", 1.0)
    session.welcome(WELCOME, 1.0)
    session.set_status(True)
    assert session.take_events() == []
    assert not session.has_data


@pytest.mark.parametrize("state", SessionState, ids=lambda state: state.name)
def test_goaway_in_every_state(state: SessionState) -> None:
    session = session_in(state)
    session.goaway(GoawayCode.NORMAL, "bye", 0.0)
    if state.stands:
        assert session.state is SessionState.DRAINING
        session.goaway(GoawayCode.NORMAL, "now", 0.0, fatal=True)
    if state < SessionState.CLOSING:
        assert session.state is SessionState.CLOSING
        assert session.take_events()[-1] == LinkClosed()
        session.data_to_send(1 << 20)
    assert session.over


@pytest.mark.parametrize("state", SessionState, ids=lambda state: state.name)
def test_hello_welcome_and_open_in_the_wrong_state(state: SessionState) -> None:
    session = session_in(state)
    if state is not SessionState.START:
        with pytest.raises(MisuseError):
            session.hello(HELLO, 0.0)
    if state is not SessionState.JUDGING and not session.over:
        with pytest.raises(MisuseError):
            session.welcome(WELCOME, 0.0)
    with pytest.raises(MisuseError):
        session.open(HTTP, 0.0)
    assert not session.can_open
