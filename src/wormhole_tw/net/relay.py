"""Two connections joined: what one sends the other gets, with backpressure, half-close and errors both ways.

`Relay` has two ends, each the protocol of one connection. The near end is usually connected first; what it receives
waits in its transport until the far one stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Relay", "RelayEnd"]


@implementer(IHalfCloseableProtocol, IPushProducer)
class RelayEnd(Protocol):
    """The protocol of one of the two connections, and the producer of what the other one sends.

    :ivar received: bytes that came from this connection
    :ivar written: bytes that were handed to this connection
    """

    transport: Any

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.other: RelayEnd = self
        self.received = 0
        self.written = 0
        self.lost: Failure | None = None
        self._early: list[bytes] | None = None
        self._ended = False  # this connection sends no more
        self._finished = False  # this connection gets no more
        self._paused = False

    def connectionMade(self) -> None:
        self._relay._connected(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        other = self.other
        if other.transport is None:
            # A transport that was paused may still bring what it had in hand.
            if self._early is None:
                self._early = []
            self._early.append(data)
        elif not other._finished:
            other.written += len(data)
            other.transport.write(data)

    def readConnectionLost(self) -> None:
        """This connection's peer has sent everything: tell the other's peer, and go on in the other direction."""
        if self._ended:
            return
        self._ended = True
        if self.other.transport is not None:
            self._relay._end(self)

    def writeConnectionLost(self) -> None:
        """Our own half-close was carried out."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason
        self._relay._lost(self, reason)

    def pauseProducing(self) -> None:
        self._paused = True
        if self.lost is None:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        # Twisted's TCP, resumed after its end of file, would report the end again.
        if self.lost is None and not self._ended:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection that we produce for is gone; its own ``connectionLost`` says how, and decides."""

    def finish(self) -> None:
        """Send what was written, then this connection's end of stream; it may go on receiving."""
        if self._finished or self.lost is not None:
            return
        self._finished = True
        # Unregister first: a Twisted transport whose producer is paused would wait for more of it before the end.
        self.transport.unregisterProducer()
        lose_write = getattr(self.transport, "loseWriteConnection", None)
        if lose_write is not None:
            lose_write()
        # Where only the whole can be closed, that waits until this side too has said everything.


class Relay:
    """Joins two connections.

    Give ``near`` and ``far`` as protocols to the two transports, in any order. When both directions have ended, both
    connections are closed. When one is lost otherwise, the other is aborted, or whatever ``on_failure`` does to it.

    :param on_failure: ``on_failure(lost_end, reason)`` is called instead of aborting ``lost_end.other.transport``; it
        must end that connection
    :param on_done: called once, when both connections are gone, or the near one before the far one was there
    """

    __slots__ = ("_done", "_on_done", "_on_failure", "far", "near")

    def __init__(
        self,
        on_failure: Callable[[RelayEnd, Failure], None] | None = None,
        on_done: Callable[[Relay], None] | None = None,
    ) -> None:
        self._on_failure = on_failure
        self._on_done = on_done
        self._done = False
        self.near = RelayEnd(self)
        self.far = RelayEnd(self)
        self.near.other = self.far
        self.far.other = self.near

    @property
    def delivered(self) -> bool:
        """Whether any byte was handed to the far connection."""
        return self.far.written > 0

    def abort(self) -> None:
        """Abort whatever is connected."""
        for end in (self.near, self.far):
            if end.transport is not None and end.lost is None:
                end.transport.abortConnection()

    def _connected(self, end: RelayEnd) -> None:
        other = end.other
        if other.lost is not None:
            end.transport.abortConnection()
        elif other.transport is None:
            end.pauseProducing()
        else:
            end.transport.registerProducer(other, True)
            other.transport.registerProducer(end, True)
            self._catch_up(other)

    def _catch_up(self, waiting: RelayEnd) -> None:
        """The other connection stands: hand over what ``waiting`` received before, and let it go on."""
        early, waiting._early = waiting._early, None
        was_paused_for_waiting, waiting._paused = waiting._paused, False
        target = waiting.other
        for data in early or ():
            target.written += len(data)
            target.transport.write(data)
        if waiting._ended:
            self._end(waiting)
        elif was_paused_for_waiting and not waiting._paused:
            waiting.resumeProducing()

    def _end(self, end: RelayEnd) -> None:
        end.other.finish()
        if end.other._ended:
            self._close()

    def _close(self) -> None:
        for end in (self.near, self.far):
            if end.transport is not None and end.lost is None:
                if not end._finished:
                    end._finished = True
                    end.transport.unregisterProducer()
                end.transport.loseConnection()

    def _lost(self, end: RelayEnd, reason: Failure) -> None:
        other = end.other
        clean = reason.check(ConnectionDone) is not None
        if other.transport is not None and other.lost is None:
            if clean:
                # Closed as a whole: it takes nothing more, so that what the other may still say is of no use.
                end._ended = True
                self._close()
            elif self._on_failure is not None:
                self._on_failure(end, reason)
            else:
                other.transport.abortConnection()
        if not self._done and (other.lost is not None or other.transport is None):
            self._done = True
            if self._on_done is not None:
                self._on_done(self)
