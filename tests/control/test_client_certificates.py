"""What a site asks its visitors to show: the keys, the file, and what is wrong with either."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.control._sample import sample
from tests.net.certificates import Person
from wormhole_tw.control.client_certificates import MAX_CA_FILE
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.model import ClientCertificates
from wormhole_tw.errors import ConfigError

CA, OTHER = Person("people", ca=True), Person("others", ca=True)
HEX = CA.fingerprint.hex()


def asked(folder: Path, **keys: Any) -> ClientCertificates | None:
    raw = sample(**{f"sites.0.{name}": value for name, value in keys.items()})
    return EdgeConfig.from_dict(raw, source="edge.toml", folder=folder).sites[0].client_certificates


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(b"people\n" + CA.pem + OTHER.pem)
    return tmp_path


def test_nothing_is_asked_for_unless_told(folder: Path) -> None:
    assert asked(folder) is None


def test_an_authority_alone(folder: Path) -> None:
    found = asked(folder, client_ca="ca.pem")
    assert found == ClientCertificates((CA.der, OTHER.der), True, frozenset())
    assert asked(folder, client_ca=str(folder / "ca.pem"), client_certificate="required") == found
    assert asked(folder, client_ca="ca.pem", client_certificate="optional") != found
    (folder / "ca.pem").write_bytes(CA.pem)
    assert asked(folder, client_ca="ca.pem") != found


@pytest.mark.parametrize(
    "text", [HEX, f"sha256:{HEX}", HEX.upper(), CA.fingerprint.hex(":").upper(), f" SHA256:{CA.fingerprint.hex(':')}\n"]
)
def test_fingerprints_as_people_have_them(folder: Path, text: str) -> None:
    found = asked(folder, client_ca="ca.pem", client_fingerprints=[text])
    assert found is not None
    assert found.fingerprints == {CA.fingerprint}
    # which are no secret, and still nobody's business in a log
    assert HEX not in repr(found)


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "[2001:db8::7]"])
def test_an_address_is_never_named_in_tls(folder: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="is an address") as caught:
        asked(folder, client_ca="ca.pem", hostnames=["app.example.test", address])
    assert caught.value.key == "$.sites[0].hostnames[1]"
    assert asked(folder, hostnames=[address]) is None


@pytest.mark.parametrize(
    ("keys", "key", "reason"),
    [
        ({"client_certificate": "optional"}, "client_certificate", "needs client_ca"),
        ({"client_fingerprints": [HEX]}, "client_fingerprints", "needs client_ca"),
        ({"client_ca": "ca.pem", "client_certificate": "maybe"}, "client_certificate", 'one of "optional", "required"'),
        ({"client_ca": "ca.pem", "client_fingerprints": []}, "client_fingerprints", "nobody could come"),
        ({"client_ca": "ca.pem", "client_fingerprints": [HEX, HEX[2:]]}, "client_fingerprints[1]", "64 hex digits"),
        ({"client_ca": "ca.pem", "client_fingerprints": [f"sha1:{HEX}"]}, "client_fingerprints[0]", "64 hex digits"),
        ({"client_ca": ""}, "client_ca", "no path"),
        ({"client_ca": "a\0b"}, "client_ca", "no path"),
        ({"client_ca": "nowhere.pem"}, "client_ca", "nowhere.pem cannot be read: No such file"),
        ({"client_ca": "."}, "client_ca", "cannot be read: Is a directory"),
        ({"client_ca": "empty.pem"}, "client_ca", "holds no PEM certificate"),
        ({"client_ca": "key.pem"}, "client_ca", "a private key does not belong here"),
        ({"client_ca": "damaged.pem"}, "client_ca", "a certificate in damaged.pem is damaged"),
        ({"client_ca": "odd.pem"}, "client_ca", "a certificate in odd.pem is damaged"),  # its name is no text
        ({"client_ca": "long.pem"}, "client_ca", "longer than"),
    ],
)
def test_mistakes(folder: Path, keys: dict[str, Any], key: str, reason: str) -> None:
    (folder / "empty.pem").write_bytes(b"")
    (folder / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY-----\n")
    lines = CA.pem.splitlines(keepends=True)
    (folder / "damaged.pem").write_bytes(b"".join(lines[:3] + lines[-1:]))  # whatever its octets are
    odd = b64encode(CA.der.replace(b"people", b"\xff" * 6))
    (folder / "odd.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % odd)
    (folder / "long.pem").write_bytes(b"x" * (MAX_CA_FILE + 1))
    with pytest.raises(ConfigError) as caught:
        asked(folder, **keys)
    assert caught.value.key == f"$.sites[0].{key}"
    assert reason in caught.value.reason
    assert str(caught.value).startswith("edge.toml: $.sites[0].client_")
    assert HEX[2:] not in str(caught.value)


def test_the_policy_of_tls() -> None:
    assert EdgeConfig.from_dict(sample()).tls.policy == "intermediate"
    assert EdgeConfig.from_dict(sample(tls={"policy": "modern"})).tls.policy == "modern"
    with pytest.raises(ConfigError, match='expected one of "intermediate", "modern"'):
        EdgeConfig.from_dict(sample(tls={"policy": "old"}))
