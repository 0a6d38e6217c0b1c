"""``cache`` of sites and routes, and ``[cache]``: what is kept how, and what no cache could do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.caching import CacheSettings, Stores
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.model import Route
from wormhole_tw.control.reload import merge, restart_needed
from wormhole_tw.errors import ConfigError
from wormhole_tw.http.caching.keying import EVERY_MEMBER
from wormhole_tw.http.caching.policy import CachePolicy
from wormhole_tw.http.edits import FieldEdits

MIB = 1 << 20


def caches(site: object, route: object = None, **changes: object) -> list[CacheSettings | None]:
    """What is kept on the two routes of the sample's site, the first of which has something of its own."""
    written = {"sites.0.cache": site, "sites.0.routes.0.cache": route}
    config = make(sample(**{key: value for key, value in written.items() if value is not None}, **changes))
    return [route.cache for route in config.sites[0].routes]


def scope(*routes: dict[str, Any], site: object = True, number: int = 0, **changes: object) -> bytes:
    """The scope of one of some routes of a site."""
    config = make(sample(**{"sites.0.cache": site, "sites.0.routes": list(routes), **changes}))
    cache = config.sites[0].routes[number].cache
    assert cache is not None
    return cache.scope


def test_nothing_is_kept_unless_somebody_says_so() -> None:
    assert caches(None) == [None, None]
    assert caches(False) == [None, None]


def test_true_is_the_standards() -> None:
    first, second = caches(True)
    assert first is not None
    assert second is not None
    assert first.policy == second.policy == CachePolicy()
    assert (first.ignore_query, first.cookies, first.headers, first.bypass_cookies, first.show_tags) == (
        None,
        (),
        (),
        None,
        False,
    )
    assert hash(first) == hash(caches(True)[0])


def test_every_key_arrives() -> None:
    _, found = caches(
        {
            "ttl": 1,
            "override_ttl": 2,
            "max_ttl": 3,
            "browser_ttl": 4,
            "stale_while_revalidate": 5,
            "stale_if_error": 6,
            "heuristic": False,
            "statuses": [200, 404],
            "strip": ["Set-Cookie", "X-Powered-By"],
            "ignore": ["Private", "no-cache"],
            "ignore_request": ["max-age"],
            "ignore_query": ["utm_*", "ref"],
            "cookies": ["lang", "cur", "lang"],
            "headers": ["X-Place", "X-Device"],
            "bypass_cookies": ["session", "wp_*"],
            "tag_header": "Cache-Tag",
            "show_tags": True,
        }
    )
    assert found is not None
    assert found.policy == CachePolicy(
        ttl=1,
        override_ttl=2,
        max_ttl=3,
        browser_ttl=4,
        stale_while_revalidate=5,
        stale_if_error=6,
        heuristic=False,
        statuses=frozenset({200, 404}),
        strip=frozenset({b"set-cookie", b"x-powered-by"}),
        ignore=frozenset({b"private", b"no-cache"}),
        ignore_request=frozenset({b"max-age"}),
        tag_header=b"cache-tag",
    )
    assert found.cookies == (b"cur", b"lang")
    assert found.headers == (b"x-device", b"x-place")
    assert found.show_tags
    assert found.ignore_query is not None
    assert found.bypass_cookies is not None
    assert found.ignore_query.of(b"utm_x=1&ref=2&id=3") == b"id=3"
    assert b"session" in found.bypass_cookies
    assert b"wp_1" in found.bypass_cookies


def test_all_of_a_query_may_be_ignored() -> None:
    _, found = caches({"ignore_query": True})
    assert found is not None
    assert found.ignore_query is EVERY_MEMBER
    _, found = caches({"ignore_query": False})
    assert found is not None
    assert found.ignore_query is None


def test_a_route_is_laid_over_its_site() -> None:
    first, second = caches({"ttl": 60, "cookies": ["lang"]}, {"ttl": 0, "headers": ["X-Device"]})
    assert first is not None
    assert second is not None
    assert (first.policy.ttl, first.cookies, first.headers) == (0, (b"lang",), (b"x-device",))
    assert (second.policy.ttl, second.cookies, second.headers) == (60, (b"lang",), ())


def test_a_route_switches_itself() -> None:
    site = {"ttl": 60}
    assert [found is not None for found in caches(site, False)] == [False, True]
    assert [found is not None for found in caches(None, True)] == [True, False]
    assert [found is not None for found in caches(False, {"ttl": 1})] == [True, False]
    first, second = caches(site, True)
    assert first is not None
    assert second is not None
    assert first.policy == second.policy == CachePolicy(ttl=60)


def test_what_the_edge_answers_itself_is_not_kept() -> None:
    own = {"path": "/", "respond": {"body": "hello"}}
    config = make(sample(**{"sites.0.cache": True, "sites.0.routes": [own]}))
    assert config.sites[0].routes[0].cache is None
    make(sample(**{"sites.0.routes": [{**own, "cache": False}]}))
    with pytest.raises(ConfigError, match=r"\$\.sites\[0\]\.routes\[0\]\.cache: the route answers itself"):
        make(sample(**{"sites.0.routes": [{**own, "cache": True}]}))


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ("yes", "", "expected true or false or a table"),
        ({"override_tl": 1}, ".override_tl", "did you mean override_ttl"),
        ({"ttl": -1}, ".ttl", ">= 0"),
        ({"ttl": 1.5}, ".ttl", "whole number"),
        ({"max_ttl": 400 * 86400}, ".max_ttl", "<="),
        ({"statuses": []}, ".statuses", "empty"),
        ({"statuses": [200, 206]}, ".statuses[1]", "part of its 200"),
        ({"statuses": [100]}, ".statuses[0]", "from 200"),
        ({"strip": ["Set-Cookie", "Set Cookie"]}, ".strip[1]", "no name of a header"),
        ({"strip": ["Ünicode"]}, ".strip[0]", "no name of a header"),
        ({"strip": ["Content-Length"]}, ".strip[0]", "framed"),
        ({"ignore": ["secret"]}, ".ignore[0]", "there are immutable, max-age"),
        ({"ignore": ["only-if-cached"]}, ".ignore[0]", "no directive"),
        ({"ignore_request": ["private"]}, ".ignore_request[0]", "only-if-cached"),
        ({"ignore_query": ["a", ""]}, ".ignore_query[1]", "no name"),
        ({"ignore_query": ["a=b"]}, ".ignore_query[0]", "no name"),
        ({"ignore_query": ["*_id"]}, ".ignore_query[0]", "utm_*"),
        ({"ignore_query": ["*"]}, ".ignore_query[0]", "ignore_query = true"),
        ({"ignore_query": "all"}, ".ignore_query", "true or false or a list"),
        ({"cookies": ["lang;x"]}, ".cookies[0]", "no name of a cookie"),
        ({"cookies": ["x"] * 65}, ".cookies", "64"),
        ({"headers": ["Cookie"]}, ".headers[0]", "name the cookies in cookies"),
        ({"headers": ["Range"]}, ".headers[0]", "answers it itself"),
        ({"headers": ["If-None-Match"]}, ".headers[0]", "answers it itself"),
        ({"headers": ["Accept-Encoding"]}, ".headers[0]", "Vary"),
        ({"headers": ["X-Forwarded-For"]}, ".headers[0]", "the edge writes it itself"),
        ({"headers": ["Connection"]}, ".headers[0]", "takes it out"),
        ({"headers": ["a b"]}, ".headers[0]", "no name of a header"),
        ({"bypass_cookies": ["*"]}, ".bypass_cookies[0]", "wordpress_logged_in_*"),
        ({"bypass_cookies": ["a*b"]}, ".bypass_cookies[0]", "begins with"),
        ({"bypass_cookies": ["a=*"]}, ".bypass_cookies[0]", "no name of a cookie"),
        ({"tag_header": ""}, ".tag_header", "no name of a header"),
        ({"tag_header": "Date"}, ".tag_header", "a meaning of its own"),
    ],
)
@pytest.mark.parametrize("of_route", [False, True])
def test_what_no_cache_could_do(table: object, key: str, words: str, of_route: bool) -> None:
    where = "$.sites[0].routes[0].cache" if of_route else "$.sites[0].cache"
    with pytest.raises(ConfigError) as caught:
        caches(*((None, table) if of_route else (table,)))
    assert (caught.value.key, words in caught.value.reason) == (where + key, True), caught.value


# the scope


APP: dict[str, Any] = {"path": "/", "backend": "app"}


@pytest.mark.parametrize(
    "other",
    [
        {**APP, "backend": "docs"},
        {**APP, "headers": [{"name": "X-Beta", "value": "1"}]},
        {**APP, "cookies": [{"name": "beta", "present": True}]},
        {**APP, "addresses": ["192.0.2.0/24"]},
        {**APP, "percent": 10},
        {**APP, "branch": "beta"},
        {**APP, "rewrite": "/other"},
        {**APP, "replace_prefix": "/v2"},
        {**APP, "request_headers": {"set": {"X-Tenant": "two"}}},
        {**APP, "middleware": [{"use": "a.b:C"}]},
        {**APP, "basic_auth": {"users": {"a": "$2b$10$" + "a" * 53}, "user_header": "X-User"}},
        {**APP, "cache": {"ttl": 9}},
        {**APP, "cache": {"ignore": ["private"]}},
        {**APP, "cache": {"strip": ["Set-Cookie"]}},
        {**APP, "cache": {"headers": ["X-A"]}},
        {**APP, "cache": {"cookies": ["a"]}},
        {**APP, "cache": {"tag_header": "Cache-Tag"}},
    ],
    ids=lambda route: str(list(route.items())[-1]),
)
def test_a_route_shares_nothing_with_another_one(other: dict[str, Any]) -> None:
    assert scope(other, APP) != scope(other, APP, number=1)


@pytest.mark.parametrize(
    "other",
    [
        {**APP, "name": "front"},
        {**APP, "deny": ["192.0.2.0/24"]},
        {**APP, "rate_limit": {"requests": 5}},
        {**APP, "response_headers": {"set": {"X-A": "b"}}},
        {**APP, "mirror": {"backend": "docs"}},
        {**APP, "cache": {"show_tags": True, "bypass_cookies": ["a"], "ignore_query": ["b"]}},
    ],
    ids=lambda route: str(list(route.items())[-1]),
)
def test_what_changes_no_answer_keeps_what_was_kept(other: dict[str, Any]) -> None:
    assert scope(other) == scope(APP)


def test_a_scope_is_the_same_after_a_restart_and_has_no_nul() -> None:
    assert scope(APP) == scope(dict(reversed(APP.items())))
    assert scope(APP).isalnum()


def test_agents_of_a_branch_have_answers_of_their_own() -> None:
    """The same route gets other agents as soon as another one names their branch."""
    beta = {"exact": "/beta", "backend": "app", "branch": "beta"}
    assert scope(beta, APP, number=1) != scope(APP)


def test_another_origin_begins_with_nothing() -> None:
    def of(url: str) -> bytes:
        return scope(APP, backends=[{"name": "app", "origin": url}])

    assert of("https://one.example") == of("https://one.example")
    assert of("https://one.example") != of("https://two.example")
    assert of("https://one.example") != of("https://one.example/base")


def test_visitors_do_not_see_tags_unless_they_are_to() -> None:
    def hidden(**route: Any) -> FieldEdits | None:
        return make(sample(**{"sites.0.routes": [{**APP, **route}]})).sites[0].routes[0].response_edits

    assert hidden(cache=True) == FieldEdits(frozenset({b"surrogate-key"}))
    assert hidden(cache={"tag_header": "Cache-Tag"}) == FieldEdits(frozenset({b"cache-tag"}))
    assert hidden(cache={"show_tags": True}) is None
    assert hidden(cache=False) is None
    own = hidden(cache=True, response_headers={"set": {"Surrogate-Key": "mine", "X-A": "b"}})
    assert own is not None
    assert own.of([(b"Surrogate-Key", b"theirs")]) == [(b"Surrogate-Key", b"mine"), (b"X-A", b"b")]


def test_a_cached_route_is_as_plain_as_it_was() -> None:
    config = make(sample(**{"sites.0.cache": True}))
    assert config.sites[0].plain
    assert Route("a", "/", "app").cache is None


# [cache]


def stores(**table: object) -> EdgeConfig:
    return make(sample(cache=table))


def test_the_stores_that_there_are() -> None:
    assert make().cache == Stores(256 * MIB, 0, "cache")
    found = stores(memory="1 MiB", disk="10 GiB", path="/var/cache/edge", object="1 GiB").cache
    assert found == Stores(MIB, 10 << 30, "/var/cache/edge", 1 << 30)
    assert stores(memory=0).cache.memory == 0


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ({"memory": "lots"}, "memory", "no size"),
        ({"memory": 256}, "memory", "no room for anything"),
        ({"memory": True}, "memory", "expected a whole number or a string"),
        ({"memory": "2000 TiB"}, "memory", "more than"),
        ({"disk": "1 MiB"}, "disk", "at least 16.0 MiB"),
        ({"path": ""}, "path", "no path"),
        ({"path": "a\0"}, "path", "no path"),
        ({"object": 0}, "object", "nothing could be kept"),
        ({"object": "1 GiB"}, "object", "more than memory and disk hold (256.0 MiB)"),
        ({"size": 1}, "size", "unknown key"),
    ],
)
def test_stores_that_there_cannot_be(table: dict[str, object], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stores(**table)
    assert (caught.value.key, words in caught.value.reason) == (f"$.cache.{key}", True), caught.value


def test_other_stores_need_a_restart() -> None:
    old, new = make(), stores(memory="1 GiB")
    assert restart_needed(old, new) == ["$.cache"]
    assert merge(old, new, ["$.cache"]).cache == old.cache
