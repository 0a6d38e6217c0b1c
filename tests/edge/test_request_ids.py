"""Names of requests."""

from __future__ import annotations

import os
import re
from ipaddress import ip_network

import pytest

from tests.edge.house import House
from wormhole_tw.edge.request_ids import given_id, request_ids
from wormhole_tw.edge.trust import NOBODY, Trust
from wormhole_tw.net.networks import Networks


def test_they_are_unique_and_plain() -> None:
    one, two = request_ids(os.urandom), request_ids(os.urandom)
    ids = [make() for make in (one, two) for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert all(re.fullmatch(rb"[0-9a-z]{16}-[0-9a-f]+", name) for name in ids)


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ([], None),
        ([(b"X-Request-ID", b"4bf92f35-77b3")], b"4bf92f35-77b3"),
        ([(b"x-request-id", b"a"), (b"X-Request-Id", b"b")], None),
        ([(b"x-request-id", b"<script>")], None),
        ([(b"x-request-id", b"")], None),
        ([(b"x-request-id", b"a" * 129)], None),
        ([(b"x-request-ip", b"a")], None),
    ],
)
def test_what_a_proxy_may_give(fields: list[tuple[bytes, bytes]], given: bytes | None) -> None:
    assert given_id(fields) == given


@pytest.mark.parametrize("trusted", [False, True])
def test_the_service_gets_one_and_it_is_a_visitors_only_from_a_trusted_proxy(trusted: bool) -> None:
    house = House()
    visitor = house.visitor(trust=Trust(Networks([ip_network("192.0.2.0/24")])) if trusted else NOBODY)
    for _ in range(3):  # the second and third are heads that came before
        visitor.says("GET / HTTP/1.1\r\nHost: app.test\r\nX-Request-Id: theirs\r\nX_Request_Id: forged\r\n\r\n")
        house.stream.read()
        house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Request-Id: the-services\r\n\r\n")
    visitor.says("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\n\r\nx")
    got = [dict(head.headers) for head, _, _ in house.stream.requests()]
    names = [fields[b"x-request-id"] for fields in got]
    assert not any(b"x_request_id" in fields for fields in got)
    house.stream.deliver(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert names == [exchange.request_id for exchange in house.done]
    if trusted:
        assert names[:3] == [b"theirs"] * 3
    else:
        assert len(set(names)) == 4
        assert b"theirs" not in names
    assert [dict(head.headers).get(b"x-request-id") for head, _ in visitor.answers()] == [b"the-services"] * 3 + [None]
    house.close()
