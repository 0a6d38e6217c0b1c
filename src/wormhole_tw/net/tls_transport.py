"""The TLS engine behind a small seam: a Protocol wrapped round any transport.

Everything else gets TLS from `TlsAcceptor` here and from `wormhole_tw.net.tls_dialling`, so that another engine enters
here and nowhere else.
This one is Twisted's, with what it lacks (`wormhole_tw.net.tls_halves`), with writes collected to the end of the
reactor turn, and with fewer calls and copies for a handshake and for a record. `wormhole_tw.net.choice` says whether
the last two are used.
"""

# mypy: allow-untyped-calls
# (the class that this one extends has no annotations)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from OpenSSL import SSL
from OpenSSL.SSL import Error, ZeroReturnError
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementedBy, providedBy

from wormhole_tw.net import choice
from wormhole_tw.net.attributes import know_attributes
from wormhole_tw.net.records import CIPHER_SIZE, RECORD_SIZE, Records, records_maker
from wormhole_tw.net.tls_halves import HalfClosingTls
from wormhole_tw.net.tls_straight import StraightTls
from wormhole_tw.net.turn import TurnEnd, turn_end_of

__all__ = [
    "TlsAcceptor",
    "TlsFactory",
    "TlsTransport",
    "exchange_views",
    "rest",
    "tls_connection_of",
    "write_at_once",
]

WRITE_BUFFER = 256 * 1024
"""Bytes that may wait for the end of the turn; beyond, they are encrypted at once, so that the transport below sees
them and its backpressure works."""


SHORT = 4096
"""Bytes of ciphertext that cost less to copy than it costs to see that nobody keeps a view of them."""


def exchange_views(transport: object) -> TlsTransport | None:
    """For a protocol that copies what it keeps of ``dataReceived`` before it does anything else, and has many pieces to
    write: it is given views, and gets the transport where that has :meth:`TlsTransport.write_pieces`, else None."""
    if isinstance(transport, TlsTransport):
        if transport.straight is not None:
            transport.straight.views = True
        return transport
    return None


def tls_connection_of(transport: object) -> SSL.Connection | None:
    """The OpenSSL connection of a TLS transport; None for another transport or one that is closed."""
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle is not None else None
    return handle if isinstance(handle, SSL.Connection) else None


def write_at_once(transport: Any) -> Callable[[bytes], None]:
    """Encrypt and send each write of up to a record as it comes, unless one before it waits: for a protocol that writes
    no more than once or twice a turn.

    Gives the transport's ``write``, or what does the same with less to do.
    """
    if isinstance(transport, TlsTransport):
        transport.collect_writes = False
        if transport.straight is not None:
            return transport.straight.write
    write: Callable[[bytes], None] = transport.write
    return write


def rest(transport: object) -> None:
    """Nothing passes on this connection, and perhaps nothing will for long: give back the memory that what passed took.
    Does nothing to a transport without TLS, and to one that is busy."""
    if isinstance(transport, TlsTransport):
        transport.rest()


class TlsTransport(StraightTls):
    """The faster way: writes of one reactor turn become as few records as may be, and bytes move through buffers that
    stay, by the straight way where nothing is in it. Everything else is `HalfClosingTls`'s."""

    collect_writes = True
    """Whether short writes wait for the end of the turn; who collects them itself says no (:func:`write_at_once`)."""
    _records: Records

    factory: TlsFactory
    _turn: TurnEnd
    _unsent_size = 0

    def __init__(self, factory: TlsFactory, wrappedProtocol: Any, _connectWrapped: bool = True) -> None:
        # all that Twisted's two constructors set
        self.factory = factory
        self.wrappedProtocol = wrappedProtocol
        self._connectWrapped = _connectWrapped
        self._unsent: list[bytes] = []

    def makeConnection(self, transport: Any) -> None:
        # Twisted's declares what the transport provides an interface at a time, and then all at once; and it asks a
        # server's OpenSSL what to say before the client has spoken.
        factory = self.factory
        self._turn = factory.turn
        self._tlsConnection = factory._creatorCallable(self)
        self._appSendBuffer = []
        self._lay_straight(transport, self._records, self._unsent)
        _provide(self, transport)
        self.connected = 1
        self.transport = transport
        if self._connectWrapped:
            self.wrappedProtocol.makeConnection(self)
        if factory.speaks_first:
            self._checkHandshakeStatus()

    # Writing.

    def write(self, data: bytes) -> None:
        if self._write_closing or (self.disconnecting and self._producer is None):
            return
        unsent = self._unsent
        if not unsent:
            if not self.collect_writes and len(data) <= RECORD_SIZE:
                if self.connected and not self._lostTLSConnection and not self._aborted:
                    if self._appSendBuffer or not data:
                        self._write(data)
                    else:
                        self._seal(data)
                return
            self._turn.call(self._send_unsent)
        unsent.append(data)
        self._unsent_size += len(data)
        if self._unsent_size >= WRITE_BUFFER:
            self._send_unsent()

    def write_view(self, data: bytes | memoryview) -> None:
        """:meth:`write` of bytes that are the caller's again when this returns, for TLS within this TLS (a proxy that
        is itself reached by TLS). Without it the socket's own would be found, past our encryption: a wrapper of
        Twisted's hands on what is asked for and not there."""
        self.write(bytes(data))

    def writeSequence(self, iovec: Any) -> None:
        for data in iovec:
            self.write(data)

    def _send_unsent(self) -> None:
        unsent = self._unsent[:]
        if not unsent:
            return
        self._forget_unsent()
        if self.connected and not self._lostTLSConnection and not self._aborted:
            if len(unsent) == 1:
                self._write(unsent[0])
            elif self._appSendBuffer or not self._handshakeDone:
                self._write(b"".join(unsent))
            else:
                self._write_pieces(unsent)

    def _write(self, bytes: bytes) -> None:
        if self._lostTLSConnection:
            return
        if self._appSendBuffer:
            self._bufferedWrite(bytes)  # it waits for the handshake, and nothing may overtake it
            return
        if 0 < len(bytes) <= RECORD_SIZE:
            self._seal(bytes)
            return
        self._encrypt(memoryview(bytes))
        self._flushSendBIO()

    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write several pieces, now, as if they were one; long ones are not copied together."""
        if self._unsent or self._appSendBuffer or not self._handshakeDone:
            self.write(b"".join(pieces))
            return
        if self._write_closing or (self.disconnecting and self._producer is None):
            return
        if not self.connected or self._lostTLSConnection or self._aborted:
            return
        self._write_pieces(pieces)

    def _write_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        short: list[bytes | memoryview] = []
        size = 0
        for piece in pieces:
            length = len(piece)
            if length >= RECORD_SIZE:
                # what is short before it shares its first record
                rest = memoryview(piece)
                if short:
                    share = -size % RECORD_SIZE
                    short.append(rest[:share])
                    rest = rest[share:]
                    self._encrypt(memoryview(b"".join(short)))
                    short, size = [], 0
                self._encrypt(rest)
            else:
                short.append(piece)
                size += length
        if short:
            self._encrypt(memoryview(b"".join(short)))
        if not self._lostTLSConnection:
            self._flushSendBIO()

    def _encrypt(self, view: memoryview) -> None:
        if self._lostTLSConnection:
            return
        if self._appSendBuffer:
            self._bufferedWrite(view.tobytes())  # nothing may overtake it
            return
        left = len(view)
        while left:
            size = min(left, WRITE_BUFFER)
            try:
                sent = self._records.write(view if size == left else view[:size])
            except Error:
                self._tlsShutdownFinished(Failure())
                return
            left -= sent
            if not left:
                return
            view = view[sent:]
            if sent < size:
                self._bufferedWrite(view.tobytes())
                return
            if left >= WRITE_BUFFER:
                self._flushSendBIO()

    def _seal(self, data: bytes) -> None:
        """One record."""
        try:
            ciphertext = self._records.seal(data)
        except Error:
            self._tlsShutdownFinished(Failure())
            return
        self._sealed(data, ciphertext)

    def _sealed(self, data: bytes, ciphertext: bytes) -> None:
        if ciphertext:
            self.transport.write(ciphertext)
            if len(ciphertext) == CIPHER_SIZE:
                self._flushSendBIO()
        else:
            self._bufferedWrite(data)
            self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        write_view = getattr(self.transport, "write_view", None)
        if write_view is None:
            while ciphertext := self._records.take():
                self.transport.write(ciphertext)
                if len(ciphertext) < CIPHER_SIZE:
                    break
            return
        while view := self._records.peek():
            size = len(view)
            if size <= SHORT:
                self.transport.write(bytes(view))
                break
            write_view(view)
            if size < CIPHER_SIZE:
                break

    # Reading.

    def _go_on(self, data: bytes) -> None:
        """With the handshake, and with what waits for it."""
        records = self._records
        if self._handshakeDone:
            records.feed(data)
        else:
            try:
                done = records.shake(data)
            except Error:
                self._tlsShutdownFinished(Failure())
                return
            if not done:
                self._flushSendBIO()
                return
            self._shaken()
            if not self._handshakeDone:
                return
        if self._appSendBuffer:
            self._unbufferPendingWrites()
        if records.unread():
            self._flushReceiveBIO()
        elif self._tlsConnection is not None:
            self._flushSendBIO()  # tickets; a client's last message came alone, and there is nothing to ask for

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """What ALPN agreed on; None without it, before the handshake's end, or when all is over."""
        return None if self._tlsConnection is None else self._records.agreed()

    def _flushReceiveBIO(self) -> None:
        records = self._records
        while not self._lostTLSConnection and not self._read_closed:
            try:
                data = records.read()
            except ZeroReturnError:
                self._peer_closed()
            except Error:
                self._tlsShutdownFinished(Failure())
            else:
                if not data:
                    break
                if not self._aborted:
                    self.wrappedProtocol.dataReceived(data)
                if records.emptied:
                    break
        if self._tlsConnection is not None:
            self._flushSendBIO()

    def rest(self) -> None:
        """See :func:`rest`."""
        if self._handshakeDone and not (self._lostTLSConnection or self._aborted or self._read_closed):
            self._records.rest()

    # Ending: what is collected goes out first, or nowhere.

    def abortConnection(self) -> None:
        self._forget_unsent()
        super().abortConnection()

    def unregisterProducer(self) -> None:
        self._send_unsent()  # with loseConnection before, the end comes now
        super().unregisterProducer()

    def _shutdownTLS(self) -> None:
        if self._aborted or self._tlsConnection is None:
            return
        try:
            both = self._tlsConnection.shutdown()
        except Error:
            both = False
        self._flushSendBIO()
        if both:
            self.transport.loseConnection()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        if reason is not None or self._producer is not None:
            super()._tlsShutdownFinished(reason)
            return
        self._close_straight()
        self._lostTLSConnection = True  # and what _shutdownTLS said is on its way
        if not getattr(self.transport, "disconnecting", False):
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget_unsent()
        if not self._lostTLSConnection or self._producer is not None:
            super().connectionLost(reason)
            return
        # As it ends mostly: TLS was over before.
        reason, self._reason = self._reason or reason, None
        self.connected = False
        self.wrappedProtocol.connectionLost(reason)
        self._leave_straight()
        # as Twisted: what is over holds nothing
        inside: Any = self
        inside.wrappedProtocol = None
        inside._tlsConnection = None

    def _forget_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_size = 0


know_attributes(
    TlsTransport,
    *("factory", "wrappedProtocol", "transport", "connected", "disconnecting", "hello", "lingers", "straight"),
    *("collect_writes", "__provides__", "_connectWrapped", "_tlsConnection", "_records", "_turn", "_unsent"),
    *("_unsent_size", "_appSendBuffer", "_handshakeDone", "_lostTLSConnection", "_producer", "_producerPaused"),
    *("_reason", "_aborted", "_read_closed", "dataReceived"),
)

_provided: dict[object, Any] = {}
"""Declarations of what TLS transports provide, by what the transport below provides: a handful, one a kind."""


def _provide(tls: TlsTransport, transport: object) -> None:
    """Let ``tls`` provide what the transport below does."""
    below = providedBy(transport)
    known = _provided.get(below)
    if known is None:
        directlyProvides(tls, below)
        if below is implementedBy(type(transport)):  # and not declared for this one transport alone
            _provided[below] = tls.__provides__
    else:
        tls.__provides__ = known  # type: ignore[attr-defined]


class TlsFactory(TLSMemoryBIOFactory):
    """Wraps what another factory builds in TLS, with what :mod:`wormhole_tw.net.choice` says.

    :ivar speaks_first: a client, whose ClientHello begins the handshake
    :ivar turn: the end of its reactor's turn
    """

    def __init__(self, creator: Any, is_client: bool, wrapped: Factory, clock: IReactorTime) -> None:
        super().__init__(creator, is_client, wrapped, clock)
        self.speaks_first = is_client
        self.kind: type[HalfClosingTls] = TlsTransport if choice.ours() else HalfClosingTls
        self.protocol = self.kind
        if self.kind is HalfClosingTls:
            return
        self.turn = turn_end_of(clock)
        records = records_maker(clock)
        twisteds_way = self._creatorCallable
        accepts = not is_client and IOpenSSLServerConnectionCreator.providedBy(creator)

        def create(transport: TlsTransport) -> SSL.Connection:
            connection: SSL.Connection
            if accepts:
                # Twisted also has the connection know its transport, for callbacks of a client: a circle, which only
                # the collector would find.
                connection = creator.serverConnectionForTLS(transport)
                connection.set_accept_state()
            else:
                connection = twisteds_way(transport)
            transport._records = records(connection)
            return connection

        self._creatorCallable = cast(Any, create)

    def registerProtocol(self, p: Any) -> None:
        """Nobody asks for the list of connections; it would keep a row for each."""

    def unregisterProtocol(self, p: Any) -> None:
        """See `registerProtocol`."""


class TlsAcceptor:
    """The server side of TLS on connections that are already there.

    :param clock: the reactor
    :param creator: `wormhole_tw.net.tls.ServerTls`
    """

    def __init__(self, clock: IReactorTime, creator: IOpenSSLServerConnectionCreator) -> None:
        self._factory = TlsFactory(creator, False, Factory(), clock)

    def wrap(self, protocol: IProtocol, hello: bytes = b"") -> HalfClosingTls:
        """TLS for one connection: call ``makeConnection(transport)`` on it, then ``dataReceived`` with what was read.

        :param hello: the whole ClientHello, where something depends on it: whether a certificate is asked for by the
            server name, and tickets whose key is not the newest

        ``protocol`` is connected at once and hears of the handshake by ``handshakeCompleted`` where it provides
        `IHandshakeListener`; only then are SNI and ALPN known. A handshake has no time limit of its own.
        """
        tls = self._factory.kind(self._factory, protocol)
        tls.hello = hello
        return tls


def alpn_of(transport: object) -> bytes | None:
    """The ALPN protocol agreed on by a TLS transport; None without TLS, before the handshake's end, or without ALPN."""
    connection = tls_connection_of(transport)
    return (connection.get_alpn_proto_negotiated() or None) if connection is not None else None
