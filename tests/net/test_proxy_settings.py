"""Which proxy leads where: URLs and variables as people write them."""

from __future__ import annotations

import pytest

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.proxy_settings import NoProxy, Proxy, ProxySettings, parse_proxy

SECRET = "s3cret-of-this-test"


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("  HTTP://Proxy.Example:3128/  ", Proxy("http", "proxy.example", 3128)),
        ("http://proxy.example", Proxy("http", "proxy.example", 1080)),
        ("https://proxy.example", Proxy("https", "proxy.example", 443)),
        ("socks5://192.0.2.1", Proxy("socks5", "192.0.2.1", 1080)),
        ("socks5h://[2001:db8::1]:9050", Proxy("socks5h", "2001:db8::1", 9050)),
        ("http://user:pass@proxy.example:3128", Proxy("http", "proxy.example", 3128, b"user", b"pass")),
        ("user:pass@proxy.example:3128", Proxy("http", "proxy.example", 3128, b"user", b"pass")),
        ("http://us%40er:p%3A%2F%40ss@proxy.example:3128", Proxy("http", "proxy.example", 3128, b"us@er", b"p:/@ss")),
        ("http://user:p/a@ss@proxy.example:3128", Proxy("http", "proxy.example", 3128, b"user", b"p/a@ss")),
        ("http://user@proxy.example:3128", Proxy("http", "proxy.example", 3128, b"user")),
        (
            "socks5://j%C3%BCrgen:ü@proxy.example",
            Proxy("socks5", "proxy.example", 1080, "jürgen".encode(), "ü".encode()),
        ),
        # no UTF-8, as %XX and as a variable holds it
        ("http://user:p%FC%zz\udcfc@proxy.example", Proxy("http", "proxy.example", 1080, b"user", b"p\xfc%zz\xfc")),
    ],
)
def test_a_proxy_is_read(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"ftp://user:{SECRET}@proxy.example", "it is no proxy; give http://, https://, socks5:// or socks5h://"),
        (f"socks4://user:{SECRET}@proxy.example", "socks4:// is not spoken here; give socks5://"),
        (f"http://user:{SECRET}@", "it names no host and port"),
        (f"http://user:{SECRET}@proxy.example:port", "it names no host and port"),
        (f"http://user:{SECRET}@proxy.example:70000", "it names no host and port"),
        (f"http://:{SECRET}@proxy.example", "there is a password without a user"),
        (f"http://a%3Ab:{SECRET}@proxy.example", "a user's name must not have a colon"),
        ("socks5://user@proxy.example", "there is a user without a password"),
        (f"socks5://user:{SECRET * 20}@proxy.example", "longer than 255 octets"),
        (f"http://user:{SECRET * 60}@proxy.example", "longer than 1024 octets"),
        ("", "it names no host and port"),
    ],
)
def test_what_is_no_proxy_is_refused_and_its_password_not_repeated(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_proxy(text, "HTTPS_PROXY")
    assert str(raised.value).startswith("HTTPS_PROXY: ")
    assert reason in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_proxy_shows_neither_user_nor_password() -> None:
    proxy = parse_proxy(f"socks5h://{SECRET}1:{SECRET}2@proxy.example:9")
    assert str(proxy) == "socks5h://proxy.example:9"
    assert (proxy.user, proxy.password) == (SECRET.encode() + b"1", SECRET.encode() + b"2")
    assert SECRET not in repr(proxy)
    assert SECRET not in repr(ProxySettings(proxy))


@pytest.mark.parametrize(
    ("items", "host", "port", "covered"),
    [
        ("", "edge.example", 443, False),
        ("*", "edge.example", 443, True),
        ("other, *", "192.0.2.1", 443, True),
        ("edge.example", "edge.example", 443, True),
        ("EDGE.example.", "edge.example", 443, True),
        ("example", "edge.example", 443, True),
        (".example", "edge.example", 443, True),
        (".edge.example", "edge.example", 443, True),
        ("*.example", "edge.example", 443, True),
        ("dge.example", "edge.example", 443, False),
        ("a.example edge.example,b.example", "edge.example", 443, True),
        ("edge.example:443", "edge.example", 443, True),
        ("edge.example:8443", "edge.example", 443, False),
        (".example:443", "edge.example", 443, True),
        ("192.0.2.1", "192.0.2.1", 443, True),
        ("192.0.2.1:443", "192.0.2.1", 8443, False),
        ("2.1", "192.0.2.1", 443, False),
        ("192.0.2.0/24", "192.0.2.77", 443, True),
        ("192.0.2.9/24", "192.0.2.77", 443, True),
        ("192.0.2.0/24", "192.0.3.1", 443, False),
        ("192.0.2.0/24", "edge.example", 443, False),
        ("2001:db8::/32", "2001:db8:1::1", 443, True),
        ("2001:db8::/32", "192.0.2.1", 443, False),
        ("[2001:db8::1]", "2001:db8::1", 443, True),
        ("2001:DB8:0::1", "2001:db8::1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 444, False),
        ("10.0.0.0/99,not a name!,edge.example:0x1,::/x", "edge.example", 443, False),
    ],
)
def test_who_is_reached_without_it(items: str, host: str, port: int, covered: bool) -> None:
    assert NoProxy(items).covers(host, port) is covered


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"https_proxy": "a:1", "HTTPS_PROXY": "b:1", "all_proxy": "c:1", "ALL_PROXY": "d:1"}, "http://a:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "b:1", "all_proxy": "c:1", "ALL_PROXY": "d:1"}, "http://b:1"),
        ({"HTTPS_PROXY": " ", "all_proxy": "c:1", "ALL_PROXY": "d:1"}, "http://c:1"),
        ({"ALL_PROXY": "socks5://d:1"}, "socks5://d:1"),
        ({"HTTP_PROXY": "e:1", "http_proxy": "e:1"}, None),
        ({"ALL_PROXY": "d:1", "NO_PROXY": "edge.example"}, None),
        ({"ALL_PROXY": "d:1", "NO_PROXY": "edge.example", "no_proxy": "other.example"}, "http://d:1"),
        ({"ALL_PROXY": "d:1", "NO_PROXY": "edge.example", "no_proxy": ""}, None),
    ],
)
def test_the_variables(environ: dict[str, str], proxy: str | None) -> None:
    found = ProxySettings.from_environment(environ).for_host("edge.example", 443)
    assert (None if found is None else str(found)) == proxy


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^all_proxy: it names no host"):
        ProxySettings.from_environment({"all_proxy": "http://"})


def test_exceptions_can_be_compared() -> None:
    assert NoProxy("a") == NoProxy("a")
    assert NoProxy("a") != NoProxy("b")
    assert hash(NoProxy("a")) == hash(NoProxy("a"))
    assert repr(NoProxy("a")) == "NoProxy('a')"
