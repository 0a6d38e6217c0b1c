"""The service's side of HTTP/2 with prior knowledge (RFC 9113 §3.3): many requests out, many answers in.

What comes is judged as what comes from visitors is: a fault of one stream is its RST_STREAM and nobody else's, a fault
of the connection is a GOAWAY, what floods has a budget.
"""

from __future__ import annotations

from wormhole_tw.errors import HttpError, MisuseError
from wormhole_tw.http.events import Body, End, Event, Failed, Framing, Raw, RawEnd, RequestHead, ResponseHead
from wormhole_tw.http.grammar import CR, LF, NUL
from wormhole_tw.http.h2.answers_in import AnswerReceiver
from wormhole_tw.http.h2.client_connection import ClientConnection
from wormhole_tw.http.h2.codec import H2Codec
from wormhole_tw.http.h2.connection import LEAVING
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.fields import request_fields
from wormhole_tw.http.h2.headers import literal
from wormhole_tw.http.h2.limits import DEFAULT_LIMITS, H2Limits
from wormhole_tw.http.h2.streams import AWAITING, SENDING, TUNNEL
from wormhole_tw.http.interfaces import StreamEvent

__all__ = ["H2ClientCodec"]

_END = End()

_LENGTH = Framing.LENGTH
_NONE = Framing.NONE
_CLOSE = Framing.CLOSE


class H2ClientCodec(H2Codec):
    """A connection to a service; see :class:`wormhole_tw.http.interfaces.ManyStreamsClientCodec`.

    ``upgrade`` of a request is a WebSocket's: it goes as extended CONNECT (RFC 8441), and its success comes back as the
    101 that proves the request's key.  An answer may end before its request is sent: what is sent after that is
    dropped.

    A stream's last event is ``End``, ``RawEnd`` (once ours is sent too), ``Failed`` where the service broke a rule, or
    ``Abandoned`` with the code of its RST_STREAM; REFUSED_STREAM says that the request was not processed, by the
    service's own word or by its GOAWAY.

    Reasons of ``Failed``: ``not-http2`` (the first octets of the service are no HTTP/2), ``bad-answer``,
    ``origin-closed`` (of :meth:`receive_eof`).
    """

    __slots__ = ("request_id",)

    _connection: ClientConnection

    def __init__(self, limits: H2Limits = DEFAULT_LIMITS) -> None:
        connection = ClientConnection(limits)
        super().__init__(connection, AnswerReceiver(connection))
        self.request_id = b""

    @property
    def reusable(self) -> bool:
        """Another request can begin now."""
        return self._connection.open_to_requests

    @property
    def spent(self) -> bool:
        """No request can begin any more."""
        return self._connection.spent

    @property
    def settled(self) -> bool:
        """The service has said its SETTINGS: it speaks HTTP/2, and :attr:`connects` means something."""
        return self._connection.settled

    @property
    def connects(self) -> bool:
        """The service takes WebSockets (RFC 8441)."""
        return self._connection.connects

    @property
    def left(self) -> tuple[int, bytes] | None:
        """Code and text of the service's GOAWAY, or None where it has said none."""
        connection = self._connection
        return None if connection.leave_code is None else (connection.leave_code, connection.leave_why)

    @property
    def should_close(self) -> bool:
        """Nothing more will come of this connection."""
        connection = self._connection
        return connection.dead or (not self._streams and (connection.peer_leaves or connection.phase is LEAVING))

    def receive_whole(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """Never: octets of several answers may come together."""
        del data
        return None

    def receive_eof(self, now: float) -> list[StreamEvent]:
        """The service closed: every answer that is not whole has failed."""
        del now
        if not self._connection.dead:
            error = HttpError(502, "origin-closed", "The service closed before its answer's end.")
            self._connection.end_streams(Failed(error))
        return self.take_events()

    def acknowledge(self, stream: int, n: int) -> None:
        """See the base; whoever keeps pace with an answer gets more of it at a time."""
        super().acknowledge(stream, n)
        known = self._streams.get(stream)
        if known is not None and not known.unacknowledged and not known.remote_ended:
            known.taken += n
            if known.taken >= known.window:
                known.taken = 0
                self._connection.read_on(known)

    def reset(self, stream: int, code: int = ErrorCode.CANCEL) -> None:
        """Give a request up; no event follows."""
        known = self._streams.get(stream)
        if known is not None and known.known:
            self._connection.cancelled += 1
            self._connection.reset(known, code)

    def finish(self, stream: int) -> None:
        """End a WebSocket behind what is queued on it; what still comes of it is dropped, and no event follows.

        A service that does not end its side is reset by :meth:`let_go`.
        """
        known = self._streams.get(stream)
        if known is None:
            return
        known.deaf = True
        known.known = False
        self._connection.lingering[stream] = known
        if known.state is TUNNEL:
            self._sender.end(known, [])

    def shut_down(self) -> None:
        """Take no new request; those that are open go on."""
        self._connection.shut_down()

    def new_stream(self) -> int:
        """The id for the next request.

        :raises MisuseError: none can begin
        """
        if not self._connection.open_to_requests:
            raise MisuseError("no request can begin now")
        return self._connection.highest + 2 if self._connection.highest else 1

    def send_whole(self, head: RequestHead) -> int:
        """Queue a request without a body, head and end; gives its stream.

        :raises MisuseError: as :meth:`new_stream` and :meth:`send`
        """
        if head.framing is not _NONE and head.length != 0:
            raise MisuseError("a request with a body is not whole")
        stream = self.new_stream()
        self._send_head(stream, head)
        self.send(stream, _END)
        return stream

    def send(self, stream: int, event: Event) -> None:
        """Queue an event of a request; dropped without a word where the stream is over.

        :raises MisuseError: out of order, a body longer or shorter than its length, a field with CR or LF, or a
            WebSocket for a service that takes none
        """
        if isinstance(event, RequestHead):
            self._send_head(stream, event)
            return
        known = self._streams.get(stream)
        if known is None:
            return
        state = known.state
        if isinstance(event, Body) and state is SENDING:
            self._sender.body(known, event.data)
        elif isinstance(event, End) and state is SENDING:
            if known.tunnel:
                # it has no body; what follows its answer is of the WebSocket
                known.state = AWAITING
            else:
                self._sender.end(known, event.trailers)
        elif isinstance(event, Raw) and state is TUNNEL:
            self._sender.body(known, event.data)
        elif isinstance(event, RawEnd) and state is TUNNEL:
            self._sender.end(known, [])
        else:
            raise MisuseError(f"{type(event).__name__} cannot be sent while {state}")

    def _send_head(self, stream: int, head: RequestHead) -> None:
        if stream != self.new_stream():
            raise MisuseError(f"stream {stream} is not the next one")
        if head.framing is _CLOSE:
            raise MisuseError("a request cannot end with its connection")
        upgrade = head.upgrade is not None
        if upgrade and not self._connection.connects:
            raise MisuseError("the service takes no WebSocket")
        fields = request_fields(head)
        more = b""
        if self.request_id:
            if LF in self.request_id or CR in self.request_id or NUL in self.request_id:
                raise MisuseError("a request's id has a line end in it")
            more = literal(b"x-request-id", self.request_id)
        known = self._connection.open(stream, head)
        if upgrade:
            known.tunnel = True
            known.key = next((value for name, value in head.fields if name.lower() == b"sec-websocket-key"), b"")
            self._sender.head(known, fields, None, more)
        else:
            length = (head.length or 0) if head.framing is _LENGTH else 0 if head.framing is _NONE else None
            self._sender.head(known, fields, length, more)
