"""One stream of a visitor's HTTP/2 connection, as its exchange sees it: a visitor of its own.

Its timeouts are its own, too: a body that does not come and an answer that is not taken end this stream alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.interfaces import IVisitor
from wormhole_tw.edge.pace import LOOKS, SharedPace, least_octets
from wormhole_tw.http.events import Body, End, Event, Framing, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead
from wormhole_tw.http.h2.faults import ErrorCode

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.h2_listener import H2VisitorConnection
    from wormhole_tw.net.timers import Timer

__all__ = ["Crowd", "VisitorStream"]

log = Logger()


class Crowd(NamedTuple):
    """All streams of a connection at one moment.

    :ivar at: the wheel's clock
    :ivar held_back: the visitor may send no body, for other streams' services have not taken theirs
    :ivar awaiting: how many wait for more of a body
    :ivar stalling: how many wait to be taken
    """

    at: float
    held_back: bool
    awaiting: int
    stalling: int


@implementer(IVisitor)
class VisitorStream:
    """One request of a connection.

    :ivar facts: of its connection
    :ivar exchange: None once it is done
    :ivar switched: after a 101
    :ivar whole: its request has no body: its end is no news
    :ivar beside: the answer has begun beside the body, or will (gRPC): who may be silent is the service's to say
    """

    __slots__ = (
        "_body",
        "_connection",
        "_expected",
        "_giver",
        "_reader",
        "_stall",
        "_stream",
        "_timer",
        "beside",
        "exchange",
        "facts",
        "switched",
        "whole",
    )

    hands_over = False

    def __init__(self, connection: H2VisitorConnection, stream: int) -> None:
        self.facts: ConnectionFacts = connection.facts
        self.exchange: Exchange | None = None
        self.switched = False
        self.beside = False
        self.whole = False
        self._connection = connection
        self._stream = stream
        self._expected = False  # its body waits for a 100
        self._timer: Timer | None = None
        self._stall: Timer | None = None
        self._body: SharedPace | None = None  # how the body comes, once that is in question
        self._reader: SharedPace | None = None  # how the answer is taken, the same
        self._giver: Exchange | None = None  # whose answer that is

    # what the connection calls

    def begin(self, head: RequestHead) -> None:
        """A request begins."""
        exchange = self.exchange
        assert exchange is not None
        self._expected = head.expect_continue
        exchange.begin(head)
        if head.framing is not Framing.NONE and not head.expect_continue and self.exchange is not None:
            # its time is that of the site, which is known now
            self._await_body()

    def take(self, event: Event) -> None:
        """What came of the request."""
        exchange = self.exchange
        if exchange is None:
            # the answer is whole, and waits for its window
            return
        if type(event) is Body:
            if self._expected:
                self._await_body()
            exchange.request_body(event)
        elif type(event) is End:
            if not self.switched:
                self._stop()
            exchange.request_end(event)
        elif type(event) is Raw:
            self._restart()
            exchange.request_raw(event)
        elif type(event) is RawEnd:
            exchange.request_raw_end(event)

    def gone(self) -> None:
        """The visitor has given it up, or is gone altogether."""
        self.close()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.visitor_gone()

    def room(self) -> None:
        """The stream has room for more of the answer."""
        self._cancel_stall()
        self.resume()

    def resume(self) -> None:
        """Go on with the answer where stream and connection have room."""
        exchange = self.exchange
        if exchange is not None and self.writable:
            exchange.visitor_resumed()

    def close(self) -> None:
        """Nothing more happens on it."""
        self._stop()
        self._cancel_stall()

    def watch(self) -> None:
        """What is left of a finished answer has its time."""
        if self._stall is None or not self._stall.active:
            self._start_stall()

    # IVisitor

    @property
    def writable(self) -> bool:
        """See the interface: the connection has room, and the stream."""
        connection = self._connection
        if not connection.writable:
            return False
        if connection.codec.writable(self._stream):
            return True
        self.watch()
        return False

    def hears(self, head: ResponseHead) -> bool:
        """See the interface."""
        return self._connection.codec.opens(self._stream, head)

    def send(self, event: Event) -> None:
        """See the interface."""
        kind = type(event)
        if kind is ResponseHead:
            assert isinstance(event, ResponseHead)
            assert self.exchange is not None
            limits = self.exchange.limits
            if event.status == 101:
                self.switched = True
                self._start(limits.upgrade_idle)
            elif self._expected or (self._timer is not None and self._timer.active):
                self._expected = False
                self.beside = True
                self._body = None
                self._start(limits.upgrade_idle / LOOKS)
        elif kind is InformationalHead:
            assert isinstance(event, InformationalHead)
            if event.status == 100 and self._expected:
                self._await_body()
        elif kind is Raw:
            self._restart()
        self._connection.codec.send(self._stream, event)

    def answer(self, head: ResponseHead, body: bytes) -> bool:
        """See the interface."""
        self._connection.codec.send_whole(self._stream, head, body)
        self.exchange_done()
        return True

    def flush(self) -> None:
        """See the interface."""
        self._connection.flush_soon()

    def consumed(self, n: int) -> None:
        """See the interface."""
        connection = self._connection
        connection.codec.acknowledge(self._stream, n)
        # the window that this opened has to be told
        connection.flush_soon()

    def exchange_done(self) -> None:
        """See the interface."""
        self.exchange = None
        self._connection.answered(self._stream, self)
        self._stop()

    def hand_over(self, protocol: IProtocol) -> None:
        """See the interface."""
        raise AssertionError("a stream is no connection")

    def truncate(self, code: int | None = None) -> None:
        """See the interface."""
        self.exchange = None
        self._connection.answered(self._stream, self)
        self._stop()
        self._connection.codec.reset(self._stream, ErrorCode.INTERNAL_ERROR if code is None else code)

    # timeouts

    @property
    def awaits_body(self) -> bool:
        """Its body is still to come, and its time runs."""
        return self._timer is not None and self._timer.active and not self.switched and not self.beside

    @property
    def stalls(self) -> bool:
        """What waits on it is not taken."""
        return self._stall is not None and self._stall.active

    def _await_body(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        self._expected = False
        self._body = None
        self.beside = exchange.carries_messages
        limits = exchange.limits
        self._start((limits.upgrade_idle if self.beside else limits.body) / LOOKS)

    def _start(self, seconds: float) -> None:
        if not seconds:
            self._stop()
        elif self._timer is None:
            self._timer = self._connection.timers.start(seconds, self._timed_out)
        else:
            self._timer.restart(seconds)

    def _restart(self) -> None:
        if self._timer is not None and self._timer.active:
            self._timer.restart()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _timed_out(self) -> None:
        connection = self._connection
        exchange = self.exchange
        if exchange is None:
            return
        if self.switched:
            connection.shed(self, self._stream, "idle")
        elif self._body_comes(exchange):
            assert self._timer is not None
            self._timer.restart()
        else:
            connection.shed_body(exchange)

    def _body_comes(self, exchange: Exchange) -> bool:
        """A look at the body.  Beside an answer, an octet either way is enough."""
        connection = self._connection
        limits = exchange.limits
        codec = connection.codec
        if not self.beside and (codec.unread(self._stream) or connection.crowd().held_back):
            # it is we who do not read
            self._body = None
            return True
        if self._body is None:
            self._body = SharedPace(0, connection.heard)
        if self.beside:
            return self._body.advance(exchange.received + exchange.sent, 0)[0] >= 1
        least = least_octets(limits.body_rate, limits.body)
        own, line = self._body.advance(exchange.received, connection.heard)
        # with the others that wait for theirs: on a slow line its turn comes (its own timer is not running just now)
        return own >= least or line >= least * (1 + connection.crowd().awaiting)

    def _start_stall(self) -> None:
        connection = self._connection
        self._giver = self.exchange
        self._reader = None
        if self._stall is None:
            self._stall = connection.timers.start(connection.limits.stall / LOOKS, self._look_at_reader)
        else:
            self._stall.restart()

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()

    def _look_at_reader(self) -> None:
        """Is what waits on the stream taken?"""
        if self._is_taken():
            assert self._stall is not None
            self._stall.restart()
        else:
            log.debug("a visitor's stream that does not read was reset")
            self._connection.shed(self, self._stream, "slow-reader")

    def _is_taken(self) -> bool:
        connection = self._connection
        codec = connection.codec
        if not connection.writable:
            # the whole connection is slow, which has a clock of its own
            self._reader = None
            return True
        given = self._giver.sent if self._giver is not None else 0
        taken = given - codec.queued(self._stream)
        if self._reader is None:
            self._reader = SharedPace(taken, codec.sent)
            return True
        own, line = self._reader.advance(taken, codec.sent)
        least = least_octets(connection.limits.stall_rate, connection.limits.stall)
        # where its own window is open, its connection took others' answers: its turn comes
        return own >= least or (codec.window(self._stream) > 0 and line >= least * (1 + connection.crowd().stalling))
