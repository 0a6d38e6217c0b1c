"""Routes that are more than prefixes, as visitors meet them over HTTP/1 and HTTP/2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.edge.h2_visitor import WEBSOCKET, H2Visitor
from tests.edge.house import House
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.model import Release
from wormhole_tw.control.tokens import digest_line
from wormhole_tw.wire.messages import TlsFacts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: s\r\n\r\nok"


def lead(house: House, *routes: dict[str, Any], **site: Any) -> None:
    """Give ``app.test`` these routes; behind them everything goes to the backend ``app``."""
    raw = {
        "edge": {"names": ["edge.test"], "https": ["tcp:8443"]},
        "backends": [{"name": name, "tokens": [digest_line(name)]} for name in ("app", "docs")],
        "sites": [
            {
                "name": "app",
                "hostnames": ["app.test", "*.wild.test"],
                "routes": [*routes, {"backend": "app"}],
                **site,
            }
        ],
    }
    house.catalogs.swap(build_catalog(EdgeConfig.from_dict(raw, folder=Path("/nowhere"), hostname="machine")))


def ask(
    house: House, target: str = "/", *lines: str, method: str = "GET", host: str = "app.test", **facts: Any
) -> tuple[int, dict[bytes, bytes], bytes]:
    """What a new visitor is told; a service that is asked answers 200."""
    visitor = house.visitor(**facts)
    visitor.says("\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", "Content-Length: 0", *lines, "", ""]))
    for session in house.sessions:
        for stream in session.streams:
            if not stream.disconnected and stream.read():
                stream.deliver(OK)
    [(head, body)] = visitor.answers([method.encode()])
    visitor.lose()
    return head.status_code, dict(head.headers), body


def got(house: House) -> Any:
    """The head of the last request that a service got."""
    return house.stream.requests()[-1][0]


BETA = {"name": "beta", "redirect": {"to": "/taken", "status": 307}}


@pytest.mark.parametrize(
    ("wants", "yes", "no"),
    [
        ({"exact": "/a"}, {"target": "/a?q"}, {"target": "/a/"}),
        ({"pattern": "/u/:id"}, {"target": "/u/7"}, {"target": "/u/7/x"}),
        ({"path": "/a"}, {"target": "/a/b"}, {"target": "/ab"}),
        ({"hosts": ["x.wild.test"]}, {"host": "X.wild.test:8443"}, {"host": "y.wild.test"}),
        ({"methods": ["PUT", "POST"]}, {"method": "POST"}, {"method": "GET"}),
        ({"scheme": "http"}, {}, {"tls": True}),
        ({"headers": [{"name": "x-beta", "value": "1"}]}, {"lines": ["X-Beta: 1"]}, {"lines": ["X-Beta: 11"]}),
        (
            {"headers": [{"name": "user-agent", "matches": ".*(iPhone|Android).*"}]},
            {"lines": ["User-Agent: an iPhone 7"]},
            {"lines": ["User-Agent: a phone"]},
        ),
        ({"headers": [{"name": "X-A", "present": False}]}, {}, {"lines": ["X-A: "]}),
        ({"query": [{"name": "a b", "value": "ä"}]}, {"target": "/?x&a+b=%C3%A4"}, {"target": "/?a=1"}),
        ({"query": [{"name": "debug", "present": True}]}, {"target": "/?debug"}, {"target": "/"}),
        ({"cookies": [{"name": "k", "value": "v"}]}, {"lines": ["Cookie: a=b; k=v"]}, {"lines": ["Cookie: k=w"]}),
        ({"addresses": ["192.0.2.0/28"]}, {}, {"address": "192.0.2.16"}),
        ({"addresses": ["192.0.2.7"]}, {"address": "::ffff:192.0.2.7"}, {"address": "2001:db8::1"}),
        ({"addresses": ["2001:db8::/32"]}, {"address": "2001:db8::1"}, {"address": ""}),
    ],
)
def test_what_a_route_wants(house: House, wants: dict[str, Any], yes: dict[str, Any], no: dict[str, Any]) -> None:
    lead(house, {**BETA, **wants})
    for request, status in ((yes, 307), (no, 200)):
        facts = {**request}
        lines = facts.pop("lines", [])
        if facts.pop("tls", False):
            facts["tls"] = TlsFacts()
        assert ask(house, facts.pop("target", "/"), *lines, **facts)[0] == status
    assert [exchange.route for exchange in house.done] == ["beta", "/"]


def test_the_first_that_matches_wins(house: House) -> None:
    lead(
        house,
        {"path": "/a", "methods": ["POST"], "respond": {"body": "posted"}},
        {"exact": "/a/b", "respond": {"body": "exact"}},
        {"pattern": "/a/:x", "respond": {"body": "pattern"}},
        {"path": "/a", "respond": {"body": "prefix"}},
    )
    assert [ask(house, path)[2] for path in ("/a/b", "/a/c", "/a/c/d", "/a", "/")] == [
        b"exact",
        b"pattern",
        b"prefix",
        b"prefix",
        b"ok",
    ]
    assert ask(house, "/a/b", method="POST")[2] == b"posted"


@pytest.mark.parametrize(
    ("route", "target", "location"),
    [
        ({"path": "/old", "redirect": {"to": "/new/*rest"}}, "/old/a/b?q=1", "/new/a/b?q=1"),
        ({"path": "/old", "redirect": {"to": "/new", "keep_query": False}}, "/old?q=1", "/new"),
        ({"pattern": "/u/:id/*rest", "redirect": {"to": "/p/:id?r=*rest"}}, "/u/7/a%2Fb/c", "/p/7?r=a%2Fb/c"),
        ({"path": "/", "redirect": {"to": "https://new.test/*rest"}}, "//evil.test/x", "https://new.test//evil.test/x"),
        ({"path": "/", "redirect": {"to": "/*rest"}}, "//evil.test/x", "/.//evil.test/x"),
        ({"path": "/", "redirect": {"to": "HTTPS://New.test:8443"}}, "/", None),
        ({"path": "/", "redirect": {"to": "https://New.test:8443"}}, "/?a", "https://new.test:8443/?a"),
        ({"path": "/", "redirect": {"to": "https://[2001:db8::1]/#top"}}, "/", "https://[2001:db8::1]/#top"),
    ],
)
def test_a_redirect(house: House, route: dict[str, Any], target: str, location: str | None) -> None:
    if location is None:
        with pytest.raises(Exception, match="a URL with https"):
            lead(house, route)
        return
    lead(house, route)
    status, fields, body = ask(house, target)
    assert (status, fields[b"location"].decode()) == (302, location)
    assert body == b"Found.\n"
    assert house.streams == []
    assert house.done[0].reason == ""
    assert house.done[0].backend == ""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_status_of_a_redirect(house: House, status: int) -> None:
    lead(house, {"redirect": {"to": "/x", "status": status}})
    assert ask(house, "/", method="HEAD")[0] == status


@pytest.mark.parametrize(
    ("change", "target", "forwarded"),
    [
        ({"path": "/api", "strip_prefix": True}, "/api/x?q=1", b"/x?q=1"),
        ({"path": "/api", "strip_prefix": True}, "/api", b"/"),
        ({"path": "/api", "strip_prefix": True}, "/api/a%2fb/../c", b"/c"),
        ({"path": "/api", "strip_prefix": True}, "/api/a%2fb", b"/a%2Fb"),
        ({"path": "/api", "replace_prefix": "/v2"}, "/api/x", b"/v2/x"),
        ({"pattern": "/u/:id/*rest", "rewrite": "/user?id=:id&p=*rest"}, "/u/a&b/c/d?q", b"/user?id=a%26b&p=c/d&q"),
        ({"path": "/a", "rewrite": "/b/*rest"}, "/a/x//y/", b"/b/x//y/"),
    ],
)
def test_a_rewrite(house: House, change: dict[str, Any], target: str, forwarded: bytes) -> None:
    lead(house, {**change, "backend": "app"})
    assert ask(house, target)[0] == 200
    assert got(house).target == forwarded


def test_a_path_that_climbs_is_refused(house: House) -> None:
    lead(
        house,
        {"path": "/api", "strip_prefix": True, "backend": "app"},
        {"pattern": "/d/:a", "rewrite": "/.:a/x", "backend": "app"},
    )
    assert ask(house, "/api/../../x")[0] == 400
    assert ask(house, "/d/.")[0] == 200  # that is /d/, which the pattern does not take
    assert ask(house, "/api/%2e%2e/%2e%2e/x")[0] == 400
    assert got(house).target == b"/d/"


def test_options_of_the_server_itself_is_not_rewritten(house: House) -> None:
    lead(house, {"path": "/", "replace_prefix": "/app", "backend": "app"})
    ask(house, "*", method="OPTIONS")
    assert got(house).target == b"*"


def test_changes_to_fields(house: House) -> None:
    lead(
        house,
        {
            "backend": "app",
            "request_headers": {"set": {"X-A": "edge"}, "add": {"X-B": ["1", "2"]}, "remove": ["Cookie"]},
            "response_headers": {"set": {"Server": "edge"}, "add": {"Vary": "Cookie"}, "remove": ["X-Gone"]},
        },
    )
    for _ in range(2):  # shared heads too
        visitor = house.visitor()
        visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\nX-A: visitor\r\nX-B: 0\r\nCookie: a=b\r\n\r\n")
        house.stream.read()
        house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: s\r\nX-Gone: 1\r\nVary: A\r\n\r\nok")
        fields = [line for line in got(house).headers if line[0].startswith((b"x-a", b"x-b", b"cookie"))]
        assert fields == [(b"x-b", b"0"), (b"x-a", b"edge"), (b"x-b", b"1"), (b"x-b", b"2")]
        [(head, _)] = visitor.answers()
        named = [line for line in head.headers if line[0] in (b"server", b"vary", b"x-gone")]
        assert sorted(named) == [(b"server", b"edge"), (b"vary", b"A"), (b"vary", b"Cookie")]


def test_the_attack_what_is_set_or_removed_comes_in_by_another_way(house: House) -> None:
    lead(
        house,
        {
            "backend": "app",
            "request_headers": {"set": {"X-User": "nobody"}},
            "response_headers": {"remove": ["X-Inner"]},
        },
    )
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nX_User: admin\r\n\r\n")
    visitor.says(b"1\r\nx\r\n0\r\nX-User: admin\r\nX-Sum: 7\r\n\r\n")
    [(head, body, trailers)] = house.stream.requests()
    assert [line for line in head.headers if b"user" in line[0]] == [(b"x-user", b"nobody")]
    assert body == b"x"
    assert trailers == [(b"x-sum", b"7")]
    house.stream.deliver(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ny\r\n0\r\nX-Inner: 1\r\nX-Sum: 7\r\n\r\n"
    )
    assert visitor.hears().endswith(b"0\r\nX-Sum: 7\r\n\r\n")


def test_changes_to_fields_of_the_edges_own_answers(house: House) -> None:
    lead(house, {"backend": "docs", "response_headers": {"set": {"X-Site": "mine"}}})
    status, fields, _ = ask(house)
    assert (status, fields[b"x-site"]) == (503, b"mine")


def test_what_a_site_sets_gives_way_to_what_a_route_sets(house: House) -> None:
    lead(
        house,
        {"path": "/framed", "backend": "app", "response_headers": {"set": {"X-Frame-Options": "SAMEORIGIN"}}},
        security={"frame_options": "deny"},
    )
    assert ask(house, "/framed")[1][b"x-frame-options"] == b"SAMEORIGIN"
    assert ask(house, "/")[1][b"x-frame-options"] == b"DENY"


def test_a_fixed_answer(house: House) -> None:
    lead(
        house,
        {"exact": "/robots.txt", "respond": {"body": "User-agent: *\n", "headers": {"Cache-Control": "max-age=60"}}},
        {"exact": "/gone", "respond": {"status": 410}},
        {"exact": "/none", "respond": {"status": 204}},
        {"exact": "/j", "respond": {"body": "{}", "content_type": "application/json"}},
    )
    status, fields, body = ask(house, "/robots.txt")
    assert (status, body, fields[b"cache-control"]) == (200, b"User-agent: *\n", b"max-age=60")
    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert ask(house, "/gone")[0::2] == (410, b"")
    assert ask(house, "/none")[0::2] == (204, b"")
    assert ask(house, "/j")[1][b"content-type"] == b"application/json"
    status, fields, body = ask(house, "/robots.txt", method="HEAD")
    assert (status, body, fields[b"content-length"]) == (200, b"", b"14")


def test_an_answer_of_a_route_opens_no_websocket(house: House) -> None:
    lead(house, {"path": "/", "respond": {"body": "hello"}})
    visitor = H2Visitor(house).hello()
    answer = visitor[visitor.ask(WEBSOCKET, end=False)]
    assert (answer.status, answer.fields["x-wormhole-error"]) == (502, "bad-answer")
    [done] = house.done
    assert (done.status, done.reason) == (502, "bad-answer")
    assert done.request_id in answer.body
    # over HTTP/1.1 it is an answer as any other
    assert ask(house, "/", "Upgrade: websocket", "Connection: Upgrade")[2] == b"hello"


def test_maintenance(house: House) -> None:
    lead(
        house,
        {"path": "/a", "maintenance": {}},
        {"path": "/b", "maintenance": {"retry_after": 0, "page": "<h1>soon</h1>"}},
        {"path": "/c", "maintenance": {}},
        error_pages={"503": "our own"},
    )
    status, fields, body = ask(house, "/a")
    assert (status, body, fields[b"retry-after"], fields[b"x-wormhole-error"]) == (
        503,
        b"our own",
        b"300",
        b"maintenance",
    )
    status, fields, body = ask(house, "/b")
    assert (status, body, fields[b"x-wormhole-error"]) == (503, b"<h1>soon</h1>", b"maintenance")
    assert b"retry-after" not in fields
    assert fields[b"content-type"] == b"text/html; charset=utf-8"
    assert {exchange.reason for exchange in house.done} == {"maintenance"}


def test_agents_of_a_branch(house: House) -> None:
    """A route of a branch takes requests while such an agent is there, and the others keep clear of it."""
    lead(
        house,
        {"name": "canary", "branch": "canary", "headers": [{"name": "X-Canary", "present": True}], "backend": "app"},
    )
    assert ask(house, "/", "X-Canary: 1")[0] == 200
    canary = house.agent(instance=7, release=Release(branch="canary"))
    house.sessions.append(canary)
    for _ in range(4):
        assert ask(house, "/")[0] == 200
    assert canary.streams == []
    for _ in range(4):
        assert ask(house, "/", "X-Canary: 1")[0] == 200
    assert len(canary.streams) > 0
    assert [exchange.route for exchange in house.done] == ["/"] * 5 + ["canary"] * 4
    canary.ready = False
    house.registry.changed(canary)
    assert ask(house, "/", "X-Canary: 1")[0] == 200
    assert house.done[-1].route == "/"


def test_the_same_request_on_a_connection_is_judged_anew_where_that_may_change(house: House) -> None:
    lead(house, {"name": "canary", "branch": "canary", "backend": "app"})
    visitor = house.visitor()
    for there in (False, True, False):
        if there:
            house.sessions.append(house.agent(instance=7, release=Release(branch="canary")))
        elif len(house.sessions) > 1:
            house.sessions[1].leave()
        for _ in range(3):
            visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            stream = house.sessions[1 if there else 0].streams[-1] if there or house.streams else house.stream
            stream.read()
            stream.deliver(OK)
            assert len(visitor.answers()) == 1
        assert {exchange.route for exchange in house.done[-3:]} == {"canary" if there else "/"}


def test_a_share_that_goes_by_a_cookie(house: House) -> None:
    lead(house, {"name": "canary", "percent": 25, "sticky": "cookie:side", "respond": {"body": "canary"}})
    sides: dict[bytes, bytes] = {}
    for _ in range(400):
        _, fields, body = ask(house)
        name, _, value = fields[b"set-cookie"].partition(b";")[0].partition(b"=")
        assert name == b"side"
        sides[value] = body
    assert 60 <= sum(body == b"canary" for body in sides.values()) <= 140
    for value, body in list(sides.items())[:20]:
        _, fields, again = ask(house, "/x", f"Cookie: other=1; side={value.decode()}")
        assert again == body
        assert b"set-cookie" not in fields
    # who was among the first 25 % is among the first 50 %, whatever the route is called
    lead(house, {"name": "wider", "percent": 50, "sticky": "cookie:side", "respond": {"body": "canary"}})
    for value in [value for value, body in sides.items() if body == b"canary"][:20]:
        assert ask(house, "/", f"Cookie: side={value.decode()}")[2] == b"canary"


def test_the_cookie_of_a_share(house: House) -> None:
    lead(house, {"percent": 50, "sticky": "cookie:side", "respond": {"body": "canary"}})
    plain = ask(house)[1][b"set-cookie"]
    assert plain.endswith(b"; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax")
    assert ask(house, tls=TlsFacts())[1][b"set-cookie"].endswith(b"; SameSite=Lax; Secure")


def test_shares_by_address_and_header_and_by_chance(house: House) -> None:
    lead(house, {"percent": 50, "sticky": "address", "respond": {"body": "canary"}})
    for number in range(10):
        assert len({ask(house, address=f"192.0.2.{number}")[2] for _ in range(5)}) == 1
    assert len({ask(house, address=f"192.0.2.{number}")[2] for number in range(50)}) == 2
    lead(house, {"percent": 50, "sticky": "header:X-User", "respond": {"body": "canary"}})
    for number in range(10):
        assert len({ask(house, "/", f"x-user: {number}")[2] for _ in range(5)}) == 1
    assert len({ask(house, "/", f"x-user: {number}")[2] for number in range(50)}) == 2
    assert {ask(house)[2] for _ in range(50)} == {b"ok"}  # who does not say who it is, is not chosen
    lead(house, {"percent": 50, "respond": {"body": "canary"}})
    visitor = house.visitor()
    bodies = []
    for _ in range(50):
        visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        if house.streams and house.stream.read():
            house.stream.deliver(OK)
        bodies += [body for _, body in visitor.answers()]
    assert set(bodies) == {b"ok", b"canary"}


def test_a_repeated_request_keeps_its_way(house: House) -> None:
    lead(house, {"pattern": "/u/:id", "rewrite": "/user/:id", "backend": "app"})
    visitor = house.visitor()
    for _ in range(4):
        visitor.says(b"GET /u/7 HTTP/1.1\r\nHost: app.test\r\n\r\n")
        house.stream.read()
        house.stream.deliver(OK)
    assert {head.target for head, _, _ in house.stream.requests()} == {b"/user/7"}
    assert len(visitor.answers()) == 4


def test_a_site_of_many_plain_routes(house: House) -> None:
    lead(house, *({"path": f"/p{number}/", "backend": "docs"} for number in range(100)))
    assert ask(house, "/p7/x")[0] == 503
    assert ask(house, "/p7")[0] == 200
    assert [exchange.route for exchange in house.done] == ["/p7/", "/"]


def test_no_route(house: House) -> None:
    lead(house)
    raw = [{"exact": "/only", "backend": "app"}]
    config = EdgeConfig.from_dict(
        {
            "edge": {"names": ["edge.test"], "https": ["tcp:8443"]},
            "backends": [{"name": "app", "tokens": [digest_line("app")]}],
            "sites": [{"hostnames": ["app.test"], "routes": raw}],
        },
        hostname="machine",
    )
    house.catalogs.swap(build_catalog(config))
    assert ask(house, "/other")[0] == 404
    assert ask(house, "/only")[0] == 200


def test_over_http2(house: House) -> None:
    lead(
        house,
        {"path": "/old", "redirect": {"to": "/new/*rest"}},
        {"path": "/api", "strip_prefix": True, "backend": "app", "response_headers": {"set": {"X-Edge": "1"}}},
        {"exact": "/fixed", "respond": {"body": "fixed"}},
    )
    visitor = H2Visitor(house).hello()
    asked = [
        visitor.ask([(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", "app.test")])
        for path in ("/old/a?q=1", "/api/x", "/fixed")
    ]
    assert got(house).target == b"/x"
    house.stream.deliver(OK)
    moved, api, fixed = (visitor[stream] for stream in asked)
    assert (moved.status, moved.fields["location"], moved.ended) == (302, "/new/a?q=1", True)
    assert (api.status, api.fields["x-edge"], api.body) == (200, "1", b"ok")
    assert (fixed.status, fixed.body) == (200, b"fixed")
