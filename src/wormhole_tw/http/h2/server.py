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
    End,
    Event,
    Framing,
    InformationalHead,
    Raw,
    RawEnd,
    ResponseHead,
)
from wormhole_tw.http.h2.codec import H2Codec
from wormhole_tw.http.h2.connection import LEAVING, ServerConnection
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.fields import answer_fields, plain_fields
from wormhole_tw.http.h2.limits import DEFAULT_LIMITS, H2Limits
from wormhole_tw.http.h2.requests_in import RequestReceiver
from wormhole_tw.http.h2.streams import AWAITING, SENDING, TUNNEL, Stream
from wormhole_tw.http.h2.websocket import is_accepted
from wormhole_tw.http.interfaces import StreamEvent

__all__ = ["H2ServerCodec"]

_END = End()

_LENGTH = Framing.LENGTH
_NONE = Framing.NONE

_BODILESS = (101, 204, 304)
"""Answers with these have no body, whatever their framing says; 101 is none."""

_BAD_ANSWER: list[tuple[bytes, bytes]] = [
    HeaderTuple(b":status", b"502"),
    HeaderTuple(b"x-wormhole-error", b"bad-answer"),
    HeaderTuple(b"content-length", b"0"),
]


class H2ServerCodec(H2Codec):
    """A visitor's connection; see :class:`wormhole_tw.http.interfaces.ManyStreamsCodec`.

    A request that is refused is ``Failed`` and can be answered; a malformed one is never seen.  An answer that ends
    before its request is followed by RST_STREAM(NO_ERROR).  A WebSocket's extended CONNECT is a GET with ``upgrade``;
    a 101 that proves its key becomes the 200 that it waits for, any other success a 502.

    :param random: ``random(n)`` gives n octets, for keys of WebSockets
    """

    __slots__ = ()

    _connection: ServerConnection

    def __init__(self, limits: H2Limits = DEFAULT_LIMITS, random: Callable[[int], bytes] = token_bytes) -> None:
        connection = ServerConnection(limits)
        super().__init__(connection, RequestReceiver(connection, random))

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
    def untold(self) -> dict[str, int]:
        """What no event told of, by reason."""
        connection = self._connection
        counts = {"http2-malformed": connection.malformed, "http2-streams": connection.refused}
        if connection.fault is not None:
            counts["http2-flood" if connection.flooded else "http2-broken"] = 1
        return counts

    @property
    def head_since(self) -> float | None:
        """Since when a head has begun that is not whole."""
        return self._receiver.head_since

    def receive_eof(self, now: float) -> list[StreamEvent]:
        """The visitor left."""
        del now
        self._connection.end_streams(Abandoned(ErrorCode.CANCEL))
        return self.take_events()

    @property
    def held_back(self) -> bool:
        """What was not acknowledged fills the connection's window, or may: of what was, the library has not told the
        peer up to a half yet."""
        unread = sum(stream.unacknowledged for stream in self._streams.values())
        return 2 * unread >= self._connection.limits.connection_window

    def announce_end(self) -> None:
        """Say that the connection ends, and take what was under way until the visitor has heard it, idle or not."""
        self._connection.announce()

    def shut_down(self) -> None:
        """Say that the connection ends; said again, once the peer has heard it, or when idle, take no new stream.

        A request that was under way to an idle connection is known not to have been heard, and can be sent elsewhere.
        """
        self._connection.shut_down()

    def opens(self, stream: int, head: ResponseHead) -> bool:
        """Whether a head opens the WebSocket that its stream asks for; any other success becomes a bare 502."""
        known = self._streams.get(stream)
        return known is None or (head.status == 101 and is_accepted(known.key, head.fields))

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
                self._head(known, event)
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
        known = self._streams.get(stream)
        if known is None:
            return
        request = known.request
        if (
            known.state is AWAITING
            and known.remote_ended
            and not known.tunnel
            and head.framing is _LENGTH
            and head.length == len(body) > 0
            and head.status not in _BODILESS
            and request is not None
            and request.method != b"HEAD"
        ):
            known.deaf = True
            self._sender.answer(known, answer_fields(head, head.status, head.length), body)
            return
        self.send(stream, head)
        if body:
            self.send(stream, Body(body))
        self.send(stream, _END)

    def _head(self, stream: Stream, head: ResponseHead) -> None:
        status, request = head.status, stream.request
        length: int | None = None
        body: int | None = None
        if (request is not None and request.method == b"HEAD") or status == 304 or status == 204:
            stream.bodiless = True
            if status != 204:
                length = head.length
        elif head.framing is _LENGTH:
            length = body = head.length or 0
        elif head.framing is _NONE:
            # its END_STREAM says as much
            body = 0
        self._sender.head(stream, answer_fields(head, status, length), body)

    def _switch(self, stream: Stream, head: ResponseHead) -> None:
        if not self.opens(stream.id, head):
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
