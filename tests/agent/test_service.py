"""The agent between a real edge's side of links and real services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from tests.agent._edge import TOKEN, FakeEdge, until
from tests.agent._services import LocalServer
from tests.agent.conftest import AgentMaker
from wormhole_tw.agent.events import (
    AgentEvent,
    Connected,
    Draining,
    Lost,
    NotReady,
    Ready,
    Refused,
    ServiceReached,
    Stopped,
)
from wormhole_tw.agent.interfaces import IStreamFactory
from wormhole_tw.errors import LinkLost, LinkRefused
from wormhole_tw.tunnel.addresses import WormholeAddress
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.messages import Visitor as WireVisitor


async def test_it_says_who_it_is_and_hears_its_urls(make_agent: AgentMaker, edge: FakeEdge, log_lines: Any) -> None:
    agent = make_agent(visitor_per_stream=True)
    session = await agent.whenConnected()
    assert (session.edge, session.region, session.session_id) == ("edge-1", "test", "s1")
    assert session.urls == ("https://app.example.test",)
    assert session.address == edge.address
    hello = edge.links[0].hello
    assert hello is not None
    assert (hello.role, hello.token, hello.generation, hello.previous, hello.slot) == ("agent", TOKEN, 1, "gone", 0)
    assert len(hello.instance) == 16
    assert hello.software.startswith("wormhole-tw/")
    assert hello.services[0].name == "default"
    assert hello.options == ["proxy_protocol", "moves", "visitor_per_stream"]
    assert "connected to edge-1 (test) as s1" in log_lines
    assert f"https://app.example.test -> {agent.config.local}" in log_lines
    assert TOKEN not in log_lines.text


async def test_a_request_goes_to_the_service_and_back(make_agent: AgentMaker, edge: FakeEdge) -> None:
    make_agent()
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"hello")
    assert await visitor.bytes(5) == b"HELLO"
    visitor.transport.write(b" again")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"HELLO AGAIN<11 bytes>"


async def test_both_kinds_and_many_streams_at_once(make_agent: AgentMaker, edge: FakeEdge, local: LocalServer) -> None:
    agent = make_agent()
    link = await edge.ready_link()
    visitors = [link.visit("tcp" if number % 2 else "http") for number in range(50)]
    for number, visitor in enumerate(visitors):
        visitor.transport.write(b"visitor %d" % number)
        visitor.transport.loseWriteConnection()
    for number, visitor in enumerate(visitors):
        text = b"visitor %d" % number
        assert await visitor.end() == text.upper() + b"<%d bytes>" % len(text)
    await until(edge.reactor, lambda: agent.load == 0 and local.open == 0)


async def test_a_megabyte_each_way_through_a_small_window(make_agent: AgentMaker, edge: FakeEdge) -> None:
    make_agent()
    visitor = (await edge.ready_link()).visit()
    payload = bytes(range(256)) * 4096
    visitor.transport.write(payload)
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == payload.upper() + b"<1048576 bytes>"


async def test_the_service_may_speak_first_and_close_first(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer
) -> None:
    local.first_word = b"220 ready"
    make_agent()
    visitor = (await edge.ready_link()).visit("tcp")
    assert await visitor.bytes(9) == b"220 ready"
    await until(edge.reactor, lambda: local.open == 1)
    local.connections[-1].transport.loseConnection()
    assert await visitor.end() == b"220 ready"


async def test_opened_is_said_when_the_service_stands(make_agent: AgentMaker, edge: FakeEdge) -> None:
    make_agent()
    link = await edge.ready_link()
    opened: list[Any] = []
    visitor = link.visit("tcp")
    visitor.transport.when_opened(lambda message, failure: opened.append((message, failure)))
    await until(edge.reactor, lambda: opened)
    assert opened[0][0] is not None


async def test_a_visitor_who_leaves_closes_the_services_connection(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer
) -> None:
    make_agent()
    visitor = (await edge.ready_link()).visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    visitor.transport.abortConnection()
    await local.connections[-1].lost
    await until(edge.reactor, lambda: local.open == 0)


async def test_an_unknown_service_is_refused_undelivered(make_agent: AgentMaker, edge: FakeEdge) -> None:
    make_agent()
    visitor = (await edge.ready_link()).visit(service="other")
    error = await visitor.failure()
    assert (error.code, error.delivered) == (2, False)


# readiness


async def test_not_ready_until_the_service_was_reached(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer, tmp_path: Path
) -> None:
    await local.stop_listening()
    ready_file = tmp_path / "ready"
    ready_file.write_text("left over")
    agent = make_agent(ready_file=str(ready_file))
    link = await edge.link()
    await until(edge.reactor, lambda: link.ready is not None)
    assert link.ready is False
    assert link.reason == "the service was not reached yet"
    assert not agent.ready
    assert not ready_file.exists()
    await local.listen()
    session = await agent.when_ready()
    assert session.session_id == "s1"
    assert agent.ready
    assert ready_file.read_text() == "https://app.example.test\n"
    assert [path.name for path in tmp_path.iterdir() if "ready" in path.name] == ["ready"]
    await until(edge.reactor, lambda: link.ready)
    await agent.stopService()
    assert not ready_file.exists()


async def test_the_ready_file_is_left_to_who_takes_the_place(
    make_agent: AgentMaker, edge: FakeEdge, tmp_path: Path
) -> None:
    ready_file = tmp_path / "ready"
    agent = make_agent(ready_file=str(ready_file))
    await agent.when_ready()
    agent.hand_over()
    await agent.stopService()
    assert ready_file.exists()


async def test_the_ready_file_goes_with_the_link(make_agent: AgentMaker, edge: FakeEdge, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready"
    agent = make_agent(ready_file=str(ready_file))
    await agent.when_ready()
    await edge.close()
    await until(edge.reactor, lambda: not ready_file.exists())
    assert not agent.ready
    await edge.listen()
    await until(edge.reactor, ready_file.exists)


async def test_a_service_that_goes_later_is_its_requests_error_and_no_tunnels(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer, log_lines: Any
) -> None:
    make_agent()
    link = await edge.ready_link()
    await local.stop_listening()
    for _ in range(3):
        visitor = link.visit()
        visitor.transport.write(b"lost")
        error = await visitor.failure()
        assert (error.code, error.delivered, error.message) == (1, False, "the service refused the connection")
    assert link.protocol.standing
    assert link.ready
    assert len(log_lines.matching("refuses connections")) == 1
    await local.listen()
    visitor = link.visit()
    visitor.transport.write(b"back")
    assert await visitor.bytes(4) == b"BACK"
    assert "is there again" in log_lines


# refusals


async def test_a_wrong_token_is_one_line_and_slow_tries(make_agent: AgentMaker, edge: FakeEdge, log_lines: Any) -> None:
    edge.refusal = (GoawayCode.UNAUTHORIZED, "this token opens nothing here", None)
    agent = make_agent(refused_retry=0.05)
    seen: list[AgentEvent] = []
    agent.on_event(seen.append)
    with pytest.raises(LinkRefused, match="this token opens nothing here") as caught:
        await agent.whenConnected()
    assert caught.value.code == GoawayCode.UNAUTHORIZED
    await until(edge.reactor, lambda: len(edge.links) >= 4)
    with pytest.raises(LinkRefused):
        await agent.whenConnected()
    with pytest.raises(LinkRefused):
        await agent.when_ready()
    lines = [line for line in log_lines if "refuses" in line and "debug" not in line]
    assert len(lines) == 1
    assert f"{edge.address} refuses this agent: this token opens nothing here (unauthorized)" in lines[0]
    refusals = [event for event in seen if isinstance(event, Refused)]
    assert [event.repeated for event in refusals[:3]] == [False, True, True]
    assert all(event.final for event in refusals)
    assert TOKEN not in log_lines.text
    edge.refusal = None
    await until(edge.reactor, lambda: agent.sessions)
    assert (await agent.whenConnected()).session_id == "s1"


async def test_the_edge_says_when_to_come_again(make_agent: AgentMaker, edge: FakeEdge, reactor: Any) -> None:
    edge.refusal = (GoawayCode.RATE_LIMITED, "too many", 0.3)
    make_agent(refused_retry=50.0)
    await until(reactor, lambda: len(edge.links) == 1)
    first = reactor.seconds()
    await until(reactor, lambda: len(edge.links) == 2)
    assert 0.29 <= reactor.seconds() - first < 2


async def test_a_revoked_token_ends_the_link_and_is_told(
    make_agent: AgentMaker, edge: FakeEdge, log_lines: Any
) -> None:
    make_agent()
    link = await edge.ready_link()
    edge.refusal = (GoawayCode.UNAUTHORIZED, "this token opens nothing here", None)
    link.protocol.fail(GoawayCode.TOKEN_REVOKED, "the token was taken away")
    await log_lines.wait_for("refuses this agent: the token was taken away (token revoked)")
    await log_lines.wait_for("refuses this agent: this token opens nothing here (unauthorized)")


# coming back


async def test_a_lost_link_is_dialled_again_with_the_next_generation(
    make_agent: AgentMaker, edge: FakeEdge, log_lines: Any
) -> None:
    agent = make_agent()
    seen: list[AgentEvent] = []
    agent.on_event(seen.append)
    first = await edge.ready_link()
    visitor = first.visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    first.protocol.abort()
    second = await edge.ready_link(2)
    assert first.hello is not None
    assert second.hello is not None
    assert second.hello.instance == first.hello.instance
    assert (second.hello.generation, second.hello.previous) == (2, "gone")
    assert "lost edge-1 (test)" in log_lines
    await until(edge.reactor, lambda: agent.ready and agent.load == 0)
    kinds = [type(event) for event in seen]
    assert kinds[:3] in ([Connected, ServiceReached, Ready], [ServiceReached, Connected, Ready])
    assert kinds[3:] == [NotReady, Lost, Connected, Ready]


async def test_an_edge_that_comes_back_is_found(make_agent: AgentMaker, edge: FakeEdge, log_lines: Any) -> None:
    await edge.stop_listening()
    make_agent(backoff_max=0.1)
    await log_lines.wait_for(f"{edge.address} refuses connections; is an edge running there?")
    await edge.listen()
    await edge.ready_link()
    assert len([line for line in log_lines if "refuses connections" in line and "debug" not in line]) == 1


async def test_the_next_link_is_opened_before_a_draining_one_is_left(
    make_agent: AgentMaker, edge: FakeEdge, log_lines: Any
) -> None:
    agent = make_agent()
    seen: list[AgentEvent] = []
    agent.on_event(seen.append)
    first = await edge.ready_link()
    visitor = first.visit()
    visitor.transport.write(b"begun")
    await visitor.bytes(5)
    leaving = first.protocol.drain(20, message="the edge restarts")
    second = await edge.ready_link(2)
    assert second.hello is not None
    assert (second.hello.generation, second.hello.previous) == (2, "draining")
    assert first.protocol.standing
    assert "takes nothing new: the edge restarts" in log_lines
    # what runs goes on, on the old link
    visitor.transport.write(b" and ended")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"BEGUN AND ENDED<15 bytes>"
    await leaving
    await first.protocol.when_lost()
    assert "lost edge-1" not in log_lines
    assert any(isinstance(event, Draining) for event in seen)
    assert not any(isinstance(event, Lost) for event in seen)
    assert agent.sessions[0].session_id == "s2"


async def test_an_edge_that_is_about_to_be_replaced_is_dialled_anew_and_served_on(
    make_agent: AgentMaker, edge: FakeEdge, log_lines: Any
) -> None:
    agent = make_agent()
    first = await edge.ready_link()
    first.protocol.set_status(False, "the edge restarts")
    first.protocol.set_status(True)
    first.protocol.set_status(False, "the edge restarts")  # once more is no more
    second = await edge.ready_link(2)
    assert second.hello is not None
    assert (second.hello.generation, second.hello.previous) == (2, "draining")
    assert len(log_lines.matching("moves: the edge restarts")) == 1
    # new streams are taken on the old link, too, until the edge says GOAWAY there
    visitor = first.visit()
    visitor.transport.write(b"late")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"LATE<4 bytes>"
    assert agent.sessions[0].session_id == "s2"
    await first.protocol.drain(5, message="the edge is shutting down")
    await first.protocol.when_lost()
    assert agent.sessions[0].session_id == "s2"
    assert len(edge.standing) == 1


async def test_the_one_that_replaces_it_is_not_there_yet(make_agent: AgentMaker, edge: FakeEdge) -> None:
    make_agent(backoff_min=0.01)
    first = await edge.ready_link()
    await edge.stop_listening()
    first.protocol.set_status(False)
    visitor = first.visit()
    visitor.transport.write(b"x")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"X<1 bytes>"
    await edge.listen()
    await edge.ready_link(2)


async def test_the_one_that_replaces_it_refuses_the_agent(make_agent: AgentMaker, edge: FakeEdge) -> None:
    """A token that the new configuration does not have: no crowd of tries, and the link that it has serves on."""
    agent = make_agent(backoff_min=0.01, refused_retry=0.5)
    first = await edge.ready_link()
    edge.refusal = (GoawayCode.UNAUTHORIZED, "the edge does not know this token", None)
    first.protocol.set_status(False)
    await until(edge.reactor, lambda: len(edge.links) == 2 and edge.links[1].lost is not None)
    refused = edge.reactor.seconds()
    visitor = first.visit()
    visitor.transport.write(b"x")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"X<1 bytes>"
    assert agent.sessions[0].session_id == "s1"
    await until(edge.reactor, lambda: len(edge.links) == 3)
    assert edge.reactor.seconds() - refused >= 0.3


async def test_the_link_that_it_had_is_lost_while_it_moves(make_agent: AgentMaker, edge: FakeEdge) -> None:
    agent = make_agent(backoff_min=0.01, backoff_max=0.05)
    first = await edge.ready_link()
    await edge.stop_listening()
    first.protocol.set_status(False)
    await first.visit().bytes(0)
    first.protocol.abort()
    await edge.listen()
    await edge.ready_link()
    assert len(agent.sessions) == 1


async def test_the_edges_time_for_a_drain_ends_what_still_runs(make_agent: AgentMaker, edge: FakeEdge) -> None:
    edge.drain = 0.1
    make_agent()
    first = await edge.ready_link()
    visitor = first.visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    first.protocol.session.goaway(GoawayCode.NORMAL, "bye", edge.reactor.seconds())
    first.protocol.touch()
    await visitor.failure()
    await first.protocol.when_lost()


async def test_a_place_taken_by_a_copy_is_left_to_it(make_agent: AgentMaker, edge: FakeEdge, log_lines: Any) -> None:
    make_agent()
    first = await edge.ready_link()
    first.protocol.drain(5, GoawayCode.REPLACED, "a newer generation took the place")
    second = await edge.ready_link(2)
    assert first.hello is not None
    assert second.hello is not None
    assert second.hello.instance != first.hello.instance
    assert "another agent has taken this one's place" in log_lines


async def test_two_agents_of_one_process_are_two_instances(make_agent: AgentMaker, edge: FakeEdge) -> None:
    make_agent()
    make_agent()
    one, two = await edge.ready_link(1), await edge.ready_link(2)
    assert one.hello is not None
    assert two.hello is not None
    assert one.hello.instance != two.hello.instance


async def test_several_edges_are_several_links(
    make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tmp_path: Path
) -> None:
    other = FakeEdge(reactor, tmp_path / "edge-ca")
    await other.listen()
    agent = make_agent(edges=[edge.address, other.address])
    await edge.ready_link()
    await other.ready_link()
    assert [link.hello.slot for link in (edge.links[0], other.links[0]) if link.hello] == [0, 1]
    await until(reactor, lambda: len(agent.sessions) == 2)
    await other.close()
    await until(reactor, lambda: len(agent.sessions) == 1)
    assert agent.ready


# stopping


async def test_stopping_lets_what_runs_end(make_agent: AgentMaker, edge: FakeEdge, local: LocalServer) -> None:
    agent = make_agent(drain=20)
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"begun")
    await visitor.bytes(5)
    stopped = agent.stopService()
    await until(edge.reactor, lambda: link.goaway is not None)
    assert link.goaway is not None
    assert link.goaway.code == GoawayCode.NORMAL
    assert not stopped.called
    visitor.transport.write(b" ended")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"BEGUN ENDED<11 bytes>"
    await stopped
    assert agent.load == 0
    assert local.open == 0


async def test_stopping_ends_at_its_deadline(make_agent: AgentMaker, edge: FakeEdge, reactor: Any) -> None:
    agent = make_agent(drain=0.1)
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    began = reactor.seconds()
    await agent.stopService()
    assert reactor.seconds() - began < 3
    await visitor.failure()


async def test_stopping_idle_is_quick(make_agent: AgentMaker, edge: FakeEdge, reactor: Any) -> None:
    agent = make_agent(drain=30)
    await agent.when_ready()
    began = reactor.seconds()
    await agent.stopService()
    assert reactor.seconds() - began < 1
    await until(reactor, lambda: edge.links[0].lost is not None)


async def test_stopping_while_it_dials(make_agent: AgentMaker, edge: FakeEdge) -> None:
    edge.silent = True
    agent = make_agent()
    waiting = agent.whenConnected()
    await until(edge.reactor, lambda: edge.links and edge.links[0].hello)
    await agent.stopService()
    with pytest.raises(LinkLost, match="the agent was stopped"):
        await waiting


async def test_stopping_while_it_waits_to_dial_again(make_agent: AgentMaker, edge: FakeEdge, log_lines: Any) -> None:
    await edge.stop_listening()
    agent = make_agent()
    await log_lines.wait_for("refuses connections")
    await agent.stopService()


async def test_it_starts_and_stops_twice(make_agent: AgentMaker, edge: FakeEdge) -> None:
    agent = make_agent(start=False)
    await agent.stopService()
    seen: list[AgentEvent] = []
    unsubscribe = agent.on_event(seen.append)
    for count in (1, 2):
        agent.startService()
        session = await agent.when_ready()
        assert session.session_id == f"s{count}"
        stopped, again = agent.stopService(), agent.stopService()
        await stopped
        await again
        await agent.when_stopped()
        assert isinstance(seen[-1], Stopped)
    assert [link.hello.generation for link in edge.links if link.hello] == [1, 2]
    unsubscribe()


async def test_started_again_while_it_stops(make_agent: AgentMaker, edge: FakeEdge) -> None:
    agent = make_agent()
    await agent.when_ready()
    stopped = agent.stopService()
    agent.startService()
    await stopped
    assert (await agent.when_ready()).session_id == "s2"


async def test_an_observer_that_fails_does_no_harm(
    make_agent: AgentMaker, edge: FakeEdge, logged_failures: Any
) -> None:
    agent = make_agent()

    def fail(event: AgentEvent) -> None:
        raise ZeroDivisionError

    unsubscribe = agent.on_event(fail)
    await agent.when_ready()
    unsubscribe()
    assert logged_failures.flush(ZeroDivisionError)
    await agent.stopService()


async def test_an_observer_may_stop_it(make_agent: AgentMaker, edge: FakeEdge) -> None:
    agent = make_agent()
    agent.on_event(lambda event: agent.stopService() if isinstance(event, Connected) else None)
    await until(edge.reactor, lambda: edge.links)
    await agent.when_stopped()


async def test_a_waiter_may_give_up(make_agent: AgentMaker, edge: FakeEdge) -> None:
    edge.silent = True
    agent = make_agent()
    waiter = agent.whenConnected()
    waiter.addErrback(lambda _: None)
    waiter.cancel()
    await agent.stopService()


async def test_a_waiter_that_is_served_may_cancel_the_next(make_agent: AgentMaker, edge: FakeEdge) -> None:
    agent = make_agent()
    first, second, third = (agent.whenConnected() for _ in range(3))
    cancelled: list[Any] = []
    second.addErrback(cancelled.append)
    first.addBoth(lambda _: second.cancel())
    assert (await third).session_id == "s1"
    assert [failure.type for failure in cancelled] == [CancelledError]


async def test_waiters_that_cancel_one_another_do_not_keep_it_from_stopping(
    make_agent: AgentMaker, edge: FakeEdge
) -> None:
    edge.silent = True
    agent = make_agent()
    waiters = [agent.whenConnected(), agent.whenConnected()]
    ends: list[Any] = []
    for waiter, other in zip(waiters, reversed(waiters), strict=True):
        waiter.addErrback(lambda failure, other=other: (ends.append(failure.type), other.cancel()))
    stops = [agent.when_stopped(), agent.when_stopped()]
    for stop, other in zip(stops, reversed(stops), strict=True):
        stop.addBoth(lambda result, other=other: (ends.append(result), other.cancel()))
    await agent.stopService()
    assert ends[:2] == [LinkLost, CancelledError]
    assert ends[2] is None
    assert ends[3].type is CancelledError


async def test_a_library_gives_its_own_endpoint(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer, reactor: Any
) -> None:
    make_agent(local=TCP4ClientEndpoint(reactor, "127.0.0.1", local.number))
    visitor = (await edge.ready_link()).visit()
    visitor.transport.write(b"hello")
    assert await visitor.bytes(5) == b"HELLO"


@implementer(IStreamClientEndpoint)
class Watched:
    """An application's endpoint, which looks who each connection is for."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self.endpoint = endpoint
        self.seen: list[tuple[IAddress, IAddress]] = []
        self.probes = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if IStreamFactory.providedBy(factory):
            self.seen.append((factory.peer, factory.host))
        else:
            self.probes += 1
        return self.endpoint.connect(factory)


async def test_an_endpoint_of_a_library_learns_who_visits(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer, reactor: Any
) -> None:
    watched = Watched(TCP4ClientEndpoint(reactor, "127.0.0.1", local.number))
    make_agent(local=watched, visitor_per_stream=True)
    link = await edge.ready_link()
    assert (watched.probes, watched.seen) == (1, [])
    visitors = [
        link.visit(),
        link.visit(dedicated=True, visitor=WireVisitor(address="192.0.2.7", port=50000, server_name="a.test")),
        link.visit("tcp", dedicated=True, visitor=WireVisitor(address="2001:db8::7", port=50001)),
    ]
    for visitor in visitors:
        visitor.transport.write(b"hello")
        assert await visitor.bytes(5) == b"HELLO"
    shared, v4, v6 = watched.seen
    assert isinstance(shared[0], WormholeAddress)
    assert shared[0] == shared[1]
    assert v4 == (IPv4Address("TCP", "192.0.2.7", 50000), HostnameAddress(b"a.test", 0))
    assert v6[0] == IPv6Address("TCP", "2001:db8::7", 50001)
    assert isinstance(v6[1], WormholeAddress)
