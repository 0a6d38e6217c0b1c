"""Entity tags as they should be, and as some services write them."""

from __future__ import annotations

import pytest

from wormhole_tw.http.caching.etags import is_strong, listed, weakly_equal


@pytest.mark.parametrize(
    ("tag", "strong"),
    [(b'"a"', True), (b'""', True), (b'W/"a"', False), (b"a", False), (b'"', False), (b"", False), (b'"a', False)],
)
def test_strong_ones(tag: bytes, strong: bool) -> None:
    assert is_strong(tag) is strong


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b'"a"', b'"a"', True),
        (b'W/"a"', b'"a"', True),
        (b'W/"a"', b'W/"a"', True),
        (b'w/"a"', b'"a"', True),
        (b"a", b'"a"', True),
        (b'"a"', b"a", True),
        (b'"a"', b'"b"', False),
        (b'"A"', b'"a"', False),
        (b'"a"', b"", False),
        (b"", b'""', False),
        (b'W\\"a"', b'W\\"a"', True),
    ],
)
def test_the_weak_comparison(one: bytes, other: bytes, equal: bool) -> None:
    assert weakly_equal(one, other) is equal


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b"*", [b"*"]),
        (b'"a", W/"b" ,c', [b'"a"', b'W/"b"', b"c"]),
        (b'"a,b", "c\\"', [b'"a,b"', b'"c\\"']),
        (b'"a, "b', [b'"a, "b']),
        (b'"never closed, x', [b'"never closed, x']),
        (b" , ", []),
    ],
)
def test_a_list(value: bytes, tags: list[bytes]) -> None:
    assert listed(value) == tags
