from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.control._sample import make, sample
from wormhole_tw.control.catalog import EMPTY, Catalog, CatalogHolder, build_catalog, removed_tokens
from wormhole_tw.control.model import Backend, Route, Site, Token
from wormhole_tw.control.rules import find_shadows
from wormhole_tw.control.tokens import digest, digest_line

APP = Backend("app", frozenset({digest("app-token")}))


def a_site(name: str, *hostnames: str, paths: tuple[str, ...] = ("/",)) -> Site:
    return Site(name, hostnames, tuple(Route(name, path, "app") for path in paths))


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog(
        [
            a_site("exact", "a.example.test", "example.test"),
            a_site("wild", "*.example.test", "*.localhost"),
            a_site("deep", "x.y.example.test"),
            a_site("address", "192.0.2.1", "2001:db8::1"),
        ],
        [APP],
        own_names=["edge.example.test", "localhost", "::1"],
    )


@pytest.mark.parametrize(
    ("hostname", "site"),
    [
        ("a.example.test", "exact"),
        ("example.test", "exact"),
        ("b.example.test", "wild"),
        ("app.localhost", "wild"),
        ("x.y.example.test", "deep"),
        ("y.example.test", "wild"),
        ("z.y.example.test", None),  # a wildcard is one label
        ("edge.example.test", None),  # the edge's own name, though a wildcard covers it
        ("localhost", None),
        (".example.test", None),
        ("test", None),
        ("", None),
        ("*.example.test", "wild"),  # nobody can send it: http/targets refuses the star
        ("192.0.2.1", "address"),
        ("2001:db8::1", "address"),
        ("::1", None),
    ],
)
def test_host_names_find_their_site(catalog: Catalog, hostname: str, site: str | None) -> None:
    found = catalog.site_for(hostname)
    assert (found.name if found else None) == site


LABELS = st.sampled_from(["a", "b", "c", "test"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@given(st.sets(NAMES, max_size=6), st.sets(NAMES, max_size=4), st.sets(NAMES, max_size=2), NAMES)
def test_lookup_is_what_the_rules_say(exact: set[str], parents: set[str], own: set[str], asked: str) -> None:
    exact -= own
    sites = [a_site(name, name) for name in sorted(exact)] + [
        a_site(f"*.{name}", f"*.{name}") for name in sorted(parents)
    ]
    found = Catalog(sites, [APP], own_names=own).site_for(asked)
    if asked in own:
        expected = None
    elif asked in exact:
        expected = asked
    else:
        _, dot, parent = asked.partition(".")
        expected = f"*.{parent}" if dot and parent in parents else None
    assert (found.name if found else None) == expected


@pytest.mark.parametrize(
    ("paths", "path", "taken"),
    [
        (("/",), "/", "/"),
        (("/",), "/anything/at/all", "/"),
        (("/",), "*", "/"),
        (("/docs", "/"), "/docs", "/docs"),
        (("/docs", "/"), "/docs/", "/docs"),
        (("/docs", "/"), "/docs/a", "/docs"),
        (("/docs", "/"), "/docsx", "/"),
        (("/docs", "/"), "/doc", "/"),
        (("/docs", "/"), "/Docs", "/"),
        (("/docs/", "/"), "/docs", "/"),
        (("/docs/", "/"), "/docs/", "/docs/"),
        (("/docs/", "/"), "/docs/a", "/docs/"),
        (("/a", "/a/b"), "/a/b/c", "/a"),  # the first wins, not the longest
        (("/a/b", "/a"), "/a/b/c", "/a/b"),
        (("/a",), "/b", None),
        (("/a",), "/", None),
        (("/caf%C3%A9",), "/caf%C3%A9/x", "/caf%C3%A9"),
        (("/a",), "/\xff", None),
    ],
)
def test_paths_find_their_route(paths: tuple[str, ...], path: str, taken: str | None) -> None:
    site = a_site("site", "a.test", paths=paths)
    for form in (path, path.encode("latin-1")):
        route = EMPTY.match(site, form)
        assert (route.path if route else None) == taken


SEGMENTS = st.lists(st.sampled_from(["a", "b", ""]), max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(SEGMENTS, max_size=6), st.lists(SEGMENTS, max_size=8))
def test_routes_said_to_be_unreachable_are_and_others_are_not(paths: list[str], requests: list[str]) -> None:
    routes = a_site("site", "a.test", paths=tuple(paths)).routes
    shadows = find_shadows(routes)
    for index, route in enumerate(routes):
        # A prefix takes its own path, and whatever takes that path before it, takes the rest too, or nothing of it.
        takers = [earlier for earlier in range(index) if routes[earlier].takes(route.path)]
        assert shadows.get(index) == (takers[0] if takers else None)
        if index in shadows:
            assert all(routes[shadows[index]].takes(path) for path in requests if route.takes(path))


def test_first_match_is_the_first_that_takes() -> None:
    site = a_site("site", "a.test", paths=("/a/", "/a", "/b/c"))
    for path in ("/a", "/a/", "/a/x", "/b", "/b/c", "/b/cd", "/"):
        assert EMPTY.match(site, path) == next((route for route in site.routes if route.takes(path)), None)


def test_tokens_open_their_backend() -> None:
    catalog = build_catalog(make())
    for token, name in (("app-token", "app"), ("docs-token", "docs")):
        backend = catalog.backend_for_digest(digest(token))
        assert backend is catalog.backends[name]
        assert catalog.tokens()[digest(token)] is backend
    assert catalog.backend_for_digest(digest("other")) is None


def test_nothing_in_it_can_be_changed() -> None:
    catalog = build_catalog(make())
    with pytest.raises(TypeError):
        catalog.backends["new"] = APP  # type: ignore[index]
    with pytest.raises(TypeError):
        catalog.tokens()[b""] = APP  # type: ignore[index]


def test_digests_do_not_show() -> None:
    known = digest("app-token")
    assert repr(known) not in repr(APP)
    assert repr(known) not in repr(Token(known, "app"))


def test_urls_of_a_backend() -> None:
    raw = sample(
        sites=[
            {
                "hostnames": ["app.example.test", "*.preview.example.test", "2001:db8::1"],
                "routes": [
                    {"path": "/docs", "backend": "docs"},
                    {"path": "/", "backend": "app"},
                    {"path": "/never", "backend": "docs"},
                ],
            },
            {"hostnames": ["other.test"], "routes": [{"path": "/x/", "backend": "docs"}]},
        ]
    )
    catalog = build_catalog(make(raw))
    assert catalog.urls_for("app", 8443) == [
        "https://app.example.test:8443",
        "https://*.preview.example.test:8443",
        "https://[2001:db8::1]:8443",
    ]
    assert catalog.urls_for("docs", 443) == [
        "https://app.example.test/docs",
        "https://*.preview.example.test/docs",
        "https://[2001:db8::1]/docs",
        "https://other.test/x/",
    ]
    assert catalog.urls_for("nobody") == []
    assert catalog.hostnames() == ("app.example.test", "*.preview.example.test", "2001:db8::1", "other.test")


def test_warnings_name_what_can_have_no_effect() -> None:
    assert build_catalog(make()).warnings == ()
    raw = sample(**{"sites.0.routes": [{"path": "/", "backend": "app"}, {"path": "/docs", "backend": "docs"}]})
    assert build_catalog(make(raw)).warnings == (
        "edge.toml: $.sites[0].routes[1]: /docs of site example can never be reached: routes[0] (/) stands before it "
        "and takes all of it",
        "edge.toml: $.backends[1]: no route leads to backend docs",
    )
    assert build_catalog(make({"edge": {"https": ["tcp:8443"]}})).warnings == (
        "edge.toml: $.sites: there is no site: every request gets 404",
    )


@pytest.mark.parametrize(
    ("sites", "backends", "own", "text"),
    [
        ([a_site("s", "a.test")], [], (), "leads to no backend 'app'"),
        ([], [APP, Backend("app")], (), "two backends named 'app'"),
        ([], [APP, Backend("b", APP.tokens)], (), "one token for 'app' and 'b'"),
        ([a_site("s", "a.test"), a_site("t", "a.test")], [APP], (), "two claims to 'a.test'"),
        ([a_site("s", "*.test"), a_site("t", "*.test")], [APP], (), r"two claims to '\*\.test'"),
        ([a_site("s", "a.test")], [APP], ("a.test",), "two claims to 'a.test'"),
    ],
)
def test_a_catalog_never_holds_two_claims(
    sites: list[Site], backends: list[Backend], own: tuple[str, ...], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        Catalog(sites, backends, own_names=own)


def test_tokens_that_a_reload_takes_away() -> None:
    old = build_catalog(make(sample(**{"backends.0.tokens": [digest_line("stays"), digest_line("goes")]})))
    new = build_catalog(
        make(
            sample(
                **{
                    "backends.0.tokens": [digest_line("stays"), digest_line("docs-token")],
                    "backends.1.tokens": [digest_line("goes")],
                }
            )
        )
    )
    # "goes" and "docs-token" changed sides: whoever serves under them now serves the wrong backend.
    assert removed_tokens(old, new) == {digest("goes"), digest("docs-token")}
    assert removed_tokens(old, old) == frozenset()
    assert removed_tokens(old, EMPTY) == {digest("stays"), digest("goes"), digest("docs-token")}


def test_the_holder_swaps_and_tells() -> None:
    first, second = build_catalog(make()), build_catalog(make())
    holder = CatalogHolder()
    assert holder.current is EMPTY
    assert holder.swap(first) is EMPTY
    told: list[Catalog] = []
    unsubscribe = holder.subscribe(told.append)
    other = holder.subscribe(told.append)
    assert holder.swap(second) is first
    assert holder.current is second
    assert told == [second, second]
    unsubscribe()
    unsubscribe()
    holder.swap(first)
    assert told == [second, second, first]
    other()


def test_ten_thousand_sites_are_two_dicts() -> None:
    catalog = Catalog((a_site(f"s{index}", f"h{index}.test", f"*.w{index}.test") for index in range(10_000)), [APP])
    for hostname, name in (("h9999.test", "s9999"), ("x.w5000.test", "s5000")):
        found = catalog.site_for(hostname)
        assert found is not None
        assert found.name == name
