"""``[[tcp]]``: public TCP ports that lead through the tunnel to an agent's private service, whatever it speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory, ITransport
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.arrivals import connection_facts, named_by
from wormhole_tw.edge.complaints import HeaderComplaints, host_of
from wormhole_tw.edge.inflight import InFlight
from wormhole_tw.edge.interfaces import IDrainable
from wormhole_tw.edge.passage import Course, Passage
from wormhole_tw.edge.room import Room
from wormhole_tw.edge.trust import Trust
from wormhole_tw.edge.who import Who
from wormhole_tw.errors import ProxyHeaderError
from wormhole_tw.net.addresses import shown_address
from wormhole_tw.net.inherited import NOTHING, Inherited
from wormhole_tw.net.listening import open_port
from wormhole_tw.net.networks import Networks, counted_address
from wormhole_tw.net.proxy_protocol import ProxyReader
from wormhole_tw.net.transport import tune

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.control.tcp import TcpService
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.net.proxy_protocol import ProxyHeader
    from wormhole_tw.net.timers import Timer

__all__ = ["TcpFactory", "TcpPorts"]

log = Logger()


@implementer(IProtocol, IDrainable)
class _Arrival:
    """A connection that has just come: until its header is there, where one is awaited, and else for no time at all."""

    __slots__ = ("_address", "_counted", "_owner", "_reader", "_timer", "_transport", "factory")

    def __init__(self, owner: TcpFactory, address: IAddress, counted: str, reader: ProxyReader | None) -> None:
        self.factory = None
        self._owner = owner
        self._address = address
        self._counted = counted  # what it is counted for among the context's addresses
        self._reader = reader
        self._transport: Any = None
        self._timer: Timer | None = None

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport
        context = self._owner.context
        tune(transport)
        if hasattr(transport, "bufferSize"):
            transport.bufferSize = context.limits.write_buffer
        context.counters.connections += 1
        if self._reader is None:
            self._owner.take(transport, self._address, None, self._counted, b"")
            return
        context.connections.add(self)
        self._timer = context.timers.start(context.limits.handshake, self._timed_out)

    def connectionMade(self) -> None:
        """All is done in :meth:`makeConnection`."""

    def logPrefix(self) -> str:
        return "tcp"

    def dataReceived(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            return  # it was refused, and is on its way out
        try:
            header = reader.feed(data)
        except ProxyHeaderError as error:
            self._owner.complaints.invalid(self._address, str(error))
            self.abort()
            return
        if header is None:
            return
        self._let_go()
        address = named_by(header) or self._address
        counted = self._owner.enter(address, header)
        if counted is None:
            self._transport.abortConnection()
        else:
            self._owner.take(self._transport, address, header, counted, reader.rest)

    def connectionLost(self, reason: Failure) -> None:
        if self._reader is not None and self._reader.begun:
            self._owner.complaints.invalid(self._address, "it was cut short")
        self._let_go()

    # IDrainable

    def linger(self) -> None:
        """It may go on."""

    def drain(self) -> None:
        """Nothing was asked yet: nothing is lost."""
        self.abort()

    def abort(self) -> None:
        self._let_go()
        self._transport.abortConnection()

    # within

    def _timed_out(self) -> None:
        self._owner.complaints.invalid(self._address, "it did not come within limits.handshake")
        self.abort()

    def _let_go(self) -> None:
        self._reader = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.context.connections.discard(self)


@implementer(IProtocolFactory)
class TcpFactory(Factory):
    """The factory of a TCP service's port.

    :ivar context: the edge's
    :ivar complaints: about headers of the PROXY protocol
    """

    noisy = False

    def __init__(self, context: EdgeContext, service: TcpService) -> None:
        self.context = context
        self.complaints = HeaderComplaints(context.counters, context.timers.seconds, expected=True)
        self._open = 0
        self._addresses = InFlight()
        self._removed = False
        self.serve(service)

    def serve(self, service: TcpService | None) -> None:
        """What holds for connections from now on; None where the service has left the configuration."""
        self._removed = service is None
        if service is None:
            return
        self._service = service
        self._trust = Trust(Networks(service.trusted), unix=service.trusts_unix)
        self._room = Room(self.context, self._trust)
        self._allow = None if service.allow is None else Who(service.allow)
        self._deny = Who(service.deny)
        connect = self.context.limits.connect if service.connect is None else service.connect
        self._course = Course("tcp", service.name, service.backend, "", connect, service.idle)

    def leads_to(self, backend: str) -> bool:
        """Its connections go to this backend now."""
        return not self._removed and self._service.backend == backend

    def buildProtocol(self, addr: IAddress | None) -> _Arrival | None:  # type: ignore[override]
        context = self.context
        if addr is None or context.draining:
            context.counters.refused["stopping"] += 1
            return None
        if self._service.proxy_protocol and self._trust.believes(host_of(addr)):
            if refusal := self._room.refusal(""):
                context.counters.refused[refusal] += 1
                return None
            return _Arrival(self, addr, "", ProxyReader())
        counted = self.enter(addr, None)
        return None if counted is None else _Arrival(self, addr, counted, None)

    def enter(self, address: IAddress, header: ProxyHeader | None) -> str | None:
        """Let a connection in, and count it; gives what it is counted for among all visitors, None where it may not
        stay.  :meth:`take` has to follow.

        :param address: who it is
        """
        context, host = self.context, host_of(address)
        counted = self._room.counted(host)
        if refusal := self._room.newcomer_refusal(counted):
            context.counters.refused[refusal] += 1
            return None
        if reason := self._refusal(host):
            facts = connection_facts(_Nowhere, address, header, self._trust, public_port=context.public_port)
            context.passages.refuse(context, self._course, facts, reason)
            return None
        self._open += 1
        if own := self._own(host):
            self._addresses.enter(own)
        if counted:
            context.addresses.enter(counted)
        return counted

    def take(self, transport: Any, address: IAddress, header: ProxyHeader | None, counted: str, data: bytes) -> None:
        """Send a connection that was let in on its way."""
        context = self.context
        facts = connection_facts(transport, address, header, self._trust, public_port=context.public_port)
        own = self._own(facts.address)

        def over() -> None:
            self._open -= 1
            if own:
                self._addresses.leave(own)
            if counted:
                context.addresses.leave(counted)

        Passage(context, self._course, facts, over).begin(transport, data)

    def _own(self, host: str) -> str:
        """What counts of an address for this service; the proxies' own connections are not counted."""
        return counted_address(host) if host and not self._trust.believes(host) else ""

    def _refusal(self, host: str) -> str:
        service = self._service
        if self._removed:
            return "removed"
        if host in self._deny or (self._allow is not None and host not in self._allow):
            return "not-allowed"
        if self._open >= service.connections:
            return "service-busy"
        most = service.connections_per_address
        if most and (own := self._own(host)) and self._addresses.of(own) >= most:
            return "too-many-connections"
        return ""


class _Nowhere:
    """Where a connection came to that was not kept."""

    @staticmethod
    def getHost() -> None:
        """Nothing is known."""


class TcpPorts:
    """The ports of an edge's TCP services.

    :ivar open: each service with its port, in the order of the configuration
    """

    def __init__(self, reactor: Any, context: EdgeContext) -> None:
        self._reactor = reactor
        self._context = context
        self.open: list[tuple[TcpService, TcpFactory, IListeningPort]] = []

    def listen(self, config: EdgeConfig, inherited: Inherited = NOTHING) -> None:
        """Open them.

        :param inherited: sockets that listen already
        :raises ConfigError: one cannot be had; those before it stay open
        """
        for service in config.tcp:
            factory = TcpFactory(self._context, service)
            key = f"{service.key}.listen"
            where = {"source": config.source, "key": key}
            port = open_port(self._reactor, service.listen, factory, **where, inherited=inherited)
            self.open.append((service, factory, port))

    def say(self, edge: str) -> None:
        """Log where they are."""
        for service, _, port in self.open:
            log.info(
                "edge {edge} passes TCP service {name} to backend {backend} on {address}",
                edge=edge,
                name=service.name,
                backend=service.backend,
                address=shown_address(port.getHost()),
            )

    def urls(self, backend: str, host: str) -> list[str]:
        """Where visitors reach a backend, for the log of its agents.

        :param host: the edge's own name
        """
        authority = f"[{host}]" if ":" in host else host
        return [
            f"tcp://{authority}:{number}"
            for _, factory, port in self.open
            if factory.leads_to(backend) and (number := getattr(port.getHost(), "port", None)) is not None
        ]

    def serve(self, services: Sequence[TcpService | None]) -> None:
        """What holds from now on, in the order of the ports; None for one that has left the configuration."""
        for (_, factory, _), service in zip(self.open, services, strict=True):
            factory.serve(service)
