"""A connection in memory, of which the test says when bytes move and where they are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

_ENDLESS = 1_000_000


@implementer(ITCPTransport)
class End:
    """One end. As a socket does, it calls its protocol only from the reactor (here: `Wire.run`), never out of a call.

    What was written has left: an abort does not take it back, as it does not for a transport that sends at once.

    :ivar protocol: whom it speaks to
    :ivar capacity: octets that wait before a producer is paused
    :ivar delivered: octets that the other end's protocol got so far
    :ivar barrier: at most so many are delivered, or None
    :ivar piece: octets delivered at a time, or None for all that is there
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.other: End
        self.protocol: Any = None
        self.capacity = 65536
        self.delivered = 0
        self.barrier: int | None = None
        self.piece: int | None = None
        self.queue = bytearray()
        self.most = 0
        self.reading = True
        self.connected = False
        self.disconnecting = False
        self.lost: BaseException | None = None
        self._write_closing = False
        self._fin_sent = False
        self._fin_told = False
        self._reset: BaseException | None = None
        self.producer: Any = None
        self._streaming = False
        self._producer_paused = False

    def connect(self, protocol: Any) -> None:
        self.protocol = protocol
        self.connected = True
        protocol.makeConnection(self)

    # what the protocol calls

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if not self.connected or self._fin_sent or self._reset:
            return
        self.queue += data
        self.most = max(self.most, len(self.queue))
        if self.producer is not None and self._streaming and len(self.queue) > self.capacity:
            self._producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self._write_closing = True

    def abortConnection(self) -> None:
        if self.connected and self._reset is None:
            self._reset = ConnectionAborted()
            self.disconnecting = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("there is a producer")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer, self._streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 443)

    getHost = getPeer

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to set."""

    getTcpKeepAlive = getTcpNoDelay
    setTcpKeepAlive = setTcpNoDelay

    # what the reactor does

    def step(self) -> bool:
        """One thing that is due here, as the reactor would do it; False where nothing is."""
        if not self.connected:
            return False
        if self._reset is not None:
            self._lose(self._reset)
            return True
        return self._deliver() or self._drained()

    def _deliver(self) -> bool:
        other = self.other
        room = len(self.queue) if self.barrier is None else min(len(self.queue), self.barrier - self.delivered)
        size = min(room, self.piece or room)
        if size <= 0 or not other.reading:
            return False
        data = bytes(self.queue[:size])
        del self.queue[:size]
        self.delivered += size
        if other.connected:
            other.protocol.dataReceived(data)
        return True

    def _drained(self) -> bool:
        if self.queue:
            return False
        if self.producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self.producer.resumeProducing()
            return True
        if self.producer is None and self.disconnecting:
            self._lose(ConnectionDone())
            return True
        if self._write_closing and not self._fin_sent:
            self._fin_sent = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
            return True
        if (self._fin_sent or self.lost is not None) and not self._fin_told and self.other.reading:
            self._fin_told = True
            self.other.hear_end()
            return True
        return False

    def leave(self) -> bool:
        """What one that is gone still has to say."""
        if self.connected or self.lost is None or self._fin_told:
            return False
        if self._deliver():
            return True
        if self.queue or not self.other.reading:
            return False
        self._fin_told = True
        if isinstance(self.lost, ConnectionDone):
            self.other.hear_end()
        elif self.other.connected:
            self.other._lose(ConnectionLost())
        return True

    def hear_end(self) -> None:
        if not self.connected:
            return
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._lose(ConnectionDone())

    def _lose(self, reason: BaseException) -> None:
        self.connected = False
        self.lost = reason
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))


class Wire:
    """Two ends.

    :ivar clock: what both protocols take for the reactor
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.ends = End(self.clock), End(self.clock)
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]

    def cut(self, piece: int | None) -> None:
        """From now on bytes come in pieces of this size."""
        for end in self.ends:
            end.piece = piece

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Move bytes and let time's next moment come, until nothing happens any more, or until a condition holds."""
        for _ in range(_ENDLESS):
            if until is not None and until():
                return
            if not self._turn():
                assert until is None, "nothing more happens, and it is not so"
                return
        raise AssertionError("it never comes to rest")

    def run_through(self, look: Callable[[], object]) -> None:
        """The same to the end, with a look after each turn, which may make more happen."""
        for _ in range(_ENDLESS):
            moved = self._turn()
            look()
            if not moved and not self._turn():
                return
        raise AssertionError("it never comes to rest")

    def _turn(self) -> bool:
        due = [call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds()]
        self.clock.advance(0)
        moved = [end.step() or end.leave() for end in self.ends]
        return bool(due) or any(moved)
