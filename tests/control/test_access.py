"""Who may come in, as it stands in edge.toml: what may be written, and what is said where something may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.control._sample import make, sample
from tests.control.test_keys import EC, KEYS, jwk
from wormhole_tw.control.access import AddressRule, BasicRule, MirrorRule, RateRule, SignInRule, TokenRule
from wormhole_tw.control.balancing import Key
from wormhole_tw.control.held_back import HeldBack
from wormhole_tw.control.model import Route, Site
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.dev_ca import DevCa

HASH = "$2y$10$prqWzAcbRypnOSXL2W4yA.K3RnYlTbfIFRRdA.LM7mn7VEvmNGTfy"
KEY = "$.sites[0].routes[0]"
ISSUER = "https://id.test/realm"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "users").write_text(f"# people\n\nann:{HASH}\nbob:{HASH}\n")
    (tmp_path / "keys.json").write_text(json.dumps(KEYS))
    (tmp_path / "secret").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "short").write_text("hush\n")
    (tmp_path / "client").write_text("hush-hush-hush-hush\n")
    (tmp_path / "lines").write_text("one\ntwo\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "big").write_bytes(b"x" * (1024 * 1024 + 1))
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "mac.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": "eA"}]}))
    (tmp_path / "ca.pem").write_bytes(DevCa(tmp_path / "ca").ca_pem)
    return tmp_path


def site(folder: Path, route: dict[str, Any], **table: Any) -> Site:
    changes = {f"sites.0.{name}": value for name, value in table.items()}
    return make(sample(**{"sites.0.routes": [{"backend": "app", **route}], **changes}), folder=str(folder)).sites[0]


def route(folder: Path, **table: Any) -> Route:
    return site(folder, table).routes[0]


BASIC = {"users": {"ann": HASH}}
JWT = {"issuer": ISSUER, "audience": "app"}
OIDC = {"issuer": ISSUER, "client_id": "me", "client_secret_file": "client"}


@pytest.mark.parametrize(
    ("table", "key", "why"),
    [
        ({"allow": []}, "allow", "empty: nobody could come"),
        ({"allow": ["10.0.0.1/8"]}, "allow[0]", "no network"),
        ({"deny": ["::ffff:192.0.2.7"]}, "deny[0]", "judged by their IPv4 address: write 192.0.2.7/32"),
        ({"deny": ["all"]}, "deny[0]", "no network"),
        ({"rate_limit": {}}, "rate_limit.requests", "missing"),
        ({"rate_limit": {"requests": 1, "by": "header:"}}, "rate_limit.by", 'expected "address"'),
        ({"rate_limit": {"requests": 0}}, "rate_limit.requests", "expected"),
        ({"basic_auth": {}}, "basic_auth", "nobody could come: give users_file"),
        ({"basic_auth": BASIC, "jwt": JWT}, "jwt", "beside basic_auth"),
        ({"basic_auth": {"users": {"ann": "hush"}}}, "basic_auth.users.ann", "no bcrypt hash: htpasswd -nB"),
        ({"basic_auth": {"users": {"a:b": HASH}}}, "basic_auth.users", "has no colon"),
        ({"basic_auth": {"users": {"ann": HASH.replace("$10$", "$31$")}}}, "basic_auth.users.ann", "a cost of 8 to 14"),
        ({"basic_auth": {"users_file": "none"}}, "basic_auth.users_file", "cannot be read: No such file"),
        ({"basic_auth": {"users_file": ""}}, "basic_auth.users_file", "no path"),
        ({"basic_auth": {"users_file": "big"}}, "basic_auth.users_file", "longer than"),
        ({"basic_auth": {"users_file": "short"}}, "basic_auth.users_file", "line 1 is no NAME:HASH"),
        ({"basic_auth": {"users_file": "users", **BASIC}}, "basic_auth.users_file", "line 3 names ann again"),
        ({"basic_auth": {**BASIC, "realm": 'a"b'}}, "basic_auth.realm", "has to be ASCII"),
        ({"basic_auth": {**BASIC, "user_header": "a b"}}, "basic_auth.user_header", "no name of a header field"),
        ({"basic_auth": {**BASIC, "user_header": "Host"}}, "basic_auth.user_header", "Host is not for this"),
        ({"basic_auth": {**BASIC, "user_header": "Cookie"}}, "basic_auth.user_header", "Cookie is not for this"),
        ({"jwt": {"audience": "app"}}, "jwt", "whose tokens?"),
        ({"jwt": {"issuer": ISSUER}}, "jwt.audience", "missing"),
        ({"jwt": {**JWT, "audience": []}}, "jwt.audience", "empty"),
        ({"jwt": {**JWT, "issuer": "http://id.test"}}, "jwt.issuer", "has to be an https URL"),
        ({"jwt": {**JWT, "jwks_url": "https://[x"}}, "jwt.jwks_url", "has to be an https URL"),
        ({"jwt": {**JWT, "jwks_url": "https://a", "jwks_file": "b"}}, "jwt.jwks_file", "beside jwks_url"),
        ({"jwt": {**JWT, "jwks_file": "no.json"}}, "jwt.jwks_file", "no.json is no JSON"),
        ({"jwt": {**JWT, "jwks_file": "list.json"}}, "jwt.jwks_file", "list.json: no JWK set"),
        ({"jwt": {**JWT, "jwks_file": "mac.json"}}, "jwt.jwks_file", "no key in it can be used"),
        ({"jwt": {**JWT, "secret_file": "short"}}, "jwt.secret_file", "shorter than 32 octets"),
        ({"jwt": {**JWT, "algorithms": []}}, "jwt.algorithms", "empty"),
        ({"jwt": {**JWT, "algorithms": ["HS256"]}}, "jwt.algorithms[0]", "HS256 goes with secret_file"),
        ({"jwt": {**JWT, "algorithms": ["none"]}}, "jwt.algorithms[0]", "expected one of"),
        ({"jwt": {**JWT, "secret_file": "secret", "algorithms": ["ES256"]}}, "jwt.algorithms[0]", "ES256 goes with an"),
        ({"jwt": {**JWT, "ca_file": "users"}}, "jwt.ca_file", "holds no PEM certificate"),
        ({"jwt": {**JWT, "cookie": "a=b"}}, "jwt.cookie", "no name of a cookie"),
        ({"jwt": {**JWT, "claims": {"a": []}}}, "jwt.claims", "each claim has a value"),
        ({"jwt": {**JWT, "headers": {"X-A": ""}}}, "jwt.headers.X-A", "empty"),
        ({"jwt": {**JWT, "headers": {"X-Forwarded-For": "sub"}}}, "jwt.headers", "is not for this"),
        ({"oidc": {**OIDC, "issuer": "https://u:p@id.test"}}, "oidc.issuer", "has to be an https URL"),
        ({"oidc": {**OIDC, "client_secret_file": "empty"}}, "oidc.client_secret_file", "in one line"),
        ({"oidc": {**OIDC, "client_secret_file": "lines"}}, "oidc.client_secret_file", "in one line"),
        ({"oidc": {**OIDC, "client_secret_file": "short"}}, "oidc.client_secret_file", "shorter than 16 octets"),
        ({"oidc": {**OIDC, "scopes": ["email"]}}, "oidc.scopes", '"openid" among them'),
        ({"oidc": {**OIDC, "scopes": ["openid", "a b"]}}, "oidc.scopes", "a list of scopes"),
        ({"oidc": {**OIDC, "callback": "back"}}, "oidc.callback", "has to be a path"),
        ({"oidc": {**OIDC, "callback": "/a/../b"}}, "oidc.callback", "has to be a path"),
        ({"oidc": {**OIDC, "callback": "/a?b"}}, "oidc.callback", "has to be a path"),
        ({"exact": "/x", "oidc": OIDC}, "oidc.callback", "missing: a path that comes here too"),
        ({"oidc": {**OIDC, "session": 59}}, "oidc.session", "expected"),
        ({"mirror": {"backend": "nobody"}}, "mirror.backend", "there is no backend"),
        ({"mirror": {"backend": "app", "percent": 0}}, "mirror.percent", "expected"),
    ],
)
def test_what_is_refused(folder: Path, table: dict[str, Any], key: str, why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        route(folder, **table)
    assert raised.value.key == f"{KEY}.{key}"
    assert why in str(raised.value)
    assert "hush" not in str(raised.value)


def test_a_bad_line_of_a_file_of_users_is_named(folder: Path) -> None:
    for line, why in ((f"eve:{HASH[:-1]}", "no bcrypt hash"), (f"eve:{HASH.replace('$10$', '$04$')}", "a cost of")):
        (folder / "bad").write_text(f"ann:{HASH}\n{line}\n")
        with pytest.raises(ConfigError, match=f"line 2: {why}") as raised:
            route(folder, basic_auth={"users_file": "bad"})
        assert raised.value.key == f"{KEY}.basic_auth.users_file"


def test_a_mirror_wants_a_backend(folder: Path) -> None:
    table = {"redirect": {"to": "/x"}, "mirror": {"backend": "app"}}
    with pytest.raises(ConfigError, match="only beside backend"):
        make(sample(**{"sites.0.routes": [table]}), folder=str(folder))


def test_a_site_and_its_route_do_not_want_the_same_field(folder: Path) -> None:
    for of_site, own, name in (
        ({"basic_auth": BASIC}, {"jwt": JWT}, "jwt"),
        ({"jwt": JWT}, {"basic_auth": BASIC}, "basic_auth"),
    ):
        with pytest.raises(ConfigError, match="both want the Authorization field") as raised:
            site(folder, own, **of_site)
        assert raised.value.key == f"{KEY}.{name}"
    assert len(site(folder, {"jwt": {**JWT, "cookie": "t"}}, basic_auth=BASIC).routes[0].gates or ()) == 2
    assert len(site(folder, {"basic_auth": BASIC}, jwt={**JWT, "cookie": "t"}).routes[0].gates or ()) == 2


def test_what_is_asked_in_which_order(folder: Path) -> None:
    of_site = {"allow": ["10.0.0.0/8"], "rate_limit": {"requests": 5}}
    own = {
        "deny": ["10.1.0.0/16", "unix"],
        "rate_limit": {"requests": 10, "seconds": 60, "burst": 2, "by": "header:X-Key"},
        "basic_auth": {"users_file": "users", "users": {"eve": HASH}, "user_header": "X-User"},
        "oidc": {**OIDC, "claims": {"email": "*@test"}, "headers": {"X-Mail": "email"}},
        "mirror": {"backend": "app", "percent": 5},
    }
    made = site(folder, {"path": "/in", **own}, **of_site)
    everybody, few, nobody, rate, basic, sign_in, mirror = made.routes[0].gates or ()
    assert made.gates == {everybody, few}
    assert isinstance(everybody, AddressRule)
    assert everybody.allow is not None
    assert few == RateRule(5, 1.0, 5, Key("address"))
    assert isinstance(nobody, AddressRule)
    assert nobody.deny.unix
    assert rate == RateRule(10, 60.0, 2, Key("header", b"x-key"))
    assert isinstance(basic, BasicRule)
    assert [name for name, _ in basic.users] == [b"ann", b"bob", b"eve"]
    assert "prqWzAcb" not in repr(basic)
    assert isinstance(sign_in, SignInRule)
    assert sign_in.callback == "/in/.wormhole/signed-in"
    assert sign_in.secret == b"hush-hush-hush-hush"
    assert "hush" not in repr(sign_in)
    assert mirror == MirrorRule("app", 5.0)


def test_a_site_comes_back_to_its_shortest_prefix(folder: Path) -> None:
    routes = [{"backend": "app", "exact": "/"}, {"backend": "app", "path": "/a/b"}, {"backend": "app", "path": "/c"}]
    made = make(sample(**{"sites.0.routes": routes, "sites.0.oidc": OIDC}), folder=str(folder)).sites[0]
    [rule] = made.gates
    assert isinstance(rule, SignInRule)
    assert rule.callback == "/c/.wormhole/signed-in"
    own = site(folder, {}, oidc={**OIDC, "callback": "/back", "ca_file": "ca.pem"})
    [rule] = own.gates
    assert isinstance(rule, SignInRule)
    assert rule.callback == "/back"
    assert len(rule.authorities) == 1


def test_who_signs_in_has_to_come_back(folder: Path) -> None:
    gated = {"backend": "app", "path": "/in", "oidc": OIDC}
    before = {"backend": "app", "path": "/in/.wormhole"}
    page = {"oidc": {**OIDC, "callback": "/back"}}
    for routes, index, why in (
        ([{"backend": "app"}, gated], 1, r"comes back to /in/.wormhole/signed-in, which routes\[0\] \(/\) takes"),
        ([before, gated], 1, r"routes\[0\] \(/in/.wormhole\) takes"),
        ([{**before, "methods": ["GET"]}, gated], 1, r"routes\[0\]"),
        ([{**gated, "methods": ["POST"]}], 0, "no route with this oidc takes"),
        ([{**gated, "scheme": "http"}], 0, "no route with this oidc takes"),
        ([{**gated, "query": [{"name": "a", "value": "1"}]}], 0, "no route with this oidc takes"),
        ([{**gated, **page}], 0, "comes back to /back with GET, which no route"),
    ):
        with pytest.raises(ConfigError, match=why) as raised:
            make(sample(**{"sites.0.routes": routes}), folder=str(folder))
        assert raised.value.key == f"$.sites[0].routes[{index}]"
    for routes in (
        [{**before, "methods": ["POST"]}, gated],
        [{**before, "cookies": [{"name": "a", "value": "1"}]}, gated],
        [{**before, "query": [{"name": "a", "value": "1"}]}, {**gated, "query": [{"name": "a", "present": False}]}],
        [{**before, "scheme": "http"}, {**gated, "headers": [{"name": "X-A", "value": "1"}]}],
        [{**gated, **page}, {"backend": "app", "path": "/back", **page}],
    ):
        make(sample(**{"sites.0.routes": routes}), folder=str(folder))


def test_what_one_route_tells_no_visitor_says_on_another(folder: Path) -> None:
    routes = [
        {"backend": "app", "path": "/in", "oidc": {**OIDC, "headers": {"X-User": "sub"}}},
        {"backend": "app", "path": "/t", "jwt": {**JWT, "headers": {"X_User": "sub", "X-Mail": "email"}}},
        {"backend": "app", "path": "/b", "basic_auth": {**BASIC, "user_header": "X-Name"}},
        {"path": "/no", "redirect": {"to": "/"}},
        {"backend": "app", "path": "/b2", "basic_auth": BASIC, "mirror": {"backend": "app"}},
        {"backend": "app"},
    ]
    made = make(sample(**{"sites.0.routes": routes}), folder=str(folder)).sites[0].routes
    held = [next((one for one in route.gates or () if isinstance(one, HeldBack)), None) for route in made]
    everything = frozenset({b"x-user", b"x-mail", b"x-name"})
    assert held == [
        HeldBack(everything - {b"x-user"}, cookies=False),
        HeldBack(everything - {b"x-user", b"x-mail"}, cookies=True),
        HeldBack(everything - {b"x-name"}, cookies=True),
        None,
        HeldBack(everything, cookies=True),
        HeldBack(everything, cookies=True),
    ]
    assert [one.kind for one in made[4].gates or ()] == ["held_back", "basic", "mirror"]


def test_tokens(folder: Path) -> None:
    [rule] = route(folder, jwt=JWT).gates or ()
    assert isinstance(rule, TokenRule)
    assert "HS256" not in rule.algorithms
    assert rule.audiences == ("app",)
    [rule] = route(folder, jwt={**JWT, "jwks_file": "keys.json", "audience": ["a", "b"], "cookie": "t"}).gates or ()
    assert isinstance(rule, TokenRule)
    assert json.loads(rule.keys or b"")["keys"][0] == jwk(EC, "ES256", kid="ec", use="sig", alg="ES256")
    [rule] = route(folder, jwt={"secret_file": "secret", "audience": "a"}).gates or ()
    assert isinstance(rule, TokenRule)
    assert rule.algorithms == ("HS256",)
    assert rule.secret == b"0123456789abcdef0123456789abcdef"
    [rule] = route(folder, jwt={"jwks_url": "https://id.test/keys", "audience": "a"}).gates or ()
    assert isinstance(rule, TokenRule)
    assert rule.jwks_url == "https://id.test/keys"
    [rule] = route(folder, jwt={**JWT, "algorithms": ["ES384"], "claims": {"scope": ["a"]}}).gates or ()
    assert isinstance(rule, TokenRule)
    assert rule.algorithms == ("ES384",)


def test_nothing_asked(folder: Path) -> None:
    made = site(folder, {})
    assert made.gates == frozenset()
    assert made.routes[0].gates is None
