"""Which answers are stored, and what of them (RFC 9111 §3)."""

from __future__ import annotations

import pytest

from tests.http.caching.said import DATE, NOW, STANDARD, answer, asked, at, kept, lines, refused
from wormhole_tw.http.caching import PERSONAL, CachePolicy, Refusal, Stored, storable, told
from wormhole_tw.http.caching.storing import MAX_TAG, MAX_TAGS
from wormhole_tw.structs import msgpack

FRESH = "Cache-Control: max-age=60"


def test_an_answer_that_says_how_long_it_is_fresh() -> None:
    stored = kept("Content-Type: text/plain", FRESH, 'ETag: "a"', f"Last-Modified: {at(-100)}", took=0.5, born=7)
    assert (stored.status, stored.reason, stored.length, stored.first, stored.born) == (200, b"OK", 10, 0, 7)
    assert stored.fields == tuple(
        (name.lower(), value)
        for name, value in lines(DATE, "Content-Type: text/plain", FRESH, 'ETag: "a"', f"Last-Modified: {at(-100)}")
    )
    assert (stored.requested, stored.received, stored.date) == (NOW - 0.5, NOW, NOW)
    assert stored.fresh_until == NOW + 59.5
    assert stored.field(b"etag") == b'"a"'
    assert stored.field(b"x") is None
    assert stored.strong
    assert stored.validated
    assert stored.modified == NOW - 100


def test_a_record_survives_being_written() -> None:
    stored = kept(FRESH, "Vary: Foo, Bar", "Surrogate-Key: a b", by=asked("Foo: 1"), policy=CachePolicy(browser_ttl=5))
    assert msgpack.decode(msgpack.encode(stored), type=Stored) == stored
    assert stored.vary == ((b"foo", b"1"), (b"bar", None))


@pytest.mark.parametrize(
    "status", [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 599]
)
def test_any_final_status_with_explicit_freshness(status: int) -> None:
    assert kept(FRESH, status=status).status == status


@pytest.mark.parametrize("status", [103, 304, 412, 416])
def test_answers_to_a_condition_or_none_at_all(status: int) -> None:
    assert refused(FRESH, status=status) == "status"


def test_204_has_no_octets() -> None:
    assert kept(FRESH, status=204, length=None).length == 0


def test_a_length_that_nobody_knows_yet() -> None:
    assert kept(FRESH, length=None).length is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Cache-Control: no-store", "no-store"),
        ("Cache-Control: max-age=60, No-Store", "no-store"),
        ("Cache-Control: private, max-age=60", "private"),
        ('Cache-Control: private="", max-age=60', "private"),
        ("X: y", "not-fresh"),
        ("Cache-Control: max-age=0", "not-fresh"),
        ("Cache-Control: no-cache", "not-fresh"),
        ("Cache-Control: no-cache, max-age=60", "not-fresh"),
        ('ETag: "a"', "not-fresh"),
        ("Cache-Control: public", "not-fresh"),
        ("Expires: 0", "not-fresh"),
    ],
)
def test_answers_that_are_not_stored(line: str, reason: str) -> None:
    assert refused(line) == reason


@pytest.mark.parametrize("line", ["Cache-Control: max-age=0", "Cache-Control: no-cache", "Expires: 0"])
@pytest.mark.parametrize("validator", ['ETag: "a"', f"Last-Modified: {at(0)}"])
def test_what_is_stale_at_once_is_kept_to_be_validated(line: str, validator: str) -> None:
    assert kept(line, validator).fresh_until == NOW


def test_what_is_stale_at_once_is_kept_where_it_may_be_served_so() -> None:
    assert kept("Cache-Control: max-age=0, stale-while-revalidate=5").behind_until == NOW + 5
    assert kept("Cache-Control: max-age=0, stale-if-error=5").error_until == NOW + 5


def test_requests_that_nothing_is_stored_for() -> None:
    assert refused(FRESH, by=asked(method="HEAD")) == "request"
    silent = asked("Cache-Control: no-store")
    assert refused(FRESH, by=silent) == "request"
    assert kept(FRESH, by=silent, policy=CachePolicy(ignore_request=frozenset({b"no-store"})))


@pytest.mark.parametrize("directive", ["public", "s-maxage=9", "must-revalidate"])
def test_authorization_needs_leave(directive: str) -> None:
    """RFC 9111 §3.5."""
    known = asked("Authorization: Basic x")
    assert refused(FRESH, by=known) == "authorization"
    assert refused(FRESH, by=asked(personal=True)) == "authorization"
    assert refused("Cache-Control: max-age=60, proxy-revalidate", by=known) == "authorization"
    assert kept(f"Cache-Control: max-age=60, {directive}", by=known).flags & PERSONAL
    assert kept(f"Cache-Control: max-age=60, {directive}", by=asked(personal=True)).flags & PERSONAL
    assert not kept(f"Cache-Control: max-age=60, {directive}").flags & PERSONAL


def test_set_cookie_is_of_one_visitor() -> None:
    assert refused(FRESH, "Set-Cookie: a=b") == "set-cookie"
    stripping = CachePolicy(strip=frozenset({b"set-cookie"}))
    assert kept(FRESH, "Set-Cookie: a=b", policy=stripping).field(b"set-cookie") is None
    for directive in ("no-cache", "private"):
        stored = kept(f'Cache-Control: max-age=60, {directive}="Set-Cookie, A"', "Set-Cookie: a=b", "a: 1", "b: 2")
        assert stored.field(b"set-cookie") is None
        assert stored.field(b"a") is None
        assert stored.field(b"b") == b"2"


def test_must_understand() -> None:
    """RFC 9111 §5.2.2.3: it wins over the no-store beside it where the status is known."""
    assert refused("Cache-Control: max-age=60, must-understand", status=599) == "must-understand"
    assert kept("Cache-Control: max-age=60, must-understand, no-store")
    assert refused("Cache-Control: max-age=60, must-understand, private") == "private"


def test_what_belongs_to_a_connection_or_a_moment_is_not_stored() -> None:
    stored = kept(
        "Connection: a, Keep-Alive", "a: 1", "b: 2", "Keep-Alive: x", "Proxy-Authenticate: x", "Upgrade: x", "TE: x",
        "Proxy-Authentication-Info: x", "Warning: 110 - x", "Age: 3", "Content-Range: bytes 0-1/2", FRESH,
    )  # fmt: skip
    assert [name for name, _ in stored.fields] == [b"date", b"b", b"content-range", b"cache-control"]


@pytest.mark.parametrize("date", ["Date: foo", "Date:", "X: y"])
def test_a_date_is_put_in_where_there_is_none(date: str) -> None:
    """RFC 9110 §6.6.1."""
    head = answer("Date: foo", FRESH)
    head.fields = lines(date, FRESH)
    stored = storable(asked(), head, STANDARD, NOW, NOW)
    assert isinstance(stored, Stored)
    assert stored.field(b"date") == at(0).encode()
    assert stored.date == NOW


def test_vary() -> None:
    assert kept(FRESH, "Vary:", "Vary: ,").vary == ()
    stored = kept(FRESH, "Vary: Foo, BAR", "Vary: foo", by=asked("foo: 1,  2", "foo: 3"))
    assert stored.vary == ((b"foo", b"1,2,3"), (b"bar", None))


@pytest.mark.parametrize(
    "said", [['"Foo"'], ["Foo Bar"], ["*"], ["*, *"], ["*", "*"], [", *"], ["", "*"], ["*, Foo"], ["Foo, *"]]
)
def test_vary_by_whatever(said: list[str]) -> None:
    assert refused(FRESH, *(f"Vary: {value}" for value in said)) == "vary"


def test_vary_by_too_much() -> None:
    assert refused(FRESH, "Vary: " + ",".join(f"f{number}" for number in range(17))) == "vary"
    assert len(kept(FRESH, "Vary: " + ",".join(f"f{number}" for number in range(16))).vary) == 16


def test_tags() -> None:
    assert kept(FRESH, "Surrogate-Key: a b,c", "surrogate-key:  b d ").tags == (b"a", b"b", b"c", b"d")
    assert kept(FRESH, "Cache-Tag: a", policy=CachePolicy(tag_header=b"cache-tag")).tags == (b"a",)
    assert refused(FRESH, "Surrogate-Key: " + "x" * (MAX_TAG + 1)) == "tags"
    assert refused(FRESH, "Surrogate-Key: " + " ".join(str(number) for number in range(MAX_TAGS + 1))) == "tags"


TAG = 'ETag: "a"'


def test_a_part_is_a_span_of_its_whole() -> None:
    stored = kept(FRESH, TAG, "Content-Range: bytes 4-8/10", status=206, length=5)
    assert (stored.status, stored.reason, stored.first, stored.length) == (200, b"OK", 4, 10)
    assert stored.field(b"content-range") is None
    assert kept(FRESH, TAG, "Content-Range: BYTES 4-8/10", status=206, length=None).first == 4


@pytest.mark.parametrize(
    "said",
    [
        [TAG],
        [TAG, "Content-Range: bytes 4-8/*"],
        [TAG, "Content-Range: bytes 8-4/10"],
        [TAG, "Content-Range: bytes 4-10/10"],
        [TAG, "Content-Range: bytes 4-9/10"],
        [TAG, "Content-Range: items 4-8/10"],
        [TAG, "Content-Range: bytes 4-8/10", "Content-Range: bytes 4-8/10"],
        ["Content-Range: bytes 4-8/10"],
        ['ETag: W/"a"', "Content-Range: bytes 4-8/10"],
        [TAG, "Content-Type: multipart/byteranges; boundary=x"],
    ],
)
def test_a_part_that_cannot_be_put_together(said: list[str]) -> None:
    assert refused(FRESH, *said, status=206, length=5) == "partial"


def test_what_a_policy_ignores() -> None:
    policy = CachePolicy(ignore=frozenset({b"no-store", b"private"}))
    assert kept("Cache-Control: no-store, private, max-age=60", policy=policy)
    assert refused("Cache-Control: no-store, private, no-cache, max-age=60", policy=policy) == "not-fresh"


def test_what_the_first_visitor_is_told() -> None:
    head = answer(
        "Cache-Control: public, max-age=60, s-maxage=5, immutable", "Age: 10", "Set-Cookie: a=b", f"Expires: {at(9)}"
    )
    assert told(head, STANDARD) is head
    stripped = told(head, CachePolicy(strip=frozenset({b"set-cookie"})))
    assert [name for name, _ in stripped.fields] == [b"Date", b"Cache-Control", b"Age", b"Expires"]
    again = told(head, CachePolicy(browser_ttl=30))
    assert again.fields == [
        *lines(DATE, "Age: 10", "Set-Cookie: a=b"),
        (b"cache-control", b"public, immutable, max-age=40"),
    ]
    assert told(answer(FRESH, "Age: x"), CachePolicy(browser_ttl=30)).fields[-1] == (b"cache-control", b"max-age=30")
    assert told(head, CachePolicy(browser_ttl=0)).fields[-1] == (b"cache-control", b"public, immutable, max-age=0")
    assert (head.status, again.framing, again.length) == (200, head.framing, 10)


def test_a_refusal_says_why() -> None:
    assert storable(asked(), answer("Cache-Control: no-store"), STANDARD, NOW, NOW) == Refusal("no-store")
