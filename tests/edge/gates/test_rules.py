"""Gates that ask who a visitor is: address, rate, password, token; and the copy that a mirror gets."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import bcrypt
import pytest
from twisted.internet.defer import Deferred, succeed

from tests.control.test_keys import EC, KEYS, SECRET, token
from tests.edge.house import START, House
from wormhole_tw.control.access import AddressRule, BasicRule, MirrorRule, RateRule, TokenRule
from wormhole_tw.control.balancing import BreakerTable, Key, Policy
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.claims import Claims
from wormhole_tw.control.model import Backend, GateSettings, Route, Site
from wormhole_tw.control.trust import Trusted
from wormhole_tw.control.windows import BreakerState
from wormhole_tw.edge.mirror import Copy
from wormhole_tw.errors import IssuerUnavailable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ISSUER = "https://id.test"


class Outside:
    """Threads that run at once, or when the test says so, and a web of which the test is the servers."""

    def __init__(self) -> None:
        self.held: list[tuple[Deferred[Any], Any]] | None = None
        self.pages: dict[str, Any] = {}
        self.asked: list[str] = []

    def in_thread(self, call: Any, *args: Any) -> Deferred[Any]:
        if self.held is None:
            return succeed(call(*args))
        result: Deferred[Any] = Deferred()
        self.held.append((result, lambda: call(*args)))
        return result

    def client(self, authorities: tuple[bytes, ...]) -> Outside:
        return self

    async def get(self, url: str) -> dict[str, Any]:
        self.asked.append(url)
        page = self.pages.get(url)
        if isinstance(page, Deferred):
            page = await page
        if page is None:
            raise IssuerUnavailable(f"{url}: nobody is there")
        return dict(page)

    async def post(self, url: str, form: Mapping[str, str], credentials: tuple[str, str] | None) -> dict[str, Any]:
        raise NotImplementedError


@pytest.fixture
def outside(house: House) -> Outside:
    made = Outside()
    house.context.outside = made  # type: ignore[assignment]
    return made


def gated(house: House, *gates: GateSettings, of_site: bool = False) -> None:
    """Every request for ``app.test`` is asked these; ``/b`` is a route of its own."""
    routes = (Route("app", "/b", "app", gates=gates), Route("app", "/", "app", gates=gates))
    site = Site("app", ("app.test",), routes, gates=frozenset(gates) if of_site else frozenset())
    house.catalogs.swap(Catalog([site], [Backend("app"), Backend("docs")]))


def get(path: str = "/", *lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: app.test", *lines, "")).encode("latin-1")


def told(house: House) -> dict[bytes, bytes]:
    """The fields of the last request that a service got."""
    requests = [request for stream in house.streams for request in stream.requests()]
    return {name.lower(): value for name, value in requests[-1][0].headers}


def asks(house: House, *lines: str, path: str = "/", **facts: Any) -> tuple[int, dict[bytes, bytes]]:
    """The status and the fields that a new visitor gets; a request that comes through is answered with 200."""
    visitor = house.visitor(**facts)
    visitor.says(get(path, *lines))
    for stream in house.streams:
        if stream.read():
            stream.deliver(OK)
    [(head, _)] = visitor.answers()
    visitor.lose()
    return head.status_code, {name.lower(): value for name, value in head.headers}


def reason(answer: tuple[int, dict[bytes, bytes]]) -> tuple[int, bytes]:
    return answer[0], answer[1].get(b"x-wormhole-error", b"")


NET = Trusted((ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")))


@pytest.mark.parametrize(
    ("rule", "address", "status"),
    [
        (AddressRule(NET), "192.0.2.7", 200),
        (AddressRule(NET), "::ffff:192.0.2.7", 200),
        (AddressRule(NET), "2001:db8::1", 200),
        (AddressRule(NET), "198.51.100.1", 403),
        (AddressRule(NET), "", 403),
        (AddressRule(Trusted((), unix=True)), "", 200),
        (AddressRule(None, NET), "192.0.2.7", 403),
        (AddressRule(None, NET), "198.51.100.1", 200),
        (AddressRule(NET, Trusted((ip_network("192.0.2.7/32"),))), "192.0.2.7", 403),
        (AddressRule(None, Trusted((ip_network("fe80::/10"),))), "fe80::1%eth0", 403),
    ],
)
def test_addresses(house: House, rule: AddressRule, address: str, status: int) -> None:
    gated(house, rule)
    answer = asks(house, "X-Forwarded-For: 192.0.2.9", address=address)
    assert reason(answer) == (status, b"" if status == 200 else b"address-refused")


def test_so_many_and_no_more(house: House) -> None:
    gated(house, RateRule(2, 10.0, 2, Key("address")))
    assert [reason(asks(house)) for _ in range(3)] == [(200, b""), (200, b""), (429, b"rate-limited")]
    assert asks(house)[1][b"retry-after"] == b"5"
    assert asks(house, address="192.0.2.8")[0] == 200
    assert asks(house, path="/b")[0] == 200  # a limit of its own
    house.pass_time(5)
    assert [asks(house)[0] for _ in range(2)] == [200, 429]


def test_a_limit_of_the_site_is_one(house: House) -> None:
    rule = RateRule(2, 10.0, 2, Key("address"))
    gated(house, rule, of_site=True)
    assert [asks(house, path=path)[0] for path in ("/", "/b", "/", "/b")] == [200, 200, 429, 429]
    gated(house, rule, of_site=True)  # a reload gives nobody more
    assert asks(house)[0] == 429
    gated(house, RateRule(3, 10.0, 3, Key("address")), of_site=True)
    assert asks(house)[0] == 200


def test_a_route_with_the_limit_of_its_site_has_one_beside_it(house: House) -> None:
    rule = RateRule(2, 10.0, 2, Key("address"))
    routes = (Route("app", "/b", "app", gates=(rule, rule)), Route("app", "/", "app", gates=(rule,)))
    site = Site("app", ("app.test",), routes, gates=frozenset({rule}))
    house.catalogs.swap(Catalog([site], [Backend("app")]))
    assert [asks(house, path=path)[0] for path in ("/b", "/b", "/b", "/")] == [200, 200, 429, 429]


@pytest.mark.parametrize("long", ["", "x" * 100])
def test_a_limit_by_a_header(house: House, long: str) -> None:
    gated(house, RateRule(1, 10.0, 1, Key("header", b"x-key")))
    assert [asks(house, f"X-Key: a{long}")[0] for _ in range(2)] == [200, 429]
    assert asks(house, f"X-Key: b{long}")[0] == 200
    # who leaves it out is told apart by its address
    assert [asks(house)[0] for _ in range(2)] == [200, 429]
    assert asks(house, address="198.51.100.1")[0] == 200


def test_a_limit_by_the_path_knows_every_spelling_of_it(house: House) -> None:
    gated(house, RateRule(1, 10.0, 1, Key("path")))
    assert [asks(house, path=path)[0] for path in ("/b/x", "/b/%78?a", "/c/../b/./x", "/b/y")] == [200, 429, 429, 200]


def test_an_ipv6_visitor_has_a_whole_net(house: House) -> None:
    gated(house, RateRule(1, 10.0, 1, Key("address")))
    assert [asks(house, address=f"2001:db8::{last}")[0] for last in (1, 2)] == [200, 429]


HASHES = ((b"ann", bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4))), (b"bob", bcrypt.hashpw(b"", bcrypt.gensalt(4))))


def basic(name: str, password: str) -> str:
    return "Authorization: Basic " + b64encode(f"{name}:{password}".encode()).decode()


def test_name_and_password(house: House, outside: Outside) -> None:
    gated(house, BasicRule(HASHES, b"The realm", b"X-User"))
    status, fields = asks(house)
    assert status == 401
    assert fields[b"www-authenticate"] == b'Basic realm="The realm", charset="UTF-8"'
    for wrong in (
        basic("ann", "S3cret"),
        basic("eve", "s3cret"),
        basic("ann", "s3cret" * 20),
        basic("ann", "s3cret\0"),
        "Authorization: Basic !!!",
        "Authorization: Basic YW5u",
        "Authorization: Bearer YW5uOnMzY3JldA==",
        basic("ann", "s3cret") + "\r\n" + basic("ann", "s3cret"),
    ):
        assert reason(asks(house, wrong)) == (401, b"not-signed-in"), wrong
    assert asks(house, basic("bob", ""))[0] == 200
    assert asks(house, basic("ann", "s3cret"), "X-User: root", "X_User: root")[0] == 200


def test_what_the_service_gets_of_it(house: House, outside: Outside) -> None:
    for rule, fields in (
        (BasicRule(HASHES, user_header=b"X-User"), {b"x-user": b"ann"}),
        (BasicRule(HASHES), {b"x-user": b"root"}),
        (BasicRule(HASHES, keep=True), {b"x-user": b"root", b"authorization": b"Basic YW5uOnMzY3JldA=="}),
    ):
        gated(house, rule)
        visitor = house.visitor()
        visitor.says(get("/", basic("ann", "s3cret"), "X-User: root", "X_User: root"))
        got = told(house)
        assert {name: got[name] for name in (b"x-user", b"authorization") if name in got} == fields
        assert (b"x_user" in got) is (b"root" in fields.values())
        house.streams[-1].deliver(OK)
        assert visitor.answers()


def test_a_password_that_was_right_is_not_checked_again_for_a_while(house: House, outside: Outside) -> None:
    gated(house, BasicRule(HASHES))
    outside.held = []
    visitor = house.visitor()
    visitor.says(get("/", basic("ann", "s3cret")))
    assert not house.streams
    [(result, check)] = outside.held
    result.callback(check())
    house.streams[-1].deliver(OK)
    assert visitor.answers()[0][0].status_code == 200
    assert asks(house, basic("ann", "s3cret"))[0] == 200
    assert len(outside.held) == 1
    house.pass_time(301)
    house.visitor().says(get("/", basic("ann", "s3cret")))
    assert len(outside.held) == 2


def test_few_are_checked_at_a_time_and_too_many_are_told_so(house: House, outside: Outside) -> None:
    gated(house, BasicRule(HASHES))
    outside.held = []
    visitors = [house.visitor() for _ in range(68)]
    for number, visitor in enumerate(visitors):
        visitor.says(get("/", basic("ann", f"guess {number}")))
    assert len(outside.held) == 2
    refused = [visitor.answers()[0][0] for visitor in visitors[66:]]
    assert [head.status_code for head in refused] == [503, 503]
    visitors[5].lose()  # it has left before its turn, and is not checked: another has its place
    visitors[66].says(get("/", basic("ann", "guess 66")))
    assert visitors[66].hears() == b""
    while outside.held:
        result, _ = outside.held.pop(0)
        result.callback(False)
    heads = [visitor.answers()[0][0] for number, visitor in enumerate(visitors[:67]) if number != 5]
    assert {head.status_code for head in heads} == {401}


def test_who_waits_for_a_check_when_the_rule_goes(house: House, outside: Outside) -> None:
    gated(house, BasicRule(HASHES))
    outside.held = []
    visitors = [house.visitor() for _ in range(3)]
    for visitor in visitors:
        visitor.says(get("/", basic("ann", "s3cret")))
    gated(house)
    for result, check in outside.held:
        result.callback(check())
    assert len(house.streams) == 2  # who was being checked is let in
    assert visitors[2].answers()[0][0].status_code == 503


def test_guesses_at_one_site_take_no_threads_from_others(house: House, outside: Outside) -> None:
    """Two checks run in the whole process, by turns."""
    rules = [BasicRule(HASHES, realm) for realm in (b"one", b"two")]
    routes = [Route("app", f"/{number}", "app", gates=(rule,)) for number, rule in enumerate(rules)]
    house.catalogs.swap(Catalog([Site("app", ("app.test",), tuple(routes))], [Backend("app")]))
    outside.held = []
    for number in range(20):
        house.visitor().says(get("/0", basic("ann", f"guess {number}")))
    visitor = house.visitor()
    visitor.says(get("/1", basic("ann", "s3cret")))
    assert len(outside.held) == 2
    for _ in range(2):
        outside.held.pop(0)[0].callback(False)
    # the other site's one did not wait behind twenty
    checks = [check for _, check in outside.held]
    assert [check() for check in checks] == [False, True] or [check() for check in checks] == [True, False]
    for result, check in outside.held[:]:
        result.callback(check())
    assert house.streams
    assert len(outside.held) == 4


def test_a_check_that_fails_lets_nobody_in(house: House, outside: Outside, logged_failures: Any) -> None:
    gated(house, BasicRule(HASHES))
    outside.held = []
    visitor = house.visitor()
    visitor.says(get("/", basic("ann", "s3cret")))
    outside.held[0][0].errback(RuntimeError("no thread"))
    assert visitor.answers()[0][0].status_code == 401
    assert logged_failures.flush(RuntimeError)


def test_who_is_not_there_costs_what_somebody_costs(house: House, outside: Outside) -> None:
    """Where hashes differ in cost, a name that nobody has is no quicker than all others, and always the same."""
    gated(house, BasicRule(HASHES))
    checked: list[bytes] = []

    def in_thread(call: Any, hashed: bytes, password: bytes) -> Deferred[bool]:
        checked.append(hashed)
        return succeed(False)

    outside.in_thread = in_thread  # type: ignore[method-assign, assignment]
    for _ in range(2):
        for number in range(20):
            assert asks(house, basic(f"nobody {number}", "x"))[0] == 401
    assert checked[:20] == checked[20:]
    assert set(checked) == {hashed for _, hashed in HASHES}


TOLD = Claims((("groups", ("staff",)),), ((b"X-User", "sub"),))
SECRETS = TokenRule(("HS256",), ISSUER, ("app",), secret=SECRET)
GROUPS = {"groups": ["staff"]}
END = int(START) + 600


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}"


def signed(**changes: Any) -> str:
    return token(SECRET, "HS256", **{"exp": END, **changes})


def test_a_token_and_what_is_no_good(house: House, outside: Outside) -> None:
    gated(house, replace(SECRETS, claims=TOLD, leeway=5.0))
    status, fields = asks(house)
    assert (status, fields[b"www-authenticate"]) == (401, b"Bearer")
    assert asks(house, bearer(signed(**GROUPS)))[0] == 200
    assert asks(house, bearer(signed(**GROUPS)).replace("Bearer", "bEARER"))[0] == 200
    for bad in (signed(aud="other"), signed(**GROUPS)[:-2], "x", token(EC, "ES256", exp=END)):
        status, fields = asks(house, bearer(bad))
        assert (status, fields[b"www-authenticate"]) == (401, b'Bearer error="invalid_token"')
    status, fields = asks(house, bearer(signed(groups=["guests"])))
    assert (status, fields[b"www-authenticate"]) == (403, b'Bearer error="insufficient_scope"')
    assert reason(asks(house, bearer(signed()), bearer(signed()))) == (400, b"token-refused")
    assert reason(asks(house, "Authorization: Basic YTpi")) == (401, b"not-signed-in")


def test_a_token_ends(house: House, outside: Outside) -> None:
    gated(house, replace(SECRETS, leeway=5.0))
    text = bearer(signed(exp=int(house.clock.rightNow) + 10))
    for wait, status in ((0, 200), (14, 200), (1, 401)):
        house.pass_time(wait)
        assert asks(house, text)[0] == status


def test_a_service_is_told_who_it_is(house: House, outside: Outside) -> None:
    text = signed(**GROUPS)
    for rule, lines, wanted in (
        (
            replace(SECRETS, claims=TOLD),
            [bearer(text)],
            {b"x-user": b"ann", b"authorization": b"Bearer " + text.encode()},
        ),
        (replace(SECRETS, claims=TOLD, keep=False), [bearer(text)], {b"x-user": b"ann"}),
        (
            replace(SECRETS, cookie=b"t"),
            [f"Cookie: a=1; t={text}"],
            {b"x-user": b"root", b"cookie": b"a=1; t=" + text.encode()},
        ),
        (
            replace(SECRETS, claims=TOLD, cookie=b"t", keep=False),
            [f"Cookie: t={text}; a=1"],
            {b"x-user": b"ann", b"cookie": b"a=1"},
        ),
    ):
        gated(house, rule)
        visitor = house.visitor()
        visitor.says(get("/", *lines, "X-User: root"))
        got = told(house)
        assert {name: got[name] for name in (b"x-user", b"authorization", b"cookie") if name in got} == wanted
        house.streams[-1].deliver(OK)
        assert visitor.answers()
    gated(house, replace(SECRETS, cookie=b"t"))
    assert asks(house, f"Cookie: t={text}; t={text}")[0] == 400
    # a cookie that nobody looked at does not stand beside a token that was
    assert asks(house, bearer(text), "Cookie: t=forged; a=1")[0] == 200
    assert told(house)[b"cookie"] == b"a=1"


def test_a_token_that_is_nested_too_deeply(house: House, outside: Outside) -> None:
    gated(house, SECRETS)
    header = b64encode(b'{"alg":"HS256","x":' + b"[" * 4000 + b"]" * 4000 + b"}").decode()
    assert reason(asks(house, bearer(f"{header}.e30.x"))) == (401, b"token-refused")


def test_trailers_do_not_say_who_it_is(house: House, outside: Outside) -> None:
    gated(house, replace(SECRETS, claims=TOLD))
    visitor = house.visitor()
    visitor.says(
        f"POST / HTTP/1.1\r\nHost: app.test\r\n{bearer(signed(**GROUPS))}\r\nTransfer-Encoding: chunked\r\n\r\n"
        "1\r\nx\r\n0\r\nX_User: root\r\nX-Sum: 1\r\n\r\n"
    )
    said = house.stream.read()
    assert b"ann" in said
    assert b"root" not in said
    assert b"X-Sum: 1" in said
    house.stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][0].status_code == 200


def test_an_issuer_that_hangs_holds_nobody_up_for_long(house: House, outside: Outside) -> None:
    outside.pages["https://id.test/keys"] = KEYS
    gated(house, replace(WEB, jwks_url="https://id.test/keys"))
    ends = iter(range(END + 10_000, END + 20_000))  # each is one that was not seen before

    def another() -> str:
        return bearer(token(EC, "ES256", "ec", exp=next(ends)))

    assert asks(house, another())[0] == 200
    house.pass_time(3601)
    hangs: Deferred[Any] = Deferred()
    outside.pages["https://id.test/keys"] = hangs
    visitor = house.visitor()
    visitor.says(get("/", another()))
    hangs.errback(IssuerUnavailable("no whole answer within 10 s"))
    house.stream.read()
    house.stream.deliver(OK)
    assert visitor.answers()[0][0].status_code == 200
    # from now on it is tried again, and nobody waits for that
    house.pass_time(10)
    outside.pages["https://id.test/keys"] = Deferred()
    before = len(outside.asked)
    assert [asks(house, another())[0] for _ in range(3)] == [200] * 3
    assert len(outside.asked) == before + 1


def test_keys_of_a_file(house: House, outside: Outside) -> None:
    gated(house, TokenRule(("ES256",), ISSUER, ("app",), keys=json.dumps(KEYS).encode()))
    assert asks(house, bearer(token(EC, "ES256", "ec", exp=END)))[0] == 200
    assert asks(house, bearer(token(EC, "ES256", "none", exp=END)))[0] == 401


WEB = TokenRule(("ES256",), ISSUER, ("app",))
METADATA = f"{ISSUER}/.well-known/openid-configuration"


def test_keys_of_an_issuer_are_fetched_once(house: House, outside: Outside) -> None:
    outside.pages = {METADATA: {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}, f"{ISSUER}/keys": KEYS}
    gated(house, WEB)
    good = bearer(token(EC, "ES256", "ec", exp=END))
    assert [asks(house, good)[0] for _ in range(3)] == [200] * 3
    assert outside.asked == [METADATA, f"{ISSUER}/keys"]
    # a flood of tokens with keys that nobody has asks the issuer once in ten seconds
    house.pass_time(10)
    for number in range(5):
        assert asks(house, bearer(token(EC, "ES256", f"new {number}", exp=END)))[0] == 401
    assert len(outside.asked) == 4
    # and a new one is found
    outside.pages[f"{ISSUER}/keys"] = {"keys": [{**KEYS["keys"][0], "kid": "newer"}]}
    house.pass_time(10)
    assert asks(house, bearer(token(EC, "ES256", "newer", exp=END)))[0] == 200
    # keys that were taken back open nothing, once what was remembered is over
    house.pass_time(300)
    assert asks(house, good)[0] == 401


def test_an_issuer_that_is_away(house: House, outside: Outside, log_lines: Any) -> None:
    gated(house, replace(WEB, jwks_url="https://id.test/keys"))
    good = bearer(token(EC, "ES256", "ec", exp=END))
    assert [reason(asks(house, good)) for _ in range(2)] == [(503, b"issuer-unavailable")] * 2
    assert outside.asked == ["https://id.test/keys"]
    assert "the key set of https://id.test cannot be had: https://id.test/keys: nobody is there" in log_lines
    outside.pages["https://id.test/keys"] = KEYS
    house.pass_time(10)
    assert asks(house, good)[0] == 200
    # what was had stays good
    outside.pages.clear()
    house.pass_time(4000)
    assert asks(house, bearer(token(EC, "ES256", "ec", exp=END + 10_000)))[0] == 200
    assert len(outside.asked) == 3


def test_visitors_wait_for_the_keys_together(house: House, outside: Outside) -> None:
    keys: Deferred[Any] = Deferred()
    outside.pages["https://id.test/keys"] = keys
    gated(house, replace(WEB, jwks_url="https://id.test/keys"))
    good = get("/", bearer(token(EC, "ES256", "ec", exp=END)))
    visitors = [house.visitor() for _ in range(3)]
    for visitor in visitors:
        visitor.says(good)
    assert outside.asked == ["https://id.test/keys"]
    visitors[0].lose()  # who leaves takes nothing from the others
    keys.callback(KEYS)
    for stream in house.streams:
        stream.read()
        stream.deliver(OK)
    assert [visitor.answers()[0][0].status_code for visitor in visitors[1:]] == [200, 200]


def test_a_rule_that_goes_while_visitors_wait(house: House, outside: Outside) -> None:
    outside.pages["https://id.test/keys"] = Deferred()
    gated(house, replace(WEB, jwks_url="https://id.test/keys"))
    visitor = house.visitor()
    visitor.says(get("/", bearer(token(EC, "ES256", "ec", exp=END))))
    gated(house)
    assert visitor.answers()[0][0].status_code == 503


def mirrored(house: House, percent: float = 100.0) -> Any:
    gated(house, MirrorRule("docs", percent))
    other = house.agent("docs", instance=9)
    house.sessions.append(other)
    return other


POST = b"POST /b?c HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n"


def test_a_mirror_gets_the_same(house: House) -> None:
    other = mirrored(house)
    visitor = house.visitor()
    visitor.says(get("/x", "X-A: 1"))
    [own], [copy] = house.sessions[0].streams, other.streams
    assert own.requests()[0][0].headers == copy.requests()[0][0].headers
    own.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"
    copy.deliver(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nnope")
    visitor.says(POST % 6 + b"abc")
    visitor.says(b"def")
    assert [stream.requests()[-1][:2][1] for stream in (own, copy)] == [b"abcdef", b"abcdef"]
    copy.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    copy.deliver(b"0\r\n\r\n")
    own.deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"ok"
    assert visitor.hears() == b""


def test_a_mirror_gets_what_came_while_a_gate_waited(house: House, outside: Outside) -> None:
    gated(house, BasicRule(HASHES), MirrorRule("docs"))
    other = house.agent("docs", instance=9)
    house.sessions.append(other)
    head = f"POST / HTTP/1.1\r\nHost: app.test\r\n{basic('ann', 's3cret')}\r\n"
    for body in ("Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"):
        outside.held = []
        visitor = house.visitor()
        visitor.says(head + body)
        [(result, check)] = outside.held
        result.callback(check())
        for stream in (house.sessions[0].streams[-1], other.streams[-1]):
            assert stream.requests()[-1][1] == b"abc"
            stream.deliver(OK)
        assert visitor.answers([b"POST"])[0][1] == b"ok"
        house.pass_time(301)


def test_nobody_waits_for_a_mirror(house: House) -> None:
    other = mirrored(house)
    for trouble in ("silent", "lost", "gone"):
        visitor = house.visitor()
        visitor.says(get())
        if trouble == "lost":
            other.streams[-1].lose()
        house.stream.read()
        house.stream.deliver(OK)
        assert visitor.answers()[0][1] == b"ok", trouble
        if trouble == "lost":
            other.leave()
            house.sessions.remove(other)
    house.pass_time(61)  # the silent one is given up


def test_a_mirror_that_stays_behind_is_given_up(house: House) -> None:
    other = mirrored(house)
    visitor = house.visitor()
    visitor.says(POST % 2_000_000)
    sent = 0
    while sent < 2_000_000:
        visitor.says(b"x" * 10_000)
        house.stream.read()
        sent += 10_000
    assert other.streams[0].aborted
    [(_, body, _)] = house.stream.requests()
    assert len(body) == 2_000_000
    house.stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"ok"


def test_a_mirror_of_who_leaves_ends(house: House) -> None:
    other = mirrored(house)
    visitor = house.visitor()
    visitor.says(POST % 100 + b"x")
    visitor.lose()
    assert other.streams[0].aborted


def test_copies_are_counted_as_any_requests_of_their_backend(house: House) -> None:
    other = mirrored(house)
    catalog = house.catalogs.current
    backends = [
        replace(one, policy=Policy(breaker=BreakerTable(requests=2, share=0.5, seconds=5.0, trials=1)))
        if one.name == "docs"
        else one
        for one in catalog.backends.values()
    ]
    house.catalogs.swap(Catalog(catalog.sites, backends, own_names=["edge.test"]))
    group = house.context.dispatch.group("docs")
    [member] = group.standings

    def copied(status: int) -> int:
        """One request; gives how many copies were made."""
        before = len(other.streams), sum(len(stream.requests()) for stream in other.streams)
        visitor = house.visitor()
        visitor.says(get())
        house.stream.read()
        house.stream.deliver(OK)
        assert visitor.answers()[0][1] == b"ok"
        visitor.lose()
        made = sum(len(stream.requests()) for stream in other.streams) - before[1]
        assert member.active == made
        if made:
            other.streams[-1].deliver(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        assert (member.active, member.waiting) == (0, 0)
        return made

    assert [copied(503), copied(503), copied(503)] == [1, 1, 0]
    assert group.breaker is not None
    assert group.breaker.state is BreakerState.OPEN
    house.pass_time(6)
    # a trial that is given up leaves room for the next
    visitor = house.visitor()
    visitor.says(POST % 100 + b"x")
    assert member.active == 1
    visitor.lose()
    assert member.active == 0
    assert [copied(200), copied(200)] == [1, 1]
    assert group.breaker.state is BreakerState.CLOSED


def test_some_are_copied(house: House) -> None:
    other = mirrored(house, 25.0)
    for _ in range(200):
        assert asks(house)[0] == 200
    copies = sum(len(stream.requests()) for stream in other.streams)
    assert 25 <= copies <= 75


def test_an_upgrade_is_not_copied(house: House) -> None:
    other = mirrored(house)
    visitor = house.visitor()
    visitor.says(get("/", "Connection: upgrade", "Upgrade: websocket"))
    assert house.sessions[0].streams
    assert not other.streams
    visitor.lose()


def test_a_mirror_that_goes(house: House) -> None:
    other = mirrored(house)
    visitor = house.visitor()
    visitor.says(get())
    gated(house)
    assert other.streams[0].aborted
    house.stream.read()
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_bug_in_a_copy_is_told_and_is_not_the_visitors(
    house: House, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    other = mirrored(house)
    monkeypatch.setattr(Copy, "on_resume", lambda _: 1 / 0)
    visitor = house.visitor()
    visitor.says(POST % 2 + b"ab")
    house.stream.read()
    house.stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"ok"
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert other.streams[0].aborted
