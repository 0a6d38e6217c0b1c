"""The services inside somebody else's application, and the example of it in ``docs/examples``."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from treq.client import HTTPClient
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tests import _support
from tests.end_to_end.programs import TWISTD, free_port, programs
from wormhole_tw import AgentConfig, AgentService, EdgeConfig, EdgeService
from wormhole_tw.control.tokens import digest_line, generate
from wormhole_tw.errors import LinkLost, LinkRefused, MisuseError
from wormhole_tw.net.tls import client_creator
from wormhole_tw.tunnel.addresses import WormholeAddress
from wormhole_tw.wire.messages import Open

EXAMPLE = _support.ROOT / "docs" / "examples" / "one_process.py"


def fetch(host: str, port: int, ca_file: Path) -> tuple[int, str]:
    """One GET over https, verified against one CA, at this machine whatever ``host`` is."""
    context = ssl.create_default_context(cafile=str(ca_file))
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as connected,
    ):
        connection = http.client.HTTPConnection(host, port)
        connection.sock = connected
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.mark.deadline(90)
@pytest.mark.parametrize("way", ["python", "twistd"])
def test_one_process_serves_and_ends(way: str, tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, str(EXAMPLE)] if way == "python" else [*TWISTD, "-ny", str(EXAMPLE)]
    with programs() as started:
        # Twice in one folder: the CA and the socket of the first run are there in the second.
        for _ in range(2):
            example = started.start("one_process", argv, env={"HTTPS_PORT": str(port)}, cwd=tmp_path)
            example.wait_for(f"the site is at https://app.localhost:{port}")
            status, page = fetch("app.localhost", port, tmp_path / "one_process" / "dev" / "ca.pem")
            assert (status, page) == (
                200,
                "Hello 127.0.0.1, this site shares its process with the agent and the edge.\n",
            )
            ended = example.stop(signal.SIGTERM)
            # twistd takes SIGTERM for its own: it stops in order, then ends by the signal.
            assert ended == 0 if way == "python" else ended in (0, -signal.SIGTERM)
            for word in ("Traceback", "Unhandled", "rror"):
                assert word not in example.output, example.output
    assert not (tmp_path / "one_process" / "site.sock").exists()


def test_one_process_that_is_stopped_at_once_ends_cleanly(tmp_path: Path) -> None:
    with programs() as started:
        example = started.python("one_process", str(EXAMPLE), env={"HTTPS_PORT": str(free_port())}, cwd=tmp_path)
        example.wait_for("serves https on")
        assert example.stop(signal.SIGTERM) == 0
        assert "Traceback" not in example.output, example.output


# The same services here, in the process of the tests.


class Word(Resource):
    """A site that says one word."""

    isLeaf = True

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def render_GET(self, request: Any) -> bytes:
        return self.word.encode()


@implementer(IAgentEndpointFactory)
class Here:
    """Connects to this machine whatever the host name; TLS verifies it."""

    def __init__(self, reactor: Any, ca_file: Path) -> None:
        self.reactor = reactor
        self.ca_file = ca_file

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        creator = client_creator(uri.host.decode(), ca_file=self.ca_file, alpn=[b"http/1.1"])
        return wrapClientTLS(creator, TCP4ClientEndpoint(self.reactor, "127.0.0.1", uri.port))


class Pair:
    """An edge with one site, its agent, and the agent's private service, on the reactor of the tests."""

    def __init__(self, reactor: Any, folder: Path, name: str) -> None:
        self.reactor = reactor
        self.hostname = f"{name}.localhost"
        self.port = reactor.listenTCP(0, Site(Word(name)), interface="127.0.0.1")
        https = free_port()
        token = generate()
        self.edge = EdgeService(
            reactor,
            EdgeConfig.from_dict(
                {
                    "edge": {
                        "name": f"edge-of-{name}",
                        "names": ["localhost"],
                        "https": [f"tcp:{https}:interface=127.0.0.1"],
                        "state": str(folder / name),
                    },
                    "backends": [{"name": name, "tokens": [digest_line(token)]}],
                    "sites": [{"hostnames": [self.hostname], "routes": [{"path": "/", "backend": name}]}],
                    "limits": {"drain": 2.0},
                }
            ),
        )
        self.agent = AgentService(
            reactor,
            AgentConfig(
                token=token,
                edges=[f"localhost:{https}"],
                local=TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port),
                ca_file=str(self.edge.ca_file),
                drain=2.0,
            ),
        )

        # As in an application; two of the same kind may stand in one.
        self.services = MultiService()
        self.edge.setServiceParent(self.services)
        self.agent.setServiceParent(self.services)

    def start(self) -> None:
        self.services.startService()

    async def stop(self) -> None:
        if self.services.running:
            await self.services.stopService()
        else:  # a test may have started one of them alone
            await self.agent.stopService()
            await self.edge.stopService()

    async def get(self) -> tuple[int, str]:
        """A page through edge and agent, on a connection of its own."""
        pool = HTTPConnectionPool(self.reactor, persistent=False)
        assert self.edge.ca_file is not None
        client = HTTPClient(Agent.usingEndpointFactory(self.reactor, Here(self.reactor, self.edge.ca_file), pool=pool))
        response = await client.get(f"https://{self.hostname}:{self.edge.public_port}/", timeout=10)
        return response.code, await treq.text_content(response)


@pytest_twisted.async_yield_fixture
async def pairs(reactor: Any, tmp_path: Path) -> AsyncIterator[tuple[Pair, Pair]]:
    made = Pair(reactor, tmp_path, "left"), Pair(reactor, tmp_path, "right")
    yield made
    for pair in made:
        await pair.stop()
        await pair.port.stopListening()


async def test_edge_and_agent_start_and_stop_twice(pairs: tuple[Pair, Pair]) -> None:
    pair, _ = pairs
    addresses = []
    sessions = []
    for _ in range(2):
        pair.start()
        session = await pair.agent.when_ready()
        assert session.edge == "edge-of-left"
        assert session.urls == (f"https://left.localhost:{pair.edge.public_port}",) == tuple(pair.edge.urls("left"))
        assert pair.edge.registry is not None
        assert [here.facts.session_id for here in pair.edge.registry.sessions("left")] == [session.session_id]
        assert await pair.get() == (200, "left")
        addresses.append(pair.edge.addresses)
        sessions.append(session.session_id)
        await pair.stop()
        # Nothing left behind: the harness looks at the reactor when the test is over, the services say so themselves.
        assert (pair.edge.addresses, pair.edge.registry, pair.agent.sessions, pair.agent.load) == ([], None, (), 0)
        with pytest.raises(MisuseError):
            _ = pair.edge.context
    assert addresses[0] == addresses[1]
    assert sessions[0] != sessions[1]


async def test_two_edges_and_two_agents_of_one_process_do_not_disturb_each_other(pairs: tuple[Pair, Pair]) -> None:
    left, right = pairs
    for pair in pairs:
        pair.start()
    kept = await right.agent.when_ready()
    await left.agent.when_ready()
    assert [await pair.get() for pair in pairs] == [(200, "left"), (200, "right")]

    await left.stop()
    assert await right.get() == (200, "right")
    left.start()
    await left.agent.when_ready()
    assert [await pair.get() for pair in pairs] == [(200, "left"), (200, "right")]
    assert right.agent.sessions == (kept,)  # the same link all the while


async def test_two_agents_of_one_process_stand_beside_each_other(pairs: tuple[Pair, Pair], reactor: Any) -> None:
    left, _ = pairs
    left.start()
    first = await left.agent.when_ready()
    replica = AgentService(reactor, left.agent.config)
    replica.startService()
    second = await replica.when_ready()
    assert left.edge.registry is not None
    assert {here.facts.session_id for here in left.edge.registry.sessions("left")} == {
        first.session_id,
        second.session_id,
    }
    await left.agent.stopService()
    assert await left.get() == (200, "left")
    await replica.stopService()


async def test_when_connected_tells_of_a_refusal_that_cannot_heal_and_of_a_stop(pairs: tuple[Pair, Pair]) -> None:
    left, right = pairs
    left.edge.startService()
    config = AgentConfig(
        token="wh_of_somebody_else",
        edges=left.agent.config.edges,
        local=left.agent.config.local,
        ca_file=left.agent.config.ca_file,
    )
    stranger = AgentService(left.reactor, config)
    stranger.startService()
    with pytest.raises(LinkRefused) as refused:
        await stranger.whenConnected()
    assert config.token not in str(refused.value)
    await stranger.stopService()

    right.edge.startService()
    right.agent.startService()
    waiting = right.agent.whenConnected()
    stopped = right.agent.stopService()
    with pytest.raises(LinkLost, match="stopped"):
        await waiting
    await stopped


async def test_one_application_holds_several_of_a_kind(pairs: tuple[Pair, Pair]) -> None:
    whole = MultiService()
    for pair in pairs:
        pair.edge.disownServiceParent()
        pair.agent.disownServiceParent()
        pair.edge.setServiceParent(whole)
        pair.agent.setServiceParent(whole)
    whole.startService()
    for pair in pairs:
        await pair.agent.when_ready()
    assert [await pair.get() for pair in pairs] == [(200, "left"), (200, "right")]
    await whole.stopService()


class Asking(Protocol):
    """Asks for a page and keeps what comes until the end."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(b"GET / HTTP/1.0\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(self.received)


async def test_the_private_service_is_dialled_from_the_edges_process(pairs: tuple[Pair, Pair]) -> None:
    left, _ = pairs
    left.start()
    await left.agent.when_ready()
    assert left.edge.registry is not None
    (session,) = left.edge.registry.sessions("left")
    asking = await session.dial(Open(kind="tcp")).connect(Factory.forProtocol(Asking))
    assert asking.transport.getPeer() == WormholeAddress(session.facts.session_id, asking.transport.stream_id)
    assert (await asking.ended).endswith(b"left")
