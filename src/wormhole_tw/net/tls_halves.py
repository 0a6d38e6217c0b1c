"""Twisted's TLS with what it lacks: half-close in both directions (by close_notify, RFC 8446 section 6.1), an end with
close_notify told from one without it on either side, and the reason why a certificate was rejected.

Bytes move through it as Twisted moves them. `wormhole_tw.net.tls_transport` has the faster way, built on this.
"""

# mypy: allow-untyped-calls
# (the class that this one extends has no annotations)

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL
from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.net.tls_failure import CertificateRejected

__all__ = ["HalfClosingTls"]

READ_SIZE = 32 * 1024
"""Bytes of clear text asked for at a time: as many as Twisted asks for."""


def _verify_error(connection: SSL.Connection) -> int:
    """OpenSSL's verdict on the peer's certificate, 0 for none. Only for messages: pyOpenSSL has no public way to it."""
    try:
        return int(cast(Any, SSL)._lib.SSL_get_verify_result(cast(Any, connection)._ssl))
    except (AttributeError, TypeError, ValueError):
        return 0


@implementer(IHalfCloseableProtocol)
class HalfClosingTls(TLSMemoryBIOProtocol):
    """TLS over a transport, and the transport of the protocol that it wraps.

    ``loseWriteConnection`` sends close_notify behind what was written and goes on reading. The peer's close_notify is
    ``readConnectionLost`` for an `IHalfCloseableProtocol`, which may go on writing; any other protocol is disconnected.
    An end of the connection without close_notify is a truncation and reported as ``ConnectionLost``, never as
    ``ConnectionDone``.

    ``loseConnection`` is Twisted's: close_notify, then it waits for the peer's; who does not trust the peer to answer
    calls ``abortConnection`` after a while, which sends no close_notify: what was cut off must not look whole.
    """

    transport: Any  # an ITCPTransport, or whatever like it is wrapped
    hello: bytes = b""
    """What a server's client began with; for whoever makes the OpenSSL connection."""
    lingers = False
    """Whether a client that is refused in the handshake is read on, so that its alert arrives: what TLS 1.3 lets it say
    before it can know would reset the connection. Whoever says so bounds the handshake's time and octets."""
    _read_closed = False
    _write_closing = False
    _write_closed = False

    # Writing.

    def write(self, data: bytes) -> None:
        if not self._write_closing:
            super().write(data)

    def _write(self, bytes: bytes) -> None:
        if self._appSendBuffer:
            self._bufferedWrite(bytes)  # what is written in handshakeCompleted must not overtake what waited for it
        else:
            super()._write(bytes)

    def _send_unsent(self) -> None:
        """Hand on what a faster class collects; here nothing waits."""

    # Ending.

    def loseWriteConnection(self) -> None:
        """Send close_notify once everything written before is on its way; what is written later is dropped."""
        if self._write_closing or self.disconnecting or not self.connected:
            return
        self._send_unsent()
        self._write_closing = True
        self._close_write()

    def _close_write(self) -> None:
        if self._write_closed or self._appSendBuffer or not self._handshakeDone or self._lostTLSConnection:
            return
        self._write_closed = True
        self._shutdownTLS()
        half_closeable = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if half_closeable is not None and not self._lostTLSConnection:
            half_closeable.writeConnectionLost()

    def _unbufferPendingWrites(self) -> None:
        super()._unbufferPendingWrites()
        if self._write_closing:
            self._close_write()

    def _checkHandshakeStatus(self) -> None:
        if self._aborted:
            return
        try:
            self._tlsConnection.do_handshake()
        except WantReadError:
            self._flushSendBIO()
        except Error:
            self._tlsShutdownFinished(Failure())
        else:
            self._shaken()

    def _shaken(self) -> None:
        """OpenSSL says that the handshake is done."""
        if self._aborted:
            return  # a callback did not like the peer, and said so by failVerification
        self._handshakeDone = True
        if IHandshakeListener.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.handshakeCompleted()
        if self._write_closing and not self._aborted:
            self._close_write()

    def loseConnection(self) -> None:
        self._send_unsent()
        if self._write_closed and self._read_closed and self.connected and not self.disconnecting:
            # Both halves are closed already: nothing is left to say or to wait for.
            self.disconnecting = True
            self.transport.loseConnection()
            return
        super().loseConnection()

    def abortConnection(self) -> None:
        """Give the connection up. Twisted's says close_notify first, which a transport that sends at once would
        deliver: an answer that was cut off would look whole. Where TLS is over already, it drops what the peer does not
        take."""
        if self._aborted or not self.connected:
            return
        self._aborted = True
        self.disconnecting = True
        self.transport.abortConnection()

    def _shutdownTLS(self) -> None:
        # Twisted's also comes here from unregisterProducer, after an abort or after all is over.
        if not self._aborted and self._tlsConnection is not None:
            super()._shutdownTLS()

    def refuse_peer(self, reason: Failure) -> None:
        """The handshake is about to fail for this reason: `connectionLost` will tell it, and the peer gets the alert
        that OpenSSL makes of it. For a callback that makes OpenSSL fail; others call `failVerification`, which aborts.
        """
        self._reason = reason

    # Reading.

    def dataReceived(self, data: bytes) -> None:
        if self._aborted or self._lostTLSConnection or self._read_closed:
            return  # nothing of it would be read, and OpenSSL would keep it all
        super().dataReceived(data)

    def _flushReceiveBIO(self) -> None:
        connection = self._tlsConnection
        while not self._lostTLSConnection and not self._read_closed:
            try:
                data = connection.recv(READ_SIZE)
            except WantReadError:
                break
            except ZeroReturnError:
                self._peer_closed()
            except Error:
                self._tlsShutdownFinished(Failure())
            else:
                if not self._aborted:
                    self.wrappedProtocol.dataReceived(data)
        if self._tlsConnection is not None:
            self._flushSendBIO()

    def _peer_closed(self) -> bool:
        """The peer has said all; gives whether we have, too, and TLS is over."""
        wrapped = self.wrappedProtocol
        if not IHalfCloseableProtocol.providedBy(wrapped) or self.disconnecting or self._aborted:
            self._send_unsent()
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
            return True
        self._read_closed = True
        wrapped.readConnectionLost()
        return False

    def readConnectionLost(self) -> None:
        """The transport below read its end: expected after close_notify, otherwise a truncation."""
        if self._lostTLSConnection:
            self.transport.loseConnection()
        elif not self._read_closed:
            self._tlsConnection.bio_shutdown()
            if self._handshakeDone:
                self._flushReceiveBIO()
            else:
                self._checkHandshakeStatus()
            if not self._lostTLSConnection and not self._read_closed:
                self.transport.abortConnection()

    def writeConnectionLost(self) -> None:
        """The transport below closed its write half; nobody asks it to."""

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        if reason is not None and not self._handshakeDone and reason.check(Error):
            code = _verify_error(self._tlsConnection)
            if code and "certificate verify failed" in str(reason.value):
                reason = Failure(CertificateRejected(cast(Error, reason.value).args[0], code))
            if self.lingers:
                self._reason = reason
                self._lostTLSConnection = True
                self._flushSendBIO()
                self.transport.loseWriteConnection()
                return
        super()._tlsShutdownFinished(reason)
        # Nothing more is taken of a producer, and a Twisted transport whose producer is paused would wait for more of
        # it, and neither read nor close.
        producer, self._producer = self._producer, None
        if producer is not None:
            self.transport.unregisterProducer()
            producer.stopProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._producer = None  # the transport has told it
        if self._read_closed or self._aborted:
            # The peer said that it was done, or we gave it up: that nothing more comes is no truncation.
            self._lostTLSConnection = True
        super().connectionLost(reason)
