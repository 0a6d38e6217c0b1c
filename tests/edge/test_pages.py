"""Pages of the edge's own answers: which kind, what is in them, whose they are."""

from __future__ import annotations

import json

import pytest

from tests.edge.house import House
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import Backend, ErrorPages, Route, Site
from wormhole_tw.edge.pages import MAX_RANGES, accept_of, chosen_kind, error_page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text"),
        ("", "text"),
        ("*/*", "text"),
        (BROWSER, "html"),
        ("application/json", "json"),
        ("application/json, text/plain, */*", "text"),
        ("application/json;q=0.9, text/plain;q=0.1", "json"),
        ("TEXT/HTML ; Q=0.5, application/json;q=0.4", "html"),
        ("text/*;q=0.3, application/json;q=0.2", "text"),
        ("text/*, text/plain;q=0", "html"),
        ("application/*", "json"),
        ("image/png", "text"),
        ("text/html;q=0, */*;q=0.1", "text"),
        ("text/html;q=nonsense", "html"),
        ("text/plain;q=0.4, text/html;level=1;q=0.5", "html"),
        (",;,;;q=1,,", "text"),
        ("x," * MAX_RANGES + "text/html", "text"),
    ],
)
def test_the_kind(accept: str | None, kind: str) -> None:
    assert chosen_kind(accept) == kind


def test_a_sites_own_kind_wins_where_it_makes_no_difference() -> None:
    assert chosen_kind(None, ("html",)) == "html"
    assert chosen_kind("*/*", ("html",)) == "html"
    assert chosen_kind("application/json, */*;q=0.1", ("html",)) == "json"


def test_accept_on_several_lines() -> None:
    assert accept_of([(b"Host", b"x"), (b"ACCEPT", b"a/b"), (b"Accept", b"c/d")]) == "a/b,c/d"
    assert accept_of([(b"Expect", b"x"), (b"Cookie", b"x")]) is None


def test_pages() -> None:
    kind, page = error_page(404, "Not Found", "no-route", "Nothing there.", b"id-1", "application/json", None)
    assert kind == b"application/json"
    assert json.loads(page) == {"status": 404, "error": "no-route", "message": "Nothing there.", "request_id": "id-1"}
    kind, page = error_page(404, "Not Found", "no-route", "Nothing there.", b"id-1", BROWSER, None)
    assert kind == b"text/html; charset=utf-8"
    assert b"404 Not Found" in page
    assert b"id-1" in page
    kind, page = error_page(404, "Not Found", "no-route", "Nothing there.", b"id-1", None, None)
    assert (kind, page) == (
        b"text/plain; charset=utf-8",
        b"404 Not Found\n\nNothing there.\n(no-route)\nrequest id-1\n",
    )
    assert b"request" not in error_page(404, "Not Found", "no-route", "Nothing.", b"", None, None)[1]


def test_own_pages() -> None:
    own = ErrorPages({("5xx", "html"): b"<p>{status} {reason} {request_id} {message} {other}</p>"})
    kind, page = error_page(503, "X", "no-agent", "Not now.", b"id-1", BROWSER, own)
    assert (kind, page) == (b"text/html; charset=utf-8", b"<p>503 no-agent id-1 Not now. {other}</p>")
    assert error_page(404, "X", "no-route", "", b"", BROWSER, own)[1].startswith(b"<!doctype html>")
    assert error_page(503, "X", "no-agent", "", b"", "application/json", own)[0] == b"application/json"


@pytest.fixture
def house() -> House:
    house = House(agents=0)
    pages = ErrorPages({("404", "text"): b"mine {request_id}", ("5xx", "text"): b"soon {request_id}"})
    site = Site("app", ("app.test",), (Route("app", "/a", "app"),), pages)
    house.catalogs.swap(Catalog([site], [Backend("app")]))
    return house


def test_a_site_shows_its_own(house: House) -> None:
    visitor = house.visitor()
    visitor.says("GET /b HTTP/1.1\r\nHost: app.test\r\n\r\nGET /a HTTP/1.1\r\nHost: app.test\r\n\r\n")
    visitor.says("GET /b HTTP/1.1\r\nHost: other.test\r\n\r\n")
    answers = visitor.answers()
    ids = [dict(head.headers)[b"x-request-id"] for head, _ in answers]
    assert [exchange.request_id for exchange in house.done] == ids
    assert len(set(ids)) == 3
    assert [body for _, body in answers][:2] == [b"mine " + ids[0], b"soon " + ids[1]]
    assert answers[2][1].startswith(b"404 Not Found")
    assert [exchange.site for exchange in house.done] == ["app", "app", ""]
    house.close()


def test_a_refused_head_has_a_name_too() -> None:
    house = House()
    visitor = house.visitor()
    visitor.says("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    ((head, body),) = visitor.answers()
    assert head.status_code == 400
    assert house.done[0].request_id in body
    house.close()


def test_no_page_repeats_what_was_sent() -> None:
    house = House(agents=0)
    visitor = house.visitor()
    visitor.says("GET /<script> HTTP/1.1\r\nHost: app.test\r\nX: <script>\r\nAccept: text/html\r\n\r\n")
    ((_, body),) = visitor.answers()
    assert b"script" not in body
    house.close()
