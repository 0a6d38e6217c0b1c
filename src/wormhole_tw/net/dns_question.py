"""One question to name servers, without threads: UDP first, TCP where the answer is too long for it (RFC 1035).

Twisted's own client keeps its connections, cannot be cancelled, and takes an answer from anybody who knows a number;
the messages are Twisted's.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from socket import AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Protocol, connectionDone
from twisted.names import dns
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector

__all__ = ["AAAA", "A", "Answer", "LookupFailed", "NoSuchName", "Server", "ask"]

A = dns.A
AAAA = dns.AAAA

Server = tuple[str, int]
"""Address and port."""

PATIENCE = (1.0, 2.0)
"""Seconds for each server, in the first round and in the second: one datagram in a hundred gets lost, and whoever waits
for the answer gives up after five."""

MAX_CNAMES = 8
"""Names in a row that are followed: as many as resolvers follow, and more than anybody has."""

NEGATIVE_TTL = 5.0
"""Seconds for which it is believed that there is nothing: not long, for it may be a mistake that is being mended."""


class LookupFailed(Exception):
    """No server gave an answer."""


class NoSuchName(LookupFailed):
    """The servers say that there is none of that name."""


class Answer(NamedTuple):
    """Addresses of a name, none where it has none of the kind that was asked for; and how many seconds they hold."""

    addresses: tuple[str, ...]
    ttl: float


async def ask(reactor: Any, servers: Sequence[Server], name: str, kind: int) -> Answer:
    """Ask for the addresses of a name; its CNAMEs are followed.

    :param reactor: time, UDP and TCP
    :param servers: in the order in which they are asked; the next one where one does not answer, or cannot
    :param kind: :data:`A` or :data:`AAAA`
    :raises NoSuchName: there is no such name
    :raises LookupFailed: no server answered
    """
    wanted = name.lower().encode("ascii")
    ttl = float("inf")
    for _ in range(MAX_CNAMES):
        message = await _ask_servers(reactor, servers, wanted, kind)
        if message.rCode == dns.ENAME:
            raise NoSuchName(f"there is no name {name}")
        cnames: dict[bytes, tuple[bytes, int]] = {}
        found: dict[bytes, list[tuple[str, int]]] = {}
        for record in message.answers:
            owner = record.name.name.lower()
            payload: Any = record.payload
            if record.type == dns.CNAME:
                cnames.setdefault(owner, (payload.name.name.lower(), record.ttl))
            elif record.type == kind:
                address = payload.dottedQuad() if kind == A else inet_ntop(AF_INET6, payload.address)
                found.setdefault(owner, []).append((address, record.ttl))
        current = wanted
        for _ in range(MAX_CNAMES):
            if current in found or current not in cnames:
                break
            current, lasts = cnames[current]
            ttl = min(ttl, lasts)
        else:
            break
        if current in found:
            entries = found[current]
            return Answer(tuple(dict.fromkeys(address for address, _ in entries)), min(ttl, *(t for _, t in entries)))
        if current == wanted:
            return Answer((), NEGATIVE_TTL)
        wanted = current  # a server that does not follow by itself
    raise LookupFailed(f"{name} leads to more than {MAX_CNAMES} CNAMEs in a row, or in a circle")


async def _ask_servers(reactor: Any, servers: Sequence[Server], name: bytes, kind: int) -> dns.Message:
    trouble = "there is no server to ask"
    for seconds in PATIENCE:
        for server in servers:
            try:
                message = await _once(reactor, server, name, kind, seconds, _Datagram)
                if message.trunc:
                    message = await _once(reactor, server, name, kind, seconds, _Stream)
            except (TimeoutError, OSError, ConnectionClosed, _Garbled) as error:
                trouble = str(error) or type(error).__name__
                continue
            if message.rCode in (dns.OK, dns.ENAME):
                return message
            trouble = f"the name server {server[0]} answers with error {message.rCode}"
    raise LookupFailed(f"no answer for {name.decode('ascii', 'backslashreplace')}: {trouble}")


class _Garbled(Exception):
    """What came is no answer to the question."""


class _Question:
    """A question on its way to one server."""

    def __init__(self, server: Server, name: bytes, kind: int) -> None:
        self.server = server
        self._name = name
        self._kind = kind
        self._id = secrets.randbelow(1 << 16)
        message = dns.Message(id=self._id, recDes=1)
        message.addQuery(name, kind)
        self.octets: bytes = message.toStr()

    def read(self, data: bytes) -> dns.Message:
        """
        :raises _Garbled: it is not the answer
        """
        message = dns.Message()
        try:
            message.fromStr(data)
        except Exception as error:
            raise _Garbled("an answer that is no DNS message") from error
        asked = [(query.name.name.lower(), query.type) for query in message.queries]
        if message.id != self._id or not message.answer or asked != [(self._name, self._kind)]:
            raise _Garbled("an answer to another question")
        return message


async def _once(reactor: Any, server: Server, name: bytes, kind: int, seconds: float, way: Any) -> dns.Message:
    question = _Question(server, name, kind)
    asked = way(reactor, question)
    timer = reactor.callLater(seconds, asked.give_up)
    try:
        message: dns.Message = await asked.result
        return message
    finally:
        if timer.active():
            timer.cancel()
        asked.close()


class _Asked:
    """What both ways share.

    :ivar result: the answer; cancel it to give up
    """

    def __init__(self, question: _Question) -> None:
        self.question = question
        self.result: Deferred[dns.Message] = Deferred()

    def give_up(self) -> None:
        self.fail(TimeoutError(f"the name server {self.question.server[0]} does not answer"))

    def fail(self, error: BaseException) -> None:
        if not self.result.called:
            self.result.errback(Failure(error))

    def took(self, data: bytes) -> None:
        """
        :raises _Garbled: it is not the answer
        """
        message = self.question.read(data)
        if not self.result.called:
            self.result.callback(message)


class _Datagram(_Asked, DatagramProtocol):
    noisy = False

    def __init__(self, reactor: Any, question: _Question) -> None:
        super().__init__(question)
        # a port of its own for each question, which only the kernel knows beforehand; connected, it hears nobody else
        self._port = reactor.listenUDP(0, self, interface="::" if ":" in question.server[0] else "")

    def startProtocol(self) -> None:
        transport: Any = self.transport
        try:
            transport.connect(*self.question.server)
            transport.write(self.question.octets)
        except OSError as error:
            self.fail(error)

    def datagramReceived(self, data: bytes, _addr: Any) -> None:
        try:
            self.took(data)
        except _Garbled:
            pass  # the right one may still come

    def connectionRefused(self) -> None:
        self.fail(ConnectionRefusedError(f"nobody is at the name server {self.question.server[0]}"))

    def close(self) -> None:
        self._port.stopListening()


class _Stream(_Asked, ClientFactory):
    noisy = False

    def __init__(self, reactor: Any, question: _Question) -> None:
        super().__init__(question)
        self._open: Any = None
        host, port = question.server
        self._connector = reactor.connectTCP(host, port, self, timeout=PATIENCE[-1])

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Lengths(self)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self.fail(reason.value or ConnectionError())

    def close(self) -> None:
        self._connector.disconnect()


class _Lengths(Protocol):
    """Each message behind its length in two octets (RFC 1035 section 4.2.2)."""

    def __init__(self, asked: _Stream) -> None:
        self._asked = asked
        self._got = b""

    def connectionMade(self) -> None:
        octets = self._asked.question.octets
        assert self.transport is not None
        self.transport.write(struct.pack("!H", len(octets)) + octets)

    def dataReceived(self, data: bytes) -> None:
        self._got += data
        if len(self._got) < 2 or len(self._got) - 2 < struct.unpack_from("!H", self._got)[0]:
            return
        try:
            self._asked.took(self._got[2 : 2 + struct.unpack_from("!H", self._got)[0]])
        except _Garbled as error:
            self._asked.fail(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._asked.fail(reason.value or ConnectionError())
