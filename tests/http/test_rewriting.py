"""Other paths: services keep the rules of theirs, and visitors choose no host and inject nothing."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import HttpError
from wormhole_tw.http.patterns import Part, Template
from wormhole_tw.http.rewriting import PathRewrite, PrefixSwap, Redirect
from wormhole_tw.http.targets import normalise_target


@pytest.mark.parametrize(
    ("old", "new", "path", "query", "target"),
    [
        ("/api", "", "/api", None, b"/"),
        ("/api", "", "/api/", None, b"/"),
        ("/api", "", "/api/x", b"q=1", b"/x?q=1"),
        ("/api", "", "/api//x", b"", b"//x?"),
        ("/api", "", "/api/a%2Fb", None, b"/a%2Fb"),
        ("/api", "/v2", "/api", None, b"/v2"),
        ("/api", "/v2", "/api/x/", None, b"/v2/x/"),
        ("", "/app", "/x", None, b"/app/x"),
        ("", "/app", "/", None, b"/app/"),
    ],
)
def test_another_prefix(old: str, new: str, path: str, query: bytes | None, target: bytes) -> None:
    assert PrefixSwap(old, new).target(path, {}, query) == target


@pytest.mark.parametrize(
    ("text", "values", "query", "target"),
    [
        ("/u/:id", {"id": "7"}, None, b"/u/7"),
        ("/u/:id", {"id": "a%2Fb"}, b"q=1", b"/u/a%2Fb?q=1"),
        ("/search?q=:id&all", {"id": "a&b"}, b"p=2", b"/search?q=a%26b&all&p=2"),
        ("/search?q=:id", {"id": "x"}, None, b"/search?q=x"),
        ("/fixed", {}, b"", b"/fixed?"),
    ],
)
def test_another_path(text: str, values: dict[str, str], query: bytes | None, target: bytes) -> None:
    assert PathRewrite.of(text, values).target("/", values, query) == target


def test_a_path_that_climbs_is_refused_behind_a_rewrite_too() -> None:
    rewrite = PathRewrite.of("/.:dot/x", ("dot",))
    with pytest.raises(HttpError) as caught:
        rewrite.target("/", {"dot": "."}, None)
    assert caught.value.status == 400


def test_an_escape_that_comes_of_a_rewrite_is_judged() -> None:
    rewrite = PathRewrite.of("/%2:digit", ("digit",))
    assert rewrite.target("/", {"digit": "F"}, None) == b"/%2F"
    with pytest.raises(HttpError):
        rewrite.target("/", {"digit": "x"}, None)


def redirect(to: str, names: tuple[str, ...] = ("rest",), *, base: str = "", keep_query: bool = True) -> Redirect:
    path, _, query = to.partition("?")
    return Redirect(
        302,
        base,
        Template(path, names, Part.PATH),
        Template(query, names, Part.QUERY),
        Template("", names, Part.QUERY),
        keep_query,
    )


@pytest.mark.parametrize(
    ("made", "values", "query", "location"),
    [
        (redirect("/new/*rest"), {"rest": "a/b"}, b"q=1", b"/new/a/b?q=1"),
        (redirect("/new"), {"rest": ""}, None, b"/new"),
        (redirect("/new", keep_query=False), {"rest": ""}, b"q=1", b"/new"),
        (redirect("/new?a=:rest"), {"rest": "x&y"}, b"q=1", b"/new?a=x%26y&q=1"),
        (redirect("/*rest", base="https://new.test"), {"rest": "/evil.test"}, None, b"https://new.test//evil.test"),
        (redirect("/*rest"), {"rest": "/evil.test"}, None, b"/.//evil.test"),
        (redirect("/*rest"), {"rest": "\\evil.test"}, None, b"/%5Cevil.test"),
        (redirect("/a"), {"rest": ""}, b'q="<\\>^`{|}\xe9', b"/a?q=%22%3C%5C%3E%5E%60%7B%7C%7D%E9"),
    ],
)
def test_where_a_visitor_is_sent(made: Redirect, values: dict[str, str], query: bytes | None, location: bytes) -> None:
    assert made.location(values, query) == location


def test_a_fragment_goes_along() -> None:
    names = ("id",)
    made = Redirect(
        301,
        "",
        Template("/a", names, Part.PATH),
        Template("", names, Part.QUERY),
        Template("x-:id", names, Part.QUERY),
    )
    assert made.location({"id": "a#b"}, b"q") == b"/a?q#x-a%23b"


@given(rest=st.binary(max_size=20), query=st.none() | st.binary(max_size=20))
def test_no_visitor_leaves_the_site_or_the_field(rest: bytes, query: bytes | None) -> None:
    """Whatever a visitor asks for: one line of visible ASCII, and a URL of the same host."""
    try:
        path, _ = normalise_target(b"/" + rest.replace(b"?", b""))
    except HttpError:
        return
    location = redirect("/*rest").location({"rest": path[1:].decode("latin-1")}, query)
    assert all(0x21 <= octet <= 0x7E for octet in location)
    assert b"\\" not in location
    assert urljoin("https://site.test/x", location.decode()).startswith("https://site.test/")
