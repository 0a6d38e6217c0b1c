"""The visitor's side of HTTP/2: many requests out, many answers in.

Every frame is judged here before the library sees it.  A fault of one stream is its RST_STREAM and nobody else's; a
fault of the connection is a GOAWAY; what floods has a budget.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes

from hpack import HeaderTuple

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import (
    Abandoned,
    Body,
    Closed,
    End,
    Event,
    InformationalHead,
    Raw,
    RawEnd,
    ResponseHead,
)
from wormhole_tw.http.h2.answers import plain_fields
from wormhole_tw.http.h2.connection import LEAVING, Connection
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.limits import DEFAULT_LIMITS, H2Limits
from wormhole_tw.http.h2.receiving import Receiver
from wormhole_tw.http.h2.streams import AWAITING, ENDED, SENDING, TUNNEL, Stream
from wormhole_tw.http.h2.websocket import is_accepted
from wormhole_tw.http.interfaces import StreamEvent

__all__ = ["EVERYTHING", "H2ServerCodec"]

EVERYTHING = 1 << 40
"""More room than there is."""

_END = End()

_BAD_ANSWER: list[tuple[bytes, bytes]] = [
    HeaderTuple(b":status", b"502"),
    HeaderTuple(b"x-wormhole-error", b"bad-answer"),
    HeaderTuple(b"content-length", b"0"),
]


class H2ServerCodec:
    """A visitor's connection; see :class:`wormhole_tw.http.interfaces.ManyStreamsCodec`.

    A request that is refused is ``Failed`` and can be answered; a malformed one is never seen.  An answer that ends
    before its request is followed by RST_STREAM(NO_ERROR).  A WebSocket's extended CONNECT is a GET with ``upgrade``;
    a 101 that proves its key becomes the 200 that it waits for, any other success a 502.

    :param random: ``random(n)`` gives n octets, for keys of WebSockets
    """

    __slots__ = ("_connection", "_receiver", "_sender", "_streams", "output_ended", "should_abort")

    def __init__(self, limits: H2Limits = DEFAULT_LIMITS, random: Callable[[int], bytes] = token_bytes) -> None:
        self._connection = Connection(limits)
        self._receiver = Receiver(self._connection, random)
        self._sender = self._connection.sender
        self._streams = self._connection.streams
        self.output_ended = False
        self.should_abort = False

    # the shape of a codec

    @property
    def wants_data(self) -> bool:
        """Flow control bounds what comes."""
        return not self._connection.dead

    @property
    def has_held(self) -> bool:
        """Never: the streams do not wait for one another."""
        return False

    @property
    def waits_for_answer(self) -> bool:
        """Never: something of another request may come at any time."""
        return False

    @property
    def should_close(self) -> bool:
        """Nothing more will come of this connection."""
        connection = self._connection
        return connection.dead or (not self._streams and (connection.peer_leaves or connection.phase is LEAVING))

    @property
    def idle(self) -> bool:
        """No stream is open."""
        return not self._streams

    @property
    def head_since(self) -> float | None:
        """Since when a head has begun that is not whole."""
        return self._receiver.head_since

    @property
    def fault(self) -> str | None:
        """What the peer did that ended the connection, for a log."""
        return self._connection.fault

    def take_events(self) -> list[StreamEvent]:
        """Events since the last time."""
        events = self._connection.events
        if events:
            taken = events[:]
            events.clear()
            return taken
        return []

    def receive_data(self, data: bytes, now: float) -> list[StreamEvent]:
        """Take bytes; events of any number of streams come of them."""
        if not self._connection.dead:
            self._receiver.receive(data, now)
        return self.take_events()

    def receive_eof(self, now: float) -> list[StreamEvent]:
        """The visitor left."""
        del now
        self._connection.end_streams(ErrorCode.CANCEL)
        self._connection.dead = True
        return self.take_events()

    def acknowledge(self, stream: int, n: int) -> None:
        """``n`` octets were consumed: the peer may send as many again, in time."""
        known = self._streams.get(stream)
        if known is not None:
            n = min(n, known.unacknowledged)
            known.unacknowledged -= n
            self._connection.library.acknowledge_received_data(n, stream)

    def reset(self, stream: int, code: int = ErrorCode.INTERNAL_ERROR) -> None:
        """Give a stream up: RST_STREAM, and what is queued on it is dropped."""
        known = self._streams.get(stream)
        if known is not None and known.known:
            self._connection.reset(known, code)
            self._connection.events.append((stream, Closed()))

    def sendable(self, stream: int) -> int:
        """What the windows of stream and connection leave, beyond what is queued."""
        known = self._streams.get(stream)
        if known is None or known.state is ENDED:
            return 0
        window = min(self._connection.library.outbound_flow_control_window, known.machine.outbound_flow_control_window)
        return max(0, window - known.queued)

    def writable(self, stream: int) -> bool:
        """True, too, where the stream is over: what is sent on it is dropped."""
        known = self._streams.get(stream)
        return known is None or self._sender.writable(known)

    def queued(self, stream: int) -> int:
        """Octets that wait."""
        known = self._streams.get(stream)
        return 0 if known is None else known.queued

    def window(self, stream: int) -> int:
        """What the stream's own window leaves."""
        known = self._streams.get(stream)
        return 0 if known is None else known.machine.outbound_flow_control_window

    def unread(self, stream: int) -> int:
        """Octets of a request that were given out and not acknowledged."""
        known = self._streams.get(stream)
        return 0 if known is None else known.unacknowledged

    @property
    def held_back(self) -> bool:
        """What was not acknowledged fills the connection's window, or may: of what was, the library has not told the
        peer up to a half yet."""
        unread = sum(stream.unacknowledged for stream in self._streams.values())
        return 2 * unread >= self._connection.limits.connection_window

    @property
    def sent(self) -> int:
        """Octets of bodies that have left since the connection began."""
        return self._sender.sent

    @property
    def lingers(self) -> bool:
        """Answers are out whose requests are not whole: call :meth:`let_go` from time to time."""
        return bool(self._connection.lingering)

    def let_go(self) -> None:
        """RST_STREAM(NO_ERROR) for those that lingered at the last call, too."""
        self._connection.let_go()

    def data_to_send(self, room: int = EVERYTHING) -> list[bytes]:
        """What can leave, with about ``room`` octets of bodies."""
        return self._sender.take(room)

    def shut_down(self) -> None:
        """Say that the connection ends; said again, once the peer has heard it, or when idle, take no new stream.

        A request that was under way to an idle connection is known not to have been heard, and can be sent elsewhere.
        """
        self._connection.shut_down()

    def send(self, stream: int, event: Event) -> None:
        """Queue an event of an answer; dropped without a word where the stream is over.

        :raises MisuseError: out of order, a body longer or shorter than its length, or a field with CR or LF
        """
        known = self._streams.get(stream)
        if known is None:
            return
        state, sender = known.state, self._sender
        if isinstance(event, Body) and state is SENDING:
            sender.body(known, event.data)
        elif isinstance(event, ResponseHead) and state is AWAITING:
            if known.tunnel and event.status < 300:
                self._switch(known, event)
            elif event.status == 101:
                raise MisuseError("101 answers a request that asked for nothing else")
            else:
                sender.head(known, event)
        elif isinstance(event, End) and state is SENDING:
            known.deaf = True
            sender.end(known, event.trailers)
        elif isinstance(event, Raw) and state is TUNNEL:
            sender.body(known, event.data)
        elif isinstance(event, RawEnd) and state is TUNNEL:
            sender.end(known, [])
        elif isinstance(event, InformationalHead) and state is AWAITING:
            sender.interim(known, event)
        else:
            raise MisuseError(f"{type(event).__name__} cannot be sent while {state}")

    def send_whole(self, stream: int, head: ResponseHead, body: bytes) -> None:
        """Queue a whole answer: :meth:`send` of its head, its body (if there is one) and its end."""
        self.send(stream, head)
        if body:
            self.send(stream, Body(body))
        self.send(stream, _END)

    def _switch(self, stream: Stream, head: ResponseHead) -> None:
        if head.status != 101 or not is_accepted(stream.key, head.fields):
            # a success that opens no WebSocket would be taken for one (RFC 8441 §5)
            self._sender.whole(stream, _BAD_ANSWER)
            self._connection.reset(stream, ErrorCode.NO_ERROR)
            self._connection.events.append((stream.id, Abandoned(ErrorCode.NO_ERROR)))
            return
        lines = plain_fields(head.fields)
        fields = [line for line in lines if line[0] != b"sec-websocket-accept"]
        self._sender.switch(stream, [HeaderTuple(b":status", b"200"), *fields])
        early, stream.early = stream.early, []
        self._connection.events += [(stream.id, Raw(piece)) for piece in early]
        if stream.early_end:
            self._connection.events.append((stream.id, RawEnd()))
