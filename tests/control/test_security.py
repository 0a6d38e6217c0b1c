"""``[sites.security]``: what is switched on, and what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.model import AddedFields, Security
from wormhole_tw.errors import ConfigError


def security(table: dict[str, Any]) -> Security | None:
    [site, *_] = make(sample(**{"sites.0.security": table})).sites
    assert {route.security for route in site.routes} == {site.security}
    return site.security


def lines(added: AddedFields) -> list[str]:
    return [(name + b": " + value).decode() for name, value in (*added.defaults, *added.besides)]


def test_nothing_is_on_unless_told() -> None:
    assert all(site.security is None for site in make().sites)
    assert security({}) is None
    assert security({"content_type_options": False}) is None


def test_everything() -> None:
    found = security(
        {
            "hsts": {"max_age": 63072000, "include_subdomains": True, "preload": True},
            "content_type_options": True,
            "frame_options": "sameorigin",
            "frame_ancestors": ["'self'", "https://*.example.com:8443", "portal.example.com", "https:", "*"],
            "referrer_policy": "no-referrer",
        }
    )
    assert found is not None
    others = [
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: SAMEORIGIN",
        "Referrer-Policy: no-referrer",
        "Content-Security-Policy: frame-ancestors 'self' https://*.example.com:8443 portal.example.com https: *",
    ]
    assert lines(found.plain) == others
    assert lines(found.secure) == ["Strict-Transport-Security: max-age=63072000; includeSubDomains; preload", *others]
    assert found.secure.besides == found.plain.besides
    assert len(found.secure.besides) == 1


@pytest.mark.parametrize(
    ("hsts", "value"),
    [
        ({"max_age": 0}, "max-age=0"),
        ({"max_age": 300}, "max-age=300"),
        ({"max_age": 31536000, "include_subdomains": True}, "max-age=31536000; includeSubDomains"),
    ],
)
def test_hsts_is_for_those_who_came_by_tls(hsts: dict[str, Any], value: str) -> None:
    found = security({"hsts": hsts})
    assert found is not None
    assert lines(found.secure) == [f"Strict-Transport-Security: {value}"]
    assert lines(found.plain) == []


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"hsts": {}}, ".hsts.max_age", "missing"),
    ({"hsts": {"max_age": -1}}, ".hsts.max_age", ">= 0"),
    ({"hsts": {"max_age": 31536000000}}, ".hsts.max_age", "<= 315360000"),
    ({"hsts": True}, ".hsts", "expected a table"),
    ({"hsts": {"max_age": 31535999, "include_subdomains": True, "preload": True}}, ".hsts.preload", "a year"),
    ({"hsts": {"max_age": 31536000, "preload": True}}, ".hsts.preload", "include_subdomains = true"),
    ({"hst": {"max_age": 1}}, ".hst", "did you mean hsts?"),
    ({"frame_options": "ALLOW-FROM x"}, ".frame_options", 'expected one of "deny", "sameorigin"'),
    ({"referrer_policy": "never"}, ".referrer_policy", "expected one of"),
    ({"frame_ancestors": []}, ".frame_ancestors", "empty"),
    ({"frame_ancestors": ["'self'", "'none'"]}, ".frame_ancestors[1]", "stands alone"),
    ({"frame_ancestors": ["self self"]}, ".frame_ancestors[0]", "https://*.example.com"),
    ({"frame_ancestors": ["a.test; script-src *"]}, ".frame_ancestors[0]", "'self'"),
    ({"frame_ancestors": ["a.test\r\nX: y"]}, ".frame_ancestors[0]", "'self'"),
    ({"frame_ancestors": ["a.test\n"]}, ".frame_ancestors[0]", "'self'"),
    ({"frame_ancestors": ["é.test"]}, ".frame_ancestors[0]", "'self'"),
]


@pytest.mark.parametrize(("table", "key", "reason"), WRONG, ids=[f"{key}-{reason}" for _, key, reason in WRONG])
def test_what_is_wrong_is_named(table: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        security(table)
    assert caught.value.key == f"$.sites[0].security{key}"
    assert reason in caught.value.reason
