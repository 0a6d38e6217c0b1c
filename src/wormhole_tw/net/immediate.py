"""Transports whose ``write`` sends at once and buffers only what the socket refuses.

Twisted's own wait for the reactor to say "writable": two calls of ``epoll_ctl`` and a trip through the reactor for each
write, which an idle socket does not need.  Everything else is theirs: what cannot be sent at once goes through their
buffer, producers are paused and resumed by it, and an error is found and told by them.

Whoever listens or dials asks :func:`immediate_port` or :func:`immediate_reactor`; where the platform's transports are
others (IOCP, a test's reactor), or the operator wants Twisted's, both give back what they got.
"""

from __future__ import annotations

import sys
from socket import MSG_PEEK
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import main, tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.posixbase import PosixReactorBase, unixEnabled
from zope.interface import directlyProvides, providedBy

from wormhole_tw.net import choice
from wormhole_tw.net.accepting import DONE, LeanServer, accept_directly
from wormhole_tw.net.attributes import know_attributes
from wormhole_tw.net.transport import BULK_READ, NOTSENT_LOWAT, READ_SIZE, not_sent, tune
from wormhole_tw.net.turn import turn_end_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IConnector, IListeningPort

__all__ = [
    "ImmediateClient",
    "ImmediateServer",
    "immediate_port",
    "immediate_reactor",
]


LOOK_BEYOND = 16 * 1024
"""Bytes of one write from which on it is worth asking the kernel how much it holds."""

LAST_WORDS = 64
"""Reads of what lies unread in a socket whose peer is gone: 4 MiB and more, as much as a kernel holds for one."""


class _SendsAtOnce:
    """Goes before a ``tcp.Connection``."""

    _read_size = READ_SIZE
    unsent_limit = NOTSENT_LOWAT
    """Octets that the kernel may hold unsent before the producer is paused; see ``net.transport.limit_unsent``."""

    def write_view(self, data: bytes | memoryview) -> None:
        """:meth:`write` of bytes that are the caller's again when this returns: what cannot be sent now is copied."""
        if type(data) is memoryview:
            sent = self._send(data)
            if sent == len(data):
                self._sent_all(sent)
                return
            data = bytes(data[sent:])
        self.write(data)

    def write(self, data: bytes) -> None:
        """Send now what the socket takes; the rest as Twisted does."""
        sent = self._send(data) if type(data) is bytes else 0
        if not sent or sent < len(data):
            super().write(data[sent:] if sent else data)  # type: ignore[misc]
        elif sent > LOOK_BEYOND:
            self._sent_all(sent)

    def _send(self, data: bytes | memoryview) -> int:
        """How many octets went out now.

        Nothing may overtake: while anything is buffered, everything is.  A pull producer is asked for more when the
        buffer has emptied, so its data must go through the buffer.  What must not be sent at all (after an abort, or no
        bytes) is Twisted's to refuse.
        """
        connection: Any = self
        if (
            connection.dataBuffer
            or connection._tempDataBuffer
            or not connection.connected
            or connection._writeDisconnected
            or connection._writeDisconnecting
            or connection._aborting
            or connection.TLS
            or not (connection.streamingProducer or connection.producer is None)
        ):
            return 0
        try:
            sent: int = connection.socket.send(data)
        except OSError:
            return 0  # full, or broken: the buffered way finds out which, and says so
        return sent

    def _sent_all(self, size: int) -> None:
        connection: Any = self
        if (
            size > LOOK_BEYOND
            and connection.producer is not None
            and not connection.producerPaused
            and not_sent(connection.socket) > self.unsent_limit
        ):
            # The socket would take megabytes more, and whatever is urgent would wait behind them: the producer is asked
            # again when the kernel says "writable", which it does at TCP_NOTSENT_LOWAT.
            connection.producerPaused = True
            connection.startWriting()
            connection.producer.pauseProducing()

    def doRead(self) -> ConnectionLost | ConnectionDone | None:
        """As Twisted does, in one call instead of two."""
        connection: Any = self
        size = connection._read_size
        try:
            data = connection.socket.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        got = len(data)
        if got == size:
            connection._read_size = BULK_READ
        elif got <= READ_SIZE < size:
            connection._read_size = READ_SIZE
        connection.protocol.dataReceived(data)
        return None

    def loseConnection(self) -> None:
        """As Twisted does; but where nothing is left to send the end comes with the turn's, and epoll is not asked."""
        connection: Any = self
        if (
            self._anything_waits()
            or not connection.connected
            or connection.disconnecting
            or connection._writeDisconnected
            or connection._writeDisconnecting
            or connection._aborting
            or connection.TLS
        ):
            super().loseConnection()  # type: ignore[misc]
            return
        connection.reactor.removeReader(connection)
        connection.disconnecting = True
        turn_end_of(connection.reactor).call(self._end)

    def _end(self) -> None:
        connection: Any = self
        if not connection.connected or connection._aborting:
            return
        if self._anything_waits():  # it was written since
            connection.startWriting()
            return
        connection.connectionLost(DONE)

    def _anything_waits(self) -> bool:
        connection: Any = self
        return bool(connection.dataBuffer or connection._tempDataBuffer or connection.producer is not None)

    def doWrite(self) -> Any:
        """As Twisted does; but what the peer said before it was gone is heard first.

        A service that refuses an upload answers and closes.  The next write of the body fails then, while the answer
        still lies in the socket (RFC 9112 §9.6); a connection that ends with the write loses it.
        """
        connection: Any = self
        why = super().doWrite()  # type: ignore[misc]
        if why is main.CONNECTION_LOST and not connection._aborting:
            for _ in range(LAST_WORDS):
                if not self._unread() or connection not in connection.reactor.getReaders():
                    break
                connection.doRead()
        return why

    def _unread(self) -> bool:
        connection: Any = self
        try:
            return bool(connection.socket.recv(1, MSG_PEEK))
        except OSError:
            return False


class ImmediateServer(_SendsAtOnce, LeanServer):  # type: ignore[misc]  # the mix-in's doRead goes first
    """The transport of an accepted connection."""

    tuned = sys.platform == "linux"
    """Its port was tuned, and Linux hands that down to what it accepts."""


know_attributes(
    ImmediateServer,
    *("reactor", "socket", "fileno", "protocol", "server", "client", "sessionno", "hostname"),
    *("connected", "disconnecting", "disconnected", "bufferSize", "producer", "streamingProducer", "producerPaused"),
    *("_tempDataBuffer", "_tempDataLen", "dataBuffer", "offset", "_read_size", "unsent_limit"),
    *("_writeDisconnecting", "_writeDisconnected", "_aborting", "TLS"),
)


class ImmediateClient(_SendsAtOnce, tcp.Client):  # type: ignore[misc]  # as above
    """The transport of a dialled connection."""


class _Connector(tcp.Connector):
    def _makeTransport(self) -> tcp.Client:
        return ImmediateClient(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


if unixEnabled:
    from twisted.internet import unix

    class _UnixSendsAtOnce(_SendsAtOnce):
        """Goes before a transport that may also send descriptors: they go with the data written behind them."""

        def _send(self, data: bytes | memoryview) -> int:
            connection: Any = self
            return 0 if connection._sendmsgQueue else super()._send(data)

        def _anything_waits(self) -> bool:
            connection: Any = self
            return bool(connection._sendmsgQueue) or super()._anything_waits()

    class ImmediateUnixServer(_UnixSendsAtOnce, unix.Server):
        """The transport of an accepted connection on a Unix socket."""

        doRead = unix.Server.doRead  # which takes descriptors, too

    class ImmediateUnixClient(_UnixSendsAtOnce, unix.Client):
        """The transport of a dialled connection on a Unix socket."""

        doRead = unix.Client.doRead

    class _UnixConnector(unix.Connector):
        def _makeTransport(self) -> Any:
            client: Any = ImmediateUnixClient
            return client(self.address, self, self.reactor, self.checkPID)


class _Reactor:
    """A reactor in all but ``connectTCP`` and ``connectUNIX``."""

    def __init__(self, reactor: PosixReactorBase) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        connector = _Connector(host, port, factory, timeout, bindAddress, self._reactor)
        connector.connect()
        return cast("IConnector", connector)

    def connectUNIX(
        self, address: bytes | str, factory: Any, timeout: float = 30, checkPID: bool = False
    ) -> IConnector:
        connector = _UnixConnector(address, factory, timeout, self._reactor, checkPID)  # type: ignore[no-untyped-call]
        connector.connect()
        return cast("IConnector", connector)


def immediate_port(port: IListeningPort) -> IListeningPort:
    """Give the connections of a port that was just opened transports that send at once; gives ``port``.

    :raises ConfigError: see :func:`wormhole_tw.net.choice.ours`
    """
    if not choice.ours():
        return port
    if type(port) is tcp.Port and port.transport is tcp.Server:
        tune(port)
        port.transport = ImmediateServer
        accept_directly(port)
    elif unixEnabled and type(port) is unix.Port and port.transport is unix.Server:
        port.transport = ImmediateUnixServer
    return port


def immediate_reactor(reactor: Any) -> Any:
    """The reactor to dial with: ``reactor`` itself, or one like it whose connections send at once.

    :raises ConfigError: see :func:`wormhole_tw.net.choice.ours`
    """
    kind = type(reactor)
    if (
        choice.ours()
        and isinstance(reactor, PosixReactorBase)
        and kind.connectTCP is PosixReactorBase.connectTCP
        and kind.connectUNIX is PosixReactorBase.connectUNIX
    ):
        return _Reactor(reactor)
    return reactor
