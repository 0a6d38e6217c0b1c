"""Listeners behind proxies that speak the PROXY protocol: before TLS and without, for visitors and agents alike."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from h2.connection import H2Connection
from h2.events import DataReceived
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tests._harness import LogLines
from tests.edge.h2_visitor import GET as GET_FIELDS
from tests.edge.house import House, Visitor
from tests.edge.test_accept import GET, MATERIAL, OK, Link, TlsVisitor, chop
from wormhole_tw.edge.accept import ALPN, AcceptFactory
from wormhole_tw.edge.complaints import QUIET
from wormhole_tw.edge.trust import Trust
from wormhole_tw.net.networks import Networks
from wormhole_tw.net.proxy_protocol import SIGNATURE, encode_header
from wormhole_tw.net.tls import CertificateMap, ServerTls
from wormhole_tw.wire.frames import PREFACE

PROXY = IPv4Address("TCP", "10.0.0.1", 50000)
STRANGER = IPv4Address("TCP", "203.0.113.9", 50000)
HERE = IPv4Address("TCP", "10.0.0.100", 8443)
VISITOR = ("198.51.100.7", 40000)
REACHED = ("192.0.2.1", 443)
V1 = encode_header("v1", VISITOR, REACHED)
V2 = encode_header("v2", VISITOR, REACHED, authority="app.test")
UNKNOWN = encode_header("v1", None)
TRUST = Trust(Networks([ip_network("10.0.0.0/8")]))


class Door:
    """A port of a house that is behind a proxy; ``header`` goes out first on each connection."""

    def __init__(
        self,
        house: House,
        *,
        tls: bool = False,
        header: bytes = V1,
        peer: Any = PROXY,
        piece: int = 1 << 20,
        trust: Trust = TRUST,
        expected: bool = True,
        on_plain: Any = "serve",
    ) -> None:
        self.house = house
        self.header = header
        self.peer = peer
        self.piece = piece
        self.links: list[Link] = []
        self.addresses: list[Any] = []
        server = ServerTls(CertificateMap([MATERIAL]), ALPN) if tls else None
        self.factory = AcceptFactory(
            house.context,
            make_link=self._link,
            clock=house.clock,
            tls=server,
            trust=trust,
            proxy_protocol=expected,
            on_plain=on_plain,
        )

    def _link(self, address: Any) -> Link:
        self.addresses.append(address)
        self.links.append(Link())
        return self.links[-1]

    def connect(self) -> Visitor:
        socket = Visitor(peer=self.peer, host=HERE)
        socket.protocol = self.factory.buildProtocol(self.peer)
        socket.protocol.makeConnection(socket)
        for part in chop(self.header, self.piece):
            socket.says(part)
        return socket


def asked(house: House) -> dict[bytes, bytes]:
    """The fields of the only request that reached the service."""
    [(head, _, _)] = [found for stream in house.streams for found in stream.requests()]
    return dict(head.headers)


@pytest.mark.parametrize("piece", [1, 3, 17, 1 << 20])
@pytest.mark.parametrize("header", [V1, V2])
def test_a_visitor_without_tls(house: House, header: bytes, piece: int) -> None:
    socket = Door(house, header=header, piece=piece).connect()
    socket.says(GET)
    assert asked(house)[b"forwarded"] == b"for=198.51.100.7;host=app.test;proto=http"
    house.stream.deliver(OK)
    assert socket.answers()[0][1] == b"ok"
    facts = house.done[0].facts
    assert (facts.address, facts.port) == VISITOR
    assert (facts.local_address, facts.local_port) == REACHED
    assert not facts.trusted


@pytest.mark.parametrize("piece", [1, 50, 1 << 20])
@pytest.mark.parametrize("header", [V1, V2])
def test_header_and_request_in_one(house: House, header: bytes, piece: int) -> None:
    socket = Door(house, header=header + GET, piece=piece).connect()
    assert asked(house)[b"x-forwarded-for"] == b"198.51.100.7"
    house.stream.deliver(OK)
    assert socket.answers()[0][1] == b"ok"


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("header", [V1, V2])
def test_a_visitor_with_tls(house: House, header: bytes, piece: int) -> None:
    door = Door(house, tls=True, header=header, piece=piece)
    visitor = TlsVisitor(door, alpn=["http/1.1"], piece=piece).handshake()  # type: ignore[arg-type]
    visitor.says(GET)
    fields = asked(house)
    assert fields[b"x-forwarded-for"] == b"198.51.100.7"
    assert fields[b"x-forwarded-proto"] == b"https"


def test_a_visitor_of_http2_with_tls(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True, header=V2), alpn=["h2"]).handshake()  # type: ignore[arg-type]
    client = H2Connection()
    client.initiate_connection()
    client.send_headers(1, GET_FIELDS, end_stream=True)
    visitor.says(client.data_to_send())
    assert asked(house)[b"x-forwarded-for"] == b"198.51.100.7"


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("header", [V1, V2, encode_header("v1", ("2001:db8::7", 1), ("::1", 2))])
def test_an_agent(house: House, tls: bool, header: bytes) -> None:
    door = Door(house, tls=tls, header=header, piece=5)
    agent: Any = TlsVisitor(door, alpn=["wormhole/1"]).handshake() if tls else door.connect()  # type: ignore[arg-type]
    agent.says(PREFACE + b"hello")
    [link] = door.links
    assert link.got == PREFACE + b"hello"
    six = IPv6Address("TCP", "2001:db8::7", 1)
    assert door.addresses == [six if b"TCP6" in header else IPv4Address("TCP", *VISITOR)]
    link.transport.abortConnection()  # type: ignore[union-attr]


@pytest.mark.parametrize("header", [UNKNOWN, encode_header("v2", None), SIGNATURE + b"\x20\x00\x00\x00"])
def test_a_proxy_that_speaks_for_itself_may_not_speak_for_others(house: House, header: bytes) -> None:
    socket = Door(house, header=header).connect()
    socket.says(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 6.6.6.6\r\nX-Request-Id: theirs\r\n\r\n"))
    fields = asked(house)
    assert fields[b"x-forwarded-for"] == b"10.0.0.1"
    assert fields[b"x-request-id"] != b"theirs"


def test_forwarding_fields_are_believed_by_the_address_in_the_header(house: House) -> None:
    request = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.1\r\n\r\n")
    Door(house).connect().says(request)
    assert asked(house)[b"x-forwarded-for"] == b"198.51.100.7"
    # a second proxy of ours in front of the first
    Door(house, header=encode_header("v2", ("10.0.0.9", 1))).connect().says(request)
    assert dict(house.stream.requests()[-1][0].headers)[b"x-forwarded-for"] == b"203.0.113.1, 10.0.0.9"


def test_tls_that_ended_at_the_proxy(house: House) -> None:
    house.context.public_port = 8443
    header = encode_header("v2", VISITOR, REACHED, tls=("TLSv1.2", "AES128"), authority="app.test")
    Door(house, header=header, on_plain="redirect").connect().says(GET)
    fields = asked(house)
    assert (fields[b"x-forwarded-proto"], fields[b"x-forwarded-port"]) == (b"https", b"8443")
    house.stream.deliver(OK)
    tls = house.done[0].facts.tls
    assert (tls.version, tls.cipher, tls.sni, tls.alpn) == ("TLSv1.2", "AES128", "app.test", None)
    socket = Door(house, on_plain="redirect").connect()
    socket.says(GET)
    assert socket.answers()[0][0].status_code == 308


def test_http2_within_tls_that_ended_at_the_proxy(house: House) -> None:
    block = encode_header("v2", VISITOR, REACHED, tls=("", ""))[16:] + b"\x01\x00\x02h2"
    header = SIGNATURE + b"\x21\x11" + len(block).to_bytes(2) + block
    socket = Door(house, header=header).connect()
    client = H2Connection()
    client.initiate_connection()
    client.send_headers(1, GET_FIELDS, end_stream=True)
    socket.says(client.data_to_send())
    assert asked(house)[b"x-forwarded-for"] == b"198.51.100.7"
    house.stream.deliver(OK)
    assert [e.data for e in client.receive_data(socket.hears()) if isinstance(e, DataReceived)] == [b"ok"]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("header", "why"),
    [
        (GET, "there is none, something else begins at once"),
        (b"\x16\x03\x01\x02\x00", "there is none, TLS begins at once"),
        (PREFACE, "there is none"),
        (b"PROXY TCP4 a b c d\r\n", "not of version 1's form"),
        (SIGNATURE + b"\x21\x11\x00\x0e" + V2[16:30], "a value in it is cut short"),
    ],
)
def test_a_trusted_peer_without_a_good_header(
    house: House, log_lines: LogLines, tls: bool, header: bytes, why: str
) -> None:
    door = Door(house, tls=tls, header=header)
    socket = door.connect()
    assert socket.disconnected
    assert socket.hears() == b""
    assert house.streams == []
    assert house.context.counters.early == {"proxy-header-invalid": 1}
    [line] = [line for line in log_lines.lines if "PROXY" in line]
    assert "10.0.0.1 is trusted to send the PROXY protocol's header, and did not: " in line
    assert why in line


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4", SIGNATURE])
def test_a_header_that_does_not_come_in_time(house: House, log_lines: LogLines, said: bytes) -> None:
    socket = Door(house, header=said).connect()
    house.pass_time(9)
    assert not socket.disconnected
    house.pass_time(2)
    assert socket.disconnected
    assert "limits.handshake" in log_lines
    assert house.context.counters.early == {"proxy-header-invalid": 1}


@pytest.mark.parametrize(("said", "counted"), [(b"", {}), (V2[:9], {"proxy-header-invalid": 1}), (V1, {})])
def test_who_leaves_before_the_header_is_there(house: House, said: bytes, counted: dict[str, int]) -> None:
    """A balancer that looks whether the port is open says nothing at all."""
    Door(house, header=said).connect().lose()
    assert house.context.counters.early == counted
    assert not house.context.connections


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("piece", [1, 4, 1 << 20])
@pytest.mark.parametrize("header", [V1, V2, UNKNOWN])
@pytest.mark.parametrize("expected", [False, True])
def test_a_stranger_s_header_is_refused(
    house: House, log_lines: LogLines, tls: bool, piece: int, header: bytes, expected: bool
) -> None:
    door = Door(house, tls=tls, header=header + GET, piece=piece, peer=STRANGER, expected=expected)
    socket = door.connect()
    assert socket.disconnected
    assert house.streams == []
    assert house.context.counters.early == {"proxy-header-refused": 1}
    why = "not among the trusted" if expected else "no proxy_protocol = true"
    assert f"from 203.0.113.9 was refused: {'this address is ' if expected else 'its listener has '}{why}" in log_lines


def test_a_stranger_without_a_header_is_a_visitor_like_any_other(house: House) -> None:
    Door(house, header=GET, peer=STRANGER, piece=1).connect()
    assert asked(house)[b"x-forwarded-for"] == b"203.0.113.9"


def test_on_another_listener_a_trusted_peer_needs_none(house: House) -> None:
    Door(house, header=GET, expected=False).connect()
    assert asked(house)[b"x-forwarded-for"] == b"10.0.0.1"


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("second", [V1, V2])
def test_a_second_header_is_refused(house: House, log_lines: LogLines, tls: bool, second: bytes) -> None:
    """A visitor's own, behind the proxy's."""
    for first in (encode_header("v1", ("10.0.0.5", 1)), UNKNOWN, V2):
        assert Door(house, tls=tls, header=first + second, piece=7).connect().disconnected
    assert house.context.counters.early == {"proxy-header-refused": 3}
    assert "behind another one" in log_lines


def test_who_is_trusted_may_change(house: House) -> None:
    door = Door(house, header=GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"), expected=False)
    before = door.connect()
    house.stream.read()
    house.stream.deliver(OK)
    door.factory.believe(Trust(Networks()))
    door.connect()
    house.stream.read()
    house.stream.deliver(OK)
    before.says(door.header)
    assert [dict(head.headers)[b"x-forwarded-for"] for s in house.streams for head, _, _ in s.requests()] == [
        b"198.51.100.1, 10.0.0.1",
        b"10.0.0.1",
        b"198.51.100.1, 10.0.0.1",
    ]


def test_a_header_within_tls_is_no_header(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True)).handshake()  # type: ignore[arg-type]
    visitor.says(V1 + GET)
    assert visitor.hears().startswith(b"HTTP/1.1 400 ")
    assert house.streams == []


def test_the_log_cannot_be_filled(house: House, log_lines: LogLines) -> None:
    door, stranger = Door(house, header=b"x"), Door(house, peer=STRANGER)
    for _ in range(1000):
        door.connect()
        stranger.connect()
    assert len([line for line in log_lines.lines if "PROXY" in line]) == 2
    house.pass_time(QUIET + 1)
    door.connect()
    assert "something else begins at once (999 more since the last such line)" in log_lines
    assert house.context.counters.early == {"proxy-header-invalid": 1001, "proxy-header-refused": 1000}


def test_a_unix_socket(house: House) -> None:
    trust = Trust(Networks(), unix=True)
    Door(house, trust=trust, peer=UNIXAddress("")).connect().says(GET)
    assert asked(house)[b"x-forwarded-for"] == b"198.51.100.7"
    Door(house, trust=trust, peer=UNIXAddress(""), header=GET).connect()
    assert house.context.counters.early == {"proxy-header-invalid": 1}
