"""Whose TLS it is: ClientHellos of Python's OpenSSL and of cryptography's, cut in every place, and where they go."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL

from tests.edge.house import House, Visitor
from tests.edge.test_accept import Door, TlsVisitor, chop
from tests.edge.test_proxy_header import PROXY, V1, VISITOR
from tests.edge.test_proxy_header import Door as ProxiedDoor
from tests.net.test_client_hello import extensions, server_name
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.limits import SiteLimits
from wormhole_tw.control.model import Backend, Release, Route, Selection, Site
from wormhole_tw.edge.accept import FIRST_BYTES
from wormhole_tw.edge.passage import Passage

Build = Callable[..., House]

NAME = "vault.test"


def catalog(limits: SiteLimits | None = None) -> Catalog:
    sites = [
        Site("app", ("app.test",), (Route("app", "/", "app"),)),
        Site("vault", (NAME, "*.vault.test"), (Route("vault", "/", "app", limits),), passthrough=True),
    ]
    return Catalog(sites, [Backend("app")], own_names=["edge.test"])


@pytest.fixture
def passing(house: House) -> House:
    house.catalogs.swap(catalog())
    return house


def hello(name: str | None = NAME, *, length: int = 0) -> bytes:
    """What Python's client begins with; at least so long."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if length:
        context.set_alpn_protocols([f"{number:0>250}" for number in range(-(-length // 251))])
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def hybrid_hello() -> bytes:
    """With a post-quantum key share, as OpenSSL 3.5 and browsers send it."""
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_tlsext_host_name(NAME.encode())
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(65536)


def sent(house: House, pieces: Any, door: Door | None = None) -> Visitor:
    socket = (door or Door(house, tls=True)).connect()
    for piece in pieces:
        assert not house.streams, "the name was not whole yet"
        socket.says(piece)
    return socket


HELLO = hello()


def test_cut_in_every_place(passing: House) -> None:
    door = Door(passing, tls=True)
    for at in range(1, len(HELLO)):
        socket = sent(passing, (HELLO[:at], HELLO[at:]), door)
        assert passing.stream.read() == HELLO, at
        socket.lose()
        passing.stream.lose()
        passing.sessions[0].streams.clear()


def test_agents_of_a_branch_that_others_name_are_left_alone(passing: House) -> None:
    rest = Selection(None, frozenset({"canary"}))
    sites = [Site("vault", (NAME,), (Route("vault", "/", "app", selection=rest),), passthrough=True)]
    passing.catalogs.swap(Catalog(sites, [Backend("app")]))
    canary = passing.agent(instance=7, release=Release(branch="canary"))
    passing.sessions.append(canary)
    for number in range(6):
        Door(passing, tls=True).connect().says(HELLO)
        assert len(passing.sessions[0].streams) == number + 1
    assert canary.streams == []


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("length", [0, 1500, 6000, 14_000])
def test_in_many_segments(passing: House, length: int, piece: int) -> None:
    data = hello(length=length) if length else hybrid_hello()
    assert len(data) > 1500
    socket = sent(passing, chop(data, piece))
    assert passing.stream.read() == data
    socket.lose()
    passing.stream.lose()


def test_in_many_records(passing: House) -> None:
    message = hybrid_hello()[5:]
    records = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in chop(message, 30))
    socket = sent(passing, chop(records, 13))
    assert passing.stream.read() == records
    socket.lose()
    passing.stream.lose()


def test_what_comes_with_the_hello_goes_on_with_it(passing: House) -> None:
    """Early data, or a client that is in a hurry."""
    socket = sent(passing, [HELLO + b"\x17\x03\x03\x00\x05early"])
    assert passing.stream.read() == HELLO + b"\x17\x03\x03\x00\x05early"
    told = passing.stream.open.visitor
    assert told is not None
    assert (passing.stream.open.kind, told.server_name, told.tls) == ("tcp", NAME, None)
    passing.stream.deliver(b"\x16\x03\x03hello back")
    assert socket.hears() == b"\x16\x03\x03hello back"
    socket.lose()
    passing.stream.lose()


@pytest.mark.parametrize("name", ["VAULT.test", "a.vault.test", "vault.test."])
def test_names_are_the_catalogs(passing: House, name: str) -> None:
    data = hello("x" * len(name)).replace(b"x" * len(name), name.encode())
    socket = sent(passing, [data])
    assert passing.stream.read() == data
    socket.lose()


@pytest.mark.parametrize(
    "name",
    [
        b"a\nforged line.vault.test",
        b"a b.vault.test",
        b"a\0b.vault.test",
        b"\xff\xfe.vault.test",
        b'".vault.test',
        b"*.vault.test",
        b"-.vault.test",
        b"vault.test..",
        b"vault.test:443",
        b"a" * 300 + b".vault.test",
        b"a" * 12_000 + b".vault.test",
    ],
)
def test_what_is_no_host_name_is_no_name_of_a_wildcard(passing: House, name: bytes) -> None:
    """It would go on into logs and to the service; OpenSSL has the alert for it."""
    socket = sent(passing, [extensions(server_name((0, name)))])
    passing.clock.advance(0)
    assert socket.hears()[:2] == b"\x15\x03"
    assert passing.streams == []
    assert not passing.context.passages.traffic
    socket.abortConnection()


@pytest.mark.parametrize("name", ["app.test", "unknown.test", "edge.test", "a.b.vault.test", None])
def test_others_are_ended_here(passing: House, name: str | None) -> None:
    data = hello(name)
    socket = sent(passing, chop(data, 50))
    passing.clock.advance(0)
    assert socket.hears()[:3] == b"\x16\x03\x03", "no ServerHello"
    assert passing.streams == []
    socket.lose()


@pytest.mark.parametrize(
    ("data", "alert"),
    [
        (HELLO[:43] + b"\xff" + HELLO[44:], 50),  # a session id beyond its end: decode_error
        (b"\x16\x03\x01\x00\x00" + HELLO, None),  # an empty record before it, which OpenSSL skips
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 10),  # another message: unexpected_message
        (extensions(server_name((5, NAME.encode()))), 50),
    ],
)
def test_what_is_not_valid_is_for_openssl_to_judge(passing: House, data: bytes, alert: int | None) -> None:
    socket = Door(passing, tls=True).connect()
    socket.says(data)
    passing.clock.advance(0)
    answer = socket.hears()
    assert answer[:2] == (b"\x16\x03" if alert is None else b"\x15\x03")
    assert alert in (None, answer[6])
    assert passing.streams == []
    socket.abortConnection()


def test_a_longer_hello_than_there_may_be(passing: House) -> None:
    data = hello(length=FIRST_BYTES + 1000)
    socket = Door(passing, tls=True).connect()
    for piece in chop(data, 500):
        socket.says(piece)
    assert passing.streams == []
    socket.abortConnection()


def test_a_hello_that_does_not_come_to_its_end(passing: House) -> None:
    socket = Door(passing, tls=True).connect()
    socket.says(HELLO[:100])
    passing.pass_time(11)
    assert socket.disconnected
    assert passing.streams == []


def test_behind_a_proxy(passing: House) -> None:
    door = ProxiedDoor(passing, tls=True, header=V1, piece=3)
    socket = door.connect()
    socket.says(HELLO)
    told = passing.stream.open.visitor
    assert told is not None
    assert (told.address, told.port) == VISITOR
    assert passing.stream.read() == HELLO
    socket.lose()
    assert str(PROXY.host) not in str(told)


# Limits, and what it is counted for.


def test_the_limits_of_the_site(build: Build) -> None:
    house = build()
    ended: list[Passage] = []
    house.context.passages.on_done = ended.append
    house.catalogs.swap(catalog(SiteLimits(requests_per_site=1, connect=3.0, upgrade_idle=8.0)))
    first = sent(house, [HELLO])
    second = Door(house, tls=True).connect()
    second.says(HELLO)
    assert second.disconnected
    assert [passage.reason for passage in ended] == ["site-busy"]
    house.pass_time(11)
    assert first.disconnected
    assert [passage.reason for passage in ended] == ["site-busy", "idle"]
    assert ended[1].course[:6] == ("passthrough", "vault", "app", NAME, 3.0, 8.0)
    third = Door(house, tls=True).connect()
    third.says(HELLO)
    assert house.stream.read() == HELLO
    third.lose()


@pytest.mark.parametrize(
    ("limits", "counted"),
    [
        ({"requests_per_address": 1}, ""),
        ({"connections_per_address": 1}, "address"),
        ({"connections": 1}, "full"),
    ],
)
def test_the_limits_of_the_edge(build: Build, limits: dict[str, int], counted: str) -> None:
    house = build(**{"connections_per_address": 0, "requests_per_address": 0, "requests_per_site": 0, **limits})
    house.catalogs.swap(catalog())
    first = sent(house, [HELLO])
    second = Door(house, tls=True).connect()
    second.says(HELLO)
    assert second.disconnected
    assert house.context.counters.refused == ({counted: 1} if counted else {})
    assert not first.disconnected
    first.lose()
    house.stream.lose()
    # and there is room again
    house.sessions[0].streams.clear()
    third = sent(house, [HELLO])
    assert house.stream.read() == HELLO
    third.lose()


def test_nothing_is_counted_where_there_are_no_limits(build: Build) -> None:
    house = build(connections_per_address=0, requests_per_address=0, requests_per_site=0)
    house.catalogs.swap(catalog())
    first = sent(house, [HELLO])
    assert not house.context.addresses
    first.lose()


# Over HTTP.


@pytest.mark.parametrize("tls", [False, True])
def test_a_request_for_it_is_misdirected(passing: House, tls: bool) -> None:
    door = Door(passing, tls=tls)
    visitor: Any = TlsVisitor(door, alpn=["http/1.1"]).handshake() if tls else door.connect()
    visitor.says(b"GET / HTTP/1.1\r\nHost: vault.test\r\n\r\n")
    assert visitor.hears().startswith(b"HTTP/1.1 421 ")
    assert passing.streams == []


def test_plain_http_is_redirected(passing: House) -> None:
    socket = Door(passing, tls=False, on_plain="redirect").connect()
    socket.says(b"GET /a HTTP/1.1\r\nHost: vault.test\r\n\r\n")
    [(head, _)] = socket.answers()
    assert head.status_code == 308
    assert dict(head.headers)[b"location"] == b"https://vault.test/a"
