"""Fakes that tests of several floors share.  They behave; nothing here counts calls or is told what to return."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(ITransport, IConsumer, IPushProducer)
class BoundedTransport:
    """A connection of which the far end reads only when the test says so.

    Unlike ``StringTransport`` and ``iosim`` it has a send buffer of a stated size: past it a registered producer is
    paused, and resumed when :meth:`take` has emptied it.  Like a socket it goes on sending what was written before
    ``loseConnection``, and hands over nothing while reading is paused.

    :ivar capacity: bytes that fit before the producer is paused
    :ivar paused: whether the protocol has paused reading
    :ivar most: the most bytes that were ever queued, to hold a bound to
    """

    def __init__(self, protocol: Any = None, *, capacity: int = 65536, peer: Any = None, host: Any = None) -> None:
        self.protocol = protocol
        self.capacity = capacity
        self.peer = peer or IPv4Address("TCP", "192.0.2.7", 40000)
        self.host = host or IPv4Address("TCP", "192.0.2.1", 443)
        self.producer: Any = None
        self.streaming = False
        self.paused = False
        self.most = 0
        self.write_closed = False
        self.disconnecting = False
        self.disconnected = False
        self._queue = bytearray()
        self._arrived: list[bytes] = []
        self._producer_paused = False
        self._closing_write = False

    # what the protocol calls

    def write(self, data: bytes) -> None:
        if self.disconnected or self.write_closed or self._closing_write:
            return
        self._queue += data
        self.most = max(self.most, len(self._queue))
        self._press()

    def writeSequence(self, chunks: Any) -> None:
        self.write(b"".join(chunks))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("a producer is registered already")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer, self.streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()
        self._press()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._finish()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._finish()

    def loseWriteConnection(self) -> None:
        self._closing_write = True
        self._finish()

    def abortConnection(self) -> None:
        self._queue.clear()
        self._lose(Failure(ConnectionAborted()))

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        while self._arrived and not self.paused and not self.disconnected:
            self.protocol.dataReceived(self._arrived.pop(0))

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> Any:
        return self.peer

    def getHost(self) -> Any:
        return self.host

    # what the test does as the far end

    @property
    def queued(self) -> int:
        """Bytes written and not yet taken."""
        return len(self._queue)

    @property
    def dataBuffer(self) -> bytes:
        """As a ``tcp.Connection`` calls it, for those who ask how much has not been sent."""
        return bytes(self._queue)

    @property
    def producer_paused(self) -> bool:
        return self._producer_paused

    def take(self, size: int | None = None) -> bytes:
        """Read as the far end: up to ``size`` bytes, or all that is there."""
        taken = bytes(self._queue[:size])
        del self._queue[: len(taken)]
        if not self._queue and self.producer is not None and (self._producer_paused or not self.streaming):
            self._producer_paused = False
            self.producer.resumeProducing()
        self._finish()
        return taken

    def take_all(self) -> bytes:
        """Read until nothing more comes."""
        taken = b""
        while chunk := self.take():
            taken += chunk
        return taken

    def deliver(self, data: bytes) -> None:
        """Bytes arrive; they wait while the protocol has paused reading."""
        if self.paused:
            self._arrived.append(data)
        elif not self.disconnected:
            self.protocol.dataReceived(data)

    def end_reading(self) -> None:
        """The far end closes its half."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._lose(Failure(ConnectionDone()))

    def lose(self, reason: BaseException | None = None) -> None:
        """The connection breaks."""
        self._lose(Failure(reason or ConnectionDone()))

    def _press(self) -> None:
        if self.producer is None or not self.streaming or self._producer_paused:
            return
        if len(self._queue) > self.capacity:
            self._producer_paused = True
            self.producer.pauseProducing()

    def _finish(self) -> None:
        if self._queue or self.producer is not None or self.disconnected:
            return
        if self._closing_write and not self.write_closed:
            self.write_closed = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
        if self.disconnecting:
            self._lose(Failure(ConnectionDone()))

    def _lose(self, reason: Failure) -> None:
        if self.disconnected:
            return
        self.disconnected = True
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        if self.protocol is not None:
            self.protocol.connectionLost(reason)
