"""Certificates of an edge: files, the local CA, and their renewal."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.net.certificates import Person, Shaken
from tests.net.peers import client_context, self_signed, write_pair
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.edge.certificates.keeper import RENEWAL_CHECK, CertificateKeeper
from wormhole_tw.edge.certificates.visitors import VisitorsAsked, expired_authorities
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.tickets import TICKET_PERIOD, key_name


def config(folder: Path, *stems: str, hostnames: tuple[str, ...] = ("app.example.test",)) -> EdgeConfig:
    tls: dict[str, object] = {"mode": "dev"}
    if stems:
        pairs = [{"certificate": f"{stem}.crt", "key": f"{stem}.key"} for stem in stems]
        tls = {"mode": "files", "certificates": pairs}
    return EdgeConfig.from_dict(
        {
            "edge": {"names": ["edge.test", "localhost"], "https": ["tcp:0"]},
            "tls": tls,
            "backends": [{"name": "app", "tokens": ["sha256:" + "1" * 64]}],
            "sites": [{"hostnames": list(hostnames), "routes": [{"path": "/", "backend": "app"}]}],
        },
        source="edge.toml",
        folder=folder,
    )


async def test_dev_certificates_are_renewed_before_they_end(tmp_path: Path, log_lines: Any) -> None:
    clock, now = Clock(), [datetime.datetime.now(datetime.UTC)]
    keeper = CertificateKeeper(clock, config(tmp_path), wall=lambda: now[0])
    first = keeper.tls.certificates
    assert first.choose(None).covers("edge.test")
    assert first.choose("unknown.test") is first.choose("edge.test")
    assert first.choose("app.example.test").covers("localhost")
    keeper.start()
    keeper.start()
    now[0] += datetime.timedelta(days=59)
    clock.advance(RENEWAL_CHECK)
    assert keeper.tls.certificates is first
    now[0] += datetime.timedelta(days=2)
    clock.advance(RENEWAL_CHECK)
    renewed = keeper.tls.certificates
    assert renewed is not first
    assert renewed.choose("app.example.test").not_after > now[0] + datetime.timedelta(days=80)
    assert "were renewed" in log_lines
    keeper.stop()
    keeper.stop()
    assert clock.getDelayedCalls() == []


def test_dev_certificates_of_sites_that_stay_stay(tmp_path: Path) -> None:
    keeper = CertificateKeeper(Clock(), config(tmp_path))
    app = keeper.tls.certificates.choose("app.example.test")
    more = config(tmp_path, hostnames=("app.example.test",))
    keeper.serve(more, keeper.prepare(more))
    assert keeper.tls.certificates.choose("app.example.test") is app
    other = config(tmp_path, hostnames=("*.other.example.test",))
    keeper.serve(other, keeper.prepare(other))
    assert keeper.tls.certificates.choose("x.other.example.test").covers("y.other.example.test")
    assert keeper.tls.certificates.choose("app.example.test").covers("edge.test")


def test_a_site_has_no_certificate_before_it_has_a_visitor(tmp_path: Path) -> None:
    keeper = CertificateKeeper(Clock(), config(tmp_path, hostnames=("app.example.test",)))
    assert sorted(keeper.days_left()) == ["edge.test", "localhost"]
    shown = Shaken(keeper.tls, client_context(), "app.example.test")
    assert shown.served.covers("app.example.test")
    assert sorted(keeper.days_left()) == ["app.example.test", "edge.test", "localhost"]
    keeper.serve(config(tmp_path), keeper.prepare(config(tmp_path)))
    again = Shaken(keeper.tls, client_context(), "app.example.test")
    assert again.served.material is shown.served.material


async def test_files_by_sni_and_the_edge_s_first_name_for_the_rest(tmp_path: Path, log_lines: Any) -> None:
    write_pair(tmp_path, self_signed("app.example.test"), "app")
    write_pair(tmp_path, self_signed("edge.test"), "edge")
    names = ("app.example.test", "bare.example.test", "*.wild.example.test")
    keeper = CertificateKeeper(Clock(), config(tmp_path, "app", "edge", hostnames=names))
    certificates = keeper.tls.certificates
    assert certificates.choose("app.example.test").covers("app.example.test")
    for name in (None, "unknown.test"):
        assert certificates.choose(name).covers("edge.test")
    assert "edge.toml: $.sites[0].hostnames[1]: no certificate" in log_lines
    assert "edge.toml: $.sites[0].hostnames[2]: no certificate" in log_lines
    assert "hostnames[0]" not in log_lines
    keeper.start()  # files are the operator's to renew
    keeper.stop()


def test_without_one_for_the_edge_s_name_the_first_file_is_the_default(tmp_path: Path) -> None:
    write_pair(tmp_path, self_signed("app.example.test"), "app")
    write_pair(tmp_path, self_signed("other.example.test"), "other")
    keeper = CertificateKeeper(Clock(), config(tmp_path, "app", "other"))
    assert keeper.tls.certificates.choose(None).covers("app.example.test")


def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    write_pair(tmp_path, self_signed("app.example.test"), "app")
    files = config(tmp_path, "app")
    keeper = CertificateKeeper(Clock(), files)
    served = keeper.tls.certificates
    (tmp_path / "app.crt").write_text("no certificate")
    with pytest.raises(ConfigError) as caught:
        keeper.prepare(files)
    assert caught.value.key == "$.tls.certificates[0].certificate"
    assert keeper.tls.certificates is served


def test_the_keys_of_session_tickets_change(tmp_path: Path) -> None:
    clock = Clock()
    keeper = CertificateKeeper(clock, config(tmp_path))
    hello = Shaken(keeper.tls, client_context(), "app.example.test").hello

    def key() -> bytes:
        connection = keeper.tls.serverConnectionForTLS(_Begins(hello))
        return key_name(connection.get_context())

    first = key()
    keeper.start()
    assert key() == first
    clock.advance(TICKET_PERIOD)
    second = key()
    assert second != first
    clock.advance(TICKET_PERIOD - 1)
    assert key() == second
    clock.advance(1)
    assert key() not in (first, second)
    keeper.stop()
    assert clock.getDelayedCalls() == []


class _Begins:
    def __init__(self, hello: bytes) -> None:
        self.hello = hello


def asking(folder: Path, **keys: object) -> EdgeConfig:
    """Three sites: two that ask for the same, and one between that asks for nothing."""
    route = [{"path": "/", "backend": "app"}]
    return EdgeConfig.from_dict(
        {
            "edge": {"names": ["edge.example.test"], "https": ["tcp:0"]},
            "tls": {"mode": "dev", "policy": "modern"},
            "backends": [{"name": "app", "tokens": ["sha256:" + "1" * 64]}],
            "sites": [
                {"hostnames": ["*.example.test"], "routes": route, "client_ca": "ca.pem", **keys},
                {"hostnames": ["open.example.test"], "routes": route},
                {"hostnames": ["other.test"], "routes": route, "client_ca": "same.pem"},
            ],
        },
        source="edge.toml",
        folder=folder,
    )


def test_what_visitors_are_asked_for(tmp_path: Path) -> None:
    authority = Person("people", ca=True)
    for name in ("ca.pem", "same.pem"):
        (tmp_path / name).write_bytes(authority.pem)
    asked = VisitorsAsked()
    first = asked.load(asking(tmp_path))
    policy = first.find("app.example.test")
    assert policy is not None
    assert policy.required
    assert policy.owner == asking(tmp_path).sites[0].client_certificates
    assert first.find("other.test") is policy
    # an exact name wins, and the edge's own is never a site
    assert first.find("open.example.test") is None
    assert first.find("edge.example.test") is None
    assert first.find("unknown.test") is None
    assert first.find(None) is None
    # what stays stays the same
    again = asked.load(asking(tmp_path))
    assert again.find("app.example.test") is policy
    other = asked.load(asking(tmp_path, client_certificate="optional"))
    assert other.find("other.test") is policy
    changed = other.find("app.example.test")
    assert changed is not None
    assert not changed.required


def test_an_authority_that_openssl_cannot_read(tmp_path: Path) -> None:
    good = Person("people", ca=True)
    (tmp_path / "same.pem").write_bytes(good.pem)
    issuer = good.der.replace(b"people", b"\xff" * 6, 1)  # no text
    (tmp_path / "ca.pem").write_text(ssl.DER_cert_to_PEM_cert(issuer))
    asked = VisitorsAsked()
    with pytest.raises(ConfigError, match="OpenSSL cannot read one") as caught:
        asked.load(asking(tmp_path))
    assert caught.value.key == "$.sites[0].client_ca"


async def test_the_keeper_asks_and_speaks_the_policy(tmp_path: Path, log_lines: Any) -> None:
    (tmp_path / "ca.pem").write_bytes(Person("people", ca=True).pem)
    (tmp_path / "same.pem").write_bytes(Person("old people", ca=True, ends=-1).pem)
    keeper = CertificateKeeper(Clock(), asking(tmp_path))
    assert "edge.toml: $.sites[2].client_ca: CN=old people (serial number " in log_lines
    assert "expired at" in log_lines
    assert "$.sites[0].client_ca" not in log_lines
    context = client_context()
    assert Shaken(keeper.tls, context, "app.example.test").refusal == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert Shaken(keeper.tls, context, "open.example.test").served is not None
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert Shaken(keeper.tls, context, "open.example.test").refusal == "TLSV1_ALERT_PROTOCOL_VERSION"
    # a clock that stands still before all began
    early = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=100)
    assert any("is not valid before" in line for line in expired_authorities(asking(tmp_path), early))
    # and a reload to the other policy, with nobody asked
    plain = config(tmp_path)
    keeper.serve(plain, keeper.prepare(plain))
    assert Shaken(keeper.tls, context, "app.example.test").served is not None
