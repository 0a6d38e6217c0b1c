"""Where agents come in by WebSocket: who is let in, who is told what, and what is left of the visitor's connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage

from tests.edge.h2_visitor import H2Visitor
from tests.edge.house import House, Visitor
from tests.edge.test_router import served
from wormhole_tw.control.config import Listener
from wormhole_tw.edge.accept import AcceptFactory
from wormhole_tw.edge.access_lines import json_line
from wormhole_tw.edge.door import TunnelDoor
from wormhole_tw.edge.trust import Trust
from wormhole_tw.net.networks import Networks

Build = Callable[..., House]

TLS = served("edge.test", "edge.test")
PROXIES = Trust(Networks([ip_network("192.0.2.0/24")]))

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""RFC 6455 §1.3 has them."""

OPENING = {
    "Host": "edge.test:8443",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def opening(
    target: str = "/.wormhole/tunnel", *, method: str = "GET", version: str = "1.1", **changes: str | None
) -> str:
    fields = {**OPENING, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""])


class Link(Protocol):
    """A tunnel, as far as the door knows it."""

    transport: Any

    def __init__(self, address: Any) -> None:
        self.address = address
        self.got = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@pytest.fixture
def links(house: House) -> list[Link]:
    """The links that came by the house's door."""
    made: list[Link] = []

    def make(address: Any) -> Link:
        made.append(Link(address))
        return made[-1]

    house.context.door = TunnelDoor(house.context.names, make, house.clock)  # type: ignore[arg-type]
    return made


def reason(visitor: Visitor) -> tuple[int, str]:
    """The status and the reason of its one answer."""
    [(head, _)] = visitor.answers()
    return head.status_code, dict(head.headers).get(b"x-wormhole-error", b"").decode()


def test_an_agent_comes_in(house: House, links: list[Link]) -> None:
    visitor = house.visitor(served=TLS, address="198.51.100.7", port=7)
    visitor.says(opening())
    head, _, rest = visitor.hears().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in head
    assert b"\r\nConnection: Upgrade" in head
    assert b"\r\nSec-WebSocket-Accept: " + ACCEPT in head
    assert rest == b""
    [link] = links
    assert link.address == IPv4Address("TCP", "198.51.100.7", 7)
    client = Connection(ConnectionType.CLIENT)
    visitor.says(bytes(client.send(BytesMessage(data=b"hello"))))
    assert link.got == b"hello"
    link.transport.write(b"welcome")
    client.receive_data(visitor.hears())
    assert [event.data for event in client.events()] == [b"welcome"]  # type: ignore[union-attr]


def test_it_is_no_visitor_s_any_more(house: House, links: list[Link]) -> None:
    visitor = house.visitor(served=TLS)
    visitor.says(opening())
    assert not house.context.connections
    house.pass_time(2 * house.limits.keep_alive)
    house.context.drain()
    assert not visitor.disconnecting
    [link] = links
    assert link.lost is None
    visitor.lose()
    assert link.lost is not None
    line = json.loads(json_line(house.done[0], house.clock.seconds(), 0.0))
    assert (line["status"], line["path"]) == (101, "/.wormhole/tunnel")


def test_what_came_with_the_opening_is_the_tunnel_s(house: House, links: list[Link]) -> None:
    client = Connection(ConnectionType.CLIENT)
    visitor = house.visitor(served=TLS)
    visitor.says(opening().encode() + bytes(client.send(BytesMessage(data=b"early"))))
    assert links[0].got == b"early"


def test_a_second_request_on_a_connection_may_be_an_opening(house: House, links: list[Link]) -> None:
    visitor = house.visitor(served=TLS)
    visitor.says("GET / HTTP/1.1\r\nHost: edge.test\r\n\r\n")
    assert reason(visitor) == (404, "unknown-host")
    visitor.says(opening("/.wormhole/tunnel?x=1", Upgrade="WebSocket, other"))
    assert visitor.hears().startswith(b"HTTP/1.1 101 ")
    assert len(links) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Upgrade": None}, (426, "websocket-expected")),
        ({"Connection": "close"}, (426, "websocket-expected")),
        ({"Upgrade": "h2c"}, (426, "websocket-expected")),
        ({"Sec-WebSocket-Version": "8"}, (426, "websocket-expected")),
        ({"Sec-WebSocket-Version": None}, (426, "websocket-expected")),
        ({"Sec-WebSocket-Key": None}, (400, "bad-request")),
        ({"Sec-WebSocket-Key": "short"}, (400, "bad-request")),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, (400, "bad-request")),
        ({"Content-Length": "3"}, (426, "websocket-expected")),
        ({"Origin": "https://evil.test"}, (403, "tunnel-from-browser")),
        ({"origin": "null"}, (403, "tunnel-from-browser")),
        ({"target": "/.wormhole/other"}, (404, "unknown-host")),
        ({"target": "/.wormhole/tunnel/"}, (404, "unknown-host")),
        ({"Host": "nobody.test"}, (404, "unknown-host")),
    ],
)
def test_who_is_not_let_in_is_told_why(
    house: House, links: list[Link], changes: dict[str, str], expected: tuple[int, str]
) -> None:
    visitor = house.visitor(served=TLS)
    visitor.says(opening(**changes) + ("abc" if "Content-Length" in changes else ""))
    assert reason(visitor) == expected
    assert not links


def test_what_is_expected_is_said_in_fields(house: House, links: list[Link]) -> None:
    visitor = house.visitor(served=TLS)
    visitor.says(opening(Upgrade=None))
    [(head, _)] = visitor.answers()
    fields = dict(head.headers)
    assert (fields[b"upgrade"], fields[b"sec-websocket-version"]) == (b"websocket", b"13")


def test_a_post_is_no_opening(house: House, links: list[Link]) -> None:
    visitor = house.visitor(served=TLS)
    visitor.says(opening(method="POST"))
    assert reason(visitor) == (400, "bad-request")


def test_a_site_never_gets_one_and_keeps_the_path_for_itself(house: House, links: list[Link]) -> None:
    visitor = house.visitor(served=served("app.test", "app.test"))
    visitor.says(opening(Host="app.test"))
    [(head, _, _)] = house.stream.requests()
    assert head.target == b"/.wormhole/tunnel"
    assert not links


def test_a_certificate_that_is_not_for_the_name(house: House, links: list[Link]) -> None:
    visitor = house.visitor(served=served("app.test", "app.test"))
    visitor.says(opening())
    assert reason(visitor) == (421, "misdirected")


def test_without_a_door(house: House) -> None:
    visitor = house.visitor(served=TLS)
    visitor.says(opening())
    assert reason(visitor) == (404, "unknown-host")


def test_a_stream_of_http2_is_no_connection(house: House, links: list[Link]) -> None:
    visitor = H2Visitor(house, served=TLS).hello()
    there = [(":scheme", "https"), (":path", "/.wormhole/tunnel"), (":authority", "edge.test")]
    asked = visitor.ask([(":method", "GET"), *there])
    switched = visitor.ask([(":method", "CONNECT"), (":protocol", "websocket"), *there], end=False)
    for stream in (asked, switched):
        assert visitor[stream].status == 426
        assert "upgrade" not in visitor[stream].fields  # RFC 9113 §8.2.2
    assert not links


# Without TLS.


@pytest.mark.parametrize(
    ("facts", "let_in"),
    [
        ({}, False),
        ({"redirect": True}, False),
        ({"trust": PROXIES}, True),
        ({"trust": PROXIES, "redirect": True}, True),
        ({"trust": PROXIES, "address": "198.51.100.7"}, False),
        ({"trust": PROXIES, "tunnels": False}, False),
        ({"tunnels": True}, True),
        ({"tunnels": True, "redirect": True}, True),
        ({"served": TLS, "tunnels": False}, False),
    ],
)
def test_which_listeners_take_tunnels(house: House, links: list[Link], facts: dict[str, Any], let_in: bool) -> None:
    visitor = house.visitor(**facts)
    visitor.says(opening())
    status = int(visitor.hears().split(b" ")[1])
    assert status == (101 if let_in else 403)
    assert bool(links) is let_in


def test_the_agent_behind_a_proxy_is_who_the_proxy_says(house: House, links: list[Link]) -> None:
    visitor = house.visitor(trust=PROXIES)
    visitor.says(opening(X_Forwarded_For="6.6.6.6, 2001:db8::7", X_Forwarded_Proto="https"))
    assert links[0].address.host == "2001:db8::7"


@pytest.mark.parametrize(("tunnels", "taken"), [(None, True), (True, True), (False, False)])
def test_a_listener_that_takes_no_tunnels_of_any_kind(house: House, tunnels: bool | None, taken: bool) -> None:
    links: list[Link] = []

    def make(address: Any) -> Link:
        links.append(Link(address))
        return links[-1]

    factory = AcceptFactory(house.context, make_link=make, clock=house.clock, tunnels=tunnels)
    visitor = Visitor()
    visitor.protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 7))
    visitor.protocol.makeConnection(visitor)
    visitor.says(b"WORMHOLE/1\r\n")
    assert bool(links) is taken
    assert visitor.disconnected is not taken


def test_a_listener_says_nothing_by_default() -> None:
    assert Listener("tcp:1").tunnels is None
