"""A least rate over a sliding window."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.edge.pace import LOOKS, Pace, SharedPace, least_octets

PARTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=50)


@given(PARTS)
def test_it_says_what_the_last_window_brought(parts: list[int]) -> None:
    pace = Pace(0)
    for number, total in enumerate(accumulate(parts), start=1):
        brought = pace.advance(total)
        if number < LOOKS:
            assert brought == float("inf")
        else:
            assert brought == sum(parts[number - LOOKS : number])


@given(PARTS, PARTS)
def test_two_are_watched_side_by_side(own: list[int], line: list[int]) -> None:
    shared, first, second = SharedPace(0, 5), Pace(0), Pace(5)
    for a, b in zip(accumulate(own), accumulate(line), strict=False):
        assert shared.advance(a, b) == (first.advance(a), second.advance(b))


def test_a_window_has_to_bring_an_octet_at_the_least() -> None:
    assert [least_octets(240, 10), least_octets(0, 10), least_octets(1, 0.5)] == [2400, 1, 1]
