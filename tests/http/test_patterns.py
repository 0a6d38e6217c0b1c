"""Paths with names: taken apart, and put together."""

from __future__ import annotations

import pytest

from wormhole_tw.http.patterns import Part, PathPattern, Template


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("/users/:id", "/users/7", {"id": "7"}),
        ("/users/:id", "/users/a%2Fb", {"id": "a%2Fb"}),
        ("/users/:id", "/users/", None),
        ("/users/:id", "/users/7/", None),
        ("/users/:id", "/users/7/x", None),
        ("/users/:id/*rest", "/users/7/", {"id": "7", "rest": ""}),
        ("/users/:id/*rest", "/users/7/a//b/", {"id": "7", "rest": "a//b/"}),
        ("/users/:id/*rest", "/users/7", None),
        ("/*rest", "/", {"rest": ""}),
        ("/*rest", "*", None),
        ("/:a/x/:b_2", "/1/x/2", {"a": "1", "b_2": "2"}),
        ("/a.b/:c", "/axb/c", None),
        ("/fixed", "/fixed", {}),
    ],
)
def test_a_path_is_taken_apart(text: str, path: str, values: dict[str, str] | None) -> None:
    assert PathPattern(text).match(path) == values


@pytest.mark.parametrize(
    ("text", "head"), [("/users/:id", "/users/"), ("/:id", "/"), ("/a/b/*c", "/a/b/"), ("/fixed", "/fixed")]
)
def test_what_every_path_begins_with(text: str, head: str) -> None:
    assert PathPattern(text).head == head


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/:", "a name is"),
        ("/:9", "a name is"),
        ("/:a-b", "a name is"),
        ("/:a/:a", "two times a"),
        ("/*a/b", "nothing can stand behind it"),
        ("/user-:id", "'user-:id': a name is .* for a whole segment; exact and path take a colon as it is"),
        ("/:id/a*rest", "for a whole segment"),
        ("/*", "a name is"),
    ],
)
def test_what_is_no_pattern(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        PathPattern(text)


def test_a_path_is_put_together() -> None:
    values = {"id": "7", "rest": "a/b"}
    assert Template("/v2/:id/x-:id/*rest", values, Part.FORWARDED).fill(values) == "/v2/7/x-7/a/b"
    assert Template("/fixed", (), Part.FORWARDED).fill({}) == "/fixed"
    with pytest.raises(ValueError, match=r"no value for nobody \(there is id, rest\)"):
        Template("/:nobody", values, Part.PATH)
    with pytest.raises(ValueError, match=r"\(there is none\)"):
        Template("/:nobody", (), Part.PATH)


@pytest.mark.parametrize(
    ("part", "filled"),
    [
        (Part.FORWARDED, "a/b\\c&d=%2F?;+\xe9"),
        (Part.PATH, "a/b%5Cc&d=%2F%3F;+%E9"),
        (Part.QUERY, "a/b%5Cc%26d%3D%2F%3F%3B%2B%E9"),
    ],
)
def test_a_value_says_nothing_else_there(part: Part, filled: str) -> None:
    assert Template(":v", ("v",), part).fill({"v": "a/b\\c&d=%2F?;+\xe9"}) == filled


def test_equal_where_they_say_the_same() -> None:
    assert PathPattern("/:a") == PathPattern("/:a") != PathPattern("/:b")
    assert PathPattern("/:a").same_paths(PathPattern("/:b"))
    assert not PathPattern("/:a").same_paths(PathPattern("/*a"))
    assert len({PathPattern("/:a"), PathPattern("/:a")}) == 1
    assert repr(PathPattern("/:a")) == "PathPattern('/:a')"
    one, other = Template("x", (), Part.PATH), Template("x", (), Part.PATH)
    assert one == other != Template("x", (), Part.QUERY)
    assert len({one, other}) == 1
    assert repr(one) == "Template('x', Part.PATH)"
