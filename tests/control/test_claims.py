"""Claims: what they have to be, and what a service is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from wormhole_tw.control.claims import MAX_FIELD, Claims


@pytest.mark.parametrize(
    ("wanted", "claims", "refused"),
    [
        ((), {}, ""),
        ((("sub", ("ann",)),), {"sub": "ann"}, ""),
        ((("sub", ("ann",)),), {"sub": "Ann"}, "sub"),
        ((("sub", ("ann",)),), {}, "sub"),
        ((("groups", ("a", "b")),), {"groups": ["c", "b"]}, ""),
        ((("groups", ("a", "b")),), {"groups": ["c"]}, "groups"),
        ((("groups", ("a",)),), {"groups": [["a"], {"a": 1}, None]}, "groups"),
        ((("level", ("3",)),), {"level": 3}, ""),
        ((("admin", ("true",)),), {"admin": True}, ""),
        ((("admin", ("true",)),), {"admin": False}, "admin"),
        ((("a.b", ("c",)),), {"a": {"b": "c"}}, ""),
        ((("a.b", ("c",)),), {"a.b": "c", "a": {"b": "d"}}, ""),
        ((("a.b", ("c",)),), {"a": "c"}, "a.b"),
        ((("email", ("*@example.com",)),), {"email": "Ann@Example.com"}, ""),
        ((("email", ("*@example.com",)),), {"email": "ann@evil.com@example.com"}, "email"),
        ((("email", ("*@example.com",)),), {"email": "ann@notexample.com"}, "email"),
        ((("email", ("*@example.com",)),), {"email": "@example.com"}, "email"),
        ((("email", ("*@kite.test",)),), {"email": "ann@\u212aite.test"}, "email"),
        ((("email", ("*@b\u00fccher.test",)),), {"email": "ann@b\u00fccher.test"}, ""),
        ((("email", ("ann@example.com",)),), {"email": "ann@example.com", "email_verified": True}, ""),
        ((("email", ("ann@example.com",)),), {"email": "ann@example.com", "email_verified": False}, "email"),
        ((("email", ("ann@example.com",)),), {"email": "ann@example.com", "email_verified": "true"}, "email"),
        ((("sub", ("ann",)), ("groups", ("a",))), {"sub": "ann"}, "groups"),
    ],
)
def test_what_they_have_to_be(wanted: Any, claims: dict[str, Any], refused: str) -> None:
    assert Claims(wanted).refused(claims) == refused


def test_what_a_service_is_told() -> None:
    claims = Claims(told=((b"X-User", "sub"), (b"X-Groups", "groups"), (b"X-Deep", "a.b"), (b"X-None", "none")))
    assert claims.names == {b"x-user", b"x-groups", b"x-deep", b"x-none"}
    said = {"sub": "  J\u00fcrgen\r\nX-Admin: 1 ", "groups": ["a", 2, True, {"no": 1}], "a": {"b": "c" * 10_000}}
    lines = dict(claims.lines(said))
    assert lines[b"X-User"] == "J\u00fcrgen??X-Admin: 1".encode()
    assert lines[b"X-Groups"] == b"a,2,true"
    assert not {b"X-Deep", b"X-None"} & set(lines)


def test_what_does_not_fit_is_left_out_and_never_cut() -> None:
    """A group whose name is cut could be another group."""
    groups = [*(f"{'g' * 1000}-{number}" for number in range(4)), f"admins-of-{'x' * 200}", "b"]
    [(_, value)] = Claims(told=((b"X-Groups", "groups"),)).lines({"groups": groups})
    assert len(value) <= MAX_FIELD
    assert value.decode().split(",") == [*groups[:4], "b"]
