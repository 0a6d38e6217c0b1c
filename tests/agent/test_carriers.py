"""Which carrier an agent takes, and through which proxy, against edges with real sockets and TLS."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.agent._edge import FakeEdge, until
from tests.agent.conftest import AgentMaker
from tests.net.proxies import FakeProxy, Names, connect_rules, socks_rules
from wormhole_tw.agent import connector, dialling
from wormhole_tw.agent.events import AgentEvent, Connected, Failed, NotReady, Refused
from wormhole_tw.agent.service import AgentService
from wormhole_tw.wire.codes import GoawayCode


async def first_of(kind: type[AgentEvent], agent: AgentService, reactor: Any) -> Any:
    """The first event of this kind."""
    events = told(agent)
    await until(reactor, lambda: any(isinstance(event, kind) for event in events))
    return next(event for event in events if isinstance(event, kind))


def told(agent: AgentService) -> list[AgentEvent]:
    events: list[AgentEvent] = []
    agent.on_event(events.append)
    return events


@pytest_twisted.async_yield_fixture
async def proxy(reactor: Any) -> AsyncIterator[FakeProxy]:
    made = FakeProxy(reactor, connect_rules)
    await made.listen()
    yield made
    await made.close()


async def test_by_websocket(make_agent: AgentMaker, edge: FakeEdge) -> None:
    edge.web = True
    agent = make_agent(carrier="websocket")
    session = await agent.when_ready()
    assert session.carrier == "websocket"
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"through http" * 10_000)
    visitor.transport.loseWriteConnection()
    assert (await visitor.end()).startswith(b"THROUGH HTTP")


async def test_by_websocket_where_there_is_none(make_agent: AgentMaker, edge: FakeEdge) -> None:
    failed = await first_of(Failed, make_agent(carrier="websocket"), edge.reactor)
    assert failed.reason == f"TLS at {edge.address} ends at something that is not an edge"


async def test_auto_takes_tls(make_agent: AgentMaker, edge: FakeEdge) -> None:
    agent = make_agent(carrier="auto")
    assert (await agent.when_ready()).carrier == "tls"


async def test_auto_falls_to_websocket_and_comes_back(
    make_agent: AgentMaker, edge: FakeEdge, monkeypatch: pytest.MonkeyPatch, log_lines: Any
) -> None:
    monkeypatch.setattr(connector, "TRY_TLS_AGAIN", 0.2)
    edge.web = True
    agent = make_agent(carrier="auto")
    events = told(agent)
    assert (await agent.when_ready()).carrier == "websocket"
    first = await edge.ready_link()
    assert f"TLS at {edge.address} ends at something that is not an edge; connected by websocket" in log_lines
    visitor = first.visit()
    visitor.transport.write(b"begun")
    assert await visitor.bytes(5) == b"BEGUN"
    edge.web = False
    await until(edge.reactor, lambda: [session.carrier for session in agent.sessions] == ["tls"])
    second = edge.links[-1]
    assert second.hello is not None
    assert first.hello is not None
    assert (second.hello.previous, second.hello.slot) == ("draining", first.hello.slot)
    assert second.hello.generation > first.hello.generation
    # the edge lets the first one go, and what runs on it goes on
    first.protocol.drain(30.0, GoawayCode.REPLACED, "a newer link took the place")
    visitor.transport.write(b" ended")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"BEGUN ENDED<11 bytes>"
    await until(edge.reactor, lambda: first.lost)
    assert [event.session.carrier for event in events if isinstance(event, Connected)] == ["websocket", "tls"]
    assert not any(isinstance(event, NotReady) for event in events)
    assert agent.ready


async def test_a_working_link_stays_while_tls_does_not_work(
    make_agent: AgentMaker, edge: FakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "TRY_TLS_AGAIN", 0.02)
    edge.web = True
    agent = make_agent(carrier="auto")
    session = await agent.when_ready()
    looks: list[float] = []
    ways = agent._connectors[0].ways
    monkeypatch.setattr(ways, "still_bad", looks.append)
    await until(edge.reactor, lambda: len(looks) >= 3)
    assert agent.sessions == (session,)
    assert agent.ready


async def test_after_a_loss_what_worked_is_tried_first(make_agent: AgentMaker, edge: FakeEdge) -> None:
    edge.web = True
    agent = make_agent(carrier="auto")
    await agent.when_ready()
    asked: list[str] = []
    for endpoint in agent._connectors[0].ways._endpoints:
        endpoint._dialled = _Heard(endpoint, asked)  # type: ignore[assignment]
    (await edge.link()).protocol.abort()
    await edge.link(2)
    assert asked == ["websocket"]


class _Heard:
    """An endpoint, and who was asked to dial."""

    def __init__(self, endpoint: Any, asked: list[str]) -> None:
        self.below, self.carrier, self.asked = endpoint._dialled, endpoint.carrier, asked

    def connect(self, factory: Any) -> Any:
        self.asked.append(self.carrier)
        return self.below.connect(factory)


def test_which_way_comes_first() -> None:
    tls, websocket = (dialling.CarrierEndpoint(None, None, "edge", 443, name) for name in ("tls", "websocket"))  # type: ignore[arg-type]
    ways = dialling.Ways([tls, websocket])
    assert ways.in_order(0.0) == [tls, websocket]
    ways.worked(websocket, 10.0, best_failed=True)
    assert ways.in_order(11.0) == [websocket, tls]
    ways.worked(websocket, 20.0, best_failed=False)
    assert ways.in_order(10.0 + dialling.TRY_TLS_AGAIN) == [tls, websocket]
    ways.still_bad(1000.0)
    assert ways.in_order(1001.0) == [websocket, tls]
    ways.worked(tls, 1002.0, best_failed=False)
    assert ways.in_order(1003.0) == [tls, websocket]


async def test_a_refusal_is_the_same_by_any_carrier(make_agent: AgentMaker, edge: FakeEdge) -> None:
    edge.refusal = (GoawayCode.UNAUTHORIZED, "the edge does not know this token", None)
    agent = make_agent(carrier="auto")
    await first_of(Refused, agent, edge.reactor)
    assert len(edge.links) == 1


async def test_where_no_carrier_comes_through_both_reasons_are_told(make_agent: AgentMaker, reactor: Any) -> None:
    class Web(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    factory = Factory.forProtocol(Web)
    factory.noisy = False
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    address = f"localhost:{port.getHost().port}"
    agent = make_agent(edges=[address], carrier="auto")
    failed = await first_of(Failed, agent, reactor)
    await agent.stopService()
    await port.stopListening()
    assert failed.reason == f"{address} does not speak TLS"


@pytest.mark.parametrize("carrier", ["tls", "websocket"])
async def test_through_a_proxy(make_agent: AgentMaker, edge: FakeEdge, proxy: FakeProxy, carrier: str) -> None:
    edge.web = carrier == "websocket"
    agent = make_agent(carrier=carrier, proxy=f"http://localhost:{proxy.number}")
    await agent.when_ready()
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"through it")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"THROUGH IT<10 bytes>"
    assert proxy.connections == 1
    proxy.cut()
    await until(edge.reactor, lambda: proxy.connections == 2 and agent.ready)


async def test_a_proxy_that_says_no(make_agent: AgentMaker, edge: FakeEdge, proxy: FakeProxy, log_lines: Any) -> None:
    proxy.rules = lambda: connect_rules(b"HTTP/1.1 403 Not That Way\r\n\r\n")
    agent = make_agent(carrier="auto", proxy=f"http://user:s3cret@localhost:{proxy.number}")
    failed = await first_of(Failed, agent, edge.reactor)
    assert failed.reason == (
        f"the proxy http://localhost:{proxy.number} refuses a connection to {edge.address}: 403 Not That Way"
    )
    assert failed.retry_in <= agent.config.backoff_max
    assert "s3cret" not in log_lines.text


async def test_a_proxy_that_wants_another_password_is_not_asked_again_at_once(
    make_agent: AgentMaker, edge: FakeEdge, proxy: FakeProxy, log_lines: Any
) -> None:
    proxy.rules = lambda: connect_rules(authorization="another")
    agent = make_agent(carrier="auto", proxy=f"http://user:s3cret@localhost:{proxy.number}", refused_retry=20.0)
    failed = await first_of(Failed, agent, edge.reactor)
    assert "does not accept the user and password of proxy (407)" in failed.reason
    assert 20.0 <= failed.retry_in <= 25.0
    assert "(407); next try in 2" in log_lines
    assert proxy.connections == 1


async def test_names_are_the_proxys(make_agent: AgentMaker, edge: FakeEdge, proxy: FakeProxy) -> None:
    seen: list[bytes] = []
    proxy.rules = lambda: socks_rules(seen)
    agent = make_agent(edges=[f"edge.invalid:{edge.number}"], proxy=f"socks5h://localhost:{proxy.number}")
    failed = await first_of(Failed, agent, edge.reactor)
    assert seen[0] == b"\x03\x0cedge.invalid"
    # it was reached, and its certificate is for another name
    assert failed.reason.startswith(f"the certificate of edge.invalid:{edge.number} is not for the name edge.invalid")


async def test_a_password_in_the_option_is_warned_of(make_agent: AgentMaker, log_lines: Any) -> None:
    make_agent(proxy="http://user:s3cret@localhost:1", sources={"proxy": "--proxy"})
    assert "the password in --proxy shows in ps; write the URL into FLY_PROXY" in log_lines
    assert "s3cret" not in log_lines.text


async def test_stopping_while_it_looks_for_a_better_way(
    make_agent: AgentMaker, edge: FakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "TRY_TLS_AGAIN", 0.01)
    edge.web = True
    agent = make_agent(carrier="auto")
    await agent.when_ready()
    edge.web = False
    edge.silent = True  # no WELCOME: the look goes on until the agent stops
    await until(edge.reactor, lambda: len(edge.links) > 1 and edge.links[-1].hello is not None)
    await agent.stopService()
    assert not agent.sessions


class CountedNames(Names):
    """
    :ivar asked: for what
    """

    asked: list[str]

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
        self.asked.append(hostName)
        return super().resolveHostName(receiver, hostName, portNumber)


async def test_a_stop_is_no_failure_that_another_carrier_is_tried_for(make_agent: AgentMaker, reactor: Any) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # there is no room for a third: its SYN is dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        names = stack.enter_context(CountedNames(reactor, {"edge.test": ["127.0.0.1"]}))
        names.asked = []
        agent = make_agent(edges=[f"edge.test:{full.getsockname()[1]}"], carrier="auto")
        await until(reactor, lambda: names.asked)
        await agent.stopService()
        assert names.asked == ["edge.test"]


class Censor(Protocol):
    """A network that swallows TLS which does not look like the web's, and passes on what does."""

    transport: Any

    def __init__(self, edge: FakeEdge) -> None:
        self.edge = edge
        self.far: Any = None

    def dataReceived(self, data: bytes) -> None:
        if self.far is None and b"wormhole/1" in data:
            return
        if self.far is None:
            self.far = self.edge._links.buildProtocol(None)
            self.far.makeConnection(self.transport)
        self.far.dataReceived(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self.far is not None:
            self.far.connectionLost(reason)


async def test_auto_where_what_is_not_known_is_dropped(
    make_agent: AgentMaker, edge: FakeEdge, reactor: Any, log_lines: Any
) -> None:
    edge.web = True
    factory = Factory.forProtocol(lambda: Censor(edge))  # type: ignore[arg-type]
    factory.noisy = False
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    address = f"localhost:{port.getHost().port}"
    agent = make_agent(edges=[address], carrier="auto", edge_timeout=0.5)
    assert (await agent.when_ready()).carrier == "websocket"
    assert f"{address} did not finish the TLS handshake in time; connected by websocket" in log_lines
    await agent.stopService()
    await port.stopListening()


@pytest.mark.parametrize("carrier", ["tls", "websocket"])
async def test_a_name_is_looked_up_anew_and_each_address_tried(
    make_agent: AgentMaker, reactor: Any, tmp_path: Path, carrier: str
) -> None:
    edge = FakeEdge(reactor, tmp_path / "edge-ca", names=["edge.test"])
    edge.web = carrier == "websocket"
    await edge.listen()
    addresses = {"edge.test": ["127.0.0.9"]}
    with Names(reactor, addresses):
        agent = make_agent(edges=[f"edge.test:{edge.number}"], carrier=carrier, start=False)
        failed: list[AgentEvent] = []
        agent.on_event(lambda event: failed.append(event) if isinstance(event, Failed) else None)
        agent.startService()
        await until(reactor, lambda: failed)
        addresses["edge.test"] = ["127.0.0.9", "127.0.0.1"]
        await agent.when_ready()
        await agent.stopService()
    await edge.close()


async def test_an_edge_that_does_not_answer_to_the_websocket(
    make_agent: AgentMaker, reactor: Any, edge: FakeEdge
) -> None:
    edge.web = True
    edge._web = _Silent(edge._web)  # type: ignore[assignment]
    failed = await first_of(Failed, make_agent(carrier="websocket", edge_timeout=1.5), reactor)
    assert failed.reason == f"{edge.address} did not answer to the WebSocket within 1.5 s"


class _Silent:
    """TLS in which nobody answers."""

    def __init__(self, acceptor: Any) -> None:
        self.acceptor = acceptor

    def wrap(self, _protocol: Any) -> Any:
        return self.acceptor.wrap(Protocol())
