"""What somebody wants gone: what it means, and what is refused because it could mean two things."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.catalog import Catalog, build_catalog
from wormhole_tw.control.purging import Order, PurgeRefused, Wish, read_wish

APP = [{"path": "/", "backend": "app"}]
SITES: list[dict[str, Any]] = [
    {
        "name": "blog",
        "hostnames": ["blog.test", "*.blog.test", "[2001:db8::1]"],
        "cache": True,
        "routes": [
            {"path": "/search", "backend": "app", "cache": {"ignore_query": ["utm_*", "ref"]}},
            {"path": "/", "headers": [{"name": "X-Beta", "value": "1"}], "backend": "app", "cache": False},
            {"path": "/", "backend": "app", "cache": {"ignore_query": True}},
            {"path": "/", "backend": "app"},
        ],
    },
    {"name": "shop", "hostnames": ["shop.test"], "routes": APP},
]
SHOP_TOO = [SITES[0], {**SITES[1], "cache": True}]


def catalog(sites: list[dict[str, Any]] = SITES) -> Catalog:
    return build_catalog(make(sample(sites=sites)))


def order(*wish: Any, sites: list[dict[str, Any]] = SITES, **named: Any) -> Order:
    return read_wish(catalog(sites), Wish(*wish, **named))


def refusal(*wish: Any, sites: list[dict[str, Any]] = SITES, **named: Any) -> str:
    with pytest.raises(PurgeRefused) as caught:
        order(*wish, sites=sites, **named)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("https://blog.test/a", b"blog.test/a"),
        ("http://blog.test/a", b"blog.test/a"),
        ("blog.test/a", b"blog.test/a"),
        ("HTTPS://BLOG.test:8443/a", b"blog.test/a"),
        ("https://blog.test", b"blog.test/"),
        ("https://blog.test./a/../b#part", b"blog.test/b"),
        ("https://blog.test/%7e/%c3%b6/ö", b"blog.test/~/%C3%B6/%C3%B6"),
        ("https://one.blog.test/a", b"one.blog.test/a"),
        ("https://[2001:DB8:0::1]/a", b"2001:db8::1/a"),
    ],
)
def test_a_url_lies_where_requests_for_it_do(url: str, value: bytes) -> None:
    found = order("url", url)
    assert (found.kind, found.site, found.cached) == ("url", "blog", True)
    assert found.values[0] == value
    assert found.said == url


def test_a_url_has_its_query_as_each_of_its_routes_keeps_it() -> None:
    found = order("url", "https://blog.test/search?q=1&utm_x=2&ref=3")
    assert found.values == (b"blog.test/search?q=1&utm_x=2&ref=3", b"blog.test/search?q=1", b"blog.test/search")
    assert order("url", "https://blog.test/a?q=ö").values == (b"blog.test/a?q=%C3%B6", b"blog.test/a")
    assert order("url", "https://shop.test/a?q=1").values == (b"shop.test/a?q=1",)


def test_a_prefix_is_how_urls_begin() -> None:
    found = order("prefix", "https://blog.test/search?utm_x=")
    assert (found.kind, found.values) == ("prefix", (b"blog.test/search?utm_x=",))
    assert found.said == "https://blog.test/search?utm_x= and all that begins so"
    assert order("prefix", "blog.test").values == (b"blog.test/",)


def test_a_path_is_of_all_hosts_of_a_site() -> None:
    assert order("url", "/a", site="shop")[:3] == ("url", "shop", (b"/a",))
    assert "Write https://HOST/a" in refusal("url", "/a")


def test_a_tag_is_of_one_site() -> None:
    assert order("tag", "news", site="shop") == Order("tag", "shop", (b"news",), "tag news of site shop", cached=False)
    assert order("tag", "news").site == "blog", "the only one that keeps anything"
    assert "Say it with --site: blog, shop; or --all-sites" in refusal("tag", "news", sites=SHOP_TOO)
    assert "None has a cache now" in refusal("tag", "news", sites=[SITES[1]])
    assert order("tag", "news", everywhere=True)[:3] == ("tag", "", (b"news",))


@pytest.mark.parametrize("tag", ["", " ", "a b", "a,b", "a\tb", "a\x7f"])
def test_what_is_no_tag(tag: str) -> None:
    assert "is no tag" in refusal("tag", tag)


def test_a_whole_site() -> None:
    assert order("site", site="shop") == Order("site", "shop", (b"",), "site shop", cached=False)
    assert order("site").site == "blog"
    assert order("site", everywhere=True) == Order("site", "", (b"",), "all sites", cached=True)


@pytest.mark.parametrize(
    ("wish", "named", "words"),
    [
        (("host", "a"), {}, "there are url, prefix, tag, site"),
        (("site",), {"site": "blog", "everywhere": True}, "either one site or all"),
        (("url", "https://blog.test/"), {"everywhere": True}, "a URL is of one site"),
        (("url", "https://blog.test/"), {"site": "shop"}, "blog.test is a host name of site blog, not of shop"),
        (("url", "ftp://blog.test/"), {}, "is no URL of a site"),
        (("url", "https://"), {}, "is no URL of a site"),
        (("url", "https://a b/"), {}, "is no URL of a site"),
        (("url", "?a"), {}, "is no URL of a site"),
        (("prefix", "https://*.blog.test/"), {}, "one host name, or --site with a path"),
        (("url", "https://" + "ö" * 70 + ".test/"), {}, "is no URL of a site"),
        (("url", "https://user@blog.test/"), {}, "is no URL of a site"),
        (("url", "https://blog.test/../a"), {}, "climbs above"),
        (("url", "https://blog.test/%"), {}, "percent sign"),
        (("url", "https://blag.test/"), {}, "no site has the host name blag.test; did you mean blog.test?"),
        (("url", "https://elsewhere.example/"), {}, "there are *.blog.test, 2001:db8::1, blog.test, shop.test"),
        (("site",), {"site": "blgo"}, "there is no site blgo; did you mean blog?"),
        (("site",), {"site": "elsewhere"}, "there is no site elsewhere; there are blog, shop"),
        (("site",), {"site": "Shop.test"}, "Shop.test is a host name of site shop: --site shop"),
    ],
)
def test_what_is_not_clear_is_refused(wish: tuple[str, ...], named: dict[str, Any], words: str) -> None:
    assert words in refusal(*wish, **named)


def test_an_edge_without_sites_has_nothing() -> None:
    empty = Catalog()
    with pytest.raises(PurgeRefused, match="there is none at all"):
        read_wish(empty, Wish("site", site="blog"))
    with pytest.raises(PurgeRefused, match="there is no site"):
        read_wish(empty, Wish("url", "https://blog.test/"))


def test_of_many_sites_some_are_named() -> None:
    sites = [
        {"name": f"s{number}", "hostnames": [f"{number}.test"], "routes": APP, "cache": True} for number in range(9)
    ]
    assert "s0, s1, s2, s3, s4 and 4 more" in refusal("tag", "x", sites=sites)


def test_what_is_passed_through_is_not_kept() -> None:
    sites = [{"name": "raw", "hostnames": ["raw.test"], "tls": "passthrough", "routes": APP}]
    assert "passthrough" in refusal("url", "https://raw.test/", sites=sites)
