"""A stored answer brought up to date: by a 304, or by the answer to HEAD (RFC 9111 §3.2, §4.3.4, §4.3.5)."""

from __future__ import annotations

import pytest

from tests.http.caching.said import NOW, STANDARD, answer, asked, at, kept, lines
from wormhole_tw.http.caching import CachePolicy, Question, Stored, freshen, serve

TAG = 'ETag: "a"'
LATER = NOW + 100
"""When the origin is asked again."""

STORED = kept(TAG, "Cache-Control: max-age=60", "A: 1", "B: 1", "B: 2", "Surrogate-Key: x", took=1.0, born=3)


def confirmed(
    *said: str, stored: Stored = STORED, by: Question | None = None, policy: CachePolicy = STANDARD, status: int = 304
) -> Stored | None:
    dated = said if any(line.startswith("Date") for line in said) else (f"Date: {at(100)}", *said)
    return freshen(stored, answer(*dated, status=status), by or asked(), policy, LATER, LATER + 0.5)


def test_a_304_makes_it_fresh_again() -> None:
    anew = confirmed(TAG)
    assert anew is not None
    assert (anew.requested, anew.received, anew.date) == (LATER, LATER + 0.5, LATER)
    assert anew.fresh_until == LATER + 60
    assert (anew.status, anew.length, anew.born, anew.tags, anew.etag) == (200, 10, 3, (b"x",), b'"a"')
    assert anew.field(b"date") == at(100).encode()


def test_fields_are_replaced_and_kept() -> None:
    anew = confirmed(
        TAG, "b: 3", "C: 4", "Cache-Control: max-age=5", "Age: 2", "Connection: D", "D: 1", "Surrogate-Key: y"
    )
    assert anew is not None
    assert sorted(anew.fields) == sorted(
        (name.lower(), value)
        for name, value in lines(
            f"Date: {at(100)}", TAG, "A: 1", "B: 3", "C: 4", "Cache-Control: max-age=5", "Surrogate-Key: y"
        )
    )
    assert anew.fresh_until == LATER + 0.5 + 5 - 2.5
    assert anew.tags == (b"y",)


@pytest.mark.parametrize(
    "name",
    ["Content-Encoding", "Content-Range", "Content-MD5", "Content-Digest", "Repr-Digest", "Digest", "Content-Length"],
)
def test_what_says_how_the_body_is_stays(name: str) -> None:
    stored = kept(TAG, "Cache-Control: max-age=60", f"{name}: old")
    anew = confirmed(TAG, f"{name}: new", stored=stored)
    assert anew is not None
    assert anew.field(name.lower().encode()) == (None if name == "Content-Length" else b"old")
    assert anew.length == 10


@pytest.mark.parametrize(
    "name", ["Content-Type", "Content-Location", "Content-Security-Policy", "Expires", "X-Frame-Options"]
)
def test_everything_else_is_replaced(name: str) -> None:
    stored = kept(TAG, "Cache-Control: max-age=60", f"{name}: old")
    anew = confirmed(TAG, f"{name}: new", stored=stored)
    assert anew is not None
    assert anew.field(name.lower().encode()) == b"new"


def test_a_set_cookie_is_for_who_asked() -> None:
    anew = confirmed(TAG, "Set-Cookie: a=b")
    assert anew is not None
    assert anew.field(b"set-cookie") is None


def test_a_304_without_a_date() -> None:
    head = answer(TAG, status=304)
    head.fields = lines(TAG)
    anew = freshen(STORED, head, asked(), STANDARD, LATER, LATER)
    assert anew is not None
    assert anew.field(b"date") == at(100).encode()
    assert anew.fresh_until == LATER + 60


@pytest.mark.parametrize(
    ("stored", "said", "same"),
    [
        ([TAG], [], True),
        ([TAG], ['ETag: "a"'], True),
        ([TAG], ['ETag: W/"a"'], True),
        ([TAG], ['ETag: "b"'], False),
        ([TAG], ['ETag: W/"b"'], False),
        (['ETag: W/"a"'], ['ETag: "a"'], False),
        (['ETag: W/"a"'], ['ETag: W/"a"'], True),
        ([f"Last-Modified: {at(-9)}"], ['ETag: "a"'], False),
        ([f"Last-Modified: {at(-9)}"], [f"Last-Modified: {at(-9)}"], True),
        ([f"Last-Modified: {at(-9)}"], [f"Last-Modified: {at(-8)}"], False),
        ([f"Last-Modified: {at(-9)}"], ["Last-Modified: x"], False),
        ([TAG], [f"Last-Modified: {at(-8)}"], True),
        ([TAG, f"Last-Modified: {at(-9)}"], [TAG, f"Last-Modified: {at(-8)}"], True),
    ],
)
def test_a_304_of_another_representation(stored: list[str], said: list[str], same: bool) -> None:
    known = kept("Cache-Control: max-age=60", *stored)
    assert (confirmed(*said, stored=known) is not None) is same


def test_the_own_tag_stays_where_a_304_says_it_weakly() -> None:
    anew = confirmed('ETag: W/"a"')
    assert anew is not None
    assert anew.etag == anew.field(b"etag") == b'"a"'


@pytest.mark.parametrize("directive", ["no-store", "private"])
def test_it_may_not_be_stored_any_more(directive: str) -> None:
    assert confirmed(TAG, f"Cache-Control: max-age=60, {directive}") is None


def test_who_is_known_confirms_for_others_only_with_leave() -> None:
    known = asked("Authorization: x")
    assert confirmed(TAG, by=known) is STORED, "as old as it was"
    shared = kept(TAG, "Cache-Control: max-age=60, public")
    assert confirmed(TAG, stored=shared, by=known) is not None


@pytest.mark.parametrize("shown", ["Cookie: a=b", "Authorization: x"])
def test_nobody_has_an_answer_removed_by_showing_something(shown: str) -> None:
    showing = asked(shown)
    assert confirmed(TAG, "Cache-Control: private", by=showing) is STORED
    guessed = kept(f"Last-Modified: {at(-100)}")
    assert confirmed(stored=guessed, by=showing) is guessed
    anew = confirmed(stored=guessed)
    assert anew is not None
    assert anew.fresh_until > guessed.fresh_until
    assert confirmed('ETag: "b"', by=showing) is None, "what the origin speaks of is not what is kept"
    by_head = asked(shown, method="HEAD")
    for status, said, length in ((200, 'ETag: "b"', 10), (200, TAG, 11), (403, TAG, 10)):
        head = answer(said, status=status, length=length)
        assert freshen(STORED, head, by_head, STANDARD, LATER, LATER) is STORED


def test_its_variant_stays_unless_it_varies_by_something_else() -> None:
    stored = kept(TAG, "Cache-Control: max-age=60", "Vary: Foo", by=asked("Foo: 1"))
    other = asked("Foo: 2", "Bar: 3")
    same = confirmed(TAG, "Vary: foo", stored=stored, by=other)
    assert same is not None
    assert same.vary == ((b"foo", b"1"),)
    changed = confirmed(TAG, "Vary: Bar", stored=stored, by=other)
    assert changed is not None
    assert changed.vary == ((b"bar", b"3"),)
    assert confirmed(TAG, "Vary: *", stored=stored, by=other) is None


def test_what_browsers_are_told_outlives_a_304() -> None:
    policy = CachePolicy(browser_ttl=7)
    stored = kept(TAG, "Cache-Control: public, max-age=60", policy=policy)
    anew = confirmed(TAG, stored=stored, policy=policy)
    assert anew is not None
    assert anew.fresh_until == LATER + 60
    served = serve(asked(), anew, 10, LATER + 2)
    assert served is not None
    assert (b"cache-control", b"public, max-age=9") in served.head.fields


# HEAD (§4.3.5)

HEAD = asked(method="HEAD")


def headed(*said: str, stored: Stored = STORED, status: int = 200, length: int | None = 10) -> Stored | None:
    return freshen(stored, answer(*said, status=status, length=length), HEAD, STANDARD, LATER, LATER)


def test_an_answer_to_head_brings_it_up_to_date() -> None:
    anew = headed(TAG, "A: 2", "Cache-Control: max-age=1000", f"Date: {at(100)}")
    assert anew is not None
    assert anew.field(b"a") == b"2"
    assert anew.fresh_until == LATER + 1000
    assert headed(length=None) is not None


def test_an_answer_to_head_of_another_representation() -> None:
    assert headed('ETag: "b"') is None
    assert headed(TAG, length=11) is None
    assert headed(TAG, status=410) is None
    both = kept(TAG, f"Last-Modified: {at(-9)}", "Cache-Control: max-age=60")
    assert headed(TAG, f"Last-Modified: {at(-9)}", stored=both) is not None
    assert headed(TAG, f"Last-Modified: {at(-8)}", stored=both) is None


def test_an_error_to_head_changes_nothing() -> None:
    assert headed(status=503) is STORED
    failing = kept("Cache-Control: max-age=60", status=503)
    assert headed("Cache-Control: max-age=9", f"Date: {at(100)}", status=503, stored=failing) is not failing
    assert headed(status=500, stored=failing) is None
