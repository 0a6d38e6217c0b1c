"""What an unsafe request makes void (RFC 9111 §4.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.http.caching.said import answer, request
from wormhole_tw.http.caching import invalidates


def void(
    *said: str, method: str = "POST", status: int = 200, target: str = "/a/b?q", authority: bytes = b"a.test"
) -> list[bytes]:
    asked = replace(request(method=method, target=target), authority=authority)
    return [one.target for one in invalidates(asked, answer(*said, status=status), b"https")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get"])
@pytest.mark.parametrize("status", [200, 204, 302])
def test_unsafe_methods(method: str, status: int) -> None:
    assert void(method=method, status=status) == [b"/a/b?q"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND"])
def test_safe_methods(method: str) -> None:
    assert void(method=method) == []


@pytest.mark.parametrize("status", [400, 404, 500, 503, 101])
def test_a_failure_changes_nothing(status: int) -> None:
    assert void(status=status) == []


@pytest.mark.parametrize("name", ["Location", "content-LOCATION"])
@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("/c", b"/c"),
        ("c", b"/a/c"),
        ("../c?x=1#frag", b"/c?x=1"),
        ("?y", b"/a/b?y"),
        ("https://a.test/c", b"/c"),
        ("https://A.TEST:443", b"/"),
        ("https://a.test?z", b"/?z"),
        ("//a.test/c", b"/c"),
        ("/\xe4", b"/\xe4"),
    ],
)
def test_what_a_location_names(name: str, value: str, target: bytes) -> None:
    assert void(f"{name}: {value}") == [b"/a/b?q", target]


@pytest.mark.parametrize(
    "value",
    [
        "http://a.test/c",
        "https://b.test/c",
        "https://a.test:8443/c",
        "https://a.test:x/c",
        "https://[a.test/c",
        "//b.test/c",
        "mailto:a@b",
        "/" + "x" * 9000,
    ],
)
def test_others_are_never_touched(value: str) -> None:
    assert void(f"Location: {value}") == [b"/a/b?q"]


def test_once_each() -> None:
    assert void("Location: /c", "Content-Location: /c", "Location: b?q") == [b"/a/b?q", b"/c"]


def test_a_port_belongs_to_the_origin() -> None:
    assert void("Location: https://a.test:8443/c", authority=b"a.test:8443") == [b"/a/b?q", b"/c"]
    assert void("Location: https://a.test/c", authority=b"a.test:8443") == [b"/a/b?q"]


def test_an_authority_that_is_none_has_no_others() -> None:
    assert void("Location: /c", authority=b"a.test:x") == [b"/a/b?q"]
    assert void("Location: /c", authority=b"[a.test") == [b"/a/b?q"]


def test_a_target_without_a_path() -> None:
    assert void(target="*") == []
