"""What those are told for whom an answer was fetched, and what those who only waited for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.edge.caching.house import CachingHouse

NAMED = ('Cache-Control: max-age=60, no-cache="set-cookie"', "Set-Cookie: a=b")


@pytest.mark.parametrize("field", ["X: y", "Cache-Control: no-cache", "Cache-Control: max-age=0"])
def test_what_is_for_the_one_who_asked_reaches_him(cached: CachingHouse, field: str) -> None:
    """A browser's reload is asked for as any other request is."""
    got = cached.get("/", field, reply=NAMED)
    assert got.fields["set-cookie"] == "a=b"
    assert "stored" in got.cache
    assert "set-cookie" not in cached.get().fields


def test_who_waits_for_an_answer_of_unknown_length_is_told_its_age(keep: Callable[..., CachingHouse]) -> None:
    house = keep(policy={"browser_ttl": 9})
    first, second = house.ask("/"), house.ask("/")
    house.stream.read()
    house.stream.deliver(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\nAge: 5\r\n\r\n"
    )
    house.stream.deliver(b"5\r\nhello\r\n0\r\n\r\n")
    for visitor in (first, second):
        [(head, body)] = visitor.answers()
        fields = {name.lower(): value for name, value in head.headers}
        assert body == b"hello"
        assert (fields[b"cache-control"], fields[b"age"]) == (b"max-age=14", b"5")


TAG = 'ETag: "a"'


def test_a_short_rest_completes_what_is_kept(cached: CachingHouse) -> None:
    says = ("Cache-Control: max-age=60", TAG)
    visitor = cached.ask("/")
    cached.stream.read()
    cached.stream.deliver(
        b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nCache-Control: max-age=60\r\nETag: "a"\r\n\r\nhello'
    )
    cached.stream.lose()
    visitor.hears()
    before = cached.asked
    visitor = cached.ask("/")
    fields = dict(cached.stream.requests()[-1][0].headers)
    assert (fields[b"range"], fields[b"if-range"]) == (b"bytes=5-", b'"a"')
    cached.answer(*says, "Content-Range: bytes 5-9/10", status="206 Partial Content", body=b"world")
    heard = visitor.hears()
    while more := visitor.hears():
        heard += more
    assert heard.startswith(b"HTTP/1.1 200")
    assert heard.endswith(b"helloworld")
    assert cached.asked == before + 1
    assert cached.get().body == b"helloworld"


def test_a_word_for_one_visitor_alone_is_not_said_to_be_stored(cached: CachingHouse) -> None:
    cached.get(reply=("Cache-Control: max-age=60", TAG))
    cached.clock.advance(61)
    got = cached.get("/", "Authorization: Basic eDp5", reply=(TAG,), status="304 Not Modified", body=b"")
    assert (got.status, got.body, got.cache) == (200, b"hello", "wormhole; fwd=stale; fwd-status=304; ttl=-1")
    got = cached.get("/", reply=(TAG,), status="304 Not Modified", body=b"")
    assert got.cache == "wormhole; fwd=stale; fwd-status=304; ttl=60; stored"
