"""What the admin listener tells of an edge that serves: /metrics, judged by the parser of Prometheus, and /readyz."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
import treq
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.web.client import HTTPConnectionPool

from tests._support import ROOT
from tests.edge.tenants import TOML, Premises, until
from wormhole_tw import __version__
from wormhole_tw.admin.service import AdminService
from wormhole_tw.edge import passage_lines
from wormhole_tw.edge.access_lines import FIELDS
from wormhole_tw.net.tls import client_creator

DASHBOARD = ROOT / "deploy" / "grafana" / "wormhole-edge.json"
PAGE = ROOT / "docs" / "observability.md"

ADMINISTERED = TOML.replace(
    "[[backends]]", 'admin = "tcp:0:interface=127.0.0.1"\n[access_log]\npath = "access.log"\n[[backends]]', 1
)


class Administered(Premises):
    """An edge and its admin listener."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        super().__init__(reactor, folder, ADMINISTERED)
        self.admin = AdminService(reactor, self.edge.config, self.edge)
        self.admin.startService()

    async def ask(self, path: str) -> tuple[int, str]:
        address: Any = self.admin.address
        pool = HTTPConnectionPool(self.reactor, persistent=False)
        response = await treq.get(f"http://127.0.0.1:{address.port}{path}", pool=pool, reactor=self.reactor)
        return response.code, await response.text()

    async def samples(self) -> dict[str, float]:
        """Every sample as ``name{label="value",…}``."""
        code, text = await self.ask("/metrics")
        assert code == 200
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation, family.name
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                key = f"{sample.name}{{{labels}}}" if labels else sample.name
                assert key not in found
                found[key] = sample.value
        return found

    async def visit(self, octets: bytes) -> bytes:
        """One connection over TLS: what it heard until the edge closed it."""
        port: Any = self.edge.addresses[0]
        creator = client_creator("app.example.test", ca_file=self.edge.ca_file, alpn=[b"http/1.1"])
        endpoint = wrapClientTLS(creator, TCP4ClientEndpoint(self.reactor, "127.0.0.1", port.port))
        visitor: Visitor = await connectProtocol(endpoint, Visitor())
        visitor.transport.write(octets)
        return await visitor.closed

    async def close(self) -> None:
        await super().close()
        await self.admin.stopService()


class Visitor(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.closed: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(self.heard)


@pytest_twisted.async_yield_fixture
async def premises(reactor: Any, tmp_path: Path) -> AsyncIterator[Administered]:
    premises = Administered(reactor, tmp_path)
    yield premises
    await premises.close()


async def test_readiness(premises: Administered, reactor: Any) -> None:
    code, text = await premises.ask("/readyz?verbose")
    assert (code, text.splitlines()) == (503, ["not ready", "no port is open yet", "no configuration is loaded"])
    premises.edge.privilegedStartService()
    assert await premises.ask("/readyz?verbose") == (503, "not ready\nthe edge is starting\n")
    premises.edge.startService()
    assert await premises.ask("/readyz") == (200, "ok\n")
    assert (await premises.ask("/readyz?verbose"))[0] == 200
    tenant = await premises.ready()
    visiting = Deferred.fromCoroutine(premises.visit(b"GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n"))
    await until(reactor, lambda: tenant.streams)
    stopping = premises.edge.stopService()
    assert await premises.ask("/readyz?verbose") == (503, "not ready\nthe edge is shutting down\n")
    assert await premises.ask("/healthz") == (200, "ok\n")
    await stopping
    await visiting
    assert (await premises.ask("/readyz"))[0] == 503
    samples = await premises.samples()
    assert samples["wormhole_ready"] == 0
    assert "wormhole_connections_total" not in samples


async def test_metrics(premises: Administered, reactor: Any) -> None:
    premises.edge.startService()
    tenant = await premises.ready()
    await premises.ready(generation=2, previous="draining")
    refused = premises.tenant(token="wh_unknown")
    await refused.refusal()
    heard = await premises.visit(b"GET /?q HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n")
    assert b"421" in heard or b"404" in heard
    await premises.visit(b"BREW / HTTP/1.1\r\nHost: app.example.test\r\nExpect: nonsense\r\nConnection: close\r\n\r\n")
    port: Any = premises.edge.addresses[0]
    lost: Visitor = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.port), Visitor())
    lost.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    await until(reactor, lambda: lost.heard)
    lost.transport.loseConnection()
    await lost.closed
    await until(reactor, lambda: sum(premises.edge.observer.loop_delay.counts))
    samples = await premises.samples()
    assert samples["wormhole_ready"] == 1
    assert samples[f"wormhole_edge_info{{edge=edge-1,region=local,version={__version__}}}"] == 1
    assert samples["wormhole_requests_total{backend=,method=GET,site=,status=4xx}"] == 1
    assert samples["wormhole_request_duration_seconds_count{backend=,site=}"] >= 1
    assert samples["wormhole_failed_requests_total{reason=unknown-host}"] == 1
    assert samples["wormhole_failed_requests_total{reason=plain-http-on-https-port}"] == 1
    assert samples["wormhole_agents{backend=app,state=ready}"] == 1
    assert samples["wormhole_agents{backend=other,state=ready}"] == 0
    assert samples["wormhole_agent_connections_total{backend=app}"] == 2
    assert samples["wormhole_agent_reconnects_total{backend=app}"] == 1
    assert samples["wormhole_agent_refusals_total{reason=UNAUTHORIZED}"] == 1
    assert samples["wormhole_tls_handshakes_total"] == 5
    assert samples["wormhole_connections_total"] == 6
    assert samples["wormhole_event_loop_delay_seconds_count"] >= 1
    assert samples["process_resident_memory_bytes"] > 0
    tenant.link.abort()


async def test_a_scraper_sees_that_an_agent_was_lost(premises: Administered, reactor: Any) -> None:
    premises.edge.startService()
    tenant = await premises.ready()
    tenant.link.abort()
    await until(reactor, lambda: not premises.edge.agents.links)
    samples = await premises.samples()
    assert samples["wormhole_agents_lost_total{backend=app}"] == 1
    assert samples["wormhole_agents{backend=app,state=ready}"] == 0


async def test_the_access_log_of_an_edge(premises: Administered, tmp_path: Path, reactor: Any) -> None:
    file = tmp_path / "access.log"
    premises.edge.reopen_logs()
    premises.edge.startService()
    assert file.exists()
    request = b"GET /?q=hidden HTTP/1.1\r\nHost: app.example.test\r\nConnection: close\r\n\r\n"
    await premises.visit(request)
    await until(reactor, file.read_text)
    file.rename(tmp_path / "old.log")
    premises.edge.reopen_logs()
    await until(reactor, file.exists)
    await premises.visit(request)
    await premises.edge.stopService()
    lines = [json.loads(path.read_text()) for path in (tmp_path / "old.log", file)]
    assert [(line["status"], line["reason"], line["tls"]) for line in lines] == [(503, "no-agent", "TLSv1.3")] * 2
    assert len({line["request_id"] for line in lines}) == 2


async def names_of(premises: Administered) -> dict[str, tuple[str, set[str]]]:
    """Family → type and labels."""
    _, text = await premises.ask("/metrics")
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("wormhole_")
    }


async def test_the_dashboard_asks_for_what_there_is(premises: Administered) -> None:
    premises.edge.startService()
    _, text = await premises.ask("/metrics")
    families = list(text_string_to_metric_families(text))
    there = {sample.name for family in families for sample in family.samples}
    for family in families:  # families without a sample yet, too
        there |= {family.name, f"{family.name}_total"} if family.type == "counter" else {family.name}
        if family.type == "histogram":
            there |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    queries += [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    assert len(queries) > 15
    for query in queries:
        asked = set(re.findall(r"\b(?:wormhole|process|python)_[a-z_]+", query))
        assert asked, query
        assert asked <= there, query
    identities = [panel["id"] for panel in board["panels"]]
    assert len(set(identities)) == len(identities)


async def test_the_page_lists_what_there_is(premises: Administered) -> None:
    premises.edge.startService()
    await premises.ready()
    await premises.tenant(token="wh_unknown").refusal()
    await premises.visit(b"GET / HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n")
    there = await names_of(premises)
    table = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0].startswith("`wormhole_"):
            table[cells[0].strip("`")] = (cells[1], set(re.findall("`([^`]+)`", cells[2])))
    assert set(table) == set(there)
    for name, (kind, labels) in there.items():
        assert table[name][0] == kind, name
        assert not labels or table[name][1] == labels, name
    fields = re.findall(
        r"^\| `([a-z_]+)` \|", PAGE.read_text().split("## Access log")[1].split("\n## ")[0], re.MULTILINE
    )
    assert fields == [*FIELDS, *passage_lines.FIELDS]
