"""Fresh, stale, or to be asked for again (RFC 9111 §4.2, §5.2.1; RFC 5861; RFC 8246)."""

from __future__ import annotations

import pytest

from tests.http.caching.said import NOW, STANDARD, asked, kept
from wormhole_tw.http.caching import CachePolicy, Stored, Verdict, judge, usable_on_error

FRESH, STALE, BEHIND, REVALIDATE, UNAVAILABLE = Verdict

TAG = 'ETag: "a"'


def stored(control: str) -> Stored:
    return kept(TAG, f"Cache-Control: {control}")


@pytest.mark.parametrize(
    ("control", "seconds", "verdict"),
    [
        ("max-age=60", 0, FRESH),
        ("max-age=60", 59.9, FRESH),
        ("max-age=60", 60, REVALIDATE),
        ("max-age=60", 1e9, REVALIDATE),
        ("max-age=60, no-cache", 0, REVALIDATE),
        ("max-age=60, must-revalidate", 59, FRESH),
        ("max-age=60, must-revalidate", 60, REVALIDATE),
        ("max-age=60, stale-while-revalidate=5", 59, FRESH),
        ("max-age=60, stale-while-revalidate=5", 60, BEHIND),
        ("max-age=60, stale-while-revalidate=5", 64.9, BEHIND),
        ("max-age=60, stale-while-revalidate=5", 65, REVALIDATE),
    ],
)
@pytest.mark.parametrize(
    "request_says", [(), ("Cache-Control: unheard-of, max-age=x, max-stale=x, min-fresh=",), ("Range: bytes=0-1",)]
)
def test_a_request_that_wants_nothing_special(
    request_says: tuple[str, ...], control: str, seconds: float, verdict: Verdict
) -> None:
    assert judge(asked(*request_says), stored(control), STANDARD, NOW + seconds) is verdict


@pytest.mark.parametrize(
    ("control", "wanted", "seconds", "verdict"),
    [
        ("max-age=60", "no-cache", 0, REVALIDATE),
        ("max-age=60", "max-age=0", 0.1, REVALIDATE),
        ("max-age=60", "max-age=10", 10, FRESH),
        ("max-age=60", "max-age=10", 10.1, REVALIDATE),
        ("max-age=60", "min-fresh=10", 50, FRESH),
        ("max-age=60", "min-fresh=10", 50.1, REVALIDATE),
        ("max-age=60", "max-stale", 1e9, STALE),
        ("max-age=60", "max-stale=10", 59, FRESH),
        ("max-age=60", "max-stale=10", 70, STALE),
        ("max-age=60", "max-stale=10", 70.1, REVALIDATE),
        ("max-age=60", "max-stale=10, max-age=30", 65, REVALIDATE),
        ("max-age=60", "max-stale=10, max-age=90", 65, STALE),
        ("max-age=60, must-revalidate", "max-stale", 70, REVALIDATE),
        ("max-age=60, proxy-revalidate", "max-stale", 70, REVALIDATE),
        ("s-maxage=60", "max-stale", 70, REVALIDATE),
        ("max-age=60, no-cache", "max-stale", 70, REVALIDATE),
        ("max-age=60, stale-while-revalidate=9", "unheard-of", 65, BEHIND),
        ("max-age=60, stale-while-revalidate=9", "max-age=90", 65, REVALIDATE),
        ("max-age=60, stale-while-revalidate=9", "min-fresh=0", 65, REVALIDATE),
        ("max-age=60", "only-if-cached", 59, FRESH),
        ("max-age=60", "only-if-cached", 60, UNAVAILABLE),
        ("max-age=60", "only-if-cached, max-stale", 60, STALE),
        ("max-age=60", "only-if-cached, no-cache", 0, UNAVAILABLE),
        ("max-age=60, immutable", "max-age=0", 30, FRESH),
        ("max-age=60, immutable", "max-age=0", 60, REVALIDATE),
        ("max-age=60, immutable", "no-cache", 30, REVALIDATE),
        ("max-age=60, immutable", "max-age=0, min-fresh=50", 30, REVALIDATE),
    ],
)  # fmt: skip
def test_a_request_that_wants_something(control: str, wanted: str, seconds: float, verdict: Verdict) -> None:
    assert judge(asked(f"Cache-Control: {wanted}"), stored(control), STANDARD, NOW + seconds) is verdict


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [("no-cache", 0), ("max-age=0", 30), ("min-fresh=90", 30), ("max-stale", 70), ("only-if-cached", 70)],
)
def test_a_policy_may_ignore_it(wanted: str, seconds: float) -> None:
    name = wanted.partition("=")[0].encode()
    known = stored("max-age=60")
    now = NOW + seconds
    plain = judge(asked(), known, STANDARD, now)
    assert judge(asked(f"Cache-Control: {wanted}"), known, STANDARD, now) is not plain
    ignoring = CachePolicy(ignore_request=frozenset({name}))
    assert judge(asked(f"Cache-Control: {wanted}"), known, ignoring, now) is plain


def test_pragma_means_nothing() -> None:
    """RFC 9111 §5.4."""
    assert judge(asked("Pragma: no-cache"), stored("max-age=60"), STANDARD, NOW) is FRESH


@pytest.mark.parametrize(
    ("control", "wanted", "seconds", "usable"),
    [
        ("max-age=60", "", 59, True),
        ("max-age=60", "", 60, False),
        ("max-age=60, stale-if-error=9", "", 68, True),
        ("max-age=60, stale-if-error=9", "", 69, False),
        ("max-age=60, no-cache, stale-if-error=9", "", 0, False),
        ("max-age=60, must-revalidate, stale-if-error=9", "", 61, False),
        ("s-maxage=60, stale-if-error=9", "", 61, True),
        ("max-age=60", "stale-if-error=9", 68, True),
        ("max-age=60", "stale-if-error=9", 69, False),
        ("max-age=60", "stale-if-error", 61, False),
        ("s-maxage=60", "stale-if-error=9", 61, False),
    ],
)
def test_the_origin_fails(control: str, wanted: str, seconds: float, usable: bool) -> None:
    asks = asked(f"Cache-Control: {wanted}") if wanted else asked()
    assert usable_on_error(asks, stored(control), STANDARD, NOW + seconds) is usable


def test_a_policy_may_ignore_what_a_request_takes_on_errors() -> None:
    asks = asked("Cache-Control: stale-if-error=9")
    ignoring = CachePolicy(ignore_request=frozenset({b"stale-if-error"}))
    assert not usable_on_error(asks, stored("max-age=60"), ignoring, NOW + 61)
