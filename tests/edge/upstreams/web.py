"""An edge whose backends have origins on the web, without a network: the test says what DNS says, and which of the
connections that are dialled stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from tests.edge.house import START, FakeSession, Turning, Visitor
from wormhole_tw.control.catalog import Catalog, CatalogHolder, build_catalog
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.limits import Limits
from wormhole_tw.control.registry import Registry
from wormhole_tw.edge.context import EdgeContext
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.listener import VisitorConnection
from wormhole_tw.edge.upstreams.origins import OriginUpstreams
from wormhole_tw.net.dns_question import NoSuchName
from wormhole_tw.net.resolver import Found
from wormhole_tw.net.timers import TimerWheel
from wormhole_tw.net.turn import turn_end_of

GET = "GET {} HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class TurningReactor(MemoryReactorClock):
    """A reactor in memory whose turns end where its time moves."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = START
        self.turn = turn_end_of(self)
        self.turn.hook()

    def advance(self, amount: float) -> None:
        self.turn.run()
        super().advance(amount)
        self.turn.run()


class Names:
    """A resolver that says what the test says, and each time anew.

    :ivar says: name → addresses; None for a name that there is not
    :ivar ttl: seconds
    :ivar slow: lookups wait in here
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.says: dict[str, Sequence[str]] = {}
        self.ttl = 60.0
        self.asked: list[str] = []
        self.slow: list[Deferred[Found]] | None = None
        self.closed = False

    def lookup(self, host: str) -> Deferred[Found]:
        self.asked.append(host)
        if self.slow is not None:
            self.slow.append(Deferred())
            return self.slow[-1]
        if host not in self.says:
            return fail(NoSuchName(f"there is no name {host}"))
        return succeed(Found(tuple(self.says[host]), self._clock.seconds() + self.ttl))

    def close(self) -> None:
        self.closed = True


class Connection(Turning):
    """The origin's end of a connection that stands."""

    def __init__(self, web: Web, address: str) -> None:
        super().__init__(capacity=65536)
        self.turn = web.reactor.turn
        kind = IPv6Address if ":" in address else IPv4Address
        self._peer = kind("TCP", address, 443)
        self.aborted = False

    def getPeer(self) -> Any:
        return self._peer

    @property
    def gone(self) -> bool:
        """The edge has ended it, and nothing that it wrote is left on the way."""
        self.take_all()
        return self.disconnected

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class Web:
    """See the module.

    :param backends: tables of edge.toml; the first serves ``app.test``
    """

    def __init__(self, *backends: Mapping[str, Any], rule: Mapping[str, Any] | None = None, **limits: Any) -> None:
        """
        :param rule: what its route says besides the backend
        """
        self._rule = rule or {"path": "/"}
        self.reactor = TurningReactor()
        self.names = Names(self.reactor)
        self.timers = TimerWheel(self.reactor)
        self.registry = Registry(self.reactor.seconds)
        self.catalogs = CatalogHolder(self.catalog(*backends))
        self.origins = OriginUpstreams(self.reactor, self.names, self.catalogs, self.timers)  # type: ignore[arg-type]
        self.context = EdgeContext(
            catalogs=self.catalogs,
            registry=self.registry,
            timers=self.timers,
            turn=self.reactor.turn,
            limits=Limits(**limits),
            random=Random(7),
            wall=self.reactor.seconds,
            origins=self.origins,
        )
        self.turn = self.reactor.turn
        self.connections: list[Connection] = []
        self.reactor.rightNow += 10  # nobody waits for agents

    def catalog(self, *backends: Mapping[str, Any]) -> Catalog:
        routes = [{**self._rule, "backend": backends[0]["name"]}]
        raw = {
            "edge": {"https": ["tcp:0"]},
            "backends": list(backends),
            "sites": [{"name": "app", "hostnames": ["app.test"], "routes": routes}],
        }
        return build_catalog(EdgeConfig.from_dict(raw, hostname="machine"))

    def reload(self, *backends: Mapping[str, Any]) -> None:
        self.catalogs.swap(self.catalog(*backends))

    def agent(self, backend: str = "app", instance: int = 1) -> FakeSession:
        session = FakeSession(self, backend, instance=instance, per_visitor=False)  # type: ignore[arg-type]
        self.registry.admit(session)
        return session

    def visitor(self, **facts: Any) -> Visitor:
        connection = VisitorConnection(self.context, ConnectionFacts(**{"address": "192.0.2.7", "port": 1, **facts}))
        transport = Visitor(connection, capacity=65536)
        connection.makeConnection(transport)
        return transport

    @property
    def dialled(self) -> list[str]:
        """The address of every attempt so far."""
        return [host for host, *_ in self.reactor.tcpClients]

    def stands(self, index: int = -1) -> Connection:
        """An attempt succeeds."""
        address, _, factory, *_ = self.reactor.tcpClients[index]
        transport = Connection(self, address)
        protocol = factory.buildProtocol(transport.getPeer())
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.connections.append(transport)
        self.reactor.turn.run()
        return transport

    def fails(self, error: Exception, index: int = -1) -> None:
        connector = self.reactor.connectors[index]
        self.reactor.tcpClients[index][2].clientConnectionFailed(connector, Failure(error))
        self.reactor.turn.run()

    def pass_time(self, seconds: float) -> None:
        """In steps of a quarter, as the wheel goes."""
        for _ in range(int(seconds * 4)):
            self.reactor.advance(0.25)

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        self.context.abort()
        assert self.names.closed
        assert not self.context.connections
        assert not self.context.pool.open
        assert not self.context.pool.idle
        assert len(self.timers) == 0
        assert self.reactor.getDelayedCalls() == []
