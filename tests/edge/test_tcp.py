"""TCP services: a visitor's connection and its stream, and what may become of the two before and after they meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionLost

from tests._harness import LogLines
from tests._support import ROOT
from tests.edge.house import FakeSession, House, Visitor
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import Backend
from wormhole_tw.control.tcp import TcpService
from wormhole_tw.control.trust import Trusted
from wormhole_tw.edge.passage import LAST_WORDS, REASONS, Passage
from wormhole_tw.edge.passage_lines import combined_line, json_line
from wormhole_tw.edge.tcp import TcpFactory
from wormhole_tw.errors import StreamReset
from wormhole_tw.net.proxy_protocol import encode_header
from wormhole_tw.wire.codes import ResetCode

Build = Callable[..., House]

HERE = IPv4Address("TCP", "192.0.2.1", 5432)
PEER = IPv4Address("TCP", "192.0.2.7", 40000)
PROXY = IPv4Address("TCP", "10.0.0.1", 50000)
TEN = (ip_network("10.0.0.0/8"),)


class Port:
    """The port of a TCP service of a house.

    :ivar ended: the passages that are over
    """

    def __init__(self, house: House, **settings: Any) -> None:
        self.house = house
        self.ended: list[Passage] = []
        house.context.passages.on_done = self.ended.append
        self.settings = {"connections": 100, "idle": 0.0, **settings}
        self.factory = TcpFactory(house.context, self.service())

    def service(self, **changes: Any) -> TcpService:
        return TcpService(name="db", listen="tcp:5432", backend="app", **{**self.settings, **changes})

    def arrive(self, peer: Any = PEER) -> Visitor | None:
        """A connection; None where it was closed at once."""
        protocol = self.factory.buildProtocol(peer)
        if protocol is None:
            return None
        socket = Visitor(peer=peer, host=HERE)
        socket.protocol = protocol
        protocol.makeConnection(socket)
        return socket

    def connect(self, peer: Any = PEER) -> Visitor:
        socket = self.arrive(peer)
        assert socket is not None
        return socket

    @property
    def reasons(self) -> list[str]:
        return [passage.reason for passage in self.ended]

    @property
    def traffic(self) -> Any:
        return self.house.context.passages.traffic["tcp", "db", "app"]


def test_octets_go_both_ways_and_are_counted(house: House) -> None:
    port = Port(house)
    visitor = port.connect()
    assert house.stream.open.kind == "tcp"
    assert house.stream.open.dedicated
    told = house.stream.open.visitor
    assert told is not None
    assert (told.address, told.port, told.local_address, told.local_port) == ("192.0.2.7", 40000, "192.0.2.1", 5432)
    assert (told.server_name, told.tls) == ("", None)
    visitor.says(b"question")
    assert house.stream.read() == b"question"
    house.stream.deliver(b"answer!")
    assert visitor.hears() == b"answer!"
    assert (port.traffic.received, port.traffic.sent, len(port.traffic.open)) == (8, 7, 1)
    assert sum(port.traffic.connect.counts) == 1
    visitor.end_reading()
    house.stream.end_reading()
    house.stream.lose()
    visitor.lose()
    assert port.reasons == ["closed"]
    assert (port.traffic.received, port.traffic.sent, len(port.traffic.open)) == (8, 7, 0)
    assert sum(port.traffic.connect.counts) == 1


def test_what_a_visitor_sends_early_waits(house: House) -> None:
    house.sessions[0].slow = []
    port = Port(house)
    visitor = port.connect()
    assert visitor.paused, "it is read of before anybody takes it"
    visitor.says(b"early")
    house.sessions[0].slow[0].callback(None)
    assert house.stream.read() == b"early"
    visitor.lose()
    house.stream.lose()


def test_a_full_stream_holds_the_visitor_up_and_the_other_way_round(build: Build) -> None:
    house = build()
    house.sessions[0].capacity = 1000
    port = Port(house)
    visitor = port.connect()
    visitor.says(b"x" * 2000)
    assert visitor.paused
    house.stream.read()
    assert not visitor.paused
    house.stream.deliver(b"y" * 100_000)
    assert house.stream.paused
    visitor.hears()
    assert not house.stream.paused
    visitor.lose()
    house.stream.lose()


def test_half_close(house: House) -> None:
    visitor = Port(house).connect()
    visitor.end_reading()
    assert house.stream.write_closed
    house.stream.deliver(b"answer")
    house.stream.end_reading()
    assert visitor.hears() == b"answer"
    assert visitor.disconnecting
    visitor.lose()
    house.stream.lose()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StreamReset(ResetCode.SERVICE_FAILED, "", True), "service-failed"),
        (StreamReset(ResetCode.LINK_LOST, "", True), "agent-lost"),
        (StreamReset(ResetCode.CANCELLED, "", True), "service-failed"),
        (ConnectionLost(), "service-failed"),
    ],
)
def test_a_stream_that_breaks(house: House, error: Exception, reason: str) -> None:
    port = Port(house)
    visitor = port.connect()
    house.stream.lose(error)
    assert visitor.disconnected
    assert port.reasons == [reason]


def test_a_visitor_that_breaks(house: House) -> None:
    port = Port(house)
    visitor = port.connect()
    visitor.lose(ConnectionLost())
    assert house.stream.aborted
    assert port.reasons == ["visitor-gone"]


# Finding an agent.


def test_no_agent(build: Build, log_lines: LogLines) -> None:
    house = build(agents=0)
    port = Port(house)
    for _ in range(3):
        assert port.connect().disconnecting
    assert len(log_lines.matching("no agent of backend app is there")) == 1, "a line each would fill the disk"


def test_an_agent_that_is_expected_back_is_waited_for(build: Build) -> None:
    house = build(agents=0, settled=False)
    port = Port(house)
    visitor = port.connect()
    assert visitor.paused
    house.sessions.append(house.agent())
    visitor.says(b"hello")
    assert house.stream.read() == b"hello"
    visitor.lose()
    house.stream.lose()


def test_an_agent_that_does_not_come(build: Build) -> None:
    house = build(agents=0, settled=False, waiting_time=2)
    port = Port(house)
    visitor = port.connect()
    house.pass_time(3)
    assert visitor.disconnecting
    visitor.lose()
    assert port.reasons == ["no-agent"]


def test_no_more_wait_than_may(build: Build) -> None:
    house = build(agents=0, settled=False, waiting=1)
    port = Port(house)
    first, second = port.connect(), port.connect()
    assert second.disconnecting
    assert not first.disconnecting
    second.lose()
    first.lose()
    assert port.reasons == ["no-agent", "visitor-gone"]
    assert house.context.dispatch.waiting("app") == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ResetCode.REFUSED, "service-refused"),
        (ResetCode.UNREACHABLE, "service-refused"),
        (ResetCode.UNSUPPORTED_KIND, "service-refused"),
        (ResetCode.TIMED_OUT, "service-timeout"),
        (ResetCode.OVER_LIMIT, "overloaded"),
        (ResetCode.NOT_AVAILABLE, "no-agent"),
        (ResetCode.LINK_LOST, "agent-lost"),
    ],
)
def test_every_agent_is_tried_once(build: Build, log_lines: LogLines, code: ResetCode, reason: str) -> None:
    house = build(agents=2)
    for session in house.sessions:
        session.refuse = StreamReset(code, "no", delivered=False)
    port = Port(house)
    visitor = port.connect()
    assert visitor.disconnecting
    visitor.lose()
    assert port.reasons == [reason]
    assert port.ended[0].attempts == 2
    assert "TCP service db: a connection of 192.0.2.7 was closed: " in log_lines


def test_another_agent_takes_what_one_did_not(build: Build) -> None:
    house = build(agents=4)
    for session in house.sessions[:3]:
        session.refuse = StreamReset(ResetCode.REFUSED, "no", delivered=False)
    port = Port(house)
    visitors = [port.connect() for _ in range(8)]
    # three tries each: whoever met the fourth agent is joined to it
    joined = house.sessions[3].streams
    assert joined
    assert len(joined) + sum(visitor.disconnecting for visitor in visitors) == 8
    for stream in list(joined):
        stream.lose(ConnectionLost())


def test_a_service_that_is_not_reached_in_time(build: Build) -> None:
    """No other agent is asked then: nobody waits for three."""
    house = build(agents=2)
    house.sessions[0].slow = house.sessions[1].slow = slow = []
    port = Port(house, connect=2.0)
    visitor = port.connect()
    house.pass_time(1.75)
    assert not visitor.disconnecting
    house.pass_time(1)
    assert visitor.disconnecting
    visitor.lose()
    assert port.reasons == ["service-timeout"]
    assert [dial.called for dial in slow] == [True], "the dial goes on for nobody"


def test_a_visitor_that_leaves_before_it_is_joined(house: House) -> None:
    house.sessions[0].slow = slow = []
    port = Port(house)
    port.connect().lose(ConnectionLost())
    assert port.reasons == ["visitor-gone"]
    assert slow[0].called
    assert house.streams == []


@pytest.mark.parametrize("waiting", [False, True])
def test_a_bug_ends_its_own_connection(build: Build, logged_failures: Any, waiting: bool) -> None:
    class Broken(FakeSession):
        def dial(self, message: Any) -> Any:
            raise ZeroDivisionError

    house = build(agents=0, settled=not waiting)
    session = Broken(house, "app", instance=1, per_visitor=False)
    port = Port(house)
    if not waiting:
        house.registry.admit(session)
    visitor = port.connect()
    if waiting:
        house.registry.admit(session)
    assert visitor.disconnecting
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    visitor.lose()
    assert port.reasons == ["internal"]


# Silence.


def test_silence(house: House) -> None:
    port = Port(house, idle=8.0)
    visitor = port.connect()
    for _ in range(4):
        house.pass_time(6)
        visitor.says(b".")
        house.stream.read()
        house.pass_time(6)
        house.stream.deliver(b".")
        visitor.hears()
    house.pass_time(7.75)
    assert not visitor.disconnected
    house.pass_time(2.5)
    assert visitor.disconnected
    assert port.reasons == ["idle"]


def test_a_visitor_that_takes_what_is_there_is_not_silent(house: House) -> None:
    port = Port(house, idle=8.0)
    visitor = port.connect()
    house.stream.deliver(b"z" * 60_000)
    for _ in range(5):
        house.pass_time(7)
        visitor.take(10_000)
    assert not visitor.disconnected
    house.pass_time(11)
    assert port.reasons == ["idle"]


def test_without_a_limit_only_who_does_not_take_the_last_words_is_ended(house: House) -> None:
    port = Port(house)
    visitor = port.connect()
    house.pass_time(3 * LAST_WORDS)
    assert not visitor.disconnected
    house.stream.deliver(b"z" * 60_000)
    house.stream.lose()
    house.pass_time(LAST_WORDS - 1)
    assert visitor.disconnecting
    assert not visitor.disconnected
    house.pass_time(LAST_WORDS / 2)
    assert visitor.disconnected
    assert port.reasons == ["idle"]


# Who may come, and how many.


def test_who_may_come(house: House, log_lines: LogLines) -> None:
    port = Port(
        house,
        allow=Trusted((ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")), unix=True),
        deny=Trusted((ip_network("192.0.2.9"),)),
    )
    for peer in (
        PEER,
        IPv6Address("TCP", "2001:db8::9", 1),
        IPv6Address("TCP", "::ffff:192.0.2.7", 1),
        UNIXAddress(b"/x"),
    ):
        port.connect(peer).lose()
    port.ended.clear()
    for peer in (PROXY, IPv4Address("TCP", "192.0.2.9", 1), IPv6Address("TCP", "::1", 1)):
        assert port.arrive(peer) is None, peer
    assert port.reasons == ["not-allowed"] * 3
    levels = [event["log_level"].name for event in log_lines.events if event.get("who") and event.get("name") == "db"]
    assert levels == ["debug"] * 3, "a port that is scanned all day would fill the log"
    denying = Port(house, deny=Trusted(unix=True))
    assert denying.arrive(UNIXAddress(b"/x")) is None
    denying.connect(PROXY).lose()


def test_the_zone_of_an_address_leads_round_no_list(house: House) -> None:
    link_local = IPv6Address("TCP", "fe80::1%eth0", 1)
    for network in ("fe80::/10", "::/0"):
        assert Port(house, deny=Trusted((ip_network(network),))).arrive(link_local) is None
        Port(house, allow=Trusted((ip_network(network),))).connect(link_local).lose()


def test_how_many(house: House) -> None:
    port = Port(house, connections=3, connections_per_address=2)
    sockets = [port.connect(), port.connect()]
    assert port.arrive() is None
    assert port.arrive(IPv6Address("TCP", "2001:db8::1", 1)) is not None
    assert port.arrive(PROXY) is None
    assert port.reasons == ["too-many-connections", "service-busy"]
    for socket in sockets:
        socket.lose()
    assert port.arrive() is not None


def test_a_net_of_ipv6_is_one_address(house: House) -> None:
    port = Port(house, connections_per_address=1)
    port.connect(IPv6Address("TCP", "2001:db8::1", 1))
    assert port.arrive(IPv6Address("TCP", "2001:db8::2", 1)) is None
    assert port.arrive(IPv6Address("TCP", "2001:db8:0:1::2", 1)) is not None


def test_they_count_among_all_visitors(build: Build) -> None:
    house = build(connections=2)
    port = Port(house)
    port.connect()
    house.visitor()
    assert port.arrive() is None
    assert house.context.counters.refused["full"] == 1
    house = build(connections_per_address=1)
    port = Port(house)
    first = port.connect()
    assert port.arrive() is None
    assert house.context.counters.refused["address"] == 1
    first.lose()
    assert port.arrive() is not None


def test_a_reload(house: House) -> None:
    port = Port(house)
    old = port.connect()
    port.factory.serve(port.service(deny=Trusted(TEN), connections=2))
    assert port.arrive(PROXY) is None
    assert port.arrive() is not None
    assert port.arrive() is None
    port.factory.serve(None)
    old.lose()
    assert port.arrive() is None
    assert port.reasons[-1] == "removed"
    port.factory.serve(port.service())
    assert port.arrive() is not None


# Stopping.


def test_a_drain_waits_and_an_abort_does_not(house: House) -> None:
    port = Port(house, proxy_protocol=True, trusted=TEN)
    visitor, waiting = port.connect(), port.connect(PROXY)
    gone = house.context.drain()
    assert waiting.disconnected, "it has said nothing yet"
    visitor.says(b"still")
    assert house.stream.read() == b"still"
    assert port.arrive() is None
    assert not gone.called
    house.context.abort()
    assert visitor.disconnected
    assert port.reasons == ["stopping"]
    assert gone.called


def test_an_abort_ends_who_is_not_joined_yet(build: Build) -> None:
    house = build()
    house.sessions[0].slow = []
    port = Port(house)
    visitor = port.connect()
    house.context.abort()
    assert visitor.disconnected
    assert port.reasons == ["stopping"]


# The PROXY protocol in front.


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_trusted_peer_names_the_visitor(house: House, version: Any, piece: int) -> None:
    port = Port(house, proxy_protocol=True, trusted=TEN, deny=Trusted(TEN))
    visitor = port.connect(PROXY)
    data = encode_header(version, ("2001:db8::7", 4000), ("2001:db8::1", 5432)) + b"hello"
    for at in range(0, len(data), piece):
        visitor.says(data[at : at + piece])
    told = house.stream.open.visitor
    assert told is not None
    assert (told.address, told.port, told.local_address) == ("2001:db8::7", 4000, "2001:db8::1")
    assert house.stream.read() == b"hello"
    visitor.lose()
    house.stream.lose()
    # whose visitor may not come is closed, though the proxy itself may
    strict = Port(house, proxy_protocol=True, trusted=TEN, deny=Trusted((ip_network("198.51.100.0/24"),)))
    visitor = strict.connect(PROXY)
    visitor.says(encode_header(version, ("198.51.100.7", 4000), ("192.0.2.1", 1)) + b"hello")
    assert visitor.disconnected
    assert strict.reasons == ["not-allowed"]
    assert strict.ended[0].facts.address == "198.51.100.7"


def test_a_trusted_peer_that_sends_none(house: House, log_lines: LogLines) -> None:
    port = Port(house, proxy_protocol=True, trusted=TEN)
    visitor = port.connect(PROXY)
    visitor.says(b"SSH-2.0-x\r\n")
    assert visitor.disconnected
    late = port.connect(PROXY)
    late.says(b"PROXY TCP4 ")
    house.pass_time(11)
    assert late.disconnected
    cut = port.connect(PROXY)
    cut.says(b"PROXY TCP4 ")
    cut.lose()
    silent = port.connect(PROXY)
    silent.lose()
    assert house.context.counters.early["proxy-header-invalid"] == 3
    assert "there is none, something else begins at once" in log_lines
    assert house.streams == []


def test_local_and_direct_connections_speak_for_themselves(house: House) -> None:
    port = Port(house, proxy_protocol=True, trusted=TEN)
    check = port.connect(PROXY)
    check.says(encode_header("v2", None))
    direct = port.connect()
    told = [stream.open.visitor for stream in house.streams]
    assert [visitor and visitor.address for visitor in told] == ["10.0.0.1", "192.0.2.7"]
    check.lose()
    direct.lose()


def test_there_is_no_room_for_more_proxies_either(build: Build) -> None:
    house = build(connections=1)
    port = Port(house, proxy_protocol=True, trusted=TEN)
    first = port.connect()
    second = port.connect(PROXY)  # nobody knows yet whose it is
    second.says(encode_header("v1", ("198.51.100.7", 1), ("192.0.2.1", 1)))
    assert second.disconnected
    first.lose()


# Towards the service.


def test_the_services_header_is_the_backends_to_ask_for(build: Build) -> None:
    house = build(writes_proxy_header=True)
    house.catalogs.swap(Catalog((), [Backend("app", proxy_protocol="v2")]))
    Port(house).connect().lose()
    assert house.stream.open.proxy_protocol == "v2"


# What is written down.


def test_lines(house: House) -> None:
    port = Port(house)
    visitor = port.connect()
    house.pass_time(1.5)
    visitor.says(b"12345")
    house.stream.deliver(b"123")
    visitor.lose(ConnectionLost())
    [passage] = port.ended
    line = json_line(passage, house.clock.seconds(), 1_800_000_000.25)
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250Z",
        "kind": "tcp",
        "client": "192.0.2.7",
        "service": "db",
        "site": "",
        "host": "",
        "backend": "app",
        "session": "app-1",
        "attempts": 1,
        "reason": "visitor-gone",
        "received": 5,
        "sent": 3,
        "connected": 0.0,
        "duration": 1.5,
    }
    combined = combined_line(passage, 0.0, 1_800_000_000.25)
    assert combined == b'192.0.2.7 - - [15/Jan/2027:08:00:00 +0000] "CONNECT db TCP" 200 3 "-" "-"\n'


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("not-allowed", 403),
        ("too-many-connections", 429),
        ("no-agent", 503),
        ("service-refused", 502),
        ("removed", 503),
    ],
)
def test_lines_of_those_that_were_not_let_in(house: House, reason: str, status: int) -> None:
    port = Port(house)
    port.connect(UNIXAddress(b"")).lose()
    passage = Passage(house.context, port.ended[0].course, port.ended[0].facts)
    passage.reason = reason
    assert combined_line(passage, 0.0, 0.0).startswith(b"- - - [01/Jan/1970:00:00:00 +0000]")
    assert f'"CONNECT db TCP" {status} - '.encode() in combined_line(passage, 0.0, 0.0)
    assert json.loads(json_line(passage, 0.0, 0.0))["connected"] is None


def test_every_reason_is_in_the_table() -> None:
    page = (ROOT / "docs" / "tcp.md").read_text()
    told = [
        word.strip(" `") for row in page.splitlines() if row.startswith("| `") for word in row.split("|")[1].split(",")
    ]
    assert sorted(told) == sorted(REASONS)
