from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.control.endpoints import check_endpoint, endpoint_port


@pytest.mark.parametrize(
    ("description", "port"),
    [
        ("tcp:8443", 8443),
        ("tcp:0", 0),
        ("tcp:8443:interface=127.0.0.1", 8443),
        ("tcp:port=8443", 8443),
        ("tcp:interface=127.0.0.1:port=8443", 8443),
        (r"tcp6:8443:interface=\:\:1", 8443),
        ("unix:/run/edge.sock", None),
        ("systemd:domain=INET:index=0", None),
        ("unix:/tmp/ends-in-a-backslash\\", None),
    ],
)
def test_descriptions_and_their_ports(description: str, port: int | None) -> None:
    check_endpoint(description)
    assert endpoint_port(description) == port


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("8443", '"tcp:8443"'),
        ("", 'as "tcp:8443"'),
        ("tcp", 'as "tcp:8443"'),
        ("tcp:", 'as "tcp:8443"'),
        ("0.0.0.0:8443", 'as "tcp:8443"'),
        ("tcp:https", "0 to 65535"),
        ("tcp:65536", "0 to 65535"),
        ("tcp:-1", "0 to 65535"),
        ("tcp:interface=127.0.0.1", "0 to 65535"),
        ("ssl:8443", "without TLS"),
        ("tls:/etc/certs:8443", "without TLS"),
        ("haproxy:tcp:8443", "trusts every peer"),
    ],
)
def test_what_is_refused(description: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_endpoint(description)


@given(st.text())
def test_any_text_is_refused_or_has_a_port_or_none(text: str) -> None:
    try:
        check_endpoint(text)
    except ValueError:
        return
    port = endpoint_port(text)
    assert port is None or 0 <= port <= 65535
