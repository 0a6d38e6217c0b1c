"""Cache-Status (RFC 9211)."""

from __future__ import annotations

import pytest

from tests.http.caching.said import NOW, kept
from wormhole_tw.http.caching import Forwarded, cache_status

STORED = kept("Cache-Control: max-age=60")


def test_a_hit() -> None:
    assert cache_status(b"wormhole", stored=STORED, now=NOW + 7.5, hit=True) == b"wormhole; hit; ttl=52"
    assert cache_status(b"wormhole", stored=STORED, now=NOW + 61, hit=True) == b"wormhole; hit; ttl=-1"


@pytest.mark.parametrize("reason", list(Forwarded))
def test_a_request_that_went_on(reason: Forwarded) -> None:
    assert cache_status(b"wormhole", forwarded=reason) == b"wormhole; fwd=" + reason.value


def test_all_of_it() -> None:
    line = cache_status(
        b"wormhole",
        stored=STORED,
        now=NOW,
        forwarded=Forwarded.STALE,
        status=304,
        kept=True,
        collapsed=True,
        detail="set-cookie",
    )
    assert line == b"wormhole; fwd=stale; fwd-status=304; ttl=60; stored; collapsed; detail=set-cookie"


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("word", b"word"),
        ("*x/y:z", b"*x/y:z"),
        ("two words", b'"two words"'),
        ('a "b" \\', b'"a \\"b\\" \\\\"'),
        ("1st", b'"1st"'),
        ("ä\n", b'"??"'),
    ],
)
def test_words_and_strings(text: str, item: bytes) -> None:
    assert cache_status(b"wormhole", detail=text) == b"wormhole; detail=" + item


def test_a_name_that_is_no_token() -> None:
    assert cache_status(b"my edge") == b'"my edge"'
