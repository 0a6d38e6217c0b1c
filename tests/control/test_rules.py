"""Which of a site's rules takes a request, why the others do not, and how few are asked."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.conditions import (
    AddressIs,
    BranchIsThere,
    Condition,
    HostIs,
    MethodIs,
    SchemeIs,
    Share,
    ValueIs,
    share_of,
)
from wormhole_tw.control.model import Backend, Route, Selection, Site
from wormhole_tw.control.rules import RuleIndex, explain, find_shadows
from wormhole_tw.http.asked import Asked
from wormhole_tw.http.patterns import PathPattern
from wormhole_tw.http.regexes import Regex


def asked(path: str = "/", host: str = "app.test", query: bytes | None = None, **others: Any) -> Asked:
    facts: dict[str, Any] = {
        "method": b"GET",
        "fields": [(b"X-A", b"1"), (b"Cookie", b"c=1; d=2; c=3; c=4; c=5")],
        "scheme": "https",
        "address": "192.0.2.7",
        "chance": Random(7).random,
        "offers": lambda backend, branch: branch == "here",
    }
    return Asked(host, path, query, **{**facts, **others})


def rule(kind: str, path: str, *conditions: Condition) -> Route:
    pattern = PathPattern(path) if kind == "pattern" else None
    return Route("s", path, "app", kind=kind, pattern=pattern, conditions=conditions)  # type: ignore[arg-type]


SEGMENTS = st.sampled_from(["a", "b", "", ":x"])
RULES = st.lists(
    st.tuples(st.sampled_from(["prefix", "exact", "pattern"]), st.lists(SEGMENTS, max_size=4), st.integers(0, 2)),
    max_size=12,
)
PATHS = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=5).map(lambda parts: "/" + "/".join(parts))


def made(description: list[tuple[str, list[str], int]]) -> list[Route]:
    found = []
    for kind, segments, of_host in description:
        path = "/" + "/".join(segments)
        if kind == "pattern":
            path = "/" + "/".join(f":x{number}" if part == ":x" else part for number, part in enumerate(segments))
        hosts = [None, HostIs(frozenset({"app.test"})), HostIs(frozenset({"app.test"}), frozenset({"test"}))][of_host]
        found.append(rule(kind, path, *([hosts] if hosts else [])))
    return found


@given(description=RULES, path=PATHS | st.just("*"), host=st.sampled_from(["app.test", "other.test"]))
def test_the_index_finds_what_asking_all_of_them_finds(
    description: list[tuple[str, list[str], int]], path: str, host: str
) -> None:
    routes = made(description)
    request = asked(path, host)
    wanted = next(
        (route for route in routes if route.takes(path) and all(it.holds(request) for it in route.conditions)), None
    )
    assert RuleIndex(routes).find(request) is wanted


@given(description=RULES, paths=st.lists(PATHS, max_size=20))
def test_who_is_shadowed_takes_nothing(description: list[tuple[str, list[str], int]], paths: list[str]) -> None:
    routes = made(description)
    index = RuleIndex(routes)
    shadowed = {id(routes[number]) for number in find_shadows(routes)}
    for path in (*paths, *(route.path for route in routes)):
        for host in ("app.test", "other.test"):
            assert id(index.find(asked(path, host))) not in shadowed


class Counting:
    """A condition that counts how often it is asked."""

    lasting = True

    def __init__(self) -> None:
        self.asked = 0

    def holds(self, asked: Asked) -> bool:
        self.asked += 1
        return True

    def why_not(self, asked: Asked) -> str:
        raise NotImplementedError


@pytest.mark.parametrize("kind", ["exact", "prefix", "pattern"])
def test_of_a_thousand_rules_few_are_asked(kind: str) -> None:
    counting = Counting()
    tail = "/:id" if kind == "pattern" else ""
    routes = [rule(kind, f"/part/{number}{tail}", counting) for number in range(1000)]
    index = RuleIndex([*routes, rule("prefix", "/")])
    tail = "/7" if kind == "pattern" else ""
    assert index.find(asked(f"/part/900{tail}")) is routes[900]
    assert counting.asked == 1
    assert len(list(index.candidates("app.test", f"/part/900{tail}"))) == 2
    deep = "/part/x" + "/" * 10_000
    assert len(list(index.candidates("app.test", deep))) == 1


def test_of_a_thousand_host_names_few_are_asked() -> None:
    routes = [rule("prefix", "/", HostIs(frozenset({f"h{number}.test"}))) for number in range(1000)]
    index = RuleIndex([*routes, rule("prefix", "/a")])
    assert list(index.candidates("h900.test", "/a")) == [routes[900], rule("prefix", "/a")]
    assert list(index.candidates("other.test", "/")) == []


@pytest.mark.parametrize(
    ("condition", "why_not"),
    [
        (HostIs(frozenset({"b.test", "a.test"})), "it is for the host one of a.test, b.test, not app.test"),
        (
            HostIs(frozenset({"b.test"}), frozenset({"a.test"})),
            "it is for the host one of *.a.test, b.test, not app.test",
        ),
        (MethodIs(frozenset({b"POST"})), "it is for the method POST, not GET"),
        (SchemeIs("http"), "it is for http, not https"),
        (ValueIs("header", b"x-a", b"2"), "it wants the header x-a to be '2'; it is '1'"),
        (ValueIs("header", b"x-b", present=True), "it wants the header x-b to be there; there is none"),
        (ValueIs("header", b"x-a", present=False), "it wants the header x-a not to be there; it is '1'"),
        (
            ValueIs("cookie", b"c", regex=Regex("x+")),
            "it wants the cookie c to match x+; it is '1', '3', '4' …",
        ),
        (ValueIs("query", b"q", b"1"), "it wants the query q to be '1'; there is none"),
        (AddressIs((ip_network("10.0.0.0/8"),)), "it is for visitors from 10.0.0.0/8, not 192.0.2.7"),
        (BranchIsThere("app", "gone"), "no ready agent of branch gone is there for backend app"),
        (Share(0.001, "cookie", b"c"), "it is for 0.001 % of all; this visitor stands at 96.48 %"),
        (Share(0.001, "cookie", b"new"), "it is for 0.001 % of all; who has no cookie new gets one by chance"),
        (Share(0.001, "header", b"x-a"), "it is for 0.001 % of all; this visitor stands at 96.48 %"),
        (Share(50, "header", b"x-b"), "it is for 50 % of all; who sends no header x-b is not chosen"),
        (Share(0.001, "address"), "it is for 0.001 % of all; this visitor stands at 29.51 %"),
        (Share(0.001), "it is for 0.001 % of all; each request by chance"),
    ],
)
def test_why_a_rule_does_not_take_a_request(condition: Condition, why_not: str) -> None:
    request = asked()
    assert not condition.holds(request)
    verdicts = list(explain([rule("prefix", "/", condition), rule("prefix", "/")], request))
    assert [verdict.why_not for verdict in verdicts] == [why_not, ""]


def test_why_a_path_is_not_taken() -> None:
    routes = [rule("prefix", "/a"), rule("exact", "/b"), rule("pattern", "/c/:d")]
    assert [verdict.why_not for verdict in explain(routes, asked("/x"))] == [
        "it is for a path that begins with /a",
        "it is for a path that is /b",
        "it is for a path that matches /c/:d",
    ]


def test_the_first_thing_that_is_missing_is_said() -> None:
    route = rule("prefix", "/", SchemeIs("https"), ValueIs("header", b"x-a", b"1"), MethodIs(frozenset({b"POST"})))
    [verdict] = explain([route], asked())
    assert verdict.why_not == "it is for the method POST, not GET"


def test_who_has_no_address_is_in_no_network() -> None:
    condition = AddressIs((ip_network("::/0"), ip_network("0.0.0.0/0")))
    for address in ("", "/run/socket", "fe80::1%eth0"):
        assert condition.holds(asked(address=address)) is (address.startswith("fe80"))
    assert "one without an address" in condition.why_not(asked(address=""))


def test_an_address_of_a_socket_for_both_families() -> None:
    assert AddressIs((ip_network("192.0.2.0/24"),)).holds(asked(address="::ffff:192.0.2.9"))


def test_what_names_stand_for() -> None:
    assert rule("pattern", "/u/:id").values("/u/7") == {"id": "7"}
    assert rule("exact", "/u").values("/u") == {}
    assert [rule("prefix", "/u").values(path) for path in ("/u", "/u/", "/u/a/b")] == [
        {"rest": ""},
        {"rest": ""},
        {"rest": "a/b"},
    ]
    assert rule("prefix", "/").values("/a//b") == {"rest": "a//b"}


@pytest.mark.parametrize(
    ("selection", "yes", "no"),
    [
        (Selection("x"), ["x"], ["y", ""]),
        (Selection(None, frozenset({"x"})), ["y", ""], ["x"]),
    ],
)
def test_which_upstreams_a_route_leads_to(selection: Selection, yes: list[str], no: list[str]) -> None:
    assert all(map(selection.takes, yes))
    assert not any(map(selection.takes, no))


def test_many_plain_routes_are_looked_up() -> None:
    site = Site("s", ("app.test",), tuple(Route("s", f"/p{number}", "app") for number in range(100)))
    catalog = Catalog([site], [Backend("app")])
    assert catalog.match(site, "/p77/x") is site.routes[77]
    assert catalog.match(site, b"/p77") is site.routes[77]
    assert catalog.match(site, "/x") is None


def test_a_share_is_what_it_says() -> None:
    places = [share_of(b"%d" % number) for number in range(10_000)]
    assert min(places) >= 0
    assert max(places) < 100
    for percent in (1, 10, 50):
        assert abs(sum(place < percent for place in places) - percent * 100) < 150
    assert share_of(b"visitor") == share_of(b"visitor")


def test_whether_a_verdict_lasts() -> None:
    assert RuleIndex([rule("prefix", "/", MethodIs(frozenset({b"GET"})))]).lasting
    assert not RuleIndex([rule("prefix", "/"), rule("prefix", "/", Share(5))]).lasting
    assert not RuleIndex([rule("prefix", "/", BranchIsThere("app", "x"))]).lasting
