"""The private service on every kind of address, and what goes wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import DNSLookupError, NoRouteError
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.agent._edge import FakeEdge, until
from tests.agent._services import Connection, LocalServer
from tests.agent.conftest import AgentMaker
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.local import LocalService
from wormhole_tw.errors import ConfigError, StreamReset
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tls import CertificateMap, ServerTls
from wormhole_tw.wire.codes import ResetCode


async def echoes(edge: FakeEdge) -> None:
    visitor = (await edge.ready_link()).visit()
    visitor.transport.write(b"hello")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"HELLO<5 bytes>"


@pytest.mark.parametrize("target", ["{port}", "localhost:{port}", "http://127.0.0.1:{port}", "tcp:127.0.0.1:{port}"])
async def test_ports_names_urls_and_descriptions(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer, target: str
) -> None:
    make_agent(local=target.format(port=local.number))
    await echoes(edge)


async def test_a_unix_socket(make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tmp_path: Path) -> None:
    service = LocalServer(reactor)
    path = tmp_path / "app.sock"
    await service.listen(path)
    try:
        make_agent(local=f"unix:{path}")
        await echoes(edge)
        await service.stop_listening()
        visitor = edge.links[0].visit()
        error = await visitor.failure()
        assert (error.code, error.delivered) == (ResetCode.REFUSED, False)
    finally:
        await service.close()


# TLS


@pytest.fixture
def tls_ca(tmp_path: Path) -> DevCa:
    return DevCa(tmp_path / "service-ca")


def secure(reactor: Any, ca: DevCa) -> LocalServer:
    return LocalServer(reactor, ServerTls(CertificateMap([ca.certificate_for([])]), []))


async def test_https_is_verified(make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tls_ca: DevCa) -> None:
    service = secure(reactor, tls_ca)
    await service.listen()
    try:
        make_agent(local=f"https://localhost:{service.number}", local_ca_file=str(tls_ca.ca_path))
        await echoes(edge)
    finally:
        await service.close()


async def test_tls_that_is_not_trusted_is_that_requests_error(
    make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tls_ca: DevCa, log_lines: Any
) -> None:
    service = secure(reactor, tls_ca)
    await service.listen()
    try:
        agent = make_agent(local=f"https://localhost:{service.number}")
        link = await edge.link()
        error = await link.visit().failure()
        assert (error.code, error.delivered, error.message) == (
            ResetCode.TLS_FAILED,
            False,
            "TLS with the service failed",
        )
        await log_lines.wait_for("give its CA with --local-ca-file")
        assert not agent.ready
        await agent.stopService()
    finally:
        await service.close()


async def test_tls_that_need_not_be_trusted(
    make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tls_ca: DevCa
) -> None:
    service = secure(reactor, tls_ca)
    await service.listen()
    try:
        make_agent(local=f"127.0.0.1:{service.number}", local_tls=True, local_insecure=True)
        await echoes(edge)
    finally:
        await service.close()


async def test_https_to_a_port_without_tls(make_agent: AgentMaker, edge: FakeEdge, local: LocalServer) -> None:
    local.first_word = b"220 no TLS here\r\n"
    make_agent(local=f"https://127.0.0.1:{local.number}")
    error = await (await edge.link()).visit().failure()
    assert error.code == ResetCode.TLS_FAILED


# what goes wrong


async def test_a_service_that_breaks_midway(make_agent: AgentMaker, edge: FakeEdge, local: LocalServer) -> None:
    make_agent()
    visitor = (await edge.ready_link()).visit()
    visitor.transport.write(b"half")
    assert await visitor.bytes(4) == b"HALF"
    local.connections[-1].transport.abortConnection()
    error = await visitor.failure()
    assert isinstance(error, StreamReset)
    assert (error.code, error.delivered) == (ResetCode.SERVICE_FAILED, True)
    assert edge.links[0].protocol.standing


async def test_an_early_answer_arrives_whole_though_the_upload_is_cut(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer
) -> None:
    answer = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n\r\ntoo large"

    def refuse(connection: Connection, data: bytes) -> None:
        connection.transport.write(answer)
        connection.transport.loseConnection()

    local.heard = refuse  # type: ignore[method-assign]
    make_agent()
    link = await edge.ready_link()
    for _ in range(20):
        visitor = link.visit()
        visitor.transport.write(b"x" * 300_000)
        assert await visitor.bytes(len(answer)) == answer
        visitor.transport.abortConnection()


async def test_a_service_that_reads_nothing_pauses_its_visitor_and_no_other(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer
) -> None:
    agent = make_agent()
    link = await edge.ready_link()
    stuck = link.visit()
    await until(edge.reactor, lambda: len(local.connections) == 2)  # the first was the probe
    local.connections[-1].transport.pauseProducing()
    stuck.transport.write(b"x" * 20_000_000)
    quick = link.visit()
    quick.transport.write(b"quick")
    assert await quick.bytes(5) == b"QUICK"
    assert link.protocol.session.queued(stuck.transport.stream_id) > 10_000_000
    stuck.transport.abortConnection()
    quick.transport.abortConnection()
    await until(edge.reactor, lambda: agent.load == 0)


async def test_a_visitor_who_leaves_during_the_dial(make_agent: AgentMaker, edge: FakeEdge) -> None:
    never = _Never()
    agent = make_agent(local=never)
    visitor = (await edge.link()).visit()
    await until(edge.reactor, lambda: agent.load == 1 and len(never.dials) == 2)
    visitor.transport.abortConnection()
    await until(edge.reactor, lambda: agent.load == 0)
    assert len(never.cancelled) == 1


async def test_a_service_that_does_not_answer(make_agent: AgentMaker, edge: FakeEdge) -> None:
    make_agent(local=_Never(), local_timeout=0.1)
    visitor = (await edge.link()).visit()
    visitor.transport.write(b"kept from the service")
    error = await visitor.failure()
    assert (error.code, error.delivered) == (ResetCode.TIMED_OUT, False)


@implementer(IStreamClientEndpoint)
class _Never:
    """Dials for ever."""

    def __init__(self) -> None:
        self.dials: list[Deferred[Any]] = []
        self.cancelled: list[Deferred[Any]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.dials.append(Deferred(self.cancelled.append))
        return self.dials[-1]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DNSLookupError("x"), ResetCode.UNREACHABLE, "the private service's host name is not known"),
        (NoRouteError(), ResetCode.UNREACHABLE, "there is no route to the private service"),
        (PermissionError(13, "Permission denied"), ResetCode.UNREACHABLE, "Permission denied"),
        (ZeroDivisionError(), ResetCode.UNREACHABLE, "ZeroDivisionError"),
    ],
)
def test_what_the_network_says(reactor: Any, error: Exception, code: ResetCode, sentence: str) -> None:
    local = LocalService(reactor, AgentConfig(token="t", edges=["e"], local="8000"))
    said = local.explain(Failure(error))
    assert said[0] is code
    assert sentence in said[1]


@pytest.mark.parametrize("target", ["web:http", "nonsense:a:b", "tcp:host=x:port=y"])
def test_a_bad_description_is_known_at_once(reactor: Any, target: str) -> None:
    config = AgentConfig(token="t", edges=["e"], local=target, sources={"local": "FLY_LOCAL_ENDPOINT"})
    with pytest.raises(ConfigError, match=r"FLY_LOCAL_ENDPOINT: .* is no client endpoint"):
        LocalService(reactor, config)


async def test_bytes_that_come_before_the_service_stands_are_kept(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer, reactor: Any
) -> None:
    slow = _Slow(reactor, local.number)
    make_agent(local=slow)
    link = await edge.link()
    visitor = link.visit()
    visitor.transport.write(b"early")
    visitor.transport.loseWriteConnection()
    await until(reactor, lambda: len(slow.waiting) == 2)
    slow.let_go()
    assert await visitor.end() == b"EARLY<5 bytes>"


@implementer(IStreamClientEndpoint)
class _Slow:
    """Dials when it is told to."""

    def __init__(self, reactor: Any, port: int) -> None:
        self.reactor = reactor
        self.port = port
        self.waiting: list[tuple[Any, Deferred[Any]]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((factory, done))
        return done

    def let_go(self) -> None:
        from twisted.internet.endpoints import TCP4ClientEndpoint

        for factory, done in self.waiting:
            TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port).connect(factory).chainDeferred(done)


async def test_probes_go_on_until_the_service_is_there_and_then_stop(
    make_agent: AgentMaker, edge: FakeEdge, reactor: Any
) -> None:
    seen: list[Protocol] = []

    class Quiet(Protocol):
        def connectionMade(self) -> None:
            seen.append(self)

    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await endpoint.listen(Factory.forProtocol(Quiet))
    number = port.getHost().port
    await port.stopListening()
    agent = make_agent(local=f"127.0.0.1:{number}")
    await edge.link()
    port = await TCP4ServerEndpoint(reactor, number, interface="127.0.0.1").listen(Factory.forProtocol(Quiet))
    await agent.when_ready()
    await until(reactor, lambda: seen)
    await agent.stopService()
    await port.stopListening()
    assert len(seen) == 1


@implementer(IHostResolution)
class Looked:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """There is nothing to cancel: all was said at once."""


@implementer(IHostnameResolver)
class NewerFirst:
    """Every name is this machine's, by IPv6 first: as ``localhost`` is in the ``/etc/hosts`` of many systems."""

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        looked = Looked(hostName)
        resolutionReceiver.resolutionBegan(looked)
        resolutionReceiver.addressResolved(IPv6Address("TCP", "::1", portNumber))
        resolutionReceiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        resolutionReceiver.resolutionComplete()
        return looked


async def test_the_second_address_of_a_name_is_tried_soon(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer, reactor: Any
) -> None:
    """Before Twisted's own 0.3 s are over, which each new connection would take otherwise."""
    before = reactor.installNameResolver(NewerFirst())
    try:
        make_agent(local=f"localhost:{local.number}", local_timeout=0.25)
        link = await edge.ready_link()
        visitor = link.visit()
        visitor.transport.write(b"hello")
        visitor.transport.loseWriteConnection()
        await visitor.end()
        assert bytes(local.connections[-1].received) == b"hello"
    finally:
        reactor.installNameResolver(before)
