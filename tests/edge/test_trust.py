"""Visitors behind proxies of ours: who they are to the service, the log, and each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tests.edge.h2_service import service_of
from tests.edge.house import House, Visitor
from tests.edge.test_router import served
from wormhole_tw.control.config import Listener
from wormhole_tw.control.model import H2C
from wormhole_tw.edge.accept import AcceptFactory
from wormhole_tw.edge.access_lines import combined_line, json_line
from wormhole_tw.edge.trust import NOBODY, Trust
from wormhole_tw.net.networks import Networks

Build = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PROXIES = Networks([ip_network("192.0.2.0/24"), ip_network("2001:db8:1::/64")])
TRUST = Trust(PROXIES)
BY_FORWARDED = Trust(PROXIES, header="forwarded")


def get(*lines: str, host: str = "app.test") -> str:
    return "\r\n".join(["GET / HTTP/1.1", f"Host: {host}", *lines, "", ""])


def asked(house: House) -> list[dict[bytes, bytes]]:
    """The fields of every request that reached the service."""
    return [dict(head.headers) for stream in house.streams for head, _, _ in stream.requests()]


def address_of(fields: dict[bytes, bytes]) -> tuple[bytes, bytes, bytes]:
    return fields[b"x-forwarded-for"], fields[b"x-forwarded-proto"], fields[b"forwarded"]


def test_a_visitor_behind_a_proxy(house: House) -> None:
    house.context.public_port = 8443
    visitor = house.visitor(trust=TRUST, local_port=8080)
    visitor.says(
        get(
            "X-Forwarded-For: 6.6.6.6, 198.51.100.7, 192.0.2.8",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: shop.test",
            "X-Forwarded-Prefix: /a",
            "X-Real-IP: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
        )
    )
    [fields] = asked(house)
    assert fields[b"host"] == b"app.test"
    assert address_of(fields) == (
        b"198.51.100.7, 192.0.2.8, 192.0.2.7",
        b"https",
        b"for=198.51.100.7;host=shop.test;proto=https, for=192.0.2.8, for=192.0.2.7",
    )
    assert fields[b"x-forwarded-host"] == b"shop.test"
    assert fields[b"x-forwarded-port"] == b"443"
    assert fields[b"x-forwarded-prefix"] == b"/a"
    assert b"x-real-ip" not in fields
    house.stream.deliver(OK)
    [exchange] = house.done
    assert exchange.facts.address == "198.51.100.7"
    line = json.loads(json_line(exchange, 0.0, 0.0))
    assert (line["client"], line["scheme"], line["tls"]) == ("198.51.100.7", "https", None)
    assert combined_line(exchange, 0.0, 0.0).startswith(b"198.51.100.7 - -")


def test_nobody_else_is_believed(house: House) -> None:
    for trust in (NOBODY, Trust(Networks([ip_network("203.0.113.0/24")]))):
        house.visitor(trust=trust).says(
            get("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Ssl: on", "X-Request-Id: theirs")
        )
    for fields in asked(house):
        assert address_of(fields) == (b"192.0.2.7", b"http", b"for=192.0.2.7;host=app.test;proto=http")
        assert b"x-forwarded-ssl" not in fields
        assert fields[b"x-request-id"] != b"theirs"
    assert len(asked(house)) == 2


def test_visitors_of_one_connection_are_told_apart(house: House) -> None:
    proxy = house.visitor(trust=TRUST, served=served("app.test", "app.test"))
    said = [
        ("X-Forwarded-For: 198.51.100.1", b"198.51.100.1, 192.0.2.7"),
        ("X-Forwarded-For: 2001:db8::2", b"2001:db8::2, 192.0.2.7"),
        ("X-Nothing: told", b"192.0.2.7"),
        ("X-Forwarded-For: unknown", b"192.0.2.7"),
        ("X-Forwarded-For: 198.51.100.1", b"198.51.100.1, 192.0.2.7"),
    ]
    for line, _ in said:
        proxy.says(get(line))
        house.stream.read()
        house.stream.deliver(OK)
    assert [fields[b"x-forwarded-for"] for fields in asked(house)] == [chain for _, chain in said]
    assert [exchange.facts.address for exchange in house.done] == [
        "198.51.100.1", "2001:db8::2", "192.0.2.7", "192.0.2.7", "198.51.100.1",
    ]  # fmt: skip
    assert len(proxy.answers()) == 5


def test_what_a_visitor_puts_before_a_proxy_s_words_is_not_kept(house: House) -> None:
    trust = Trust(PROXIES)
    proxy = house.visitor(trust=trust)
    for number in range(3):
        proxy.says(get(f"X-Forwarded-For: {'6.6.6.6, ' * 1000}198.51.100.{number}"))
        house.stream.read()
        house.stream.deliver(OK)
    assert [fields[b"x-forwarded-for"] for fields in asked(house)] == [
        b"198.51.100.%d, 192.0.2.7" % number for number in range(3)
    ]
    kept: Any = trust._told
    assert kept.cache_info().currsize == 0
    proxy.says(get("X-Forwarded-For: 6.6.6.6, 198.51.100.1"))
    assert kept.cache_info().currsize == 1


def test_the_standard_s_field(house: House) -> None:
    proxy = house.visitor(trust=BY_FORWARDED)
    proxy.says(
        get(
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Prefix: /forged",
            'Forwarded: for=6.6.6.6, for="[2001:db8::7]:4711";proto=https;host=shop.test',
        )
    )
    [fields] = asked(house)
    assert address_of(fields) == (
        b"2001:db8::7, 192.0.2.7",
        b"https",
        b'for="[2001:db8::7]";host=shop.test;proto=https, for=192.0.2.7',
    )
    assert fields[b"x-forwarded-host"] == b"shop.test"
    assert b"x-forwarded-prefix" not in fields


@pytest.mark.parametrize(
    ("secure", "told", "scheme", "port"),
    [
        (True, None, b"https", b"8443"),
        (True, "https", b"https", b"8443"),
        (True, "http", b"http", b"80"),
        (False, None, b"http", b"8080"),
        (False, "http", b"http", b"8080"),
        (False, "https", b"https", b"8443"),
    ],
)
def test_scheme_and_port(house: House, secure: bool, told: str | None, scheme: bytes, port: bytes) -> None:
    facts: dict[str, Any] = {"served": served("app.test", "app.test")} if secure else {"local_port": 8080}
    proxy = house.visitor(trust=TRUST, public_port=8443, **facts)
    proxy.says(get("X-Forwarded-For: 198.51.100.7", *([f"X-Forwarded-Proto: {told}"] if told else [])))
    [fields] = asked(house)
    assert (fields[b"x-forwarded-proto"], fields[b"x-forwarded-port"]) == (scheme, port)


def test_who_came_by_https_is_not_redirected_to_it(house: House) -> None:
    proxy = house.visitor(trust=TRUST, redirect=True)
    for scheme, status in (("https", 200), ("http", 308), ("", 308), ("https", 200)):
        proxy.says(get("X-Forwarded-For: 198.51.100.7", f"X-Forwarded-Proto: {scheme}"))
        if status == 200:
            house.stream.read()
            house.stream.deliver(OK)
        assert [head.status_code for head, _ in proxy.answers()] == [status]


def test_the_name_that_a_proxy_tells_routes_nothing(house: House) -> None:
    proxy = house.visitor(trust=TRUST)
    proxy.says(get("X-Forwarded-Host: app.test", host="nobody.test"))
    [(head, _)] = proxy.answers()
    assert head.status_code == 404


def test_a_proxy_s_certificate_is_judged_like_anybody_s(house: House) -> None:
    proxy = house.visitor(trust=TRUST, served=served("app.test", "app.test"))
    for host, status in (("docs.test", 421), ("app.test", 200), ("docs.test", 421)):
        proxy.says(get("X-Forwarded-For: 198.51.100.7", host=host))
        if status == 200:
            house.stream.read()
            house.stream.deliver(OK)
        assert [head.status_code for head, _ in proxy.answers()] == [status]


def test_a_dedicated_stream_is_never_shared_by_visitors_of_a_proxy(build: Build) -> None:
    house = build(per_visitor=True)
    proxy = house.visitor(trust=TRUST)
    for address in ("198.51.100.1", "198.51.100.2", "198.51.100.1", ""):
        for _ in range(2):
            proxy.says(get(*([f"X-Forwarded-For: {address}:99", "X-Forwarded-Proto: https"] if address else [])))
            house.stream.read()
            house.stream.deliver(OK)
    facts = [stream.open.visitor for stream in house.streams]
    # a stream for each request that has a visitor, and one for all in which the proxy speaks for itself
    assert [(visitor.address, visitor.port) for visitor in facts if visitor] == [
        ("198.51.100.1", 99), ("198.51.100.1", 99), ("198.51.100.2", 99), ("198.51.100.2", 99), ("198.51.100.1", 99),
        ("198.51.100.1", 99), ("192.0.2.7", 40000),
    ]  # fmt: skip
    assert [visitor.tls is not None for visitor in facts if visitor] == [True] * 6 + [False]
    assert all(stream.disconnected for stream in house.streams[:6])
    assert not house.stream.disconnected
    assert len(proxy.answers()) == 8


def test_nor_is_one_of_a_service_that_speaks_http2(build: Build) -> None:
    house = build(per_visitor=True, protocol=H2C)
    proxy = house.visitor(trust=TRUST)
    services: list[Any] = []
    for number, address in enumerate(("198.51.100.1", "198.51.100.2", "198.51.100.1", "", "")):
        proxy.says(get(*([f"X-Forwarded-For: {address}"] if address else [])))
        if len(services) < len(house.streams):
            services.append(service_of(house))
        services[-1].hear()
        services[-1].answer(max(services[-1].requests), b"ok")
        assert house.stream.disconnecting is bool(address)
        visitor = house.stream.open.visitor
        assert visitor is not None
        assert visitor.address == (address or "192.0.2.7")
        # the proxy's own are one connection's
        assert len(house.streams) == min(number + 1, 4)
    assert len(proxy.answers()) == 5


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (IPv4Address("TCP", "192.0.2.7", 1), True),
        (IPv4Address("TCP", "198.51.100.7", 1), False),
        (IPv6Address("TCP", "2001:db8:1::7", 1), True),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 1), True),
        (IPv6Address("TCP", "::ffff:198.51.100.7", 1), False),
        (UNIXAddress(""), False),
    ],
)
@pytest.mark.parametrize("unix", [False, True])
def test_which_peers_are(house: House, peer: Any, trusted: bool, unix: bool) -> None:
    trust = Trust(PROXIES, unix=unix)
    factory = AcceptFactory(
        house.context, make_link=lambda _: pytest.fail("no link"), clock=house.clock, on_plain="serve", trust=trust
    )
    socket = Visitor(peer=peer, host=peer)
    socket.protocol = factory.buildProtocol(peer)
    socket.protocol.makeConnection(socket)
    socket.says(get("X-Forwarded-For: 203.0.113.9"))
    [fields] = asked(house)
    own = getattr(peer, "host", "unknown").removeprefix("::ffff:")
    if trusted or (own == "unknown" and unix):
        assert fields[b"x-forwarded-for"].decode() == f"203.0.113.9, {own}"
    else:
        assert fields[b"x-forwarded-for"].decode() == own


def test_what_a_listener_says() -> None:
    assert Trust.of(Listener("tcp:1")) is NOBODY
    trust = Trust.of(Listener("tcp:1", trusted=(ip_network("192.0.2.0/24"),), trusted_header="forwarded"))
    assert trust.believes("192.0.2.1")
    assert not trust.believes("")
    assert not trust.passes_family
    assert Trust.of(Listener("unix:/x", trusts_unix=True)).believes("")
