"""The streams of one link: opening, data, credit, ends, and every limit that is kept a stream."""

from __future__ import annotations

from collections import deque

from wormhole_tw.errors import MisuseError, TunnelProtocolError
from wormhole_tw.wire.codes import GoawayCode, ResetCode, broken
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.events import (
    DataReceived,
    Drained,
    Event,
    IdsLow,
    StreamAccepted,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamWasReset,
)
from wormhole_tw.wire.floods import Flood, FloodGuard
from wormhole_tw.wire.frames import FrameType, encode_frame
from wormhole_tw.wire.messages import MAX_SENTENCE, MAX_WINDOW, Open, Opened, Reset, clip, decode, encode
from wormhole_tw.wire.outbox import Outbox
from wormhole_tw.wire.streams import STREAM_TABLE, Stream, StreamInput, StreamState
from wormhole_tw.wire.windows import Budget, ReceiveWindow

__all__ = ["IDS_LOW", "MAX_ID", "SPARE_HEADS", "StreamTable"]

MAX_ID = 2**32 - 1

IDS_LOW = 2**17
"""Ids left (every second one is ours) when the owner is told: time enough to overlap with the next link."""

SPARE_HEADS = 1024
"""Answers (RESET, OPENED) that may wait, beyond two a stream, for a peer that opens streams and does not read."""

# members of an enum cost a look-up each; these stand on the path of every DATA
_RESETTING = StreamState.RESETTING
_OFFERED = StreamState.OFFERED
_OFFERED_ENDED = StreamState.OFFERED_ENDED
_TAKES_DATA = tuple(row[StreamInput.DATA_CAME] is not None for row in STREAM_TABLE)


class StreamTable:
    """All streams of a session, by id.

    :ivar held: octets received and not acknowledged, on all streams
    :ivar may_open: this side may open streams (set by the session, from side and role)
    :ivar peer_may_open: so may the peer
    :ivar peer_credit: what each new stream may send before a WINDOW
    :ivar max_ours: streams that we may have open at once
    :ivar highest_peer: the highest id that the peer opened, 0 for none
    :ivar last_taken: the same when we said GOAWAY, None before: what comes above it is dropped
    """

    __slots__ = (
        "_budget",
        "_config",
        "_drained_told",
        "_draining",
        "_events",
        "_guard",
        "_ids_told",
        "_next_id",
        "_ours",
        "_outbox",
        "_parity",
        "_streams",
        "held",
        "highest_peer",
        "last_taken",
        "max_ours",
        "may_open",
        "peer_credit",
        "peer_gone",
        "peer_may_open",
    )

    def __init__(self, *, first_id: int, config: SessionConfig, events: list[Event], guard: FloodGuard) -> None:
        self._config = config
        self._events = events
        self._guard = guard
        self._budget = Budget(config.link_budget, config.budget)
        self._outbox = Outbox(self, events, slice_size=config.slice, low_water=config.low_water)
        self._streams: dict[int, Stream] = {}
        self._next_id = first_id
        self._parity = first_id & 1
        self._ours = 0
        self._ids_told = False
        self._draining = False
        self._drained_told = False
        self.held = 0
        self.may_open = False
        self.peer_may_open = False
        self.peer_gone = False
        self.peer_credit = 0
        self.max_ours = config.max_streams
        self.highest_peer = 0
        self.last_taken: int | None = None

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def outbox(self) -> Outbox:
        return self._outbox

    def state_of(self, stream_id: int) -> StreamState:
        """For tests and debugging; CLOSED for a stream that is gone."""
        stream = self._streams.get(stream_id)
        return StreamState.CLOSED if stream is None else stream.state

    def credit_of(self, stream_id: int) -> int:
        """Octets that we may still send; 0 for a stream that is gone."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.credit

    # What our application does.  A stream that is gone takes everything and does nothing: its end may not be told yet.

    def open(self, message: Open, now: float) -> int:
        if not self.may_open:
            raise MisuseError("this side of the link may not open streams")
        if self._ours >= self.max_ours:
            raise MisuseError(f"{self.max_ours} streams are open already")
        if self._next_id > MAX_ID:
            raise MisuseError("the stream ids of this link are used up")
        payload = encode(message)
        stream_id = self._next_id
        self._next_id += 2
        stream = self._add(stream_id, now, ours=True)
        stream.open_payload = payload
        self._outbox.head(stream)
        if self._next_id > MAX_ID - IDS_LOW and not self._ids_told:
            self._ids_told = True
            self._events.append(IdsLow())
        return stream_id

    def accept(self, stream_id: int, message: Opened | None) -> None:
        stream = self._mine(stream_id)
        if stream is None or stream.state is _RESETTING:
            return
        self._local(stream, StreamInput.ACCEPTED, "accept")
        self._outbox.head(encode_frame(FrameType.OPENED, stream_id, encode(message or Opened())))

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        """Gives how many octets of the stream wait now, 0 for one that is gone."""
        stream = self._streams.get(stream_id) or self._mine(stream_id)
        if stream is None:
            return 0
        state = stream.state
        if state is _RESETTING:
            return 0
        if stream.end_said:
            raise MisuseError(f"stream {stream_id} got data after its end")
        if not data:
            return stream.queued
        if state is _OFFERED or state is _OFFERED_ENDED:
            self.accept(stream_id, None)
        queue = stream.queue
        if queue is None:
            stream.queue = data
        elif isinstance(queue, deque):
            queue.append(data)
        else:
            stream.queue = deque((queue, data))
        stream.queued = queued = stream.queued + len(data)
        if not stream.in_ready and stream.credit > 0:
            self._outbox.place(stream)  # it has octets and credit for them: sendable, without the call
        return queued

    def end(self, stream_id: int) -> None:
        stream = self._mine(stream_id)
        if stream is None or stream.state is _RESETTING or stream.end_said:
            return
        if stream.state is _OFFERED or stream.state is _OFFERED_ENDED:
            self.accept(stream_id, None)
        stream.end_said = stream.end_pending = True
        self._outbox.ready(stream)

    def reset(self, stream_id: int, code: int, message: str, *, delivered: bool, cancel: bool) -> None:
        stream = self._mine(stream_id)
        if stream is None or (stream.state is _RESETTING and not cancel):
            return
        payload = encode(Reset(code=int(code), message=clip(message, MAX_SENTENCE), delivered=delivered))
        if cancel or not (stream.queued or stream.end_pending):
            self._cut(stream, payload)
            return
        received = _TAKES_DATA[stream.state]
        self._local(stream, StreamInput.RESET_QUEUED, "reset")
        stream.reset_payload = payload
        owed = stream.window.unacknowledged
        self._let_go(stream)
        if received:
            stream.window.unacknowledged = owed
            self._regrant(stream, owed)
        self._outbox.ready(stream)

    def acknowledge(self, stream_id: int, amount: int, now: float, rtt: float | None) -> bool:
        """Gives whether credit was granted: the stream moves."""
        stream = self._mine(stream_id)
        if stream is None or stream.state is _RESETTING:
            return False
        grant = stream.window.consumed(amount, now, rtt, self._budget, self._config.max_window)
        self.held -= amount
        if not grant or not _TAKES_DATA[stream.state]:
            return False
        self._outbox.grant(stream_id, grant)
        return True

    def consumed(self, stream_id: int, amount: int) -> bool:
        """:meth:`acknowledge` in the case that is most of them: nothing is to be granted yet.

        :returns: False where that is not the case; nothing was done then
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        window = stream.window
        pending = window.pending + amount
        if amount > window.unacknowledged or pending >= window.due or stream.state is _RESETTING:
            return False
        window.pending = pending
        window.unacknowledged -= amount
        self.held -= amount
        return True

    def queued(self, stream_id: int) -> int:
        stream = self._mine(stream_id)
        return 0 if stream is None else stream.queued

    # What the peer does.

    def on_open(self, stream_id: int, payload: bytes, end: bool, now: float) -> None:
        if stream_id & 1 == self._parity or stream_id <= self.highest_peer:
            raise broken(f"OPEN of stream {stream_id}: not the next id of that side")
        self._guard.count(Flood.OPEN, now)
        if self._outbox.waiting_heads > 2 * self._config.max_streams + SPARE_HEADS:
            raise TunnelProtocolError(GoawayCode.OVER_LIMIT, "answers to OPENs wait and are not read")
        message = decode(Open, payload)
        self.highest_peer = stream_id
        if self.last_taken is not None:
            return  # it crossed our GOAWAY, whose last_stream_id says that it was not processed
        if self.peer_gone:
            self._refuse(stream_id, ResetCode.NOT_AVAILABLE, "OPEN after GOAWAY")
        elif not self.peer_may_open or message.kind not in self._config.kinds:
            self._refuse(stream_id, ResetCode.UNSUPPORTED_KIND, "this kind of stream is not taken here")
        elif len(self._streams) - self._ours >= self._config.max_streams:
            self._refuse(stream_id, ResetCode.OVER_LIMIT, f"{self._config.max_streams} streams are open already")
        else:
            stream = self._add(stream_id, now, ours=False)
            self._events.append(StreamOpened(stream_id, message))
            if end:
                self._ended(stream)

    def on_opened(self, stream_id: int, payload: bytes, now: float) -> None:
        message = decode(Opened, payload)
        stream = self._theirs(stream_id)
        if stream is not None and self._came(stream, StreamInput.OPENED_CAME):
            self._events.append(StreamAccepted(stream_id, message))

    def on_data(self, stream_id: int, data: bytes, end: bool, now: float) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self._theirs(stream_id)
            return
        state = stream.state
        if not _TAKES_DATA[state]:
            raise broken(f"DATA on stream {stream_id} in state {state.name}")
        amount = len(data)
        if data and not stream.window.received(amount, now):
            stream.window.unacknowledged -= amount  # it never reaches the application
            self._break(stream, ResetCode.FLOW_CONTROL, "more data than credit")
            return
        if state is _RESETTING:
            if end:
                stream.window.unacknowledged -= amount
            else:
                self._regrant(stream, amount)
            return
        if data:
            self.held += amount
            self._events.append(DataReceived(stream_id, data))
            if self.held > self._config.max_held:
                self._shed()
                if stream.state is StreamState.CLOSED:
                    return
        elif not end:
            self._guard.count(Flood.EMPTY_DATA, now)
        if end:
            self._ended(stream)

    def on_window(self, stream_id: int, payload: bytes, now: float) -> None:
        self._guard.count(Flood.WINDOW, now)
        increment = int.from_bytes(payload, "big")
        if not increment:
            raise broken("WINDOW of 0")
        stream = self._theirs(stream_id)
        if stream is None:
            return
        stream.credit += increment
        if stream.credit > MAX_WINDOW:
            raise broken(f"the credit of stream {stream_id} is over 2**31 - 1")
        self._outbox.ready(stream)

    def on_reset(self, stream_id: int, payload: bytes, now: float) -> None:
        self._guard.count(Flood.RESET, now)
        message = decode(Reset, payload)
        stream = self._theirs(stream_id)
        if stream is not None:
            self._lose(stream, message.code, message.message, message.delivered)

    # What happens to all.

    def drain(self) -> None:
        """GOAWAY went either way: ``Drained`` when no stream is left, or now."""
        self._draining = True
        self._drained()

    def end_all(self, code: ResetCode, message: str) -> None:
        """The link ends: every stream does. What no octet of ours left for was not delivered."""
        self._draining = False
        self._outbox.drop_streams()
        for stream in list(self._streams.values()):
            self._lose(stream, code, message, stream.touched or not stream.ours)

    def peer_left(self, last_stream_id: int, message: str) -> None:
        """GOAWAY came: the peer processes no stream of ours above this id."""
        self.peer_gone = True
        for stream in [s for s in self._streams.values() if s.ours and s.id > last_stream_id]:
            self._lose(stream, ResetCode.NOT_AVAILABLE, message, False)

    def leave(self, message: str) -> int:
        """We say GOAWAY: OPENs that have not left do not leave any more. Gives the last_stream_id to say."""
        if self.last_taken is None:
            self.last_taken = self.highest_peer
        for stream in [s for s in self._streams.values() if s.open_payload is not None]:
            self._lose(stream, ResetCode.NOT_AVAILABLE, message, False)
        return self.last_taken

    # OutboxOwner.

    def end_left(self, stream: Stream) -> None:
        self._local(stream, StreamInput.END_SENT, "end")
        if stream.state is StreamState.CLOSED:
            self._close(stream)

    def reset_left(self, stream: Stream) -> None:
        self._local(stream, StreamInput.RESET_SENT, "reset")
        self._close(stream)

    # Inside.

    def _add(self, stream_id: int, now: float, *, ours: bool) -> Stream:
        window = ReceiveWindow(self._config.initial_credit, now)
        stream = self._streams[stream_id] = Stream(stream_id, ours=ours, credit=self.peer_credit, window=window)
        self._ours += ours
        return stream

    def _mine(self, stream_id: int) -> Stream | None:
        """The stream an application names; None where it is gone, which the application may not have heard yet.

        :raises MisuseError: there never was one
        """
        stream = self._streams.get(stream_id)
        if stream is None and not self._existed(stream_id):
            raise MisuseError(f"there is no stream {stream_id}")
        return stream

    def _theirs(self, stream_id: int) -> Stream | None:
        """The stream a frame names; None where it is gone."""
        stream = self._streams.get(stream_id)
        if stream is None and not self._existed(stream_id):
            raise broken(f"a frame for stream {stream_id}, which was never opened")
        return stream

    def _existed(self, stream_id: int) -> bool:
        if stream_id & 1 == self._parity:
            return 0 < stream_id < self._next_id
        return 0 < stream_id <= self.highest_peer

    def _came(self, stream: Stream, given: StreamInput) -> bool:
        """Move by what came; False where it is dropped because our RESET is on its way."""
        state = STREAM_TABLE[stream.state][given]
        if state is None:
            raise broken(f"{given.name} on stream {stream.id} in state {stream.state.name}")
        stream.state = state
        return state is not _RESETTING

    def _local(self, stream: Stream, given: StreamInput, name: str) -> None:
        state = STREAM_TABLE[stream.state][given]
        if state is None:
            raise MisuseError(f"{name} of stream {stream.id} in state {stream.state.name}")
        stream.state = state

    def _ended(self, stream: Stream) -> None:
        self._came(stream, StreamInput.END_CAME)
        self._outbox.drop_grant(stream.id)
        self._events.append(StreamEnded(stream.id))
        if stream.state is StreamState.CLOSED:
            self._close(stream)

    def _refuse(self, stream_id: int, code: ResetCode, message: str) -> None:
        payload = encode(Reset(code=code, message=message, delivered=False))
        self._outbox.head(encode_frame(FrameType.RESET, stream_id, payload))

    def _shed(self) -> None:
        stream = max(self._streams.values(), key=lambda s: s.window.unacknowledged)
        self._break(stream, ResetCode.OVER_LIMIT, "the link holds too much, and this stream most of it")

    def _break(self, stream: Stream, code: ResetCode, message: str) -> None:
        """A limit kept here ends the stream: both sides are told."""
        payload = encode(Reset(code=code, message=message, delivered=True))
        if stream.state is not _RESETTING:
            self._events.append(StreamWasReset(stream.id, code, message, True))
        self._cut(stream, payload)

    def _cut(self, stream: Stream, payload: bytes) -> None:
        """Drop what is queued and end the stream, by RESET where the peer knows it."""
        known = stream.open_payload is None
        self._outbox.forget(stream)
        self._local(stream, StreamInput.RESET_SENT, "reset")
        self._close(stream)
        if known:
            self._outbox.head(encode_frame(FrameType.RESET, stream.id, payload))

    def _lose(self, stream: Stream, code: int, message: str, delivered: bool) -> None:
        """The stream is over without a word of ours. The application that reset it itself only hears of the end."""
        told = stream.state is _RESETTING
        self._came(stream, StreamInput.RESET_CAME)
        self._outbox.forget(stream)
        if not told:
            self._events.append(StreamWasReset(stream.id, code, message, delivered))
        self._close(stream)

    def _close(self, stream: Stream) -> None:
        self._let_go(stream)
        self._ours -= stream.ours
        del self._streams[stream.id]
        self._events.append(StreamClosed(stream.id))
        if self._draining:
            self._drained()

    def _drained(self) -> None:
        if not self._streams and not self._drained_told:
            self._drained_told = True
            self._events.append(Drained())

    def _regrant(self, stream: Stream, amount: int) -> None:
        """What is dropped while our RESET waits for credit is granted again, without growth.

        Two sides that reset a stream behind their data at the same time would otherwise wait for each other.
        """
        window = stream.window
        if grant := window.consumed(amount, 0.0, None, self._budget, window.size):
            self._outbox.grant(stream.id, grant)

    def _let_go(self, stream: Stream) -> None:
        """Nothing more is received: give back what the window held and had grown by."""
        window = stream.window
        self.held -= window.unacknowledged
        self._budget.release(window.extra)
        window.unacknowledged = window.extra = 0
