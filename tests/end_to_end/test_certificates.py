"""``mode = "files"``: certificates chosen by SNI, read again at SIGHUP."""

from __future__ import annotations

import signal
import socket
import ssl
from pathlib import Path

import pytest

from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP, OTHER, House
from tests.end_to_end.origin import Origin


def serial_number(house: House, authority: Authority, name: str | None) -> str:
    """That of the certificate served for ``name``, which is verified against ``authority``."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = name is not None
    with (
        socket.create_connection(("127.0.0.1", house.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        certificate = tls.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


@pytest.fixture
def authority(house: House, tmp_path: Path) -> Authority:
    """Two certificates are configured: the edge's and the first site's, and one for all of the second's names."""
    authority = Authority(tmp_path / "certificates")
    house.config["tls"] = {"mode": "files", "certificates": []}
    for label, names in (("first", ("localhost", APP)), ("second", ("*.example.org", OTHER))):
        certificate, key = authority.issue(label, *names)
        pair = {"certificate": str(certificate), "key": str(key)}
        house.config["tls"]["certificates"].append(pair)
    house.config["sites"][1]["hostnames"].append("any.example.org")
    house.write()
    return authority


def test_chosen_by_sni_and_read_again(house: House, authority: Authority, origin: Origin) -> None:
    origin.text("/", b"served")
    edge = house.start_edge()
    env = {"FLY_TLS_CERT_FILE": str(authority.file)}
    agent = house.agent("agent", origin.port, env=env)
    house.agent("other agent", origin.port, env=env, backend="other")

    first = serial_number(house, authority, APP)
    second = serial_number(house, authority, OTHER)
    assert first != second
    assert serial_number(house, authority, "localhost") == first
    assert serial_number(house, authority, "any.example.org") == second
    # Without SNI, and with a name that nobody has, the edge's own.
    assert serial_number(house, authority, None) == first

    # A connection made before goes on; a new one meets the new certificate.
    house.trust(authority.file)
    with house.visitor() as before:
        assert before.ask("GET", "/").body == b"served"
        authority.issue("second", "*.example.org", OTHER)
        edge.send(signal.SIGHUP)
        edge.wait_for("configuration reloaded")
        renewed = serial_number(house, authority, OTHER)
        assert renewed != second
        assert serial_number(house, authority, APP) == first
        assert before.ask("GET", "/").body == b"served"
    assert house.get("/", host=OTHER).body == b"served"

    # A key that is another certificate's leaves what serves.
    mark = edge.mark()
    key = authority.file.parent / "second.key"
    key.write_bytes((authority.file.parent / "first.key").read_bytes())
    edge.send(signal.SIGHUP)
    line = edge.wait_for("not reloaded.*", after=mark)[0]
    assert "$.tls.certificates[1].key" in line
    assert "edge.toml" in line
    assert serial_number(house, authority, OTHER) == renewed
    assert agent.count("connected to") == 1


def test_a_name_that_the_certificate_does_not_cover_is_421(house: House, authority: Authority, origin: Origin) -> None:
    """SNI of one site and Host of another, under different certificates."""
    origin.text("/", b"served")
    house.start_edge()
    house.agent("agent", origin.port, env={"FLY_TLS_CERT_FILE": str(authority.file)}, backend="other")
    house.trust(authority.file)
    with house.visitor(APP) as visitor:
        answer = visitor.ask("GET", "/", headers={"Host": f"{OTHER}:{house.port}"})
        assert (answer.status, answer.reason) == (421, "misdirected")
    with house.visitor(OTHER) as visitor:
        assert visitor.ask("GET", "/", headers={"Host": "any.example.org"}).body == b"served"
