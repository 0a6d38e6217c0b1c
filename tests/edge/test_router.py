"""Host names, paths, misdirected requests and redirects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, cast

import pytest

from tests.edge.house import House
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.config import Listener
from wormhole_tw.control.model import Backend, ClientCertificates, Route, Site
from wormhole_tw.edge.access_lines import json_line
from wormhole_tw.edge.certificates.visitors import let_go
from wormhole_tw.edge.trust import Trust
from wormhole_tw.net.tls import ServedTls
from wormhole_tw.net.visitor_certificates import VisitorCertificate, VisitorPolicy
from wormhole_tw.wire.messages import encode

Build = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Certificate:
    """Good for these names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def covers(self, name: str) -> bool:
        return name in self.names


def served(server_name: str | None, *names: str) -> ServedTls:
    return ServedTls(server_name, cast(Any, Certificate(*names)), "TLSv1.3", "TLS_AES_128_GCM_SHA256", b"http/1.1")


@pytest.mark.parametrize(
    ("server_name", "certificate", "host", "status"),
    [
        ("app.test", ["app.test"], "app.test", 200),
        ("app.test", ["app.test"], "APP.test:8443", 200),
        ("app.test", ["app.test", "docs.test"], "docs.test", 404),  # no route there, but rightly directed
        ("app.test", ["app.test"], "docs.test", 421),
        ("other.test", ["edge.test"], "app.test", 421),
        (None, ["edge.test"], "app.test", 200),
        ("app.test", ["edge.test"], "app.test", 421),
        ("app.test", ["app.test"], "nobody.test", 404),
    ],
)
def test_a_certificate_and_another_host(
    house: House, server_name: str | None, certificate: list[str], host: str, status: int
) -> None:
    visitor = house.visitor(served=served(server_name, *certificate))
    visitor.says(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
    if status == 200:
        house.stream.deliver(OK)
    assert visitor.answers()[0][0].status_code == status


def test_a_tls_visitor_that_closes_has_left(house: House) -> None:
    visitor = house.visitor(served=served("app.test", "app.test"))
    visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    visitor.end_reading()
    assert visitor.disconnected
    assert house.stream.aborted


def test_a_dedicated_stream_tells_of_tls(build: Build) -> None:
    house = build(per_visitor=True)
    visitor = house.visitor(served=served("app.test", "app.test"), local_port=443)
    visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    facts = house.stream.open.visitor
    assert facts is not None
    assert (facts.address, facts.port, facts.local_port) == ("192.0.2.7", 40000, 443)
    assert facts.tls is not None
    assert (facts.tls.version, facts.tls.sni, facts.tls.alpn) == ("TLSv1.3", "app.test", "http/1.1")


@pytest.mark.parametrize(
    ("port", "request_line", "host", "location"),
    [
        (443, "GET /a/../b?q=1", "App.test", "https://app.test/b?q=1"),
        (8443, "GET /%7ex", "app.test:8080", "https://app.test:8443/~x"),
        (443, "POST /", "edge.test", "https://edge.test/"),
        (443, "OPTIONS *", "x.wild.test", "https://x.wild.test/"),
        (443, "GET http://docs.test/z", "docs.test", "https://docs.test/z"),
    ],
)
def test_plain_http_is_redirected(house: House, port: int, request_line: str, host: str, location: str) -> None:
    house.context.public_port = port
    visitor = house.visitor(redirect=True)
    for _ in range(2):
        visitor.says(f"{request_line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n")
        [(head, _)] = visitor.answers([request_line.split()[0].encode()])
        assert head.status_code == 308
        assert dict(head.headers)[b"location"].decode() == location
    assert house.streams == []


@pytest.mark.parametrize(("host", "status"), [("evil.example", 404), ("evil.example@app.test", 400), ("a..b", 400)])
def test_nobody_is_redirected_to_a_stranger(house: House, host: str, status: int) -> None:
    visitor = house.visitor(redirect=True)
    visitor.says(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
    [(head, _)] = visitor.answers()
    assert head.status_code == status
    assert b"location" not in dict(head.headers)


# Sites that ask their visitors for certificates.

ASKED, OTHERS = ClientCertificates((b"a CA",)), ClientCertificates((b"another",))


class Asking(House):
    """``app.test`` asks for a certificate, ``docs.test`` for none."""

    def catalog(self, protocol: str, asked: ClientCertificates | None = ASKED) -> Catalog:
        sites = [
            Site("app", ("app.test", "*.wild.test"), (Route("app", "/", "app"),), client_certificates=asked),
            Site("docs", ("docs.test", "open.wild.test"), (Route("docs", "/", "app"),)),
        ]
        return Catalog(sites, [Backend("app", protocol=protocol)], own_names=["edge.test"])


@pytest.fixture
def asking() -> Iterator[Asking]:
    house = Asking(per_visitor=True)
    yield house
    house.close()


def judged_by(
    asked: ClientCertificates | None, server_name: str | None = "app.test", shown: VisitorCertificate | None = None
) -> ServedTls:
    """A connection whose visitor was asked for this; its certificate is good for every name."""
    policy = None if asked is None else VisitorPolicy([], owner=asked)
    names = ("app.test", "docs.test", "x.wild.test", "open.wild.test", "edge.test")
    return replace(served(server_name, *names), visitors=policy, certificate=shown)


@pytest.mark.parametrize(
    ("tls", "host", "status", "reason"),
    [
        (judged_by(ASKED), "app.test", 200, ""),
        (judged_by(ASKED), "x.wild.test", 200, ""),
        (judged_by(ClientCertificates((b"a CA",))), "APP.test", 200, ""),  # the same, if another object
        (judged_by(ASKED), "docs.test", 421, "misdirected"),
        (judged_by(ASKED), "open.wild.test", 421, "misdirected"),
        (judged_by(OTHERS), "app.test", 421, "misdirected"),
        (judged_by(replace(ASKED, required=False)), "app.test", 421, "misdirected"),
        (judged_by(replace(ASKED, fingerprints=frozenset([b"x"]))), "app.test", 421, "misdirected"),
        (judged_by(None), "app.test", 421, "misdirected"),
        (judged_by(None, "docs.test"), "app.test", 421, "misdirected"),
        (judged_by(None, "docs.test"), "docs.test", 200, ""),
        (judged_by(None, None), "app.test", 403, "client-certificate-required"),
        (judged_by(None, None), "docs.test", 200, ""),
        (None, "app.test", 403, "client-certificate-required"),
        (None, "docs.test", 200, ""),
        (None, "nobody.test", 404, "unknown-host"),
    ],
)
def test_a_site_that_asks_for_certificates(
    asking: Asking, tls: ServedTls | None, host: str, status: int, reason: str
) -> None:
    visitor = asking.visitor(served=tls)
    for _ in range(2):  # also when the way is known
        visitor.says(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
        if status == 200:
            asking.stream.read()
            asking.stream.deliver(OK)
        [(head, _)] = visitor.answers()
        assert head.status_code == status
        assert dict(head.headers).get(b"x-wormhole-error", b"").decode() == reason
    assert bool(asking.streams) is (status == 200)


def test_one_connection_and_several_hosts(asking: Asking) -> None:
    """What was found good for one host says nothing of another, nor of the same one after it; nor does what another
    visitor made known."""
    visitor, other = (asking.visitor(served=judged_by(asked)) for asked in (ASKED, None))
    rounds = [(visitor, "app.test", 200), (visitor, "docs.test", 421)]
    rounds += [(other, "docs.test", 200), (other, "app.test", 421)]
    for visitor, host, status in rounds * 2:
        visitor.says(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
        asked = [stream for stream in asking.streams if stream.read()]
        for stream in asked:
            stream.deliver(OK)
        assert visitor.answers()[0][0].status_code == status
        assert bool(asked) is (status == 200)


@pytest.mark.parametrize("now", [None, OTHERS])
def test_a_reload_judges_anew(asking: Asking, now: ClientCertificates | None) -> None:
    visitors = [asking.visitor(served=judged_by(asked)) for asked in (ASKED, now)]
    statuses = []
    for asked in (ASKED, now, ASKED):
        asking.catalogs.swap(asking.catalog("http/1.1", asked))
        for visitor in visitors:
            before = len(asking.streams)
            visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            for stream in asking.streams:
                if stream.read() or len(asking.streams) > before:
                    before = len(asking.streams)
                    stream.deliver(OK)
            statuses.append(visitor.answers()[0][0].status_code)
    assert statuses == [200, 421, 421, 200, 200, 421]


def test_a_trusted_proxys_request_is_judged_by_its_own_tls(asking: Asking) -> None:
    trust = Trust.of(Listener("tcp:443", trusted=(ip_network("192.0.2.0/24"),)))
    told = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\nClient-Cert: :AAAA:"
    shown = VisitorCertificate("ab" * 32, "CN=proxy", b":b3du:", b":aXNzdWVy:", datetime.now(UTC))
    for tls, status in ((judged_by(None), 421), (None, 403), (judged_by(ASKED, shown=shown), 200)):
        visitor = asking.visitor(served=tls, trust=trust)
        visitor.says(f"GET / HTTP/1.1\r\nHost: app.test\r\n{told}\r\n\r\n")
        if status == 200:
            [(head, _, _)] = asking.stream.requests()
            fields = [(name, value) for name, value in head.headers if name.startswith(b"client-cert")]
            assert fields == [(b"client-cert", b":b3du:"), (b"client-cert-chain", b":aXNzdWVy:")]
            asking.stream.deliver(OK)
        assert visitor.answers()[0][0].status_code == status


def test_what_a_service_is_told_of_a_certificate(asking: Asking) -> None:
    shown = VisitorCertificate("ab" * 32, "CN=" + "n" * 300, b":b3du:", b"", datetime.now(UTC))
    visitor = asking.visitor(served=judged_by(ASKED, shown=shown))
    visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\nClient-Cert-Chain: :AAAA:\r\n\r\n")
    [(head, _, _)] = asking.stream.requests()
    assert [(name, value) for name, value in head.headers if b"cert" in name] == [(b"client-cert", b":b3du:")]
    facts = asking.stream.open.visitor
    assert facts is not None
    assert facts.tls is not None
    assert facts.tls.client_fingerprint == "ab" * 32
    assert facts.tls.client_subject == "CN=" + "n" * 251 + "…"
    encode(asking.stream.open)
    asking.stream.deliver(OK)
    assert visitor.answers()[0][0].status_code == 200
    assert b'"client_certificate":"%s"' % (b"ab" * 32) in json_line(asking.done[-1], 0.0, 0.0)


def test_connections_that_would_be_asked_for_something_else_are_let_go(asking: Asking) -> None:
    connections = {
        name: asking.visitor(served=tls)
        for name, tls in {
            "good": judged_by(ASKED),
            "other": judged_by(OTHERS),
            "open": judged_by(None, "docs.test"),
            "nobody's": judged_by(None, "nobody.test"),
            "no name": judged_by(None, None),
            "plain": None,
            "busy": judged_by(None, "app.test"),
        }.items()
    }
    # one of them has a request under way, since before the reload
    asking.catalogs.swap(asking.catalog("http/1.1", None))
    connections["busy"].says(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    asking.catalogs.swap(asking.catalog("http/1.1"))
    assert let_go(asking.context.connections, asking.catalogs.current) == 2
    gone = {name for name, visitor in connections.items() if visitor.write_closed or visitor.disconnected}
    assert gone == {"other"}
    asking.stream.read()
    asking.stream.deliver(OK)
    [(head, body)] = connections["busy"].answers()
    assert (head.status_code, body) == (200, b"ok")
    assert (b"connection", b"close") in head.headers
    for name in ("other", "busy"):
        connections[name].end_reading()
    assert let_go(asking.context.connections, asking.catalogs.current) == 0


def test_a_websocket_lives_on_through_a_reload(asking: Asking) -> None:
    visitor = asking.visitor(served=judged_by(ASKED))
    visitor.says("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    stream = asking.stream
    stream.read()
    stream.deliver(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert b" 101 " in visitor.hears()
    asking.catalogs.swap(asking.catalog("http/1.1", OTHERS))
    assert let_go(asking.context.connections, asking.catalogs.current) == 1
    for _ in range(2):
        visitor.says(b"ping")
        assert stream.read() == b"ping"
        stream.deliver(b"pong")
        assert visitor.hears() == b"pong"
    visitor.end_reading()
    stream.end_reading()
    assert visitor.disconnected or visitor.write_closed
