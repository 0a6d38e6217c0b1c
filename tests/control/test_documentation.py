"""docs/configuration.md says what the code does: every key, every default, every variable, and its example loads."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests._support import ROOT
from wormhole_tw import structs
from wormhole_tw.control import tables
from wormhole_tw.control.access_tables import BasicAuthTable, JwtTable, MirrorTable, OidcTable, RateLimitTable
from wormhole_tw.control.acme import ExternalAccountTable
from wormhole_tw.control.balancing import (
    BalanceTable,
    BreakerTable,
    EjectionTable,
    HealthTable,
    QueueTable,
    RetriesTable,
)
from wormhole_tw.control.cache_tables import CacheTable, StoreTable
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.compression import CompressTable
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.dns import DnsTable, UpdateTable
from wormhole_tw.control.environment import EDGE_VARIABLES
from wormhole_tw.control.limits import Limits, SiteLimits
from wormhole_tw.control.middleware import MiddlewareTable
from wormhole_tw.control.origins import OriginTable
from wormhole_tw.control.tokens import digest_line

PAGE = (ROOT / "docs" / "configuration.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its first two lines."""
    section = re.split(r"^#+ ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("`[edge]`", tables.EdgeTable),
        ("`[[edge.listeners]]`", tables.ListenerTable),
        ("`[tls]`", tables.TlsTable),
        ("`[[tls.certificates]]`", tables.CertificateTable),
        ("`[tls.external_account]`", ExternalAccountTable),
        ("`[tls.dns]`", DnsTable),
        ("`[tls.dns.rfc2136]`", UpdateTable),
        ("`[[backends]]`", tables.BackendTable),
        ("`[[backends.origins]]`", OriginTable),
        ("`[backends.balance]`", BalanceTable),
        ("`[backends.health]`", HealthTable),
        ("`[backends.ejection]`", EjectionTable),
        ("`[backends.breaker]`", BreakerTable),
        ("`[backends.retries]`", RetriesTable),
        ("`[backends.queue]`", QueueTable),
        ("`[[sites]]`", tables.SiteTable),
        ("`[[sites.routes]]`", tables.RouteTable),
        ("`[sites.rate_limit]`", RateLimitTable),
        ("`[sites.basic_auth]`", BasicAuthTable),
        ("`[sites.jwt]`", JwtTable),
        ("`[sites.oidc]`", OidcTable),
        ("`[sites.routes.mirror]`", MirrorTable),
        ("`[sites.cache]`", CacheTable),
        ("`[sites.compress]`", CompressTable),
        ("`[[sites.middleware]]`", MiddlewareTable),
        ("`[sites.security]`", tables.SecurityTable),
        ("`[[tcp]]`", tables.TcpTable),
        ("`[access_log]`", tables.AccessLogTable),
        ("`[cache]`", StoreTable),
        ("`[limits]`", Limits),
        ("`[sites.limits]`", SiteLimits),
    ],
)
def test_every_key_is_there(heading: str, table: type[structs.Struct]) -> None:
    named = {name for row in rows(heading) for name in row[0].replace("`", "").split(", ")}
    assert named == set(table.__struct_fields__)


def test_the_limits_have_the_defaults_that_are_said() -> None:
    assert {row[0]: float(row[1]) for row in rows("`[limits]`")} == {
        name: float(getattr(Limits(), name)) for name in Limits.__struct_fields__
    }


def test_the_variables_are_those_of_the_code() -> None:
    assert {row[0]: row[1].strip("` ") for row in rows("Environment")} == EDGE_VARIABLES


def test_the_example_is_right_and_warns_of_nothing() -> None:
    match = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    config = EdgeConfig.from_dict(tomllib.loads(match[1]))
    assert build_catalog(config).warnings == ()


ROUTING = (ROOT / "docs" / "routing.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", ROUTING, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split("\n", 1)[0].strip("[]# "))
def test_the_examples_of_routes_load(text: str) -> None:
    """Those that show routes alone belong to a site, and every backend that they name has to be there."""
    if "[[sites]]" not in text:
        text = '[[sites]]\nhostnames = ["shop.example.com"]\n' + text
    raw = tomllib.loads(text)
    names = {route["backend"] for site in raw["sites"] for route in site["routes"] if "backend" in route}
    raw["backends"] = [{"name": name, "tokens": [digest_line(name)]} for name in sorted(names)]
    catalog = build_catalog(EdgeConfig.from_dict({"edge": {"https": ["tcp:443"]}, **raw}, hostname="machine"))
    assert catalog.warnings == ()


def test_routes_have_examples() -> None:
    assert len(EXAMPLES) >= 3
