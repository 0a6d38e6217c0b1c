"""Answers of what is stored: whole, in part, not at all, and to HEAD."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.caching.said import DATE, NOW, asked, at, kept, lines
from wormhole_tw.http import memo
from wormhole_tw.http.caching import CachePolicy, Stored, begun, serve, wanted
from wormhole_tw.http.events import Fields, Framing
from wormhole_tw.structs import replace

TAG = 'ETag: "a"'
FRESH = "Cache-Control: max-age=600"
MODIFIED = f"Last-Modified: {at(-100)}"
BODY = b"0123456789"

WHOLE = kept(TAG, FRESH, MODIFIED, "Content-Type: text/plain", "Content-Encoding: gzip", "Vary: Foo", "X: y")
SPAN = kept(TAG, FRESH, "Content-Range: bytes 4-8/10", status=206, length=5)


def lower(*said: str) -> Fields:
    return [(name.lower(), value) for name, value in lines(*said)]


def served(
    *said: str, stored: Stored = WHOLE, size: int = 10, seconds: float = 0.0, method: str = "GET"
) -> tuple[int, bytes]:
    """Status and body."""
    made = serve(asked(*said, method=method), stored, size, NOW + seconds)
    assert made is not None
    body = BODY[stored.first :][:size][made.start : made.end]
    if method == "GET" and made.head.status not in (204, 304):
        assert made.head.length == len(body)
    return made.head.status, body


def test_the_whole_with_its_age() -> None:
    made = serve(asked(), WHOLE, 10, NOW + 7.9)
    assert made is not None
    head = made.head
    assert (head.status, head.reason, head.framing, head.length) == (200, b"OK", Framing.LENGTH, 10)
    assert head.fields == [*WHOLE.fields, (b"age", b"7")]
    assert head.fields[0] == (b"date", at(0).encode()), "Date stays as it was"
    assert (made.start, made.end) == (0, 10)


def test_an_age_that_others_told_goes_on() -> None:
    made = serve(asked(), kept(FRESH, "Age: 30"), 10, NOW + 7.9)
    assert made is not None
    assert made.head.fields[-1] == (b"age", b"37")


def test_a_clock_that_was_set_back() -> None:
    made = serve(asked(), WHOLE, 10, NOW - 50)
    assert made is not None
    assert made.head.fields[-1] == (b"age", b"0")


def test_one_object_for_all_visitors_of_a_second() -> None:
    made = serve(asked(), WHOLE, 10, NOW + 7.1)
    assert made is serve(asked("Foo: x"), WHOLE, 10, NOW + 7.9)
    assert made is not None
    assert made.head.common
    assert made is not serve(asked(), WHOLE, 10, NOW + 8)
    assert made is not serve(asked(method="HEAD"), WHOLE, 10, NOW + 7)


def test_the_memo_is_bounded_and_mixes_nothing_up() -> None:
    many = [replace(WHOLE, etag=b'"%d"' % number) for number in range(memo.MAX_HEADS + 10)]
    for age in (1, 2):
        for one in many:
            made = serve(asked(), one, 10, NOW + age)
            assert made is not None
            assert made.head.fields[-1] == (b"age", b"%d" % age)


def test_head_has_the_head_of_get() -> None:
    made = serve(asked("Range: bytes=0-1", method="HEAD"), WHOLE, 10, NOW)
    whole = serve(asked(), WHOLE, 10, NOW)
    assert made is not None
    assert whole is not None
    assert made.head == whole.head
    assert (made.start, made.end) == (0, 0)


def test_a_body_of_unknown_length_is_as_long_as_it_is() -> None:
    assert served(stored=kept(FRESH, length=None)) == (200, BODY)


def test_an_answer_that_still_comes() -> None:
    stored = kept(FRESH, "Age: 3", length=None, policy=CachePolicy(browser_ttl=9))
    head = begun(stored, NOW + 2)
    assert (head.status, head.framing, head.length) == (200, Framing.CHUNKED, None)
    assert head.fields == lower(DATE, "Cache-Control: max-age=14", "Age: 5")
    assert begun(stored, NOW - 9).fields[-1] == (b"age", b"0")


@pytest.mark.parametrize("status", [204, 205])
def test_a_status_without_a_body(status: int) -> None:
    made = serve(asked(), kept(FRESH, status=status, length=0), 0, NOW)
    assert made is not None
    assert (made.head.framing, made.head.length, made.end) == (Framing.NONE, None, 0)


# conditions


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (['If-None-Match: "a"'], 304),
        (['If-None-Match: W/"a"'], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "b", "a"'], 304),
        (['If-None-Match: "b"', 'If-None-Match: "a"'], 304),
        (['If-None-Match: "b"'], 200),
        (["If-None-Match:"], 200),
        ([f"If-Modified-Since: {at(-100)}"], 304),
        ([f"If-Modified-Since: {at(-99)}"], 304),
        ([f"If-Modified-Since: {at(-101)}"], 200),
        (["If-Modified-Since: x"], 200),
        (['If-None-Match: "a"', f"If-Modified-Since: {at(-200)}"], 304),
        (['If-None-Match: "b"', f"If-Modified-Since: {at(0)}"], 200),
        (['If-None-Match: "a"', "Range: bytes=0-1"], 304),
        (['If-None-Match: "b"', "Range: bytes=0-1"], 206),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_it_already(method: str, said: list[str], status: int) -> None:
    expected = 200 if method == "HEAD" and status == 206 else status
    assert served(*said, method=method)[0] == expected


def test_without_last_modified_the_date_counts() -> None:
    stored = kept(TAG, FRESH)
    assert served(f"If-Modified-Since: {at(0)}", stored=stored) == (304, b"")
    assert served(f"If-Modified-Since: {at(-1)}", stored=stored) == (200, BODY)


def test_without_a_tag_no_tag_matches() -> None:
    assert served('If-None-Match: "a"', stored=kept(FRESH))[0] == 200
    assert served("If-None-Match:", stored=kept(FRESH))[0] == 200
    assert served("If-None-Match: *", stored=kept(FRESH))[0] == 304


@pytest.mark.parametrize("status", [203, 301, 404, 500])
def test_conditions_and_ranges_are_for_a_200(status: int) -> None:
    stored = kept(TAG, FRESH, MODIFIED, status=status)
    assert served('If-None-Match: "a"', "Range: bytes=0-1", stored=stored) == (status, BODY)
    assert wanted(asked('If-None-Match: "a"', "Range: bytes=0-1"), stored, NOW) == (0, 10)


def test_the_fields_of_a_304() -> None:
    made = serve(asked("If-None-Match: *"), WHOLE, 10, NOW + 3)
    assert made is not None
    assert made.head.fields == lower(DATE, TAG, FRESH, "Vary: Foo", "X: y", "Age: 3")
    assert (made.head.framing, made.head.length) == (Framing.NONE, None)
    untagged = serve(asked("If-None-Match: *"), kept(FRESH, MODIFIED), 10, NOW)
    assert untagged is not None
    assert untagged.head.fields == lower(DATE, FRESH, MODIFIED, "Age: 0")


# ranges


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        ("bytes=0-1", 206, b"01"),
        ("bytes=8-", 206, b"89"),
        ("bytes=-1", 206, b"9"),
        ("bytes=0-99", 206, BODY),
        ("bytes=10-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=0-1,4-5", 200, BODY),
        ("lines=0-1", 200, BODY),
        ("bytes=5-4", 200, BODY),
    ],
)
def test_a_range_of_the_whole(said: str, status: int, body: bytes) -> None:
    assert served(f"Range: {said}") == (status, body)


def test_the_fields_of_a_206() -> None:
    made = serve(asked("Range: bytes=2-3"), kept(TAG, FRESH, "Content-Range: nonsense"), 10, NOW + 3)
    assert made is not None
    assert made.head.fields == lower(DATE, TAG, FRESH, "Age: 3", "Content-Range: bytes 2-3/10")


def test_the_fields_of_a_416() -> None:
    made = serve(asked("Range: bytes=20-"), WHOLE, 10, NOW + 3)
    assert made is not None
    assert made.head.fields == lower(f"Date: {at(3)}", "Content-Range: bytes */10")
    assert made.head.length == 0


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('"a"', 206),
        ('"b"', 200),
        ('W/"a"', 200),
        (at(-100), 206),
        (at(-99), 200),
        (at(-101), 200),
        ("x", 200),
    ],
)
def test_if_range(condition: str, status: int) -> None:
    assert served("Range: bytes=0-1", f"If-Range: {condition}")[0] == status


def test_if_range_needs_strong_validators() -> None:
    """RFC 9110 §8.8.2.2, §13.1.5."""
    weak = kept('ETag: W/"a"', FRESH, f"Last-Modified: {at(0)}")
    assert served("Range: bytes=0-1", 'If-Range: W/"a"', stored=weak)[0] == 200
    assert served("Range: bytes=0-1", f"If-Range: {at(0)}", stored=weak)[0] == 200
    assert served("Range: bytes=0-1", 'If-Range: "a"', stored=kept(FRESH))[0] == 200


def test_a_span_serves_what_is_in_it() -> None:
    assert served("Range: bytes=4-8", stored=SPAN, size=5) == (206, b"45678")
    assert served("Range: bytes=6-7", stored=SPAN, size=5) == (206, b"67")
    assert served("Range: bytes=10-", stored=SPAN, size=5) == (416, b"")
    assert served('If-None-Match: "a"', stored=SPAN, size=5) == (304, b"")
    made = serve(asked(method="HEAD"), SPAN, 5, NOW)
    assert made is not None
    assert (made.head.status, made.head.length) == (200, 10)


@pytest.mark.parametrize(
    "said", ["Range: bytes=3-8", "Range: bytes=4-9", "Range: bytes=-5", "Range: bytes=0-1,4-5", "X: y"]
)
def test_a_span_serves_nothing_else(said: str) -> None:
    assert serve(asked(said), SPAN, 5, NOW) is None


def test_the_beginning_of_a_whole_is_a_span_too() -> None:
    assert serve(asked(), WHOLE, 4, NOW) is None
    assert served("Range: bytes=1-3", size=4) == (206, b"123")
    assert serve(asked("Range: bytes=1-4"), WHOLE, 4, NOW) is None


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 12), st.integers(0, 12))
def test_octets_are_served_where_they_are_there(first: int, last: int, start: int, end: int) -> None:
    if last < first:
        return
    span = replace(WHOLE, first=first)
    size = last - first + 1
    made = serve(asked(f"Range: bytes={start}-{end}"), span, size, NOW)
    if end < start:
        assert (made is None) is (size < 10)
    elif start > 9:
        assert made is not None
        assert made.head.status == 416
    elif made is None:
        assert start < first or min(end, 9) > last
    else:
        assert BODY[first : last + 1][made.start : made.end] == BODY[start : end + 1]


def test_what_is_wanted() -> None:
    def of(*said: str, stored: Stored = WHOLE, method: str = "GET") -> tuple[int, int] | None:
        return wanted(asked(*said, method=method), stored, NOW)

    assert of() == (0, 10)
    assert of("Range: bytes=2-3") == (2, 4)
    assert of("Range: bytes=20-") == (0, 0)
    assert of("Range: bytes=0-1,3-4") == (0, 10)
    assert of("If-None-Match: *") == (0, 0)
    assert of(method="HEAD") == (0, 0)
    assert of(stored=kept(FRESH, length=None)) is None
    assert of("If-None-Match: *", stored=kept(FRESH, length=None)) == (0, 0)


# what browsers are told


def test_browsers_are_told_another_freshness() -> None:
    stored = kept(FRESH + ", public", f"Expires: {at(9)}", "Age: 20", policy=CachePolicy(browser_ttl=30))
    made = serve(asked(), stored, 10, NOW + 5)
    assert made is not None
    assert made.head.fields == lower(DATE, "Cache-Control: public, max-age=55", "Age: 25")
    assert stored.fresh_until == NOW + 580
