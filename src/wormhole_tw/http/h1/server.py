"""The visitor's side of HTTP/1: requests out, answers in.

Two small machines, one a direction.  Reading goes HEAD → BODY → HELD (the request is whole, its answer is not) → HEAD,
by DRAIN where the answer was whole first; writing goes IDLE → WAITING (a request is there) → BODY → IDLE.  A 101 makes
both RAW; DEAD is the end.  Events of a request come only when the answer before
it is completely sent, so an exchange never meets its neighbour; its own body goes on being read meanwhile.
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
from wormhole_tw.http.h1.bodies import BodyReader, ChunkedReader, LengthReader
from wormhole_tw.http.h1.framer import HeadBuffer
from wormhole_tw.http.h1.limits import DEFAULT_LIMITS, UNLIMITED, H1Limits
from wormhole_tw.http.h1.requests import parse_request
from wormhole_tw.http.h1.writer import (
    JOIN_WHOLE_BELOW,
    common_response_head,
    informational_head,
    last_chunk,
    plain_answer,
    response_head,
    write_chunk,
)
from wormhole_tw.http.interfaces import StreamEvent

__all__ = ["H1ServerCodec"]

REFUSED = RequestHead(b"GET", b"/", b"", (1, 1), [], keep_alive=False)
"""Stands for a request whose head was refused, so that it can be answered."""

REFUSED_HEAD = RequestHead(b"HEAD", b"/", b"", (1, 1), [], keep_alive=False)
"""The same where its first octets ask for no body."""


# Names, not members of an Enum: reading one from its class costs 0.1 µs on Python 3.11, a global a tenth of that.
READING_HEAD = "head"
READING_BODY = "body"
READING_HELD = "held"
READING_DRAIN = "drain"
READING_RAW = "raw"
READING_DEAD = "dead"
WRITING_IDLE = "idle"
WRITING_WAITING = "waiting"
WRITING_BODY = "body"
WRITING_RAW = "raw"
WRITING_DEAD = "dead"

_END = End()

_NONE = Framing.NONE
_LENGTH = Framing.LENGTH
_CHUNKED = Framing.CHUNKED
_CLOSE = Framing.CLOSE


class H1ServerCodec:
    """A visitor's connection; see :class:`wormhole_tw.http.interfaces.ServerCodec`.

    A refused request is ``Failed`` on its stream; it can be answered, and the connection closes after the answer.
    An answer that ends before its request was read whole throws the rest away, up to ``limits.drain`` octets, and else
    closes.  The body of an answer that must not have one (HEAD, 204, 304) is dropped.
    """

    __slots__ = (
        "_body",
        "_closing",
        "_continued",
        "_drained",
        "_ended",
        "_framing",
        "_head",
        "_left",
        "_limits",
        "_out",
        "_reading",
        "_request",
        "_stream",
        "_unacknowledged",
        "_writing",
        "head_since",
        "output_ended",
        "should_abort",
    )

    def __init__(self, limits: H1Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._head = HeadBuffer(limits)
        self._out: list[bytes] = []
        self._reading = READING_HEAD
        self._writing = WRITING_IDLE
        self._stream = 0
        self._request = REFUSED
        self._body: BodyReader | None = None
        self._drained = 0
        self._framing = _NONE
        self._left = 0
        self._unacknowledged = 0
        self._continued = False
        self._closing = False
        self._ended = False
        self.head_since: float | None = None
        """when the first byte of a head that is not whole yet came, for the listener's head timeout"""
        self.output_ended = False
        self.should_abort = False

    @property
    def wants_data(self) -> bool:
        """False while later requests fill their buffer, or bytes given out are not acknowledged."""
        if self._reading is READING_HELD:
            return len(self._head.held) < self._limits.held
        return self._unacknowledged < self._limits.window

    @property
    def has_held(self) -> bool:
        """Bytes of the next request (or of the switched protocol) wait for ``receive_data(b"", now)``."""
        return (bool(self._head.held) or self._ended) and self._reading in (READING_HEAD, READING_RAW)

    @property
    def should_close(self) -> bool:
        """Nothing more will come of this connection."""
        return self._writing is WRITING_DEAD

    @property
    def idle(self) -> bool:
        """Between requests, with no byte of the next one."""
        return self._reading is READING_HEAD and not self._head.held

    @property
    def waits_for_answer(self) -> bool:
        """The request is whole, nothing of the next one has come, and nothing waits to be sent."""
        return self._reading is READING_HELD and not self._out and not self._head.held and not self._ended

    def sendable(self, stream: int) -> int:
        """No limit of its own while the stream is open."""
        return UNLIMITED if stream == self._stream and self._writing not in (WRITING_IDLE, WRITING_DEAD) else 0

    def receive_data(self, data: bytes, now: float) -> list[StreamEvent]:
        """Take bytes; events of at most one request come of them."""
        events: list[StreamEvent] = []
        held = self._head.held
        while True:
            reading = self._reading
            if reading is READING_HEAD:
                if not data and not held:
                    break
                if not self._read_head(data, now, events):
                    break
                data = b""
                continue
            if reading is READING_HELD:
                held += data
                break
            if held:
                # Left behind a head: it comes first.
                held += data
                data = bytes(held)
                held.clear()
            if not data or reading is READING_DEAD:
                break
            if reading is READING_RAW:
                self._unacknowledged += len(data)
                events.append((self._stream, Raw(data)))
                break
            data = self._drain(data) if reading is READING_DRAIN else self._read_body(data, events)
        if self._ended:
            self._judge_end(events)
        return events

    def receive_whole(self, data: bytes) -> tuple[int, RequestHead] | None:
        """A request without a body that is all of ``data``, and came before, octet for octet: one look-up begins it.

        :returns: its stream and head (and no ``End`` follows), or None where :meth:`receive_data` must look; nothing
            was done then
        """
        head = self._head
        if self._reading is not READING_HEAD or self._ended or head.held or head.skipped:
            return None
        request: RequestHead | None = self._request
        if not data or self._request.octets != data:  # to look octets up costs more than to compare them
            request = self._limits.requests.get(data)
        if request is None or request.framing is not _NONE:
            return None
        request.common = True
        self._reading = READING_HELD
        return self._begin(request), request

    def _read_head(self, data: bytes, now: float, events: list[StreamEvent]) -> bool:
        head: bytes | bytearray | None = None
        request = REFUSED
        failure: HttpError | None = None
        try:
            head = self._head.take(data, skip_blank=True)
            if head is None:
                if self.head_since is None:
                    self.head_since = now
                return False
            request = parse_request(head, self._limits)
        except HttpError as error:
            failure = error
            if (head or self._head.held).startswith(b"HEAD "):
                request = REFUSED_HEAD
        stream = self._begin(request)
        if failure is not None:
            self._fail(failure, events)
            return False
        events.append((stream, request))
        if request.framing is _CHUNKED:
            self._body = ChunkedReader(self._limits)
            self._reading = READING_BODY
        elif request.length:
            self._body = LengthReader(request.length)
            self._reading = READING_BODY
        else:
            events.append((stream, _END))
            self._reading = READING_HELD
        return True

    def _begin(self, request: RequestHead) -> int:
        self.head_since = None
        self._stream += 1
        self._request = request
        self._writing = WRITING_WAITING
        self._unacknowledged = 0
        self._continued = False
        return self._stream

    def refuse(self, error: HttpError) -> list[StreamEvent]:
        """Give up on a head that is not whole (too slow): ``Failed`` on a stream of its own, which can be answered.

        :raises MisuseError: while a request is under way
        """
        if self._reading is not READING_HEAD:
            raise MisuseError("a request is under way")
        events: list[StreamEvent] = []
        self._begin(REFUSED)
        self._fail(error, events)
        return events

    def _read_body(self, data: bytes, events: list[StreamEvent]) -> bytes:
        body = self._body
        assert body is not None
        pieces: list[bytes] = []
        failure: HttpError | None = None
        end = -1
        try:
            end = body.feed(data, pieces)
        except HttpError as error:
            failure = error
        for piece in pieces:
            self._unacknowledged += len(piece)
            events.append((self._stream, Body(piece)))
        self._continued = True
        if failure is not None:
            self._fail(failure, events)
        if end < 0:
            return b""
        events.append((self._stream, End(body.trailers)))
        self._body = None
        self._reading = READING_HELD
        return data[end:]

    def _drain(self, data: bytes) -> bytes:
        body = self._body
        assert body is not None
        try:
            end = body.feed(data, [])
        except HttpError:
            self._die()
            return b""
        self._drained += len(data) if end < 0 else end
        if self._drained > self._limits.drain:
            self._die()
        if end < 0:
            return b""
        self._body = None
        if self._reading is READING_DRAIN:
            self._reading = READING_HEAD
        return data[end:]

    def receive_eof(self, now: float) -> list[StreamEvent]:
        """The visitor ended its direction.

        A request that is whole is still answered, and those that it sent ahead of it too; one that is not whole is
        ``Failed``, or nothing where its head is not.
        """
        del now
        self._ended = True
        events: list[StreamEvent] = []
        self._judge_end(events)
        return events

    def _judge_end(self, events: list[StreamEvent]) -> None:
        reading = self._reading
        held = self._head.held
        if reading is READING_HEAD or reading is READING_DRAIN:
            self._die()
        elif reading is READING_BODY:
            self._fail(HttpError(400, "request-truncated", "The request ended before its end."), events)
        elif reading is READING_HELD:
            self._closing = self._closing or not held
        elif reading is READING_RAW and not held:
            events.append((self._stream, RawEnd()))
            self._reading = READING_DEAD
            if self.output_ended:
                self._die()

    def _fail(self, error: HttpError, events: list[StreamEvent]) -> None:
        events.append((self._stream, Failed(error)))
        self._closing = True
        self._reading = READING_DEAD
        self._head.held.clear()

    def _die(self) -> None:
        self._reading = READING_DEAD
        self._writing = WRITING_DEAD
        self._body = None
        self._head.held.clear()
        self._unacknowledged = 0

    def acknowledge(self, stream: int, n: int) -> None:
        """``n`` octets were consumed."""
        if stream == self._stream:
            self._unacknowledged -= n

    def reset(self, stream: int, code: int = 0) -> None:
        """Give the connection up: what was sent of the answer is cut."""
        del code
        if stream == self._stream and self._writing not in (WRITING_IDLE, WRITING_DEAD):
            self._die()
            self.should_abort = True

    def shut_down(self) -> None:
        """Close after the answer that is due, or now; a switched connection goes on until it ends."""
        self._closing = True
        if self._writing is WRITING_IDLE:
            self._die()

    def data_to_send(self) -> list[bytes]:
        """Take what is queued."""
        out = self._out
        if out:
            self._out = []
        return out

    def send(self, stream: int, event: Event) -> None:
        """Queue an event of the answer; dropped without a word where the connection has ended.

        :raises MisuseError: out of order, a body longer or shorter than its length, or a field with CR or LF
        """
        writing = self._writing
        if writing is WRITING_DEAD:
            return
        if stream != self._stream:
            raise MisuseError(f"stream {stream} is not the open one")
        if isinstance(event, Body) and writing is WRITING_BODY:
            self._send_body(event.data)
        elif isinstance(event, ResponseHead) and writing is WRITING_WAITING:
            self._send_head(event)
        elif isinstance(event, End) and writing is WRITING_BODY:
            self._send_end(event)
        elif isinstance(event, Raw) and writing is WRITING_RAW and not self.output_ended:
            self._out.append(event.data)
        elif isinstance(event, RawEnd) and writing is WRITING_RAW and not self.output_ended:
            self.output_ended = True
            if self._reading is READING_DEAD:
                self._die()
        elif isinstance(event, InformationalHead) and writing is WRITING_WAITING:
            self._continued = self._continued or event.status == 100
            if self._request.version != (1, 0):
                # RFC 9110 §15.2: HTTP/1.0 did not define any.
                self._out.append(informational_head(event.status, event.fields))
        else:
            raise MisuseError(f"{type(event).__name__} cannot be sent while {writing}")

    def send_whole(self, stream: int, head: ResponseHead, body: bytes) -> bytes:
        """A whole answer: :meth:`send` of its head, its body (if there is one) and its end.

        :returns: its octets, for the caller to write, where that leaves the codec :attr:`idle`; empty: it was queued
        :raises MisuseError: as :meth:`send`
        """
        if self._writing is WRITING_DEAD:
            return b""
        if stream != self._stream or self._writing is not WRITING_WAITING or head.status == 101:
            raise MisuseError(f"a whole answer cannot be sent on stream {stream} while {self._writing}")
        if head.common and self._reading is READING_HELD and not self._closing:
            known = head.written
            if known is not None and known[0] is self._request and head.keep_alive and head.length == len(body):
                octets: bytes | None = known[1] + body  # a plain answer to this very request before
            else:
                octets = plain_answer(self._request, head, body)
            if octets is not None:
                self._unacknowledged = 0
                self._writing = WRITING_IDLE
                self._reading = READING_HEAD
                if not self._out and not self._head.held:
                    return octets
                self._out.append(octets)
                return b""
        self._send_head(head)
        if body:
            self._send_body(body)
            out = self._out
            if len(out) == 2 and len(body) < JOIN_WHOLE_BELOW:
                out[:] = (out[0] + out[1],)
        self._send_end(_END)
        return b""

    def _send_head(self, head: ResponseHead) -> None:
        request = self._request
        status = head.status
        if status == 101:
            if request.upgrade is None or self._reading is not READING_HELD:
                raise MisuseError("101 answers a request that asked for nothing else")
            self._out.append(response_head(101, head.reason, head.fields, b"Connection: Upgrade\r\n"))
            self._writing = WRITING_RAW
            self._reading = READING_RAW
            return
        length: int | None = None
        if request.method == b"HEAD" or status == 304 or status == 204:
            framing = _NONE
            if status != 204:
                length = head.length
        elif head.framing is _LENGTH or head.framing is _NONE:
            framing = _LENGTH
            length = head.length or 0
        else:
            framing = _CHUNKED if request.version == (1, 1) else _CLOSE
        if (
            not request.keep_alive
            or not head.keep_alive
            or framing is _CLOSE
            # RFC 9110 §10.1.1: nobody knows whether the body that waits for its 100 will come.
            or (request.expect_continue and not self._continued)
        ):
            self._closing = True
        extra = b""
        if length is not None:
            extra = b"Content-Length: %d\r\n" % length
        elif framing is _CHUNKED:
            extra = b"Transfer-Encoding: chunked\r\n"
        if self._closing:
            extra += b"Connection: close\r\n"
        elif request.version == (1, 0):
            extra += b"Connection: keep-alive\r\n"
        if status == 426:
            # RFC 9110 §15.5.22: it names protocols in Upgrade, which is of this connection.
            extra += b"Connection: Upgrade\r\n"
        self._out.append(
            common_response_head(head, extra) if head.common else response_head(status, head.reason, head.fields, extra)
        )
        self._framing = framing
        self._left = length or 0
        self._writing = WRITING_BODY

    def _send_body(self, data: bytes) -> None:
        framing = self._framing
        if framing is _LENGTH:
            self._left -= len(data)
            if self._left < 0:
                raise MisuseError("the answer's body is longer than its length")
            self._out.append(data)
        elif framing is _CHUNKED:
            write_chunk(data, self._out)
        elif framing is _CLOSE:
            self._out.append(data)

    def _send_end(self, end: End) -> None:
        framing = self._framing
        if framing is _CHUNKED:
            self._out.append(last_chunk(end.trailers))
        elif framing is _LENGTH and self._left:
            raise MisuseError("the answer's body is shorter than its length")
        self._unacknowledged = 0
        if self._closing:
            self._die()
            return
        self._writing = WRITING_IDLE
        if self._reading is READING_HELD:
            self._reading = READING_HEAD
            return
        body = self._body
        assert body is not None
        if body.minimum_left() > self._limits.drain:
            self._die()
        else:
            self._drained = 0
            self._reading = READING_DRAIN
