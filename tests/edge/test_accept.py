"""What a connection is, by its first bytes, however they are chopped; TLS by the standard library, in memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from h2.connection import H2Connection
from h2.events import DataReceived
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.protocol import Protocol

from tests._harness import LogLines
from tests.edge.h2_visitor import GET as GET_FIELDS
from tests.edge.house import House, Visitor, judged
from tests.net.certificates import Person
from tests.net.peers import self_signed
from wormhole_tw.edge.accept import ALPN, FIRST_BYTES, AcceptFactory
from wormhole_tw.edge.first_bytes import HANDSHAKE_BYTES
from wormhole_tw.edge.room import SPARE
from wormhole_tw.net.tls import CertificateMap, ServerTls
from wormhole_tw.net.visitor_certificates import NOBODY_ASKED, VisitorPolicies, VisitorPolicy
from wormhole_tw.wire.frames import PREFACE

Build = Callable[..., House]

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PEER = IPv4Address("TCP", "192.0.2.7", 40000)
MATERIAL = self_signed("app.test", "edge.test")
AUTHORITY = Person("people", ca=True)


class Link(Protocol):
    """Stands for a tunnel's protocol: keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class Door:
    """A port of a house: connects sockets to it, and keeps the links that came of them."""

    def __init__(
        self, house: House, *, tls: bool, on_plain: Any = "serve", visitors: VisitorPolicies = NOBODY_ASKED
    ) -> None:
        self.house = house
        self.links: list[Link] = []
        self.server = ServerTls(CertificateMap([MATERIAL]), ALPN, visitors=visitors)
        server = self.server if tls else None
        self.factory = AcceptFactory(
            house.context, make_link=self._link, clock=house.clock, tls=server, on_plain=on_plain
        )

    def _link(self, address: Any) -> Link:
        assert address is PEER
        self.links.append(Link())
        return self.links[-1]

    def connect(self) -> Visitor:
        socket = Visitor()
        socket.protocol = self.factory.buildProtocol(PEER)
        assert socket.protocol is not None
        socket.protocol.makeConnection(socket)
        return socket


class TlsVisitor:
    """A TLS client on a socket of a door, by memory.

    :param piece: how many bytes go at a time
    :param shows: its certificate and key
    :param again: it comes back as this one, by its session
    """

    def __init__(
        self,
        door: Door,
        *,
        alpn: list[str] | None = None,
        name: str = "app.test",
        piece: int = 1 << 20,
        shows: tuple[Path, Path] | None = None,
        again: TlsVisitor | None = None,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if shows is not None:
            context.load_cert_chain(*shows)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        self.clock = door.house.clock
        context = again.context if again is not None else context
        self.context = context
        self.socket = door.connect()
        self.piece = piece
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = again._tls.session if again is not None else None
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name, session=session)
        self.heard = b""

    def _pump(self) -> None:
        data = self._out.read()
        for start in range(0, len(data), self.piece):
            self.socket.says(data[start : start + self.piece])
        self.clock.advance(0)
        self._in.write(self.socket.hears())

    def handshake(self) -> TlsVisitor:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._pump()
        self._pump()
        return self

    def says(self, data: bytes) -> None:
        self._tls.write(data)
        self._pump()

    def hears(self) -> bytes:
        """What came since the last time; its end is there when ``ended`` is."""
        self._pump()
        found = b""
        while True:
            try:
                data = self._tls.read(65536)
            except ssl.SSLWantReadError:
                return found
            except ssl.SSLZeroReturnError:
                self.ended = True
                return found
            if not data:
                self.ended = True
                return found
            found += data

    ended = False


def chop(data: bytes, piece: int) -> list[bytes]:
    return [data[start : start + piece] for start in range(0, len(data), piece)]


# Plain ports.


@pytest.mark.parametrize("piece", [1, 2, 5, 11, 12, 13, 1000])
def test_a_plain_preface_is_a_link(house: House, piece: int) -> None:
    door = Door(house, tls=False)
    socket = door.connect()
    for part in chop(PREFACE + b"\x00hello", piece):
        socket.says(part)
    [link] = door.links
    assert link.got == PREFACE + b"\x00hello"
    assert socket.protocol is link
    socket.lose()
    assert link.lost


@pytest.mark.parametrize("tls", [False, True])
def test_another_version_of_the_framing_is_the_links_to_refuse(house: House, tls: bool) -> None:
    door = Door(house, tls=tls)
    agent: Any = TlsVisitor(door).handshake() if tls else door.connect()
    for part in chop(b"WORMHOLE/2\r\nhello", 4):
        agent.says(part)
    [link] = door.links
    assert link.got == b"WORMHOLE/2\r\nhello"
    link.transport.abortConnection()  # type: ignore[union-attr]


@pytest.mark.parametrize("piece", [1, 3, 1000])
@pytest.mark.parametrize("method", [b"GET", b"WORMHOLES", b"WORMHOLE", b"W", b"wormhole", b"PROPFIND"])
def test_plain_http_is_a_visitor(house: House, piece: int, method: bytes) -> None:
    door = Door(house, tls=False)
    socket = door.connect()
    for part in chop(GET.replace(b"GET", method), piece):
        socket.says(part)
    [(head, _, _)] = house.stream.requests()
    assert head.method == method
    forwarded = dict(head.headers)
    assert forwarded[b"x-forwarded-proto"] == b"http"
    house.stream.deliver(OK)
    assert socket.answers([method])[0][1] == b"ok"
    assert door.links == []


def test_a_redirecting_port(house: House) -> None:
    socket = Door(house, tls=False, on_plain="redirect").connect()
    socket.says(GET)
    assert socket.answers()[0][0].status_code == 308


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"\x00", b"\xff\xfe", b" GET"])
def test_what_is_neither_is_closed(house: House, data: bytes) -> None:
    socket = Door(house, tls=False).connect()
    socket.says(data)
    assert socket.disconnected


@pytest.mark.parametrize("said", [b"", b"WORM"])
def test_who_says_nothing_is_closed(house: House, said: bytes) -> None:
    socket = Door(house, tls=False).connect()
    if said:
        socket.says(said)
    house.pass_time(9)
    assert not socket.disconnected
    house.pass_time(2)
    assert socket.disconnected


def test_who_leaves_before_it_said_anything(house: House) -> None:
    socket = Door(house, tls=False).connect()
    socket.lose()
    assert not house.context.connections


# TLS ports.


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("alpn", [["http/1.1"], ["spdy/3", "http/1.1"], None])
def test_a_tls_visitor(house: House, piece: int, alpn: list[str] | None) -> None:
    visitor = TlsVisitor(Door(house, tls=True), alpn=alpn, piece=piece).handshake()
    for _ in range(2):
        visitor.says(GET)
        [*_, (head, _, _)] = house.stream.requests()
        assert dict(head.headers)[b"x-forwarded-proto"] == b"https"
        house.stream.deliver(OK)
        assert judged(visitor.hears())[0][1] == b"ok"
    assert len(house.stream.requests()) == 2


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("alpn", [["h2", "http/1.1"], ["http/1.1", "h2"], ["h2"]])
def test_a_tls_visitor_of_http2(house: House, piece: int, alpn: list[str]) -> None:
    visitor = TlsVisitor(Door(house, tls=True), alpn=alpn, piece=piece).handshake()
    client = H2Connection()
    client.initiate_connection()
    client.send_headers(1, GET_FIELDS, end_stream=True)
    visitor.says(client.data_to_send())
    [(head, _, _)] = house.stream.requests()
    assert dict(head.headers)[b"x-forwarded-proto"] == b"https"
    house.stream.deliver(OK)
    events = client.receive_data(visitor.hears())
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"ok"]


@pytest.mark.parametrize("piece", [1, 1 << 20])
@pytest.mark.parametrize("chopped", [1, 5, 100])
@pytest.mark.parametrize("alpn", [["wormhole/1"], None])
def test_a_tls_agent(house: House, piece: int, chopped: int, alpn: list[str] | None) -> None:
    door = Door(house, tls=True)
    agent = TlsVisitor(door, alpn=alpn, piece=piece).handshake()
    for part in chop(PREFACE + b"\x00hello", chopped):
        agent.says(part)
    [link] = door.links
    assert link.got == PREFACE + b"\x00hello"
    link.transport.write(b"welcome")  # type: ignore[union-attr]
    assert agent.hears() == b"welcome"
    link.transport.abortConnection()  # type: ignore[union-attr]
    assert link.lost


def test_http_in_place_of_a_link_is_the_links_to_refuse(house: House) -> None:
    door = Door(house, tls=True)
    TlsVisitor(door, alpn=["wormhole/1"]).handshake().says(GET)
    assert door.links[0].got == GET
    door.links[0].transport.abortConnection()  # type: ignore[union-attr]


def test_a_method_that_begins_like_the_preface_within_tls(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True)).handshake()
    for part in chop(GET.replace(b"GET", b"WORMS"), 1):
        visitor.says(part)
    assert house.stream.requests()[0][0].method == b"WORMS"


def test_garbage_within_tls_is_closed(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True)).handshake()
    visitor.says(b"\x00\x01")
    assert visitor.socket.disconnected


def test_silence_within_tls_is_closed(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True)).handshake()
    house.pass_time(9)
    assert not visitor.socket.disconnected
    house.pass_time(2)
    assert visitor.socket.disconnected


def test_plain_http_on_a_tls_port_gets_a_hint(house: House) -> None:
    socket = Door(house, tls=True).connect()
    for part in chop(GET, 7):
        socket.says(part)
    [(head, body)] = socket.answers()
    assert head.status_code == 400
    assert b"HTTPS" in body
    assert socket.write_closed
    socket.end_reading()
    assert socket.disconnected


def test_who_stays_after_the_hint_is_closed(house: House) -> None:
    socket = Door(house, tls=True).connect()
    socket.says(GET)
    socket.hears()
    house.pass_time(11)
    assert socket.disconnected


def test_a_plain_preface_on_a_tls_port_is_no_link(house: House) -> None:
    door = Door(house, tls=True)
    socket = door.connect()
    socket.says(PREFACE)
    assert door.links == []
    assert b"400" in socket.hears()


def test_a_handshake_that_never_ends(house: House) -> None:
    door = Door(house, tls=True)
    visitor = TlsVisitor(door, piece=50)
    with pytest.raises(ssl.SSLWantReadError):
        visitor._tls.do_handshake()
    visitor.socket.says(visitor._out.read()[:100])
    house.pass_time(11)
    assert visitor.socket.disconnected
    assert house.context.counters.handshakes_failed == 1


def test_a_handshake_of_endless_length(house: House) -> None:
    socket = Door(house, tls=True).connect()
    # a ClientHello that says it has 128 KiB, in records of 16 KiB
    socket.says(b"\x16\x03\x01\x40\x00\x01\x01\xff\xfc" + b"\x03\x03" + b"x" * 16000)
    for _ in range(HANDSHAKE_BYTES // 16384 + 1):
        socket.says(b"x" * 16384)
    assert socket.disconnected
    assert (FIRST_BYTES, HANDSHAKE_BYTES) == (16384, 65536)


def test_a_failed_handshake_is_nobodys_error(house: House, log_lines: LogLines) -> None:
    socket = Door(house, tls=True).connect()
    socket.says(b"\x16\x03\x01\x00\x05hello")
    socket.hears()
    assert socket.disconnected
    assert house.context.counters.handshakes_failed == 1


def test_an_unknown_alpn_is_refused_by_tls(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True), alpn=["spdy/3"])
    with pytest.raises(ssl.SSLError):
        visitor.handshake()
    visitor.socket.hears()
    assert visitor.socket.disconnected


def test_bytes_that_came_with_the_end_of_the_handshake_are_not_lost(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True), alpn=["http/1.1"])
    while True:
        try:
            visitor._tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            visitor._pump()
    visitor.says(GET)  # with the client's Finished, in one segment
    assert len(house.stream.requests()) == 1


def test_tls_says_goodbye_after_the_last_answer(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True)).handshake()
    visitor.says(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    house.stream.deliver(OK)
    assert judged(visitor.hears())[0][1] == b"ok"
    assert visitor.ended
    visitor.socket.end_reading()
    assert visitor.socket.disconnected


def test_an_early_refusal_over_tls_is_not_reset(house: House) -> None:
    visitor = TlsVisitor(Door(house, tls=True)).handshake()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10000000\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
    for _ in range(20):
        visitor.says(b"x" * 65536)
    assert judged(visitor.hears(), [b"POST"])[0][1] == b"large"
    assert visitor.ended
    assert not visitor.socket.disconnected


# The port itself.


def test_a_port_that_is_full_or_drains_takes_nobody(build: Build) -> None:
    house = build(connections=1)
    door = Door(house, tls=False)
    for _ in range(1 + SPARE):
        door.connect()
    assert door.factory.buildProtocol(PEER) is None
    assert house.context.drain().called
    assert door.factory.buildProtocol(PEER) is None


@pytest.mark.parametrize("tls", [False, True])
def test_a_port_that_is_full_of_visitors_still_takes_agents(build: Build, tls: bool) -> None:
    house = build(connections=1)
    door = Door(house, tls=tls)

    def says(data: bytes) -> Visitor:
        if not tls:
            socket = door.connect()
            socket.says(data)
            return socket
        visitor = TlsVisitor(door).handshake()
        visitor.says(data)
        return visitor.socket

    first = says(GET)
    assert not first.disconnected
    assert says(GET).disconnected
    assert not says(PREFACE).disconnected
    door.links[0].transport.abortConnection()  # type: ignore[union-attr]
    first.lose()
    assert not says(GET).disconnected


def test_a_unix_socket(house: House) -> None:
    factory = AcceptFactory(house.context, make_link=lambda _: Link(), clock=house.clock, on_plain="serve")
    address = UNIXAddress("/run/edge.sock")
    socket = Visitor(peer=address, host=address)
    socket.protocol = factory.buildProtocol(address)
    socket.protocol.makeConnection(socket)
    socket.says(GET)
    assert dict(house.stream.requests()[0][0].headers)[b"x-forwarded-for"] == b"unknown"


# Visitors that are asked for a certificate.


@pytest.fixture
def asked() -> VisitorPolicies:
    return VisitorPolicies({"app.test": VisitorPolicy([AUTHORITY.certificate])})


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("alpn", [["http/1.1"], ["h2"]])
def test_who_is_asked_and_shows_one(
    house: House, asked: VisitorPolicies, tmp_path: Path, piece: int, alpn: list[str]
) -> None:
    """However the ClientHello is cut, which says by whom it is asked."""
    door = Door(house, tls=True, visitors=asked)
    TlsVisitor(door, alpn=alpn, piece=piece, shows=Person("anne", AUTHORITY).write(tmp_path)).handshake()
    [connection] = house.context.connections
    served = connection.facts.served  # type: ignore[attr-defined]
    assert served.certificate.subject == "CN=anne"
    TlsVisitor(door, alpn=alpn, piece=piece, name="docs.test").handshake()
    assert {c.facts.served.certificate for c in house.context.connections} == {served.certificate, None}  # type: ignore[attr-defined]


@pytest.mark.parametrize("piece", [1, 300, 1 << 20])
@pytest.mark.parametrize("name", ["app.test", "docs.test"])
def test_a_session_lives_through_one_change_of_keys(
    house: House, asked: VisitorPolicies, tmp_path: Path, piece: int, name: str
) -> None:
    door = Door(house, tls=True, visitors=asked)
    shows = Person("anne", AUTHORITY).write(tmp_path)
    first = TlsVisitor(door, alpn=["http/1.1"], name=name, shows=shows).handshake()
    first.hears()  # its ticket
    for resumed in (True, True, False):
        again = TlsVisitor(door, name=name, piece=piece, again=first).handshake()
        assert again._tls.session_reused is resumed
        shown = {one.facts.served.certificate for one in house.context.connections}  # type: ignore[attr-defined]
        assert (shown == {None}) is (name == "docs.test")
        assert len(shown) == 1
        door.server.rotate_tickets()


def test_a_refusal_arrives(house: House, asked: VisitorPolicies, log_lines: LogLines) -> None:
    """TLS 1.3: the visitor thinks that all is well, and has asked already, when the edge looks at its certificate."""
    door = Door(house, tls=True, visitors=asked)
    for ended in (True, False):
        visitor = TlsVisitor(door)
        visitor.handshake()
        visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            visitor.hears()
        # what it still says is thrown away, and resets nothing, until it has closed or its time is over
        visitor.socket.says(b"\x17\x03\x03\0\x10" + bytes(16))
        assert visitor.socket.write_closed
        assert not visitor.socket.disconnected
        if ended:
            visitor.socket.end_reading()
        else:
            house.pass_time(11)
        assert visitor.socket.disconnected
    assert house.context.counters.handshakes == 0
    assert house.context.counters.handshakes_failed == 2
    assert house.context.counters.requests == 0
    assert log_lines.text.count("a TLS handshake of 192.0.2.7 did not come to its end: it showed no certificate") == 2


def test_who_was_refused_says_no_more_than_a_handshake_has(house: House, asked: VisitorPolicies) -> None:
    visitor = TlsVisitor(Door(house, tls=True, visitors=asked)).handshake()
    visitor.socket.says(b"x" * FIRST_BYTES)
    assert not visitor.socket.disconnected, "its alert would be lost"
    for _ in range(HANDSHAKE_BYTES // FIRST_BYTES + 1):
        visitor.socket.says(b"x" * FIRST_BYTES)
    assert visitor.socket.disconnected


def test_a_chain_that_is_longer_than_a_hello_may_be(house: House, asked: VisitorPolicies, tmp_path: Path) -> None:
    """As with post-quantum keys, whose certificates have 5 KiB and more."""
    long = Person("anne", AUTHORITY, filler=2 * FIRST_BYTES)
    visitor = TlsVisitor(Door(house, tls=True, visitors=asked), alpn=["http/1.1"], shows=long.write(tmp_path))
    visitor.handshake().says(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    assert house.stream.read().startswith(b"GET / ")


@pytest.mark.parametrize(
    ("person", "why"),
    [
        (Person("old", AUTHORITY, ends=-1), "its certificate has expired"),
        (Person("web", AUTHORITY, purpose=ExtendedKeyUsageOID.SERVER_AUTH), "its certificate is not one for clients"),
        (Person("stranger"), "its certificate is not signed by a CA that the site knows (client_ca)"),
        (Person("anne", AUTHORITY), "its certificate is none of those that are listed (client_fingerprints)"),
    ],
)
def test_why_a_visitor_was_refused(house: House, tmp_path: Path, log_lines: LogLines, person: Person, why: str) -> None:
    policy = VisitorPolicy([AUTHORITY.certificate], fingerprints=frozenset([bytes(32)]))
    door = Door(house, tls=True, visitors=VisitorPolicies({"app.test": policy}))
    visitor = TlsVisitor(door, shows=person.write(tmp_path)).handshake()
    visitor.socket.end_reading()
    assert f"did not come to its end: {why}" in log_lines
