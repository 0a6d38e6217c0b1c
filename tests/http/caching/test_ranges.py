"""One range of octets (RFC 9110 §14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.caching.ranges import OTHER, UNSATISFIABLE, resolved_range


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"bytes=0-0", (0, 1)),
        (b"bytes=0-9", (0, 10)),
        (b"bytes=2-3", (2, 4)),
        (b"bytes=2-300", (2, 10)),
        (b"bytes=2-", (2, 10)),
        (b"bytes=-3", (7, 10)),
        (b"bytes=-300", (0, 10)),
        (b"BYTES = ,2-3,", (2, 4)),
        (b"bytes=10-", UNSATISFIABLE),
        (b"bytes=10-11", UNSATISFIABLE),
        (b"bytes=-0", UNSATISFIABLE),
        (b"bytes=3-2", OTHER),
        (b"bytes=12-11", OTHER),
        (b"bytes=0-1,3-4", OTHER),
        (b"bytes=", OTHER),
        (b"bytes=-", OTHER),
        (b"bytes=a-b", OTHER),
        (b"bytes=0-1x", OTHER),
        (b"bytes=+0-1", OTHER),
        (b"items=0-1", OTHER),
        (b"bytes=0-" + b"9" * 19, OTHER),
    ],
)
def test_of_ten_octets(value: bytes, part: tuple[int, int]) -> None:
    assert resolved_range(value, 10) == part


def test_nothing_has_no_octets() -> None:
    assert resolved_range(b"bytes=0-", 0) == UNSATISFIABLE
    assert resolved_range(b"bytes=-1", 0) == UNSATISFIABLE


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_what_is_asked_for_is_what_a_slice_has(length: int, first: int, last: int) -> None:
    body = bytes(range(length))
    part = resolved_range(b"bytes=%d-%d" % (first, last), length)
    if last < first:
        assert part is OTHER
    elif body[first : last + 1]:
        assert body[part[0] : part[1]] == body[first : last + 1]
    else:
        assert part is UNSATISFIABLE
