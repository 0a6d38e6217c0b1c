"""A visitor's HTTP/2 connection: the shell of a codec of many streams, each of which has its exchange.

Its rhythm: feed, hand each event to its stream, write what the codec has while the transport takes it.  A stream's
failure is its own; the connection ends by GOAWAY.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.exchange import Exchange
from wormhole_tw.edge.h2_stream import VisitorStream
from wormhole_tw.edge.interfaces import IDrainable
from wormhole_tw.edge.listener import IDLE_CLOSE, LINGER_BYTES
from wormhole_tw.edge.upstreams.client import joined
from wormhole_tw.http.events import Abandoned, Closed, Event, Failed, RequestHead, Writable
from wormhole_tw.http.h2 import H2ServerCodec
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.net.tls_transport import write_at_once
from wormhole_tw.net.transport import unsent

if TYPE_CHECKING:
    from collections.abc import Callable

    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.context import Counters, EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.http.interfaces import ManyStreamsCodec, StreamEvent
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["LINGER", "ROOM", "H2VisitorConnection"]

log = Logger()

ROOM = 64 * 1024
"""Octets of bodies handed to the transport at a time, before it is looked whether it takes more: what is queued there
cannot give way any more to another stream, or to a PING."""

LINGER = 0.5
"""Seconds, once or twice, between an answer that came before its request was whole and the RST_STREAM that ends the
request: time for the visitor to read the first, and to end the second itself."""


class _Phase(Enum):
    """What the connection waits for, and with it which timeout counts."""

    IDLE = "idle"
    HEAD = "head"
    BUSY = "busy"
    """the streams have their own timeouts"""
    CLOSING = "closing"


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer, IDrainable)
class H2VisitorConnection:
    """One connection of a visitor, with many requests at once.

    :ivar facts: what is known of it
    :ivar writable: the transport has room
    :ivar requests: how many have begun on it
    :ivar codec: for its streams
    """

    __slots__ = (
        "_begun",
        "_context",
        "_discarded",
        "_feeding",
        "_head_since",
        "_leaving",
        "_linger",
        "_lost",
        "_phase",
        "_read_ended",
        "_stall",
        "_streams",
        "_timer",
        "_transport",
        "_until",
        "codec",
        "counters",
        "factory",
        "facts",
        "limits",
        "requests",
        "timers",
        "writable",
    )

    def __init__(self, context: EdgeContext, facts: ConnectionFacts, codec: ManyStreamsCodec | None = None) -> None:
        self.facts = facts
        self.factory = None
        self.requests = 0
        self.writable = True
        self.limits: Limits = context.limits
        self.timers: TimerWheel = context.timers
        self.counters: Counters = context.counters
        self.codec: ManyStreamsCodec = codec or H2ServerCodec(context.h2_limits)
        self._context = context
        self._transport: Any = None
        self._streams: dict[int, VisitorStream] = {}
        self._begun = False
        self._feeding = False
        self._leaving = False
        self._lost = False
        self._read_ended = False
        self._discarded = 0
        self._head_since: float | None = None
        self._until = 0.0  # who has not got the whole of its last answer may take until then
        self._phase = _Phase.HEAD
        self._timer: Timer | None = None
        self._stall: Timer | None = None
        self._linger: Timer | None = None

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport
        context = self._context
        context.connections.add(self)
        self._timer = context.timers.start(context.limits.head, self._timed_out)
        write_at_once(transport)  # what one read brings is written at its end
        self._transport.registerProducer(self, True)
        # our SETTINGS do not wait for the visitor's (RFC 9113 §3.4)
        self._write()

    def connectionMade(self) -> None:
        """All is done in :meth:`makeConnection`."""

    def logPrefix(self) -> str:
        return "visitor"

    def dataReceived(self, data: bytes) -> None:
        if self._phase is _Phase.CLOSING:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self._drop()
            return
        self._begun = True
        self._receive(self.codec.receive_data(data, self.timers.now))

    def readConnectionLost(self) -> None:
        if self._lost:
            return
        self._read_ended = True
        if self._phase is _Phase.CLOSING:
            self._transport.loseConnection()
            return
        self._receive(self.codec.receive_eof(self.timers.now))

    def writeConnectionLost(self) -> None:
        """Our own direction is closed: nothing to do."""

    def connectionLost(self, reason: Failure) -> None:
        self._lost = True
        self._cancel_timers()
        self._context.connections.discard(self)
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            try:
                stream.gone()
            except Exception:  # noqa: BLE001 - one exchange's bug
                log.failure("an exchange failed on its visitor's leaving")
        self._context.pool.visitor_gone(self.facts)

    # IPushProducer: the transport is full, has room, is gone

    def pauseProducing(self) -> None:
        if self.writable:
            self.writable = False
            if self._stall is None:
                self._stall = self.timers.start(self.limits.stall, self._stalled)
            else:
                self._stall.restart(self.limits.stall)

    def resumeProducing(self) -> None:
        if self.writable:
            return
        self.writable = True
        self._cancel_stall()
        # first what is queued here, in turn; then, if there is still room, what waits behind it
        self.flush()
        for stream in list(self._streams.values()):
            if not self.writable:
                break
            self._guarded(stream, stream.resume)
        self.flush()

    def stopProducing(self) -> None:
        """connectionLost follows."""

    # IDrainable

    def drain(self) -> None:
        """See the interface."""
        if self._lost or self._phase is _Phase.CLOSING:
            return
        self._leave()
        self.flush()

    def abort(self) -> None:
        """See the interface."""
        if not self._lost:
            self._drop()

    # for its streams

    def flush(self) -> None:
        """Write what the codec has, and hand over what comes of that."""
        if self._feeding or self._lost:
            return
        self._receive(())

    def shed(self, visitor: VisitorStream, stream: int) -> None:
        """One of them took too long."""
        self.counters.shed += 1
        self._streams.pop(stream, None)
        self.codec.reset(stream, ErrorCode.CANCEL)
        self._guarded(visitor, visitor.gone)
        if not self._streams:
            # it was all that this visitor wanted, and not even that did it take
            self._leave()
        self.flush()

    # within

    def _leave(self) -> None:
        """Take no new request soon; close when the running ones are done."""
        if not self._leaving:
            self._leaving = True
            self.codec.shut_down()

    def _receive(self, events: list[StreamEvent] | tuple[()]) -> None:
        touched: dict[int, VisitorStream] = {}
        self._feeding = True
        try:
            while True:
                for stream, event in events:
                    self._hand_over(stream, event, touched)
                for visitor in touched.values():
                    exchange = visitor.exchange
                    if exchange is not None:
                        self._guarded(visitor, exchange.flush_request)
                touched.clear()
                wrote = self._phase is not _Phase.CLOSING and self._write()
                events = self.codec.take_events()
                if not events and not (wrote and self.writable):
                    break
        finally:
            self._feeding = False
        self._after()

    def _hand_over(self, stream: int, event: Event, touched: dict[int, VisitorStream]) -> None:
        if type(event) is RequestHead or type(event) is Failed:
            visitor = self._streams.get(stream)
            if visitor is None:
                visitor = self._streams[stream] = VisitorStream(self, stream)
                visitor.exchange = Exchange(self._context, visitor)
            touched[stream] = visitor
            if type(event) is RequestHead:
                self.requests += 1
                if self.requests == self.limits.requests_per_connection:
                    self._leave()
                self._guarded(visitor, visitor.begin, event)
            elif type(event) is Failed and visitor.exchange is not None:
                self._guarded(visitor, visitor.exchange.request_failed, event.error)
            return
        visitor = self._streams.get(stream)
        if visitor is None:
            return
        if type(event) is Abandoned:
            del self._streams[stream]
            self._guarded(visitor, visitor.gone)
        elif type(event) is Closed:
            del self._streams[stream]
            visitor.close()
        elif type(event) is Writable:
            self._guarded(visitor, visitor.room)
        else:
            touched[stream] = visitor
            self._guarded(visitor, visitor.take, event)

    def _guarded(self, visitor: VisitorStream, step: Callable[..., None], *arguments: Any) -> None:
        """One exchange's bug is no other's."""
        try:
            step(*arguments)
        except Exception:  # noqa: BLE001 - one request fails, the others go on
            log.failure("an exchange failed on what its visitor did")
            exchange = visitor.exchange
            if exchange is not None:
                exchange.crashed()

    def _write(self) -> bool:
        if self._lost:
            return False
        pieces = self.codec.data_to_send(ROOM if self.writable else 0)
        for piece in joined(pieces):
            self._transport.write(piece)
        return bool(pieces)

    def _after(self) -> None:
        if self._lost or self._phase is _Phase.CLOSING:
            return
        codec = self.codec
        if self._leaving and not self._streams:
            # what is still under way is told that it was not heard
            codec.shut_down()
        if codec.should_close:
            self._close(IDLE_CLOSE)
            return
        for visitor in self._streams.values():
            if visitor.exchange is None:
                visitor.watch()
        if codec.lingers and (self._linger is None or not self._linger.active):
            self._linger = self.timers.start(LINGER, self._lingered)
        since = codec.head_since
        if since is not None and self._begun:
            if since != self._head_since:
                self._enter(_Phase.HEAD, self.limits.head)
        elif self._streams:
            self._phase = _Phase.BUSY
        elif self._phase is not _Phase.IDLE and self._begun:
            self._enter(_Phase.IDLE, self.limits.keep_alive)
        self._head_since = since

    def _enter(self, phase: _Phase, seconds: float) -> None:
        self._phase = phase
        assert self._timer is not None
        self._timer.restart(seconds)

    def _close(self, seconds: float) -> None:
        """Send what is queued, say that it was all, and read on until the visitor has heard it."""
        self._write()
        if unsent(self._transport):
            self._until = self.timers.now + self.limits.stall
        self._enter(_Phase.CLOSING, seconds)
        self._cancel_stall()
        if self._linger is not None:
            self._linger.cancel()
        self._transport.unregisterProducer()
        self._transport.loseWriteConnection()
        if self._read_ended:
            self._transport.loseConnection()

    def _drop(self) -> None:
        self._cancel_timers()
        self._phase = _Phase.CLOSING
        self._transport.abortConnection()

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()

    def _cancel_timers(self) -> None:
        self._cancel_stall()
        if self._linger is not None:
            self._linger.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # timeouts

    def _lingered(self) -> None:
        self.codec.let_go()
        self.flush()

    def _stalled(self) -> None:
        """The visitor took too little of what is buffered for it for too long."""
        self.counters.shed += 1
        log.debug("a visitor that does not read was dropped")
        self._drop()

    def _timed_out(self) -> None:
        phase = self._phase
        if phase is _Phase.BUSY:
            return
        if phase is _Phase.IDLE:
            self._leave()
            self.flush()
        elif phase is _Phase.CLOSING and self.timers.now < self._until and unsent(self._transport):
            self._enter(phase, IDLE_CLOSE)
        else:
            if phase is _Phase.HEAD:
                self.counters.shed += 1
            self._drop()
