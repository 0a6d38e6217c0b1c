"""Security headers that a site has switched on: on every answer of the site, and on nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from tests.edge.house import House
from tests.edge.test_router import served
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import AddedFields, Backend, Security
from wormhole_tw.edge.trust import Trust
from wormhole_tw.net.networks import Networks

Build = Callable[..., House]

HSTS = (b"Strict-Transport-Security", b"max-age=300")
FRAME = (b"X-Frame-Options", b"DENY")
SNIFF = (b"X-Content-Type-Options", b"nosniff")
CSP = (b"Content-Security-Policy", b"frame-ancestors 'none'")
SECURITY = Security(AddedFields((HSTS, SNIFF, FRAME), (CSP,)), AddedFields((SNIFF, FRAME), (CSP,)))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NAMES = {b"strict-transport-security", b"x-frame-options", b"x-content-type-options", b"content-security-policy"}


@pytest.fixture
def secured(house: House) -> House:
    """Its first site has them on."""
    first, *others = house.catalogs.current.sites
    routes = tuple(replace(route, security=SECURITY) for route in first.routes)
    site = replace(first, routes=routes, security=SECURITY)
    house.catalogs.swap(Catalog([site, *others], [Backend("app"), Backend("docs")], own_names=["edge.test"]))
    return house


def get(path: str = "/", host: str = "app.test", *lines: str, method: str = "GET") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""])


def secure(house: House, *names: str, **more: Any) -> Any:
    return house.visitor(served=served("app.test", *(names or ("app.test",))), **more)


def added(head: Any) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in head.headers if name in NAMES]


def lower(*lines: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in lines]


def test_what_a_service_answers(secured: House) -> None:
    visitor = secure(secured)
    for _ in range(4):  # the later ones are heads that came before
        visitor.says(get())
        secured.stream.read()
        secured.stream.deliver(OK)
        [(head, body)] = visitor.answers()
        assert added(head) == lower(HSTS, SNIFF, FRAME, CSP)
        assert body == b"ok"


def test_an_answer_in_pieces(secured: House) -> None:
    visitor = secure(secured)
    visitor.says(get())
    secured.stream.read()
    secured.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    secured.stream.deliver(b"2\r\nok\r\n0\r\n\r\n")
    assert added(visitor.answers()[0][0]) == lower(HSTS, SNIFF, FRAME, CSP)


def test_what_the_service_says_itself_stays(secured: House) -> None:
    visitor = secure(secured)
    visitor.says(get())
    secured.stream.read()
    own = [
        (b"X-Frame-Options", b"SAMEORIGIN"),
        (b"strict-transport-security", b"max-age=0"),
        (b"Content-Security-Policy", b"default-src 'self'"),
    ]
    lines = b"".join(b"%s: %s\r\n" % line for line in own)
    secured.stream.deliver(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\nok")
    # policies add up, each of them is followed
    assert added(visitor.answers()[0][0]) == lower(*own, SNIFF, CSP)


def test_hsts_is_for_those_who_came_by_tls(secured: House) -> None:
    visitor = secured.visitor()
    visitor.says(get())
    secured.stream.read()
    secured.stream.deliver(OK)
    assert added(visitor.answers()[0][0]) == lower(SNIFF, FRAME, CSP)
    # RFC 6797 §7.2 asks about the visitor's own connection, which a trusted proxy tells of
    trust = Trust(Networks([ip_network("192.0.2.0/24")]))
    for scheme, expected in (("https", (HSTS, SNIFF, FRAME, CSP)), ("http", (SNIFF, FRAME, CSP))):
        for proxy in (secured.visitor(trust=trust), secure(secured, trust=trust)):
            proxy.says(get("/", "app.test", f"X-Forwarded-Proto: {scheme}"))
            secured.stream.read()
            secured.stream.deliver(OK)
            assert added(proxy.answers()[0][0]) == lower(*expected)


def test_what_the_edge_answers_itself(secured: House) -> None:
    visitor = secure(secured)
    # no agent; a path that is not valid; OPTIONS that ends here
    for request, status in (
        (get("/docs"), 503),
        (get("/%zz"), 400),
        (get("/", "app.test", "Max-Forwards: 0", method="OPTIONS"), 200),
    ):
        visitor.says(request)
        [(head, _)] = visitor.answers([request.split()[0].encode()])
        assert head.status_code == status
        found = added(head)
        assert sorted(found) == sorted(lower(HSTS, SNIFF, FRAME, CSP)), found
    secured.sessions[0].refuse = RuntimeError("no")
    visitor.says(get())
    [(head, _)] = visitor.answers()
    assert (head.status_code, sorted(added(head))) == (502, sorted(lower(HSTS, SNIFF, FRAME, CSP)))


def test_other_sites_have_none(secured: House) -> None:
    visitor = secure(secured, "app.test", "docs.test")
    for host in ("docs.test", "nobody.test"):
        visitor.says(get("/", host))
        [(head, _)] = visitor.answers()
        assert head.status_code == 404
        assert added(head) == lower(SNIFF)


def test_a_misdirected_request_is_told_nothing_of_the_site(secured: House) -> None:
    visitor = secured.visitor(served=served("docs.test", "docs.test"))
    visitor.says(get())
    [(head, _)] = visitor.answers()
    assert head.status_code == 421
    assert added(head) == lower(SNIFF)


def test_a_redirect_to_https_has_none(secured: House) -> None:
    visitor = secured.visitor(redirect=True)
    visitor.says(get())
    [(head, _)] = visitor.answers()
    assert head.status_code == 308
    assert added(head) == []


def test_an_upgrade_passes_as_it_is(secured: House) -> None:
    visitor = secure(secured)
    visitor.says(get("/", "app.test", "Connection: Upgrade", "Upgrade: x"))
    secured.stream.read()
    secured.stream.deliver(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello")
    heard = visitor.hears()
    assert heard.endswith(b"\r\n\r\nhello")
    assert not any(name in heard.lower() for name in NAMES)
    visitor.lose()
