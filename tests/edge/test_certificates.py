"""Certificates of an edge: files, the local CA, and their renewal."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.net.peers import self_signed, write_pair
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.edge.certificates.keeper import RENEWAL_CHECK, CertificateKeeper
from wormhole_tw.errors import ConfigError


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
