"""Signing in, step by step, with an issuer that is the test: what is asked, sealed, proved and refused."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_network
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from twisted.internet.defer import Deferred

from tests.control.test_keys import EC, KEYS, OTHER_EC, token
from tests.edge.gates.test_rules import Outside, asks, gated, get, told
from tests.edge.house import START, House
from wormhole_tw.control.access import SignInRule
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.claims import Claims
from wormhole_tw.control.held_back import hold_back
from wormhole_tw.control.model import Backend, Route, Site
from wormhole_tw.edge.sign_in.issuer import METADATA
from wormhole_tw.edge.sign_in.sealed import Sealer
from wormhole_tw.edge.trust import Trust
from wormhole_tw.errors import IssuerUnavailable
from wormhole_tw.net.networks import Networks
from wormhole_tw.wire.messages import TlsFacts

ISSUER = "https://id.test/realm"
RULE = SignInRule(
    ISSUER, "me", b"hu:sh", "/.wormhole/signed-in", claims=Claims((("groups", ("staff",)),), ((b"X-User", "sub"),))
)
HTML = "Accept: text/html"
SECURE = {"tls": TlsFacts()}


class Issuer(Outside):
    """What an issuer says, and what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.nonce = ""
        self.challenge = ""
        self.claims: dict[str, Any] = {"groups": ["staff"]}
        self.key: Any = EC
        self.told: list[tuple[Mapping[str, str], tuple[str, str] | None]] = []
        self.says: dict[str, Any] | None = None
        self.metadata = {
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.test/in?x=y",
            "token_endpoint": "https://id.test/token",
            "jwks_uri": "https://id.test/keys",
        }
        self.pages = {ISSUER + METADATA: self.metadata, "https://id.test/keys": KEYS}

    async def post(self, url: str, form: Mapping[str, str], credentials: tuple[str, str] | None) -> dict[str, Any]:
        assert url == "https://id.test/token"
        self.told.append((form, credentials))
        if self.says is not None:
            return self.says
        # RFC 7636 §4.6
        proof = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if form["code"] != "good" or proof != self.challenge:
            raise IssuerUnavailable(f"{url}: it answered 400 (invalid_grant)")
        standard = {"iss": ISSUER, "aud": "me", "nonce": self.nonce, "exp": int(START) + 600}
        return {"id_token": token(self.key, "ES256", "ec", **{**standard, **self.claims})}


@pytest.fixture
def issuer(house: House) -> Issuer:
    made = Issuer()
    house.context.outside = made  # type: ignore[assignment]
    gated(house, RULE)
    return made


def visit(house: House, *lines: str, path: str = "/", **facts: Any) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Status and fields, all of them."""
    visitor = house.visitor(**{**SECURE, **facts})
    visitor.says(get(path, *lines))
    for stream in house.streams:
        if stream.read():
            stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    [(head, _)] = visitor.answers()
    visitor.lose()
    return head.status_code, list(head.headers)


def given(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """The cookies that an answer sets, as a browser checks them: of this host alone, sent by https alone."""
    found = {}
    for name, value in fields:
        if name == b"set-cookie":
            pair, *attributes = value.decode().split("; ")
            assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
            cookie, _, text = pair.partition("=")
            assert cookie.startswith("__Host-")
            if "Max-Age=0" not in attributes:
                found[cookie] = text
    return found


def sent_away(house: House, issuer: Issuer, path: str = "/") -> tuple[dict[str, str], dict[str, str]]:
    """What the issuer is asked, and the cookies of the way."""
    status, fields = visit(house, HTML, path=path)
    assert status == 302
    assert (b"cache-control", b"no-store") in fields
    where = urlsplit(dict(fields)[b"location"].decode())
    assert where.geturl().startswith("https://id.test/in?x=y&")
    asked = {name: values[0] for name, values in parse_qs(where.query).items()}
    issuer.nonce, issuer.challenge = asked["nonce"], asked["code_challenge"]
    return asked, given(fields)


def back(
    house: House, asked: dict[str, str], way: dict[str, str], code: str = "good", **facts: Any
) -> tuple[int, list[tuple[bytes, bytes]]]:
    cookie = "; ".join(f"{name}={value}" for name, value in way.items())
    return visit(house, f"Cookie: {cookie}", path=f"{RULE.callback}?code={code}&state={asked['state']}", **facts)


def why(answer: tuple[int, list[tuple[bytes, bytes]]]) -> tuple[int, bytes]:
    return answer[0], dict(answer[1]).get(b"x-wormhole-error", b"")


def signed_in(house: House, issuer: Issuer) -> dict[str, str]:
    """The cookie of somebody who came back."""
    asked, way = sent_away(house, issuer)
    status, fields = back(house, asked, way)
    assert status == 302
    return given(fields)


def test_there_and_back(house: House, issuer: Issuer) -> None:
    asked, way = sent_away(house, issuer, "/b?c=d")
    assert asked["client_id"] == "me"
    assert asked["redirect_uri"] == "https://app.test/.wormhole/signed-in"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    status, fields = back(house, asked, way)
    assert (status, dict(fields)[b"location"]) == (302, b"https://app.test/b?c=d")
    [(form, credentials)] = issuer.told
    assert credentials == ("me", "hu%3Ash")  # RFC 6749 §2.3.1
    assert form["redirect_uri"] == asked["redirect_uri"]
    session = given(fields)
    assert len(session) == 1
    [(name, value)] = session.items()
    status, _ = visit(house, f"Cookie: a=1; {name}={value}; {next(iter(way))}=x", "X-User: root")
    assert status == 200
    got = told(house)
    assert (got[b"x-user"], got[b"cookie"]) == (b"ann", b"a=1")
    # until its time is over
    house.pass_time(RULE.session // 4)
    assert visit(house, f"Cookie: {name}={value}")[0] == 200
    house.clock.rightNow += RULE.session
    assert why(visit(house, f"Cookie: {name}={value}")) == (401, b"not-signed-in")


def test_behind_a_proxy_that_ends_tls(house: House, issuer: Issuer) -> None:
    trusted = {"tls": None, "trust": Trust(Networks([ip_network("192.0.2.0/24")]))}
    lines = (HTML, "X-Forwarded-For: 198.51.100.9", "X-Forwarded-Host: evil.test")
    assert why(visit(house, *lines, **trusted)) == (403, b"sign-in-needs-https")
    status, fields = visit(house, *lines, "X-Forwarded-Proto: https", **trusted)
    assert status == 302
    [where] = parse_qs(urlsplit(dict(fields)[b"location"].decode()).query)["redirect_uri"]
    assert where == "https://app.test/.wormhole/signed-in"
    # and nobody else says so
    assert why(visit(house, *lines, "X-Forwarded-Proto: https", tls=None)) == (403, b"sign-in-needs-https")


def test_two_windows_and_a_way_that_was_taken(house: House, issuer: Issuer) -> None:
    first, one = sent_away(house, issuer, "/b")
    nonce, challenge = issuer.nonce, issuer.challenge
    second, other = sent_away(house, issuer)
    both = one | other
    assert len(both) == 2
    assert dict(back(house, second, both)[1])[b"location"] == b"https://app.test/"
    issuer.nonce, issuer.challenge = nonce, challenge
    assert dict(back(house, first, both)[1])[b"location"] == b"https://app.test/b"
    # somebody who begins again and again does not carry all of it about
    lines = "; ".join(f"{next(iter(one))[:-8]}{number:08}=x" for number in range(6))
    _, fields = visit(house, HTML, f"Cookie: {lines}")
    assert len([value for name, value in fields if name == b"set-cookie" and b"Max-Age=0" in value]) == 6


def test_who_is_sent_away(house: House, issuer: Issuer) -> None:
    for lines, status in (
        ([HTML], 302),
        (["Sec-Fetch-Mode: navigate"], 302),
        ([HTML, "Sec-Fetch-Mode: cors"], 401),
        (["Accept: application/json"], 401),
        ([HTML, "Connection: upgrade", "Upgrade: websocket"], 401),
    ):
        assert visit(house, *lines)[0] == status, lines
    visitor = house.visitor(**SECURE)
    visitor.says("POST / HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nContent-Length: 0\r\n\r\n")
    assert visitor.answers([b"POST"])[0][0].status_code == 401
    assert why(visit(house, HTML, tls=None)) == (403, b"sign-in-needs-https")


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "somebody"},
        {"aud": ["me", "you"]},
        {"aud": ["me", "you"], "azp": "you"},
        {"azp": "you"},
        {"iss": "https://evil.test"},
        {"exp": int(START) - 100},
    ],
)
def test_a_token_that_is_not_the_answer(house: House, issuer: Issuer, claims: dict[str, Any]) -> None:
    asked, way = sent_away(house, issuer)
    issuer.claims |= claims
    assert why(back(house, asked, way)) == (502, b"sign-in-failed")


def test_several_audiences_of_which_we_are_the_party(house: House, issuer: Issuer) -> None:
    issuer.claims |= {"aud": ["me", "you"], "azp": "me"}
    assert signed_in(house, issuer)


def test_a_token_of_a_new_key(house: House, issuer: Issuer) -> None:
    signed_in(house, issuer)
    issuer.pages["https://id.test/keys"] = {"keys": [{**KEYS["keys"][1], "kid": "ec"}]}
    issuer.key = OTHER_EC
    house.pass_time(10)
    assert signed_in(house, issuer)


@pytest.mark.parametrize("says", [{}, {"id_token": 7}, {"id_token": "x"}])
def test_an_issuer_that_says_something_else(house: House, issuer: Issuer, says: dict[str, Any]) -> None:
    asked, way = sent_away(house, issuer)
    issuer.says = says
    assert why(back(house, asked, way)) == (502, b"sign-in-failed")


def test_what_is_no_way_back(house: House, issuer: Issuer) -> None:
    asked, way = sent_away(house, issuer)
    [(name, value)] = way.items()
    for broken in ({}, {name: value[:-4] + "AAAA"}, {name: ""}, {name[:-1] + "!": value}):
        assert why(back(house, asked, broken)) == (400, b"sign-in-stale")
    for state in ("", "short", asked["state"][:8] + "x" * 24, "%C3%A4" * 8):
        assert why(back(house, {"state": state}, way)) == (400, b"sign-in-stale")
    assert why(back(house, asked, way, code="other")) == (502, b"sign-in-failed")
    answer = visit(house, f"Cookie: {name}={value}", path=f"{RULE.callback}?state={asked['state']}&error=access_denied")
    assert why(answer) == (403, b"sign-in-refused")
    house.clock.rightNow += 601
    assert why(back(house, asked, way)) == (400, b"sign-in-stale")


def test_a_session_is_no_way_and_the_other_way_round(house: House, issuer: Issuer) -> None:
    asked, way = sent_away(house, issuer)
    session = signed_in(house, issuer)
    [(way_name, sealed)], [(name, value)] = way.items(), session.items()
    assert why(visit(house, f"Cookie: {name}={sealed}")) == (401, b"not-signed-in")
    assert why(back(house, asked, {way_name: value})) == (400, b"sign-in-stale")
    # nor is it one at another issuer, or of another client
    for rule in (
        replace(RULE, client_id="you"),
        replace(RULE, issuer="https://other.test"),
        replace(RULE, secret=b"x"),
    ):
        gated(house, rule)
        sealer = Sealer(rule.secret, f"{rule.issuer}\0{rule.client_id}", house.clock.seconds)
        assert sealer.open("session", value.encode()) is None
        assert why(visit(house, f"Cookie: {name}={value}"))[0] == 401


def test_who_is_not_meant(house: House, issuer: Issuer) -> None:
    issuer.claims = {"groups": ["guests"]}
    [(name, value)] = signed_in(house, issuer).items()
    status, fields = visit(house, f"Cookie: {name}={value}")
    assert (status, dict(fields)[b"x-wormhole-error"]) == (403, b"not-allowed")
    # rules are looked at in every request
    gated(house, replace(RULE, claims=Claims((("groups", ("guests",)),))))
    assert visit(house, f"Cookie: {name}={value}")[0] == 200


def test_a_rule_that_wants_another_claim_asks_the_issuer_again(house: House, issuer: Issuer) -> None:
    """The session holds what the rule wanted when it was made."""
    [(name, value)] = signed_in(house, issuer).items()
    gated(house, replace(RULE, claims=Claims((("groups", ("staff",)), ("level", ("3",))))))
    assert visit(house, HTML, f"Cookie: {name}={value}")[0] == 302
    issuer.claims["level"] = 3
    [(other, sealed)] = signed_in(house, issuer).items()
    assert other != name
    # two routes may want different things of the same account: neither takes the other's session away
    both = f"Cookie: {name}={value}; {other}={sealed}; a=1"
    assert visit(house, both)[0] == 200
    assert told(house)[b"cookie"] == b"a=1"
    gated(house, RULE)
    assert visit(house, both)[0] == 200
    assert told(house)[b"cookie"] == b"a=1"
    _, fields = visit(house, both, path="/.wormhole/sign-out")
    over = [field.partition(b"=")[0].decode() for key, field in fields if key == b"set-cookie"]
    assert sorted(over) == sorted([name, other])


def test_what_is_kept_back_where_nobody_is_asked(house: House, issuer: Issuer) -> None:
    routes = (Route("app", "/in", "app", gates=(RULE,)), Route("app", "/", "app"))
    house.catalogs.swap(Catalog([Site("app", ("app.test",), hold_back(routes))], [Backend("app")]))
    lines = ("X_User: root", "Cookie: a=1; __Host-wormhole-12345678=x", "X-Other: 1")
    assert visit(house, *lines)[0] == 200
    got = told(house)
    assert b"x_user" not in got
    assert (got[b"cookie"], got[b"x-other"]) == (b"a=1", b"1")


@pytest.mark.parametrize("query", ["&".join("a=1" for _ in range(21)), "code=good&state=%FF%FF%FF%FF%FF%FF%FF%FF", "%"])
def test_queries_that_no_issuer_sends(house: House, issuer: Issuer, query: str) -> None:
    assert why(visit(house, path=f"{RULE.callback}?{query}")) == (400, b"sign-in-stale")


def test_an_answer_that_names_its_issuer(house: House, issuer: Issuer) -> None:
    """RFC 9207."""
    asked, way = sent_away(house, issuer)
    assert why(back(house, asked, way, "good&iss=https%3A%2F%2Fevil.test")) == (502, b"sign-in-failed")
    assert not issuer.told
    assert back(house, asked, way, "good&iss=https%3A%2F%2Fid.test%2Frealm")[0] == 302


def test_a_rule_that_goes_while_somebody_signs_in(house: House, issuer: Issuer) -> None:
    """Whoever is on the way gets an answer, although nothing is fetched for that rule any more."""
    asked, way = sent_away(house, issuer)
    token_of: Deferred[None] = Deferred()
    post = issuer.post

    async def slow(*args: Any) -> dict[str, Any]:
        await token_of
        return await post(*args)

    issuer.post = slow  # type: ignore[method-assign, assignment]
    visitor = house.visitor(**SECURE)
    [(name, value)] = way.items()
    visitor.says(get(f"{RULE.callback}?code=good&state={asked['state']}", f"Cookie: {name}={value}"))
    gated(house)
    issuer.pages.clear()
    token_of.callback(None)
    assert visitor.answers()[0][0].status_code == 502


def test_signing_out(house: House, issuer: Issuer) -> None:
    status, fields = visit(house, path="/.wormhole/sign-out")
    assert status == 200
    [cookie] = [value for name, value in fields if name == b"set-cookie"]
    assert b"Max-Age=0" in cookie


def test_claims_that_fit_no_cookie(house: House, issuer: Issuer, log_lines: Any) -> None:
    issuer.claims = {"groups": ["staff", "x" * 4000], "picture": "y" * 3000}
    asked, way = sent_away(house, issuer)
    assert why(back(house, asked, way)) == (502, b"sign-in-failed")
    assert log_lines.matching("make a cookie of")
    issuer.claims = {"groups": ["staff"], "picture": "y" * 3000}
    assert signed_in(house, issuer)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.test"},
        {"jwks_uri": ""},
        {"jwks_uri": "http://id.test/keys"},
        {"token_endpoint": 7},
        {"authorization_endpoint": "https://[x"},
        {"authorization_endpoint": ""},
    ],
)
def test_an_issuer_of_which_nothing_can_be_made(
    house: House, issuer: Issuer, log_lines: Any, changes: dict[str, Any]
) -> None:
    issuer.metadata |= changes
    assert why(visit(house, HTML)) == (503, b"issuer-unavailable")
    assert ISSUER in log_lines.text


def test_a_secret_in_the_form(house: House, issuer: Issuer) -> None:
    issuer.metadata |= {"token_endpoint_auth_methods_supported": ["client_secret_post"]}  # type: ignore[dict-item]
    signed_in(house, issuer)
    [(form, credentials)] = issuer.told
    assert credentials is None
    assert (form["client_id"], form["client_secret"]) == ("me", "hu:sh")


def test_a_long_address_comes_back_to_the_beginning(house: House, issuer: Issuer) -> None:
    asked, way = sent_away(house, issuer, "/" + "x" * 3000)
    assert dict(back(house, asked, way)[1])[b"location"] == b"https://app.test/"
    # some signs take more room in the cookie than they took in the address
    asked, way = sent_away(house, issuer, "/?" + '"' * 2000)
    assert all(len(f"{name}={value}") < 4000 for name, value in way.items())
    assert dict(back(house, asked, way)[1])[b"location"] == b"https://app.test/"


def test_nothing_that_is_there_is_left_when_the_rule_goes(house: House, issuer: Issuer) -> None:
    asks(house, HTML, **SECURE)
    gated(house)
    assert asks(house)[0] == 200
