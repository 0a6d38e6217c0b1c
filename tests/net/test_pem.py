"""PEM files: what is right, and what is wrong told with file and key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.net.peers import chain_pem, key_pem, self_signed, write_pair
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.pem import load_ca_certificates, load_key_material, name_matches

BROKEN = "-----BEGIN %s-----\nAAAA\n-----END %s-----\n"


def test_a_pair(tmp_path: Path) -> None:
    made = self_signed("App.Example", "*.example.org", "10.1.2.3", "2001:db8::1")
    loaded = load_key_material(*write_pair(tmp_path, made), source="edge.toml")
    assert loaded.names == ("app.example", "*.example.org", "10.1.2.3", "2001:db8::1")
    assert loaded.certificate == made.certificate
    assert loaded.chain == ()
    assert "key" not in repr(loaded).replace("key=", "").lower() or "PrivateKey" not in repr(loaded)


def test_chain_and_key_in_one_file(tmp_path: Path) -> None:
    leaf, other = self_signed("a.example"), self_signed("b.example")
    bundle = tmp_path / "all.pem"
    bundle.write_bytes(b"# notes\n" + key_pem(leaf.key) + chain_pem(leaf) + chain_pem(other))
    loaded = load_key_material(bundle, bundle, source="edge.toml")
    assert loaded.chain == (other.certificate,)


def test_rsa(tmp_path: Path) -> None:
    made = self_signed("a.example", key=rsa.generate_private_key(65537, 2048))
    assert load_key_material(*write_pair(tmp_path, made), source="edge.toml").names == ("a.example",)


@pytest.mark.parametrize(
    ("spoil", "key", "reason"),
    [
        (lambda c, k: c.unlink(), "certificate", "does not exist"),
        (lambda c, k: k.unlink(), "key", "does not exist"),
        (lambda c, k: (c.unlink(), c.mkdir()), "certificate", "cannot be read: Is a directory"),
        (lambda c, k: c.write_text("hello"), "certificate", "holds no PEM certificate"),
        (lambda c, k: c.write_text(BROKEN % ("CERTIFICATE", "CERTIFICATE")), "certificate", "damaged"),
        (lambda c, k: k.write_text("hello"), "key", "holds no PEM private key"),
        (lambda c, k: k.write_text(BROKEN % ("PRIVATE KEY", "PRIVATE KEY")), "key", "damaged"),
        (lambda c, k: k.write_bytes(key_pem(self_signed("x").key, b"secret")), "key", "encrypted"),
        (lambda c, k: k.write_bytes(key_pem(self_signed("x").key)), "key", "is not the key of"),
        (lambda c, k: c.write_bytes(chain_pem(self_signed("ca")) + c.read_bytes()), "certificate", "order is wrong"),
        (lambda c, k: c.write_bytes(b"x" * (5 << 20)), "certificate", "larger than"),
    ],
)  # fmt: skip
def test_what_is_wrong(tmp_path: Path, spoil: Callable[[Path, Path], object], key: str, reason: str) -> None:
    certificate, private = write_pair(tmp_path, self_signed("a.example"))
    spoil(certificate, private)
    with pytest.raises(ConfigError) as raised:
        load_key_material(
            certificate,
            private,
            source="edge.toml",
            certificate_key="$.tls.certificates[0].certificate",
            private_key_key="$.tls.certificates[0].key",
        )
    assert raised.value.source == "edge.toml"
    assert raised.value.key == f"$.tls.certificates[0].{key}"
    assert reason in raised.value.reason
    assert str(certificate if key == "certificate" else private) in raised.value.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_key_that_may_not_be_read(tmp_path: Path) -> None:
    certificate, private = write_pair(tmp_path, self_signed("a.example"))
    private.chmod(0)
    with pytest.raises(ConfigError, match="may not be read by this user"):
        load_key_material(certificate, private, source="edge.toml")


@pytest.mark.parametrize(
    ("days", "since", "names", "warning"),
    [
        (1, -2, ["a.example"], "expired at"),
        (9, 2, ["a.example"], "not valid before"),
        (9, -1, [], "no subject alternative name"),
    ],
)
def test_only_a_warning(
    tmp_path: Path, days: float, since: float, names: list[str], warning: str, log_lines: object
) -> None:
    pair = write_pair(tmp_path, self_signed(*names, days=days, since=since))
    load_key_material(*pair, source="edge.toml")
    assert warning in log_lines  # type: ignore[operator]


def test_a_ca_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(chain_pem(self_signed("a")) + chain_pem(self_signed("b")))
    assert len(load_ca_certificates(bundle, source="FLY_TLS_CERT_FILE", key="")) == 2
    with pytest.raises(ConfigError, match=r"^FLY_TLS_CERT_FILE: the file .* does not exist"):
        load_ca_certificates(tmp_path / "none", source="FLY_TLS_CERT_FILE", key="")


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("a.example", "a.example", True),
        ("*.example", "a.example", True),
        ("*.example", "a.b.example", False),
        ("*.example", "example", False),
        ("*.example", ".example", False),
        ("a*.example", "ab.example", False),
        ("*.0.0.1", "127.0.0.1", False),
    ],
)
def test_name_matches(pattern: str, name: str, expected: bool) -> None:
    assert name_matches(pattern, name) is expected
