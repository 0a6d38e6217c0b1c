"""``compress``: which answers get a content coding, as a configuration says it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from tests._support import ROOT
from tests.control._sample import make, sample
from wormhole_tw.control import compression
from wormhole_tw.control.tokens import digest_line
from wormhole_tw.errors import ConfigError
from wormhole_tw.http.coding import AVAILABLE, CODINGS, SMALLEST, CodingRules, MediaTypes

DIGEST = digest_line("app-token")
HERE = tuple(coding for coding in CODINGS if coding in AVAILABLE)


def rules(site: Any, route: Any = None, **more: Any) -> list[CodingRules | None]:
    """Those of the first site's routes, of which the first may have some of its own."""
    said = {"sites.0.compress": site, "sites.0.routes.0.compress": route, **more}
    config = make(sample(**{name: value for name, value in said.items() if value is not None}))
    return [found.compress for found in config.sites[0].routes]


def test_nothing_is_compressed_unless_somebody_says_so() -> None:
    assert all(route.compress is None for site in make().sites for route in site.routes)
    assert rules(False) == [None, None]
    assert rules(None, False) == [None, None]


def test_a_site_and_its_routes() -> None:
    usual = CodingRules(HERE)
    assert rules(True) == [usual, usual]
    assert rules(True, False) == [None, usual]
    assert rules(False, True) == [usual, None]
    assert rules(None, True) == [usual, None]
    assert rules({}) == [usual, usual]


def test_a_routes_table_is_laid_over_its_sites() -> None:
    of_site = {"codings": ["gzip"], "smallest": 100}
    first, second = rules(of_site, {"smallest": 7, "types": ["text/*"]})
    assert second == CodingRules((b"gzip",), smallest=100)
    assert first == CodingRules((b"gzip",), MediaTypes.of(["text/*"]), 7)
    assert rules(of_site, True) == [second, second]
    assert rules(True, {"smallest": 0})[0] == CodingRules(HERE, smallest=0)
    assert SMALLEST != 100


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ({"codings": []}, ".codings", "nothing could be compressed"),
        ({"codings": ["gzip", "deflate"]}, ".codings[1]", "'deflate' is no coding"),
        ({"codings": ["GZIP"]}, ".codings[0]", "there are br, gzip, zstd"),
        ({"codings": ["gzip", "gzip"]}, ".codings[1]", "stands there twice"),
        ({"types": []}, ".types", "nothing would be compressed"),
        ({"types": ["text/*", "*/*"]}, ".types[1]", "is no media type"),
        ({"types": ["text/x"] * 257}, ".types", "length"),
        ({"smallest": -1}, ".smallest", ">= 0"),
        ({"smallest": 1 << 21}, ".smallest", "<="),
        ({"level": 9}, "", "level"),
        ("yes", "", "yes"),
    ],
)
@pytest.mark.parametrize(("name", "place"), [("sites.0", "$.sites[0]"), ("sites.0.routes.0", "$.sites[0].routes[0]")])
def test_what_is_wrong_is_named(name: str, place: str, table: Any, key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(sample(**{f"{name}.compress": table, "sites.0.routes.1.compress": False}))
    assert str(caught.value).startswith(f"edge.toml: {place}.compress{key}")
    assert words in str(caught.value) or table == "yes"


def test_a_coding_whose_package_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "AVAILABLE", frozenset({b"gzip"}))
    assert rules(True)[0] == CodingRules((b"gzip",))
    for coding, package in (("br", "brotli"), ("zstd", "zstandard")):
        with pytest.raises(ConfigError, match=f"{coding} needs the Python package {package}, which is not there"):
            rules({"codings": [coding]})


def test_what_answers_vary_by_is_added_to_what_a_route_says_of_it() -> None:
    def lines(edits: dict[str, Any]) -> Any:
        config = make(sample(**{"sites.0.compress": True, "sites.0.routes.0.response_headers": edits}))
        found = config.sites[0].routes[0].response_edits
        assert found is not None
        return found.lines

    accept = (b"Vary", b"Accept-Encoding")
    assert lines({"set": {"Vary": "Origin"}}) == ((b"Vary", b"Origin"), accept)
    assert lines({"remove": ["Vary"]}) == (accept,)
    assert lines({"set": {"Vary": "accept-encoding, Origin"}}) == ((b"Vary", b"accept-encoding, Origin"),)
    assert lines({"set": {"Vary": "*"}}) == ((b"Vary", b"*"),)
    assert lines({"add": {"Vary": "Origin"}}) == ((b"Vary", b"Origin"),)
    assert lines({"set": {"X-A": "b"}}) == ((b"X-A", b"b"),)


@pytest.mark.parametrize("edits", [{"set": {"Content-Encoding": "gzip"}}, {"remove": ["content-encoding"]}])
def test_two_who_say_the_coding_are_refused(edits: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        make(sample(**{"sites.0.compress": True, "sites.0.routes.0.response_headers": edits}))
    assert str(caught.value).startswith("edge.toml: $.sites[0].routes[0].response_headers: Content-Encoding is")
    make(sample(**{"sites.0.routes.0.response_headers": edits}))


def test_what_is_kept_of_answers_belongs_to_what_they_are_compressed_with() -> None:
    def scopes(site: Any, route: Any = None) -> list[bytes]:
        said = {"sites.0.cache": True, "sites.0.compress": site, "sites.0.routes.0.compress": route}
        config = make(sample(**{name: value for name, value in said.items() if value is not None}))
        return [found.cache.scope for found in config.sites[0].routes if found.cache is not None]

    assert scopes(True) == scopes({}) == scopes(None, True)[:1] + scopes(True, True)[1:]
    assert all(on != off for on, off in zip(scopes(True), scopes(None), strict=True))
    assert scopes(None) == scopes(False)
    assert scopes(True)[0] != scopes(True, {"smallest": 1})[0]


def test_the_example_of_the_documentation_loads() -> None:
    text = (ROOT / "docs" / "compression.md").read_text().split("```toml\n")[1].partition("```")[0]
    raw = {**tomllib.loads(text), "edge": {"https": ["tcp:443"]}, "backends": [{"name": "app", "tokens": [DIGEST]}]}
    account, api, rest = make(raw).sites[0].routes
    assert (account.path, account.compress) == ("/account", None)
    assert api.compress == CodingRules((b"gzip",), MediaTypes.of(["application/json"]))
    assert rest.compress == CodingRules(HERE)


def test_a_site_that_is_passed_through_has_none() -> None:
    with pytest.raises(ConfigError, match="compress"):
        make(
            sample(
                **{
                    "sites.0.tls": "passthrough",
                    "sites.0.routes": [{"backend": "app"}],
                    "sites.0.compress": True,
                }
            )
        )
