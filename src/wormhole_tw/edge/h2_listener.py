"""A visitor's HTTP/2 connection: the shell of a codec of many streams, each of which has its exchange.

Its rhythm: feed, hand each event to its stream, write what the codec has while the transport takes it.  A stream's
failure is its own; the connection ends by GOAWAY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol, IPushProducer, ITransport
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.connection import IDLE_CLOSE, Connection, Phase
from wormhole_tw.edge.exchange import Exchange
from wormhole_tw.edge.h2_stream import Crowd, VisitorStream
from wormhole_tw.edge.writing import joined
from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Abandoned, Closed, End, Event, Failed, Framing, RequestHead, Writable
from wormhole_tw.http.h2 import H2ServerCodec
from wormhole_tw.http.h2.faults import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.context import Counters, EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.http.interfaces import ManyStreamsCodec, StreamEvent
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["LINGER", "ROOM", "H2VisitorConnection"]

log = Logger()

_NO_BODY = Framing.NONE

ROOM = 64 * 1024
"""Octets of bodies handed to the transport at a time, before it is looked whether it takes more: what is queued there
cannot give way any more to another stream, or to a PING."""

CROWD_FOR = 0.1
"""Seconds for which one look at all streams serves each of them: less than a tick of the timers."""

LINGER = 0.5
"""Seconds, once or twice, between an answer that came before its request was whole and the RST_STREAM that ends the
request: time for the visitor to read the first, and to end the second itself."""


@implementer(IProtocol, IPushProducer)
class H2VisitorConnection(Connection):
    """One connection of a visitor, with many requests at once.

    :ivar codec: for its streams
    :ivar heard: octets that came
    """

    __slots__ = (
        "_answered",
        "_begun",
        "_crowd",
        "_flushing",
        "_head_since",
        "_leaving",
        "_linger",
        "_streams",
        "codec",
        "counters",
        "heard",
        "limits",
        "timers",
    )

    def __init__(self, context: EdgeContext, facts: ConnectionFacts, codec: ManyStreamsCodec | None = None) -> None:
        super().__init__(context, facts)
        self.limits: Limits = context.limits
        self.timers: TimerWheel = context.timers
        self.counters: Counters = context.counters
        self.codec: ManyStreamsCodec = codec or H2ServerCodec(context.h2_limits)
        self._streams: dict[int, VisitorStream] = {}
        self._answered: dict[int, VisitorStream] = {}
        self.heard = 0
        self._crowd: Crowd | None = None
        self._begun = False
        self._leaving = False
        self._flushing = False
        self._head_since: float | None = None
        self._linger: Timer | None = None

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        super().makeConnection(transport)
        # our SETTINGS do not wait for the visitor's (RFC 9113 §3.4)
        self._write()

    def dataReceived(self, data: bytes) -> None:
        if self._phase is Phase.CLOSING:
            self._discard(data)
            return
        self._begun = True
        self.heard += len(data)
        self._receive(self.codec.receive_data(data, self.timers.now))

    def _read_over(self) -> None:
        self._receive(self.codec.receive_eof(self.timers.now))

    def _gone(self) -> None:
        self.counters.early.update(self.codec.untold)
        streams = list(self._streams.values())
        self._streams.clear()
        self._answered.clear()
        for stream in streams:
            try:
                stream.gone()
            except Exception:  # noqa: BLE001 - one exchange's bug
                log.failure("an exchange failed on its visitor's leaving")

    def _blame(self, reason: str) -> None:
        for visitor in self._streams.values():
            if visitor.exchange is not None:
                visitor.exchange.reason = reason

    def _leave(self) -> None:
        self._say_goodbye()
        self.flush()

    def linger(self) -> None:
        """See IDrainable.  GOAWAY names no stream yet: it does when the visitor has read it, and what came until then
        is served.  Who has asked for nothing yet may ask first: a client that is sent away from a new connection tries
        no other."""
        if self.requests and not self._lost and self._phase is not Phase.CLOSING:
            self._leave()

    # IPushProducer: the transport has room

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

    # for its streams

    def flush(self) -> None:
        """Write what the codec has, and hand over what comes of that."""
        if self._feeding or self._lost:
            return
        self._receive(())

    def flush_soon(self) -> None:
        """:meth:`flush` at the end of this turn: answers of many streams come in one, and leave in one write."""
        if not self._flushing and not self._feeding:
            self._flushing = True
            self._context.turn.call(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self.flush()

    def answered(self, stream: int, visitor: VisitorStream) -> None:
        """The exchange of a stream is over: from now on it is looked whether what is left of the answer is taken."""
        if self._streams.get(stream) is visitor:
            self._answered[stream] = visitor

    def crowd(self) -> Crowd:
        """How it stands with all streams; a look at all for each of them would cost an attacker too little."""
        now = self.timers.seconds()
        crowd = self._crowd
        if crowd is None or now - crowd.at > CROWD_FOR:
            streams = self._streams.values()
            crowd = self._crowd = Crowd(
                now,
                self.codec.held_back,
                sum(visitor.awaits_body for visitor in streams),
                sum(visitor.stalls for visitor in streams),
            )
        return crowd

    def shed(self, visitor: VisitorStream, stream: int, reason: str) -> None:
        """One of them took too long."""
        self.counters.shed["idle" if reason == "idle" else "reader"] += 1
        if visitor.exchange is not None:
            visitor.exchange.reason = reason
        self._crowd = None
        self._forget(stream)
        self.codec.reset(stream, ErrorCode.CANCEL)
        self._guarded(visitor, visitor.gone)
        if not self._streams:
            # it was all that this visitor wanted, and not even that did it take
            self._say_goodbye()
        self.flush()

    def shed_body(self, exchange: Exchange) -> None:
        """The body of one of them takes too long: 408."""
        self.counters.shed["body"] += 1
        self._crowd = None  # the line has more for each of the others now
        exchange.request_failed(HttpError(408, "request-timeout", "The body of the request did not arrive in time."))
        if len(self._streams) == 1:
            # as above
            self._say_goodbye()
        self.flush()

    # within

    def _forget(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._answered.pop(stream, None)

    def _say_goodbye(self) -> None:
        """Take no new request soon; close when the running ones are done."""
        if not self._leaving:
            self._leaving = True
            if self._context.lingering:
                self.codec.announce_end()
            else:
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
                wrote = self._phase is not Phase.CLOSING and self._write()
                events = self.codec.take_events()
                if not events and not (wrote and self.writable and self.codec.has_output):
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
            if type(event) is RequestHead:
                if event.framing is _NO_BODY and event.upgrade is None:
                    # what leaves of it leaves with its head
                    visitor.whole = True
                else:
                    touched[stream] = visitor
                self.requests += 1
                if self.requests == self.limits.requests_per_connection or self._context.lingering:
                    self._say_goodbye()
                self._guarded(visitor, visitor.begin, event)
            elif type(event) is Failed and visitor.exchange is not None:
                touched[stream] = visitor
                self._guarded(visitor, visitor.exchange.request_failed, event.error)
            return
        visitor = self._streams.get(stream)
        if visitor is None:
            return
        if type(event) is End and visitor.whole:
            return
        if type(event) is Abandoned:
            self._forget(stream)
            self._guarded(visitor, visitor.gone)
        elif type(event) is Closed:
            self._forget(stream)
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
        if not pieces:
            return False
        if not self.writable:
            self._added += sum(map(len, pieces))
        for piece in joined(pieces):
            self._send(piece)
        return True

    def _after(self) -> None:
        if self._lost or self._phase is Phase.CLOSING:
            return
        codec = self.codec
        if self._leaving and not self._streams and not self._context.lingering:
            # what is still under way is told that it was not heard
            codec.shut_down()
        if codec.should_close:
            self._close(IDLE_CLOSE)
            return
        for visitor in self._answered.values():
            visitor.watch()
        if codec.lingers and (self._linger is None or not self._linger.active):
            self._linger = self.timers.start(LINGER, self._lingered)
        since = codec.head_since
        if since is not None and self._begun:
            if since != self._head_since:
                self._enter(Phase.HEAD, self.limits.head)
        elif self._streams:
            self._phase = Phase.BUSY
        elif self._phase is not Phase.IDLE and self._phase is not Phase.KEPT and self._begun:
            self._enter(Phase.IDLE, self._context.idle_look)
        self._head_since = since

    def _close(self, seconds: float) -> None:
        self._write()
        if self._linger is not None:
            self._linger.cancel()
        super()._close(seconds)

    def _cancel_timers(self) -> None:
        super()._cancel_timers()
        if self._linger is not None:
            self._linger.cancel()

    # timeouts

    def _lingered(self) -> None:
        self.codec.let_go()
        self.flush()

    def _timed_out(self) -> None:
        phase = self._phase
        if phase is Phase.BUSY:
            return
        if phase is Phase.IDLE or phase is Phase.KEPT:
            self._idle_timed_out()
        elif phase is Phase.CLOSING:
            self._close_timed_out()
        else:
            if phase is Phase.HEAD:
                self.counters.shed["head"] += 1
            self._drop()
