"""Host names, paths, misdirected requests and redirects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.edge.house import House
from wormhole_tw.net.tls import ServedTls

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
