"""The origin's side of HTTP/1: requests in, answers out, one at a time.

Reading goes IDLE → HEAD (a request is under way) → BODY → IDLE, writing IDLE → BODY → SENT → IDLE.  A 101 makes both
RAW; DEAD is the end.  What the origin says is judged as strictly as what a visitor says: an answer whose end is in
doubt is ``Failed`` with 502, and no connection is used again after one.
"""

from __future__ import annotations

from wormhole_tw.errors import HttpError, MisuseError
from wormhole_tw.http.events import (
    Body,
    End,
    Event,
    Failed,
    Framing,
    InformationalHead,
    Raw,
    RawEnd,
    RequestHead,
    ResponseHead,
)
from wormhole_tw.http.grammar import CR, LF
from wormhole_tw.http.h1.answers import parse_response
from wormhole_tw.http.h1.bodies import BodyReader, ChunkedReader, CloseReader, LengthReader
from wormhole_tw.http.h1.framer import HeadBuffer
from wormhole_tw.http.h1.limits import DEFAULT_LIMITS, UNLIMITED, H1Limits
from wormhole_tw.http.h1.writer import common_request_head, last_chunk, request_head, write_chunk
from wormhole_tw.http.interfaces import StreamEvent
from wormhole_tw.http.memo import MAX_HEAD

__all__ = ["H1ClientCodec"]


# Names, not members of an Enum: reading one from its class costs 0.1 µs on Python 3.11, a global a tenth of that.
READING_IDLE = "idle"
READING_HEAD = "head"
READING_BODY = "body"
READING_RAW = "raw"
READING_DEAD = "dead"
WRITING_IDLE = "idle"
WRITING_BODY = "body"
WRITING_SENT = "sent"
WRITING_RAW = "raw"
WRITING_DEAD = "dead"

_END = End()

_NONE = Framing.NONE
_LENGTH = Framing.LENGTH
_CHUNKED = Framing.CHUNKED
_CLOSE = Framing.CLOSE


class H1ClientCodec:
    """A connection to an origin; see :class:`wormhole_tw.http.interfaces.ClientCodec`.

    The fields of a request are written as they are, after ``Host`` (from ``authority``) and without what the codec
    owns: they come from :func:`wormhole_tw.http.forwarding.request_towards_origin`, which leaves those out.  An answer
    may end before its request is sent: what is sent after that is dropped, and the connection closes.  ``Failed`` on
    stream 0 is a fault between two answers.

    Reasons of ``Failed``: ``origin-closed`` (not one byte of an answer came), ``answer-truncated``, ``bad-answer``.
    """

    __slots__ = (
        "_body",
        "_closing",
        "_framing",
        "_head",
        "_interim",
        "_keep_alive",
        "_known",
        "_known_octets",
        "_left",
        "_limits",
        "_method",
        "_out",
        "_reading",
        "_touched",
        "_unacknowledged",
        "_upgrade",
        "_writing",
        "output_ended",
        "request_id",
        "should_abort",
        "stream",
    )

    def __init__(self, limits: H1Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._head = HeadBuffer(limits)
        self._out: list[bytes] = []
        self._reading = READING_IDLE
        self._writing = WRITING_IDLE
        self.stream = 0
        self._method = b""
        self._upgrade: bytes | None = None
        self._framing = _NONE
        self._left = 0
        self._body: BodyReader | None = None
        self._interim = 0
        self._touched = False
        self._keep_alive = True
        # the head of the last whole answer, and its octets: a busy service says the same for a second
        self._known: ResponseHead | None = None
        self._known_octets = b""
        self._closing = False
        self._unacknowledged = 0
        self.request_id = b""
        self.output_ended = False
        self.should_abort = False

    @property
    def reusable(self) -> bool:
        """Another request can begin now."""
        return self._reading is READING_IDLE

    @property
    def wants_data(self) -> bool:
        """False while bytes given out are not acknowledged."""
        return self._unacknowledged < self._limits.window

    @property
    def has_held(self) -> bool:
        """Never: nothing is held back from an answer."""
        return False

    @property
    def should_close(self) -> bool:
        """Nothing more will come of this connection."""
        return self._reading is READING_DEAD and self._writing is WRITING_DEAD

    def new_stream(self) -> int:
        """The id for the next request.

        :raises MisuseError: while a request is under way, or the connection has ended
        """
        if self._reading is not READING_IDLE:
            raise MisuseError("no request can begin now")
        return self.stream + 1

    def whole_request(self, head: RequestHead) -> bytes:
        """Begin and end a request without a body; gives its octets, which are to be written at once.

        :raises MisuseError: as :meth:`new_stream` and :meth:`send`
        """
        octets = self._begin(self.stream + 1, head)
        if self._framing is _CHUNKED or self._left:
            raise MisuseError("a request with a body is not whole")
        self._writing = WRITING_SENT
        return octets

    def sendable(self, stream: int) -> int:
        """No limit of its own while the request is being sent."""
        return UNLIMITED if stream == self.stream and self._writing in (WRITING_BODY, WRITING_RAW) else 0

    def receive_data(self, data: bytes, now: float) -> list[StreamEvent]:
        """Take bytes of the answer."""
        del now
        events: list[StreamEvent] = []
        while data:
            reading = self._reading
            if reading is READING_BODY:
                data = self._read_body(data, events)
            elif reading is READING_HEAD:
                self._touched = True
                data = self._read_head(data, events)
            elif reading is READING_RAW:
                self._unacknowledged += len(data)
                events.append((self.stream, Raw(data)))
                break
            elif reading is READING_IDLE:
                self._fail(0, HttpError(502, "bad-answer", "The origin sent bytes that answer no request."), events)
                break
            else:
                break
        return events

    def receive_whole(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """A whole answer that is all of ``data``, with a head that came before, octet for octet, and a body of the
        length that it says: taken in one step.

        :returns: its head and body, and the codec is ready for the next request; or None where :meth:`receive_data`
            must look, and nothing was done
        """
        if self._reading is not READING_HEAD or self._writing is not WRITING_SENT or self._touched or self._closing:
            return None
        if self._upgrade is not None or self._method == b"HEAD":
            return None
        head = self._known
        if head is not None and data.startswith(self._known_octets):
            end = len(self._known_octets)
        else:
            end = data.find(b"\r\n\r\n", 0, MAX_HEAD) + 4
            octets = data[:end]
            head = self._limits.answers.get((False, octets))
            if head is None or head.framing is not _LENGTH or not head.length or not head.keep_alive:
                return None
            head.common = True
            self._known = head
            self._known_octets = octets
        if head.length != len(data) - end:
            return None
        self._reading = READING_IDLE
        self._writing = WRITING_IDLE
        return head, data[end:]

    def _read_head(self, data: bytes, events: list[StreamEvent]) -> bytes:
        stream = self.stream
        try:
            split = self._head.split(data)
            if split is not None:
                raw, rest = split
            else:
                taken = self._head.take(data, skip_blank=False)
                if taken is None:
                    return b""
                raw, rest = taken, bytes(self._head.held)
                self._head.held.clear()
            head = parse_response(raw, self._limits, method=self._method, upgrade=self._upgrade)
        except HttpError as error:
            self._fail(stream, error, events)
            return b""
        if isinstance(head, InformationalHead):
            self._interim += len(raw)
            if self._interim > self._limits.interim:
                self._fail(stream, HttpError(502, "bad-answer", "The origin's interim answers have no end."), events)
                return b""
            events.append((stream, head))
            return rest
        if head.status == 101 and self._writing is not WRITING_SENT:
            self._fail(stream, HttpError(502, "bad-answer", "The origin switched before the request's end."), events)
            return b""
        events.append((stream, head))
        self._keep_alive = head.keep_alive
        if head.status == 101:
            self._reading = READING_RAW
            self._writing = WRITING_RAW
        elif head.framing is _CHUNKED:
            self._body = ChunkedReader(self._limits)
            self._reading = READING_BODY
        elif head.framing is _CLOSE:
            self._body = CloseReader()
            self._reading = READING_BODY
        elif head.framing is _LENGTH and head.length:
            if len(rest) == head.length:
                # as most answers come: whole
                events.append((stream, Body(rest)))
                events.append((stream, _END))
                self._finish()
                return b""
            self._body = LengthReader(head.length)
            self._reading = READING_BODY
        else:
            events.append((stream, End()))
            self._finish()
        return rest

    def _read_body(self, data: bytes, events: list[StreamEvent]) -> bytes:
        body = self._body
        assert body is not None
        stream = self.stream
        pieces: list[bytes] = []
        failure: HttpError | None = None
        end = -1
        try:
            end = body.feed(data, pieces)
        except HttpError as error:
            failure = error
        for piece in pieces:
            self._unacknowledged += len(piece)
            events.append((stream, Body(piece)))
        if failure is not None:
            self._fail(stream, failure, events)
        if end < 0:
            return b""
        events.append((stream, End(body.trailers)))
        self._finish()
        return data[end:]

    def _finish(self) -> None:
        self._body = None
        self._unacknowledged = 0
        if self._keep_alive and not self._closing and self._writing is WRITING_SENT:
            self._reading = READING_IDLE
            self._writing = WRITING_IDLE
        else:
            self._die()

    def receive_eof(self, now: float) -> list[StreamEvent]:
        """The origin ended its direction: the end of a body without a length, or ``Failed`` where more was due."""
        del now
        events: list[StreamEvent] = []
        stream = self.stream
        reading = self._reading
        if reading is READING_RAW:
            events.append((stream, RawEnd()))
            self._reading = READING_DEAD
            if self.output_ended:
                self._die()
        elif reading is READING_BODY and isinstance(self._body, CloseReader):
            events.append((stream, End()))
            self._die()
        elif reading is READING_BODY or (reading is READING_HEAD and self._touched):
            error = HttpError(502, "answer-truncated", "The origin's answer ended before its end (truncated).")
            self._fail(stream, error, events)
        elif reading is READING_HEAD:
            self._fail(stream, HttpError(502, "origin-closed", "The origin closed without an answer."), events)
        else:
            self._die()
        return events

    def _fail(self, stream: int, error: HttpError, events: list[StreamEvent]) -> None:
        if error.status != 502:
            error = HttpError(502, "bad-answer", f"The origin's answer is refused. {error.message}")
        events.append((stream, Failed(error)))
        self._die()
        self.should_abort = True

    def _die(self) -> None:
        self._reading = READING_DEAD
        self._writing = WRITING_DEAD
        self._body = None
        self._head.held.clear()
        self._unacknowledged = 0

    def acknowledge(self, stream: int, n: int) -> None:
        """``n`` octets were consumed."""
        if stream == self.stream and self._reading in (READING_BODY, READING_RAW):
            self._unacknowledged -= n

    def reset(self, stream: int, code: int = 0) -> None:
        """Give the request up, and with it the connection."""
        del code
        if stream == self.stream and self._reading is not READING_IDLE and not self.should_close:
            self._die()
            self.should_abort = True

    def shut_down(self) -> None:
        """Close after the answer under way, or now; a switched connection goes on until it ends."""
        self._closing = True
        if self._reading is READING_IDLE:
            self._die()

    def data_to_send(self) -> list[bytes]:
        """Take what is queued."""
        out = self._out
        if out:
            self._out = []
        return out

    def send(self, stream: int, event: Event) -> None:
        """Queue an event of the request; dropped without a word once its answer or the connection has ended.

        :raises MisuseError: out of order, a body longer or shorter than its length, or a field with CR or LF
        """
        writing = self._writing
        if isinstance(event, RequestHead):
            self._out.append(self._begin(stream, event))
            return
        if writing is WRITING_DEAD:
            return
        if stream != self.stream:
            raise MisuseError(f"stream {stream} is not the open one")
        if isinstance(event, Body) and writing is WRITING_BODY:
            self._send_body(event.data)
        elif isinstance(event, End) and writing is WRITING_BODY:
            if self._framing is _CHUNKED:
                self._out.append(last_chunk(event.trailers))
            elif self._left:
                raise MisuseError("the request's body is shorter than its length")
            self._writing = WRITING_SENT
        elif isinstance(event, Raw) and writing is WRITING_RAW and not self.output_ended:
            self._out.append(event.data)
        elif isinstance(event, RawEnd) and writing is WRITING_RAW and not self.output_ended:
            self.output_ended = True
            if self._reading is READING_DEAD:
                self._die()
        else:
            raise MisuseError(f"{type(event).__name__} cannot be sent while {writing}")

    def _begin(self, stream: int, head: RequestHead) -> bytes:
        if self._reading is not READING_IDLE:
            raise MisuseError("no request can begin now")
        if stream != self.stream + 1:
            raise MisuseError(f"stream {stream} is not the next one")
        written = head.written or (common_request_head(head) if head.common else request_head(head))
        request_id = self.request_id
        if request_id:
            if LF in request_id or CR in request_id:
                raise MisuseError("a request's id has a line end in it")
            written = b"%sX-Request-Id: %s\r\n\r\n" % (written[:-2], request_id)
        self.stream = stream
        self._method = head.method
        self._upgrade = head.upgrade
        self._framing = head.framing
        self._left = head.length or 0
        self._interim = 0
        self._touched = False
        self._unacknowledged = 0
        self._reading = READING_HEAD
        self._writing = WRITING_BODY
        return written

    def _send_body(self, data: bytes) -> None:
        if self._framing is _CHUNKED:
            write_chunk(data, self._out)
            return
        self._left -= len(data)
        if self._left < 0:
            raise MisuseError("the request's body is longer than its length")
        self._out.append(data)
