"""One link of the tunnel protocol, sans-IO: octets in, events out, octets to send (docs/protocol.md).

The shell's rhythm: give what came to :meth:`Session.receive_data`, handle the events, write what
:meth:`Session.data_to_send` gives, handle :meth:`Session.take_events`, arm a timer for :meth:`Session.next_timer`.
Time is an argument: seconds of one monotonic clock.

No fault of the peer raises.  It gives ``LinkFailed`` as the last event, and a GOAWAY to write before closing.
:class:`~wormhole_tw.errors.MisuseError` is always the caller's.
"""

from __future__ import annotations

from collections.abc import Callable

from wormhole_tw.errors import MisuseError, TunnelProtocolError
from wormhole_tw.wire import handshake
from wormhole_tw.wire.codes import GoawayCode, ResetCode, broken
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.events import (
    Event,
    GoawayReceived,
    HelloReceived,
    LinkClosed,
    LinkDead,
    LinkFailed,
    StatusChanged,
    Welcomed,
)
from wormhole_tw.wire.floods import Flood, FloodGuard
from wormhole_tw.wire.frames import PREFACE, FrameParser, FrameType, encode_frame
from wormhole_tw.wire.liveness import Liveness
from wormhole_tw.wire.messages import (
    MAX_SENTENCE,
    Goaway,
    Hello,
    Open,
    Opened,
    Status,
    Welcome,
    clip,
    decode,
    encode,
)
from wormhole_tw.wire.outbox import FULL_FRAME
from wormhole_tw.wire.states import SESSION_TABLE, SessionState, Side, Verdict
from wormhole_tw.wire.streams import StreamState
from wormhole_tw.wire.table import StreamTable

__all__ = ["Session", "SessionConfig", "SessionState", "Side"]

_DATA = int(FrameType.DATA)
_KNOWN: dict[int, FrameType] = {kind: kind for kind in FrameType if kind is not FrameType.DATAGRAM}
_S = SessionState
_CLOSING = SessionState.CLOSING


class Session:
    """Both sides of a link; :class:`Side` says which.

    :ivar state: see ``docs/protocol.md``, "States of a session"
    :ivar role: ``agent`` or ``edge``, what HELLO said; empty before
    :ivar goaway_sent: what we said last, or None
    :ivar goaway_received: what the peer said last, or None
    :ivar heard_frame: the peer sent at least one whole frame that was legal: it speaks the protocol
    """

    __slots__ = (
        "_config",
        "_events",
        "_guard",
        "_hello",
        "_hello_deadline",
        "_liveness",
        "_outbox",
        "_parser",
        "_received_early",
        "_standing",
        "_status",
        "_table",
        "goaway_received",
        "goaway_sent",
        "heard_frame",
        "role",
        "side",
        "state",
    )

    def __init__(self, side: Side, *, config: SessionConfig, now: float) -> None:
        self.side = side
        self.state = _S.START if side is Side.DIALLER else _S.AWAIT_HELLO
        self.role = ""
        self.goaway_sent: Goaway | None = None
        self.goaway_received: Goaway | None = None
        self.heard_frame = False
        self._config = config
        self._events: list[Event] = []
        self._guard = FloodGuard(now)
        self._parser = FrameParser(expect_preface=side is Side.ACCEPTOR, joined=True)
        self._table = StreamTable(
            first_id=2 if side is Side.DIALLER else 1, config=config, events=self._events, guard=self._guard
        )
        self._outbox = self._table.outbox
        self._liveness = Liveness(now, config.ping_after, config.dead_after, self._outbox, self._guard)
        self._hello: Hello | None = None
        self._hello_deadline = now + config.hello_timeout
        self._received_early = 0
        self._standing = False
        self._status: Status | None = None

    # Facts.

    @property
    def streams(self) -> StreamTable:
        """The table of streams, for a shell that calls it once an octet run and spares the step between."""
        return self._table

    @property
    def open_streams(self) -> int:
        """Streams of either side that are not closed."""
        return len(self._table)

    @property
    def stood(self) -> bool:
        """WELCOME was said or came, whatever followed."""
        return self._standing

    @property
    def over(self) -> bool:
        """Nothing is received any more: write what :meth:`data_to_send` still gives, then close the connection."""
        return self.state >= _CLOSING

    @property
    def held(self) -> int:
        """Octets that came and were not acknowledged, an unfinished frame among them."""
        return self._table.held + self._parser.held

    @property
    def rtt(self) -> float | None:
        """Seconds of the last measured round trip."""
        return self._liveness.rtt

    @property
    def has_data(self) -> bool:
        """Whether :meth:`data_to_send` would give anything."""
        return self._outbox.has_data

    @property
    def can_open(self) -> bool:
        """Whether :meth:`open` may be called now, but for the number of streams."""
        return self.state is _S.OPEN and self._table.may_open

    def queued(self, stream_id: int) -> int:
        """Octets of a stream that :meth:`data_to_send` has not given out; 0 for one that is gone."""
        return self._table.queued(stream_id)

    def credit(self, stream_id: int) -> int:
        """Octets that the peer takes on a stream now; 0 for one that is gone."""
        return self._table.credit_of(stream_id)

    def stream_state(self, stream_id: int) -> StreamState:
        """CLOSED for one that is gone."""
        return self._table.state_of(stream_id)

    # The link.

    def hello(self, hello: Hello, now: float) -> None:
        """Dialling side: queue the preface and HELLO. ``initial_credit`` is filled in from the config.

        :raises MisuseError: not the dialling side, or said already, or a field is out of range
        """
        self._demand(_S.START, "hello")
        hello = handshake.complete_hello(hello, self._config)
        payload = encode(hello)
        self._hello = hello
        self.role = hello.role
        self._outbox.control(PREFACE + encode_frame(FrameType.HELLO, 0, payload))
        self.state = _S.AWAIT_WELCOME

    def welcome(self, welcome: Welcome, now: float) -> None:
        """Accepting side: take the peer whose HELLO was judged.

        ``initial_credit``, ``limits`` and the liveness timers are filled in from the config. A session that is over
        ignores it: it may have failed behind the HELLO.

        :raises MisuseError: no HELLO waits for it, or a field is out of range
        """
        if self.over:
            return
        self._demand(_S.JUDGING, "welcome")
        welcome = handshake.complete_welcome(welcome, self._config)
        self._outbox.control(encode_frame(FrameType.WELCOME, 0, encode(welcome)))
        hello, self._hello = self._hello, None
        assert hello is not None
        self._stand(hello.initial_credit, now, may_open=True, peer_may_open=self.role == "edge")

    def set_status(self, ready: bool, reason: str = "") -> None:
        """Say whether this side takes streams; before WELCOME it is said after it. Only changes are sent."""
        status = Status(ready=ready, reason=clip(reason, MAX_SENTENCE))
        if status == self._status:
            return
        payload = encode(status)
        self._status = status
        if self.state.stands:
            self._outbox.control(encode_frame(FrameType.STATUS, 0, payload))

    def goaway(
        self, code: GoawayCode, message: str, now: float, *, retry_after: float | None = None, fatal: bool = False
    ) -> None:
        """Leave. Streams that are open live on, unless ``fatal``, or the code does not drain, or WELCOME was not said.

        Afterwards :meth:`open` is a misuse and the peer's new streams are dropped. OPENs that have not left are
        reset with ``delivered`` False. A fatal one gives ``LinkClosed``: write what is queued, then close. May be
        said again, to end a drain; a session that is over ignores it.
        """
        if self.over:
            return
        fatal = fatal or not code.drains or not self.state.stands
        self._say_goaway(code, message, retry_after)
        if fatal:
            self._finish(_S.CLOSING, message)
            self._events.append(LinkClosed())
        else:
            self.state = _S.DRAINING
            self._table.drain()

    # Streams.

    def open(self, message: Open, now: float) -> int:
        """Open a stream; gives its id. Data may follow at once.

        :raises MisuseError: the link does not stand or drains, this side may open none, too many are open, the ids
            are used up, or a field is out of range
        """
        if self.state is not _S.OPEN:
            raise MisuseError(f"open in state {self.state.name}")
        return self._table.open(message, now)

    def accept(self, stream_id: int, message: Opened | None = None) -> None:
        """Say OPENED: the local connection of a stream that the peer opened stands.

        :raises MisuseError: not a stream of the peer's, or said before
        """
        self._table.accept(stream_id, message)

    def send(self, stream_id: int, data: bytes | memoryview) -> None:
        """Queue octets, of any number; they are kept by reference. On an offered stream this says OPENED too.

        :raises MisuseError: after :meth:`end`, or there never was such a stream
        """
        self._table.send(stream_id, data)

    def end(self, stream_id: int) -> None:
        """End our half behind what is queued. Again is nothing."""
        self._table.end(stream_id)

    def reset(
        self, stream_id: int, code: ResetCode, message: str = "", *, delivered: bool, cancel: bool = False
    ) -> None:
        """End a stream before its end.

        What we have queued goes out first (and the end, where it was said), unless ``cancel``. What the peer has
        queued is dropped over there. From now on nothing of it is received or reported but ``StreamClosed``.
        """
        self._table.reset(stream_id, code, message, delivered=delivered, cancel=cancel)

    def acknowledge(self, stream_id: int, amount: int, now: float) -> None:
        """The application consumed ``amount`` octets; the peer gets them again as credit.

        :raises MisuseError: more than came
        """
        table = self._table
        if not table.consumed(stream_id, amount) and table.acknowledge(stream_id, amount, now, self._liveness.shortest):
            self._liveness.busy(now)

    # Octets and time.

    def receive_data(self, data: bytes | memoryview, now: float) -> list[Event]:
        """Take octets from the connection, in any pieces; gives all events since the last call that gave events."""
        if self.state >= _CLOSING:
            return self.take_events()
        self._liveness.heard(now)
        try:
            if not self._standing:
                self._received_early += len(data)
            parser = self._parser
            on_data = self._table.on_data
            for kind, stream_id, payload in parser.feed(data):
                if self._standing and kind & 0x7F == _DATA:
                    on_data(stream_id, payload, kind != _DATA, now)
                else:
                    self._frame(kind, stream_id, payload, now)
            if parser.error is not None and not self.over:
                raise parser.error
            if not self._standing and self._received_early > handshake.MAX_BEFORE_WELCOME:
                raise TunnelProtocolError(GoawayCode.OVER_LIMIT, "too many octets before WELCOME")
        except TunnelProtocolError as error:
            self._fail(error)
        return self.take_events()

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended, in whatever way."""
        if self.state is _S.CLOSING:
            self._outbox.clear()
            self.state = _S.CLOSED
        elif self.state is not _S.CLOSED:
            self._finish(_S.CLOSED, "the connection of the tunnel ended")
            self._events.append(LinkClosed())
        return self.take_events()

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        """What to write next, about ``limit`` octets (the last frame may pass it); empty when nothing is ready.

        Ask for :meth:`take_events` afterwards.
        """
        out = self._outbox.take(limit)
        if self.state is _CLOSING and not self._outbox.has_data:
            self.state = _S.CLOSED
        return out

    def take_events(self) -> list[Event]:
        """Events since the last call that gave events."""
        events = self._events
        taken = events[:]
        if taken:
            events.clear()
        return taken

    def next_timer(self, now: float) -> float | None:
        """When to call :meth:`handle_timer`, or None."""
        if self.state.stands:
            return self._liveness.next_timer()
        if self.over:
            return None
        return self._hello_deadline

    def handle_timer(self, now: float) -> list[Event]:
        """A time has come; early is harmless."""
        if self.state.stands:
            self._outbox.rest()
            if not self._liveness.check(now):
                self._finish(_S.CLOSED, "the peer was silent for too long")
                self._events.append(LinkDead())
        elif not self.over and now >= self._hello_deadline:
            what = "WELCOME" if self.side is Side.DIALLER else "HELLO"
            self._fail(TunnelProtocolError(GoawayCode.TIMED_OUT, f"no {what} in time"))
        return self.take_events()

    # Inside.

    def _demand(self, state: SessionState, what: str) -> None:
        if self.state is not state:
            raise MisuseError(f"{what} in state {self.state.name}")

    def _stand(self, peer_credit: int, now: float, *, may_open: bool, peer_may_open: bool) -> None:
        self.state = _S.OPEN
        self._standing = True
        self._liveness.heard(now)
        table = self._table
        table.peer_credit = peer_credit
        table.may_open = may_open
        table.peer_may_open = peer_may_open
        if self._status is not None:
            self._outbox.control(encode_frame(FrameType.STATUS, 0, encode(self._status)))

    def _say_goaway(self, code: int, message: str, retry_after: float | None) -> None:
        last = self._table.leave(message)
        goaway = Goaway(
            code=int(code), message=clip(message, MAX_SENTENCE), last_stream_id=last, retry_after=retry_after
        )
        self._outbox.control(encode_frame(FrameType.GOAWAY, 0, encode(goaway)))
        self.goaway_sent = goaway

    def _fail(self, error: TunnelProtocolError) -> None:
        # what never showed the preface reads no GOAWAY, unless it is another version of ourselves
        talks = not self._parser.in_preface or error.code == GoawayCode.VERSION
        if talks and self.state is not _S.START:
            self._say_goaway(error.code, error.message, None)
            self._finish(_S.CLOSING, error.message)
        else:
            self._finish(_S.CLOSED, error.message)
        self._events.append(LinkFailed(error))

    def _finish(self, state: SessionState, message: str) -> None:
        """The link is over: every stream ends, and nothing but the session's own frames may still leave."""
        self._standing = False
        self._table.end_all(ResetCode.LINK_LOST, clip(message, MAX_SENTENCE))
        if state is _S.CLOSED:
            self._outbox.clear()
        self.state = state

    def _frame(self, kind: int, stream_id: int, payload: bytes, now: float) -> None:
        number = kind & 0x7F
        verdict = SESSION_TABLE[self.state][_KNOWN.get(number)]
        if verdict is Verdict.IGNORE:
            return
        if verdict is Verdict.ERROR:
            raise broken(f"a frame of type {number} is not legal in state {self.state.name}")
        self.heard_frame = True
        if number == FrameType.OPEN:
            self._table.on_open(stream_id, payload, kind != number, now)
        elif number in _OF_A_STREAM:
            _OF_A_STREAM[number](self._table, stream_id, payload, now)
        elif number not in _KNOWN:
            self._guard.count(Flood.UNKNOWN, now)
        elif stream_id:
            raise broken(f"a frame of type {number} belongs to stream 0")
        elif number == FrameType.PING:
            self._liveness.on_ping(payload, now)
        elif number == FrameType.PONG:
            self._liveness.on_pong(payload, now)
        else:
            _OF_THE_SESSION[number](self, payload, now)

    def _on_hello(self, payload: bytes, now: float) -> None:
        hello = handshake.read_hello(payload)
        self._hello = hello
        self.role = hello.role
        self.state = _S.JUDGING
        self._events.append(HelloReceived(hello))

    def _on_welcome(self, payload: bytes, now: float) -> None:
        assert self._hello is not None
        welcome = handshake.read_welcome(payload, self._hello.versions)
        self._hello = None
        timers = welcome.timers
        self._liveness.ping_after = timers.ping_after
        self._liveness.dead_after = timers.dead_after
        self._table.max_ours = min(self._config.max_streams, welcome.limits.max_streams)
        self._outbox.max_data = min(FULL_FRAME, welcome.limits.max_data)
        self._outbox.slice = min(self._config.slice, welcome.limits.max_data)
        self._stand(welcome.initial_credit, now, may_open=self.role == "edge", peer_may_open=True)
        self._events.append(Welcomed(welcome))

    def _on_status(self, payload: bytes, now: float) -> None:
        self._guard.count(Flood.STATUS, now)
        status = decode(Status, payload)
        self._events.append(StatusChanged(status.ready, status.reason))

    def _on_goaway(self, payload: bytes, now: float) -> None:
        self._guard.count(Flood.GOAWAY, now)
        goaway = decode(Goaway, payload)
        before = self.goaway_received
        if before is not None and goaway.last_stream_id > before.last_stream_id:
            raise broken("last_stream_id of a second GOAWAY rose")
        self.goaway_received = goaway
        if not self._standing:
            self._finish(_S.CLOSED, goaway.message)
            self._events += (GoawayReceived(goaway), LinkClosed())
            return
        self._table.peer_left(goaway.last_stream_id, goaway.message)
        self._events.append(GoawayReceived(goaway))
        self.state = _S.DRAINING
        self._table.drain()


_OF_A_STREAM: dict[int, Callable[[StreamTable, int, bytes, float], None]] = {
    FrameType.OPENED: StreamTable.on_opened,
    FrameType.WINDOW: StreamTable.on_window,
    FrameType.RESET: StreamTable.on_reset,
}

_OF_THE_SESSION: dict[int, Callable[[Session, bytes, float], None]] = {
    FrameType.HELLO: Session._on_hello,
    FrameType.WELCOME: Session._on_welcome,
    FrameType.STATUS: Session._on_status,
    FrameType.GOAWAY: Session._on_goaway,
}
