"""One visitor's request never comes back to another: what an attacker would try (RELIABILITY 13)."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.edge.caching.house import CachedMiddleware, CachingHouse
from tests.edge.caching.reflecting import FRESH, Reflector, lead
from tests.edge.house import building
from wormhole_tw.edge.caching.asking import key_of
from wormhole_tw.edge.trust import Trust
from wormhole_tw.middleware import Next, Request, Response
from wormhole_tw.net.networks import Networks

EVIL = "evil.example"


@pytest.fixture
def service(cached: CachingHouse) -> Reflector:
    return Reflector(cached)


@pytest.fixture
def keep_behind() -> Iterator[Callable[..., CachedMiddleware]]:
    """Houses whose cache is behind middleware."""
    with building(CachedMiddleware) as build:
        yield build


SECURE_SITE = {"name": "app", "hostnames": ["app.test", "*.wild.test"]}


@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "X-Forwarded-Proto",
        "X-Forwarded-Scheme",
        "X-Forwarded-Server",
        "X-Host",
        "X-HTTP-Host-Override",
        "X-HTTP-Method",
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-Original-Host",
        "X-Original-URL",
        "X_Original_URL",
        "X.Original.URL",
        "x-original-url",
        "X-Rewrite-URL",
        "X-Real-IP",
        "X-Middleware-Subrequest",
        "X-Invoke-Path",
        "X-Invoke-Status",
        "X-Nextjs-Data",
        "Client-Cert",
        "Front-End-Https",
        "X-URL-Scheme",
        "X-Script-Name",
    ],
)
def test_no_field_that_overrides_the_request_reaches_what_is_kept(service: Reflector, name: str) -> None:
    got = service.ask("/page", f"{name}: {EVIL}")
    assert EVIL not in got
    assert EVIL not in service.ask("/page")
    assert len(service.seen) == 1


def test_such_a_field_still_passes_where_nothing_is_kept(service: Reflector) -> None:
    assert EVIL in service.ask("/off/page", f"X-Original-URL: {EVIL}")
    assert EVIL in service.ask("/page", f"X-Original-URL: {EVIL}", "Content-Length: 0", method="POST")


def test_what_a_route_sets_itself_is_sent(keep: Callable[..., CachingHouse]) -> None:
    house = keep()
    lead(
        house,
        {
            **SECURE_SITE,
            "cache": True,
            "routes": [{"backend": "app", "request_headers": {"set": {"X-Script-Name": "/mine"}}}],
        },
    )
    assert "x-script-name: /mine" in Reflector(house).ask("/page", f"X-Script-Name: {EVIL}")


@pytest.mark.parametrize("name", ["X-Device", "X-Nextjs-Data"])
def test_a_field_that_is_in_the_key_is_sent_and_what_looks_like_it_is_not(
    keep: Callable[..., CachingHouse], name: str
) -> None:
    """CGI, WSGI and some servers take X_Device and X.Device for X-Device."""
    service = Reflector(keep(settings={"headers": (name.lower().encode(),)}))
    phone = service.ask("/page", f"{name}: phone")
    assert f"{name.lower()}: phone" in phone.lower()
    plain = service.ask("/page")
    assert "phone" not in plain
    for alike in (name.replace("-", "_"), name.replace("-", ".")):
        assert service.ask("/page", f"{alike}: {EVIL}") == plain
        assert EVIL not in service.ask(f"/{alike}", f"{alike}: {EVIL}")
    assert service.ask("/page", f"{name.upper()}: phone") == phone


def test_what_a_trusted_proxy_tells_is_in_the_key(service: Reflector) -> None:
    proxy = {"address": "192.0.2.9", "trust": Trust(Networks([ip_network("192.0.2.9/32")]))}
    plain = service.ask("/page", **proxy)
    prefixed = service.ask("/page", "X-Forwarded-Prefix: /shop", **proxy)
    hosted = service.ask("/page", "X-Forwarded-Host: shop.example", **proxy)
    assert "x-forwarded-prefix: /shop" in prefixed
    assert "x-forwarded-host: shop.example" in hosted
    assert service.ask("/page", **proxy) == plain == service.ask("/page")
    assert service.ask("/page", "X-Forwarded-Prefix: /shop", **proxy) == prefixed
    assert service.ask("/page", "X-Forwarded-Host: shop.example", **proxy) == hosted
    assert len(service.seen) == 3


@pytest.mark.parametrize("host", ["APP.test", "app.test.", "app.test:80", "App.Test.:80"])
def test_spellings_of_a_host_are_one(service: Reflector, host: str) -> None:
    got = service.ask("/page", host=host)
    assert host not in got
    assert service.ask("/page") == got
    assert len(service.seen) == 1


def test_a_port_that_the_visitor_made_up_is_kept_apart(service: Reflector) -> None:
    got = service.ask("/page", host="app.test:6666")
    assert "6666" in got
    assert "6666" not in service.ask("/page")
    assert len(service.seen) == 2


def test_a_body_on_get_is_neither_sent_to_others_nor_kept(service: Reflector) -> None:
    for lines in (("Content-Length: 4",), ("Transfer-Encoding: chunked",)):
        body = EVIL[:4] if "Length" in lines[0] else f"c\r\n{EVIL}\r\n0\r\n\r\n"
        assert EVIL[:4] in service.ask("/page", *lines, body=body)
    assert EVIL[:4] not in service.ask("/page")
    assert service.ask("/page", "Content-Length: 4", body="more") != service.ask("/page")


@pytest.mark.parametrize(
    ("one", "other"),
    [("/a/%62", "/a/b"), ("/a/./b", "/a/b"), ("/x/../a/b", "/a/b"), ("/a/%2e/b", "/a/b"), ("/a%2fb", "/a%2Fb")],
)
def test_spellings_of_one_path_are_one(service: Reflector, one: str, other: str) -> None:
    assert service.ask(one) == service.ask(other)
    assert len(service.seen) == 1


@pytest.mark.parametrize(
    "path",
    ["/account/x.css", "/account;x.css", "/account%2Fx.css", "/account%3Bx.css", "//account", "/account/", "/ACCOUNT",
     "/account?x.css", "/account%00.css", "/account%23.css", "/account%3Fx.css", "/account.css", "/account/%2e%2e%2fx"],
)  # fmt: skip
def test_other_paths_are_others(service: Reflector, path: str) -> None:
    """A service may take them for the same; the cache must not."""
    service.ask(path, "Accept: " + EVIL)
    assert EVIL not in service.ask("/account")
    assert len(service.seen) == 2


@pytest.mark.parametrize("path", ["/account/x.css", "/account;x.css", "/account%2Fx.js", "/account%00.png"])
@pytest.mark.parametrize("says", ["", "Last-Modified: Mon, 23 Nov 2020 04:20:00 GMT", "Cache-Control: private"])
@pytest.mark.parametrize("login", ["Cookie: session=victim", "Authorization: Bearer victim", "X-Api-Key: victim"])
def test_web_cache_deception(cached: CachingHouse, path: str, says: str, login: str) -> None:
    """The victim is led to an address that looks like a picture; the attacker asks for the same."""
    service = Reflector(cached, lambda head: says or "X: y")
    assert "victim" in service.ask(path, login)
    assert "victim" not in service.ask(path)


@pytest.mark.parametrize("name", ["Authorization", "Private-Token", "X-Api-Key", "X-Auth-Token", "X_Api_Key"])
def test_answers_to_who_shows_who_he_is(cached: CachingHouse, name: str) -> None:
    service = Reflector(cached)
    assert "victim" in service.ask("/page", f"{name}: victim")
    assert "victim" not in service.ask("/page")
    # what everybody may have, who shows it may have too
    assert "victim" not in service.ask("/page", f"{name}: victim")
    service.reply = lambda head: "Cache-Control: public, max-age=60"
    assert "friend" in service.ask("/public", f"{name}: friend")
    assert "friend" in service.ask("/public")


def test_set_cookie_is_for_one_visitor(cached: CachingHouse) -> None:
    service = Reflector(cached, lambda head: f"{FRESH}\r\nSet-Cookie: session=victim")
    service.ask("/login", "Accept: victim")
    assert "victim" not in service.ask("/login")


def test_a_cookie_that_decides_is_said_to(keep: Callable[..., CachingHouse]) -> None:
    house = keep()
    lead(
        house, {**SECURE_SITE, "cache": {"cookies": ["lang"], "headers": ["X-Country"]}, "routes": [{"backend": "app"}]}
    )
    service = Reflector(house)
    for lang, country in (("de", "AT"), ("de", "CH"), ("fr", "CH")):
        got = service.ask("/page", f"Cookie: a=1; lang={lang}", f"X-Country: {country}")
        assert f"lang={lang}" in got
        assert f"x-country: {country}" in got
    assert len(service.seen) == 3
    assert "lang=fr" in service.ask("/page", "X-Country: CH", "Cookie: lang=fr; a=2")
    # delimiters in values make no other value of them
    service.ask("/page", "Cookie: lang=de", "X-Country: AT,1:x")
    service.ask("/page", "Cookie: lang=de", "X-Country: AT", "X-Country: 1:x")
    assert len(service.seen) == 5


def test_cookies_that_lead_past_the_cache(keep: Callable[..., CachingHouse]) -> None:
    house = keep()
    lead(house, {**SECURE_SITE, "cache": {"bypass_cookies": ["session*"]}, "routes": [{"backend": "app"}]})
    service = Reflector(house)
    service.ask("/page")
    assert "victim" in service.ask("/page", "Cookie: session_id=victim")
    assert "victim" not in service.ask("/page")
    assert house.done[1].cache == "bypass"


def test_members_of_the_query_that_make_no_difference_are_not_sent(keep: Callable[..., CachingHouse]) -> None:
    house = keep()
    lead(house, {**SECURE_SITE, "cache": {"ignore_query": ["utm_*"]}, "routes": [{"backend": "app"}]})
    service = Reflector(house)
    assert EVIL not in service.ask(f"/page?a=1&utm_source={EVIL}&b=2")
    assert "/page?a=1&b=2" in service.ask("/page?a=1&b=2&utm_medium=x")
    assert len(service.seen) == 1


def test_codings_that_are_made_up_make_no_variants(cached: CachingHouse) -> None:
    service = Reflector(cached, lambda head: f"{FRESH}\r\nVary: Accept-Encoding")
    browser = service.ask("/page", "Accept-Encoding: gzip, deflate, br, zstd")
    assert "accept-encoding: br, deflate, gzip, zstd" in browser
    plain = service.ask("/page")
    assert "accept-encoding" not in plain
    for number in range(100):
        assert EVIL not in service.ask("/page", f"Accept-Encoding: zstd;q=0.{number:03}1, br, gzip,deflate, {EVIL}")
    assert service.ask("/page", "Accept-Encoding: br,zstd,gzip,deflate") == browser
    assert service.ask("/page") == plain
    assert len(service.seen) == 3  # one of them is of who takes no zstd


def test_sites_and_tenants_have_nothing_in_common(service: Reflector) -> None:
    mine, theirs = service.ask("/page"), service.ask("/page", host="other.test")
    assert (mine[:4], theirs[:5]) == ("app\n", "other")
    assert service.ask("/page") == mine
    assert service.ask("/page", host="other.test") == theirs
    assert service.ask("/page", host="a.wild.test") != service.ask("/page", host="b.wild.test")
    assert len(service.seen) == 4


def test_http_and_https_are_apart(service: Reflector) -> None:
    plain, secure = service.ask("/page"), service.ask("/page", secure=True)
    assert "x-forwarded-proto: http\n" in plain
    assert "x-forwarded-proto: https" in secure
    assert service.ask("/page") == plain


def test_http_2_and_http_1_share_what_is_kept(service: Reflector) -> None:
    got = service.ask_h2("/page")
    assert service.ask("/page", secure=True) == got
    assert service.ask_h2("/page", authority="APP.test") == got
    assert len(service.seen) == 1
    assert EVIL not in service.ask_h2("/two", ("x-original-url", EVIL))


def test_routes_of_one_url_that_fields_choose(keep: Callable[..., CachingHouse]) -> None:
    """A canary by cookie, another by a field: what one side brought is never the other's."""
    house = keep()
    lead(
        house,
        {
            **SECURE_SITE,
            "cache": True,
            "routes": [
                {"name": "beta", "backend": "other", "headers": [{"name": "X-Beta", "value": "1"}]},
                {"name": "cookie", "backend": "docs", "cookies": [{"name": "side", "value": "b"}]},
                {"backend": "app", "headers": [{"name": "X-Old", "value": "1"}], "replace_prefix": "/old"},
                {"backend": "app"},
            ],
        },
    )  # fmt: skip
    house.sessions.append(house.agent("docs", instance=50))
    service = Reflector(house)
    for _ in range(2):
        assert service.ask("/page").startswith("app\nGET /page")
        assert service.ask("/page", "X-Beta: 1").startswith("other\n")
        assert service.ask("/page", "Cookie: side=b").startswith("docs\n")
        assert service.ask("/page", "X-Old: 1").startswith("app\nGET /old/page")
    assert len(service.seen) == 4


def token(house: CachingHouse, name: str) -> str:
    """Somebody's, as the gate below takes it (RFC 7519)."""

    def text(value: bytes) -> str:
        return urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"sub": name, "iss": "me", "aud": "app", "exp": int(house.clock.seconds()) + 3600}
    signed = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    return f"{signed}.{text(hmac.digest(SECRET, signed.encode(), 'sha256'))}"


SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("keep_token", [True, False])
def test_a_gate_that_knows_who_asks(keep: Callable[..., CachingHouse], tmp_path: Path, keep_token: bool) -> None:
    """What the service is told of who was let in is as good as Authorization, and so is that he was let in."""
    (tmp_path / "secret").write_bytes(SECRET)
    house = keep()
    jwt = {
        "secret_file": str(tmp_path / "secret"),
        "algorithms": ["HS256"],
        "issuer": "me",
        "audience": "app",
        "headers": {"X-Name": "sub"},
        "keep_token": keep_token,
        "cookie": "session",
    }
    lead(house, {**SECURE_SITE, "cache": True, "jwt": jwt, "routes": [{"backend": "app"}]})
    service = Reflector(house)
    for _ in range(2):
        assert "x-name: victim" in service.ask("/page", f"Authorization: Bearer {token(house, 'victim')}")
        assert "x-name: friend" in service.ask("/page", f"Cookie: session={token(house, 'friend')}")
    assert house.counters.hit == 0
    service.reply = lambda head: "Cache-Control: public, max-age=60"
    first = service.ask("/public", f"Authorization: Bearer {token(house, 'victim')}")
    assert service.ask("/public", f"Authorization: Bearer {token(house, 'friend')}") == first
    # who is not let in gets nothing, whatever is kept
    assert "not-signed-in" in service.ask("/public")


def test_middleware_that_changes_the_request(keep_behind: Callable[..., CachedMiddleware]) -> None:
    """What it says to the service is part of what answers are kept under."""

    async def change(request: Request, next: Next) -> Response:
        name = request.headers.get("X-Login")
        if name:
            request.headers["X-Name"] = name
            del request.headers["X-Login"]
        if request.headers.get("X-Way"):
            request.target = "/way" + request.target
            del request.headers["X-Way"]
        return await next(request)

    service = Reflector(keep_behind(change))
    for _ in range(2):
        assert "x-name: alice" in service.ask("/page", "X-Login: alice")
        assert "x-name: bob" in service.ask("/page", "X-Login: bob")
        assert "GET /way/page" in service.ask("/page", "X-Way: 1")
        plain = service.ask("/page")
        assert "x-name" not in plain
        assert "GET /page" in plain
    assert len(service.seen) == 4
    # one that the visitor sends himself is another thing than one that the middleware says
    service.ask("/page", "X-Name: alice")


def test_middleware_sees_every_request_and_changes_every_answer(keep_behind: Callable[..., CachedMiddleware]) -> None:
    seen = []

    async def count(request: Request, next: Next) -> Response:
        seen.append(request.target)
        response = await next(request)
        response.headers["X-Count"] = str(len(seen))
        return response

    house = keep_behind(count)
    service = Reflector(house)
    visitor = house.visitor()
    for number in range(1, 4):
        visitor.says(b"GET /page HTTP/1.1\r\nHost: app.test\r\n\r\n")
        service.serve()
        [(head, _)] = visitor.answers()
        assert dict(head.headers)[b"x-count"] == b"%d" % number
    assert len(service.seen) == 1
    assert [exchange.cache for exchange in house.done] == ["miss", "hit", "hit"]


def test_middleware_that_makes_a_post_of_a_get(keep_behind: Callable[..., CachedMiddleware]) -> None:
    async def change(request: Request, next: Next) -> Response:
        if request.headers.get("X-Change"):
            request.method = "POST"
        return await next(request)

    house = keep_behind(change)
    service = Reflector(house)
    got = service.ask("/page")
    house.clock.advance(1)
    assert "POST /page" in service.ask("/page", "X-Change: 1")
    assert service.ask("/page") == got
    assert len(service.seen) == 3


def test_parts_with_delimiters_make_no_key() -> None:
    assert key_of((b"a", b"b")) == b"a\0b"
    assert key_of((b"a\0b", b"c")) is None
    assert key_of((b"a", b"b\0c")) is None


def test_sites_that_take_turns_on_one_connection(keep: Callable[..., CachingHouse]) -> None:
    """One whose ways do not last, beside one whose answers are said again in one step."""
    house = keep(requests_per_site=0, requests_per_address=0)
    lead(
        house,
        {"name": "app", "hostnames": ["app.test"], "cache": True, "routes": [{"backend": "app"}]},
        {
            "name": "other",
            "hostnames": ["other.test"],
            "cache": True,
            "routes": [{"path": "/", "backend": "other", "percent": 99.9}, {"backend": "other"}],
        },
    )
    service = Reflector(house)
    visitor = house.visitor()

    def ask(host: str) -> str:
        visitor.says(f"GET /page HTTP/1.1\r\nHost: {host}\r\n\r\n")
        service.serve()
        [(_, body)] = visitor.answers()
        return body.decode()

    for order in ("aaaaoooo", "aoaoao", "ooaaoo"):
        for one in order:
            name = {"a": "app", "o": "other"}[one]
            assert ask(f"{name}.test").startswith(name + "\n")
