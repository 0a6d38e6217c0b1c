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
    assert lines[b"X-User"] == "J\u00fcrgenX-Admin: 1".encode()
    assert lines[b"X-Groups"] == b"a,2,true"
    assert lines[b"X-Deep"] == b"c" * MAX_FIELD
    assert b"X-None" not in lines
