"""The edge as a service: its start, its end, and what a reload changes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from tests._harness import LogLines
from tests.edge.tenants import OTHER, TOML, Premises, until
from tests.net.nameserver import NameServer
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.edge.service import EdgeService
from wormhole_tw.errors import ConfigError, MisuseError
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.messages import Open


@pytest_twisted.async_yield_fixture
async def premises(reactor: Any, tmp_path: Path) -> AsyncIterator[Premises]:
    premises = Premises(reactor, tmp_path)
    yield premises
    await premises.close()


class Visitor(Protocol):
    """Somebody connected, without a word."""

    lost = False

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


async def connect(premises: Premises, reactor: Any) -> Visitor:
    port: Any = premises.edge.addresses[0]
    return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.port), Visitor())


async def test_it_starts_and_stops_as_often_as_one_likes(premises: Premises) -> None:
    edge = premises.edge
    for generation in (1, 2):
        edge.privilegedStartService()
        edge.startService()
        edge.startService()
        await premises.ready(generation=generation)
        await edge.stopService()
        assert edge.addresses == []
        assert edge.registry is None
        with pytest.raises(MisuseError):
            _ = edge.context


async def test_stopped_before_it_was_started(premises: Premises) -> None:
    await premises.edge.stopService()
    premises.edge.privilegedStartService()
    await premises.edge.stopService()
    assert premises.edge.addresses == []


async def test_two_stops_at_once_and_no_start_between(premises: Premises) -> None:
    edge = premises.edge
    edge.startService()
    await premises.ready()
    one, two = edge.stopService(), edge.stopService()
    with pytest.raises(MisuseError, match="still stopping"):
        edge.startService()
    await one
    await two
    edge.startService()


async def test_the_port_of_the_urls(premises: Premises) -> None:
    edge = premises.edge
    assert edge.public_port == 443
    edge.startService()
    address: Any = edge.addresses[0]
    assert edge.public_port == address.port
    assert edge.context.public_port == address.port
    assert edge.urls("app") == [f"https://app.example.test:{address.port}"]


async def test_a_port_in_use_leaves_nothing_to_look_after(premises: Premises, reactor: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        pages = """[[backends]]
name = "pages"
origin = "http://127.0.0.1:1"
allow_networks = ["127.0.0.1"]
[backends.health]
path = "/"
[[sites]]"""
        text = TOML.replace("[[backends]]", f'http = ["{endpoint}"]\n[[backends]]', 1).replace("[[sites]]", pages, 1)
        premises.write(text)
        edge = premises.edge = Premises(reactor, premises.file.parent, text).edge
        with pytest.raises(ConfigError, match="in use"):
            edge.startService()
        await edge.stopService()
    # a check that was still to come would be found by who looks at the clock after each test


async def test_a_port_in_use_leaves_nothing_open(premises: Premises, reactor: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        premises.write(TOML.replace("[[backends]]", f'http = ["{endpoint}"]\n[[backends]]', 1))
        edge = premises.edge = Premises(reactor, premises.file.parent, premises.file.read_text()).edge
        with pytest.raises(ConfigError) as caught:
            edge.startService()
        assert caught.value.source == str(premises.file)
        assert caught.value.key == "$.edge.http[0]"
        assert "in use" in caught.value.reason
        assert edge.addresses == []
        with pytest.raises(MisuseError, match="still stopping"):
            edge.startService()
        await edge.stopService()
    edge.startService()
    assert len(edge.addresses) == 2


TCP = """
[[tcp]]
listen = "{endpoint}"
backend = "app"
"""


async def test_ports_of_tcp_services(premises: Premises, reactor: Any) -> None:
    premises.write(TOML + TCP.format(endpoint="tcp:0:interface=127.0.0.1"))
    edge = premises.edge = Premises(reactor, premises.file.parent, premises.file.read_text()).edge
    assert edge.tcp_addresses == {}
    edge.startService()
    address: Any = edge.tcp_addresses["app"]
    agent = await premises.ready()
    visitor = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", address.port), Visitor())
    assert agent.welcome is not None
    assert agent.welcome.urls[0] == f"tcp://localhost:{address.port}"
    await until(reactor, lambda: agent.streams)
    [stream] = agent.streams
    told = stream.open_message.visitor
    assert told is not None
    assert (stream.open_message.kind, told.local_port) == ("tcp", address.port)
    stopping = edge.stopService()
    assert edge.tcp_addresses == {}
    await stopping  # after limits.drain, for the connection has no end of its own
    await until(reactor, lambda: visitor.lost)
    assert not stream.connected


async def test_a_tcp_services_port_in_use_leaves_nothing_open(premises: Premises, reactor: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        premises.write(TOML + TCP.format(endpoint=f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"))
        edge = premises.edge = Premises(reactor, premises.file.parent, premises.file.read_text()).edge
        with pytest.raises(ConfigError) as caught:
            edge.startService()
        assert caught.value.key == "$.tcp[0].listen"
        assert edge.addresses == []
        await edge.stopService()
    edge.startService()
    assert len(edge.tcp_addresses) == 1


async def test_a_reload_of_a_tcp_service(premises: Premises, reactor: Any, log_lines: LogLines) -> None:
    endpoint = "tcp:0:interface=127.0.0.1"
    premises.write(TOML + TCP.format(endpoint=endpoint))
    edge = premises.edge = Premises(reactor, premises.file.parent, premises.file.read_text()).edge
    edge.startService()
    address: Any = edge.tcp_addresses["app"]
    other = premises.tenant(token=OTHER)
    await other.welcomed_
    other.link.set_status(True)
    premises.write(TOML + TCP.format(endpoint=endpoint).replace('"app"', '"other"\nname = "app"'))
    await edge.reload()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", address.port), Visitor())
    await until(reactor, lambda: other.streams)
    premises.write(TOML)
    await edge.reload()
    assert "only a restart changes $.tcp (app is gone; its port takes nobody until then)" in log_lines
    late = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", address.port), Visitor())
    await until(reactor, lambda: late.lost)
    assert edge.tcp_addresses == {"app": address}


async def test_whoever_idles_goes_at_once_and_agents_hear_why(premises: Premises, reactor: Any) -> None:
    edge = premises.edge
    edge.startService()
    tenant = await premises.ready()
    visitor = await connect(premises, reactor)
    await until(reactor, lambda: len(edge.context.connections) == 1)
    before = reactor.seconds()
    await edge.stopService()
    assert reactor.seconds() - before < 0.25
    await until(reactor, lambda: visitor.lost)
    goaway = await tenant.refusal()
    assert goaway.code == GoawayCode.NORMAL
    assert goaway.retry_after is not None


async def test_a_stream_that_does_not_end_is_cut_off_at_the_deadline(premises: Premises, reactor: Any) -> None:
    edge = premises.edge
    edge.startService()
    tenant = await premises.ready()
    assert edge.registry is not None
    session: Any = edge.registry.all()[0]
    session.link.open(Open(kind="tcp"))
    await until(reactor, lambda: tenant.streams)
    before = reactor.seconds()
    await edge.stopService()
    assert 0.2 < reactor.seconds() - before < 2


async def test_an_agent_that_hangs_does_not_keep_it(premises: Premises, reactor: Any) -> None:
    edge = premises.edge
    edge.startService()
    tenant = await premises.ready()
    tenant.link.transport.pauseProducing()  # its process was stopped
    before = reactor.seconds()
    await edge.stopService()
    assert reactor.seconds() - before < 2
    tenant.link.transport.resumeProducing()
    await tenant.link.when_lost()


# Reloading.


async def test_a_reload_swaps_what_it_can(premises: Premises, log_lines: Any) -> None:
    edge = premises.edge
    edge.startService()
    premises.write(
        TOML.replace("app.example.test", "new.example.test")
        .replace('"edge-1"', '"edge-2"')
        .replace('names = ["localhost"', 'names = ["edge.example.test", "localhost"')
        .replace("drain = 0.3", "drain = 0.4")
    )
    await edge.reload()
    assert edge.urls("app") == [f"https://new.example.test:{edge.public_port}"]
    assert (edge.config.name, edge.config.limits.drain) == ("edge-1", 0.3)
    assert edge.config.names == ("localhost", "127.0.0.1")
    assert "only a restart changes $.edge.name, $.edge.names, $.limits.drain" in log_lines


async def test_a_bad_one_changes_nothing(premises: Premises, log_lines: Any) -> None:
    edge = premises.edge
    edge.startService()
    premises.write(TOML.replace("hostnames", "hostname"))
    await edge.reload()
    (line,) = log_lines.matching("the configuration was not reloaded")
    assert "$.sites[0].hostname" in log_lines.text
    assert line
    assert edge.urls("app") == [f"https://app.example.test:{edge.public_port}"]


async def test_a_reload_asks_others_for_the_addresses_of_origins(premises: Premises, reactor: Any) -> None:
    one, other = NameServer(reactor).start(), NameServer(reactor).start()
    for server, address in ((one, "192.0.2.1"), (other, "192.0.2.2")):
        server.names["pages.example"] = [("A", address, 3600)]

    def asking(server: NameServer) -> str:
        return TOML.replace("[[backends]]", f'resolvers = ["127.0.0.1:{server.port}"]\n[[backends]]', 1)

    try:
        premises.write(asking(one))
        premises.edge = edge = EdgeService(reactor, EdgeConfig.load(premises.file), FileStore(premises.file))
        edge.startService()
        origins = edge.context.origins
        assert origins is not None
        assert (await origins.resolver.lookup("pages.example")).addresses == ("192.0.2.1",)
        premises.write(asking(other))
        await edge.reload()
        assert (await origins.resolver.lookup("pages.example")).addresses == ("192.0.2.2",)
    finally:
        await one.stop()
        await other.stop()


async def test_many_reloads_at_once_are_two(premises: Premises, log_lines: Any) -> None:
    premises.edge.startService()
    for reload in [premises.edge.reload() for _ in range(20)]:
        await reload
    assert len(log_lines.matching("configuration reloaded")) == 2


async def test_what_was_written_while_a_reload_had_read_already_is_not_lost(
    premises: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = premises.edge
    edge.startService()
    store = FileStore(premises.file)
    answers: list[Deferred[Any]] = []

    def read(store: FileStore, reactor: Any) -> Deferred[Any]:
        answers.append(Deferred())
        return answers[-1]

    monkeypatch.setattr(FileStore, "read", read)
    first = edge.reload()
    old = store.load()
    premises.write(TOML.replace("app.example.test", "new.example.test"))
    second = edge.reload()  # an operator's second SIGHUP: the file is another, and the first has its answer
    answers[0].callback(old)
    assert len(answers) == 2
    answers[1].callback(store.load())
    await first
    await second
    assert edge.urls("app") == [f"https://new.example.test:{edge.public_port}"]


async def test_a_bug_in_a_reload_is_logged(
    premises: Premises, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    premises.edge.startService()
    monkeypatch.setattr(premises.edge, "apply", lambda snapshot: 1 / 0)
    await premises.edge.reload()
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    monkeypatch.undo()
    await premises.edge.reload()


async def test_a_reload_that_is_overtaken_by_the_end(premises: Premises, log_lines: Any) -> None:
    premises.edge.startService()
    reloading = premises.edge.reload()
    await premises.edge.stopService()
    await reloading
    assert "configuration reloaded" not in log_lines


async def test_a_reload_of_a_stopped_edge_holds_from_the_next_start_on(premises: Premises) -> None:
    premises.write(TOML.replace("app.example.test", "new.example.test"))
    await premises.edge.reload()
    premises.edge.startService()
    assert premises.edge.urls("app") == [f"https://new.example.test:{premises.edge.public_port}"]


async def test_without_a_store_there_is_no_reload(premises: Premises, reactor: Any) -> None:
    with pytest.raises(MisuseError):
        EdgeService(reactor, premises.edge.config).reload()
