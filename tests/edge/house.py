"""A whole data path without a network: visitors, agents and origins are bounded transports that the test drives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, ParamSpec, TypeVar

import h11
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.fakes import BoundedTransport
from wormhole_tw.control.catalog import Catalog, CatalogHolder
from wormhole_tw.control.interfaces import IAgentSession
from wormhole_tw.control.limits import Limits
from wormhole_tw.control.model import HTTP1, Backend, Route, SessionFacts, Site
from wormhole_tw.control.registry import Registry
from wormhole_tw.edge.context import EdgeContext
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.listener import VisitorConnection
from wormhole_tw.errors import StreamReset
from wormhole_tw.net.timers import TimerWheel
from wormhole_tw.net.turn import TurnEnd, turn_end_of
from wormhole_tw.wire.codes import ResetCode
from wormhole_tw.wire.messages import Open

START = 1_800_000_000.0
"""Where the clock stands when a house is built."""


class TurningClock(Clock):
    """A clock whose reactor's turns end where its time moves, and where a socket of a house has been heard."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = turn_end_of(self)
        self.turn.hook()

    def advance(self, amount: float) -> None:
        self.turn.run()
        super().advance(amount)
        self.turn.run()


class Turning(BoundedTransport):
    """A socket of which every event is a turn of the reactor.

    :ivar turn: the end of it
    """

    turn: TurnEnd | None = None

    def deliver(self, data: bytes) -> None:
        super().deliver(data)
        self._end_of_turn()

    def end_reading(self) -> None:
        super().end_reading()
        self._end_of_turn()

    def lose(self, reason: BaseException | None = None) -> None:
        super().lose(reason)
        self._end_of_turn()

    def take(self, size: int | None = None) -> bytes:
        taken = super().take(size)
        self._end_of_turn()
        return taken

    def _end_of_turn(self) -> None:
        if self.turn is not None and not self.turn.running:
            self.turn.run()


class Stream(Turning):
    """One stream of an agent, seen from the origin: what it got, judged by h11, and what it says.

    :ivar open: OPEN's message
    """

    def __init__(self, session: FakeSession, message: Open, capacity: int) -> None:
        super().__init__(capacity=capacity)
        self.session = session
        self.turn = session.house.turn
        self.open = message
        self.got = b""
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def read(self) -> bytes:
        """What came since the last time."""
        data = self.take_all()
        self.got += data
        return data

    def requests(self) -> list[tuple[Any, bytes, list[tuple[bytes, bytes]]]]:
        """Every whole request so far, by h11, which must find nothing wrong: (head, body, trailers)."""
        self.read()
        judge, found = h11.Connection(h11.SERVER), []
        judge.receive_data(self.got)
        head, body = None, b""
        while True:
            event = judge.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((head, body, list(event.headers)))
                judge.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                judge.send(h11.EndOfMessage())
                judge.start_next_cycle()
            else:
                return found

    def reset(self, code: ResetCode, *, delivered: bool) -> None:
        """The agent gives the stream up."""
        self.lose(StreamReset(code, "gone", delivered))


@implementer(IAgentSession)
class FakeSession:
    """An agent's session: every dial makes a :class:`Stream`, unless ``refuse`` says what comes instead."""

    def __init__(self, house: House, backend: str, *, instance: int, per_visitor: bool, **facts: Any) -> None:
        self.house = house
        self.facts = SessionFacts(
            session_id=f"{backend}-{instance}",
            backend=backend,
            instance=instance.to_bytes(16, "big"),
            visitor_per_stream=per_visitor,
            **facts,
        )
        self.ready = True
        self.draining = False
        self.streams: list[Stream] = []
        self.refuse: Exception | None = None
        self.slow: list[Deferred[Any]] | None = None
        self.capacity = 65536

    @property
    def load(self) -> int:
        return sum(not stream.disconnected for stream in self.streams)

    def dial(self, message: Open) -> Any:
        return _Endpoint(self, message)

    def leave(self) -> None:
        """It said GOAWAY."""
        self.draining = True
        self.house.registry.changed(self)

    def die(self) -> None:
        """Its link broke, without a word."""
        self.house.registry.remove(self)
        for stream in self.streams:
            if not stream.disconnected:
                stream.reset(ResetCode.LINK_LOST, delivered=True)

    def drain(self, deadline: float) -> Deferred[None]:
        raise NotImplementedError

    def close(self, code: int, message: str) -> None:
        raise NotImplementedError

    def when_lost(self) -> Deferred[None]:
        return Deferred()


class _Endpoint:
    def __init__(self, session: FakeSession, message: Open) -> None:
        self.session = session
        self.message = message

    def connect(self, factory: Any) -> Deferred[Any]:
        session = self.session
        if session.refuse is not None:
            return fail(session.refuse)
        if session.slow is not None:
            waiting: Deferred[Any] = Deferred()
            waiting.addCallback(lambda _: self._connected(factory))
            session.slow.append(waiting)
            return waiting
        return succeed(self._connected(factory))

    def _connected(self, factory: Any) -> Any:
        stream = Stream(self.session, self.message, self.session.capacity)
        protocol = factory.buildProtocol(None)
        stream.protocol = protocol
        self.session.streams.append(stream)
        protocol.makeConnection(stream)
        return protocol


class Visitor(Turning):
    """A visitor's socket."""

    def says(self, data: bytes | str) -> None:
        self.deliver(data.encode() if isinstance(data, str) else data)

    def hears(self) -> bytes:
        return self.take_all()

    def answers(self, methods: Iterable[bytes] = (b"GET",)) -> list[tuple[Any, bytes]]:
        """What it heard since the last time, judged by h11: (head, body) of every whole final answer."""
        return judged(self.hears(), methods, closed=self.write_closed or self.disconnected)


def judged(data: bytes, methods: Iterable[bytes] = (b"GET",), *, closed: bool = False) -> list[tuple[Any, bytes]]:
    """Answers in ``data``, to requests of these methods in turn; what is not valid HTTP raises."""
    found = []
    methods = list(methods)
    while data:
        judge = h11.Connection(h11.CLIENT)
        method = methods.pop(0) if len(methods) > 1 else methods[0]
        judge.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        judge.send(h11.EndOfMessage())
        judge.receive_data(data)
        if closed:
            judge.receive_data(b"")
        head, body = None, b""
        while True:
            event = judge.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((head, body))
                break
            elif isinstance(event, h11.InformationalResponse):
                continue
            else:
                raise AssertionError(f"{event!r} in {data!r}")
        data = judge.trailing_data[0]
    return found


COUNTED = ("connections_per_address", "requests_per_address", "requests_per_site")
"""Limits of what is in flight."""


class House:
    """An edge's data path on a clock of its own.  Sites: ``app.test`` (backend app; /docs to docs), ``docs.test``."""

    def __init__(
        self,
        *,
        agents: int = 1,
        per_visitor: bool = False,
        writes_proxy_header: bool = False,
        settled: bool = True,
        protocol: str = HTTP1,
        succeeds: bool = False,
        **limits: Any,
    ) -> None:
        self.clock = TurningClock()
        self.clock.rightNow = START
        self.registry = Registry(self.clock.seconds, succeeds=succeeds)
        self.timers = TimerWheel(self.clock)
        self.turn = self.clock.turn
        self.catalogs = CatalogHolder(self.catalog(protocol))
        # Counting is on, and its limits never reached, so that every test shows that what is counted is given back;
        # windows are of ten seconds, which are easy to reckon with.
        self.limits = Limits(**{**dict.fromkeys(COUNTED, 100_000), "body": 10, "stall": 10, **limits})
        self.done: list[Any] = []
        self.context = EdgeContext(
            catalogs=self.catalogs,
            registry=self.registry,
            timers=self.timers,
            turn=self.turn,
            limits=self.limits,
            random=Random(7),
            wall=self.clock.seconds,
            names=frozenset({"edge.test"}),
            kept=self.kept(),
        )
        self.context.on_exchange_done = self.done.append
        facts = {"per_visitor": per_visitor, "writes_proxy_header": writes_proxy_header}
        self.sessions = [self.agent(instance=number + 1, **facts) for number in range(agents)]
        if settled:
            # past the grace after start, in which requests wait for agents
            self.clock.rightNow += 10

    def kept(self) -> Any:
        """Where answers are kept; None for nowhere."""
        return None

    def catalog(self, protocol: str) -> Catalog:
        """Its configuration, with what the services of ``app`` speak."""
        sites = [
            Site("app", ("app.test", "*.wild.test"), (Route("app", "/docs", "docs"), Route("app", "/", "app"))),
            Site("docs", ("docs.test",), (Route("docs", "/only", "docs"),)),
        ]
        return Catalog(sites, [Backend("app", protocol=protocol), Backend("docs")], own_names=["edge.test"])

    def agent(self, backend: str = "app", *, instance: int = 1, per_visitor: bool = False, **facts: Any) -> FakeSession:
        session = FakeSession(self, backend, instance=instance, per_visitor=per_visitor, **facts)
        self.registry.admit(session)
        return session

    def visitor(self, *, capacity: int = 65536, **facts: Any) -> Visitor:
        facts = {"address": "192.0.2.7", "port": 40000, **facts}
        connection = VisitorConnection(self.context, ConnectionFacts(**facts))
        transport = Visitor(connection, capacity=capacity)
        connection.makeConnection(transport)
        return transport

    @property
    def streams(self) -> list[Stream]:
        return [stream for session in self.sessions for stream in session.streams]

    @property
    def stream(self) -> Stream:
        """The latest one of the first agent."""
        return self.sessions[0].streams[-1]

    def pass_time(self, seconds: float) -> None:
        """In steps of a quarter, as the wheel goes."""
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        self.context.abort()
        assert not self.context.connections
        assert not self.context.addresses
        assert not self.context.in_flight.sites
        assert not self.context.in_flight.addresses
        assert not self.context.pool.open
        assert not self.context.pool.idle
        assert len(self.timers) == 0
        assert self.clock.getDelayedCalls() == []
        assert all(session.load == 0 for session in self.sessions)


P = ParamSpec("P")
H = TypeVar("H", bound=House)


@contextmanager
def building(kind: Callable[P, H]) -> Iterator[Callable[P, H]]:
    """Builds houses of a kind, and closes them in the end: nothing may be left in any."""
    houses: list[H] = []

    def build(*args: P.args, **options: P.kwargs) -> H:
        house = kind(*args, **options)
        houses.append(house)
        return house

    yield build
    for house in houses:
        house.close()
