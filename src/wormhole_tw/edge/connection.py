"""What a visitor's connection has whatever version of HTTP it speaks: its transport, its clocks, and how it ends."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.interfaces import IDrainable
from wormhole_tw.net.tls_transport import write_at_once
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
    HEAD = "head"
    BUSY = "busy"
    """the request is whole: the exchange has its own timeouts; over HTTP/2 so have the streams"""
    LEAVE = "leave"
    """the same: its body waits for the origin's 100"""
    BODY = "body"
    RAW = "raw"
    CLOSING = "closing"


@implementer(IHalfCloseableProtocol, IDrainable)
class Connection:
    """One connection of a visitor.  What it hears (``dataReceived``) and says (``resumeProducing``) is its subclass's.

    :ivar facts: what is known of it
    :ivar writable: the transport has room for more
    :ivar requests: how many have begun on it
    """

    __slots__ = (
        "_context",
        "_discarded",
        "_feeding",
        "_half_closed",
        "_lost",
        "_paused",
        "_phase",
        "_read_ended",
        "_stall",
        "_timer",
        "_transport",
        "_until",
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

    def _timed_out(self) -> None:
        """The time of the phase is over."""
        raise NotImplementedError

    # IProtocol, but for dataReceived

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport
        context = self._context
        context.connections.add(self)
        self._timer = context.timers.start(context.limits.head, self._timed_out)
        write_at_once(transport)  # what one read brings is written at its end
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
        self._gone()
        context.pool.visitor_gone(self.facts)

    # IPushProducer, but for resumeProducing: the transport is full, or gone

    def pauseProducing(self) -> None:
        if self.writable:
            self.writable = False
            limit = self._context.limits.stall
            if self._stall is None:
                self._stall = self._context.timers.start(limit, self._stalled)
            else:
                self._stall.restart(limit)

    def stopProducing(self) -> None:
        """connectionLost follows."""

    # IDrainable

    def drain(self) -> None:
        """See the interface."""
        if not self._lost and self._phase is not Phase.CLOSING:
            self._leave()

    def abort(self) -> None:
        """See the interface."""
        if not self._lost:
            self._drop()

    # its end

    def _discard(self, data: bytes) -> None:
        """Bytes came on a connection that is closing."""
        self._discarded += len(data)
        if self._discarded > LINGER_BYTES:
            self._drop()

    def _close(self, seconds: float) -> None:
        """Send what is queued, say that it was all, and read on until the visitor has heard it."""
        if unsent(self._transport):
            self._until = self._context.timers.now + self._context.limits.stall
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

    def _stalled(self) -> None:
        """The visitor took too little of what is buffered for it for too long."""
        self._context.counters.shed += 1
        log.debug("a visitor that does not read was dropped")
        self._drop()

    def _close_timed_out(self) -> None:
        """It did not answer our close; it has longer where it may still be reading."""
        if self._context.timers.now < self._until and unsent(self._transport):
            self._enter(Phase.CLOSING, IDLE_CLOSE)
        else:
            self._drop()
