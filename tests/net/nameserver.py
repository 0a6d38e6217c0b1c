"""A name server for tests: what it says of a name may change with every question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.names import dns, server
from twisted.names.error import DNSNameError

Records = list[tuple[str, str, int]]
"""Kind (``A``, ``AAAA``, ``CNAME``), what it says, TTL in seconds."""

KINDS = {dns.A: "A", dns.AAAA: "AAAA", dns.CNAME: "CNAME"}


class NameServer:
    """Answers over UDP and TCP on one port of 127.0.0.1.

    :ivar names: name → its records, or a function that gives those for this time
    :ivar asked: every question: name, kind, ``udp`` or ``tcp``
    :ivar silent: kinds that get no answer
    :ivar broken: kinds that get SERVFAIL
    :ivar truncates: answers over UDP are cut
    :ivar follows: what a CNAME leads to stands in the answer, too
    """

    def __init__(self, reactor: Any, **names: Records | Callable[[], Records]) -> None:
        self._reactor = reactor
        self.names: dict[str, Records | Callable[[], Records]] = dict(names)
        self.asked: list[tuple[str, str, str]] = []
        self.silent: set[str] = set()
        self.broken: set[str] = set()
        self.truncates = False
        self.follows = True
        self.on_question: Callable[[str, str], object] = lambda name, kind: None
        self.port = 0
        self._open: list[Any] = []

    @property
    def server(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def start(self) -> NameServer:
        factory = _Server(self)
        while True:
            tcp = self._reactor.listenTCP(self.port, factory, interface="127.0.0.1")
            port = tcp.getHost().port
            try:
                udp = self._reactor.listenUDP(port, dns.DNSDatagramProtocol(factory), interface="127.0.0.1")
            except CannotListenError:  # that number is taken there
                self._open.append(tcp)
                continue
            self.port = port
            self._open += [tcp, udp]
            return self

    async def stop(self) -> None:
        for port in self._open:
            await maybeDeferred(port.stopListening)
        self._open.clear()

    def count(self, kind: str, name: str | None = None) -> int:
        return sum(1 for asked in self.asked if asked[1] == kind and name in (None, asked[0]))

    def records(self, name: str) -> Records | None:
        found = self.names.get(name)
        return found() if callable(found) else found

    def query(self, query: Any, timeout: Sequence[int] | None = None) -> Deferred[Any]:
        """What the factory asks for."""
        name, kind = query.name.name.decode().lower(), KINDS.get(query.type, "?")
        records = self.records(name)
        if records is None:
            return fail(DNSNameError())
        answers: list[Any] = []
        for _ in range(20 if self.follows else 1):
            target = ""
            for found, value, ttl in records or ():
                if found == "CNAME":
                    target = value
                if found in (kind, "CNAME"):
                    answers.append(dns.RRHeader(name.encode(), _TYPES[found], dns.IN, ttl, _payload(found, value, ttl)))
            if not target:
                break
            name, records = target, self.records(target)
        return succeed((answers, [], []))


_TYPES = {kind: number for number, kind in KINDS.items()}


def _payload(kind: str, value: str, ttl: int) -> Any:
    if kind == "CNAME":
        return dns.Record_CNAME(value.encode(), ttl)
    return dns.Record_A(value, ttl) if kind == "A" else dns.Record_AAAA(value, ttl)


class _Server(server.DNSServerFactory):
    noisy = False

    def __init__(self, owner: NameServer) -> None:
        super().__init__(clients=[owner])
        self._owner = owner
        self.canRecurse = True

    def handleQuery(self, message: Any, protocol: Any, address: Any) -> Any:
        query = message.queries[0]
        name, kind = query.name.name.decode().lower(), KINDS.get(query.type, "?")
        self._owner.asked.append((name, kind, "udp" if address is not None else "tcp"))
        self._owner.on_question(name, kind)
        if kind in self._owner.silent:
            return None
        return super().handleQuery(message, protocol, address)

    def sendReply(self, protocol: Any, message: Any, address: Any) -> None:
        if KINDS.get(message.queries[0].type) in self._owner.broken:
            message.rCode = dns.ESERVER
            message.answers = []
        if self._owner.truncates and address is not None:
            message.trunc = 1
            message.answers = []
        super().sendReply(protocol, message, address)
