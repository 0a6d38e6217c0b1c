"""Asking the origin whether a stored answer is still right, and for the rest of one (RFC 9111 §3.4, §4.3)."""

from __future__ import annotations

import pytest

from tests.http.caching.said import at, kept, lines
from wormhole_tw.http.caching import completing, conditional, confirmed, continues
from wormhole_tw.http.caching.validating import MAX_ASKED_FOR
from wormhole_tw.structs import replace

FRESH = "Cache-Control: max-age=60"
VISITOR = lines(
    "Accept: a", 'If-None-Match: "theirs"', "if-modified-since: x", "Range: bytes=0-1", "If-Range: x", "If-Match: x",
    "If-Unmodified-Since: x", "Foo: 1",
)  # fmt: skip

A = kept(FRESH, 'ETag: "a"')
B = kept(FRESH, 'ETag: W/"b"', f"Last-Modified: {at(-9)}")
OLD = kept(FRESH, f"Last-Modified: {at(-9)}")
NONE = kept(FRESH)


def test_the_visitors_conditions_are_not_the_origins() -> None:
    assert conditional(VISITOR, []) == lines("Accept: a", "Foo: 1")
    assert len(VISITOR) == 8


def test_validators_of_one() -> None:
    assert conditional(VISITOR, [A]) == lines("Accept: a", "Foo: 1", 'If-None-Match: "a"')
    assert conditional([], [B]) == lines('If-None-Match: W/"b"', f"If-Modified-Since: {at(-9)}")
    assert conditional([], [OLD]) == lines(f"If-Modified-Since: {at(-9)}")
    assert conditional([], [NONE]) == []
    assert conditional([], [replace(OLD, fields=())]) == []


def test_tags_of_several() -> None:
    assert conditional([], [A, B, OLD, A]) == lines('If-None-Match: "a", W/"b"')
    many = [replace(A, etag=b'"%d"' % number) for number in range(MAX_ASKED_FOR + 5)]
    assert conditional([], many)[0][1].count(b",") == MAX_ASKED_FOR - 1


@pytest.mark.parametrize(
    ("said", "candidates", "found"),
    [
        (['ETag: "a"'], [B, A], A),
        (['etag: W/"a"'], [B, A], A),
        (['ETag: "b"'], [B, A], None),
        (['ETag: W/"b"'], [A, B], B),
        (['ETag: "x"'], [A], None),
        ([f"Last-Modified: {at(-9)}"], [A, B, OLD], B),
        ([f"Last-Modified: {at(-8)}"], [OLD], None),
        ([f"Last-Modified: {at(-8)}"], [A], A),
        (["Last-Modified: x"], [OLD], None),
        ([], [A], A),
        ([], [NONE], NONE),
        ([], [A, B], None),
        ([], [], None),
    ],
)
def test_which_one_a_304_confirms(said: list[str], candidates: list[object], found: object) -> None:
    assert confirmed(lines(*said), candidates) is found  # type: ignore[arg-type]


SPAN = kept(FRESH, 'ETag: "a"', "Content-Range: bytes 0-4/10", status=206, length=5)


def test_the_rest_of_a_beginning() -> None:
    assert completing(VISITOR, SPAN, 5) == lines("Accept: a", "Foo: 1", "Range: bytes=5-", 'If-Range: "a"')


def test_what_cannot_be_completed() -> None:
    assert completing([], replace(SPAN, first=1), 5) is None
    assert completing([], replace(SPAN, etag=b'W/"a"'), 5) is None
    assert completing([], replace(SPAN, length=None), 5) is None
    assert completing([], SPAN, 0) is None
    assert completing([], SPAN, 10) is None


@pytest.mark.parametrize(
    ("status", "said", "carries_on"),
    [
        (206, ['ETag: "a"', "Content-Range: bytes 5-9/10"], True),
        (206, ['ETag: "a"', "Content-Range: bytes 5-9/*"], True),
        (206, ['ETag: "a"', "Content-Range: bytes 5-7/*"], False),
        (206, ['ETag: "a"', "Content-Range: bytes 5-7/10"], False),
        (200, ['ETag: "a"', "Content-Range: bytes 5-9/10"], False),
        (206, ['ETag: "b"', "Content-Range: bytes 5-9/10"], False),
        (206, ["Content-Range: bytes 5-9/10"], False),
        (206, ['ETag: "a"'], False),
        (206, ['ETag: "a"', "Content-Range: bytes 6-9/10"], False),
        (206, ['ETag: "a"', "Content-Range: bytes 5-9/11"], False),
    ],
)
def test_an_answer_that_carries_on(status: int, said: list[str], carries_on: bool) -> None:
    assert continues(SPAN, 5, status, lines(*said)) is carries_on


def test_nothing_carries_on_without_a_strong_tag() -> None:
    weak = replace(SPAN, etag=b'W/"a"')
    assert not continues(weak, 5, 206, lines('ETag: W/"a"', "Content-Range: bytes 5-9/10"))
