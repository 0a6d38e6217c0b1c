"""Taking connections from a listening TCP port, and the transport that each gets.

What Twisted does around each connection (a buffer for log lines, a generator, enumerations of the socket's kind, two
texts for log lines that are seldom written) costs as much as all that the connection itself needs of us.  Here only
that is left; whatever goes wrong goes Twisted's way.
"""

# mypy: allow-untyped-calls
# (Twisted's transports have no annotations here)

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.address import IPv6Address
from twisted.logger import Logger
from twisted.python.failure import Failure

from wormhole_tw.net.transport import READ_SIZE

__all__ = ["DONE", "LeanServer", "accept_directly"]

log = Logger()

DONE = Failure(main.CONNECTION_DONE)
"""The end that was wanted, where nothing is left to send."""


class LeanServer(tcp.Server):
    """Twisted's, begun and ended with fewer calls. What is not here is as it is there."""

    def __init__(
        self, sock: socket.socket, protocol: Any, client: tuple[Any, ...], server: Any, sessionno: int, reactor: Any
    ) -> None:
        # all that Twisted's three constructors set, but for the texts
        self.reactor = reactor
        self._tempDataBuffer = []
        self._tempDataLen = 0
        sock.setblocking(False)
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        if len(client) != 2:
            self._addressType = IPv6Address
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self.hostname = client[0]
        # what every write looks at, and Twisted leaves with the class: Python finds an object's own ten times as fast
        self._writeDisconnecting = self._writeDisconnected = self._aborting = self.TLS = False
        self._read_size = READ_SIZE
        reactor.addReader(self)
        self.connected = 1

    def logPrefix(self) -> str:
        """What Twisted writes before lines about this connection."""
        return f"{self._getLogPrefix(getattr(self, 'protocol', None))},{self.sessionno},{self.hostname}"

    def __repr__(self) -> str:
        protocol = type(getattr(self, "protocol", None)).__name__
        return f"<{protocol} #{self.sessionno} on {getattr(self.server, '_realPortNumber', None)}>"

    def connectionLost(self, reason: Failure) -> None:
        if reason is not DONE or self.producer is not None or "socket" not in self.__dict__:
            super().connectionLost(reason)
            return
        self.disconnected = 1
        self.connected = 0
        reactor: Any = self.reactor
        reactor.removeReader(self)
        reactor.removeWriter(self)
        self._closeSocket(True)
        protocol = self.protocol
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(reason)


def accept_directly(port: tcp.Port) -> None:
    """Let a port that listens take its connections by fewer calls, where the platform lets it.

    As many at a time as Twisted would: one more than came the last time tells whether there is another, and a crowd is
    taken in steps of twenty between which the reactor has its turn.
    """
    listening: Any = port.socket
    if sys.platform == "win32" or not hasattr(listening, "_accept"):
        return  # pragma: no cover - another Python's socket
    kind, protocol_number = socket.SOCK_STREAM, listening.proto
    family = port.addressFamily
    own: Any = port
    twisteds_way = port.doRead

    def do_read() -> None:
        accept = own.socket._accept
        wanted = own.numberAccepts
        accepted = 0
        while accepted < wanted:
            try:
                descriptor, address = accept()
            except BlockingIOError:
                break
            except OSError:
                # too many descriptors, or a connection that is gone already: it fails there once more, and is told
                twisteds_way()
                return
            accepted += 1
            begin(socket.socket(family, kind, protocol_number, descriptor), address)
        own.numberAccepts = wanted + 20 if accepted == wanted else max(1, accepted)

    def begin(connection: socket.socket, address: tuple[Any, ...]) -> None:
        try:
            if len(address) == 4 and address[3]:
                # the zone of a link-local address, by its name
                numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
                address = (socket.getnameinfo(address, numeric)[0], *address[1:])
            protocol = own.factory.buildProtocol(own._buildAddr(address))
            if protocol is None:
                connection.close()
                return
            number = own.sessionno
            own.sessionno = number + 1
            protocol.makeConnection(own.transport(connection, protocol, address, own, number, own.reactor))
        except BaseException:  # noqa: BLE001 - as Twisted: one connection's bug, and the port goes on
            log.failure("a connection could not be begun")

    own.doRead = do_read
