"""A visitor's HTTP connection: the shell of a server codec.

Its rhythm: feed, hand the events to the exchange, write what the codec has, look whether to go on reading and which
timeout counts.  One exchange at a time on HTTP/1; later requests wait inside the codec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.again import Again, again
from wormhole_tw.edge.answers import head_timeout
from wormhole_tw.edge.connection import IDLE_CLOSE, Connection, Phase
from wormhole_tw.edge.exchange import Exchange
from wormhole_tw.edge.interfaces import IVisitor
from wormhole_tw.edge.pace import LOOKS, Pace, least_octets
from wormhole_tw.edge.writing import joined
from wormhole_tw.errors import HttpError
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
from wormhole_tw.http.h1 import H1ServerCodec
from wormhole_tw.net.transport import unsent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.http.interfaces import OneStreamCodec, StreamEvent

__all__ = ["VisitorConnection"]

log = Logger()

_NO_BODY = Framing.NONE

_IDLE = Phase.IDLE
_BUSY = Phase.BUSY
_CLOSING = Phase.CLOSING


@implementer(IProtocol, IPushProducer, IVisitor)
class VisitorConnection(Connection):
    """One connection of a visitor, with one request at a time."""

    __slots__ = ("_again", "_body", "_codec", "_exchange", "_last", "_stream")

    hands_over = True

    def __init__(self, context: EdgeContext, facts: ConnectionFacts, codec: OneStreamCodec | None = None) -> None:
        super().__init__(context, facts)
        self._codec: OneStreamCodec = codec or H1ServerCodec(context.http_limits)
        self._exchange: Exchange | None = None
        self._stream = 0
        self._body: Pace | None = None  # how the body comes, once that is in question
        self._last = b""  # the octets of its last request, where its route has a cache
        self._again: Again | None = None

    # IProtocol

    def dataReceived(self, data: bytes) -> None:
        if self._phase is _CLOSING:
            self._discard(data)
            return
        if self._again is not None and self._again.request == data and self._answers_again(self._again):
            return
        codec = self._codec
        whole = codec.receive_whole(data)
        if whole is not None:
            self._receive((), whole)
            way = self.facts.way
            if way is not None and way.caching is not None:
                self._look_for_again(data, whole[1])
        else:
            self._receive(codec.receive_data(data, self._context.timers.seconds()))

    def _answers_again(self, known: Again) -> bool:
        """The same request as before, and nothing else: whether it was answered."""
        context = self._context
        limit = context.limits.requests_per_connection
        now = context.wall()
        if (
            self._phase is not _IDLE
            or context.draining
            or (limit and self.requests + 1 >= limit)
            or not known.holds(context, now)
        ):
            self._again = None
            return False
        self.requests += 1
        self._send(known.octets)
        known.count(context, now)
        if context.idle_look:
            assert self._timer is not None
            self._timer.restart(context.idle_look)
        if not self.writable:
            self._look_whether_to_read()
        return True

    def _look_for_again(self, data: bytes, head: RequestHead) -> None:
        """A request has come where a route with a cache was asked: remember what answers it, where that may come
        again."""
        if self._phase is _IDLE and self._last == data:
            self._again = again(data, head, self._context, self.facts)
        self._last = data

    def _read_over(self) -> None:
        if self.facts.secure and self._exchange is not None and self._phase is not Phase.RAW:
            # close_notify in the middle of an exchange: the visitor left; browsers and tools half-close no TLS
            self._drop()
        else:
            self._receive(self._codec.receive_eof(self._context.timers.now))

    def _gone(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            try:
                exchange.visitor_gone()
            except Exception:  # noqa: BLE001 - one exchange's bug
                log.failure("an exchange failed on its visitor's leaving")

    def _blame(self, reason: str) -> None:
        if self._exchange is not None:
            self._exchange.reason = reason

    def _leave(self) -> None:
        self._codec.shut_down()
        if self._exchange is None:
            self._close(IDLE_CLOSE)

    # IPushProducer: the transport has room

    def resumeProducing(self) -> None:
        if not self.writable:
            self.writable = True
            if self._stall is not None:
                self._stall.cancel()
            exchange = self._exchange
            if exchange is not None:
                try:
                    exchange.visitor_resumed()
                except Exception:  # noqa: BLE001 - one exchange's bug
                    log.failure("an exchange failed on going on with its answer")
                    exchange.crashed()
            else:
                self.flush()

    # IVisitor: what the exchange calls

    def hears(self, head: ResponseHead) -> bool:
        """See the interface."""
        return True

    def send(self, event: Event) -> None:
        """See the interface."""
        if type(event) is ResponseHead:
            limit = self._context.limits.requests_per_connection
            if self._context.draining or (limit and self.requests >= limit):
                event.keep_alive = False
            if event.status == 101:
                self._enter(Phase.RAW, self._limits.upgrade_idle)
            elif self._phase is Phase.BODY or self._phase is Phase.LEAVE:
                self._body = None
                self._enter(Phase.BOTH, self._limits.upgrade_idle / LOOKS)
        elif type(event) is InformationalHead:
            if event.status == 100 and self._phase is Phase.LEAVE:
                self._await_body()
        elif type(event) is Raw and self._timer is not None and self._timer.active:
            self._timer.restart()
        self._codec.send(self._stream, event)

    def answer(self, head: ResponseHead, body: bytes) -> bool:
        """See the interface."""
        context = self._context
        limit = context.limits.requests_per_connection
        if context.draining or (limit and self.requests >= limit):
            head.keep_alive = False
        octets = self._codec.send_whole(self._stream, head, body)
        self._exchange = None
        if not octets:
            return True
        # as most answers go: alone, and nothing of a next request has come
        if not self.writable:
            self._added += len(octets)
        if not self._lost:
            send = self._send
            send(octets)
        if self._paused or not self.writable:
            return True
        self._enter(_IDLE, context.idle_look)
        return False

    def consumed(self, n: int) -> None:
        """See the interface."""
        self._codec.acknowledge(self._stream, n)
        if self._paused and not self._feeding:
            self._look_whether_to_read()

    def exchange_done(self) -> None:
        """See the interface."""
        self._exchange = None

    def hand_over(self, protocol: IProtocol) -> None:
        """See the interface."""
        self._write()
        early = self._codec.receive_data(b"", self._context.timers.now)
        self._give_away(protocol, b"".join(event.data for _, event in early if type(event) is Raw))

    def truncate(self, code: int | None = None) -> None:
        """See the interface."""
        del code
        self._exchange = None
        self._codec.reset(self._stream)

    def flush(self) -> None:
        """See the interface."""
        if self._feeding or self._lost:
            return
        self._write()
        codec = self._codec
        if codec.idle and self._exchange is None and not self._paused and self.writable and not codec.should_close:
            # as most answers end: nothing of a next request has come
            if self._phase is not _IDLE and self.requests:
                self._enter(_IDLE, self._context.idle_look)
            return
        if self._may_go_on and self._phase is not _CLOSING:
            self._receive(())
        else:
            self._after()

    # within

    @property
    def _may_go_on(self) -> bool:
        """What waits in the codec has its turn: a next request's comes when the visitor takes answers, not before."""
        return self._codec.has_held and (self._phase is Phase.RAW or (self._exchange is None and self.writable))

    def _receive(self, events: Sequence[StreamEvent], whole: tuple[int, RequestHead] | None = None) -> None:
        codec = self._codec
        self._feeding = True
        try:
            if (
                whole is None
                and len(events) == 2
                and codec.waits_for_answer
                and type(head := events[0][1]) is RequestHead
                and head.framing is _NO_BODY
            ):
                whole = events[0][0], head
                events = ()
            if whole is not None:
                # as most requests come: alone, and without a body (an empty one has an end to be told)
                self._stream, head = whole
                self._begin(head)
                if self._exchange is None:
                    # answered at once: nothing came behind it
                    self._feeding = False
                    self.flush()
                    return
                if not self._paused and codec.waits_for_answer:
                    return
            while True:
                for stream, event in events:
                    self._hand_over(stream, event)
                # a request whose answer is out already gives way to the next at once
                if codec.has_held:
                    self._write()
                if not self._may_go_on:
                    break
                events = codec.receive_data(b"", self._context.timers.now)
                if not events:
                    break
            if self._exchange is not None:
                self._exchange.flush_request()
        except Exception:  # noqa: BLE001 - one request fails, other connections go on
            log.failure("an exchange failed on what its visitor sent")
            if self._exchange is not None:
                self._exchange.crashed()
            else:
                self._codec.reset(self._stream)
        finally:
            self._feeding = False
        self._write()
        self._after()

    def _hand_over(self, stream: int, event: Event) -> None:
        exchange = self._exchange
        if type(event) is RequestHead:
            self._stream = stream
            self._begin(event)
        elif type(event) is Failed:
            if exchange is None or stream != self._stream:
                self._stream = stream
                exchange = self._exchange = Exchange(self._context, self)
            exchange.request_failed(event.error)
        elif exchange is None or stream != self._stream:
            # of a request that was answered before it was read to its end
            pass
        elif type(event) is Body:
            if self._phase is Phase.LEAVE:
                self._await_body()
            exchange.request_body(event)
        elif type(event) is End:
            self._phase = Phase.BUSY
            exchange.request_end(event)
        elif type(event) is Raw:
            if self._timer is not None and self._timer.active:
                self._timer.restart()
            exchange.request_raw(event)
        elif type(event) is RawEnd:
            exchange.request_raw_end(event)

    def _begin(self, head: RequestHead) -> None:
        self.requests += 1
        # the timer of the phase before may run on: it finds nothing to do
        self._phase = Phase.LEAVE if head.expect_continue else _BUSY
        exchange = self._exchange = Exchange(self._context, self)
        exchange.begin(head)
        if head.framing is not _NO_BODY and not head.expect_continue:
            # its time is that of the site, which is known now
            self._await_body()

    @property
    def _limits(self) -> Limits:
        """Those of the request that runs."""
        return self._context.limits if self._exchange is None else self._exchange.limits

    def _await_body(self) -> None:
        self._body = None
        self._enter(Phase.BODY, self._limits.body / LOOKS)

    def _write(self) -> None:
        pieces = self._codec.data_to_send()
        if pieces and not self._lost:
            if len(pieces) > 1:
                pieces = joined(pieces)
            if not self.writable:
                self._added += sum(map(len, pieces))
            for piece in pieces:
                self._send(piece)

    def _after(self) -> None:
        if self._lost or self._phase is _CLOSING:
            return
        codec = self._codec
        if codec.should_abort:
            self._drop()
        elif codec.should_close:
            self._close(self._context.limits.stall)
        else:
            if codec.output_ended and not self._half_closed:
                self._half_close()
                # half a connection is not kept for an hour: who has heard the end goes soon
                self._enter(Phase.RAW, self._context.limits.keep_alive)
            if self._exchange is None:
                self._between_requests()
            self._look_whether_to_read()

    def _between_requests(self) -> None:
        if self._codec.idle:
            if self._phase is not _IDLE and self._phase is not Phase.KEPT and self.requests:
                self._enter(_IDLE, self._context.idle_look)
        elif self._phase is not Phase.HEAD:
            # a head has begun, or the rest of a body is being thrown away: both are short
            self._enter(Phase.HEAD, self._context.limits.head)

    def _look_whether_to_read(self) -> None:
        if self._lost or self._phase is _CLOSING:
            return
        if self._codec.wants_data and (self.writable or self._exchange is not None):
            if self._paused:
                self._paused = False
                self._body = None  # it did not come while we did not read
                self._transport.resumeProducing()
        elif not self._paused:
            self._paused = True
            self._transport.pauseProducing()

    # timeouts

    def _timed_out(self) -> None:
        phase = self._phase
        if phase is _BUSY or phase is Phase.LEAVE:
            return
        if phase is _IDLE or phase is Phase.KEPT:
            # who asks so seldom hears nothing twice: a note has the whole answer, and would stay as long as he does
            self._again, self._last = None, b""
            self._idle_timed_out()
        elif phase is Phase.BODY or phase is Phase.BOTH:
            self._look_at_body()
        elif phase is _CLOSING:
            self._close_timed_out()
        elif phase is Phase.RAW:
            self._context.counters.shed["idle"] += 1
            self._blame("idle")
            self._drop()
        elif not self.writable:
            # a head, and it is we who do not read
            self._enter(phase, self._context.limits.head)
        else:
            self._context.counters.shed["head"] += 1
            if self._codec.has_held and not unsent(self._transport):
                # a head that has begun: whoever sent it, and has taken what it got before, is told why it ends
                self._context.counters.early["request-timeout"] += 1
                self._transport.write(head_timeout(self._context.date.at(self._context.wall())))
                self._close(IDLE_CLOSE)
            else:
                self._drop()

    def _look_at_body(self) -> None:
        """Does the body come?  Beside an answer, an octet either way is enough."""
        exchange, timer = self._exchange, self._timer
        assert timer is not None
        if exchange is None:
            return
        limits = exchange.limits
        least, total = 1, exchange.received + exchange.sent
        if self._phase is Phase.BODY:
            least, total = least_octets(limits.body_rate, limits.body), exchange.received
        if self._paused and self._phase is Phase.BODY:
            self._body = None
        else:
            if self._body is None:
                self._body = Pace(0)
            if self._body.advance(total) < least:
                self._context.counters.shed["body"] += 1
                exchange.request_failed(
                    HttpError(408, "request-timeout", "The body of the request did not arrive in time.")
                )
                self.flush()
                if self._phase is _CLOSING:
                    # it has not sent much, so that there is little to wait for
                    self._close(IDLE_CLOSE)
                return
        timer.restart()
