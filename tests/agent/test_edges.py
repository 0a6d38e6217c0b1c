"""What an operator reads when an edge cannot be reached: a clear line that says which of the many it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import DNSLookupError, NoRouteError, TCPTimedOutError
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tests.agent._edge import FakeEdge, until
from tests.agent.conftest import AgentMaker
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.events import Failed
from wormhole_tw.agent.explain import explain_edge_failure
from wormhole_tw.agent.service import AgentService
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.wire.codes import GoawayCode


async def first_failure(agent: AgentService, reactor: Any) -> str:
    seen: list[Failed] = []
    agent.on_event(lambda event: seen.append(event) if isinstance(event, Failed) else None)
    await until(reactor, lambda: seen)
    assert not agent.sessions
    return seen[0].reason


async def test_another_ca(make_agent: AgentMaker, edge: FakeEdge, tmp_path: Path, log_lines: Any) -> None:
    other = DevCa(tmp_path / "other")
    reason = await first_failure(make_agent(ca_file=str(other.ca_path)), edge.reactor)
    assert reason == (
        f"the certificate of {edge.address} is not signed by a CA that is trusted here; give its CA with --ca-file"
    )
    assert reason in log_lines


async def test_the_systems_cas_alone(make_agent: AgentMaker, edge: FakeEdge) -> None:
    agent = make_agent(ca_file=None, sources={"ca_file": "FLY_TLS_CERT_FILE"})
    assert "give its CA with FLY_TLS_CERT_FILE" in await first_failure(agent, edge.reactor)


async def test_another_host_name(make_agent: AgentMaker, edge: FakeEdge) -> None:
    agent = make_agent(edges=[f"127.0.0.2:{edge.number}"])
    port = await TCP4ServerEndpoint(edge.reactor, edge.number, interface="127.0.0.2").listen(edge._port.factory)
    try:
        reason = await first_failure(agent, edge.reactor)
    finally:
        await port.stopListening()
    assert reason.startswith(f"the certificate of 127.0.0.2:{edge.number} is not for the name 127.0.0.2")


async def test_tls_that_ends_at_something_else(make_agent: AgentMaker, reactor: Any, tmp_path: Path) -> None:
    web = FakeEdge(reactor, tmp_path / "edge-ca", alpn=b"http/1.1")
    await web.listen()
    try:
        reason = await first_failure(make_agent(edges=[web.address]), reactor)
    finally:
        await web.close()
    assert reason == f"TLS at {web.address} ends at something that is not an edge"


class _Says(Protocol):
    def __init__(self, text: bytes) -> None:
        self.text = text

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(self.text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "{address} does not speak TLS"),
        (b"", "{address} did not finish the TLS handshake in time"),
    ],
)
async def test_a_port_without_tls(make_agent: AgentMaker, reactor: Any, text: bytes, reason: str) -> None:
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        Factory.forProtocol(lambda: _Says(text))  # type: ignore[arg-type]
    )
    address = f"localhost:{port.getHost().port}"
    try:
        said = await first_failure(make_agent(edges=[address], edge_timeout=0.3), reactor)
    finally:
        await port.stopListening()
    assert said == reason.format(address=address)


async def test_nobody_there(make_agent: AgentMaker, edge: FakeEdge) -> None:
    await edge.stop_listening()
    reason = await first_failure(make_agent(), edge.reactor)
    assert reason == f"{edge.address} refuses connections; is an edge running there?"


async def test_an_edge_that_says_no_welcome(make_agent: AgentMaker, edge: FakeEdge) -> None:
    edge.silent = True
    assert await first_failure(make_agent(edge_timeout=0.3), edge.reactor) == f"{edge.address}: no WELCOME in time"


async def test_an_edge_that_has_no_version_in_common(make_agent: AgentMaker, edge: FakeEdge, log_lines: Any) -> None:
    edge.refusal = (GoawayCode.VERSION, "version 7 is spoken here", None)
    make_agent()
    await log_lines.wait_for("refuses this agent: version 7 is spoken here (version)")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DNSLookupError("x"), "the host name edge is not known (DNS)"),
        (TCPTimedOutError(), "edge:443 does not answer within 10 s"),
        (NoRouteError(), "there is no route to edge:443"),
        (ZeroDivisionError(), "no connection to edge:443: ZeroDivisionError"),
    ],
)
def test_what_the_network_says(error: Exception, sentence: str) -> None:
    assert explain_edge_failure(Failure(error), "edge", 443, timeout=10, ca_option="--ca-file") == sentence


def test_a_ca_file_without_certificates_stops_the_start(reactor: Any, tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    agent = AgentService(reactor, AgentConfig(token="t", edges=["e"], ca_file=str(bad)))
    with pytest.raises(ConfigError, match=r"ca_file: .* does not exist"):
        agent.privilegedStartService()
    bad.write_text("nothing")
    with pytest.raises(ConfigError, match=r"ca_file: .* no PEM certificate"):
        agent.startService()
    assert not agent.running


async def test_a_ca_file_is_read_at_each_start(
    make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tmp_path: Path
) -> None:
    trusted = tmp_path / "trusted.pem"
    other = DevCa(tmp_path / "other")
    trusted.write_bytes(other.ca_path.read_bytes())
    agent = make_agent(ca_file=str(trusted))
    await first_failure(agent, reactor)
    await agent.stopService()
    trusted.write_bytes(Path(edge.ca_file).read_bytes())
    agent.startService()
    assert (await agent.whenConnected()).edge == "edge-1"


def test_a_ready_file_needs_its_folder(reactor: Any) -> None:
    with pytest.raises(ConfigError, match="ready_file: the folder of /nowhere/ready does not exist"):
        AgentService(reactor, AgentConfig(token="t", edges=["e"], ready_file="/nowhere/ready"))
