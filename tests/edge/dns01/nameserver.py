"""A name server in the test's own process, which answers by UDP and TCP what the test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
from twisted.internet.defer import gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import Int16StringReceiver

from wormhole_tw.control.dns import DnsServer
from wormhole_tw.control.tsig import TsigKey

KEY = TsigKey("edge", "hmac-sha256", b"of these tests")

Answer = Callable[[dns.message.Message], dns.message.Message | bytes | None]


class NameServer:
    """Listens on one port of 127.0.0.1.

    :ivar records: (name, type) → texts; what is not there is NXDOMAIN
    :ivar answer: says something else: a message, octets, or None for silence; called with every question
    :ivar asked: (name, type) of every question
    :ivar updates: what updates asked for: (zone, line of the update section)
    """

    def __init__(self, reactor: Any) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.answer: Answer = self.look
        self.asked: list[tuple[str, str]] = []
        self.updates: list[tuple[str, str]] = []
        self.truncates = False
        for _ in range(20):
            self._tcp = reactor.listenTCP(0, Factory.forProtocol(lambda: _Connection(self)), interface="127.0.0.1")
            self.port: int = self._tcp.getHost().port
            try:
                self._udp = reactor.listenUDP(self.port, _Datagrams(self), interface="127.0.0.1")
            except CannotListenError:  # somebody's datagrams have that number
                self._tcp.stopListening()
            else:
                break
        self.server = DnsServer("127.0.0.1", self.port)
        self.connections: set[_Connection] = set()

    async def close(self) -> None:
        await gatherResults([maybeDeferred(self._tcp.stopListening), maybeDeferred(self._udp.stopListening)])
        for connection in tuple(self.connections):
            connection.transport.abortConnection()

    def look(self, question: dns.message.Message) -> dns.message.Message:
        """What the records say."""
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA
        name, kind = asked(question)
        texts = self.records.get((name, kind), [])
        if texts:
            answer.answer.append(dns.rrset.from_text_list(f"{name}.", 60, "IN", kind, texts))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer

    def takes_updates(self, zone: str, code: int = dns.rcode.NOERROR, *, signed: bool = True) -> None:
        """From now on: answer updates with a code, and questions for the SOA of a zone."""

        def answer(question: dns.message.Message) -> dns.message.Message:
            if isinstance(question, dns.message.QueryMessage):
                self.records.setdefault((zone, "SOA"), ["ns. admin. 1 60 60 600 5"])
                found = self.look(question)
            else:
                found = dns.message.make_response(question)
                for rrset in question.sections[2]:
                    self.updates.append((str(question.sections[0][0].name), str(rrset)))
                found.set_rcode(code)
            if not signed:
                found.tsig = None
            return found

        self.answer = answer

    def respond(self, wire: bytes) -> bytes | None:
        question = dns.message.from_wire(wire, keyring={dns.name.from_text(KEY.name): KEY.secret})
        self.asked.append(asked(question))
        answer = self.answer(question)
        return answer.to_wire() if isinstance(answer, dns.message.Message) else answer


def asked(question: dns.message.Message) -> tuple[str, str]:
    section = question.sections[0][0]
    return section.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(section.rdtype)


def refuse(code: int) -> Answer:
    def answer(question: dns.message.Message) -> dns.message.Message:
        found = dns.message.make_response(question)
        found.set_rcode(code)
        return found

    return answer


class _Datagrams(DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self.server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self.server.truncates:
            cut = dns.message.make_response(dns.message.from_wire(datagram))
            cut.flags |= dns.flags.TC
            self.transport.write(cut.to_wire(), addr)
        elif (answer := self.server.respond(datagram)) is not None:
            self.transport.write(answer, addr)


class _Connection(Int16StringReceiver):
    def __init__(self, server: NameServer) -> None:
        self.server = server

    def connectionMade(self) -> None:
        self.server.connections.add(self)

    def stringReceived(self, string: bytes) -> None:
        answer = self.server.respond(string)
        if answer == b"":
            self.transport.loseConnection()
        elif answer is not None:
            self.sendString(answer)

    def connectionLost(self, reason: Any = None) -> None:
        self.server.connections.discard(self)
