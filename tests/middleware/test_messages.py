"""Requests, answers, header fields and bodies, as middleware handles them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from wormhole_tw.errors import HttpError, MisuseError
from wormhole_tw.middleware import Body, Headers, Request, Response
from wormhole_tw.middleware.body import Pieces, Pipe, Whole
from wormhole_tw.testing import pieces


def now(awaitable: Any) -> Any:
    """What a coroutine that waits for nothing gives."""

    async def run() -> Any:
        return await awaitable

    results: list[Any] = []
    Deferred.fromCoroutine(run()).addCallbacks(results.append, lambda failure: results.append(failure.value))
    [result] = results
    if isinstance(result, BaseException):
        raise result
    return result


# header fields


def test_names_are_the_same_in_any_case() -> None:
    headers = Headers([("X-One", "1"), ("x-one", "2"), ("Other", "3")])
    assert headers["X-ONE"] == "1, 2"
    assert headers.get_all("x-One") == ["1", "2"]
    assert headers.get("missing") is None
    assert headers.get("missing", "?") == "?"
    assert "X-one" in headers
    assert "missing" not in headers
    assert 1 not in headers
    assert len(headers) == 3
    assert list(headers) == [("X-One", "1"), ("x-one", "2"), ("Other", "3")]
    with pytest.raises(KeyError):
        headers["missing"]


def test_lines_that_cannot_be_joined_by_commas() -> None:
    headers = Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Cookie", "c=3"), ("Cookie", "d=4")])
    assert headers["set-cookie"] == "a=1"
    assert headers["cookie"] == "c=3; d=4"


def test_fields_are_changed_in_their_place() -> None:
    headers = Headers({"A": "1", "B": "2"})
    headers.add("A", "3")
    headers["a"] = " 4 "
    assert list(headers) == [("a", "4"), ("B", "2")]
    assert headers.setdefault("B", "5") == "2"
    assert headers.setdefault("C", "6") == "6"
    del headers["B"]
    with pytest.raises(KeyError):
        del headers["B"]
    headers.remove("B", "c")
    assert list(headers) == [("a", "4")]
    headers.remove_alike("A")
    assert len(headers) == 0


def test_look_alikes_go() -> None:
    headers = Headers.of([(b"X_User", b"1"), (b"x-user", b"2"), (b"X-User-Id", b"3")])
    headers.remove_alike("X-User")
    assert list(headers) == [("X-User-Id", "3")]


def test_members_of_lists_are_added_once() -> None:
    headers = Headers()
    headers.add_to_list("Vary", "Cookie")
    headers.add_to_list("Vary", "cookie", "Accept")
    assert headers["Vary"] == "Cookie, Accept"
    headers["Vary"] = "*"
    headers.add_to_list("Vary", "Cookie")
    assert headers["Vary"] == "*"


def test_copies_and_equals() -> None:
    headers = Headers({"A": "1"})
    copy = headers.copy()
    assert copy == headers == Headers({"a": "1"})
    copy["B"] = "2"
    assert copy != headers
    assert headers != {"A": "1"}
    assert "secret" not in repr(Headers({"Authorization": "secret"}))
    lines = headers.lines()
    lines.clear()
    assert len(headers) == 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("", "x", "no name"),
        ("a b", "x", "no name"),
        ("a:", "x", "no name"),
        ("é", "x", "no name"),
        ("A", "x\r\nB: y", "line end"),
        ("A", "\0", "control character"),
        ("A", "€", "Latin-1"),
        ("Content-Length", "1", "follows from the body"),
        ("transfer-encoding", "chunked", "follows from the body"),
        ("Host", "other", "route and the backend"),
        ("Connection", "close", "one connection"),
    ],
)
def test_what_no_field_can_be(name: str, value: str, words: str) -> None:
    headers = Headers()
    for change in (headers.add, headers.__setitem__, headers.setdefault):
        with pytest.raises(ValueError, match=words):
            change(name, value)
    assert len(headers) == 0


def test_what_is_no_text() -> None:
    with pytest.raises(TypeError):
        Headers({"A": 1})  # type: ignore[dict-item]


# requests


def test_a_request_for_tests_has_what_a_real_one_has() -> None:
    request = Request("POST", "https://site.example/a/b?c=d", headers={"Cookie": 'a=1; b="2"; a=3; =4; five'})
    assert (request.method, request.target, request.path, request.query) == ("POST", "/a/b?c=d", "/a/b", "c=d")
    assert (request.scheme, request.host, request.url) == ("https", "site.example", "https://site.example/a/b?c=d")
    assert request.cookies == {"a": "1", "b": "2"}
    assert repr(request) == "<Request POST /a/b>"
    assert Request("OPTIONS").path == "/"
    assert Request(url="http://[::1]/").url == "http://[::1]/"


def test_the_target_is_changed_whole_or_in_part() -> None:
    request = Request(url="https://site.example/a?b")
    request.path = "/x"
    assert request.target == "/x?b"
    request.query = "y=z"
    assert request.target == "/x?y=z"
    request.query = None
    assert (request.target, request.query) == ("/x", None)
    request.target = "*"
    assert request.url == "https://site.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "G T"),
        ("method", ""),
        ("method", "CONNECT"),
        ("target", "x"),
        ("target", "/a b"),
        ("target", "/ü"),
        ("target", "/a#b"),
        ("target", "/a\r\nX: y"),
        ("path", "/a?b"),
        ("query", "a b"),
    ],
)
def test_what_no_request_can_have(name: str, value: str) -> None:
    with pytest.raises(ValueError):
        setattr(Request(), name, value)


@pytest.mark.parametrize("url", ["/path", "ftp://x/", "https:///x"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="no http or https URL"):
        Request(url=url)


def test_a_copy_is_changed_alone() -> None:
    request = Request(headers={"A": "1"}, body=b"x")
    copy = request.copy()
    copy.headers["A"] = "2"
    copy.path = "/other"
    copy.notes["shared"] = True
    assert (request.headers["A"], request.path) == ("1", "/")
    assert request.notes == {"shared": True}
    assert now(copy.body.read()) == b"x"


# answers


def test_kinds_of_answers() -> None:
    assert (Response().status, Response().reason) == (200, "OK")
    text = Response.text(404, "é")
    assert (text.headers["Content-Type"], now(text.body.read())) == ("text/plain; charset=utf-8", "é".encode())
    assert Response.redirect("/there", 308).headers["Location"] == "/there"
    assert Response(200, b"{}", content_type="application/json").headers["content-type"] == "application/json"
    assert Response(299).reason == ""
    assert Response(304).bodiless
    assert repr(text) == "<Response 404>"


@pytest.mark.parametrize("status", [0, 101, 199, 600, "200", None])
def test_what_is_no_status(status: Any) -> None:
    with pytest.raises(ValueError):
        Response(status)
    with pytest.raises(ValueError):
        Response().status = status


def test_what_is_no_redirect_and_no_body() -> None:
    with pytest.raises(ValueError, match="no redirect"):
        Response.redirect("/", 200)
    with pytest.raises(TypeError, match="not str"):
        Response(200, "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not list"):
        Request(body=[b"x"])  # type: ignore[arg-type]


def test_cookies() -> None:
    response = Response()
    response.set_cookie("a", "1")
    response.set_cookie(
        "b", "2", max_age=5, path=None, domain="x.example", secure=False, http_only=False, same_site=None
    )
    assert response.headers.get_all("Set-Cookie") == [
        "a=1; Path=/; SameSite=Lax; Secure; HttpOnly",
        "b=2; Max-Age=5; Domain=x.example",
    ]
    for wrong in ({"name": "a b"}, {"value": "a;b"}, {"value": "é"}, {"path": "/;x"}, {"domain": "a\r\n"}):
        with pytest.raises(ValueError):
            response.set_cookie(**{"name": "a", "value": "b", **wrong})
    assert len(response.headers) == 2


def test_another_body_keeps_the_trailers_of_what_it_was_made_from() -> None:
    response = Response(200, pieces(b"a"))
    response.trailers.add("X-Sum", "1")
    response.body = pieces(b"b")
    assert response.trailers["X-Sum"] == "1"
    response.body = b"c"
    assert len(response.trailers) == 0


# bodies


def test_a_body_in_memory_is_read_again_and_again() -> None:
    body = Request(body=b"abc").body
    assert body.length == 3
    assert [now(body.read()), now(body.read(3))] == [b"abc", b"abc"]
    with pytest.raises(HttpError):
        now(body.read(2))


def test_a_body_in_pieces_is_read_once_and_kept() -> None:
    body = Response(200, pieces(b"a", b"", b"bc")).body
    assert body.length is None
    assert now(anext(body)) == b"a"
    assert now(body.read()) == b"bc"
    assert now(body.read()) == b"bc"
    with pytest.raises(HttpError) as caught:
        now(Response(200, pieces(b"ab", b"cd")).body.read(3))
    assert caught.value.status == 502


def test_a_pipe_gives_what_comes_and_says_what_was_taken() -> None:
    taken: list[int] = []
    wanted: list[int] = []
    pipe = Pipe(taken.append, 5, lambda: wanted.append(1))
    body = Body(pipe)
    pipe.feed(b"ab")
    assert now(anext(body)) == b"ab"
    assert (taken, wanted, body.length) == ([2], [], 5)
    found: list[Any] = []
    waiting = Deferred.fromCoroutine(anext(body)).addBoth(found.append)  # type: ignore[arg-type]
    assert (found, wanted) == ([], [1])
    with pytest.raises(MisuseError, match="two read"):
        now(anext(body))
    waiting.cancel()
    assert found[0].check(CancelledError)
    pipe.feed(b"cde")
    pipe.finish([(b"X-Sum", b"1")])
    assert now(body.read()) == b"cde"
    assert body.trailers["x-sum"] == "1"


def test_a_pipe_that_fails_says_so_now_and_later() -> None:
    pipe = Pipe(lambda _: None)
    pipe.feed(b"a")
    pipe.fail(ValueError("cut"))
    pipe.fail(ValueError("again"))
    body = Body(pipe)
    assert now(anext(body)) == b"a"
    for _ in range(2):
        with pytest.raises(ValueError, match="cut"):
            now(anext(body))


def test_a_known_length_is_refused_before_it_comes() -> None:
    with pytest.raises(HttpError):
        now(Body(Pipe(lambda _: None, 100)).read(99))


def test_what_is_given_away_is_gone() -> None:
    for source in (Pieces(pieces(b"a")), Pipe(lambda _: None)):
        source.claim()
        with pytest.raises(MisuseError):
            source.claim()
    whole = Whole(b"a")
    whole.claim()
    whole.claim()


def test_a_generator_that_is_not_wanted_any_more_comes_to_its_end() -> None:
    ended: list[bool] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            ended.append(True)

    made = Pieces(endless())
    assert now(made.pull()) == b"x"
    now(made.close())
    assert ended == [True]
    assert now(made.pull()) == b""
    now(Pieces(endless()).close())
