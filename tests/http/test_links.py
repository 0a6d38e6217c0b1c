"""URLs and cookies of an origin, turned into those by which its visitors reach it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.links import Links, bare_authority, moved, rewrite_fields, visitors_cookie, visitors_reference

SITE = b"https://app.example.test:8443"
PLAIN = Links(b"https://pages.example", frozenset({b"pages.example"}), b"", SITE, b"")
BASE = Links(b"https://pages.example", frozenset({b"pages.example"}), b"/base", SITE, b"")
MOUNTED = Links(b"https://pages.example", frozenset({b"pages.example"}), b"/base", SITE, b"/blog")


@pytest.mark.parametrize(
    ("links", "value", "turned"),
    [
        (PLAIN, b"https://pages.example/x?y#z", SITE + b"/x?y#z"),
        (PLAIN, b"HTTPS://Pages.Example:443/x", SITE + b"/x"),
        (PLAIN, b"http://pages.example/x", SITE + b"/x"),  # it does not know that it is behind TLS
        (PLAIN, b"http://pages.example:80/x", SITE + b"/x"),
        (PLAIN, b"//pages.example/x", SITE + b"/x"),
        (PLAIN, b"//pages.example:443/x", SITE + b"/x"),
        (PLAIN, b"https://pages.example", SITE + b"/"),
        (PLAIN, b"https://pages.example?q", SITE + b"/?q"),
        (PLAIN, b"/x?y", b"/x?y"),
        (PLAIN, b"x/y", b"x/y"),
        (PLAIN, b"?q", b"?q"),
        (PLAIN, b"#top", b"#top"),
        (PLAIN, b"", b""),
        (PLAIN, b"mailto:me@pages.example", b"mailto:me@pages.example"),
        (PLAIN, b"https:/x", b"https:/x"),
        (PLAIN, b"ftp://pages.example/x", b"ftp://pages.example/x"),
        (PLAIN, b"https://pages.example:8443/x", b"https://pages.example:8443/x"),
        (PLAIN, b"https://elsewhere.example/x", b"https://elsewhere.example/x"),
        (PLAIN, b"https://me@pages.example/x", b"https://me@pages.example/x"),
        (PLAIN, b"https://pages.example.evil/x", b"https://pages.example.evil/x"),
        (BASE, b"https://pages.example/base/x", SITE + b"/x"),
        (BASE, b"https://pages.example/base", SITE + b"/"),
        (BASE, b"/base/x?q=/base/", b"/x?q=/base/"),
        (BASE, b"/base", b"/"),
        (BASE, b"/base?q", b"/?q"),
        (BASE, b"/base/./a/../x", b"/x"),
        (BASE, b"/b%61se/x", b"/x"),
        # beside the base nothing is served here: the origin itself is meant, and said
        (BASE, b"/other", b"https://pages.example/other"),
        (BASE, b"/baseline", b"https://pages.example/baseline"),
        (BASE, b"/base/../other", b"https://pages.example/base/../other"),
        (BASE, b"/../base/x", b"https://pages.example/../base/x"),
        (BASE, b"/base/%zz", b"https://pages.example/base/%zz"),
        (BASE, b"https://pages.example/other", b"https://pages.example/other"),
        # a path there must not become a host name here
        (BASE, b"/base//evil.example/", b"/.//evil.example/"),
        (BASE, b"/base/\\evil.example/", b"/./\\evil.example/"),
        (BASE, b"/base/./a/..//evil.example/", b"/.//evil.example/"),
        (BASE, b"https://pages.example/base//evil.example/", SITE + b"//evil.example/"),
        (MOUNTED, b"/base//evil.example/", b"/blog//evil.example/"),
        (MOUNTED, b"/base/x", b"/blog/x"),
        (MOUNTED, b"/base", b"/blog"),
        (MOUNTED, b"https://pages.example/base/", SITE + b"/blog/"),
    ],
)
def test_references(links: Links, value: bytes, turned: bytes) -> None:
    assert visitors_reference(links, value) == turned


@given(st.binary(max_size=60))
def test_a_reference_of_any_octets_breaks_nothing(value: bytes) -> None:
    for links in (PLAIN, BASE, MOUNTED):
        visitors_reference(links, value)
        visitors_cookie(links, value)
        fields = [(name, value) for name in (b"Location", b"Link", b"Refresh", b"Set-Cookie", b"Content-Location")]
        assert len(rewrite_fields(fields, links, b"/", b"/", named=True)) == len(fields)


@given(st.from_regex(r"(/[a-z.]{0,3}){1,4}", fullmatch=True))
def test_what_is_below_the_base_comes_back_to_where_it_was_asked_for(path: str) -> None:
    if all(segment not in (".", "..") for segment in path.split("/")):
        assert visitors_reference(MOUNTED, b"/base" + path.encode()) == b"/blog" + path.encode()


@pytest.mark.parametrize(
    ("asked", "sent", "prefixes"),
    [
        (b"/x/y", b"/x/y", (b"", b"")),
        (b"/blog/x", b"/x", (b"/blog", b"")),
        (b"/blog/", b"/", (b"/blog", b"")),
        (b"/blog", b"/", (b"/blog", b"")),
        (b"/old/same/x", b"/new/same/x", (b"/old", b"/new")),
        (b"/x", b"/inner/x", (b"", b"/inner")),
        (b"/docs/v1/x/", b"/archive/x/", (b"/docs/v1", b"/archive")),
        (b"/x/x", b"/x", (b"/x", b"")),
        (b"/users/5", b"/profile", (b"", b"")),
    ],
)
def test_what_a_route_has_put_in_place_of_what(asked: bytes, sent: bytes, prefixes: tuple[bytes, bytes]) -> None:
    assert moved(asked, sent) == prefixes


def test_authorities_without_the_port_that_goes_without_saying() -> None:
    assert bare_authority(b"https", b"A.example:443") == b"a.example"
    assert bare_authority(b"HTTP", b"a.example:80") == b"a.example"
    assert bare_authority(b"http", b"a.example:443") == b"a.example:443"


@pytest.mark.parametrize(
    ("links", "value", "turned"),
    [
        (PLAIN, b"a=b", b"a=b"),
        (PLAIN, b"a=b; Path=/; HttpOnly", b"a=b; Path=/; HttpOnly"),
        (PLAIN, b"a=b; Domain=pages.example; Secure", b"a=b; Domain=app.example.test; Secure"),
        (PLAIN, b"a=b; domain=.Pages.Example", b"a=b; Domain=app.example.test"),
        (PLAIN, b"a=b;Domain=example;Secure", b"a=b; Domain=app.example.test;Secure"),
        (PLAIN, b"a=b; Domain=", b"a=b; Domain="),
        (PLAIN, b"a=b; Domain=elsewhere.example", b"a=b; Domain=elsewhere.example"),
        (PLAIN, b"a=b; Domain=ages.example", b"a=b; Domain=ages.example"),
        (PLAIN, b"a=b; Domain=example.test", b"a=b; Domain=example.test"),  # the visitor's own already
        (BASE, b"a=b; Path=/base/x", b"a=b; Path=/x"),
        (BASE, b"a=b; Path=/base", b"a=b; Path=/"),
        (BASE, b"a=b; Path=/", b"a=b; Path=/"),
        (BASE, b"a=b; Path=/other", b"a=b; Path=/other"),
        (BASE, b"a=b; Path=x", b"a=b; Path=x"),
        (BASE, b"a=b; Path", b"a=b; Path"),
        (MOUNTED, b"a=b; Path=/", b"a=b; Path=/blog"),
        (MOUNTED, b"a=b; Path=/base/", b"a=b; Path=/blog"),
        (MOUNTED, b"a=b; Path=/base/x; Domain=pages.example", b"a=b; Path=/blog/x; Domain=app.example.test"),
        (BASE, b"a=b; Path=/base//x", b"a=b; Path=//x"),
        (MOUNTED, b"__Host-a=b; Path=/; Secure", b"__Host-a=b; Path=/; Secure"),
        (MOUNTED, b"a=https://pages.example/base/;x", b"a=https://pages.example/base/;x"),
    ],
)
def test_cookies(links: Links, value: bytes, turned: bytes) -> None:
    assert visitors_cookie(links, value) == turned


@pytest.mark.parametrize("host", [b"192.0.2.1:8443", b"[2001:db8::1]"])
def test_an_address_has_no_domain(host: bytes) -> None:
    links = PLAIN._replace(site=b"https://" + host)
    assert visitors_cookie(links, b"a=b; Domain=pages.example; Secure") == b"a=b; Secure"


def rewritten(name: bytes, value: bytes, links: Links = BASE, asked: bytes = b"/", sent: bytes = b"/base/") -> bytes:
    ((kept, turned),) = rewrite_fields([(name, value)], links, asked, sent, named=True)
    assert kept == name
    return turned


def test_link() -> None:
    value = (
        b'<https://pages.example/base/2>; rel="next"; title="see <https://pages.example/base/3>, \\"x\\"", '
        b"</base/s.css>"
    )
    assert rewritten(b"Link", value) == (
        b'<https://app.example.test:8443/2>; rel="next"; title="see <https://pages.example/base/3>, \\"x\\"", </s.css>'
    )
    assert rewritten(b"link", b"<unfinished") == b"<unfinished"
    assert rewritten(b"link", b'</base/a>; title="unfinished, </base/b>') == b'</a>; title="unfinished, </base/b>'


@pytest.mark.parametrize(
    ("value", "turned"),
    [
        (b"5", b"5"),
        (b"5; url=https://pages.example/base/x", b"5; url=https://app.example.test:8443/x"),
        (b"0;URL='/base/x'", b"0;URL='/x'"),
        (b'3, url="/base/x"; y', b'3, url="/x"; y'),
        (b"5; url=https://elsewhere.example/", b"5; url=https://elsewhere.example/"),
        (b"5; url /base/x", b"5; url /base/x"),
        (b"5, Url = /base/x", b"5, Url = /x"),
    ],
)
def test_refresh(value: bytes, turned: bytes) -> None:
    assert rewritten(b"Refresh", value) == turned


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Link", b'"' + b'\\"' * 100_000),
        (b"Link", b"<" * 200_000),
        (b"Link", b'"' * 200_001),
        (b"Refresh", b"5" + b" " * 200_000 + b"x"),
        (b"Refresh", b"url" + b" " * 200_000 + b"x"),
        (b"Location", b"/." * 100_000),
        (b"Location", b"a" * 200_000),
        (b"Set-Cookie", b"a=b;" + b"Path=/;" * 30_000),
    ],
    ids=lambda value: value[:8].decode(),
)
def test_long_values_take_no_longer_than_their_length(name: bytes, value: bytes) -> None:
    """What took the square of it would take minutes."""
    rewritten(name, value)


def test_content_location() -> None:
    assert rewritten(b"content-location", b"/base/x.en.html") == b"/x.en.html"


def test_location() -> None:
    assert rewritten(b"Location", b"https://pages.example/base/x") == SITE + b"/x"
    # after a form: the very page that was asked for
    here = b"https://pages.example/base/form"
    assert rewritten(b"Location", here, asked=b"/form", sent=b"/base/form") == SITE + b"/form"


def test_a_redirect_that_would_lead_in_a_circle_stays_as_it_is() -> None:
    insecure = BASE._replace(origin=b"http://pages.example")
    wanted = b"https://pages.example/base/x"
    assert rewritten(b"Location", wanted, insecure, asked=b"/x", sent=b"/base/x") == wanted
    assert rewritten(b"Location", wanted, insecure, asked=b"/y", sent=b"/base/y") == SITE + b"/x"


def test_what_an_origin_says_of_its_own_name_is_not_the_visitors() -> None:
    fields = [
        (b"Alt-Svc", b'h3=":443"'),
        (b"Strict-Transport-Security", b"max-age=1"),
        (b"X", b"https://pages.example"),
    ]
    assert rewrite_fields(fields, PLAIN, b"/", b"/", named=True) == fields[2:]
    assert rewrite_fields(fields, PLAIN, b"/", b"/", named=False) == fields
