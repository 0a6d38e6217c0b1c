"""Visitors and services that do what is allowed and hardly ever done, and what nobody allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.edge.caching.house import MEMORY, CachingHouse, Kept
from tests.edge.caching.reflecting import FRESH, Reflector
from tests.edge.caching.test_large import LONG, TAGGED, all_of, head_of, serve
from tests.edge.house import judged
from tests.edge.upstreams.web import Web
from wormhole_tw.edge.caching.stores import StoreSettings, make_store
from wormhole_tw.http.caching.keying import IgnoredQuery, Names

EVIL = "evil.example"


def say(house: CachingHouse, *lines: str) -> None:
    """The service answers with a head alone."""
    house.stream.read()
    house.stream.deliver("\r\n".join([*lines, "", ""]).encode())


def half_a_film(house: CachingHouse) -> int:
    """The service leaves in the middle of it.

    :returns: where the rest begins that the next visitor's request asks for
    """
    house.ask("/film")
    serve(house, head_of(len(LONG)) + LONG, upto=100_000)
    house.stream.lose()
    return len(LONG[: 100_000 - len(head_of(len(LONG)))])


def rest(house: CachingHouse, start: int, end: int, fields: str = TAGGED) -> None:
    """What the service says to who asks for the rest."""
    lines = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {end - start}\r\n{fields}\r\n"
    lines += f"Content-Range: bytes {start}-{end - 1}/{len(LONG)}\r\n\r\n"
    serve(house, lines.encode() + LONG[start:end])


# HEAD, which is never kept, and speaks for what is


@pytest.mark.parametrize("field", ["X-Original-URL", "X-Host", "X-Rewrite-URL"])
def test_head_brings_nothing_of_one_visitors_into_what_is_kept(cached: CachingHouse, field: str) -> None:
    def reply(head: Any) -> str:
        told = [value for name, value in head.headers if name.decode() == field.lower()]
        return FRESH + "".join(f"\r\nLink: <//{value.decode()}/x.js>; rel=preload" for value in told)

    service = Reflector(cached, reply)

    def answer(backend: str, head: Any, body: bytes) -> bytes:
        text = "" if head.method == b"HEAD" else "ok"
        return f"HTTP/1.1 200 OK\r\n{reply(head)}\r\nContent-Length: 2\r\n\r\n{text}".encode()

    service.answer = answer  # type: ignore[method-assign]
    service.ask("/page")
    service.ask("/page", f"{field}: {EVIL}", "Cache-Control: no-cache", method="HEAD")
    assert len(service.seen) == 2
    assert "link" not in cached.get("/page").fields


def test_head_with_what_stands_in_no_key(keep: Callable[..., CachingHouse]) -> None:
    house = keep(settings={"ignore_query": IgnoredQuery(Names.of([b"utm_*"]))})
    house.get("/", reply=(FRESH, "Location: /home"), status="301 Moved", body=b"")
    visitor = house.ask(f"/?utm_source={EVIL}", "Cache-Control: no-cache", method="HEAD")
    [*_, (request, _, _)] = house.stream.requests()
    assert request.target == b"/"
    say(house, "HTTP/1.1 301 Moved", "Content-Length: 0", FRESH, f"Location: {request.target.decode()}home")
    visitor.answers([b"HEAD"])
    assert house.get("/").fields["location"] == "/home"


@pytest.mark.parametrize("condition", ['If-None-Match: "new"', "If-Modified-Since: Mon, 23 Nov 2026 04:20:00 GMT"])
def test_a_304_to_a_visitors_own_condition_confirms_nothing(cached: CachingHouse, condition: str) -> None:
    """The visitor has the new one, and the cache the old one."""
    cached.get(reply=("Cache-Control: max-age=60", 'ETag: "old"'), body=b"old")
    cached.clock.advance(61)
    visitor = cached.ask("/", condition, method="HEAD")
    say(cached, "HTTP/1.1 304 Not Modified", "Cache-Control: max-age=60")
    visitor.answers([b"HEAD"])
    assert cached.get("/", reply=("Cache-Control: max-age=60",), body=b"new").body == b"new"


# who waits for the same fetch, and may not be served the same


def test_who_takes_a_stale_answer_and_who_does_not_wait_for_one_fetch(cached: CachingHouse) -> None:
    cached.get(reply=("Cache-Control: max-age=10", 'ETag: "one"'))
    cached.clock.advance(11)
    lenient = cached.ask("/", "Cache-Control: stale-if-error=100")
    strict = [cached.ask() for _ in range(2)]
    assert cached.asked == 2
    cached.answer("Cache-Control: no-store", status="503 No", body=b"sorry")
    assert lenient.answers()[0][0].status_code == 200
    for number in range(2):
        stream = cached.streams[-1 - number]
        if stream.requests() and cached.asked > 2:
            cached.answer("Cache-Control: no-store", status="503 No", body=b"sorry", stream=stream)
    assert [visitor.answers()[0][0].status_code for visitor in strict] == [503, 503]


def test_what_is_refused_to_one_visitor_makes_nobody_else_go_alone(cached: CachingHouse) -> None:
    """A range far behind is its visitor's own question, and its answer says nothing about the whole."""
    visitor = cached.ask("/film", "Range: bytes=99999999-")
    say(cached, "HTTP/1.1 416 No", "Content-Length: 0", "Content-Range: bytes */9")
    assert visitor.answers()[0][0].status_code == 416
    cached.get("/film", reply=("Cache-Control: max-age=60",), body=b"all of it")
    assert cached.get("/film").body == b"all of it"


# the rest of what is kept in part


@pytest.mark.parametrize("fields", [f"{TAGGED}\r\nSet-Cookie: a=b", 'Cache-Control: no-store\r\nETag: "one"'])
def test_a_rest_that_may_not_be_kept_is_given_to_nobody_who_wants_the_whole(cached: CachingHouse, fields: str) -> None:
    start = half_a_film(cached)
    visitors = [cached.ask("/film") for _ in range(2)]
    rest(cached, start, len(LONG), fields)
    asked = [stream for stream in cached.streams if not stream.disconnected][-2:]
    for stream in asked:
        stream.read()
        [*_, (request, _, _)] = stream.requests()
        assert b"range" not in dict(request.headers)
        stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: no-store\r\n\r\nall")
    for visitor in visitors:
        [(head, body)] = visitor.answers()
        assert (head.status_code, body) == (200, b"all")


def test_a_rest_that_is_not_all_of_it(cached: CachingHouse) -> None:
    """A service may send less than it was asked for (RFC 9110 §15.3.7)."""
    start = half_a_film(cached)
    visitor = cached.ask("/film")
    rest(cached, start, start + 1000)
    heard = all_of(visitor)
    assert heard == b""
    [*_, (request, _, _)] = cached.stream.requests()
    assert b"range" not in dict(request.headers)
    serve(cached, head_of(len(LONG)) + LONG)
    assert all_of(visitor).endswith(LONG)


# methods that change nothing


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND"])
def test_a_safe_method_makes_nothing_void(cached: CachingHouse, method: str) -> None:
    """Before a browser of another site's page asks, it asks with OPTIONS whether it may."""
    cached.get("/api", reply=(FRESH,))
    cached.get("/api", method=method, reply=())
    assert cached.get("/api").body == b"hello"


# slow visitors


def test_who_reads_on_is_not_cut_though_others_wait_for_it(keep: Callable[..., CachingHouse]) -> None:
    house = keep(memory=1024 * 1024)
    slow, fast = house.ask("/film"), house.ask("/film")
    serve(house, head_of(None))
    body = LONG * 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (16384, body[at : at + 16384]) for at in range(0, len(body), 16384))
    heard, lagging = b"", b""
    for at in range(0, len(chunks), 16384):
        house.stream.deliver(chunks[at : at + 16384])
        heard += fast.hears()
        if house.stream.paused:
            house.pass_time(2)
            lagging += slow.take(131072)
            heard += all_of(fast)
    assert not slow.disconnected
    house.stream.deliver(b"0\r\n\r\n")
    while more := all_of(slow):
        lagging += more
        heard += all_of(fast)
    assert judged(lagging)[0][1] == judged(heard)[0][1] == body


# what services say twice, or in their own words


def test_a_private_answer_is_one_also_where_it_names_a_field_before(cached: CachingHouse) -> None:
    for _ in range(2):
        got = cached.get(
            "/mine", reply=("Cache-Control: max-age=60", 'Cache-Control: private="X-Me"', "Cache-Control: private")
        )
        assert "stored" not in got.cache.split("; ")
    cached.get("/", reply=('Cache-Control: max-age=60, private="X-A", private="X-B"', "X-A: 1", "X-B: 2"))
    fields = cached.get("/").fields
    assert "x-a" not in fields
    assert "x-b" not in fields


def test_head_tells_of_places_as_visitors_know_them() -> None:
    """An origin names itself in Location; what is kept has the visitor's word for that, also after a HEAD."""
    pages = {"name": "app", "origin": "http://pages.example/base"}
    web = Web(pages, rule={"path": "/", "cache": True})
    web.context.kept = Kept(make_store(StoreSettings(web.reactor, memory=MEMORY)))  # type: ignore[assignment]
    web.catalogs.swap(web.catalog(pages))
    web.names.says["pages.example"] = ["93.184.216.34"]
    answer = "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nCache-Control: max-age=60\r\n"
    answer += "Location: http://pages.example/base/to\r\n\r\n"
    places = []
    for method, extra in (("GET", ""), ("HEAD", "Cache-Control: no-cache\r\n"), ("GET", "")):
        visitor = web.visitor()
        visitor.says(f"{method} /x HTTP/1.1\r\nHost: app.test\r\n{extra}\r\n")
        if len(places) < 2:
            (web.stands() if not places else web.connections[0]).deliver(answer.encode())
        [(head, _)] = visitor.answers([method.encode()])
        places.append(dict(head.headers)[b"location"])
    web.close()
    assert len(set(places)) == 1
    assert b"pages.example" not in places[0]


def test_a_part_that_nobody_asked_for_and_that_is_less_than_was_wanted(cached: CachingHouse) -> None:
    """The service gives ten octets of a hundred to a request for the whole: that is cut where it ends."""
    visitor = cached.ask("/film", "Range: bytes=0-49")
    stream = cached.stream
    say(
        cached,
        "HTTP/1.1 206 Partial Content",
        "Content-Length: 10",
        "Content-Range: bytes 0-9/100",
        'ETag: "one"',
        FRESH,
    )
    assert all_of(visitor).startswith(b"HTTP/1.1 206")
    stream.deliver(b"0123456789")
    assert visitor.disconnected


@pytest.mark.parametrize("other", ["Accept-Encoding: br", "Accept-Encoding: identity", "X-Nothing: 1"])
def test_a_coding_that_vary_does_not_name_is_not_given_to_who_does_not_take_it(
    cached: CachingHouse, other: str
) -> None:
    coded = (FRESH, "Content-Encoding: gzip")
    cached.get("/", "Accept-Encoding: gzip", reply=coded, body=b"in a coding")
    assert cached.get("/", other, reply=(FRESH,), body=b"as it is").body == b"as it is"
    assert cached.get("/", "Accept-Encoding: gzip;q=0.5", reply=None).fields["content-encoding"] == "gzip"


def test_trailers_are_the_first_ones_and_are_not_announced_to_others(cached: CachingHouse) -> None:
    visitor = cached.ask()
    cached.stream.read()
    lines = (
        "HTTP/1.1 200 OK",
        "Transfer-Encoding: chunked",
        "Trailer: X-Sum",
        FRESH,
        "",
        "2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    )
    cached.stream.deliver("\r\n".join(lines).encode())
    assert b"X-Sum: 7" in visitor.hears()
    got = cached.get()
    assert (got.body, got.fields.get("trailer")) == (b"ok", None)


@pytest.mark.parametrize("status", ["428", "429", "431", "511"])
def test_what_is_wrong_with_one_request_is_told_to_nobody_else(cached: CachingHouse, status: str) -> None:
    """RFC 6585: a cache stores none of these, whatever they say."""
    cached.get(reply=("Cache-Control: public, max-age=60",), status=f"{status} No")
    cached.clock.advance(11)
    assert cached.get(reply=("Cache-Control: max-age=60",)).status == 200
    assert cached.get().status == 200
