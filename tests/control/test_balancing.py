"""``[backends.balance]`` and its companions: what may stand there, and what it means."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests._support import ROOT
from tests.control._sample import make, sample
from wormhole_tw.control.balancing import (
    USUAL,
    Balance,
    BreakerTable,
    Ejection,
    HealthCheck,
    Key,
    Policy,
    QueueTable,
    RetriesTable,
    parse_statuses,
)
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.tokens import digest_line
from wormhole_tw.errors import ConfigError


def policy(**tables: Any) -> Policy:
    if "health" in tables:
        tables["origin"] = "https://app.example.test"
    return make(sample(**{f"backends.0.{name}": table for name, table in tables.items()})).backends[0].policy


def test_nothing_said_is_the_usual() -> None:
    assert policy() == USUAL
    assert policy(balance={}, ejection={}, retries={}) == USUAL


def test_all_that_may_be_said() -> None:
    said = policy(
        failover="docs",
        balance={
            "method": "hash",
            "key": "header:X-User",
            "overload": 2,
            "weights": {"main": 3, "canary": 0.5},
            "prefer_region": ["own", "eu"],
            "slow_start": 30,
            "max_requests": 10,
        },
        health={
            "path": "/healthz",
            "interval": 1,
            "timeout": 2,
            "healthy": 3,
            "unhealthy": 4,
            "status": "200,301-302",
            "host": "app.internal:81",
        },
        ejection={"failures": 3, "share": 0.5, "requests": 10, "seconds": 5, "longest": 50, "most": 1, "status": "500"},
        breaker={"share": 0.2, "requests": 5, "window": 20, "seconds": 3, "trials": 1},
        retries={"attempts": 2, "budget": 0.1, "least": 0, "hedge_after": 0.5, "hedge_budget": 0.01},
        queue={"requests": 7, "seconds": 1.5},
    )
    assert said == Policy(
        balance=Balance(
            method="hash",
            key=Key("header", b"x-user"),
            overload=2.0,
            weights=(("canary", 0.5), ("main", 3.0)),
            prefer_region=("own", "eu"),
            slow_start=30.0,
            max_requests=10,
        ),
        health=HealthCheck("/healthz", 1.0, 2.0, 3, 4, ((200, 200), (301, 302)), "app.internal:81"),
        ejection=Ejection(3, 0.5, 10, 5.0, 50.0, 1.0, ((500, 500),)),
        breaker=BreakerTable(share=0.2, requests=5, window=20.0, seconds=3.0, trials=1),
        retries=RetriesTable(attempts=2, budget=0.1, least=0, hedge_after=0.5, hedge_budget=0.01),
        queue=QueueTable(requests=7, seconds=1.5),
        failover="docs",
    )
    assert said.health is not None
    assert [said.health.accepts(status) for status in (200, 201, 301, 500)] == [True, False, True, False]
    assert [said.ejection.counts(status) for status in (500, 502)] == [True, False]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("address", Key("address")),
        ("path", Key("path")),
        ("header:X-User", Key("header", b"x-user")),
        ("cookie:SID", Key("cookie", b"SID")),
    ],
)
def test_keys(text: str, key: Key) -> None:
    assert policy(balance={"method": "hash", "key": text}).balance.key == key


def test_a_sticky_cookie() -> None:
    balance = policy(balance={"method": "sticky", "cookie": "place", "cookie_time": 60}).balance
    assert (balance.cookie, balance.cookie_time) == ("place", 60.0)


def test_a_plugin_has_settings_and_may_take_what_ours_do_not() -> None:
    balance = policy(balance={"method": "mine", "key": "path", "cookie": "c", "settings": {"b": "2", "a": "1"}}).balance
    assert balance.settings == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize(
    ("tables", "key", "reason"),
    [
        ({"balance": {"method": "Round Robin"}}, "balance.method", "the name of a balancer"),
        ({"balance": {"metod": "p2c"}}, "balance.metod", "did you mean method"),
        ({"balance": {"key": "path"}}, "balance.key", 'only with method = "hash"'),
        ({"balance": {"cookie": "c"}}, "balance.cookie", 'only with method = "sticky"'),
        ({"balance": {"method": "hash", "key": "colour"}}, "balance.key", 'expected "address", "path"'),
        ({"balance": {"method": "hash", "key": "header:"}}, "balance.key", 'expected "address", "path"'),
        ({"balance": {"method": "hash", "key": "body:x"}}, "balance.key", 'expected "address", "path"'),
        ({"balance": {"method": "sticky", "cookie": "a b"}}, "balance.cookie", "no name of a cookie"),
        ({"balance": {"method": "hash", "overload": 0.5}}, "balance.overload", ">= 1"),
        ({"balance": {"settings": {"a": "1"}}}, "balance.settings", "p2c has no settings"),
        ({"balance": {"weights": {"main": 0}}}, "balance.weights.main", "more than 0"),
        ({"balance": {"weights": {"two words": 1001}}}, "balance.weights.'two words'", "at most 1000"),
        ({"balance": {"weights": {"main": float("nan")}}}, "balance.weights.main", "a finite number"),
        ({"balance": {"weights": {"main": 1, "two words": "2"}}}, "balance.weights.'two words'", "expected a number"),
        ({"balance": {"max_requests": -1}}, "balance.max_requests", ">= 0"),
        ({"health": {}}, "health.path", "missing"),
        ({"health": {"path": "healthz"}}, "health.path", "give a path"),
        ({"health": {"path": "/", "host": "a b"}}, "health.host", "give a host name"),
        ({"health": {"path": "/", "status": "all"}}, "health.status", "give statuses"),
        ({"health": {"path": "/", "interval": 0}}, "health.interval", "> 0"),
        ({"ejection": {"status": "504-502"}}, "ejection.status", "give statuses"),
        ({"ejection": {"seconds": 60, "longest": 30}}, "ejection.longest", "less than seconds"),
        ({"ejection": {"most": 1.5}}, "ejection.most", "<= 1"),
        ({"breaker": {"share": 0}}, "breaker.share", "> 0"),
        ({"retries": {"attempts": 0}}, "retries.attempts", ">= 1"),
        ({"balance": {"method": "sticky"}, "retries": {"hedge_after": 1}}, "retries.hedge_after", "session"),
        ({"queue": {"requests": 0}}, "queue.requests", ">= 1"),
        ({"failover": "doc"}, "failover", "did you mean docs"),
        ({"failover": "app"}, "failover", "leads back to where it came from: app → app"),
    ],
)
def test_mistakes_name_the_key(tables: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy(**tables)
    assert caught.value.key == f"$.backends[0].{key}"
    assert reason in caught.value.reason


def test_there_has_to_be_an_origin_to_check() -> None:
    with pytest.raises(ConfigError, match=r"backends\[0\].health: there is no origin to check; agents look"):
        make(sample(**{"backends.0.health": {"path": "/"}}))


def test_a_backend_that_another_fails_over_to_is_reached() -> None:
    routes = {"sites.0.routes": [{"path": "/", "backend": "app"}]}
    [warning] = build_catalog(make(sample(**routes))).warnings
    assert "no route leads to backend docs" in warning
    assert build_catalog(make(sample(**routes, **{"backends.0.failover": "docs"}))).warnings == ()


def test_failovers_must_not_go_round() -> None:
    with pytest.raises(ConfigError, match="app → docs → app"):
        make(sample(**{"backends.0.failover": "docs", "backends.1.failover": "app"}))
    with pytest.raises(ConfigError, match=r"backends\[1\].failover: there is no backend 'nowhere'"):
        make(sample(**{"backends.0.failover": "docs", "backends.1.failover": "nowhere"}))


def test_the_examples_of_the_page_are_right() -> None:
    page = (ROOT / "docs" / "balancing.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        text = example if example.startswith("[[backends]]") else '[[backends]]\ntokens = ["sha256:…"]\n' + example
        raw = tomllib.loads(text.replace("sha256:…", digest_line("page-token")))
        for backend in raw["backends"]:
            backend.setdefault("name", "app")
        make({**sample(sites=[]), "backends": raw["backends"]})


def test_statuses() -> None:
    assert parse_statuses("200-399") == ((200, 399),)
    assert parse_statuses(" 200, 502-504 ") == ((200, 200), (502, 504))
    for text in ("", "100", "600", "200-", "300-200", "2xx"):
        with pytest.raises(ValueError, match="give statuses"):
            parse_statuses(text)
