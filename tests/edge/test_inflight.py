"""Limits of requests and connections for an address and for a site, and that what is counted is given back."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tests.edge.h2_visitor import GET as GET_FIELDS
from tests.edge.h2_visitor import POST, H2Visitor
from tests.edge.house import House, Stream, Visitor
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.limits import SiteLimits
from wormhole_tw.control.model import Backend, Route, Site
from wormhole_tw.edge.accept import AcceptFactory
from wormhole_tw.edge.inflight import InFlight
from wormhole_tw.edge.metrics import EdgeMetrics
from wormhole_tw.edge.room import ADDRESS_SPARE
from wormhole_tw.edge.trust import NOBODY, Trust
from wormhole_tw.net.networks import Networks
from wormhole_tw.wire.codes import ResetCode
from wormhole_tw.wire.frames import PREFACE

Build = Callable[..., House]

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"


def counted(house: House) -> tuple[int, int]:
    """Requests in flight: at the site ``app``, and of the usual visitor."""
    in_flight = house.context.in_flight
    return in_flight.sites.of("app"), in_flight.addresses.of("192.0.2.7")


def asked(house: House) -> Stream:
    """The stream that has just got a request."""
    [stream] = [stream for stream in house.streams if stream.read()]
    return stream


def refused(visitor: Visitor) -> tuple[int, str, str]:
    [(head, _)] = visitor.answers()
    fields = dict(head.headers)
    return head.status_code, fields[b"x-wormhole-error"].decode(), fields[b"retry-after"].decode()


# Limits.


def test_one_request_more_than_an_address_may_have(build: Build) -> None:
    house = build(requests_per_address=2)
    visitors = [house.visitor() for _ in range(3)]
    for visitor in visitors:
        visitor.says(GET)
    assert refused(visitors[2]) == (429, "too-many-requests", "1")
    # the connection stays, and other addresses are none of its business
    first, second = [stream for stream in house.streams if stream.read()]
    stranger = house.visitor(address="192.0.2.8")
    stranger.says(GET)
    asked(house).deliver(OK)
    assert stranger.answers()[0][1] == b"ok"
    first.deliver(OK)
    visitors[2].says(GET)
    asked(house).deliver(OK)
    second.deliver(OK)
    assert visitors[2].answers()[0][1] == b"ok"
    last = house.done[0]
    assert (last.status, last.reason, last.site) == (429, "too-many-requests", "app")
    assert (last.route, last.backend) == ("/", "app")


def test_one_request_more_than_a_site_may_have(build: Build) -> None:
    house = build(requests_per_site=2)
    visitors = [house.visitor(address=f"192.0.2.{number}") for number in range(3)]
    for visitor in visitors:
        visitor.says(GET)
    assert refused(visitors[2]) == (429, "site-busy", "1")
    house.agent("docs")
    visitors[2].says(b"GET /only HTTP/1.1\r\nHost: docs.test\r\n\r\n")
    assert visitors[2].hears() == b""


def test_an_address_that_is_over_its_limit_takes_nothing_from_the_site(build: Build) -> None:
    house = build(requests_per_site=10, requests_per_address=1)
    visitors = [house.visitor() for _ in range(5)]
    for visitor in visitors:
        visitor.says(GET)
    assert [refused(visitor)[0] for visitor in visitors[1:]] == [429] * 4
    assert counted(house) == (1, 1)


def test_the_body_of_what_is_refused(build: Build) -> None:
    house = build(requests_per_address=1)
    house.visitor().says(GET)
    small, large = house.visitor(), house.visitor()
    small.says(UPLOAD + b"0123456789" + GET)
    assert [head.status_code for head, _ in small.answers()] == [429, 429]
    large.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000000\r\n\r\n")
    [(head, _)] = large.answers()
    assert (head.status_code, dict(head.headers)[b"connection"]) == (429, b"close")


def test_streams_of_one_http2_connection(build: Build) -> None:
    house = build(requests_per_address=2)
    visitor = H2Visitor(house).hello()
    streams = [visitor.ask(), visitor.ask(POST, end=False), visitor.ask()]
    answer = visitor[streams[2]]
    assert (answer.status, answer.fields["retry-after"]) == (429, "1")
    assert answer.fields["x-wormhole-error"] == "too-many-requests"
    for stream in house.streams:
        stream.read()
    house.streams[0].deliver(OK)
    assert visitor[streams[0]].body == b"ok"
    again = visitor.ask()
    asked(house).deliver(OK)
    assert visitor[again].body == b"ok"


def test_an_ipv6_visitor_is_its_network(build: Build) -> None:
    house = build(requests_per_address=1)
    for number, status in [("1:0:0:0:1", 0), ("1:ffff:0:0:2", 429), ("2:0:0:0:1", 0)]:
        visitor = house.visitor(address=f"2001:db8:0:{number}")
        visitor.says(GET)
        heard = visitor.answers()
        assert (heard[0][0].status_code if heard else 0) == status


def test_visitors_behind_a_trusted_proxy_are_counted_for_themselves(build: Build) -> None:
    house = build(requests_per_address=1)
    trust = Trust(Networks([ip_network("192.0.2.7/32")]))

    def ask(address: str) -> Visitor:
        proxy = house.visitor(trust=trust)
        proxy.says(f"GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: {address}\r\n\r\n")
        return proxy

    ask("203.0.113.1")
    assert ask("203.0.113.2").hears() == b""
    assert refused(ask("203.0.113.1"))[0] == 429
    assert counted(house) == (2, 0)


def test_who_has_no_address_is_not_counted_by_it(build: Build) -> None:
    house = build(requests_per_address=1)
    for _ in range(3):
        visitor = house.visitor(address="")
        visitor.says(GET)
        assert visitor.hears() == b""


def test_off_counts_nothing(build: Build) -> None:
    house = build(requests_per_site=0, requests_per_address=0)
    house.visitor().says(GET)
    assert counted(house) == (0, 0)


def test_metrics_name_the_reason(build: Build) -> None:
    house = build(requests_per_site=1)
    metrics = EdgeMetrics()
    house.visitor().says(GET)
    house.visitor().says(GET)
    metrics.record(house.done[-1], house.clock.seconds())
    assert metrics.reasons == {"site-busy": 1}
    assert metrics.traffic["app", "app"].requests == {("GET", 4): 1}


# Limits of a site's own.


def with_limits(house: House, **limits: float) -> None:
    """Give the site ``app`` limits of its own, as a reload does."""
    own = SiteLimits(**limits)  # type: ignore[arg-type]
    sites = [
        Site("app", ("app.test",), (Route("app", "/", "app", own),)),
        Site("docs", ("docs.test",), (Route("docs", "/", "app"),)),
    ]
    house.catalogs.swap(Catalog(sites, [Backend("app")]))


def test_a_sites_own_number_of_requests(house: House) -> None:
    with_limits(house, requests_per_site=1)
    house.visitor().says(GET)
    visitor = house.visitor()
    visitor.says(GET)
    assert refused(visitor)[1] == "site-busy"
    with_limits(house, requests_per_site=2)
    visitor.says(GET)
    assert visitor.hears() == b""


def test_a_sites_own_size_of_bodies(house: House) -> None:
    with_limits(house, body_bytes=9)
    visitor = house.visitor()
    visitor.says(UPLOAD)
    assert visitor.answers([b"POST"])[0][0].status_code == 413
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n012345678\r\n1\r\n9\r\n")
    assert visitor.answers([b"POST"])[0][0].status_code == 413
    # the same is noted of a body whose length is told and of one that comes
    assert [(done.site, done.route, done.backend) for done in house.done] == [("app", "/", "app")] * 2
    visitor.says(UPLOAD.replace(b"app.test", b"docs.test"))
    assert visitor.hears() == b""


def test_a_sites_own_time_for_bodies(house: House) -> None:
    with_limits(house, body=40, body_rate=0)
    visitor, h2 = house.visitor(), H2Visitor(house).hello()
    visitor.says(UPLOAD)
    stream = h2.ask(POST, end=False)
    for _ in range(4):
        house.pass_time(38)
        visitor.says(b"x")
        h2.data(stream, b"x")
    assert (visitor.hears(), h2[stream].status) == (b"", 0)
    house.pass_time(52)
    assert visitor.answers([b"POST"])[0][0].status_code == 408
    assert h2[stream].status == 408


def test_a_sites_own_time_for_the_first_byte_and_the_whole(house: House) -> None:
    with_limits(house, first_byte=100)
    visitor = house.visitor()
    visitor.says(GET)
    house.pass_time(99)
    assert visitor.hears() == b""
    house.pass_time(2)
    assert visitor.answers()[0][0].status_code == 504
    with_limits(house, whole=5)
    visitor.says(GET)
    house.pass_time(5.5)
    assert visitor.answers()[0][0].status_code == 504


def test_a_sites_own_time_for_the_connection_to_its_service(house: House) -> None:
    with_limits(house, connect=20)
    house.sessions[0].slow = []
    visitor = house.visitor()
    visitor.says(GET)
    house.pass_time(19)
    assert visitor.hears() == b""
    house.pass_time(2)
    assert visitor.answers()[0][0].status_code == 504


def test_a_sites_own_time_for_silence(house: House) -> None:
    with_limits(house, upgrade_idle=20)
    visitor = house.visitor()
    visitor.says(UPGRADE)
    house.stream.deliver(SWITCH)
    house.pass_time(21)
    assert visitor.disconnected
    assert house.done[-1].reason == "idle"


# What is counted is given back, however it ends.


def ends_whole(house: House, visitor: Visitor) -> None:
    visitor.says(GET)
    house.stream.deliver(OK)


def ends_in_pieces(house: House, visitor: Visitor) -> None:
    visitor.says(UPLOAD + b"0123456789")
    house.stream.deliver(BEGUN)
    house.stream.deliver(b"x" * 96)


def ends_early(house: House, visitor: Visitor) -> None:
    visitor.says(UPLOAD)
    house.stream.deliver(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")


def is_cut_by_the_service(house: House, visitor: Visitor) -> None:
    visitor.says(GET)
    house.stream.deliver(BEGUN)
    house.stream.reset(ResetCode.SERVICE_FAILED, delivered=True)


def fails_at_every_agent(house: House, visitor: Visitor) -> None:
    visitor.says(GET)
    house.sessions[0].die()


def is_retried(house: House, visitor: Visitor) -> None:
    house.sessions.append(house.agent(instance=9))
    visitor.says(GET)
    busy = next(stream for stream in house.streams if stream.read())
    busy.reset(ResetCode.REFUSED, delivered=False)
    assert counted(house) == (1, 1)
    next(stream for stream in house.streams if stream is not busy and stream.read()).deliver(OK)


def is_left_by_the_visitor(house: House, visitor: Visitor) -> None:
    visitor.says(GET)
    visitor.lose()


def is_left_while_it_waits(house: House, visitor: Visitor) -> None:
    house.sessions[0].slow = []
    visitor.says(GET)
    assert counted(house) == (1, 1)
    visitor.lose()


def is_upgraded_and_ends(house: House, visitor: Visitor) -> None:
    visitor.says(UPGRADE)
    house.stream.deliver(SWITCH + b"hello")
    assert counted(house) == (1, 1)
    house.stream.end_reading()
    visitor.end_reading()


def is_upgraded_and_lost(house: House, visitor: Visitor) -> None:
    visitor.says(UPGRADE)
    house.stream.deliver(SWITCH)
    house.stream.reset(ResetCode.SERVICE_FAILED, delivered=True)


def is_too_slow(house: House, visitor: Visitor) -> None:
    visitor.says(UPLOAD)
    house.pass_time(12)


def is_not_answered_in_time(house: House, visitor: Visitor) -> None:
    visitor.says(GET)
    house.pass_time(61)


def is_not_read(house: House, visitor: Visitor) -> None:
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
    house.pass_time(15)


def turns_out_to_be_invalid(house: House, visitor: Visitor) -> None:
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    visitor.says(b"zz\r\n")


def is_refused(house: House, visitor: Visitor) -> None:
    visitor.says(b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\nGET / HTTP/1.1\r\n\r\n")


def is_aborted_with_the_edge(house: House, visitor: Visitor) -> None:
    visitor.says(GET)
    house.context.abort()


def meets_a_bug(house: House, visitor: Visitor) -> None:
    visitor.says(GET)
    assert house.context.on_exchange_done is not None
    connection = visitor.protocol
    exchange = connection._exchange
    exchange.crashed()


ENDINGS = [
    ends_whole,
    ends_in_pieces,
    ends_early,
    is_cut_by_the_service,
    fails_at_every_agent,
    is_retried,
    is_left_by_the_visitor,
    is_left_while_it_waits,
    is_upgraded_and_ends,
    is_upgraded_and_lost,
    is_too_slow,
    is_not_answered_in_time,
    is_not_read,
    turns_out_to_be_invalid,
    is_refused,
    is_aborted_with_the_edge,
    meets_a_bug,
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_a_request_is_counted_until_it_ends(house: House, ending: Callable[[House, Visitor], None]) -> None:
    highest: list[tuple[int, int]] = []
    house.registry.subscribe(lambda _: highest.append(counted(house)))
    ending(house, house.visitor())
    assert counted(house) == (0, 0)
    assert (len(house.context.in_flight.sites), len(house.context.in_flight.addresses)) == (0, 0)
    assert house.done


def test_streams_are_counted_until_they_end(house: House) -> None:
    visitor = H2Visitor(house).hello()
    whole, reset, slow, unread, running = (visitor.ask(POST, end=False) for _ in range(5))
    assert counted(house) == (5, 5)
    visitor.data(whole, b"", end=True)
    house.streams[0].deliver(OK)
    assert (visitor[whole].body, counted(house)) == (b"ok", (4, 4))
    visitor.client.reset_stream(reset)
    visitor.say()
    assert counted(house) == (3, 3)
    for stream in (unread, running):
        visitor.data(stream, b"", end=True)
    house.pass_time(12)
    assert (visitor[slow].status, counted(house)) == (408, (2, 2))
    visitor.lose()
    assert counted(house) == (0, 0)
    assert unread not in visitor.answers


# Connections.


class Door:
    """A port without TLS."""

    def __init__(self, house: House, trust: Trust = NOBODY, *, proxy_protocol: bool = False) -> None:
        self.factory = AcceptFactory(
            house.context,
            make_link=lambda _: _Link(),
            clock=house.clock,
            on_plain="serve",
            trust=trust,
            proxy_protocol=proxy_protocol,
        )

    def connect(self, peer: object = IPv4Address("TCP", "192.0.2.7", 40000)) -> Visitor | None:
        protocol = self.factory.buildProtocol(peer)  # type: ignore[arg-type]
        if protocol is None:
            return None
        socket = Visitor(protocol, peer=peer)
        protocol.makeConnection(socket)
        return socket


class _Link:
    def makeConnection(self, transport: object) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        pass


def test_connections_of_an_address(build: Build) -> None:
    house = build(connections_per_address=2)
    door = Door(house)
    sockets = [door.connect() for _ in range(2 + ADDRESS_SPARE)]
    assert None not in sockets
    # beyond that nobody is even asked who it is
    assert door.connect() is None
    assert door.connect(IPv4Address("TCP", "192.0.2.8", 1)) is not None
    for socket in sockets:
        assert socket is not None
    first, second, third, agent, gone, late = (socket for socket in sockets if socket is not None)
    third.says(GET)
    assert third.disconnected
    agent.says(PREFACE)
    assert not agent.disconnected
    gone.lose()
    house.pass_time(10.25)  # limits.handshake
    assert late.disconnected
    assert first.disconnected
    assert house.context.counters.refused == {"address": 2}
    assert len(house.context.addresses) == 0
    assert second.disconnected
    agent.abortConnection()


def test_a_visitors_connection_is_counted_until_it_ends(build: Build) -> None:
    house = build(connections_per_address=1)
    door = Door(house)
    visitor = door.connect()
    assert visitor is not None
    visitor.says(GET)
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"
    other = door.connect()
    assert other is not None
    other.says(GET)
    assert other.disconnected
    assert house.context.addresses.of("192.0.2.7") == 1
    visitor.lose()
    assert len(house.context.addresses) == 0
    again = door.connect()
    assert again is not None
    again.says(GET)
    assert not again.disconnected


def test_connections_that_have_no_limit_by_address(build: Build) -> None:
    house = build(connections_per_address=1)
    trusting = Door(house, Trust(Networks([ip_network("192.0.2.7/32")])))
    unix = UNIXAddress("/run/edge.sock")
    for door, peer in [(trusting, IPv4Address("TCP", "192.0.2.7", 1)), (Door(house), unix)]:
        for _ in range(3 + ADDRESS_SPARE):
            socket = door.connect(peer)
            assert socket is not None
            socket.says(GET)
            assert not socket.disconnected
    assert len(house.context.addresses) == 0


def test_connections_that_a_header_names_are_counted_for_whom_it_names(build: Build) -> None:
    house = build(connections_per_address=1)
    door = Door(house, Trust(Networks([ip_network("192.0.2.7/32")])), proxy_protocol=True)

    def connect(address: str) -> Visitor:
        socket = door.connect()
        assert socket is not None
        socket.says(f"PROXY TCP4 {address} 192.0.2.1 40000 443\r\n")
        return socket

    visitor = connect("203.0.113.1")
    visitor.says(GET)
    others = [connect("203.0.113.1") for _ in range(ADDRESS_SPARE)]
    assert [socket.disconnected for socket in others] == [False] * ADDRESS_SPARE
    assert connect("203.0.113.1").disconnected
    assert not connect("203.0.113.2").disconnected
    assert house.context.addresses.of("203.0.113.1") == 1 + ADDRESS_SPARE
    assert house.context.addresses.of("192.0.2.7") == 0
    visitor.lose()
    for socket in others:
        socket.lose()
    assert house.context.addresses.of("203.0.113.1") == 0


def test_connections_of_an_ipv6_network(build: Build) -> None:
    house = build(connections_per_address=1)
    door = Door(house)
    for number in range(1 + ADDRESS_SPARE):
        assert door.connect(IPv6Address("TCP", f"2001:db8::{number}", 1)) is not None
    assert door.connect(IPv6Address("TCP", "2001:db8::ffff", 1)) is None
    assert door.connect(IPv6Address("TCP", "2001:db8:0:1::", 1)) is not None


def test_nothing_can_be_given_back_twice() -> None:
    counts = InFlight()
    counts.enter("a")
    counts.leave("a")
    with pytest.raises(KeyError):
        counts.leave("a")
    assert (len(counts), counts.of("a")) == (0, 0)


def test_a_get_over_http2_is_counted_as_any_other(house: House) -> None:
    visitor = H2Visitor(house).hello()
    stream = visitor.ask(GET_FIELDS)
    assert counted(house) == (1, 1)
    house.stream.deliver(OK)
    assert (visitor[stream].body, counted(house)) == (b"ok", (0, 0))
