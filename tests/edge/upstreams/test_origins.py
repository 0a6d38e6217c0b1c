"""Origins on the web as upstreams: what is dialled and what never is, and what becomes of connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost, ConnectionRefusedError

from tests._harness import LogLines
from tests.edge.house import Visitor
from tests.edge.upstreams.web import GET, OK, Web
from wormhole_tw.control.tokens import digest_line
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.upstreams.origins import FAMILY_MEMORY
from wormhole_tw.net.resolver import Found

PUBLIC, OTHER, SIX = "93.184.216.34", "93.184.216.35", "2606:4700::1"
PAGES = {"name": "app", "origin": "http://pages.example/base"}


@pytest.fixture
def build() -> Iterator[Callable[..., Web]]:
    webs: list[Web] = []

    def make(*backends: Any, **limits: Any) -> Web:
        webs.append(Web(*(backends or (PAGES,)), **limits))
        webs[-1].names.says["pages.example"] = [PUBLIC]
        return webs[-1]

    yield make
    for web in webs:
        web.close()


@pytest.fixture
def web(build: Callable[..., Web]) -> Web:
    return build()


def refusal(visitor: Visitor) -> tuple[int, str]:
    ((head, _),) = visitor.answers()
    return head.status_code, dict(head.headers)[b"x-wormhole-error"].decode()


def get(web: Web, path: str = "/x") -> Visitor:
    visitor = web.visitor()
    visitor.says(GET.format(path))
    return visitor


# A request and its answer.


def test_a_request_goes_to_the_origin_in_its_own_words(web: Web) -> None:
    visitor = get(web, "/x?y")
    origin = web.stands()
    asked = origin.take_all()
    assert asked.startswith(b"GET /base/x?y HTTP/1.1\r\nHost: pages.example\r\n")
    assert b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: app.test\r\n" in asked
    origin.deliver(b"HTTP/1.1 302 Found\r\nLocation: http://pages.example/base/y\r\nContent-Length: 0\r\n\r\n")
    ((head, _),) = visitor.answers()
    assert (b"location", b"http://app.test/y") in list(head.headers)


def test_interim_answers_and_streamed_ones_too(web: Web) -> None:
    visitor = get(web)
    origin = web.stands()
    origin.deliver(b"HTTP/1.1 103 Early Hints\r\nLink: </base/s.css>; rel=preload\r\n\r\n")
    assert b"Link: </s.css>; rel=preload\r\n" in visitor.hears()
    origin.deliver(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Domain=pages.example\r\nContent-Length: 2\r\n\r\no")
    assert b"Set-Cookie: a=b; Domain=app.test\r\n" in visitor.hears()
    origin.deliver(b"k")


@pytest.mark.parametrize(
    ("rule", "asked", "sent"),
    [
        ({"path": "/blog", "strip_prefix": True}, "/blog/x", "/base/x"),
        ({"path": "/blog", "replace_prefix": "/v2"}, "/blog/x", "/base/v2/x"),
        ({"path": "/blog"}, "/blog/x", "/base/blog/x"),
    ],
)
def test_below_a_prefix_that_the_route_changes(
    build: Callable[..., Web], rule: dict[str, Any], asked: str, sent: str
) -> None:
    """What the origin says of itself comes back to where the visitor asked."""
    web = build(rule=rule)
    visitor = get(web, asked)
    origin = web.stands()
    assert origin.take_all().startswith(f"GET {sent} HTTP/1.1\r\n".encode())
    location = f"http://pages.example{sent}/next"
    origin.deliver(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    ((head, _),) = visitor.answers()
    assert dict(head.headers)[b"location"].decode() == f"http://app.test{asked}/next"


def test_a_folder_behind_another_prefix_is_asked_for_without_its_slash(build: Callable[..., Web]) -> None:
    """Of ``/docs`` and ``/handbook`` alone, nothing says that they are the same but the rule."""
    web = build(
        {"name": "app", "origin": "http://pages.example"}, rule={"path": "/docs", "replace_prefix": "/handbook"}
    )
    visitor = get(web, "/docs")
    origin = web.stands()
    assert origin.take_all().startswith(b"GET /handbook HTTP/1.1\r\n")
    origin.deliver(b"HTTP/1.1 301 Moved Permanently\r\nLocation: /handbook/\r\nContent-Length: 0\r\n\r\n")
    ((head, _),) = visitor.answers()
    assert dict(head.headers)[b"location"] == b"/docs/"


def test_a_connection_is_used_again(web: Web) -> None:
    visitor = get(web)
    origin = web.stands()
    origin.deliver(OK)
    visitor.says(GET.format("/y"))
    assert origin.take_all().count(b"GET /base/") == 2
    origin.deliver(OK)
    assert len(web.dialled) == 1
    web.pass_time(54)
    assert not origin.gone
    web.pass_time(2)
    assert origin.gone
    assert web.context.pool.open == 0
    # and where there is none, nobody looks what has become of the name
    web.pass_time(60)
    assert len(web.names.asked) == 1


@pytest.mark.parametrize("protocol", ["http/1.1", "h2c"])
def test_how_long_an_idle_connection_is_kept(build: Callable[..., Web], protocol: str) -> None:
    web = build({**PAGES, "keep_alive": 3, "protocol": protocol})
    visitor = get(web)
    origin = web.stands()
    if protocol == "h2c":
        visitor.lose()
    else:
        origin.deliver(OK)
    web.pass_time(2)
    assert not origin.gone
    web.pass_time(2)
    assert origin.gone


def test_a_request_that_goes_in_a_circle(web: Web) -> None:
    visitor = web.visitor()
    for passes, status in ((7, 200), (8, 508)):
        via = ", ".join(["1.1 wormhole"] * passes)
        visitor.says(f"GET / HTTP/1.1\r\nHost: app.test\r\nVia: {via}\r\n\r\n")
        if status == 200:
            web.stands().deliver(OK)
            assert visitor.answers()[0][0].status_code == 200
    assert refusal(visitor) == (508, "loop")
    assert len(web.dialled) == 1


def test_a_copy_that_goes_in_a_circle(build: Callable[..., Web]) -> None:
    web = build(PAGES, {"name": "copy", "origin": "http://copy.example"}, rule={"mirror": {"backend": "copy"}})
    web.names.says["copy.example"] = [OTHER]
    for passes, copied in ((8, False), (7, True)):
        visitor = web.visitor()
        via = ", ".join(["1.1 wormhole"] * passes)
        visitor.says(f"GET / HTTP/1.1\r\nHost: app.test\r\nVia: {via}\r\n\r\n")
        assert ("copy.example" in web.names.asked) is copied
        visitor.lose()


def test_what_is_in_flight_is_its_load(web: Web) -> None:
    (upstream,) = web.origins.for_backend("app")
    get(web)
    assert upstream.load == 1
    origin = web.stands()
    assert upstream.load == 1
    origin.deliver(OK)
    assert upstream.load == 0
    assert upstream.connections == 1


@pytest.mark.parametrize("clean", [True, False])
def test_a_body_that_ends_with_its_connection(web: Web, clean: bool) -> None:
    """What was cut off must not look whole."""
    visitor = get(web)
    origin = web.stands()
    origin.deliver(b"HTTP/1.1 200 OK\r\n\r\nsome")
    origin.lose(None if clean else ConnectionLost())
    heard = visitor.hears()
    assert heard.endswith(b"0\r\n\r\n") is clean


def test_an_origin_that_closes_an_idle_connection_at_the_wrong_moment(web: Web) -> None:
    visitor = get(web)
    origin = web.stands()
    origin.deliver(OK)
    visitor.says(GET.format("/y"))
    origin.lose()
    web.stands().deliver(OK)
    assert len(visitor.answers([b"GET", b"GET"])) == 2


def test_what_must_not_be_sent_twice_is_not(web: Web) -> None:
    visitor = get(web)
    web.stands().deliver(OK)
    assert visitor.answers()
    visitor.says("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi")
    web.connections[0].lose()
    assert refusal(visitor) == (502, "service-failed")
    assert len(web.dialled) == 1


# What is dialled.


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2001:0:7f00:1::",
        "2001:0:808:808::80ff:fffe",
        "2001:db8::1",
    ],
)
def test_no_address_that_is_not_of_the_web(web: Web, address: str, log_lines: LogLines) -> None:
    web.names.says["pages.example"] = [address]
    assert refusal(get(web)) == (502, "service-forbidden")
    assert web.dialled == []
    assert (
        "backend app, origin http://pages.example/base: its name leads to what allow_networks does not name: "
        f"{address} is "
    ) in log_lines.text


def test_dns_that_says_something_else_the_next_time(web: Web) -> None:
    """The attack: a public address for whoever checks, then this machine's for whoever dials."""
    web.names.ttl = 0
    visitor = get(web)
    assert web.dialled == [PUBLIC]
    web.stands().deliver(OK)
    assert visitor.answers()[0][0].status_code == 200
    web.names.says["pages.example"] = ["127.0.0.1"]
    web.pass_time(2)  # the connection that stood is not good any more either
    assert web.connections[0].gone
    assert refusal(get(web)) == (502, "service-forbidden")
    assert web.dialled == [PUBLIC]


def test_a_forbidden_address_among_others_is_left_out(web: Web, log_lines: LogLines) -> None:
    web.names.says["pages.example"] = ["127.0.0.1", PUBLIC, "::ffff:10.0.0.1"]
    visitor = get(web)
    web.pass_time(1)
    assert web.dialled == [PUBLIC]
    assert "127.0.0.1 is loopback, ::ffff:10.0.0.1 is private (10.0.0.1, mapped)" in log_lines
    # and not tried either where the good one fails
    web.fails(ConnectionRefusedError())
    assert refusal(visitor) == (502, "service-refused")
    assert web.dialled == [PUBLIC]


def test_one_that_the_backend_allows(build: Callable[..., Web]) -> None:
    web = build({**PAGES, "allow_networks": ["10.0.0.0/8"]})
    web.names.says["pages.example"] = ["10.1.2.3", "127.0.0.1"]
    get(web)
    web.pass_time(1)
    assert web.dialled == ["10.1.2.3"]


def test_allowed_for_one_backend_is_not_for_another(build: Callable[..., Web]) -> None:
    open_, closed = {**PAGES, "allow_networks": ["127.0.0.0/8"]}, {**PAGES}
    web = build(open_)
    web.names.says["pages.example"] = ["127.0.0.1"]
    get(web)
    web.stands().deliver(OK)
    # nor is the connection that is there already
    web.reload(closed)
    assert refusal(get(web)) == (502, "service-forbidden")
    assert len(web.dialled) == 1
    assert web.connections[0].gone


def test_a_connection_as_it_is_is_judged_too(web: Web) -> None:
    """For a site whose TLS is not ended here, or a TCP service."""
    (upstream,) = web.origins.for_backend("app")
    web.names.says["pages.example"] = ["127.0.0.1"]
    failures: list[Any] = []
    upstream.passage(ConnectionFacts(), "").connect(None).addErrback(failures.append)  # type: ignore[arg-type]
    assert failures
    assert web.dialled == []


def test_addresses_of_both_families_race(web: Web) -> None:
    web.names.says["pages.example"] = [PUBLIC, SIX]
    visitor = get(web)
    assert web.dialled == [SIX]
    web.pass_time(0.25)
    assert web.dialled == [SIX, PUBLIC]
    web.stands(1).deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_dead_family_costs_its_quarter_of_a_second_once(web: Web) -> None:
    web.names.says["pages.example"] = [PUBLIC, SIX]
    get(web)
    web.pass_time(0.25)
    web.stands(1)
    get(web)
    assert web.dialled == [SIX, PUBLIC, PUBLIC]
    web.stands()
    web.pass_time(FAMILY_MEMORY)
    get(web)
    assert web.dialled[3:] == [SIX]


def test_addresses_of_one_name_share_the_work(web: Web) -> None:
    web.names.says["pages.example"] = [PUBLIC, OTHER]
    for _ in range(4):
        get(web)
        web.stands()
    assert sorted(web.dialled) == [PUBLIC, PUBLIC, OTHER, OTHER]


# What goes wrong.


def test_no_such_name(web: Web, log_lines: LogLines) -> None:
    web.names.says.clear()
    assert refusal(get(web)) == (502, "service-unknown")
    assert "backend app, origin http://pages.example/base: there is no name pages.example" in log_lines


def test_nobody_there(web: Web, log_lines: LogLines) -> None:
    visitor = get(web)
    web.fails(ConnectionRefusedError())
    assert refusal(visitor) == (502, "service-refused")
    assert "backend app, origin http://pages.example/base: Connection was refused" in log_lines


@pytest.mark.parametrize("in_dns", [True, False])
def test_too_slow_to_be_reached(web: Web, in_dns: bool) -> None:
    if in_dns:
        web.names.slow = []
    visitor = get(web)
    web.pass_time(4.5)
    assert visitor.hears() == b""
    web.pass_time(1)
    assert refusal(visitor) == (504, "service-timeout")
    if in_dns:
        assert web.dialled == []
    else:
        assert web.reactor.connectors[0].stoppedConnecting  # type: ignore[attr-defined]


def test_too_slow_to_answer(build: Callable[..., Web]) -> None:
    web = build(first_byte=3)
    visitor = get(web)
    web.stands()
    web.pass_time(4)
    assert refusal(visitor) == (504, "service-timeout")


def test_a_visitor_who_leaves_stops_the_dial(web: Web) -> None:
    visitor = get(web)
    visitor.lose()
    assert web.reactor.connectors[0].stoppedConnecting  # type: ignore[attr-defined]


def test_another_origin_where_one_fails(build: Callable[..., Web], log_lines: LogLines) -> None:
    web = build({"name": "app", "origins": [{"url": "http://pages.example"}, {"url": "http://other.example"}]})
    web.names.says["other.example"] = [OTHER]
    visitor = get(web)
    (first,) = web.dialled
    web.fails(ConnectionRefusedError())
    web.stands().deliver(OK)
    assert {first, web.dialled[1]} == {PUBLIC, OTHER}
    assert visitor.answers()[0][1] == b"ok"
    assert len(log_lines.matching("Connection was refused")) == 1


def test_one_that_was_ejected_where_all_others_fail(build: Callable[..., Web]) -> None:
    """It may be back, and an error is all that the request has to lose."""
    urls = [{"url": "http://pages.example"}, {"url": "http://other.example"}]
    web = build({"name": "app", "origins": urls, "balance": {"method": "round_robin"}})
    web.names.says["other.example"] = [OTHER]

    def ask(down: str) -> list[str]:
        """A request while one of the two refuses; gives what was dialled for it."""
        before = len(web.dialled)
        visitor = get(web)
        if web.dialled[-1] == down:
            web.fails(ConnectionRefusedError())
        connection = web.stands()
        connection.deliver(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert visitor.answers()[0][1] == b"ok"
        return web.dialled[before:]

    for _ in range(12):
        ask(PUBLIC)
    assert web.context.dispatch.group("app").ejected == 1
    # now the other one is gone, and the first is back
    assert ask(OTHER) == [OTHER, PUBLIC]


def test_an_agent_where_an_origin_fails(build: Callable[..., Web]) -> None:
    """And its words are its own again: no base path, no name of the origin's."""
    web = build({**PAGES, "tokens": [digest_line("token")]})
    session = web.agent()
    web.names.says.clear()
    seen = set()
    for _ in range(20):
        visitor = get(web)
        stream = session.streams[-1]
        seen.add(stream.read())
        stream.deliver(b"HTTP/1.1 302 Found\r\nLocation: http://pages.example/base/y\r\nContent-Length: 0\r\n\r\n")
        assert b"Location: http://pages.example/base/y\r\n" in visitor.hears()
    assert web.names.asked  # it was tried
    assert all(asked.startswith(b"GET /x HTTP/1.1\r\nHost: app.test\r\n") for asked in seen if asked)


# Reloading, and DNS that changes.


def test_a_reload_that_changes_nothing_of_it_keeps_its_connections(build: Callable[..., Web]) -> None:
    web = build()
    before = web.origins.for_backend("app")
    get(web)
    web.stands().deliver(OK)
    web.reload(PAGES)
    assert web.origins.for_backend("app") is before
    web.reload({**PAGES, "host": "visitor", "rewrite_links": False})
    get(web)
    assert len(web.dialled) == 1
    assert b"Host: app.test\r\n" in web.connections[0].take_all()


@pytest.mark.parametrize(
    "now",
    [
        {"name": "app", "origin": "http://other.example"},
        {"name": "app", "origin": "http://pages.example:8080/base"},
        {**PAGES, "allow_networks": ["10.0.0.0/8"]},
        {**PAGES, "protocol": "h2c"},
        {"name": "app", "tokens": [digest_line("token")]},
        {"name": "other", "origin": "http://other.example"},
    ],
)
def test_a_reload_that_changes_where_connections_go_ends_the_old_ones(web: Web, now: dict[str, Any]) -> None:
    (old,) = web.origins.for_backend("app")
    idle = get(web)
    web.stands().deliver(OK)
    idle.says(GET.format("/y"))
    busy = web.connections[0]
    get(web)
    resting = web.stands()
    resting.deliver(OK)
    web.reload(now)
    assert resting.gone
    assert not old.usable
    # what runs there comes to its end
    busy.deliver(OK)
    assert [answer[1] for answer in idle.answers([b"GET", b"GET"])] == [b"ok", b"ok"]
    assert busy.gone


def test_a_reload_while_an_origin_is_being_dialled(web: Web) -> None:
    """The request that began there comes to its end there, and nothing of the origin is left behind."""
    web.names.slow = []
    visitor = get(web)
    web.reload({"name": "app", "origin": "http://other.example"})
    web.names.slow.pop().callback(Found((PUBLIC,), web.reactor.seconds() + 3600))
    origin = web.stands()
    origin.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"
    assert origin.gone


def test_connections_to_an_address_that_the_name_has_no_more_end(web: Web) -> None:
    visitor = get(web)
    origin = web.stands()
    origin.deliver(OK)
    for second in range(70):
        # so busy that it is never dialled anew
        visitor.says(GET.format(f"/{second}"))
        if second == 30:
            web.names.says["pages.example"] = [OTHER]
        if origin.gone:
            break
        origin.deliver(OK)
        web.pass_time(1)
    assert 59 <= second <= 62
    assert web.dialled == [PUBLIC, OTHER]


def test_also_where_whoever_dials_finds_it_first(web: Web) -> None:
    visitor = get(web)
    origin = web.stands()
    origin.deliver(OK)
    visitor.says(GET.format("/y"))
    web.names.says["pages.example"] = [OTHER]
    get(web)
    assert web.dialled == [PUBLIC, OTHER]
    origin.deliver(OK)
    assert len(visitor.answers([b"GET", b"GET"])) == 2
    assert origin.gone


def test_the_running_request_is_not_disturbed_by_that(build: Callable[..., Web]) -> None:
    web = build(first_byte=600)
    visitor = get(web)
    origin = web.stands()
    web.names.says["pages.example"] = [OTHER]
    web.pass_time(59)
    web.pass_time(2)
    assert not origin.gone
    origin.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"
    assert origin.gone


def test_nothing_is_ended_while_dns_says_nothing(build: Callable[..., Web]) -> None:
    web = build(first_byte=600)
    get(web)
    origin = web.stands()
    web.names.says.clear()
    web.pass_time(70)
    assert len(web.names.asked) > 5
    web.names.says["pages.example"] = [PUBLIC]
    origin.deliver(OK)
    assert not origin.gone


def test_two_origins_at_one_host(build: Callable[..., Web]) -> None:
    tables = [{"url": "http://pages.example/one"}, {"url": "http://pages.example/two", "weight": 3, "region": "eu"}]
    web = build({"name": "app", "origins": tables})
    one, two = web.origins.for_backend("app")
    assert one.key != two.key
    assert str(two.key) == "http://pages.example/two"
    assert (two.weight, two.region) == (3, "eu")
    tables[0]["weight"] = 5
    web.reload({"name": "app", "origins": tables})
    assert web.origins.for_backend("app") == (one, two)
    assert one.weight == 5


def test_the_same_answer_of_an_agent_and_of_an_origin_is_told_in_the_words_of_each(build: Callable[..., Web]) -> None:
    moved = b"HTTP/1.1 302 Found\r\nDate: now\r\nLocation: http://pages.example/base/y\r\nContent-Length: 2\r\n\r\nok"
    both = {**PAGES, "tokens": [digest_line("token")], "balance": {"method": "round_robin"}}
    web = build(both)
    session, visitor = web.agent(), web.visitor()
    told = []
    for _ in range(8):
        visitor.says(GET.format("/x"))
        if len(web.dialled) > len(web.connections):
            web.stands()
        for place, ends in (("agent", session.streams), ("origin", web.connections)):
            for end in ends:
                if end.take_all():
                    end.deliver(moved)
                    told.append((place, visitor.hears().partition(b"Location: ")[2].partition(b"\r\n")[0]))
    assert set(told) == {("agent", b"http://pages.example/base/y"), ("origin", b"http://app.test/y")}
    assert len(told) == 8


def test_candidates_are_agents_and_origins(build: Callable[..., Web]) -> None:
    web = build({**PAGES, "tokens": [digest_line("token")]}, {"name": "none", "tokens": [digest_line("other")]})
    every = web.context.dispatch._upstreams.for_backend
    (origin,) = web.origins.for_backend("app")
    assert every("app") == (origin,)
    session = web.agent()
    both = every("app")
    assert [upstream.key for upstream in both] == [session.facts.session_id, origin.key]
    assert every("app") is both
    web.registry.remove(session)
    assert every("app") == (origin,)
    assert every("none") == ()
