"""Cache-Control taken apart: nothing malformed is taken for permission."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.caching.directives import MAX_DELTA, delta_seconds, field_names, members, read_directives


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((), {}),
        ((b"",), {}),
        ((b", ,",), {}),
        ((b"no-store",), {b"no-store": None}),
        ((b"No-StOrE , MAX-AGE=5",), {b"no-store": None, b"max-age": b"5"}),
        ((b"max-age=3600", b"s-maxage=1"), {b"max-age": b"3600", b"s-maxage": b"1"}),
        ((b"max-age=1, max-age=2",), {b"max-age": b"1"}),
        ((b'max-age="60"',), {b"max-age": b"60"}),
        ((b"max-age='60'",), {b"max-age": b"'60'"}),
        ((b'x="max-age=60, no-store", max-age=1',), {b"x": b"max-age=60, no-store", b"max-age": b"1"}),
        ((b'x="a\\"b, no-store", public',), {b"x": b'a"b, no-store', b"public": None}),
        ((b'x="never closed, no-store',), {b"x": b'"never closed, no-store'}),
        ((b'x="never closed\\',), {b"x": b'"never closed\\'}),
        ((b'no-cache="a, b", max-age=5',), {b"no-cache": b"a, b", b"max-age": b"5"}),
        ((b"max-age =60",), {b"max-age": b" 60"}),
        ((b"max-age= 60",), {b"max-age": b" 60"}),
        ((b"no-cache = ",), {b"no-cache": b" "}),
        ((b"=5, a",), {b"a": None}),
        ((b'private="a"', b"private"), {b"private": None}),
        ((b"private", b'private="a"'), {b"private": None}),
        ((b'private="a"', b'no-cache="b", private="c,d"'), {b"private": b"a,c,d", b"no-cache": b"b"}),
        ((b'no-cache="a", no-cache=',), {b"no-cache": None}),
        ((b"a=",), {b"a": b""}),
    ],
)
def test_a_line(values: tuple[bytes, ...], found: dict[bytes, bytes | None]) -> None:
    assert read_directives(values) == found


def test_a_long_line() -> None:
    assert read_directives([b"a=" + b"x" * 300, b"max-age=5"]) == {b"a": b"x" * 300, b"max-age": b"5"}


@given(st.binary(max_size=200))
def test_any_line_is_read_in_one_pass(line: bytes) -> None:
    """No comma outside of quotes is in a member, and nothing but commas and white space is left out."""
    found = members(line)
    for member in found:
        assert member == member.strip(b" \t")
        assert b"," not in member or b'"' in member
    assert b"".join(b"".join(found).split()) == b"".join(b"".join(members(b",".join(found))).split())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"0", 0),
        (b"003600", 3600),
        (b"2147483647", 2147483647),
        (b"2147483649", MAX_DELTA),
        (b"99999999999", MAX_DELTA),
        (b"9" * 5000, MAX_DELTA),
        (b"0" * 5000 + b"7", 7),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"1a", None),
        (b" 1", None),
        (b"\xb2", None),
    ],
)
def test_a_number_of_seconds(text: bytes, seconds: int | None) -> None:
    assert delta_seconds(text) == seconds


def test_names_of_fields() -> None:
    assert field_names(b"Set-Cookie, x ,, Y") == {b"set-cookie", b"x", b"y"}
    assert field_names(b'"a"') == {b"a"}
    assert field_names(b"") == frozenset()
