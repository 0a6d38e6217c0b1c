"""Rules of superfly/edge as routes: what is printed is a configuration, and says the same."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.edge_rules import Imported, import_rules, rules_in
from wormhole_tw.errors import ConfigError

REWRITE = {"actionType": "rewrite", "backendKey": "app"}
REDIRECT = {"actionType": "redirect", "redirectURLPattern": "https://new.test/"}


def tables(*rules: Any) -> list[dict[str, Any]]:
    """What came of the rules, which has to be a valid configuration without problems."""
    imported = import_rules(rules, "rules.yml")
    assert imported.problems == ()
    return checked(imported)


def checked(imported: Imported) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(imported.toml).get("sites", {"routes": []})["routes"]
    if found:
        hosts = ["app.example.test", *imported.hosts]
        make(sample(**{"sites.0.routes": found, "sites.0.hostnames": hosts}))
    return found


@pytest.mark.parametrize(
    ("rule", "table"),
    [
        ({}, {}),
        ({"hostname": "Old.test"}, {"hosts": ["old.test"]}),
        ({"matchScheme": "https"}, {"scheme": "https"}),
        ({"matchScheme": "any"}, {}),
        (
            {"httpHeaderKey": "User-Agent", "httpHeaderValue": "iPhone|Android"},
            {"headers": [{"name": "User-Agent", "matches": ".*(?:iPhone|Android).*"}]},
        ),
        (
            {"httpHeaderKey": "X", "httpHeaderValue": "^a.b$"},
            {"headers": [{"name": "X", "matches": "a.b"}]},
        ),
        (
            {"httpHeaderKey": "X", "httpHeaderValue": "a\\$"},
            {"headers": [{"name": "X", "matches": ".*a\\$.*"}]},
        ),
        ({"httpHeaderKey": "X"}, {}),
        ({"pathPattern": ""}, {}),
        ({"pathPattern": "/blog"}, {"path": "/blog"}),
        ({"pathPattern": "/blog", "pathMatchMode": "prefix"}, {"path": "/blog"}),
        ({"pathPattern": "/blog", "pathMatchMode": "full"}, {"exact": "/blog"}),
        ({"pathPattern": "^/blog$"}, {"exact": "/blog"}),
        ({"pathPattern": "^/a\\.b"}, {"path": "/a.b"}),
        ({"pathPattern": "^/blog/.*"}, {"pattern": "/blog/*rest"}),
        ({"pathPattern": "/users/:id"}, {"pattern": "/users/:id"}),
        ({"pathPattern": "/users/:id/*rest", "pathMatchMode": "prefix"}, {"pattern": "/users/:id/*rest"}),
        (
            {"pathPattern": "^/u/([^/]+)/(.*)$", "pathReplacementPattern": "/v/$2/$1"},
            {"pattern": "/u/:p1/*p2", "rewrite": "/v/:p2/:p1"},
        ),
        (
            {"pathPattern": "/u/:id/*rest", "pathReplacementPattern": "/v/${id}/$rest"},
            {"pattern": "/u/:id/*rest", "rewrite": "/v/:id/:rest"},
        ),
        (
            {"pathPattern": "/old", "pathReplacementPattern": "/new"},
            {"path": "/old", "replace_prefix": "/new"},
        ),
        ({"pathReplacementPattern": "/new/$rest"}, {"rewrite": "/new/:rest"}),
    ],
)
def test_a_rewrite(rule: dict[str, Any], table: dict[str, Any]) -> None:
    assert tables({**REWRITE, **rule}) == [{"backend": "app", **table}]


def test_a_prefix_with_names_is_two_routes() -> None:
    rule = {"pathPattern": "/u/:id", "pathMatchMode": "prefix", "pathReplacementPattern": "/v/$id"}
    assert tables({**REWRITE, **rule}) == [
        {"backend": "app", "pattern": "/u/:id", "rewrite": "/v/:id"},
        {"backend": "app", "pattern": "/u/:id/*below", "rewrite": "/v/:id/:below"},
    ]


@pytest.mark.parametrize(
    ("rule", "table"),
    [
        ({}, {"redirect": {"to": "https://new.test/", "status": 302, "keep_query": False}}),
        (
            {"pathPattern": "^/blog/(.*)$", "redirectURLPattern": "https://new.test/$1", "redirectStatus": 301},
            {
                "pattern": "/blog/*p1",
                "redirect": {"to": "https://new.test/:p1", "status": 301, "keep_query": False},
            },
        ),
    ],
)
def test_a_redirect(rule: dict[str, Any], table: dict[str, Any]) -> None:
    assert tables({**REDIRECT, **rule}) == [table]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (7, "it is no table"),
        ({}, "actionType is neither redirect nor rewrite"),
        ({**REWRITE, "backendKey": ""}, "a rewrite without backendKey"),
        ({**REWRITE, "backendKey": 7}, "backendKey is no string"),
        ({**REWRITE, "pathMatchMode": "some"}, "pathMatchMode is neither prefix nor full"),
        ({**REWRITE, "pathPattern": "(?=a)"}, "comes down to no path"),
        ({**REWRITE, "pathPattern": "/a|b"}, "comes down to no path"),
        ({**REWRITE, "pathPattern": "blog"}, "does not begin with a slash"),
        ({**REWRITE, "pathPattern": "/a-([^/]+)"}, "no whole segment"),
        ({**REWRITE, "pathPattern": "/([^/]+)([^/]+)"}, "no whole segment"),
        ({**REWRITE, "pathPattern": "/(.*)/b"}, "goes on behind a group"),
        ({**REWRITE, "pathPattern": "/:id/user-:name"}, "pathPattern: 'user-:name': a name is"),
        ({**REWRITE, "pathPattern": "/:id/(.*)"}, "neither a path with names nor an expression alone"),
        (
            {**REWRITE, "pathPattern": "/a", "pathReplacementPattern": "/$1"},
            "has $1, for which pathPattern has no name",
        ),
        ({**REWRITE, "httpHeaderKey": "X", "httpHeaderValue": "(?!a)"}, "httpHeaderValue: no expression"),
        ({"actionType": "redirect"}, "a redirect without redirectURLPattern"),
        ({**REDIRECT, "redirectStatus": 200}, "redirectStatus is none of 301"),
    ],
)
def test_what_cannot_be_said(rule: Any, why: str) -> None:
    imported = import_rules([rule, REWRITE], "rules.yml")
    [problem] = imported.problems
    assert problem.startswith("rules[0]: ")
    assert why in problem
    assert "# rules[0] is not here: " in imported.toml
    assert checked(imported) == [{"backend": "app"}]


def test_what_is_left_out_is_said() -> None:
    imported = import_rules([{**REWRITE, "responseReplacements": [["a", "b"]], "extra": 1}], "rules.yml")
    assert imported.problems == (
        "rules[0]: extra is no field of such a rule, and left out",
        "rules[0]: responseReplacements are left out: changes of a body are for middleware",
    )
    assert checked(imported) == [{"backend": "app"}]


def test_what_they_need() -> None:
    imported = import_rules([{**REWRITE, "hostname": "b.test"}, {**REWRITE, "backendKey": "x"}, REWRITE], "rules.yml")
    assert (imported.backends, imported.hosts) == (("app", "x"), ("b.test",))


def test_no_text_breaks_out_of_its_string() -> None:
    odd = 'a"\\\n\x7f#é'
    rule = {**REWRITE, "backendKey": odd, "httpHeaderKey": odd, "httpHeaderValue": "a"}
    [table] = tomllib.loads(import_rules([rule], "x").toml)["sites"]["routes"]
    assert table["backend"] == table["headers"][0]["name"] == odd


@pytest.mark.parametrize("raw", [[], {"rules": []}, {"config": {"flyCDN": {"rules": []}}}, {"flyCDN": {"rules": []}}])
def test_where_rules_stand(raw: object) -> None:
    assert rules_in(raw, "x") == []


@pytest.mark.parametrize("raw", [None, 7, {}, {"rules": {}}])
def test_where_none_stand(raw: object) -> None:
    with pytest.raises(ConfigError, match="no list of rules"):
        rules_in(raw, "x")
