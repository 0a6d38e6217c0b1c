"""Compressed answers by real programs: an edge, an agent, a service, and curl."""

from __future__ import annotations

import hashlib
import json
import signal
import threading

import pytest

from tests._support import IN_CI, sized
from tests.end_to_end.house import House
from tests.end_to_end.origin import Call, Origin
from tests.http.coding.judges import decoded
from wormhole_tw.http.coding import AVAILABLE, CODINGS

PAGE = b"<!doctype html>\n" + b"<p>The quick brown fox jumps over the lazy dog.</p>\n" * 200
LARGE = json.dumps(
    [{"id": number, "name": f"user {number % 977}"} for number in range(sized(60_000, 600_000))]
).encode()

GIVEN = [coding.decode() for coding in CODINGS if coding in AVAILABLE or IN_CI]


def html(body: bytes, kind: str = "text/html; charset=utf-8") -> object:
    return lambda call: call.answer(body, headers={"Content-Type": kind, "ETag": '"abc"'})


@pytest.fixture
def shop(house: House, origin: Origin) -> House:
    """A site that compresses, but for ``/plain``."""
    origin.routes["/"] = html(PAGE)  # type: ignore[assignment]
    origin.routes["/large"] = html(LARGE, "application/json")  # type: ignore[assignment]
    origin.routes["/plain"] = html(PAGE)  # type: ignore[assignment]
    origin.routes["/picture"] = html(PAGE, "image/png")  # type: ignore[assignment]
    site = house.config["sites"][0]
    site["compress"] = True
    site["routes"].insert(0, {"path": "/plain", "backend": "app", "compress": False})
    site["routes"].insert(0, {"path": "/shared", "backend": "app", "cache": True})
    house.write()
    house.start_edge()
    house.agent("agent", origin.port)
    return house


def said(house: House, *options: str, path: str = "/") -> tuple[dict[str, str], bytes]:
    """The header and the body that curl got, both as they came or as curl decodes them."""
    done = house.curl("--dump-header", "head", *options, house.url(path))
    assert done.returncode == 0, done.stderr
    lines = (house.folder / "head").read_text().split("\n")
    found = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name.lower()] = value.strip()
    return found, done.stdout


def test_what_curl_gets(shop: House, origin: Origin) -> None:
    for version in ("--http1.1", "--http2", "--http1.0"):
        curl_decodes_what_it_gets(shop, version)
    each_coding_is_that_coding(shop)
    a_page_that_curl_has_is_not_sent_again(shop, origin)
    each_coding_is_kept_in_the_cache(shop, origin)


def test_streams(shop: House, origin: Origin) -> None:
    events_are_with_the_visitor_before_the_next_one_is_thought_of(shop, origin)
    an_answer_that_stops_is_not_taken_for_whole(shop, origin)


@pytest.mark.deadline(120)
def test_large_answers_and_a_reload(shop: House) -> None:
    large_answers_at_once_are_right_and_small_ones_pass_them(shop)
    a_reload_switches_it(shop)


def curl_decodes_what_it_gets(shop: House, version: str) -> None:
    for path, body in (("/", PAGE), ("/large", LARGE)):
        head, found = said(shop, version, "--compressed", path=path)
        assert found == body
        assert head["content-encoding"] in GIVEN
        assert head["vary"] == "Accept-Encoding"
        assert head["etag"] == 'W/"abc"'
    for path in ("/plain", "/picture"):
        head, found = said(shop, version, "--compressed", path=path)
        assert found == PAGE
        assert "content-encoding" not in head
        assert "vary" not in head
        assert head["etag"] == '"abc"'


def each_coding_is_that_coding(shop: House) -> None:
    for coding in GIVEN:
        for path, body in (("/", PAGE), ("/large", LARGE)):
            head, found = said(shop, "--header", f"Accept-Encoding: {coding}", path=path)
            assert head["content-encoding"] == coding
            assert len(found) < len(body) / 3
            assert decoded(coding.encode(), found) == body
    head, found = said(shop, path="/")
    assert (found, head["vary"]) == (PAGE, "Accept-Encoding")
    head, _ = said(shop, "--head", "--compressed", path="/")
    assert head["content-encoding"] in GIVEN


def a_page_that_curl_has_is_not_sent_again(shop: House, origin: Origin) -> None:
    def conditional(call: Call) -> None:
        if call.headers.get("If-None-Match") == 'W/"abc"':
            call.send_response(304)
            call.send_header("ETag", '"abc"')
            call.end_headers()
        else:
            call.answer(PAGE, headers={"Content-Type": "text/html", "ETag": '"abc"'})

    origin.routes["/kept"] = conditional
    saved = ("--etag-save", "etag", "--etag-compare", "etag")
    assert said(shop, "--compressed", *saved, path="/kept")[1] == PAGE
    head, found = said(shop, "--compressed", "--write-out", "%{http_code}", *saved, path="/kept")
    assert (found, head["etag"]) == (b"304", 'W/"abc"')


def each_coding_is_kept_in_the_cache(shop: House, origin: Origin) -> None:
    origin.routes["/shared"] = lambda call: call.answer(
        LARGE, headers={"Content-Type": "application/json", "ETag": '"abc"', "Cache-Control": "max-age=600"}
    )
    for turn in ("stored", "hit", "hit"):
        for coding in GIVEN:
            head, found = said(shop, "--header", f"Accept-Encoding: {coding}", path="/shared")
            assert turn in head["cache-status"]
            assert head["content-encoding"] == coding
            assert decoded(coding.encode(), found) == LARGE
    assert origin.calls["/shared"] == len(GIVEN)


def events_are_with_the_visitor_before_the_next_one_is_thought_of(shop: House, origin: Origin) -> None:
    heard = threading.Event()

    def events(call: Call) -> None:
        call.begin_chunks({"Content-Type": "text/event-stream"})
        for number in range(20):
            heard.clear()
            call.chunk(b"data: %d\n\n" % number)
            assert heard.wait(20)
        call.chunk(b"")

    origin.routes["/events"] = events
    for coding in GIVEN:
        with shop.visitor() as visitor:
            visitor.request("GET", "/events", headers={"Accept-Encoding": coding})
            answer = visitor.getresponse()
            assert answer.headers["Content-Encoding"] == coding
            body = b""
            for number in range(20):
                expected = b"".join(b"data: %d\n\n" % past for past in range(number + 1))
                while decoded(coding.encode(), body, cut=True) != expected:
                    piece = answer.read1()
                    assert piece
                    body += piece
                heard.set()
            body += answer.read()
            assert decoded(coding.encode(), body) == expected


def an_answer_that_stops_is_not_taken_for_whole(shop: House, origin: Origin) -> None:
    def stops(call: Call) -> None:
        call.begin_chunks({"Content-Type": "text/html"})
        call.chunk(PAGE)
        call.close_connection = True

    origin.routes["/stops"] = stops
    done = shop.curl("--compressed", shop.url("/stops"))
    assert done.returncode in (18, 52, 56)  # a part, nothing, or a connection that was reset before it was read
    assert PAGE.startswith(done.stdout)


def large_answers_at_once_are_right_and_small_ones_pass_them(shop: House) -> None:
    digest = hashlib.sha256(LARGE).digest()
    wrong: list[object] = []

    def load(coding: str) -> None:
        try:
            with shop.visitor(timeout=100) as visitor:
                for _ in range(sized(2, 20)):
                    visitor.request("GET", "/large", headers={"Accept-Encoding": coding})
                    answer = visitor.getresponse()
                    if hashlib.sha256(decoded(coding.encode(), answer.read())).digest() != digest:
                        wrong.append(coding)
        except Exception as error:  # the test says it
            wrong.append(error)

    visitors = [threading.Thread(target=load, args=(coding,)) for coding in GIVEN * 2]
    for visitor in visitors:
        visitor.start()
    with shop.visitor() as other:
        for _ in range(20):
            assert other.ask("GET", "/plain").body == PAGE
    # one who leaves in the middle disturbs nobody
    leaver = shop.visitor()
    leaver.request("GET", "/large", headers={"Accept-Encoding": GIVEN[-1]})
    leaver.close()
    for visitor in visitors:
        visitor.join(100)
    assert wrong == []
    assert "Traceback" not in shop.edge.output


def a_reload_switches_it(shop: House) -> None:
    shop.config["sites"][0]["compress"] = {"codings": ["gzip"], "types": ["image/png"], "smallest": 100_000}
    shop.config["sites"][0]["routes"][1] = {"path": "/plain", "backend": "app", "compress": {"types": ["text/*"]}}
    shop.write()
    mark = shop.edge.mark()
    shop.edge.send(signal.SIGHUP)
    shop.edge.wait_for("configuration reloaded", after=mark)
    head, found = said(shop, "--compressed", path="/")
    assert (found, head.get("content-encoding")) == (PAGE, None)
    head, found = said(shop, "--compressed", path="/plain")
    assert (found, head.get("content-encoding")) == (PAGE, None)  # the site's smallest is its own, too
