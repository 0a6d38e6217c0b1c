"""host:port as people write it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.net.addresses import format_host_port, is_ip_address, parse_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("edge.example", ("edge.example", 443)),
        ("Edge.Example.:8443", ("edge.example", 8443)),
        (" localhost:1 ", ("localhost", 1)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("[::1]", ("::1", 443)),
        ("[::1]:80", ("::1", 80)),
        ("::1", ("::1", 443)),
        ("[fe80::1%eth0]:9", ("fe80::1%eth0", 9)),
        ("bücher.example:8", ("xn--bcher-kva.example", 8)),
        ("my_service", ("my_service", 443)),
    ],
)
def test_what_is_understood(text: str, expected: tuple[str, int]) -> None:
    assert parse_host_port(text, 443) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no host name"),
        (":443", "no host name"),
        ("host:", "a port is"),
        ("host:0", "a port is"),
        ("host:65536", "a port is"),
        ("host:http", "a port is"),
        ("host:٣", "a port is"),
        ("https://host", "is a URL"),
        ("[::1", "is not [IPv6"),
        ("[::1]80", "is not [IPv6"),
        ("[127.0.0.1]:80", "is not an IPv6"),
        ("::1:g", "neither an IPv6"),
        ("ho st", "not a host name"),
        ("-a.example", "not a host name"),
        ("a..b", "not a host name"),
        ("1.2.3", "not a host name"),
        ("256.1.1.1", "not a host name"),
        ("a" * 64, "not a host name"),
        ("☃" * 60, "not a host name"),
    ],
)
def test_what_is_not(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        parse_host_port(text, 443)


def test_without_a_default_the_port_is_needed() -> None:
    with pytest.raises(ValueError, match="has no port"):
        parse_host_port("host")


def test_back_to_text() -> None:
    assert format_host_port("::1", 443) == "[::1]:443"
    assert format_host_port("a.example", 443, 443) == "a.example"
    assert is_ip_address("::1")
    assert not is_ip_address("a.example")


@given(st.text())
def test_nothing_but_value_error(text: str) -> None:
    try:
        host, port = parse_host_port(text, 443)
    except ValueError:
        return
    assert parse_host_port(format_host_port(host, port)) == (host, port)
