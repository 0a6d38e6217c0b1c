"""``wormhole-tw route``: which rule takes a request, and rules of another program."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from wormhole_tw.cli.main import main

TOML = """
[edge]
https = ["tcp:8443"]
http = ["tcp:8080"]
[[backends]]
name = "app"
tokens = ["sha256:1111111111111111111111111111111111111111111111111111111111111111"]
[[sites]]
name = "shop"
hostnames = ["shop.test", "www.shop.test", "2001:db8::1"]
[[sites.routes]]
hosts = ["www.shop.test"]
redirect = { to = "https://shop.test/*rest", status = 301 }
[[sites.routes]]
name = "canary"
branch = "canary"
percent = 50
sticky = "cookie:side"
backend = "app"
[[sites.routes]]
name = "inside"
addresses = ["10.0.0.0/8"]
respond = { body = "inside" }
[[sites.routes]]
path = "/down"
maintenance = {}
[[sites.routes]]
path = "/dots"
rewrite = "/..*rest"
backend = "app"
[[sites.routes]]
name = "api"
path = "/api"
strip_prefix = true
methods = ["GET"]
request_headers = { set = { "X-A" = "1" }, remove = ["Cookie"] }
response_headers = { add = { "Vary" = "Cookie" } }
deny = ["10.0.0.0/8"]
backend = "app"
[[sites]]
hostnames = ["through.test"]
tls = "passthrough"
routes = [{ backend = "app" }]
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "edge.toml"
    file.write_text(TOML)
    return str(file)


def test_which_rule_takes_a_request_and_why_not_the_others(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "explain", "https://shop.test/api/%7ex?q=1#top", "--config", config]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "GET https://shop.test/api/~x?q=1",
        "site shop",
        "  routes[0] /: no, it is for the host www.shop.test, not shop.test",
        "  routes[1] canary: no, no ready agent of branch canary is there for backend app",
        "  routes[2] inside: no, it is for visitors from 10.0.0.0/8, not one without an address",
        "  routes[3] /down: no, it is for a path that begins with /down",
        "  routes[4] /dots: no, it is for a path that begins with /dots",
        "  routes[5] api: takes it",
        "            asked first: address",
        "            backend app (no agents of branch canary) gets /~x?q=1",
        "            request without cookie",
        "            request with X-Forwarded-Prefix: /api",
        "            request with X-A: 1",
        "            answer with Vary: Cookie",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["www.shop.test/a"], 0, "redirect 301 to https://shop.test/a"),
        (["https://shop.test/", "--address", "10.1.2.3"], 0, "answer 200 of the edge's own"),
        (["https://shop.test/down"], 0, "answer 503 of the edge's own (maintenance)"),
        (["https://shop.test/dots/x"], 0, "gets /..x"),
        (["https://shop.test/dots"], 0, "400: The path climbs above its root."),
        (["https://[2001:db8::1]:8443/api"], 0, "gets /"),
        (["https://shop.test/api", "--branch", "canary"], 0, "who has no cookie side gets one by chance"),
        (["https://shop.test/", "--branch", "canary", "-H", "Cookie: side=a"], 0, "(agents of branch canary) gets /"),
        (["https://shop.test/api", "-X", "POST"], 1, "404: no route takes it"),
        (["https://shop.test"], 1, "404: no route takes it"),
        (["https://nobody.test/"], 1, "404: no site has the host name nobody.test"),
        (["https://bücher.test/"], 1, "404: no site has the host name xn--bcher-kva.test"),
        (["https://shop.test/../x"], 1, "400: The path climbs above its root."),
        (["http://shop.test/api"], 0, "plain HTTP is redirected to https here before any route is asked"),
        (["https://through.test/"], 0, "its TLS is not ended here"),
    ],
)
def test_what_becomes_of_a_request(
    config: str, arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["route", "explain", *arguments, "--config", config]) == status
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://shop.test/"], "ftp://shop.test/ is no URL of a site"),
        (["https:///x"], "is no URL of a site"),
        (["https://[::1"], "https://[::1 is no URL: "),
        (["https://a b/"], "a b is no host name"),
        (["https://shop.test/", "--address", "10.0.0"], "10.0.0 is no IP address"),
        (["https://shop.test/", "-H", "nothing"], "'nothing' is no header"),
        (["https://shop.test/", "-H", "a b: c"], "'a b: c' is no header"),
        (["https://shop.test/", "--config", "/nowhere.toml"], "cannot be read"),
    ],
)
def test_what_makes_no_sense(config: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "explain", "--config", config, *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


YAML = """
config:
  flyCDN:
    rules:
    - {actionType: redirect, hostname: old.test, pathPattern: ^/blog/(.*)$, redirectURLPattern: "https://new.test/$1"}
    - {actionType: rewrite, backendKey: app}
"""


def test_rules_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fly.yml"
    file.write_text(YAML)
    assert main(["route", "import", str(file)]) == 0
    printed = capsys.readouterr()
    assert [sorted(table) for table in tomllib.loads(printed.out)["sites"]["routes"]] == [
        ["hosts", "pattern", "redirect"],
        ["backend"],
    ]
    assert printed.err.splitlines() == [
        "Backends that these lead to: app",
        "Host names that their site needs: old.test",
    ]


def test_a_rule_that_cannot_be_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rules.json"
    file.write_text('[{"actionType": "rewrite"}]')
    assert main(["route", "import", str(file)]) == 1
    printed = capsys.readouterr()
    assert "# rules[0] is not here" in printed.out
    assert printed.err == f"wormhole-tw: {file}: rules[0]: a rewrite without backendKey leads nowhere\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.json", b"{", "not valid JSON"),
        ("x.yml", b"a: [", "not valid YAML"),
        ("x.yml", b"\xff", "not UTF-8 text (octet 0)"),
        ("x.yml", b"a: b", "no list of rules"),
        ("x.json", b"[" * 100_000, "not valid JSON"),
        ("", b"", "cannot be read"),
    ],
)
def test_a_file_without_rules(
    tmp_path: Path, name: str, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    if name:
        file.write_bytes(content)
    assert main(["route", "import", str(file)]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_what_a_request_goes_through_is_said(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(config)
    named = 'strip_prefix = true\nmiddleware = [{ file = "one.py" }, { use = "two:Thing" }]'
    file.write_text(TOML.replace("strip_prefix = true", named))
    assert main(["route", "explain", "https://shop.test/api/x", "--config", config]) == 0
    assert "    through one.py, two:Thing\n" in capsys.readouterr().out


def test_what_its_answers_are_compressed_with_is_said(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(config)
    file.write_text(TOML.replace("strip_prefix = true", 'strip_prefix = true\ncompress = { codings = ["gzip"] }'))
    assert main(["route", "explain", "https://shop.test/api/x", "--config", config]) == 0
    assert "    compressed with gzip\n" in capsys.readouterr().out


CACHED = """
[edge]
https = ["tcp:8443"]
[[backends]]
name = "app"
tokens = ["sha256:1111111111111111111111111111111111111111111111111111111111111111"]
[[sites]]
name = "shop"
hostnames = ["shop.test"]
cache = { ttl = 60, ignore_query = ["utm_*"], cookies = ["lang"], headers = ["X-Device"], bypass_cookies = ["sid"] }
[[sites.routes]]
path = "/api"
backend = "app"
cache = false
[[sites.routes]]
path = "/images"
backend = "app"
[sites.routes.cache]
override_ttl = 3600
max_ttl = 1800
stale_while_revalidate = 30
stale_if_error = 600
strip = ["Set-Cookie", "X-Powered-By"]
ignore_query = true
cookies = []
headers = []
[[sites.routes]]
path = "/inside"
backend = "app"
jwt = { secret_file = "secret", audience = "us", issuer = "us" }
cache = { ttl = 5 }
[[sites.routes]]
backend = "app"
"""

KEPT = "cache: under https://shop.test/a?b=2, by cookie lang, by header x-device, and by what the answer names in Vary"
TIMES = "cache: fresh as long as the answer says, 60 s where it says nothing"


@pytest.mark.parametrize(
    ("url", "options", "lines"),
    [
        ("/a?utm_x=1&b=2", (), [KEPT.replace("by header", "header"), TIMES, "backend app gets /a?b=2"]),
        ("/api/", (), ["backend app gets /api/"]),
        (
            "/images/one.png?v=1",
            (),
            [
                "cache: under https://shop.test/images/one.png, and by what the answer names in Vary",
                "cache: fresh for 3600 s, whatever the answer says, at most 1800 s",
                "cache: served stale for 30 s while it is asked for again and 600 s while the service fails, "
                "where the answer says nothing else",
                "cache: kept without set-cookie, x-powered-by",
                "backend app gets /images/one.png",
            ],
        ),
        (
            "/a?utm_x=1",
            ("-X", "POST"),
            [
                "cache: passed by, for POST is not kept; what is kept under its URL is void if it succeeds",
                "backend app gets /a?utm_x=1",
            ],
        ),
        ("/a", ("-H", "Cookie: sid=1"), ["cache: passed by, for a cookie of bypass_cookies", "backend app gets /a"]),
        (
            "/a",
            ("-H", "Cache-Control: no-store"),
            ["cache: passed by, for what its header fields ask for", "backend app gets /a"],
        ),
        (
            "/a?b=2",
            ("-H", "Authorization: Basic x"),
            [
                KEPT.replace("by header", "header"),
                TIMES,
                "cache: kept only where the answer says that it may be, for it is known who asks",
                "backend app gets /a?b=2",
            ],
        ),
        (
            "/inside",
            (),
            [
                "asked first: token",
                "cache: under https://shop.test/inside, by cookie lang, header x-device, and by what the answer names "
                "in Vary",
                "cache: fresh as long as the answer says, 5 s where it says nothing",
                "cache: kept only where the answer says that it may be, for it is known who asks",
                "backend app gets /inside",
            ],
        ),
    ],
)
def test_what_the_cache_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, options: tuple[str, ...], lines: list[str]
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(CACHED)
    (tmp_path / "secret").write_text("s" * 32)
    assert main(["route", "explain", "-c", str(file), f"https://shop.test{url}", *options]) == 0
    out = capsys.readouterr().out.partition(": takes it\n")[2]
    said = [line.strip() for line in out.splitlines()]
    assert [line for line in said if line != "answer without surrogate-key"] == lines


def test_an_answer_that_says_how_long_is_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(CACHED.replace("ttl = 60, ", "").replace('ignore_query = ["utm_*"], ', ""))
    (tmp_path / "secret").write_text("s" * 32)
    assert main(["route", "explain", "-c", str(file), "https://shop.test/a?utm_x=1"]) == 0
    out = capsys.readouterr().out
    assert "cache: fresh as long as the answer says\n" in out
    assert "backend app gets /a?utm_x=1\n" in out
