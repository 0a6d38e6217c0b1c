"""The local authority: certificates that strict clients accept, files that survive two processes at once."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.net.peers import chain_pem, key_pem, self_signed, write_pair
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.dev_ca import CA_VALIDITY, LEAF_VALIDITY, LOCAL_NAMES, DevCa


def test_files_and_their_modes(tmp_path: Path) -> None:
    ca = DevCa(tmp_path / "state" / "dev")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert ca.folder.stat().st_mode & 0o777 == 0o700
    assert ca.key_path.stat().st_mode & 0o777 == 0o600
    assert ca.ca_path.stat().st_mode & 0o777 == 0o644
    assert ca.ca_path.read_bytes() == ca.ca_pem
    assert sorted(path.name for path in ca.folder.iterdir()) == [".lock", "ca.key", "ca.pem"]


def test_the_next_start_has_the_same_one(tmp_path: Path) -> None:
    assert DevCa(tmp_path).ca_pem == DevCa(tmp_path).ca_pem


def test_names_of_a_certificate(tmp_path: Path) -> None:
    material = DevCa(tmp_path).certificate_for(["App.example.test", "*.preview.example.test", "10.0.0.1", "localhost"])
    assert material.names == ("app.example.test", "*.preview.example.test", "10.0.0.1", *LOCAL_NAMES)
    assert material.covers("app.example.test")
    assert material.covers("x.preview.example.test")
    assert not material.covers("preview.example.test")
    assert not material.covers("a.b.preview.example.test")
    assert material.covers("::1")


@pytest.mark.requires_program("openssl")
def test_openssl_accepts_it_strictly(tmp_path: Path) -> None:
    ca = DevCa(tmp_path)
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(chain_pem(ca.certificate_for(["*.example.test", "a" * 60 + ".example"])))
    for name in (["-verify_hostname", "x.example.test"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]):
        ran = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca.ca_path, *name, leaf],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr


def test_python_loads_the_pair(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path, DevCa(tmp_path / "dev").certificate_for([]))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


def test_renewal_when_a_third_is_left(tmp_path: Path) -> None:
    ca = DevCa(tmp_path)
    now = datetime.datetime.now(datetime.UTC)
    material = ca.certificate_for([], now)
    assert abs(material.not_after - now - LEAF_VALIDITY) < datetime.timedelta(seconds=2)
    assert not ca.needs_renewal(material)
    assert not ca.needs_renewal(material, now + datetime.timedelta(days=59))
    assert ca.needs_renewal(material, now + datetime.timedelta(days=61))
    assert ca.needs_renewal(material, now + datetime.timedelta(days=100))


def test_a_leaf_never_outlives_its_ca(tmp_path: Path) -> None:
    ca = DevCa(tmp_path)
    now = datetime.datetime.now(datetime.UTC) + CA_VALIDITY - datetime.timedelta(days=10)
    material = ca.certificate_for([], now)
    assert material.not_after - now <= datetime.timedelta(days=10)


def test_an_ending_ca_is_replaced(tmp_path: Path, log_lines: object) -> None:
    old = DevCa(tmp_path)
    before = old.ca_pem
    ending = self_signed("old CA", days=20, key=old._ca.key)
    # The same file as ours would be near its end: a CA of this key that ends in weeks.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(ending.certificate.subject)
        .issuer_name(ending.certificate.subject)
        .public_key(old._ca.certificate.public_key())  # type: ignore[arg-type]
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=20))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(old._ca.key, hashes.SHA256())  # type: ignore[arg-type]
    )
    from cryptography.hazmat.primitives.serialization import Encoding

    old.ca_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    new = DevCa(tmp_path)
    assert new.ca_pem not in (before, certificate.public_bytes(Encoding.PEM))
    assert "trust it anew" in log_lines  # type: ignore[operator]


def test_a_key_left_alone_by_a_crash_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "ca.key").write_bytes(b"half a k")
    assert DevCa(tmp_path).ca_pem == DevCa(tmp_path).ca_pem


def test_a_key_that_others_may_read_is_made_private(tmp_path: Path, log_lines: object) -> None:
    DevCa(tmp_path).key_path.chmod(0o644)
    assert DevCa(tmp_path).key_path.stat().st_mode & 0o777 == 0o600
    assert "readable by others" in log_lines  # type: ignore[operator]


def test_broken_and_foreign_files_are_named(tmp_path: Path) -> None:
    ca = DevCa(tmp_path)
    good = ca.ca_path.read_bytes()

    def refused() -> str:
        with pytest.raises(ConfigError) as raised:
            DevCa(tmp_path, source="edge.toml")
        assert raised.value.source == "edge.toml"
        return str(raised.value)

    ca.ca_path.write_bytes(b"not PEM")
    assert f"{ca.ca_path} holds no PEM certificate" in refused()
    ca.ca_path.write_bytes(good.replace(b"M", b"N", 9))
    assert str(ca.ca_path) in refused()
    stranger = self_signed("stranger.example")
    ca.ca_path.write_bytes(chain_pem(stranger))
    assert "is not the key of the certificate" in refused()
    ca.key_path.write_bytes(key_pem(stranger.key))
    assert "is no CA of ours" in refused()
    ca.key_path.unlink()
    assert f"{ca.key_path} is missing" in refused()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        DevCa(tmp_path / "dev")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    DevCa(tmp_path / "there")
    (tmp_path / "there").chmod(0o500)
    tmp_path.chmod(0o500)
    try:
        DevCa(tmp_path / "there")
        with pytest.raises(ConfigError, match="cannot be written"):
            DevCa(tmp_path / "new")
    finally:
        tmp_path.chmod(0o700)
        (tmp_path / "there").chmod(0o700)


def test_a_name_that_no_certificate_holds(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no certificate can be made"):
        DevCa(tmp_path).certificate_for(["bücher.example"])


def _pem_of(folder: str) -> bytes:
    return DevCa(folder).ca_pem


def test_processes_that_start_at_once_share_one(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.map(_pem_of, [str(tmp_path / "dev")] * 8)
    assert len(set(made)) == 1
    assert made[0] == (tmp_path / "dev" / "ca.pem").read_bytes()
