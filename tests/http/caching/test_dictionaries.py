"""Dictionaries of Structured Fields: what is wrong in one place is wrong as a whole (RFC 9651 §4.2)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wormhole_tw.http.caching.dictionaries import InvalidDictionary, read_dictionary


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"", {}),
        (b"  ", {}),
        (b"max-age=60", {b"max-age": 60}),
        (b"max-age=60, no-store", {b"max-age": 60, b"no-store": True}),
        (b"a=1,\tb=2 ,c=3", {b"a": 1, b"b": 2, b"c": 3}),
        (b"no-store;x=1;y", {b"no-store": True}),
        (b"max-age=60; x=?1; y=:aGk=:", {b"max-age": 60}),
        (b"a=?0, b=?1", {b"a": False, b"b": True}),
        (b'a="x, \\"y\\" \\\\"', {b"a": b'x, "y" \\'}),
        (b"a=token/x:y", {b"a": "token/x:y"}),
        (b"a=*x", {b"a": "*x"}),
        (b"a=-5", {b"a": -5}),
        (
            b'a=1.5, b=:aGk=:, c=@1659578233, d=%"f%c3%bc", e=(1 2;x "y");z',
            dict.fromkeys([b"a", b"b", b"c", b"d", b"e"]),
        ),
        (b"a=()", {b"a": None}),
        (b"a=1, b=2, a=3", {b"b": 2, b"a": 3}),
        (b"a=999999999999999", {b"a": 999999999999999}),
    ],
)
def test_a_valid_one(line: bytes, found: dict[bytes, object]) -> None:
    assert read_dictionary([line]) == found


@pytest.mark.parametrize(
    "line",
    [
        b"Max-Age=60",
        b"max-age=",
        b"max-age =60",
        b"max-age= 60",
        b"max-age=60,",
        b"max-age=60 no-store",
        b"max-age='60'",
        b"max-age=60s",
        b"max-age=60, , a",
        b",",
        b"a=1000000000000000",
        b"a=1.",
        b"a=1.2345",
        b"a=1234567890123.1",
        b"a=-",
        b'a="x',
        b'a="\\x"',
        b'a="\xfc"',
        b"a=?2",
        b"a=:a b:",
        b"a=@1.5",
        b'a=%"%C3"',
        b"a=(1",
        b"a=(1,2)",
        b'a=(1"x")',
        b"a=1;",
        b"a=1;B",
        b"a;b=",
        b"1=2",
    ],
)
def test_an_invalid_one(line: bytes) -> None:
    with pytest.raises(InvalidDictionary):
        read_dictionary([line])


def test_several_lines_are_one() -> None:
    assert read_dictionary([b"max-age=60", b"no-store"]) == {b"max-age": 60, b"no-store": True}
    with pytest.raises(InvalidDictionary):
        read_dictionary([b"max-age=60", b""])


_LETTERS = st.lists(st.sampled_from(b'ab=,; \t"\\()?:@%-.019*'), max_size=30).map(bytes)


@given(_LETTERS)
@example(b"a" * 1000)
def test_nothing_else_is_raised(line: bytes) -> None:
    try:
        found = read_dictionary([line])
    except InvalidDictionary:
        return
    assert all(isinstance(key, bytes) for key in found)
