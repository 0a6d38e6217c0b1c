"""The shell of the client codec of HTTP/1: one connection towards an upstream, one request on it at a time.

Its rhythm: feed, hand the events to the handler, let the handler flush, look whether to go on reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ITCPTransport, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.complaints import host_of
from wormhole_tw.edge.interfaces import IUpstreamRequest
from wormhole_tw.edge.writing import joined
from wormhole_tw.errors import MisuseError, StreamReset, TimedOut
from wormhole_tw.http.events import (
    Body,
    End,
    Event,
    Failed,
    InformationalHead,
    Raw,
    RawEnd,
    RequestHead,
    ResponseHead,
)
from wormhole_tw.wire.codes import ResetCode

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.interfaces import IAnswerHandler, IUpstream
    from wormhole_tw.edge.upstreams.pool import Pool
    from wormhole_tw.http.interfaces import OneStreamClientCodec, StreamEvent
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["UpstreamConnection"]

log = Logger()

_BODILESS = (b"GET", b"HEAD")


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer, IUpstreamRequest)
class UpstreamConnection:
    """One connection.  The pool makes it; an exchange uses it between :meth:`request` and ``on_end`` or ``on_failure``.

    :ivar upstream: where it leads
    :ivar visitor: the visitor connection it is dedicated to, or None
    :ivar keep: whether it may be used again
    :ivar idle_since: when it was given back, on the wheel's clock
    :ivar key: that of its shelf in the pool
    :ivar requests: how many were begun on it
    """

    __slots__ = (
        "_answered",
        "_begun",
        "_codec",
        "_feeding",
        "_half_closed",
        "_handler",
        "_limits",
        "_over",
        "_paused",
        "_pool",
        "_stream",
        "_timer",
        "_timers",
        "_transport",
        "_waiting",
        "_whole",
        "_writable",
        "factory",
        "idle_since",
        "keep",
        "key",
        "requests",
        "upstream",
        "visitor",
    )

    transport: ITransport | None

    def __init__(
        self,
        upstream: IUpstream,
        pool: Pool,
        codec: OneStreamClientCodec,
        timers: TimerWheel,
        limits: Limits,
        *,
        visitor: ConnectionFacts | None = None,
        keep: bool = True,
    ) -> None:
        self.upstream = upstream
        self.visitor = visitor
        self.key = (upstream.key, visitor)
        self.keep = keep
        self.idle_since = 0.0
        self.requests = 0
        self.factory = None
        self._pool = pool
        self._codec = codec
        self._timers = timers
        self._limits = limits
        self._transport: ITCPTransport | None = None
        self._handler: IAnswerHandler | None = None
        self._stream = 0
        self._begun = False
        self._answered = False
        self._paused = False
        self._feeding = False
        self._writable = True
        self._whole = False
        self._half_closed = False
        self._over = False
        # first byte of the answer while busy, time on the shelf while idle: one timer, for both never run together; it
        # is not cancelled in between, which would cost more than a look when it comes
        self._timer: Timer | None = None
        self._waiting = False

    # what an exchange calls

    @property
    def reused(self) -> bool:
        """See the interface."""
        return self.requests > 1

    @property
    def writable(self) -> bool:
        """See the interface."""
        return self._writable

    def request(
        self, head: RequestHead, handler: IAnswerHandler, *, whole: bool = False, request_id: bytes = b""
    ) -> None:
        """Begin a request; nothing leaves before :meth:`flush`, unless it is whole.

        :param whole: it has no body: there is nothing to :meth:`send`
        :param request_id: what the service gets as ``X-Request-Id``
        :raises MisuseError: one is running, or the connection is over
        """
        if self._handler is not None or self._over:
            raise MisuseError("the connection cannot take a request now")
        self._handler = handler
        limits = self._limits = handler.limits
        self._begun = False
        self._answered = False
        self.requests += 1
        codec = self._codec
        codec.request_id = request_id
        self._whole = self._waiting = whole
        if whole:
            octets = codec.whole_request(head)
            self._stream = codec.stream
            if self._timer is None:
                self._arm(limits.first_byte)
            else:
                self._timer.restart(limits.first_byte)
            assert self._transport is not None
            self._transport.write(octets)
        else:
            if head.method in _BODILESS:
                # RFC 9110 §9.3.1: a service that does not read it takes it for the next request, and its answer to that
                # would be another visitor's
                self.keep = False
            self._stream = codec.new_stream()
            codec.send(self._stream, head)

    def send(self, event: Event) -> None:
        """Queue a piece of the request's body, its end, or raw octets."""
        if self._over:
            return
        if type(event) is End:
            self._whole = True
        elif self._writable and not self._answered:
            # also where it was not asked for: RFC 9110 §10.1.1 lets a visitor tire of waiting for its 100
            self._visitors_turn()
        self._codec.send(self._stream, event)

    def flush(self) -> None:
        """Write what is queued."""
        transport = self._transport
        if transport is None or self._over:
            return
        pieces = self._codec.data_to_send()
        if len(pieces) == 1:
            transport.write(pieces[0])
        elif pieces:
            for piece in joined(pieces):
                transport.write(piece)
        if self._codec.output_ended and not self._half_closed:
            self._half_closed = True
            transport.unregisterProducer()  # type: ignore[attr-defined]
            transport.loseWriteConnection()

    def expect_answer(self) -> None:
        """It is the service's turn, and it has ``limits.first_byte``: the request is out, or waits for its 100, or the
        service takes nothing more of it."""
        if self._answered or self._over:
            return
        self._waiting = True
        self._arm(self._limits.first_byte)

    def _visitors_turn(self) -> None:
        """More of the request is to come, and ``limits.body`` says how soon."""
        self._waiting = False

    def _arm(self, seconds: float) -> None:
        # what is done once a request asks for itself, and spares the call
        if self._timer is None:
            self._timer = self._timers.start(seconds, self._timed_out)
        else:
            self._timer.restart(seconds)

    def consumed(self, n: int) -> None:
        """The handler has done with ``n`` octets of body or raw octets; until it says so, reading stops soon."""
        self._codec.acknowledge(self._stream, n)
        if self._paused and not self._feeding:
            self._look_whether_to_read()

    def cancel(self) -> None:
        """Give the running request up: the stream is reset, and no callback comes any more."""
        self._handler = None
        self._end(abort=True)

    def finish(self) -> None:
        """End a switched connection behind what is queued; no callback comes any more."""
        self.flush()
        self._handler = None
        self._end(abort=False)

    def close(self) -> None:
        """End an idle connection."""
        self._pool.withdraw(self)
        self._end(abort=False)

    def retire(self) -> None:
        """Take no request after the one that runs."""
        self.keep = False
        if self._handler is None:
            self.close()

    @property
    def address(self) -> str:
        """The address it was dialled at."""
        return host_of(self._transport.getPeer()) if self._transport is not None else ""

    def abort(self) -> None:
        """End it whatever it does, also where it is closing already."""
        self._pool.withdraw(self)
        self.cancel()
        if self._transport is not None:
            self._transport.abortConnection()

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._pool.made(self)
        if self._over:
            self._over = False
            self._end(abort=True)
            return
        transport.registerProducer(self, True)  # type: ignore[attr-defined]

    def connectionMade(self) -> None:
        """All is done in :meth:`makeConnection`."""

    def logPrefix(self) -> str:
        return "upstream"

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        handler = self._handler
        if handler is None:
            # an idle origin has nothing to say: what it sent must not become the next request's answer
            self._pool.withdraw(self)
            self._end(abort=True)
            return
        self._begun = True
        self._feeding = True
        try:
            events: list[StreamEvent] = []
            whole = self._codec.receive_whole(data)
            if whole is None:
                events = self._codec.receive_data(data, 0.0)
                if len(events) == 3:
                    whole = _whole_answer(events)
            if whole is not None:
                # as most answers come
                self._answered = True
                self._finished(not events or self._codec.reusable)
                self._feeding = False
                handler.on_answer(*whole)
                return
            for _, event in events:
                self._hand_over(handler, event)
                if self._handler is not handler:
                    break
        except Exception:  # noqa: BLE001 - one exchange fails, the others on this link go on
            log.failure("an exchange failed on what its upstream sent")
            self._crash(handler)
        finally:
            self._feeding = False
        handler.on_turn_end()
        if self._handler is not None:
            self._look_whether_to_read()

    def readConnectionLost(self) -> None:
        if self._over:
            return
        handler = self._handler
        if handler is None:
            self.close()
            return
        self._guarded(handler, self._read_eof)

    def writeConnectionLost(self) -> None:
        """Our own direction is closed: nothing to do."""

    def connectionLost(self, reason: Failure) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            self._pool.lost(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._over:
            return
        handler = self._handler
        if handler is None:
            self._pool.withdraw(self)
            self._over = True
            return
        error = reason.value
        if not isinstance(error, StreamReset):
            if isinstance(error, ConnectionDone):
                # a clean end may be how an origin ends the body; any other may have cut it
                self._guarded(handler, self._read_eof)
            error = StreamReset(ResetCode.SERVICE_FAILED, "the connection was closed", True)
        self._over = True
        self._fail(error)

    # IPushProducer: the stream towards the upstream is full, has room, is gone

    def pauseProducing(self) -> None:
        if self._writable:
            self._writable = False
            if self._handler is not None:
                if not self._whole:
                    self.expect_answer()
                self._handler.on_pause()

    def resumeProducing(self) -> None:
        if not self._writable:
            self._writable = True
            handler = self._handler
            if handler is not None:
                if not self._whole:
                    self._visitors_turn()
                self._guarded(handler, handler.on_resume)

    def stopProducing(self) -> None:
        """connectionLost follows and says why."""

    # within

    def _read_eof(self) -> None:
        handler = self._handler
        assert handler is not None
        for _, event in self._codec.receive_eof(0.0):
            if type(event) is Failed:
                # not an answer that is wrong: one that stops, or none at all
                self._fail(StreamReset(ResetCode.SERVICE_FAILED, "the service closed before its answer's end", True))
                break
            self._hand_over(handler, event)
            if self._handler is not handler:
                break
        handler.on_turn_end()

    def _hand_over(self, handler: IAnswerHandler, event: Event) -> None:
        if type(event) is Body:
            handler.on_body(event)
        elif type(event) is ResponseHead:
            self._answered = True
            self._waiting = False
            handler.on_head(event)
        elif type(event) is End:
            self._finished(self._codec.reusable)
            handler.on_end(event)
        elif type(event) is Raw:
            handler.on_raw(event)
        elif type(event) is InformationalHead:
            if event.status == 100 and not self._whole and self._writable:
                self._visitors_turn()
            elif self._waiting:
                # it is alive and at work (RFC 9110 §15.2.1, 102): its time begins anew
                self._arm(self._limits.first_byte)
            handler.on_informational(event)
        elif type(event) is RawEnd:
            handler.on_raw_end(event)
        elif type(event) is Failed:
            self._fail(event.error)

    def _finished(self, reusable: bool) -> None:
        """The answer is whole: keep the connection, or end it.

        :param reusable: what the codec says; :meth:`receive_whole` gives nothing else
        """
        self._handler = None
        # what is still queued of a request that ran on is of no use to anybody
        if reusable and self._writable and self._pool.give_back(self):
            clock = self._timers.seconds
            self.idle_since = clock()
            self._waiting = False
            seconds = self.upstream.keep_alive or self._limits.idle_stream_time
            if self._timer is None:
                self._arm(seconds)
            else:
                self._timer.restart(seconds)
            if self._paused:
                self._paused = False
                assert self._transport is not None
                self._transport.resumeProducing()  # type: ignore[attr-defined]
        else:
            self._end(abort=not reusable)

    def _look_whether_to_read(self) -> None:
        transport = self._transport
        if transport is None or self._over:
            return
        if self._codec.wants_data:
            if self._paused:
                self._paused = False
                transport.resumeProducing()  # type: ignore[attr-defined]
        elif not self._paused:
            self._paused = True
            transport.pauseProducing()  # type: ignore[attr-defined]

    def _guarded(self, handler: IAnswerHandler, step: object) -> None:
        try:
            step()  # type: ignore[operator]
        except Exception:  # noqa: BLE001 - see dataReceived
            log.failure("an exchange failed on what its upstream did")
            self._crash(handler)

    def _crash(self, handler: IAnswerHandler) -> None:
        if self._handler is None or self._handler is handler:
            self.abort()
        handler.crashed()

    def _fail(self, error: Exception) -> None:
        handler, self._handler = self._handler, None
        self._end(abort=True)
        if handler is not None:
            handler.on_failure(error, self._begun)

    def _timed_out(self) -> None:
        if self._handler is None:
            self.close()
        elif self._waiting:
            self._fail(TimedOut("limits.first_byte", "the service did not answer in time"))

    def _end(self, *, abort: bool) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        transport = self._transport
        if transport is None:
            return
        transport.unregisterProducer()  # type: ignore[attr-defined]
        if abort:
            transport.abortConnection()
        else:
            transport.loseConnection()


def _whole_answer(events: list[StreamEvent]) -> tuple[ResponseHead, bytes] | None:
    """Three events that are a head, all of a body, and an end without trailers."""
    head, body, end = events[0][1], events[1][1], events[2][1]
    if type(head) is ResponseHead and type(body) is Body and type(end) is End and not end.trailers:
        return head, body.data
    return None
