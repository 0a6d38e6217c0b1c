"""``[[sites.routes]]``: what may stand in it, and what is said where something may not."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.conditions import AddressIs, BranchIsThere, HostIs, MethodIs, SchemeIs, Share, ValueIs
from wormhole_tw.control.model import LocalAnswer, Route, Selection
from wormhole_tw.errors import ConfigError
from wormhole_tw.http.regexes import Regex
from wormhole_tw.http.rewriting import PathRewrite, PrefixSwap, Redirect

KEY = "$.sites[0].routes[0]"


def routes(*tables: dict[str, Any], folder: str = "/etc/edge") -> tuple[Route, ...]:
    """The routes of the sample's site, with these in the place of its own."""
    return make(sample(**{"sites.0.routes": list(tables)}), folder=folder).sites[0].routes


def route(**table: Any) -> Route:
    return routes({"backend": "app", **table})[0]


def warnings(*tables: dict[str, Any]) -> tuple[str, ...]:
    return build_catalog(make(sample(**{"sites.0.routes": list(tables)}))).warnings


TO = {"backend": ...}


@pytest.mark.parametrize(
    ("table", "key", "why"),
    [
        ({"backend": ...}, "backend", "missing: a route has a backend, or redirect, respond or maintenance"),
        ({"redirect": {"to": "/x"}}, "redirect", "beside backend: a route does one thing"),
        ({"backend": "nobody"}, "backend", "there is no backend 'nobody'"),
        ({"name": "a b"}, "name", "a name is 1 to 64 letters"),
        ({"path": "docs"}, "path", 'a path begins with "/"'),
        ({"path": "/a", "exact": "/b"}, "exact", "beside path: a route goes by one of"),
        ({"exact": "/a/../b"}, "exact", 'a path without "." and ".."'),
        ({"pattern": "/:a/:a"}, "pattern", "two times a"),
        ({"hosts": []}, "hosts", "empty: leave it out for any"),
        ({"hosts": ["other.test"]}, "hosts[0]", "other.test is none of the site's hostnames"),
        ({"hosts": ["a.b.preview.example.test"]}, "hosts[0]", "is none of the site's hostnames"),
        ({"hosts": ["*.example.test"]}, "hosts[0]", "*.example.test is none of the site's hostnames"),
        ({"hosts": ["a..b"]}, "hosts[0]", "'a..b' is no host name: an empty label"),
        ({"methods": []}, "methods", "empty: leave it out for any"),
        ({"methods": ["get"]}, "methods[0]", "'get' is no method: GET, POST … in capitals"),
        ({"methods": ["GET", "PO ST"]}, "methods[1]", "'PO ST' is no method"),
        ({"methods": ["É"]}, "methods[0]", "is no method"),
        ({"scheme": "ftp"}, "scheme", 'expected one of "http", "https"'),
        ({"addresses": []}, "addresses", "empty: leave it out for any"),
        ({"addresses": ["::ffff:192.0.2.0/120"]}, "addresses[0]", "write 192.0.2.0/24"),
        ({"addresses": ["192.0.2.1/24"]}, "addresses[0]", "no address and no network"),
        ({"headers": [{"name": "a"}]}, "headers[0]", "one of value, matches (an expression) and present"),
        ({"headers": [{"name": "a", "value": "", "present": True}]}, "headers[0]", "one of value, matches"),
        ({"headers": [{"name": "a b", "value": ""}]}, "headers[0].name", "'a b' is no name of a header"),
        (
            {"headers": [{"name": "Client-Cert", "present": True}]},
            "headers[0].name",
            "a visitor may write there what it",
        ),
        ({"percent": 5, "sticky": "header:X-Forwarded-For"}, "sticky", 'has its address: "address"'),
        ({"headers": [{"name": "Host", "value": "a.test"}]}, "headers[0].name", "Host: go by hosts"),
        ({"headers": [{"name": "Transfer-Encoding", "present": True}]}, "headers[0].name", "HTTP/2 has none"),
        ({"headers": [{"name": "X_Forwarded_For", "value": "::1"}]}, "headers[0].name", "go by addresses, scheme or"),
        ({"cookies": [{"name": "", "value": ""}]}, "cookies[0].name", "'' is no name of a cookie"),
        ({"query": [{"name": "", "value": ""}]}, "query[0].name", "'' is no name of a query"),
        ({"query": [{"name": "q", "matches": "(a)\\1"}]}, "query[0].matches", "\\1 is not there"),
        ({"query": [{"nam": "q"}]}, "query[0].nam", "unknown key; did you mean name?"),
        ({"branch": " "}, "branch", "empty: it is the branch of a release"),
        ({"branch": "a", "respond": {}, **TO}, "branch", "without a backend, whose agents would have it"),
        ({"percent": 0}, "percent", "more than 0 and less than 100"),
        ({"percent": 100}, "percent", "more than 0 and less than 100"),
        ({"sticky": "address"}, "sticky", "without percent"),
        ({"percent": 5, "sticky": "cookie"}, "sticky", 'one of "cookie:NAME"'),
        ({"percent": 5, "sticky": "cookie:a=b"}, "sticky", 'one of "cookie:NAME"'),
        ({"percent": 5, "sticky": "query:a"}, "sticky", 'one of "cookie:NAME"'),
        ({"redirect": {"to": "x"}, **TO}, "redirect.to", "a URL with https:// or http://, or a path"),
        ({"redirect": {"to": "javascript:alert(1)"}, **TO}, "redirect.to", "a URL with https:// or http://"),
        ({"redirect": {"to": "//x.test/"}, **TO}, "redirect.to", "two slashes are the beginning of a host name"),
        ({"redirect": {"to": "/a b"}, **TO}, "redirect.to", "a URL of visible ASCII"),
        ({"redirect": {"to": "/a\r\nSet-Cookie: a=b"}, **TO}, "redirect.to", "a URL of visible ASCII"),
        ({"redirect": {"to": "/\\x.test"}, **TO}, "redirect.to", "a URL of visible ASCII"),
        ({"redirect": {"to": "https://u:p@x.test/"}, **TO}, "redirect.to", "without a user and a password"),
        ({"redirect": {"to": "https://*rest/x"}, **TO}, "redirect.to", "no host name"),
        ({"redirect": {"to": "https://:a.x.test/"}, **TO, "pattern": "/:a"}, "redirect.to", "no host name"),
        ({"redirect": {"to": "https:///x"}, **TO}, "redirect.to", "no host name"),
        ({"redirect": {"to": "https://x.test:99999/"}, **TO}, "redirect.to", "no host name"),
        ({"redirect": {"to": "/:id"}, **TO}, "redirect.to", "there is no value for id (there is rest)"),
        ({"redirect": {"to": "/", "status": 304}, **TO}, "redirect.status", "expected one of 301, 302"),
        ({"respond": {"status": 100}, **TO}, "respond.status", "expected a whole number"),
        ({"respond": {"body": "", "file": "x"}, **TO}, "respond.file", "beside body"),
        ({"respond": {"file": "nothing.txt"}, **TO}, "respond.file", "cannot be read"),
        ({"respond": {"status": 204, "body": "x"}, **TO}, "respond.status", "an answer of 204 has no body"),
        ({"respond": {"headers": {"Content-Type": "x"}}, **TO}, "respond.headers.Content-Type", "that is content_type"),
        ({"respond": {"headers": {"Content-Length": "1"}}, **TO}, "respond.headers.Content-Length", "is the edge's"),
        ({"respond": {"content_type": "a\nb"}, **TO}, "respond.content_type", "visible ASCII"),
        ({"maintenance": {"page": "nothing.html"}, **TO}, "maintenance.page", "cannot be read"),
        ({"maintenance": {"retry_after": -1}, **TO}, "maintenance.retry_after", "expected a whole number"),
        ({"strip_prefix": True, "rewrite": "/x"}, "rewrite", "beside strip_prefix"),
        ({"rewrite": ""}, "rewrite", "empty"),
        ({"replace_prefix": ""}, "replace_prefix", "empty"),
        ({"replace_prefix": "x"}, "replace_prefix", 'a path begins with "/"'),
        ({"exact": "/a", "strip_prefix": True}, "strip_prefix", "with path alone"),
        ({"rewrite": "/x/:id"}, "rewrite", "there is no value for id"),
        ({"rewrite": "/x?a b"}, "rewrite", "a query of visible ASCII"),
        ({"rewrite": "/x?a#b"}, "rewrite", "a query of visible ASCII"),
        ({"rewrite": "/x", "respond": {}, **TO}, "rewrite", "without a backend"),
        ({"request_headers": {"set": {"Host": "x"}}}, "request_headers.set.Host", "this header is the edge's"),
        (
            {"request_headers": {"set": {"X-Forwarded-For": "1"}}},
            "request_headers.set.X-Forwarded-For",
            "is the edge's",
        ),
        ({"request_headers": {"remove": ["Content-Length"]}}, "request_headers.remove[0]", "is the edge's"),
        ({"response_headers": {"set": {"Connection": "x"}}}, "response_headers.set.Connection", "is the edge's"),
        ({"response_headers": {"add": {"a b": "x"}}}, "response_headers.add.a b", "is no name of a header"),
        ({"response_headers": {"add": {"a": ["1", "2\r\nx: y"]}}}, "response_headers.add.a", "no line break"),
        ({"response_headers": {"set": {"a": " x"}}}, "response_headers.set.a", "spaces inside only"),
        ({"response_headers": {"set": {"a": "x" * 4097}}}, "response_headers.set.a", "longer than 4096"),
        (
            {"response_headers": {"set": {"A": "x"}, "remove": ["b", "a"]}},
            "response_headers.set.A",
            "it stands in response_headers.remove[1] too",
        ),
        (
            {"response_headers": {"set": {"A": "x"}, "add": {"a": "y"}}},
            "response_headers.add.a",
            "it stands in response_headers.set.A too",
        ),
    ],
)
def test_what_may_not_stand_there(table: dict[str, Any], key: str, why: str) -> None:
    table = {"backend": "app", **table}
    with pytest.raises(ConfigError) as caught:
        routes({name: value for name, value in table.items() if value is not ...})
    assert caught.value.key == f"{KEY}.{key}"
    assert why in caught.value.reason


def test_a_route_may_be_a_backend_alone() -> None:
    found = route()
    assert (found.path, found.kind, found.plain, found.label) == ("/", "prefix", True, "/")
    assert route(name="mine").label == "mine"
    assert route(name="mine").plain


def test_a_pattern_without_names_is_a_path() -> None:
    found = route(pattern="/a/%7Eb")
    assert (found.kind, found.path, found.pattern) == ("exact", "/a/~b", None)


@pytest.mark.parametrize(
    ("table", "answer"),
    [
        ({"respond": {}}, LocalAnswer(200, (), b"")),
        (
            {"respond": {"status": 410, "body": "gone"}},
            LocalAnswer(410, ((b"Content-Type", b"text/plain; charset=utf-8"),), b"gone"),
        ),
        (
            {"respond": {"file": "f.html", "headers": {"X-A": ""}}},
            LocalAnswer(200, ((b"Content-Type", b"text/html; charset=utf-8"), (b"X-A", b"")), b"<p>"),
        ),
        (
            {"respond": {"content_type": "text/x"}},
            LocalAnswer(200, ((b"Content-Type", b"text/x"),), b""),
        ),
    ],
)
def test_a_fixed_answer(tmp_path: Path, table: dict[str, Any], answer: LocalAnswer) -> None:
    (tmp_path / "f.html").write_text("<p>")
    assert routes(table, folder=str(tmp_path))[0].answer == answer


def test_the_page_of_maintenance(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text("{}")
    for page, kind in (("f.json", b"application/json"), ("soon", b"text/plain; charset=utf-8")):
        answer = routes({"maintenance": {"page": page}}, folder=str(tmp_path))[0].answer
        assert isinstance(answer, LocalAnswer)
        assert dict(answer.fields)[b"Content-Type"] == kind


def test_where_a_redirect_leads() -> None:
    answer = routes({"redirect": {"to": "https://New.test?a=*rest"}})[0].answer
    assert isinstance(answer, Redirect)
    assert answer.base == "https://new.test"
    assert answer.location({"rest": "b"}, b"q") == b"https://new.test/?a=b&q"
    answer = routes({"redirect": {"to": "http://[::1]:80/x"}})[0].answer
    assert isinstance(answer, Redirect)
    assert answer.location({}, None) == b"http://[::1]:80/x"


def test_rewrites() -> None:
    assert route(path="/a/", strip_prefix=True).rewrite == PrefixSwap("/a", "")
    assert route(path="/a", replace_prefix="/b/").rewrite == PrefixSwap("/a", "/b")
    assert route(replace_prefix="/b").rewrite == PrefixSwap("", "/b")
    assert route(rewrite="/é?x").rewrite == PathRewrite.of("/%C3%A9?x", ())
    assert route(request_headers={}).request_edits is None


def test_conditions_in_the_order_of_what_they_cost() -> None:
    found = route(
        percent=5,
        sticky="header:X-User",
        branch="canary",
        cookies=[{"name": "c", "present": False}],
        query=[{"name": "q q", "matches": "a+"}],
        headers=[{"name": "X-A", "value": "ä"}],
        addresses=["192.0.2.7", "2001:db8::/32"],
        scheme="http",
        methods=["GET", "X-OTHER"],
        hosts=["app.example.test", "X.preview.example.test.", "*.Preview.example.test"],
    )
    assert found.conditions == (
        HostIs(frozenset({"app.example.test", "x.preview.example.test"}), frozenset({"preview.example.test"})),
        MethodIs(frozenset({b"GET", b"X-OTHER"})),
        SchemeIs("http"),
        AddressIs((ip_network("192.0.2.7/32"), ip_network("2001:db8::/32"))),
        ValueIs("header", b"x-a", "ä".encode()),
        ValueIs("query", b"q q", regex=Regex("a+")),
        ValueIs("cookie", b"c", present=False),
        BranchIsThere("app", "canary"),
        Share(5.0, "header", b"x-user"),
    )
    assert route(percent=2.5, sticky="cookie:Side").conditions == (Share(2.5, "cookie", b"Side"),)
    assert route(percent=2.5, sticky="address").conditions == (Share(2.5, "address"),)
    assert route(percent=2.5).conditions == (Share(2.5),)


def test_routes_of_a_branch_keep_others_away() -> None:
    branch, rest, docs = routes(
        {"branch": "canary", "methods": ["GET"], "backend": "app"},
        {"path": "/a", "backend": "app"},
        {"backend": "docs"},
    )
    assert branch.selection == Selection("canary")
    assert rest.selection == Selection(None, frozenset({"canary"}))
    assert docs.selection is None


def test_a_branch_counts_for_every_site() -> None:
    raw = sample(**{"sites.0.routes": [{"branch": "canary", "backend": "app"}, {"backend": "app"}]})
    raw["sites"].append({"hostnames": ["other.test"], "routes": [{"backend": "app"}]})
    assert make(raw).sites[1].routes[0].selection == Selection(None, frozenset({"canary"}))


@pytest.mark.parametrize(
    "extra",
    [
        {"methods": ["GET"]},
        {"percent": 5},
        {"strip_prefix": True},
        {"headers": [{"name": "a", "present": True}]},
        {"response_headers": {}},
    ],
)
def test_what_passes_through_has_no_rules(extra: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="its one route is a backend alone") as caught:
        make(sample(**{"sites.0.tls": "passthrough", "sites.0.routes": [{"backend": "app", **extra}]}))
    assert caught.value.key == f"{KEY}.{next(iter(extra))}"


def test_what_passes_through_may_say_its_path_and_name() -> None:
    make(sample(**{"sites.0.tls": "passthrough", "sites.0.routes": [{"backend": "app", "path": "/", "name": "x"}]}))


MAINTENANCE: dict[str, Any] = {"maintenance": {}}


@pytest.mark.parametrize(
    ("tables", "shadows"),
    [
        ([{"path": "/a"}, {"path": "/a/b"}], {1: 0}),
        ([{"path": "/a"}, {"exact": "/a"}], {1: 0}),
        ([{"path": "/a"}, {"exact": "/a/b/c"}], {1: 0}),
        ([{"path": "/a/"}, {"exact": "/a"}], {}),
        ([{"exact": "/a"}, {"exact": "/a"}], {1: 0}),
        ([{"exact": "/a/"}, {"exact": "/a/"}], {1: 0}),
        ([{"exact": "/a"}, {"path": "/a"}], {}),
        ([{"path": "/a"}, {"pattern": "/a/:x"}], {1: 0}),
        ([{"path": "/"}, {"pattern": "/:x"}], {1: 0}),
        ([{"path": "/a/b"}, {"pattern": "/a/:x"}], {}),
        ([{"pattern": "/a/:x"}, {"pattern": "/a/:y"}], {1: 0}),
        ([{"pattern": "/a/:x"}, {"pattern": "/a/*y"}], {}),
        ([{"pattern": "/a/:x"}, {"exact": "/a/b"}], {1: 0}),
        ([{"pattern": "/a/:x"}, {"exact": "/a/b/c"}], {}),
        ([{"pattern": "/a/*x"}, {"path": "/a/b"}], {}),  # nobody said that it is complete
        ([{"methods": ["GET"]}, {"methods": ["GET"], "scheme": "http"}, {}], {1: 0}),
        ([{"methods": ["GET"]}, {"methods": ["POST"]}, {}], {}),
        ([{}, {"methods": ["GET"]}], {1: 0}),
        ([{"path": "/a", "methods": ["GET"]}, {"path": "/a/b"}], {}),
        ([{"percent": 5, "sticky": "address"}, {"percent": 5, "sticky": "address"}], {1: 0}),
        ([{"percent": 5}, {"percent": 10}], {}),
        ([{"branch": "x"}, {"branch": "x"}, {"branch": "y"}], {1: 0}),
        ([MAINTENANCE, {"path": "/a"}, {}], {}),
        ([{}, {"path": "/a"}, {"path": "/a/b"}], {1: 0, 2: 0}),
    ],
)
def test_routes_that_can_never_be_reached(tables: list[dict[str, Any]], shadows: dict[int, int]) -> None:
    tables = [table if "maintenance" in table else {"backend": "app", **table} for table in tables]
    found = [line for line in warnings(*tables) if "can never be reached" in line]
    assert len(found) == len(shadows)
    for line, (index, by) in zip(found, shadows.items(), strict=True):
        assert re.search(rf"routes\[{index}\]: .* can never be reached: routes\[{by}\] ", line)


def test_a_backend_that_gets_copies_alone_is_reached() -> None:
    assert warnings({"backend": "app", "mirror": {"backend": "docs"}}) == ()
    assert len(warnings({"backend": "app"})) == 1


def test_urls_are_those_of_backends() -> None:
    catalog = build_catalog(
        make(
            sample(
                **{
                    "sites.0.routes": [
                        {"exact": "/one", "backend": "docs"},
                        {"pattern": "/u/:id", "backend": "docs"},
                        {"hosts": ["x.preview.example.test"], "backend": "docs"},
                        {"hosts": ["*.preview.example.test"], "path": "/w", "backend": "docs"},
                        {"path": "/moved", "redirect": {"to": "/"}},
                        {"backend": "app"},
                    ]
                }
            )
        )
    )
    assert catalog.urls_for("docs") == [
        "https://app.example.test/one",
        "https://*.preview.example.test/one",
        "https://app.example.test/u/",
        "https://*.preview.example.test/u/",
        "https://x.preview.example.test",
        "https://*.preview.example.test/w",
    ]
    assert catalog.urls_for("") == []
    assert catalog.urls_for("app") == ["https://app.example.test", "https://*.preview.example.test"]
