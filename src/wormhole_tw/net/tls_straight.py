"""The straight way of a record through TLS: what most reads and writes take, in as few steps as may be.

Twisted's wrapper of a transport has a ``__getattr__``.  With one in a class, Python looks for every attribute of its
objects ten times as long, and a read and a write look at a score of them to find that nothing is in the way.  So that
is found out once, and noted on an object without one; whatever comes in the way takes the note back.
"""

# mypy: allow-untyped-calls
# (the class that this one extends has no annotations)

from __future__ import annotations

from typing import Any, cast

from OpenSSL.SSL import Error, ZeroReturnError
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from wormhole_tw.net.records import CIPHER_SIZE, RECORD_SIZE, Records
from wormhole_tw.net.tls_halves import HalfClosingTls

__all__ = ["Straight", "StraightTls"]


class Straight:
    """A transport of TLS, as it is read and written where nothing is in the way.

    :param transport: the one below
    :param unsent: what was written and waits for the end of the turn; always this list
    :ivar open: nothing is: the handshake is done, nothing waits for OpenSSL, and nobody has said a last word
    :ivar views: what was read is given as :meth:`Records.look` gives it
    """

    __slots__ = ("_records", "_tls", "_transport", "_unsent", "open", "views")

    def __init__(self, tls: StraightTls, transport: Any, records: Records, unsent: list[bytes]) -> None:
        self._tls = tls
        self._transport = transport
        self._records = records
        self._unsent = unsent
        self.open = False
        self.views = False

    def hear(self, data: bytes) -> None:
        """Bytes came from the network."""
        tls = self._tls
        if not self.open:
            tls._hear(data)
            return
        records = self._records
        try:
            clear = cast(bytes, records.look(data)) if self.views else records.open(data)
        except ZeroReturnError:
            if tls._peer_closed():
                return  # both sides have said all
        except Error:
            tls._tlsShutdownFinished(Failure())
        else:
            if clear:
                tls.wrappedProtocol.dataReceived(clear)
                if records.emptied:
                    # What OpenSSL itself may have to say now (its half of a KeyUpdate) is due before the next record of
                    # ours, and leaves with it (RFC 8446 section 4.6.3).
                    return
        tls._flushReceiveBIO()

    def write(self, data: bytes) -> None:
        """Encrypt and send it at once where it fits into a record; else as the transport writes."""
        if not self.open or self._unsent or not 0 < len(data) <= RECORD_SIZE:
            self._tls.write(data)
            return
        try:
            ciphertext = self._records.seal(data)
        except Error:
            self._tls._tlsShutdownFinished(Failure())
            return
        if 0 < len(ciphertext) < CIPHER_SIZE:
            self._transport.write(ciphertext)
        else:
            self._tls._sealed(data, ciphertext)


class StraightTls(HalfClosingTls):
    """TLS with a straight way; how it takes writes otherwise is its subclass's."""

    straight: Straight | None = None
    """There from the connection's first byte to its last."""

    def _lay_straight(self, transport: Any, records: Records, unsent: list[bytes]) -> None:
        straight = self.straight = Straight(self, transport, records, unsent)
        self.dataReceived = straight.hear  # type: ignore[method-assign]  # a step less

    def _hear(self, data: bytes) -> None:
        """``dataReceived`` where something is in the way, or was."""
        if self._aborted or self._lostTLSConnection or self._read_closed:
            return
        self._go_on(data)
        straight = self.straight
        if straight is not None and self._handshakeDone:
            straight.open = not (
                self._appSendBuffer
                or self._aborted
                or self._lostTLSConnection
                or self._read_closed
                or self._write_closing
                or self.disconnecting
            )

    def _go_on(self, data: bytes) -> None:
        """Feed this, and take what comes of it."""
        raise NotImplementedError

    def _sealed(self, data: bytes, ciphertext: bytes) -> None:
        """Go on with what was sealed, or could not be."""
        raise NotImplementedError

    def _close_straight(self) -> None:
        if self.straight is not None:
            self.straight.open = False

    def _leave_straight(self) -> None:
        if self.straight is not None:
            # they hold each other, and with them OpenSSL's memory
            del self.straight, self.dataReceived

    # What comes in the way.

    def _bufferedWrite(self, octets: bytes) -> None:
        self._close_straight()
        super()._bufferedWrite(octets)

    def _peer_closed(self) -> bool:
        self._close_straight()
        return super()._peer_closed()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        self._close_straight()
        super()._tlsShutdownFinished(reason)

    def loseWriteConnection(self) -> None:
        self._close_straight()
        super().loseWriteConnection()

    def loseConnection(self) -> None:
        self._close_straight()
        super().loseConnection()

    def abortConnection(self) -> None:
        self._close_straight()
        super().abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._close_straight()
        super().connectionLost(reason)
        self._leave_straight()
