from __future__ import annotations

import itertools
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.control._sample import make, sample
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.config import EdgeConfig, Limits, Listener, Override
from wormhole_tw.control.limits import SiteLimits
from wormhole_tw.control.model import H2C
from wormhole_tw.control.names import normalise_hostname
from wormhole_tw.control.reload import restart_needed
from wormhole_tw.control.tokens import digest, digest_line, generate
from wormhole_tw.errors import ConfigError

APP = digest_line("app-token")


def test_a_small_file_and_its_defaults() -> None:
    config = make()
    assert config.name == "machine"
    assert config.names == ("localhost", "127.0.0.1", "::1", "machine")
    assert config.region == "local"
    assert config.listeners == (Listener("tcp:8443"), Listener("tcp:8080", tls=False))
    assert [listener.on_plain for listener in config.listeners] == ["redirect", "redirect"]
    assert [listener.port for listener in config.listeners] == [8443, 8080]
    assert config.public_https_port == 8443
    assert config.admin is None
    assert config.state == Path("/etc/edge/state")
    assert config.tls.mode == "dev"
    assert config.limits == Limits()
    assert [backend.name for backend in config.backends] == ["app", "docs"]
    assert config.backends[0].tokens == {digest("app-token")}
    assert [(route.path, route.backend, route.site) for route in config.sites[0].routes] == [
        ("/docs", "docs", "example"),
        ("/", "app", "example"),
    ]


def test_everything_said(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(
        f"""
        [edge]
        name = "edge-1"
        names = ["Edge.example.test.", "192.0.2.1"]
        region = "ams"
        public_https_port = 443
        admin = "tcp:9190:interface=127.0.0.1"
        state = "/var/lib/edge"
        [[edge.listeners]]
        endpoint = "tcp:8443"
        [[edge.listeners]]
        endpoint = "unix:/run/edge.sock"
        tls = false
        on_plain = "serve"
        [tls]
        mode = "files"
        [[tls.certificates]]
        certificate = "tls/chain.pem"
        key = "/etc/ssl/private/key.pem"
        [limits]
        head = 5
        body_bytes = 1_000_000
        [[backends]]
        name = "app"
        tokens = ["{APP}", "{APP.upper()}"]
        protocol = "h2c"
        [[sites]]
        hostnames = ["*.preview.example.test"]
        routes = [{{ path = "/%7euser", backend = "app" }}]
        limits = {{ body_bytes = 2_000_000, whole = 60 }}
        """
    )
    config = EdgeConfig.load(path)
    assert config.source == str(path)
    assert (config.name, config.region) == ("edge-1", "ams")
    assert config.names == ("edge.example.test", "192.0.2.1")
    assert config.listeners == (
        Listener("tcp:8443"),
        Listener("unix:/run/edge.sock", tls=False, on_plain="serve"),
    )
    assert config.listeners[1].port is None
    assert config.public_https_port == 443
    assert config.admin == "tcp:9190:interface=127.0.0.1"
    assert config.state == Path("/var/lib/edge")
    (pair,) = config.tls.certificates
    assert pair.certificate == tmp_path / "tls/chain.pem"
    assert pair.key == Path("/etc/ssl/private/key.pem")
    assert pair.where == "$.tls.certificates[0]"
    assert build_catalog(config).backends["app"].protocol == H2C
    assert config.limits.head == 5.0
    assert config.limits.body_bytes == 1_000_000
    own = config.sites[0].routes[0].limits
    assert own == SiteLimits(body_bytes=2_000_000, whole=60.0)
    assert own is not None
    assert own.over(config.limits) == Limits(head=5.0, body_bytes=2_000_000, whole=60.0)
    assert config.sites[0].name == "*.preview.example.test"
    assert config.sites[0].routes[0].path == "/~user"


WRONG: list[tuple[dict[str, object], str, str]] = [
    # what is changed in the sample · the key in the error · a piece of the reason
    ({"edges": {}}, "$.edges", "unknown key; did you mean edge?"),
    ({"sites.0.routes.0.bakend": "app"}, "$.sites[0].routes[0].bakend", "unknown key; did you mean backend?"),
    ({"limits.Head_Bytes": 1}, "$.limits.Head_Bytes", "did you mean head_bytes?"),
    ({"edge.colour": "red"}, "$.edge.colour", "unknown key"),
    ({"edge.a b": "red"}, "$.edge.'a b'", "unknown key"),
    ({"edge": 5}, "$.edge", "expected a table, got a whole number"),
    ({"sites": {}}, "$.sites", "expected a list, got a table"),
    ({"edge.name": 5}, "$.edge.name", "expected a string, got a whole number"),
    ({"edge.names": "localhost"}, "$.edge.names", "expected a list, got a string"),
    ({"sites.0.hostnames": ...}, "$.sites[0].hostnames", "missing"),
    ({"sites.0.routes": ...}, "$.sites[0].routes", "missing"),
    ({"backends.0.name": ...}, "$.backends[0].name", "missing"),
    # [edge]
    ({"edge.https": [], "edge.http": []}, "$.edge.https", "no TLS listener"),
    ({"edge.https": ...}, "$.edge.https", "no TLS listener"),
    ({"edge": {}}, "$.edge.https", "no TLS listener"),
    ({"edge.name": ""}, "$.edge.name", "a name is"),
    ({"edge.region": "a b"}, "$.edge.region", "a name is"),
    ({"edge.names": []}, "$.edge.names", "empty"),
    ({"edge.names": ["a", "A."]}, "$.edge.names[1]", "a stands there twice"),
    ({"edge.names": ["*.a"]}, "$.edge.names[0]", "no wildcard"),
    ({"edge.https": ["8443"]}, "$.edge.https[0]", '"tcp:8443"'),
    ({"edge.http": ["tcp:8443"]}, "$.edge.http[0]", "taken by $.edge.https[0]"),
    ({"edge.admin": "tcp:8443"}, "$.edge.admin", "taken by $.edge.https[0]"),
    ({"edge.admin": ""}, "$.edge.admin", "endpoint description"),
    ({"edge.public_https_port": 0}, "$.edge.public_https_port", "1 to 65535"),
    ({"edge.public_https_port": 65536}, "$.edge.public_https_port", "1 to 65535"),
    ({"edge.public_https_port": "443"}, "$.edge.public_https_port", "expected a whole number, got a string"),
    ({"edge.state": ""}, "$.edge.state", "no path"),
    ({"edge.state": "a\0b"}, "$.edge.state", "no path"),
    ({"edge.listeners": [{"endpoint": "ssl:1"}]}, "$.edge.listeners[0].endpoint", "without TLS"),
    ({"edge.listeners": [{"endpoint": "tcp:1", "on_plain": "serve"}]}, "$.edge.listeners[0].on_plain", "tls = false"),
    (
        {"edge.listeners": [{"endpoint": "tcp:1", "tls": False, "on_plain": "server"}]},
        "$.edge.listeners[0].on_plain",
        'expected one of "redirect", "serve"',
    ),
    (
        {"edge.listeners": [{"endpoint": "tcp:1", "trusted": ["10.0.0.1/8"]}]},
        "$.edge.listeners[0].trusted[0]",
        "no network",
    ),
    ({"edge.trusted_proxies": ["10.0.0.0/8", "proxy.test"]}, "$.edge.trusted_proxies[1]", "no network"),
    ({"edge.trusted_proxies": ["fe80::1%eth0"]}, "$.edge.trusted_proxies[0]", "zone"),
    ({"edge.trusted_proxies": ["0.0.0.0/0"]}, "$.edge.trusted_proxies[0]", "everybody"),
    (
        {"edge.listeners": [{"endpoint": "tcp:1", "proxy_protocol": True}]},
        "$.edge.listeners[0].proxy_protocol",
        "nobody is trusted",
    ),
    ({"edge.trusted_proxies": "10.0.0.0/8"}, "$.edge.trusted_proxies", "expected a list"),
    (
        {"edge.trusted_header": "x-real-ip"},
        "$.edge.trusted_header",
        'expected one of "forwarded", "x-forwarded-for"',
    ),
    # [tls]
    ({"tls.mode": "file"}, "$.tls.mode", 'expected one of "acme", "dev", "files"'),
    ({"tls.mode": "files"}, "$.tls.certificates", "at least one"),
    ({"tls.certificates": [{"certificate": "a", "key": "b"}]}, "$.tls.certificates", 'only with mode = "files"'),
    (
        {"tls": {"mode": "files", "certificates": [{"certificate": "a", "key": ""}]}},
        "$.tls.certificates[0].key",
        "no path",
    ),
    # [limits]
    ({"limits.head": 0}, "$.limits.head", "expected a number > 0"),
    ({"limits.head": -1}, "$.limits.head", "expected a number > 0"),
    ({"limits.head": True}, "$.limits.head", "expected a number, got true or false"),
    ({"limits.head": float("nan")}, "$.limits.head", "finite"),
    ({"limits.whole": float("inf")}, "$.limits.whole", "finite"),
    ({"limits.whole": 10**7}, "$.limits.whole", "<= 604800"),
    ({"limits.head_bytes": 10}, "$.limits.head_bytes", "expected a whole number >= 1024"),
    ({"limits.connections": 0}, "$.limits.connections", ">= 1"),
    ({"limits.body_bytes": -1}, "$.limits.body_bytes", ">= 0"),
    ({"limits.body_bytes": 2**70}, "$.limits.body_bytes", "<="),
    ({"limits.waiting": 1.5}, "$.limits.waiting", "expected a whole number, got a number"),
    ({"limits.head_bytes": 4096}, "$.limits.target_bytes", "more than head_bytes"),
    # [sites.limits]
    ({"sites.0.limits": {"head": 5}}, "$.sites[0].limits.head", "unknown key"),
    ({"sites.0.limits": {"first_bite": 5}}, "$.sites[0].limits.first_bite", "did you mean first_byte?"),
    ({"sites.0.limits": {"body": 0}}, "$.sites[0].limits.body", "expected a number > 0"),
    ({"sites.0.limits": {"requests_per_site": -1}}, "$.sites[0].limits.requests_per_site", ">= 0"),
    ({"sites.0.limits": {"body_bytes": "1M"}}, "$.sites[0].limits.body_bytes", "expected a whole number"),
    # [[backends]]
    ({"backends.1.name": "app"}, "$.backends[1].name", "two backends named app"),
    ({"backends.0.name": "a/b"}, "$.backends[0].name", "a name is"),
    ({"backends.0.protocol": "h2"}, "$.backends[0].protocol", 'expected one of "h2c", "http/1.1"'),
    ({"backends.0.tokens": []}, "$.backends[0].tokens", "nobody could ever serve it"),
    ({"backends.0.tokens": ...}, "$.backends[0].tokens", "nobody could ever serve it"),
    ({"backends.0.tokens": ["sha256:12"]}, "$.backends[0].tokens[0]", "64 hex digits"),
    ({"backends.1.tokens": [APP]}, "$.backends[1].tokens[0]", "this token opens backend app"),
    # [[sites]]
    ({"sites.0.hostnames": []}, "$.sites[0].hostnames", "needs a host name"),
    ({"sites.0.hostnames": ["a.test", "A.test."]}, "$.sites[0].hostnames[1]", "taken by $.sites[0].hostnames[0]"),
    ({"sites.0.hostnames": ["a.test:443"]}, "$.sites[0].hostnames[0]", "port is the listener's"),
    ({"sites.0.hostnames": ["bücher.test"]}, "$.sites[0].hostnames[0]", "xn--"),
    ({"sites.0.hostnames": ["LOCALHOST"]}, "$.sites[0].hostnames[0]", "edge's own name"),
    ({"sites.0.hostnames": ["::1"]}, "$.sites[0].hostnames[0]", "edge's own name"),
    ({"sites.0.name": "a b"}, "$.sites[0].name", "a name is"),
    ({"sites.0.routes": []}, "$.sites[0].routes", "needs a route"),
    ({"sites.0.routes.0.path": "docs"}, "$.sites[0].routes[0].path", 'begins with "/"'),
    ({"sites.0.routes.0.backend": "dosc"}, "$.sites[0].routes[0].backend", "did you mean docs?"),
    ({"sites.0.routes.0.backend": "zzz"}, "$.sites[0].routes[0].backend", "there are app, docs"),
    ({"backends": []}, "$.sites[0].routes[0].backend", "there is none at all"),
]


@pytest.mark.parametrize(("changes", "key", "reason"), WRONG, ids=[f"{key}-{reason}" for _, key, reason in WRONG])
def test_what_is_wrong_is_named_in_one_line(changes: dict[str, object], key: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(sample(**changes))
    error = caught.value
    assert (error.source, error.key) == ("edge.toml", key)
    assert reason in error.reason
    assert str(error).startswith(f"edge.toml: {key}: ")
    assert "\n" not in str(error)


def test_who_is_trusted() -> None:
    config = make(
        sample(
            **{
                "edge.trusted_proxies": ["10.0.0.0/8", "2001:db8::1"],
                "edge.listeners": [
                    {"endpoint": "tcp:1"},
                    {"endpoint": "tcp:2", "trusted": []},
                    {"endpoint": "tcp:3", "proxy_protocol": True},
                    {"endpoint": "unix:/run/edge", "trusted": ["unix"], "trusted_header": "forwarded"},
                ],
            }
        )
    )
    general = (ip_network("10.0.0.0/8"), ip_network("2001:db8::1"))
    said = [(listener.trusted, listener.trusts_unix, listener.trusted_header) for listener in config.listeners]
    assert said == [
        (general, False, "x-forwarded-for"),
        (general, False, "x-forwarded-for"),
        (general, False, "x-forwarded-for"),
        ((), False, "x-forwarded-for"),
        (general, False, "x-forwarded-for"),
        ((), True, "forwarded"),
    ]
    assert [listener.proxy_protocol for listener in config.listeners] == [False] * 4 + [True, False]
    assert restart_needed(make(), config) == ["$.edge.listeners"]
    trusting = make(sample(**{"edge.trusted_proxies": ["10.0.0.0/8"], "edge.trusted_header": "forwarded"}))
    assert trusting.listeners != make().listeners
    assert restart_needed(make(), trusting) == []


def test_two_sites_with_one_name_or_host_name() -> None:
    routes = [{"path": "/", "backend": "app"}]
    again = {"name": "example", "hostnames": ["b.test"], "routes": routes}
    with pytest.raises(ConfigError, match=r"\$\.sites\[1\]\.name: there are two sites named example"):
        make(sample(**{"sites.1": again}))
    for hostname in ("app.example.test", "APP.example.test", "app.example.test.", "*.Preview.example.test"):
        with pytest.raises(ConfigError, match=r"\$\.sites\[1\]\.hostnames\[0\]: \S+ is taken by \$\.sites\[0\]"):
            make(sample(**{"sites.1": {"hostnames": [hostname], "routes": routes}}))


def test_many_backends_are_not_all_listed() -> None:
    backends = [{"name": f"b{index}", "tokens": [digest_line(str(index))]} for index in range(9)]
    with pytest.raises(ConfigError, match=r"there are b0, b1, b2, b3, b4 …$"):
        make(sample(backends=backends, **{"sites.0.routes.0.backend": "zzzzzz"}))


def test_a_token_in_the_file_is_refused_and_never_repeated() -> None:
    token = generate()
    raws: list[dict[str, Any]] = [
        sample(**{"backends.0.tokens": [token]}),
        sample(**{"backends.0.tokens": token}),
        sample(**{"limits.head": token}),
        sample(**{"tls.mode": token}),
    ]
    for raw in raws:
        with pytest.raises(ConfigError) as caught:
            make(raw)
        assert token not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("hostname", "name", "own"),
    [
        ("Box.Example.test", "Box.Example.test", "box.example.test"),
        ("my box!", "my-box-", None),
        ("x" * 70 + ".example", "x" * 64, None),
        ("", None, None),
        ("app.example.test", "app.example.test", None),  # a site has it: nobody asked to take it away
        ("localhost", "localhost", None),
    ],
)
def test_the_host_name_as_default(hostname: str, name: str | None, own: str | None) -> None:
    config = make(hostname=hostname)
    if name is not None:
        assert config.name == name
    if hostname:
        assert config.names == ("localhost", "127.0.0.1", "::1", *([own] if own else []))


@pytest.mark.parametrize(
    ("https", "given", "port"),
    [
        (["tcp:8443"], None, 8443),
        (["tcp:8443"], 443, 443),
        (["tcp:0"], None, None),  # known when it is bound
        (["unix:/run/edge.sock"], None, None),
        (["tcp:0", "tcp:0"], None, None),  # two free ports are no clash
    ],
)
def test_the_port_that_visitors_see(https: list[str], given: int | None, port: int | None) -> None:
    changes: dict[str, object] = {"edge.https": https}
    if given is not None:
        changes["edge.public_https_port"] = given
    assert make(sample(**changes)).public_https_port == port


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[edge\n", "not valid TOML: .*at line 1, column 6"),
        (b"[edge]\nname = \n", "not valid TOML: .*line 2"),
        (b"[edge]\nname = 1\nname = 2\n", "not valid TOML: "),
        (b"name = '\xff'\n", r"not UTF-8 text \(octet 8\)"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a = " + b"1" * 5000, "not valid TOML: .*digits"),
    ],
)
def test_what_is_no_toml(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        EdgeConfig.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file or directory"):
        EdgeConfig.load(str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        EdgeConfig.load(tmp_path)


def test_paths_are_relative_to_the_file_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edge.toml").write_text('edge.https = ["tcp:8443"]')
    monkeypatch.chdir(tmp_path)
    config = EdgeConfig.load("edge.toml")
    assert config.state == tmp_path / "state"
    assert config.source == "edge.toml"
    assert config.name  # this machine's own


def test_overrides_win_over_the_file() -> None:
    config = EdgeConfig.from_dict(
        sample(),
        overrides={
            "edge.state": Override("/srv/edge", "--state"),
            "tls.mode": Override("dev", "WORMHOLE_EDGE_TLS_MODE"),
            "edge.names": Override(["edge.test"], "--name"),
        },
    )
    assert config.state == Path("/srv/edge")
    assert config.names == ("edge.test",)
    assert sample() == sample()


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("edge.admin", "9190", "--option: an endpoint description"),
        ("edge.names", ["a", "*.b"], "--option: '*.b' is no host name"),
        ("limits", {"head": 0}, "--option: expected a number > 0"),
        ("tls.mode", "ace", "--option: expected one of "),
    ],
)
def test_an_error_in_an_override_names_where_it_came_from(key: str, value: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EdgeConfig.from_dict(sample(), overrides={key: Override(value, "--option")})
    assert str(caught.value).startswith(text)


def test_an_error_elsewhere_is_the_files() -> None:
    overrides = {"edge.name": Override("x", "--name")}
    with pytest.raises(ConfigError, match=r"^edge\.toml: \$\.edge\.names: empty"):
        EdgeConfig.from_dict(sample(**{"edge.names": []}), source="edge.toml", overrides=overrides)
    with pytest.raises(ConfigError, match=r"^edge\.toml: \$\.edge: expected a table"):
        EdgeConfig.from_dict({"edge": 1}, source="edge.toml", overrides=overrides)


def test_what_a_reload_can_take_over_needs_no_restart() -> None:
    old = make()
    new = make(
        sample(**{"sites.0.hostnames": ["b.test"], "backends.0.tokens": [digest_line("new")]}),
    )
    assert restart_needed(old, new) == []


def test_what_needs_a_restart_is_named() -> None:
    changed = {
        "edge.https": ["tcp:9443"],
        "edge.name": "other",
        "edge.names": ["edge.test"],
        "edge.admin": "tcp:9190",
        "edge.state": "elsewhere",
        "tls": {"mode": "files", "certificates": [{"certificate": "a", "key": "b"}]},
        "limits.head": 3,
        "cache": {"memory": "1 GiB"},
    }
    assert restart_needed(make(), make(sample(**changed))) == [
        "$.edge.name",
        "$.edge.names",
        "$.edge.public_https_port",
        "$.edge.admin",
        "$.edge.state",
        "$.edge.listeners",
        "$.tls.mode",
        "$.cache",
        "$.limits.head",
    ]


def test_the_limits_hold_their_own_bounds() -> None:
    defaults = {name: getattr(Limits(), name) for name in Limits.__struct_fields__}
    assert make(sample(limits=defaults)).limits == Limits()


SPELLINGS = st.lists(
    st.sampled_from(["a.test", "b.a.test", "*.a.test", "192.0.2.1", "2001:db8::1"]), min_size=1, max_size=6
)


@pytest.mark.deadline(120)
@given(SPELLINGS, st.data())
def test_no_spelling_claims_a_host_name_that_another_site_has(names: list[str], data: st.DataObject) -> None:
    def spelt(name: str) -> str:
        try:
            address = ip_address(name)
        except ValueError:
            upper = "".join(data.draw(st.sampled_from([char, char.upper()])) for char in name)
            return upper + data.draw(st.sampled_from(["", "."]))
        return data.draw(st.sampled_from([name, f"[{name}]", address.exploded] if ":" in name else [name]))

    written = [spelt(name) for name in names]
    routes = [{"path": "/", "backend": "app"}]
    raw = sample(sites=[{"hostnames": [text], "routes": routes} for text in written])
    twice = any(one == other for one, other in itertools.combinations(names, 2))
    if twice:
        with pytest.raises(ConfigError, match="is taken by"):
            make(raw)
    else:
        assert [site.hostnames[0] for site in make(raw).sites] == [
            normalise_hostname(name, wildcard=True) for name in names
        ]
