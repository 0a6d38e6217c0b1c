"""Requests at a cache that go well, as conversations between visitors and a service."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.edge.caching.house import CachingHouse
from tests.edge.caching.reflecting import lead

FRESH = ("Cache-Control: max-age=60",)


def test_what_is_fresh_is_answered_without_the_service(cached: CachingHouse) -> None:
    first = cached.get(reply=FRESH)
    assert (first.status, first.body, first.cache) == (200, b"hello", "wormhole; fwd=uri-miss; stored")
    cached.clock.advance(7)
    again = cached.get()
    assert (again.status, again.body) == (200, b"hello")
    assert again.fields["age"] == "7"
    assert again.cache == "wormhole; hit; ttl=53"
    assert again.fields["cache-control"] == "max-age=60"
    assert "wormhole" in again.fields["via"]
    assert [exchange.cache for exchange in cached.done] == ["miss", "hit"]
    assert (cached.counters.miss, cached.counters.hit) == (1, 1)


def test_the_same_second_and_the_next(cached: CachingHouse) -> None:
    cached.get(reply=FRESH)
    visitor = cached.visitor()
    ages = []
    for _ in range(8):
        got = cached.get(visitor=visitor)
        assert got.body == b"hello"
        ages.append(got.fields["age"])
        cached.clock.advance(0.5)
    assert ages == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert cached.counters.hit == 8


def test_what_is_stale_and_has_no_validator_is_fetched_anew(cached: CachingHouse) -> None:
    cached.get(reply=FRESH)
    cached.clock.advance(61)
    got = cached.get(reply=FRESH, body=b"anew")
    assert (got.body, got.cache) == (b"anew", "wormhole; fwd=stale; stored")
    assert cached.get().body == b"anew"


@pytest.mark.parametrize(
    "field",
    ["Cache-Control: no-store", "Cache-Control: private", "Set-Cookie: a=b\r\nCache-Control: max-age=60", "X: y"],
)
def test_what_may_not_be_kept_is_not(cached: CachingHouse, field: str) -> None:
    for _ in range(3):
        got = cached.get(reply=(field,))
        assert got.body == b"hello"
        assert "stored" not in got.cache


def test_a_route_without_a_cache_has_none(cached: CachingHouse) -> None:
    for _ in range(2):
        got = cached.get("/off/x", reply=FRESH)
        assert got.cache == ""
    assert [exchange.cache for exchange in cached.done] == ["", ""]


def test_head_is_answered_from_what_get_brought(cached: CachingHouse) -> None:
    cached.get(reply=FRESH)
    got = cached.get(method="HEAD")
    assert (got.status, got.body, got.fields["content-length"]) == (200, b"", "5")
    assert got.cache.startswith("wormhole; hit")


def test_head_alone_stores_nothing(cached: CachingHouse) -> None:
    visitor = cached.ask(method="HEAD")
    cached.stream.read()
    cached.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Control: max-age=60\r\n\r\n")
    assert len(visitor.answers([b"HEAD"])) == 1
    assert cached.get(reply=FRESH).cache == "wormhole; fwd=uri-miss; stored"


def test_equal_misses_fetch_once(cached: CachingHouse) -> None:
    visitors = [cached.ask("/big") for _ in range(1000)]
    assert cached.asked == 1
    cached.answer(*FRESH)
    for visitor in visitors:
        [(head, body)] = visitor.answers()
        assert (head.status_code, body) == (200, b"hello")
    assert cached.asked == 1
    assert (cached.counters.miss, cached.counters.collapsed) == (1, 999)


def test_equal_misses_go_on_alone_where_the_answer_cannot_be_kept(cached: CachingHouse) -> None:
    visitors = [cached.ask("/mine") for _ in range(5)]
    assert cached.asked == 1
    cached.answer("Cache-Control: private", body=b"0")
    assert cached.asked == 5
    for number, stream in enumerate(cached.streams):
        stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nCache-Control: private\r\n\r\n%d" % (number + 1))
    bodies = [visitor.answers()[0][1] for visitor in visitors]
    assert len(set(bodies)) == 5
    # for a while nobody waits for anybody there
    more = [cached.ask("/mine") for _ in range(2)]
    assert cached.asked == 7
    for stream in cached.streams:
        stream.lose()
    for visitor in more:
        visitor.hears()


def test_many_read_an_answer_while_it_comes(cached: CachingHouse) -> None:
    visitors = [cached.ask("/film") for _ in range(20)]
    stream = cached.stream
    stream.read()
    stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nCache-Control: max-age=60\r\n\r\n")
    heard = [b""] * len(visitors)
    for part in range(30):
        stream.deliver(bytes([part]) * 10000)
        for number, visitor in enumerate(visitors):
            heard[number] += visitor.hears()
    body = b"".join(bytes([part]) * 10000 for part in range(30))
    for one in heard:
        assert one.endswith(body)
        assert one.count(b"HTTP/1.1 200") == 1
    assert cached.asked == 1
    late = cached.ask("/film")
    got = late.hears()
    while not got.endswith(body):
        more = late.hears()
        assert more
        got += more
    assert cached.asked == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "FOO"])
def test_an_unsafe_method_makes_void(cached: CachingHouse, method: str) -> None:
    cached.get("/a", reply=FRESH)
    cached.clock.advance(1)
    got = cached.get("/a", "Content-Length: 0", method=method, reply=())
    assert got.cache == "wormhole; fwd=method"
    assert cached.done[-1].cache == "bypass"
    assert cached.get("/a", reply=FRESH).cache == "wormhole; fwd=uri-miss; stored"


@pytest.mark.parametrize("visitors", [1, 3])
def test_an_unsafe_method_on_a_route_without_a_cache_makes_void(cached: CachingHouse, visitors: int) -> None:
    """Who reads a page and who changes it may take different routes."""
    lead(
        cached,
        {
            "name": "app",
            "hostnames": ["app.test"],
            "routes": [
                {"path": "/page", "methods": ["GET"], "backend": "app", "cache": {"ignore_query": ["utm_*"]}},
                {"path": "/made", "backend": "app", "cache": True},
                {"backend": "app"},
            ],
        },
        {"name": "other", "hostnames": ["other.test"], "routes": [{"backend": "other"}]},
    )
    for target in ("/page?a=1", "/made?utm_a=1"):
        cached.get(target, reply=FRESH)
    cached.get("/elsewhere", "Content-Length: 0", method="POST", reply=())
    cached.get("/page?a=1", "Content-Length: 0", method="POST", reply=(), status="403 No")
    cached.get("/page?a=1", "Content-Length: 0", host="other.test", method="POST", reply=())
    cached.get("/page?a=1")
    cached.clock.advance(1)
    visitor = cached.visitor()
    for _ in range(visitors):
        got = cached.get("/page?utm_a=2&a=1", method="DELETE", reply=("Location: /made?utm_a=1",), visitor=visitor)
    assert (got.status, got.cache, cached.done[-1].cache) == (200, "", "")
    cached.get("/page?a=1", reply=FRESH)
    cached.get("/made?utm_a=1", reply=FRESH)


def test_an_unsafe_method_that_fails_makes_nothing_void(cached: CachingHouse) -> None:
    cached.get("/a", reply=FRESH)
    cached.get("/a", "Content-Length: 0", method="POST", reply=(), status="500 No")
    assert cached.get("/a").cache.startswith("wormhole; hit")


def test_what_location_names_is_void_too(cached: CachingHouse) -> None:
    cached.get("/made", reply=FRESH)
    cached.get("/kept", reply=FRESH)
    cached.clock.advance(1)
    cached.get("/a", "Content-Length: 0", method="POST", reply=("Location: /made",), status="201 Created")
    cached.get("/kept")
    cached.get("/made", reply=FRESH)


def test_a_purge_holds_from_the_next_request_on(cached: CachingHouse) -> None:
    purges = cached.context.cache.purges
    cached.get("/a", reply=FRESH)
    cached.get("/b", reply=(*FRESH, "Surrogate-Key: one two"))
    cached.get("/c", reply=FRESH)
    purges.add("url", "app", b"/a", cached.clock.seconds())
    cached.get("/a", reply=FRESH)
    cached.get("/b")
    purges.add("tag", "app", b"two", cached.clock.seconds())
    cached.get("/b", reply=FRESH)
    cached.get("/c")
    purges.add("site", "other", b"", cached.clock.seconds())
    cached.get("/c")
    purges.add("site", "app", b"", cached.clock.seconds())
    for target in ("/a", "/b", "/c"):
        cached.get(target, reply=FRESH)


def test_only_if_cached(cached: CachingHouse) -> None:
    got = cached.get("/a", "Cache-Control: only-if-cached")
    assert (got.status, got.fields["x-wormhole-error"]) == (504, "not-cached")
    cached.get("/a", reply=FRESH)
    assert cached.get("/a", "Cache-Control: only-if-cached").status == 200


def test_conditions_and_ranges_leave_nothing_behind(cached: CachingHouse) -> None:
    """What one asked for in another way is not what the next one gets within the same second."""
    cached.get(reply=(*FRESH, 'ETag: "one"'))
    for _ in range(2):
        assert cached.get("/", 'If-None-Match: "one"').status == 304
        assert cached.get("/", "Range: bytes=1-2").body == b"el"
        assert cached.get("/", "Range: bytes=9-").status == 416
        assert cached.get("/", 'If-None-Match: "two"').body == b"hello"
        assert cached.get("/", method="HEAD").body == b""
        assert cached.get("/", "Cache-Control: max-age=5").body == b"hello"
        got = cached.get()
        assert (got.status, got.body) == (200, b"hello")
    assert {exchange.cache for exchange in cached.done[1:]} == {"hit"}


def test_upgrades_and_expectations_pass(cached: CachingHouse) -> None:
    cached.get("/live", reply=FRESH)
    visitor = cached.ask(
        "/live",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert cached.asked == 2
    cached.stream.read()
    cached.stream.deliver(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello"
    )
    heard = visitor.hears()
    assert heard.startswith(b"HTTP/1.1 101")
    assert heard.endswith(b"hello")
    visitor.lose()
    assert cached.done[-1].cache == "bypass"
    assert cached.get("/live").cache.startswith("wormhole; hit")


def test_visitors_get_errors_of_the_edge_while_they_wait(cached: CachingHouse) -> None:
    visitors = [cached.ask("/x") for _ in range(3)]
    cached.sessions[0].die()
    for visitor in visitors:
        [(head, _)] = visitor.answers()
        assert head.status_code == 502
        fields = dict(head.headers)
        assert fields[b"x-wormhole-error"] == b"agent-lost"
        assert fields[b"cache-status"].startswith(b"wormhole; fwd=uri-miss")
    assert {exchange.cache for exchange in cached.done} == {"miss"}


def test_a_service_that_takes_too_long_is_no_ones_answer(keep: Callable[..., CachingHouse]) -> None:
    house = keep(first_byte=5)
    visitors = [house.ask("/x") for _ in range(3)]
    house.pass_time(6)
    assert [visitor.answers()[0][0].status_code for visitor in visitors] == [504] * 3
    assert house.context.cache.running_count == 0
