"""``[[tcp]]`` and ``tls = "passthrough"``: what may stand in the file, and what a running edge takes over of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.passthrough import check_passthrough
from wormhole_tw.control.reload import restart_needed
from wormhole_tw.control.tables import SiteTable
from wormhole_tw.control.tcp import TcpService, merge_tcp
from wormhole_tw.control.trust import Trusted
from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import convert

APP = {"listen": "tcp:5432", "backend": "app"}


def services(*tables: dict[str, Any], **changes: object) -> tuple[TcpService, ...]:
    return make(sample(tcp=list(tables), **changes)).tcp


def test_the_defaults() -> None:
    assert services() == ()
    assert services(APP) == (
        TcpService(name="app", listen="tcp:5432", backend="app", connections=1000, connect=None, idle=3600.0),
    )


def test_all_that_may_be_said() -> None:
    [service] = services(
        {
            "name": "postgres",
            "listen": "tcp:5432:interface=127.0.0.1",
            "backend": "app",
            "allow": ["192.0.2.0/24", "::/0", "unix"],
            "deny": ["192.0.2.7"],
            "connections": 10,
            "connections_per_address": 2,
            "connect": 3,
            "idle": 0,
            "proxy_protocol": True,
            "trusted": ["10.0.0.0/8", "unix"],
        }
    )
    assert service == TcpService(
        name="postgres",
        listen="tcp:5432:interface=127.0.0.1",
        backend="app",
        allow=Trusted((ip_network("192.0.2.0/24"), ip_network("::/0")), unix=True),
        deny=Trusted((ip_network("192.0.2.7/32"),)),
        connections=10,
        connections_per_address=2,
        connect=3.0,
        idle=0.0,
        proxy_protocol=True,
        trusted=(ip_network("10.0.0.0/8"),),
        trusts_unix=True,
    )
    assert service.key == "$.tcp[0]"


def test_who_is_trusted_is_the_edges_unless_said_otherwise() -> None:
    tables = [APP, {"listen": "tcp:2", "backend": "docs", "trusted": []}]
    found = services(*tables, **{"edge.trusted_proxies": ["10.0.0.0/8"]})
    assert [service.trusted for service in found] == [(ip_network("10.0.0.0/8"),), ()]


@pytest.mark.parametrize(
    ("tables", "key", "reason"),
    [
        ([{"backend": "app"}], "$.tcp[0].listen", "missing"),
        ([{"listen": "tcp:5432"}], "$.tcp[0].backend", "missing"),
        ([{**APP, "listen": "5432"}], "$.tcp[0].listen", "an endpoint description"),
        ([{**APP, "listen": "ssl:5432"}], "$.tcp[0].listen", "ends no TLS on a TCP service"),
        ([{**APP, "listen": "tcp:8443"}], "$.tcp[0].listen", r"is taken by \$\.edge\.https\[0\]"),
        ([APP, {**APP, "name": "again"}], "$.tcp[1].listen", r"is taken by \$\.tcp\[0\]"),
        ([APP, {**APP, "listen": "tcp:1"}], "$.tcp[1].name", "two TCP services named app"),
        ([{**APP, "name": "a b"}], "$.tcp[0].name", "a name is"),
        ([{**APP, "backend": "ap"}], "$.tcp[0].backend", "did you mean app"),
        ([{**APP, "allow": []}], "$.tcp[0].allow", "nobody could connect"),
        ([{**APP, "allow": ["10.0.0.1/8"]}], "$.tcp[0].allow[0]", "no network"),
        ([{**APP, "deny": ["1.2.3.4", "everybody"]}], "$.tcp[0].deny[1]", "no network"),
        ([{**APP, "connections": 0}], "$.tcp[0].connections", ">= 1"),
        ([{**APP, "idle": -1}], "$.tcp[0].idle", ">= 0"),
        ([{**APP, "connect": 0}], "$.tcp[0].connect", "> 0"),
        ([{**APP, "proxy_protocol": True}], "$.tcp[0].proxy_protocol", "nobody is trusted"),
        ([{**APP, "trusted": ["0.0.0.0/0"]}], "$.tcp[0].trusted[0]", "everybody"),
        ([{**APP, "tls": True}], "$.tcp[0].tls", "unknown key"),
    ],
)
def test_what_is_wrong(tables: list[dict[str, Any]], key: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        services(*tables)
    assert caught.value.key == key


def test_the_admin_port_is_not_a_services() -> None:
    with pytest.raises(ConfigError, match="is taken by"):
        services(APP, **{"edge.admin": "tcp:5432"})


def test_a_backend_of_a_service_is_reached() -> None:
    raw = sample(
        tcp=[{"listen": "tcp:5432", "backend": "docs"}], **{"sites.0.routes": [{"path": "/", "backend": "app"}]}
    )
    assert build_catalog(make(raw)).warnings == ()
    del raw["sites"], raw["backends"][0]
    assert build_catalog(make(raw)).warnings == ()


# A running edge.


def test_a_reload_takes_all_but_ports() -> None:
    old = services(APP, {"listen": "tcp:2", "backend": "docs"})
    assert merge_tcp(old, old) == (old, old, ())
    new = services({**APP, "idle": 5}, {"listen": "tcp:2", "backend": "app", "name": "docs", "deny": ["10.0.0.0/8"]})
    assert merge_tcp(old, new) == (new, new, ())
    moved = services({**APP, "listen": "tcp:9", "idle": 5}, {"listen": "tcp:3", "backend": "docs", "name": "more"})
    found = merge_tcp(old, moved)
    assert found.services == (moved[0], None)
    assert found.kept == (replace(moved[0], listen="tcp:5432"), old[1])
    assert found.keys == (
        "$.tcp[0].listen (app)",
        "$.tcp (docs is gone; its port takes nobody until then)",
        "$.tcp[1] (more is new)",
    )
    assert merge_tcp(found.kept, old).services == old


def test_what_needs_a_restart_is_named() -> None:
    old, new = (make(sample(tcp=[{**APP, "listen": port}])) for port in ("tcp:1", "tcp:2"))
    assert restart_needed(old, new) == ["$.tcp[0].listen (app)"]
    assert restart_needed(old, old) == []


# Pass-through.


def passing(**changes: object) -> dict[str, Any]:
    site = {"hostnames": ["vault.example.test"], "tls": "passthrough", "routes": [{"path": "/", "backend": "app"}]}
    raw = sample()
    raw["sites"].append({**site, **changes})
    return raw


def test_a_site_that_is_passed_through() -> None:
    config = make(passing(limits={"connect": 1, "upgrade_idle": 9, "requests_per_site": 5}))
    assert [site.passthrough for site in config.sites] == [False, True]
    assert [site.name for site in config.terminated] == ["example"]
    assert build_catalog(config).passes
    assert not build_catalog(make()).passes
    assert build_catalog(config).urls_for("app")[-1] == "https://vault.example.test"


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({"tls": "terminate"}, "tls", 'expected one of "passthrough"'),
        ({"hostnames": ["a.example.test", "192.0.2.1"]}, "hostnames[1]", "192.0.2.1 is an address: TLS names none"),
        ({"hostnames": ["[2001:db8::1]"]}, "hostnames[0]", "2001:db8::1 is an address"),
        ({"routes": [{"path": "/a", "backend": "app"}]}, "routes[0].path", "sees no path"),
        ({"routes": [{"path": "/", "backend": "app"}, {"path": "/a", "backend": "app"}]}, "routes[1].path", "no path"),
        ({"routes": [{"path": "/", "backend": "app", "methods": ["GET"]}]}, "routes[0].methods", "sees no request"),
        ({"routes": [{"path": "/", "maintenance": {}}]}, "routes[0].maintenance", "a backend alone"),
        (
            {"routes": [{"path": "/", "backend": "app"}, {"path": "/", "backend": "docs"}]},
            "routes[1].backend",
            "leads to one backend, and that is app",
        ),
        ({"routes": [{"path": "/", "backend": "app"}] * 2}, "routes", "more than one route"),
        ({"error_pages": {"404": "<p>"}}, "error_pages", "its service's"),
        ({"security": {"content_type_options": True}}, "security", "its service's"),
        ({"client_ca": "ca.pem"}, "client_ca", "its service's"),
        ({"client_certificate": "optional"}, "client_certificate", "its service's"),
        ({"client_fingerprints": []}, "client_fingerprints", "its service's"),
        (
            {"limits": {"connect": 1, "body_bytes": 1}},
            "limits.body_bytes",
            "only connect, requests_per_site and upgrade",
        ),
    ],
)
def test_what_a_site_that_is_passed_through_cannot_have(changes: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        make(passing(**changes))
    assert caught.value.key == f"$.sites[1].{key}"


def test_what_may_stand_at_a_site_that_is_passed_through_is_counted_up() -> None:
    """Every other key is refused, also one that is new and has a list: it must not be left out in silence."""

    class Later(SiteTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
        basic_auth: list[str] = []

    table = convert(passing()["sites"][1] | {"basic_auth": []}, Later)
    check_passthrough(table, ["vault.example.test"], "edge.toml", "$.sites[1]")
    table = convert(passing()["sites"][1] | {"basic_auth": ["me"]}, Later)
    with pytest.raises(ConfigError, match="its service's") as caught:
        check_passthrough(table, ["vault.example.test"], "edge.toml", "$.sites[1]")
    assert caught.value.key == "$.sites[1].basic_auth"


def test_no_ca_is_asked_for_a_name_that_is_passed_through() -> None:
    """Without a plain listener, and for a wildcard without DNS, a name that needed a certificate would be an error."""
    raw = passing(hostnames=["*.vault.example.com"])
    raw["tls"] = {"mode": "acme", "email": "me@example.com", "agree_tos": True}
    assert make(raw).tls.mode == "acme"
    del raw["sites"][1]["tls"]
    with pytest.raises(ConfigError):
        make(raw)
