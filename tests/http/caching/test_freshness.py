"""For how long, and how old (RFC 9111 §4.2; RFC 9213; RFC 5861)."""

from __future__ import annotations

import pytest

from tests.http.caching.said import NOW, asked, at, kept, refused
from wormhole_tw.http.caching import IMMUTABLE, MUST_REVALIDATE, NO_CACHE, CachePolicy

TAG = 'ETag: "a"'


def lifetime(*said: str, **how: object) -> float:
    """How long an answer is fresh once it is there; its tag lets it be stored stale, too."""
    return kept(TAG, *said, **how).fresh_until - NOW


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (["Cache-Control: max-age=60"], 60),
        (["Cache-Control: MaX-aGe=60"], 60),
        (["Cache-Control: foobar, max-age=003600"], 3600),
        (['Cache-Control: max-age="60"'], 60),
        (["Cache-Control: max-age=99999999999"], 2**31),
        (["Cache-Control: max-age=60, s-maxage=9"], 9),
        (["Cache-Control: s-maxage=9, max-age=60"], 9),
        (["Cache-Control: max-age=60", "Cache-Control: s-maxage=9"], 9),
        (["Cache-Control: max-age=60, max-age=9"], 60),
        (["Cache-Control: max-age=60", f"Expires: {at(-9)}"], 60),
        (["Cache-Control: max-age=0", f"Expires: {at(9)}"], 0),
        (["Cache-Control: max-age=-60"], 0),
        (["Cache-Control: max-age='60'"], 0),
        (["Cache-Control: max-age=60.0"], 0),
        (["Cache-Control: max-age=a60"], 0),
        (["Cache-Control: max-age=60a"], 0),
        (["Cache-Control: max-age"], 0),
        (["Cache-Control: max-age =60"], 0),
        (["Cache-Control: max-age= 60"], 0),
        (["Cache-Control: s-maxage=x, max-age=60"], 0),
        (['Cache-Control: x="max-age=60", max-age=1'], 1),
        ([f"Expires: {at(30)}"], 30),
        ([f"Expires: {at(-30)}"], 0),
        (["Expires: 0"], 0),
        ([f"Expires: {at(30)}", f"Expires: {at(60)}"], 30),
        (["Date: foo", f"Expires: {at(30)}"], 30),
        ([f"Date: {at(40)}", f"Expires: {at(30)}"], 0),
        ([f"Date: {at(-10)}", f"Expires: {at(30)}"], 30),
    ],
)
def test_what_the_answer_says(said: list[str], seconds: float) -> None:
    assert lifetime(*said) == seconds


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (["Age: 20"], 40),
        (["Age: 70"], 0),
        (["Age: 20,0"], 40),
        (["Age: 0,7200"], 60),
        ([f"Date: {at(-20)}"], 40),
        ([f"Date: {at(-20)}", "Age: 30"], 30),
        ([f"Date: {at(-20)}", "Age: 10"], 40),
        ([f"Date: {at(20)}"], 60),
        (["Age: abc"], 0),
        (["Age: -7200"], 0),
        (["Age: 7200.0"], 0),
        (["Age: 1;foo=bar"], 0),
        (["Age: 0, 0"], 0),
        (["Age: 0", "Age: 0"], 0),
        (["Age:"], 0),
    ],
)
def test_how_old_it_is_already(said: list[str], seconds: float) -> None:
    assert lifetime("Cache-Control: max-age=60", *said) == seconds


def test_the_time_that_the_fetch_took_counts() -> None:
    """RFC 9111 §4.2.3: corrected_age_value."""
    assert lifetime("Cache-Control: max-age=60", took=3.0) == 57
    assert lifetime("Cache-Control: max-age=60", "Age: 10", took=3.0) == 47
    assert lifetime("Cache-Control: max-age=60", f"Date: {at(-20)}", took=3.0) == 40
    assert lifetime("Cache-Control: max-age=60", took=-3.0) == 60, "a clock that was set back"


def test_a_guess() -> None:
    """RFC 9111 §4.2.2."""
    assert lifetime(f"Last-Modified: {at(-1000)}") == 100
    assert lifetime(f"Last-Modified: {at(-1000)}", "Age: 30") == 70
    assert lifetime(f"Last-Modified: {at(-86400 * 365)}") == 86400
    assert lifetime(f"Last-Modified: {at(1000)}") == 0


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_statuses_that_may_be_guessed_about(status: int) -> None:
    assert lifetime(f"Last-Modified: {at(-1000)}", status=status) == 100


@pytest.mark.parametrize("status", [201, 202, 302, 403, 500, 502, 503, 504, 599])
def test_statuses_that_may_not(status: int) -> None:
    assert refused(f"Last-Modified: {at(-1000)}", TAG, status=status) == "not-fresh"
    assert lifetime(f"Last-Modified: {at(-1000)}", "Cache-Control: public", status=status) == 100


def test_who_is_known_is_not_guessed_about() -> None:
    modified = f"Last-Modified: {at(-1000)}"
    assert refused(modified, by=asked("Cookie: a=b")) == "not-fresh"
    assert refused(modified, "Cache-Control: public", by=asked("Authorization: x")) == "not-fresh"
    assert refused(modified, policy=CachePolicy(heuristic=False)) == "not-fresh"


def test_pragma_forbids_to_guess_and_nothing_else() -> None:
    modified = f"Last-Modified: {at(-1000)}"
    assert refused(modified, "Pragma: No-Cache") == "not-fresh"
    assert lifetime(modified, "Pragma: x") == 100
    assert lifetime(modified, "Pragma: no-cache", "Cache-Control: max-age=9") == 9
    assert lifetime(modified, "Pragma: no-cache", "Cache-Control: public") == 100


def test_no_guess_without_a_date_of_change() -> None:
    assert refused("Last-Modified: yesterday", TAG) == "not-fresh"
    assert refused(f"Last-Modified: {at(-1000)}", "Age: x") == "not-fresh"


# targeted fields (RFC 9213)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (["CDN-Cache-Control: max-age=60", "Cache-Control: max-age=1"], 60),
        (["CDN-Cache-Control: max-age=1", "Cache-Control: max-age=60", f"Expires: {at(60)}"], 1),
        (["CDN-Cache-Control: max-age=60", "Cache-Control: no-store, private"], 60),
        (["CDN-Cache-Control: max-age=60;x=1, foo"], 60),
        (["CDN-Cache-Control: s-maxage=60, max-age=1"], 60),
        (["CDN-Cache-Control: max-age=60, no-store=?0"], 60),
        # not valid: as if it were not there
        (["CDN-Cache-Control: max-age=60,", "Cache-Control: max-age=1"], 1),
        (["CDN-Cache-Control: MAX-AGE=60", "Cache-Control: max-age=1"], 1),
        (["CDN-Cache-Control: max-age =60", "Cache-Control: max-age=1"], 1),
        (["CDN-Cache-Control:", "Cache-Control: max-age=1"], 1),
        # of the wrong type: no number
        (['CDN-Cache-Control: max-age="60"', "Cache-Control: max-age=1"], 0),
        (["CDN-Cache-Control: max-age=a", "Cache-Control: max-age=1"], 0),
        (["CDN-Cache-Control: max-age=1.5", "Cache-Control: max-age=1"], 0),
        (["CDN-Cache-Control: max-age=-5", "Cache-Control: max-age=1"], 0),
        (["CDN-Cache-Control: max-age", "Cache-Control: max-age=1"], 0),
    ],
)
def test_a_targeted_field_wins(said: list[str], seconds: float) -> None:
    assert lifetime(*said) == seconds


def test_a_targeted_field_forbids_too() -> None:
    assert refused("CDN-Cache-Control: no-store", "Cache-Control: max-age=60") == "no-store"
    assert refused("CDN-Cache-Control: private", "Cache-Control: max-age=60") == "private"
    assert kept(TAG, "CDN-Cache-Control: no-cache", "Cache-Control: max-age=60").flags == NO_CACHE
    named = kept('CDN-Cache-Control: max-age=60, no-cache="set-cookie"', "Set-Cookie: a=b")
    assert (named.flags, named.field(b"set-cookie")) == (0, None)


def test_expires_is_not_targeted() -> None:
    assert refused("CDN-Cache-Control: foo", f"Expires: {at(60)}", TAG) == "not-fresh"
    assert lifetime("CDN-Cache-Control: foo", f"Expires: {at(60)}", f"Last-Modified: {at(-1000)}") == 100


def test_which_targets_are_ours() -> None:
    mine = CachePolicy(targets=(b"example-cache-control", b"cdn-cache-control"))
    said = ["CDN-Cache-Control: max-age=2", "Cache-Control: max-age=1"]
    assert lifetime(*said, policy=mine) == 2
    assert lifetime("Example-Cache-Control: max-age=3", *said, policy=mine) == 3
    assert lifetime("Example-Cache-Control: max-age=3", *said) == 2
    assert lifetime(*said, policy=CachePolicy(targets=())) == 1


# what a policy says


def test_a_ttl_where_the_answer_says_nothing() -> None:
    policy = CachePolicy(ttl=50)
    assert lifetime(policy=policy) == 50
    assert lifetime(f"Last-Modified: {at(-1000)}", policy=policy) == 50
    assert lifetime("Age: 20", policy=policy) == 50
    assert lifetime("Cache-Control: max-age=9", policy=policy) == 9
    assert lifetime("Expires: 0", policy=policy) == 0
    assert refused(TAG, status=500, policy=policy) == "not-fresh"
    assert lifetime(status=500, policy=CachePolicy(ttl=50, statuses=frozenset({500}))) == 50


def test_a_ttl_that_overrides() -> None:
    policy = CachePolicy(override_ttl=50)
    assert lifetime("Cache-Control: max-age=9", "Age: 500", policy=policy) == 50
    assert lifetime("Cache-Control: max-age=9", status=500, policy=policy) == 9
    assert refused("Cache-Control: no-store", policy=policy) == "no-store"
    assert kept(TAG, "Cache-Control: no-cache", policy=policy).flags == NO_CACHE
    assert lifetime("Cache-Control: max-age=9", policy=CachePolicy(override_ttl=0)) == 0


def test_a_ttl_at_most() -> None:
    policy = CachePolicy(max_ttl=50)
    assert lifetime("Cache-Control: max-age=90", policy=policy) == 50
    assert lifetime("Cache-Control: max-age=9", policy=policy) == 9
    assert lifetime("Cache-Control: max-age=9", policy=CachePolicy(max_ttl=30, override_ttl=70)) == 30


# how long after it


def windows(*said: str, policy: CachePolicy | None = None) -> tuple[float, float, int]:
    stored = kept(TAG, *said, policy=policy or CachePolicy(stale_while_revalidate=7, stale_if_error=8))
    until = stored.fresh_until
    return stored.behind_until - until, stored.error_until - until, stored.flags


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("max-age=60", (7, 8, 0)),
        ("max-age=60, stale-while-revalidate=3, stale-if-error=4", (3, 4, 0)),
        ("max-age=60, stale-while-revalidate=0, stale-if-error=x", (0, 0, 0)),
        ("max-age=60, stale-if-error", (7, 0, 0)),
        ("max-age=60, must-revalidate, stale-while-revalidate=3", (0, 0, MUST_REVALIDATE)),
        ("max-age=60, proxy-revalidate, stale-if-error=3", (0, 0, MUST_REVALIDATE)),
        ("max-age=60, no-cache, stale-if-error=3", (0, 0, NO_CACHE)),
        ("s-maxage=60", (0, 0, MUST_REVALIDATE)),
        ("s-maxage=60, stale-while-revalidate=3", (3, 0, MUST_REVALIDATE)),
        ("s-maxage=60, stale-if-error=3", (0, 3, MUST_REVALIDATE)),
        ("max-age=60, immutable", (7, 8, IMMUTABLE)),
        ("max-age=60, immutable, no-cache", (0, 0, IMMUTABLE | NO_CACHE)),
    ],
)
def test_served_stale(said: str, found: tuple[float, float, int]) -> None:
    assert windows(f"Cache-Control: {said}") == found


def test_nothing_is_served_stale_by_the_standards() -> None:
    assert windows("Cache-Control: max-age=60", policy=CachePolicy()) == (0, 0, 0)


def test_no_cache_alone_is_no_reason_to_store_any_status() -> None:
    """RFC 9111 §3, the last item."""
    assert kept(TAG, "Cache-Control: no-cache", status=404).flags == NO_CACHE
    assert refused(TAG, "Cache-Control: no-cache", status=302) == "not-fresh"
    assert kept(TAG, "Cache-Control: no-cache, public", status=302).flags == NO_CACHE
    assert kept(TAG, "Cache-Control: no-cache", f"Expires: {at(9)}", status=302).flags == NO_CACHE


def test_no_cache_that_names_fields_is_no_such_thing() -> None:
    assert windows('Cache-Control: max-age=60, no-cache="a"')[2] == 0
    assert windows('Cache-Control: max-age=60, no-cache=""')[2] == NO_CACHE
