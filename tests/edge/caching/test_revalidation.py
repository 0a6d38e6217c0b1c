"""Answers whose time is over: the origin's word, or what is served without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.edge.caching.house import CachingHouse

TAGGED = ("Cache-Control: max-age=60", 'ETag: "one"')
NOT_MODIFIED = "304 Not Modified"


def request_of(house: CachingHouse) -> dict[str, str]:
    [*_, (head, _, _)] = house.stream.requests()
    return {name.decode(): value.decode() for name, value in head.headers}


def confirm(house: CachingHouse, *fields: str) -> None:
    house.stream.read()
    house.stream.deliver("\r\n".join([f"HTTP/1.1 {NOT_MODIFIED}", *fields, "", ""]).encode())


def test_what_is_stale_is_revalidated(cached: CachingHouse) -> None:
    cached.get(reply=(*TAGGED, "X-A: 1"))
    cached.clock.advance(61)
    visitor = cached.ask()
    assert request_of(cached)["if-none-match"] == '"one"'
    confirm(cached, "Cache-Control: max-age=100", "X-A: 2", 'ETag: "one"')
    [(head, body)] = visitor.answers()
    fields = dict(head.headers)
    assert (head.status_code, body, fields[b"x-a"]) == (200, b"hello", b"2")
    assert fields[b"cache-status"] == b"wormhole; fwd=stale; fwd-status=304; ttl=100; stored"
    assert cached.done[-1].cache == "revalidated"
    # the connection to the service was not lost by that
    streams = len(cached.streams)
    cached.get("/other", reply=TAGGED)
    assert len(cached.streams) == streams
    cached.clock.advance(90)
    assert cached.get().fields["x-a"] == "2"


def test_many_wait_for_one_revalidation(cached: CachingHouse) -> None:
    cached.get(reply=TAGGED)
    cached.clock.advance(61)
    visitors = [cached.ask() for _ in range(10)]
    assert cached.asked == 2
    confirm(cached, *TAGGED)
    for visitor in visitors:
        [(head, body)] = visitor.answers()
        assert (head.status_code, body) == (200, b"hello")
    assert cached.asked == 2
    assert [exchange.cache for exchange in cached.done] == ["miss", *["revalidated"] * 10]


def test_a_revalidation_brings_another_answer(cached: CachingHouse) -> None:
    cached.get(reply=TAGGED)
    cached.clock.advance(61)
    got = cached.get(reply=("Cache-Control: max-age=60", 'ETag: "two"'), body=b"other")
    assert (got.body, got.cache) == (b"other", "wormhole; fwd=stale; stored")
    assert cached.get().body == b"other"


def test_a_304_of_something_else_is_asked_again_without_conditions(cached: CachingHouse) -> None:
    cached.get(reply=TAGGED)
    cached.clock.advance(61)
    visitors = [cached.ask() for _ in range(3)]
    confirm(cached, 'ETag: "nobody asked"')
    assert "if-none-match" not in request_of(cached)
    cached.answer(*TAGGED, body=b"whole")
    for visitor in visitors:
        assert visitor.answers()[0][1] == b"whole"
    assert cached.asked == 3


def test_visitors_own_conditions_are_judged_here(cached: CachingHouse) -> None:
    visitor = cached.ask("/", 'If-None-Match: "one"', "If-Modified-Since: Mon, 23 Nov 2026 04:20:00 GMT")
    fields = request_of(cached)
    assert "if-none-match" not in fields
    assert "if-modified-since" not in fields
    cached.answer(*TAGGED)
    [(head, body)] = visitor.answers()
    assert (head.status_code, body) == (304, b"")
    assert cached.get("/", 'If-None-Match: "one"').status == 304
    assert cached.get("/", 'If-None-Match: "other"').status == 200
    cached.clock.advance(61)
    visitor = cached.ask("/", 'If-None-Match: "other"')
    assert request_of(cached)["if-none-match"] == '"one"'
    confirm(cached, *TAGGED)
    assert visitor.answers()[0][0].status_code == 200


def test_no_cache_asks_the_origin_although_it_is_fresh(cached: CachingHouse) -> None:
    cached.get(reply=TAGGED)
    visitor = cached.ask("/", "Cache-Control: no-cache")
    assert request_of(cached)["if-none-match"] == '"one"'
    confirm(cached, *TAGGED)
    [(head, _)] = visitor.answers()
    assert b"fwd=request" in dict(head.headers)[b"cache-status"]


def test_stale_while_revalidate(cached: CachingHouse) -> None:
    cached.get(reply=("Cache-Control: max-age=10, stale-while-revalidate=30", 'ETag: "one"'))
    cached.clock.advance(11)
    visitors = [cached.ask() for _ in range(5)]
    for visitor in visitors:
        [(head, body)] = visitor.answers()
        assert (head.status_code, body) == (200, b"hello")
        assert dict(head.headers)[b"cache-status"] == b"wormhole; hit; ttl=-1"
    assert [exchange.cache for exchange in cached.done] == ["miss", *["stale"] * 5]
    # one asks behind their backs
    assert cached.asked == 2
    assert request_of(cached)["if-none-match"] == '"one"'
    cached.answer("Cache-Control: max-age=10", body=b"new")
    assert cached.get().body == b"new"


def test_a_revalidation_behind_goes_on_when_its_visitor_has_left(cached: CachingHouse) -> None:
    cached.get(reply=("Cache-Control: max-age=10, stale-while-revalidate=30",))
    cached.clock.advance(11)
    visitor = cached.ask()
    visitor.answers()
    visitor.lose()
    cached.answer("Cache-Control: max-age=10", body=b"new")
    assert cached.get().body == b"new"


def test_a_revalidation_behind_that_never_ends_is_given_up(cached: CachingHouse) -> None:
    cached.get(reply=("Cache-Control: max-age=10, stale-while-revalidate=3000",))
    cached.clock.advance(11)
    cached.ask().answers()
    cached.stream.read()
    cached.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nCache-Control: max-age=60\r\n\r\nx")
    cached.pass_time(61)
    assert cached.stream.aborted
    assert cached.context.cache.running_count == 0


@pytest.mark.parametrize("how", ["500", "502", "503", "504", "lost", "nobody"])
def test_stale_if_error(cached: CachingHouse, how: str) -> None:
    cached.get(reply=("Cache-Control: max-age=10, stale-if-error=100", 'ETag: "one"'))
    cached.clock.advance(11)
    if how == "nobody":
        cached.sessions[0].die()
        visitors = [cached.ask() for _ in range(3)]
    else:
        visitors = [cached.ask() for _ in range(3)]
        cached.stream.read()
        if how == "lost":
            for _ in range(3):
                cached.stream.lose()
        else:
            cached.answer(status=f"{how} No", body=b"sorry")
    for visitor in visitors:
        [(head, body)] = visitor.answers()
        assert (head.status_code, body) == (200, b"hello")
        said = dict(head.headers)[b"cache-status"]
        assert said.startswith(
            b"wormhole; %b; ttl=-1" % (b"fwd=stale; fwd-status=" + how.encode() if how.isdigit() else b"hit")
        )
    assert {exchange.cache for exchange in cached.done[1:]} == {"stale"}
    cached.clock.advance(100)
    if how != "nobody":
        got = cached.get(reply=(), status="503 No", body=b"sorry")
        assert (got.status, got.body) == (503, b"sorry")


@pytest.mark.parametrize("how", ["503", "lost", "nobody"])
def test_stale_if_error_for_head(cached: CachingHouse, how: str) -> None:
    """Who watches a site by HEAD is told what visitors are."""
    cached.get(reply=("Cache-Control: max-age=10, stale-if-error=100", 'ETag: "one"'))
    cached.clock.advance(11)
    if how == "nobody":
        cached.sessions[0].die()
    visitor = cached.ask(method="HEAD")
    if how == "lost":
        cached.stream.read()
        for _ in range(3):
            cached.stream.lose()
    elif how == "503":
        cached.stream.read()
        cached.stream.deliver(b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\n")
    [(head, body)] = visitor.answers([b"HEAD"])
    said = dict(head.headers)
    assert (head.status_code, body, said[b"content-length"], said[b"etag"]) == (200, b"", b"5", b'"one"')
    assert said[b"cache-status"].startswith(
        b"wormhole; fwd=stale; fwd-status=503; ttl=-1" if how == "503" else b"wormhole; hit; ttl=-1"
    )
    assert cached.done[-1].cache == "stale"


def test_a_head_that_the_service_answers_speaks_for_what_could_be_served_stale(cached: CachingHouse) -> None:
    cached.get(reply=("Cache-Control: max-age=10, stale-if-error=100", 'ETag: "one"'))
    cached.clock.advance(11)
    visitor = cached.ask(method="HEAD")
    cached.stream.read()
    cached.stream.deliver(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Control: max-age=10\r\nETag: "one"\r\n\r\n')
    [(head, body)] = visitor.answers([b"HEAD"])
    assert (head.status_code, body) == (200, b"")
    assert dict(head.headers)[b"cache-status"] == b"wormhole; fwd=stale"
    assert dict(head.headers)[b"content-length"] == b"5"
    assert cached.get().body == b"hello", "it is fresh again"
    cached.clock.advance(11)
    cached.get(reply=("Cache-Control: max-age=10, stale-if-error=100", 'ETag: "two"'))
    cached.clock.advance(11)
    visitor = cached.ask(method="HEAD")
    cached.stream.read()
    cached.stream.deliver(b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\n")
    assert visitor.answers([b"HEAD"])[0][0].status_code == 404
    assert cached.get(reply=(), status="503 No", body=b"sorry").status == 503, "it is gone"


def test_an_error_reaches_visitors_where_nothing_stale_may_be_served(cached: CachingHouse) -> None:
    cached.get(reply=("Cache-Control: max-age=10, must-revalidate", 'ETag: "one"'))
    cached.clock.advance(11)
    visitors = [cached.ask() for _ in range(2)]
    cached.sessions[0].die()
    for visitor in visitors:
        [(head, _)] = visitor.answers()
        assert head.status_code in (502, 503)


def test_policy_says_how_long_stale_answers_are_served(keep: Callable[..., CachingHouse]) -> None:
    house = keep(policy={"stale_if_error": 50, "stale_while_revalidate": 5})
    house.get(reply=("Cache-Control: max-age=10", 'ETag: "one"'))
    house.clock.advance(12)
    house.ask().answers()
    assert house.done[-1].cache == "stale"
    house.answer(status="503 No")
    house.clock.advance(20)
    visitor = house.ask()
    house.answer(status="503 No")
    assert visitor.answers()[0][0].status_code == 200


def test_an_answer_to_head_speaks_for_what_is_kept(cached: CachingHouse) -> None:
    cached.get(reply=TAGGED)
    cached.clock.advance(61)
    visitor = cached.ask(method="HEAD")
    cached.stream.read()
    cached.stream.deliver(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Control: max-age=60\r\nETag: "one"\r\n\r\n')
    assert visitor.answers([b"HEAD"])[0][0].status_code == 200
    assert cached.get().body == b"hello"
    cached.clock.advance(61)
    visitor = cached.ask(method="HEAD")
    cached.stream.read()
    cached.stream.deliver(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nCache-Control: max-age=60\r\nETag: "two"\r\n\r\n')
    visitor.answers([b"HEAD"])
    assert cached.get(reply=TAGGED, body=b"different").cache == "wormhole; fwd=uri-miss; stored"


def test_variants_lie_side_by_side(cached: CachingHouse) -> None:
    vary = ("Cache-Control: max-age=60", "Vary: Accept-Language")
    cached.get("/", "Accept-Language: de", reply=vary, body=b"hallo")
    got = cached.get("/", "Accept-Language: fr", reply=vary, body=b"salut")
    assert "fwd=vary-miss" in got.cache
    for _ in range(2):
        assert cached.get("/", "Accept-Language: de").body == b"hallo"
        assert cached.get("/", "Accept-Language: fr").body == b"salut"


def test_who_waits_for_another_variant_gets_its_own(cached: CachingHouse) -> None:
    vary = ("Cache-Control: max-age=60", "Vary: Accept-Language")
    german = [cached.ask("/", "Accept-Language: de") for _ in range(3)]
    french = [cached.ask("/", "Accept-Language: fr") for _ in range(3)]
    assert cached.asked == 1
    cached.answer(*vary, body=b"hallo")
    assert cached.asked == 2
    cached.answer(*vary, body=b"salut")
    assert [visitor.answers()[0][1] for visitor in german + french] == [b"hallo"] * 3 + [b"salut"] * 3
    assert cached.asked == 2


def test_vary_star_is_never_shared(cached: CachingHouse) -> None:
    visitors = [cached.ask("/x") for _ in range(2)]
    cached.answer("Cache-Control: max-age=60", "Vary: *", body=b"1")
    assert cached.asked == 2
    cached.streams[-1].read()
    for stream in cached.streams:
        stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nVary: *\r\n\r\n2")
    assert sorted(visitor.answers()[0][1] for visitor in visitors) == [b"1", b"2"]


def test_a_304_that_forbids_to_keep_what_it_confirms(cached: CachingHouse) -> None:
    cached.get(reply=TAGGED)
    cached.clock.advance(61)
    visitor = cached.ask()
    confirm(cached, "Cache-Control: no-store", 'ETag: "one"')
    assert cached.asked == 3
    cached.answer("Cache-Control: no-store", body=b"whole")
    assert visitor.answers()[0][1] == b"whole"
    cached.get(reply=TAGGED)


def test_a_304_for_a_variant_that_another_wants_not(cached: CachingHouse) -> None:
    """Two who wait for one revalidation, and the answer says anew what it depends on."""
    cached.get("/", "Accept-Language: de", reply=TAGGED)
    cached.clock.advance(61)
    german, french = cached.ask("/", "Accept-Language: de"), cached.ask("/", "Accept-Language: fr")
    assert cached.asked == 2
    confirm(cached, *TAGGED, "Vary: Accept-Language")
    assert german.answers()[0][1] == b"hello"
    assert cached.asked == 3
    cached.answer(*TAGGED, "Vary: Accept-Language", body=b"salut")
    assert french.answers()[0][1] == b"salut"


def test_a_location_that_is_none_makes_nothing_void(cached: CachingHouse) -> None:
    cached.get("/a", reply=TAGGED)
    cached.clock.advance(1)
    for location in ("/../..", "//other.test/a", "http://app.test:81/a", "http://other.test/a", "%zz"):
        cached.get("/b", "Content-Length: 0", method="POST", reply=(f"Location: {location}",), status="201 Created")
    cached.get("/a")
