"""The nearest of several edges: by fakes on a clock of the test's, and once for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from tests.agent._edge import FakeEdge, until
from tests.agent.conftest import AgentMaker
from wormhole_tw.agent.edges import LOOKS, MEASURE_AGAIN, PATIENCE, NearestEdge
from wormhole_tw.errors import LinkRefused
from wormhole_tw.wire.codes import GoawayCode


class Transport:
    """Of a look: it ends when it is told to."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol

    def abortConnection(self) -> None:
        self.protocol.connectionLost()


class Edge:
    """A connector, and the edge that it leads to.

    :ivar seconds: that a connection takes; None where nobody answers; below zero where it is refused
    """

    def __init__(self, clock: Clock, name: str, seconds: float | None) -> None:
        self.clock = clock
        self.address = name
        self.seconds = seconds
        self.session: object | None = None
        self.not_before = 0.0
        self.refusal: object | None = None
        self.on_failure: Any = None
        self.running = False
        self.drained: list[float] = []
        self.looks = 0
        self.cancelled = 0
        self.ways = self
        self.nearest: Any = None

    # Connector

    def forget(self) -> None:
        self.not_before = 0.0

    def start(self) -> None:
        assert not self.running
        self.running = True

    def stop(self, drain: float) -> None:
        self.running, self.session = False, None
        self.drained.append(drain)

    # Ways and CarrierEndpoint

    def in_order(self, now: float) -> list[Any]:
        return [self]

    def connect(self, factory: Any) -> Deferred[Any]:
        self.looks += 1
        if self.seconds is not None and self.seconds < 0:
            return fail(ConnectionRefusedError())

        def cancel(_: Any) -> None:
            self.cancelled += 1

        made: Deferred[Any] = Deferred(cancel)
        if self.seconds is not None:
            self.clock.callLater(self.seconds, self.made, factory, made)
        return made

    def made(self, factory: Any, made: Deferred[Any]) -> None:
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(Transport(protocol))
        if not made.called:
            made.callback(protocol)

    # What happens to it.

    def welcomes(self) -> None:
        assert self.running
        self.session = object()
        self.nearest.changed()
        self.clock.advance(0)

    def fails(self, wait: float = 1.0) -> None:
        """A try has failed, or the link was lost and the next try failed."""
        assert self.running
        self.session = None
        self.not_before = self.clock.seconds() + wait
        self.on_failure()
        self.clock.advance(0)


class World:
    def __init__(self, **seconds: float | None) -> None:
        self.clock = Clock()
        self.edges = {name: Edge(self.clock, name, value) for name, value in seconds.items()}
        self.nearest = NearestEdge(self.clock, list(self.edges.values()), 30.0)  # type: ignore[arg-type]
        for edge in self.edges.values():
            edge.nearest = self.nearest
        self.nearest.start()

    def __getattr__(self, name: str) -> Edge:
        return self.edges[name]

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))

    @property
    def used(self) -> list[str]:
        return [name for name, edge in self.edges.items() if edge.running]

    def end(self) -> None:
        self.nearest.stop()
        assert self.clock.getDelayedCalls() == []


def test_the_nearest_is_used() -> None:
    world = World(far=0.2, near=0.02, middle=0.1)
    assert world.used == []
    world.pass_time(1.0)
    assert world.used == ["near"]
    assert [edge.looks for edge in world.edges.values()] == [LOOKS] * 3
    world.end()


def test_who_is_silent_keeps_nobody_waiting() -> None:
    world = World(dead=None, near=0.02)
    world.pass_time(0.1 + PATIENCE)
    assert world.used == ["near"]
    assert world.dead.cancelled == 1
    world.end()


def test_where_nobody_is_reached_the_first_goes_on_trying() -> None:
    world = World(one=-1.0, two=-1.0)
    world.clock.advance(0)
    assert world.used == ["one"]
    world.end()


def test_the_next_is_used_where_it_is_lost() -> None:
    world = World(far=0.2, near=0.02, middle=0.1)
    world.pass_time(1.0)
    world.near.welcomes()
    world.near.fails()
    assert world.used == ["middle"]
    world.middle.fails()
    assert world.used == ["far"]
    world.far.fails()
    assert world.used == []  # all have failed: who may be dialled first is waited for
    world.pass_time(1.1)
    assert world.used == ["near"]
    world.end()


def test_a_refusal_s_wait_is_kept() -> None:
    world = World(one=0.01, two=0.02)
    world.pass_time(1.0)
    world.one.fails(wait=30.0)
    assert world.used == ["two"]
    for _ in range(5):
        world.two.fails(wait=1.0)
        assert world.used == ["two"]  # the other's time has not come, so this one goes on itself
        world.pass_time(1.0)
    world.end()


def nearer_one() -> World:
    """One serves, and two, which has become the nearest, is tried beside it."""
    world = World(one=0.02, two=0.1)
    world.pass_time(1.0)
    world.one.welcomes()
    world.one.seconds = 0.3
    world.clock.advance(MEASURE_AGAIN)
    world.pass_time(2.0)
    assert world.used == ["one", "two"]
    return world


def test_a_nearer_one_takes_over_without_a_gap() -> None:
    world = nearer_one()
    world.two.welcomes()
    assert world.used == ["two"]
    assert world.one.drained == [30.0]
    world.end()


def test_one_that_does_not_welcome_changes_nothing() -> None:
    world = nearer_one()
    world.two.fails()
    assert world.used == ["one"]
    assert world.one.session is not None
    world.end()


def test_one_that_has_asked_for_a_wait_is_not_tried_before() -> None:
    world = nearer_one()
    world.two.fails(wait=1.5 * MEASURE_AGAIN)  # it refuses this agent, say
    world.clock.advance(MEASURE_AGAIN)
    world.pass_time(2.0)
    assert world.used == ["one"]
    world.clock.advance(MEASURE_AGAIN)
    world.pass_time(2.0)
    assert world.used == ["one", "two"]
    world.end()


def test_a_look_while_all_are_waited_for_starts_nobody_twice() -> None:
    world = World(one=0.01, two=0.02)
    world.pass_time(1.0)
    world.clock.advance(MEASURE_AGAIN - 10.0)
    world.one.fails(wait=60.0)
    world.two.fails(wait=50.0)
    assert world.used == ["two"]  # its time comes first, and it goes on itself
    world.one.not_before = world.clock.seconds() + 30.0
    world.two.fails(wait=50.0)
    assert world.used == []
    world.pass_time(15.0)
    assert world.one.looks == 2 * LOOKS
    assert world.used == []
    world.pass_time(20.0)
    assert world.used == ["one"]
    world.end()


@pytest.mark.parametrize(("now", "moved"), [(0.10, False), (0.075, False), (0.06, True)])
def test_what_is_a_little_nearer_is_not_worth_it(now: float, moved: bool) -> None:
    world = World(one=0.1, two=0.2)
    world.pass_time(2.0)
    world.one.welcomes()
    world.two.seconds = now
    world.clock.advance(MEASURE_AGAIN)
    world.pass_time(2.0)
    assert (world.used == ["one", "two"]) is moved
    world.end()


def test_milliseconds_are_not_worth_it() -> None:
    world = World(one=0.0, two=0.2)
    world.pass_time(2.0)
    world.one.welcomes()
    world.one.seconds, world.two.seconds = 0.004, 0.0
    world.clock.advance(MEASURE_AGAIN)
    world.clock.pump([0.001] * 100)
    assert world.one.looks == 2 * LOOKS
    assert world.used == ["one"]
    world.end()


def test_a_stop_leaves_nothing() -> None:
    world = World(one=None, two=0.1)
    world.pass_time(0.05)
    world.nearest.stop()
    world.nearest.stop()
    world.pass_time(1.0)
    assert world.used == []
    assert world.clock.getDelayedCalls() == []
    world.nearest.start()
    world.pass_time(0.5 + PATIENCE)
    assert world.used == ["two"]
    world.end()


async def test_two_edges_for_real(
    make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tmp_path: Path, log_lines: Any
) -> None:
    other = FakeEdge(reactor, tmp_path / "edge-ca")
    await other.listen()
    try:
        agent = make_agent(edges=[edge.address, other.address], edges_used="nearest", backoff_max=0.2)
        session = await agent.when_ready()
        assert "edges by the time of a connection" in log_lines
        assert len(agent.sessions) == 1
        first, second = (edge, other) if session.address == edge.address else (other, edge)
        await first.close()
        await until(reactor, lambda: [session.address for session in agent.sessions] == [second.address])
        await until(reactor, lambda: agent.ready)
        await agent.stopService()
    finally:
        await other.close()


async def test_all_of_them_and_one_that_fails(make_agent: AgentMaker, edge: FakeEdge, reactor: Any) -> None:
    nobody = FakeEdge.__new__(FakeEdge)  # an address without an edge
    nobody.number = 1
    agent = make_agent(edges=[edge.address, nobody.address])
    await agent.when_ready()
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"one serves")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"ONE SERVES<10 bytes>"
    assert [session.address for session in agent.sessions] == [edge.address]


async def test_every_edge_refuses(make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tmp_path: Path) -> None:
    other = FakeEdge(reactor, tmp_path / "edge-ca")
    await other.listen()
    for one in (edge, other):
        one.refusal = (GoawayCode.UNAUTHORIZED, "the edge does not know this token", None)
    agent = make_agent(edges=[edge.address, other.address], edges_used="nearest")
    with pytest.raises(LinkRefused, match="does not know this token"):
        await agent.whenConnected()
    edge.refusal = None  # mended
    await until(reactor, lambda: agent.ready)
    assert [session.address for session in agent.sessions] == [edge.address]
    await agent.stopService()
    await other.close()


class Far(Protocol):
    """A hundred milliseconds away."""

    transport: Any

    def __init__(self, edge: FakeEdge) -> None:
        self.edge = edge
        self.calls: list[Any] = []
        self.end: Any = None
        self.over = False

    def connectionMade(self) -> None:
        factory = Factory.forProtocol(lambda: FarEnd(self))  # type: ignore[arg-type]
        factory.noisy = False
        TCP4ClientEndpoint(self.edge.reactor, "127.0.0.1", self.edge.number).connect(factory)

    def dataReceived(self, data: bytes) -> None:
        self.calls.append(self.edge.reactor.callLater(0.1, self.pass_on, bytes(data)))

    def pass_on(self, data: bytes) -> None:
        self.end.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.over = True
        for call in self.calls:
            if call.active():
                call.cancel()
        if self.end is not None:
            self.end.transport.abortConnection()


class FarEnd(Protocol):
    transport: Any

    def __init__(self, near: Far) -> None:
        self.near = near

    def connectionMade(self) -> None:
        self.near.end = self
        if self.near.over:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.near.transport.write(data)


async def test_the_nearer_of_two_for_real(make_agent: AgentMaker, edge: FakeEdge, reactor: Any) -> None:
    factory = Factory.forProtocol(lambda: Far(edge))  # type: ignore[arg-type]
    factory.noisy = False
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    far = f"localhost:{port.getHost().port}"
    agent = make_agent(edges=[far, edge.address], edges_used="nearest")
    session = await agent.when_ready()
    assert session.address == edge.address
    await agent.stopService()
    await port.stopListening()
