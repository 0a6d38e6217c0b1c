"""The middlewares that come with the edge, without sockets."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from random import Random
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import HttpError
from wormhole_tw.middleware import AbTest, DeviceHeaders, InjectHtml, Request, Response
from wormhole_tw.middleware.coding import STEP, decoder, encoder, narrowed
from wormhole_tw.middleware.device import device_of, network_of
from wormhole_tw.testing import Answer, FakeService, answer_to, pieces

PAGE = b"<html><head><title>x</title></head><body>hello</body></html>"
INJECTED = PAGE.replace(b"</head>", b"<script></script></head>")
INJECT = InjectHtml(html="<script></script>")
MARK = INJECT._mark


def page(body: bytes = PAGE, *, status: int = 200, kind: str = "text/html; charset=utf-8", **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, body, headers={"Content-Type": kind, **fields})


def got(response: Response, method: str = "GET", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer_to(INJECT, Request(method, headers=fields), FakeService(response))


# InjectHtml


def test_a_page_gets_it() -> None:
    answer = got(page(ETag='"x"', Accept_Ranges="bytes", Content_MD5="abc", Repr_Digest="d", Last_Modified="then"))
    assert answer.content == INJECTED
    assert dict(answer.headers) == {
        "Content-Type": "text/html; charset=utf-8",
        "ETag": f'W/"x{MARK}"',
        "Last-Modified": "then",
    }
    assert got(page(ETag='W/"x"')).headers["ETag"] == f'W/"x{MARK}"'
    assert "Last-Modified" not in got(page(Last_Modified="then")).headers
    assert got(page(kind="TEXT/HTML")).content == INJECTED
    assert got(page(status=404)).content == INJECTED


@pytest.mark.parametrize(
    "response",
    [
        page(kind="text/plain"),
        page(kind="application/xhtml+xml"),
        page(kind="text/html; charset=utf-16"),
        page(kind="text/html; charset=unheard-of"),
        page(status=206, Content_Range="bytes 0-9/99"),
        page(Cache_Control="public, no-transform"),
        page(Content_Encoding="compress"),
        page(Content_Encoding="gzip, br"),
        Response(200, PAGE),
    ],
)
def test_what_is_left_alone(response: Response) -> None:
    response.headers["ETag"] = '"x"'
    answer = got(response)
    assert answer.content == PAGE
    assert answer.headers == response.headers


@pytest.mark.parametrize("status", [304, 204])
def test_answers_without_a_body_stay_without(status: int) -> None:
    answer = got(page(b"", status=status, ETag='"x"'))
    assert (answer.content, answer.headers["ETag"]) == (b"", '"x"')


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (f'W/"x{MARK}"', 'W/"x"'),
        (f'"a", W/"x{MARK}" , W/"y~i00000000"', '"a", W/"x"'),
        ('"a~i0", W/"b"', '"a~i0", W/"b"'),
        ("*", "*"),
        ('W/"x~i00000000"', None),
        (None, None),
    ],
)
def test_the_service_is_asked_by_its_own_etags(asked: str | None, told: str | None) -> None:
    service = FakeService(Response(304, headers={"ETag": '"x"'}))
    headers = {"If-Modified-Since": "then"} | ({} if asked is None else {"If-None-Match": asked})
    answer = answer_to(INJECT, Request(headers=headers), service)
    sent = service.requests[0].headers
    assert sent.get("If-None-Match") == told
    # a page with something else in it is wanted anew, whatever its date
    assert ("If-Modified-Since" in sent) == (told is not None or asked is None)
    # and what is confirmed has the name under which it is kept
    assert answer.headers["ETag"] == (f'W/"x{MARK}"' if asked is not None and MARK in asked else '"x"')


def test_another_insertion_is_another_page() -> None:
    other = answer_to(InjectHtml(html="<p>"), Request(), FakeService(page(ETag='"x"')))
    assert other.headers["ETag"] != got(page(ETag='"x"')).headers["ETag"]


def test_a_head_says_what_a_get_would() -> None:
    answer = got(page(b"", ETag='"x"', Accept_Ranges="bytes"), "HEAD")
    assert answer.content == b""
    assert dict(answer.headers) == {"Content-Type": "text/html; charset=utf-8", "ETag": f'W/"x{MARK}"'}


def test_the_html_is_in_the_pages_charset() -> None:
    inject = InjectHtml(html="<p>ü€</p>")
    service = FakeService(page(kind="text/html; charset=ISO-8859-1"))
    assert answer_to(inject, Request(), service).content == PAGE.replace(b"</head>", b"<p>\xfc&#8364;</p></head>")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd"),
        ("br;q=1, compress, gzip;q=0.5, *;q=0.1", "br;q=1, gzip;q=0.5"),
        ("compress", "identity"),
        ("identity;q=1, GZIP", "identity;q=1, GZIP"),
    ],
)
def test_the_service_is_asked_for_what_can_be_read(asked: str | None, sent: str) -> None:
    assert narrowed(asked) == sent
    service = FakeService(page())
    headers = {} if asked is None else {"Accept-Encoding": asked}
    answer_to(INJECT, Request(headers=headers), service)
    assert service.requests[0].headers["Accept-Encoding"] == sent


CODED = {
    "gzip": (gzip.compress, gzip.decompress),
    "x-gzip": (gzip.compress, gzip.decompress),
    "deflate": (zlib.compress, zlib.decompress),
    "br": (brotli.compress, brotli.decompress),
    "zstd": (zstandard.compress, lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)),
}


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("size", [1, 7, 100000])
def test_a_coded_page_is_decoded_and_coded_again(coding: str, size: int) -> None:
    code, decode = CODED[coding]
    data = code(PAGE)
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    answer = got(Response(200, pieces(*parts), headers={"Content-Type": "text/html", "Content-Encoding": coding}))
    assert decode(answer.content) == INJECTED
    assert answer.headers["Content-Encoding"] == coding


@given(data=st.binary(max_size=300), repeats=st.integers(1, 2000), cut=st.integers(1, 5000))
def test_what_is_decoded_in_steps_is_the_whole(data: bytes, repeats: int, cut: int) -> None:
    whole = data * repeats
    for coding, coded in {
        "gzip": gzip.compress(whole) + gzip.compress(b"second"),
        "deflate": zlib.compress(whole),
        "x-gzip": gzip.compress(whole) + b"\0\0\0",
        "br": brotli.compress(whole, quality=1),
        "zstd": zstandard.compress(whole) + zstandard.compress(b"second"),
    }.items():
        found = decoder(coding)
        assert found is not None
        parts = [part for start in range(0, len(coded), cut) for part in found.decode(coded[start : start + cut])]
        found.finish()
        assert b"".join(parts) == whole + (b"second" if coding in ("gzip", "zstd") else b"")
        assert all(len(part) <= STEP for part in parts)


def test_a_bare_deflate_is_read_too() -> None:
    inner = zlib.compressobj(wbits=-15)
    coded = inner.compress(PAGE) + inner.flush()
    for cut in (1, 100):
        found = decoder("deflate")
        assert found is not None
        parts = [part for start in range(0, len(coded), cut) for part in found.decode(coded[start : start + cut])]
        found.finish()
        assert b"".join(parts) == PAGE


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("cut", [True, False])
def test_what_is_not_of_its_coding_fails(coding: str, cut: bool) -> None:
    data = CODED[coding][0](PAGE)[:-9] if cut else b"\x0f\xffnot coded at all"
    with pytest.raises(HttpError, match="content coding") as caught:
        got(page(data, Content_Encoding=coding))
    assert (caught.value.status, caught.value.reason) == (502, "bad-answer")


@pytest.mark.parametrize("coding", CODED)
def test_little_that_says_much_is_decoded_in_steps(coding: str) -> None:
    whole = bytes(30_000_000)
    coded = CODED[coding][0](whole)
    found = decoder(coding)
    assert found is not None
    size = most = 0
    for part in found.decode(coded):
        size, most = size + len(part), max(most, len(part))
    found.finish()
    assert (size, most <= STEP) == (len(whole), True)


def test_without_a_package_its_coding_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wormhole_tw.middleware.coding.CODINGS", ("gzip", "x-gzip", "deflate"))
    assert narrowed("gzip, br, zstd") == "gzip"
    answer = got(page(brotli.compress(PAGE), Content_Encoding="br"))
    assert brotli.decompress(answer.content) == PAGE


def test_what_is_coded_can_be_shown_as_it_comes() -> None:
    coded, found = encoder("gzip"), zlib.decompressobj(31)
    assert found.decompress(coded.encode(b"first")) == b"first"
    assert found.decompress(coded.encode(b"second") + coded.finish()) == b"second"


@pytest.mark.parametrize("html", ["", None, 1, "x" * 70000])
def test_html_that_cannot_be(html: Any) -> None:
    with pytest.raises(ValueError, match=r"^html: "):
        InjectHtml(html=html)


# DeviceHeaders


CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"
PIXEL = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"
GALAXY_TAB = (
    "Mozilla/5.0 (Linux; Android 12; SM-X906C) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/80.0 Safari/537.36"
)


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (CHROME, "desktop"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "desktop"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/17.4.1 Safari/605.1.15", "desktop"),
        (PIXEL, "mobile"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148", "mobile"),
        ("Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1", "tablet"),
        (GALAXY_TAB, "tablet"),
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 TV Safari/537.36", "tv"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "bot"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/126.0 Safari/537.36", "bot"),
        ("curl/8.5.0", "other"),
        ("python-requests/2.32", "other"),
        ("", "other"),
        (None, "other"),
        ("something else", "other"),
    ],
)
def test_classes_of_devices(agent: str | None, device: str) -> None:
    assert device_of(agent) == device


def test_the_hint_of_the_browser_counts() -> None:
    assert device_of(CHROME, "?1") == "mobile"
    assert device_of(CHROME, "?0") == "desktop"


@pytest.mark.parametrize(
    ("address", "family", "network"),
    [
        ("8.8.8.8", "ipv4", "public"),
        ("2606:4700::1111", "ipv6", "public"),
        ("10.1.2.3", "ipv4", "private"),
        ("192.168.1.1", "ipv4", "private"),
        ("172.31.0.1", "ipv4", "private"),
        ("fd00::1", "ipv6", "private"),
        ("100.64.1.1", "ipv4", "shared"),
        ("100.128.1.1", "ipv4", "public"),
        ("127.0.0.1", "ipv4", "loopback"),
        ("::1", "ipv6", "loopback"),
        ("::ffff:10.0.0.1", "ipv4", "private"),
        ("fe80::1%eth0", "ipv6", "link-local"),
        ("169.254.1.1", "ipv4", "link-local"),
        ("224.0.0.1", "ipv4", "special"),
        ("0.0.0.0", "ipv4", "special"),
        ("192.0.2.1", "ipv4", "special"),
        ("", "none", "none"),
        ("unix", "none", "none"),
    ],
)
def test_what_addresses_say(address: str, family: str, network: str) -> None:
    assert network_of(address) == (family, network)


def test_the_service_is_told_and_visitors_cannot_say_so_themselves() -> None:
    service = FakeService()
    made_up = {"User-Agent": PIXEL, "X-Visitor-Device": "desktop", "x_visitor_address": "6.6.6.6"}
    answer_to(DeviceHeaders(), Request(headers=made_up, address="10.1.2.3"), service)
    assert dict(service.requests[0].headers) == {
        "User-Agent": PIXEL,
        "X-Visitor-Device": "mobile",
        "X-Visitor-Address": "10.1.2.3",
        "X-Visitor-Family": "ipv4",
        "X-Visitor-Network": "private",
    }
    only = DeviceHeaders(prefix="X-", address=False)
    answer_to(only, Request(headers={"User-Agent": PIXEL, "X-Network": "made up"}), service)
    assert dict(service.requests[1].headers) == {"User-Agent": PIXEL, "X-Device": "mobile"}
    answer_to(DeviceHeaders(device=False), Request(address=""), service)
    assert service.requests[2].headers["X-Visitor-Address"] == "none"


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ("X-Visitor-Device", "User-Agent, Sec-CH-UA-Mobile"),
        ("Accept, x-visitor-device", "Accept, User-Agent, Sec-CH-UA-Mobile"),
        ("Accept", "Accept"),
        ("*", "*"),
        (None, None),
    ],
)
def test_what_an_answer_depends_on_is_said_in_the_visitors_words(vary: str | None, told: str | None) -> None:
    response = Response(headers={} if vary is None else {"Vary": vary})
    assert answer_to(DeviceHeaders(), Request(), FakeService(response)).headers.get("Vary") == told


@pytest.mark.parametrize("wrong", [{"prefix": "no space"}, {"prefix": ""}, {"device": 1}, {"address": "yes"}])
def test_device_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(ValueError, match=rf"^{name}: "):
        DeviceHeaders(**wrong)


# AbTest


def test_a_new_visitor_is_assigned_and_told_once() -> None:
    service = FakeService(Response(200, b"x", headers={"Vary": "Accept", "Cache-Control": "public, max-age=60"}))
    test = AbTest(name="checkout", variants={"old": 0, "new": 10}, max_age=60)
    answer = answer_to(test, Request(headers={"X-Ab-Checkout": "old", "X_AB_checkout": "old"}), service)
    assert service.requests[0].headers.get_all("X-Ab-checkout") == ["new"]
    assert "X_AB_checkout" not in service.requests[0].headers
    assert answer.headers["Set-Cookie"] == "ab-checkout=new; Max-Age=60; Path=/; SameSite=Lax; Secure; HttpOnly"
    assert answer.headers["Vary"] == "Accept, Cookie"
    assert answer.headers["Cache-Control"] == "max-age=60, private"
    again = answer_to(test, Request(headers={"Cookie": "a=b; ab-checkout=new"}), service)
    assert "Set-Cookie" not in again.headers
    assert again.headers["Vary"] == "Accept, Cookie"
    assert again.headers["Cache-Control"] == "public, max-age=60"


def test_who_has_a_variant_that_is_no_more_gets_another() -> None:
    service = FakeService()
    test = AbTest(name="t", variants={"old": 0, "new": 1})
    for value in ("old", "unknown", ""):
        answer = answer_to(test, Request("GET", "http://site.example/", headers={"Cookie": f"ab-t={value}"}), service)
        assert service.requests[-1].headers["X-Ab-t"] == "new"
        assert answer.headers["Set-Cookie"].startswith("ab-t=new; ")
        assert "Secure" not in answer.headers["Set-Cookie"]
        assert answer.headers["Cache-Control"] == "private"


def test_chance_keeps_the_weights() -> None:
    service = FakeService(Response(200, headers={"Cache-Control": "no-store"}))
    test = AbTest(name="t", variants={"a": 1, "b": 3}, cookie="c", header="X-Which", random=Random(1))
    for _ in range(2000):
        answer = answer_to(test, Request(), service)
        assert answer.headers["Cache-Control"] == "no-store"
    counts = Counter(sent.headers["X-Which"] for sent in service.requests)
    assert 400 < counts["a"] < 600


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "no space"}, "name: "),
        ({"variants": {"a": 1}}, "variants: a table of 2"),
        ({"variants": {"a": 1, "b c": 1}}, "variants: 'b c'"),
        ({"variants": {"a": 1, "b": -1}}, "variants: the weight of b"),
        ({"variants": {"a": 0, "b": 0}}, "variants: all weights"),
        ({"variants": {"a": 1, "b": True}}, "variants: the weight of b"),
        ({"max_age": 0}, "max_age: "),
        ({"cookie": "a b"}, "cookie: "),
        ({"header": ""}, "header: "),
    ],
)
def test_ab_settings_that_cannot_be(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        AbTest(**{"name": "t", "variants": {"a": 1, "b": 1}, **wrong})
    assert str(caught.value).startswith(words)
