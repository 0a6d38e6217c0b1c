"""Rate limits: what passes, when the next does, and how much is remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.control.rates import RateLimiter


def test_so_many_at_once_then_one_at_a_time() -> None:
    limiter = RateLimiter(10, 5.0, burst=3)
    assert [limiter.take("a", 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limiter.take("a", 100.0) == 0.5
    assert limiter.take("b", 100.0) == 0.0
    assert limiter.take("a", 100.4) > 0.0
    assert limiter.take("a", 100.5) == 0.0
    assert limiter.take("a", 100.5) == 0.5


def test_a_rest_fills_it_again() -> None:
    limiter = RateLimiter(2, 1.0)
    assert limiter.limit == 2
    for now in (0.0, 100.0):
        assert [limiter.take("a", now) > 0 for _ in range(3)] == [False, False, True]


def test_who_was_heard_least_lately_is_forgotten() -> None:
    limiter = RateLimiter(1, 60.0, keys=2)
    assert limiter.take("a", 0.0) == limiter.take("b", 0.0) == 0.0
    assert limiter.take("a", 1.0) > 0.0
    assert limiter.take("c", 1.0) == 0.0
    assert len(limiter) == 2
    assert limiter.take("b", 2.0) > 0.0
    assert limiter.take("a", 2.0) == 0.0


@given(
    st.integers(1, 20),
    st.floats(0.1, 10.0),
    st.integers(1, 20),
    st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60),
)
def test_no_more_than_a_bucket_would_give(requests: int, seconds: float, burst: int, gaps: list[float]) -> None:
    """A token bucket, filled as time goes, is the judge."""
    limiter = RateLimiter(requests, seconds, burst)
    tokens, now = float(burst), 0.0
    for gap in gaps:
        now += gap
        tokens = min(float(burst), tokens + gap * requests / seconds)
        wait = limiter.take("a", now)
        if abs(tokens - 1.0) > 1e-6:
            assert (wait == 0.0) is (tokens > 1.0)
        if wait == 0.0:
            tokens -= 1.0
        else:
            assert abs(wait - (1.0 - tokens) * seconds / requests) < 1e-6
