"""What tells one stored answer from another besides its URL: what is left of its query, cookies and fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.caching.keying import EVERY_MEMBER, IgnoredQuery, Names, brings_cookie, keyed_values

IGNORED = IgnoredQuery(Names.of([b"ref", b"utm_*", b"a b"]))


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (None, None),
        (b"", b""),
        (b"id=1", b"id=1"),
        (b"ref=x", None),
        (b"ref", None),
        (b"id=1&ref=x&page=2", b"id=1&page=2"),
        (b"b=2&a=1&ref=x", b"b=2&a=1"),
        (b"utm_source=x&utm_=y&utm=z", b"utm=z"),
        (b"Ref=1&refs=2", b"Ref=1&refs=2"),
        (b"id=1&&ref=x", b"id=1&"),
        (b"%72ef=x&utm%5Fsource=y&a+b=1&a%20b=2", None),
        (b"id=%72ef", b"id=%72ef"),
    ],
)
def test_a_query_without_what_makes_no_difference(query: bytes | None, left: bytes | None) -> None:
    assert IGNORED.of(query) == left


@pytest.mark.parametrize("query", [None, b"", b"a=1&b=2;c"])
def test_a_query_of_which_nothing_makes_a_difference(query: bytes | None) -> None:
    assert EVERY_MEMBER.of(query) is None


def test_nothing_hides_behind_a_semicolon() -> None:
    """Ruby and Python once read this as ref=x and id=2: one visitor's id=2 must not be everybody's."""
    assert IGNORED.of(b"id=1&ref=x;id=2") == b"id=1&ref=x;id=2"


def test_a_query_that_loses_nothing_is_the_same_object() -> None:
    query = b"id=1&page=2"
    assert IGNORED.of(query) is query


def test_names_are_whole_or_begin_so() -> None:
    names = Names.of([b"session", b"wp_*"])
    assert b"session" in names
    assert b"wp_" in names
    assert b"wp_logged" in names
    assert b"sessions" not in names
    assert b"wp" not in names
    assert names
    assert not Names()
    assert b"" not in Names.of([b"a"])


def values(*lines: tuple[bytes, bytes]) -> bytes:
    return keyed_values(list(lines), (b"x-device", b"x-place"), (b"lang",))


def test_what_is_named_tells_requests_apart() -> None:
    seen = [
        values(),
        values((b"X-Device", b"")),
        values((b"X-Device", b"phone")),
        values((b"X-Place", b"phone")),
        values((b"X-Device", b"phone"), (b"X-Device", b"phone")),
        values((b"X-Device", b"phone,phone")),
        values((b"Cookie", b"lang=de")),
        values((b"Cookie", b"lang=")),
        values((b"Cookie", b"lang=de; lang=fr")),
        values((b"Cookie", b"lang=fr; lang=de")),
    ]
    assert len(set(seen)) == len(seen)
    assert not any(b"\0" in value for value in seen)


def test_what_is_not_named_does_not() -> None:
    assert values((b"Cookie", b"other=1; lang=de")) == values((b"COOKIE", b"lang=de"), (b"X-Other", b"1"))
    assert values((b"Cookie", b"other=1; Lang=x; x-device=1")) == values()
    assert values((b"x-DEVICE", b"a")) == values((b"X-Device", b"a"))
    assert keyed_values([(b"Cookie", b"a=1")], (), ()) == b""


Lines = list[tuple[bytes, bytes]]
TEXT = st.binary(max_size=6).filter(lambda text: b"\0" not in text)
LINES = st.lists(st.tuples(st.sampled_from([b"x-device", b"x-place"]), TEXT), max_size=4)


@given(LINES, LINES)
def test_two_requests_are_one_only_where_their_values_are(one: Lines, two: Lines) -> None:
    def by_name(lines: Lines) -> list[list[bytes]]:
        return [[value for found, value in lines if found == name] for name in (b"x-device", b"x-place")]

    assert (values(*one) == values(*two)) == (by_name(one) == by_name(two))


def test_who_brings_a_cookie() -> None:
    names = Names.of([b"session", b"wp_*"])
    assert brings_cookie([(b"Accept", b"session=1"), (b"cookie", b"a=1;session=")], names)
    assert brings_cookie([(b"Cookie", b"a=1"), (b"Cookie", b"wp_x")], names)
    assert not brings_cookie([(b"Cookie", b"a=session; b=wp_x")], names)
    assert not brings_cookie([], names)
