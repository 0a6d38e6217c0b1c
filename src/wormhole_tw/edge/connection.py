"""What a visitor's connection has whatever version of HTTP it speaks: its transport, its clocks, and how it ends."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.interfaces import IDrainable
from wormhole_tw.edge.pace import LOOKS, Pace, least_octets
from wormhole_tw.net.handover import hand_over
from wormhole_tw.net.tls_transport import rest, write_at_once
from wormhole_tw.net.transport import unsent

if TYPE_CHECKING:
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.net.timers import Timer

__all__ = ["IDLE_CLOSE", "LINGER_BYTES", "Connection", "Phase"]

log = Logger()

LINGER_BYTES = 16 * 1024 * 1024
"""Octets read and thrown away after the last answer.  A client that is still sending does not read yet; closing on it
would reset the connection, and the answer (a 413) with it.  This is more than two kernels buffer between them."""

IDLE_CLOSE = 1.0
"""Seconds that the peer of an idle connection has to answer our close, so that a stop does not wait for the dead."""


class Phase(Enum):
    """What a connection waits for, and with it which timeout counts."""

    IDLE = "idle"
    """between requests; it may still have to take the last answer"""
    KEPT = "kept"
    """the same, and it has taken all"""
    HEAD = "head"
    BUSY = "busy"
    """the request is whole: the exchange has its own timeouts; over HTTP/2 so have the streams"""
    LEAVE = "leave"
    """the same: its body waits for the origin's 100"""
    BODY = "body"
    BOTH = "both"
    """the answer has begun beside the body: who is silent then may be the service's to say"""
    RAW = "raw"
    CLOSING = "closing"


@implementer(IHalfCloseableProtocol, IDrainable)
class Connection:
    """One connection of a visitor.  What it hears (``dataReceived``) and says (``resumeProducing``) is its subclass's.

    :ivar facts: what is known of it
    :ivar writable: the transport has room for more
    :ivar requests: how many have begun on it
    :ivar counted: what it is counted for among ``context.addresses``, or an empty string
    """

    __slots__ = (
        "_added",
        "_asked",
        "_context",
        "_discarded",
        "_feeding",
        "_half_closed",
        "_lost",
        "_paused",
        "_phase",
        "_read_ended",
        "_reader",
        "_send",
        "_stall",
        "_timer",
        "_transport",
        "_until",
        "counted",
        "factory",
        "facts",
        "requests",
        "writable",
    )

    def __init__(self, context: EdgeContext, facts: ConnectionFacts) -> None:
        self.facts = facts
        self.factory = None
        self.requests = 0
        self.writable = True
        self.counted = ""
        self._context = context
        self._transport: Any = None
        self._feeding = False
        self._paused = False  # we do not read
        self._half_closed = False  # we have said all
        self._lost = False
        self._read_ended = False
        self._discarded = 0
        self._until = 0.0  # who has not got the whole of its last answer may take until then
        self._phase = Phase.HEAD
        self._timer: Timer | None = None
        self._stall: Timer | None = None
        self._reader: Pace | None = None  # how what waits for the visitor is taken, while that is in question
        self._added = 0  # octets written while the transport was full
        self._asked = 0  # requests when the reader was first looked at

    # what the subclass does

    def _read_over(self) -> None:
        """The visitor ended its direction of a connection that is not closing."""
        raise NotImplementedError

    def _gone(self) -> None:
        """The connection is over: end what runs on it."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Take no new request; close when the running ones are done."""
        raise NotImplementedError

    def _blame(self, reason: str) -> None:
        """What runs here ends, for this reason."""
        raise NotImplementedError

    def _timed_out(self) -> None:
        """The time of the phase is over."""
        raise NotImplementedError

    # IProtocol, but for dataReceived

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport
        context = self._context
        context.connections.add(self)
        self._timer = context.timers.start(context.limits.head, self._timed_out)
        self._send = write_at_once(transport)  # what one read brings is written at its end
        self._transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """All is done in :meth:`makeConnection`."""

    def logPrefix(self) -> str:
        return "visitor"

    def readConnectionLost(self) -> None:
        if self._lost:
            return
        self._read_ended = True
        if self._phase is Phase.CLOSING:
            self._transport.loseConnection()
        else:
            self._read_over()

    def writeConnectionLost(self) -> None:
        """Our own direction is closed: nothing to do."""

    def connectionLost(self, reason: Failure) -> None:
        self._lost = True
        self._cancel_timers()
        context = self._context
        context.connections.discard(self)
        if self.counted:
            context.addresses.leave(self.counted)
        self._gone()
        context.pool.visitor_gone(self.facts)

    # IPushProducer, but for resumeProducing: the transport is full, or gone

    def pauseProducing(self) -> None:
        if self.writable:
            self.writable = False
            self._reader = None
            if self._stall is None:
                self._stall = self._context.timers.start(self._context.limits.stall / LOOKS, self._look_at_reader)
            else:
                self._stall.restart()

    def stopProducing(self) -> None:
        """connectionLost follows."""

    # IDrainable

    def linger(self) -> None:
        """See the interface.  The next answer on HTTP/1 says that it is the last: nothing is to be done for it now."""

    def drain(self) -> None:
        """See the interface."""
        if not self._lost and self._phase is not Phase.CLOSING:
            self._leave()

    def abort(self) -> None:
        """See the interface."""
        if not self._lost:
            self._drop()

    def _give_away(self, protocol: IProtocol, data: bytes) -> None:
        """Another protocol's from here on: nothing of this one is left on the transport.

        :param data: what came for it already
        """
        self._lost = True
        self._cancel_timers()
        context = self._context
        context.connections.discard(self)
        if self.counted:
            context.addresses.leave(self.counted)
        context.pool.visitor_gone(self.facts)
        self._transport.unregisterProducer()
        if self._paused:
            self._transport.resumeProducing()
        hand_over(self._transport, protocol, data)

    # its end

    def _discard(self, data: bytes) -> None:
        """Bytes came on a connection that is closing."""
        self._discarded += len(data)
        if self._discarded > LINGER_BYTES:
            self._drop()

    def _close(self, seconds: float) -> None:
        """Send what is queued, say that it was all, and read on until the visitor has heard it.

        :param seconds: what it has to close, too, once it has taken everything
        """
        context = self._context
        self._until = context.timers.now + seconds
        self._reader = None
        if unsent(self._transport):
            seconds = min(seconds, context.limits.stall / LOOKS)
        self._enter(Phase.CLOSING, seconds)
        if not self._half_closed:
            self._half_close()
        if self._read_ended:
            self._transport.loseConnection()
        elif self._paused:
            self._paused = False
            self._transport.resumeProducing()

    def _half_close(self) -> None:
        self._half_closed = True
        self._cancel_stall()
        self._transport.unregisterProducer()
        self._transport.loseWriteConnection()

    def _drop(self) -> None:
        self._cancel_timers()
        self._phase = Phase.CLOSING
        self._transport.abortConnection()

    # its clocks

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        timer = self._timer
        assert timer is not None
        if seconds:
            timer.restart(seconds)
        else:
            timer.cancel()

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()

    def _cancel_timers(self) -> None:
        self._cancel_stall()
        if self._timer is not None:
            self._timer.cancel()

    def _look_at_reader(self) -> None:
        """The transport is full: does the visitor take what waits for it?"""
        if self._reads_on(unsent(self._transport)):
            assert self._stall is not None
            self._stall.restart()

    def _reads_on(self, waiting: int) -> bool:
        """A look at who still has to take something; one that took too little in the last window is dropped.

        :param waiting: octets that it has not got yet
        """
        taken = self._added - waiting
        reader = self._reader
        if reader is None:
            self._reader = Pace(taken)
            return True
        limits = self._context.limits
        if reader.advance(taken) >= least_octets(limits.stall_rate, limits.stall):
            return True
        self._context.counters.shed["reader"] += 1
        log.debug("a visitor that does not read was dropped")
        self._blame("slow-reader")
        self._drop()
        return False

    def _idle_timed_out(self) -> None:
        """It is between requests: first it has to take the last answer, then it may stay for a while.

        What is less than a window's least costs no more than the connection itself, and may be on its way again to
        somebody whose train is in a tunnel.
        """
        context = self._context
        if self._phase is Phase.IDLE:
            limits = context.limits
            waiting = unsent(self._transport)
            if waiting > least_octets(limits.stall_rate, limits.stall):
                if self._asked != self.requests:
                    self._asked = self.requests
                    self._reader = None
                if self._reads_on(waiting):
                    self._enter(Phase.IDLE, context.idle_look)
                return
            left = limits.keep_alive - context.idle_look
            if left > 0:
                rest(self._transport)  # a long answer's buffers are not kept for as long as the connection may be
                self._enter(Phase.KEPT, left)
                return
        self._leave()

    def _close_timed_out(self) -> None:
        """It has taken what was left for it, or not; it has closed its side, or not."""
        waiting = unsent(self._transport)
        left = self._until - self._context.timers.now
        if waiting:
            if self._reads_on(waiting):
                self._enter(Phase.CLOSING, self._context.limits.stall / LOOKS)
        elif left > 0:
            self._enter(Phase.CLOSING, left)
        else:
            self._drop()
