"""What services are told of the prefix that a route takes away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.model import Site
from wormhole_tw.http.edits import FieldEdits

FIELD = b"X-Forwarded-Prefix"


def told(backend: dict[str, Any] | None = None, **route: Any) -> FieldEdits | None:
    raw = sample(**{"sites.0.routes": [{"backend": "app", **route}, {"backend": "app"}]})
    [app] = [each for each in raw["backends"] if each["name"] == "app"]
    app.update(backend or {})
    return site(raw).routes[0].request_edits


def site(raw: dict[str, Any]) -> Site:
    found: Site = make(raw).sites[0]
    return found


@pytest.mark.parametrize(
    ("route", "prefix"),
    [
        ({"path": "/api", "strip_prefix": True}, b"/api"),
        ({"path": "/api/", "strip_prefix": True}, b"/api"),
        ({"path": "/%61/b c", "strip_prefix": True}, b"/a/b%20c"),
        ({"path": "/api/admin", "replace_prefix": "/admin"}, b"/api"),
    ],
)
def test_the_prefix_is_told(route: dict[str, Any], prefix: bytes) -> None:
    assert told(**route) == FieldEdits(lines=((FIELD, prefix),))


@pytest.mark.parametrize(
    "route",
    [
        {"path": "/api"},
        {"path": "/", "strip_prefix": True},
        {"path": "/api", "replace_prefix": "/api"},
        {"path": "/api", "replace_prefix": "/v2"},
        {"path": "/xadmin", "replace_prefix": "/admin"},
        {"replace_prefix": "/v2"},
        {"pattern": "/u/:id", "rewrite": "/:id"},
    ],
)
def test_what_has_none_is_told_nothing(route: dict[str, Any]) -> None:
    assert told(**route) is None


def test_it_stands_beside_other_changes_and_what_the_route_says_of_it_holds() -> None:
    route = {"path": "/api", "strip_prefix": True}
    edits = told(**route, request_headers={"set": {"X-A": "1"}, "remove": ["X-B"]})
    assert edits == FieldEdits(frozenset({b"x-a", b"x-b"}), ((FIELD, b"/api"), (b"X-A", b"1")))
    edits = told(**route, request_headers={"set": {"x-forwarded-prefix": "/other"}})
    assert edits == FieldEdits(frozenset({FIELD.lower()}), ((b"x-forwarded-prefix", b"/other"),))
    edits = told(**route, request_headers={"remove": ["X-Forwarded-Prefix"]})
    assert edits == FieldEdits(frozenset({FIELD.lower()}))


def test_an_origin_whose_links_are_rewritten_is_told_nothing() -> None:
    route = {"path": "/api", "strip_prefix": True}
    origin = {"origin": "https://origin.example.net"}
    assert told(origin, **route) is None
    assert told({**origin, "rewrite_links": False}, **route) == FieldEdits(lines=((FIELD, b"/api"),))


def test_a_site_without_such_a_route_stays_as_it_is() -> None:
    assert site(sample()).routes[0].plain
