"""``client_ca`` and what belongs to it: which certificates the visitors of a site have to show, read with the
configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from wormhole_tw.errors import ConfigError

from .model import ClientCertificates
from .names import is_address

if TYPE_CHECKING:
    from .tables import SiteTable

__all__ = ["MAX_CA_FILE", "read_authorities", "read_client_certificates"]

#: Octets. The CAs of a company are a few kilobytes, all public ones a quarter of a megabyte: this is a wrong path.
MAX_CA_FILE = 1024 * 1024

#: As openssl x509 -fingerprint prints it, with or without its colons; "sha256:" before it as for tokens.
_FINGERPRINT = re.compile(r"(?:sha256:)?([0-9a-f]{2}(?::?[0-9a-f]{2}){31})", re.ASCII | re.IGNORECASE)


def read_client_certificates(
    table: SiteTable, hostnames: Sequence[str], folder: Path, source: str, key: str
) -> ClientCertificates | None:
    """What a site asks its visitors for; None where it asks for nothing.

    :param hostnames: the site's, normalised
    :param folder: what relative paths are relative to
    :param key: the site's
    :raises ConfigError: a file that cannot be read or holds no certificate, a fingerprint that is none, either of the
        other keys without ``client_ca``, or an address for a host name
    """
    if table.client_ca is None:
        for name in ("client_certificate", "client_fingerprints"):
            if getattr(table, name) is not None:
                reason = "needs client_ca: the CA by which visitors' certificates are verified"
                raise ConfigError(source, f"{key}.{name}", reason)
        return None
    for index, hostname in enumerate(hostnames):
        if is_address(hostname):
            reason = (
                f"{hostname} is an address: TLS names none (RFC 6066 §3), so that nobody could be asked by client_ca"
            )
            raise ConfigError(source, f"{key}.hostnames[{index}]", reason)
    authorities = read_authorities(folder, table.client_ca, source, f"{key}.client_ca")
    fingerprints = None
    if table.client_fingerprints is not None:
        if not table.client_fingerprints:
            reason = "empty: nobody could come; leave it out to let in every certificate that client_ca signed"
            raise ConfigError(source, f"{key}.client_fingerprints", reason)
        fingerprints = frozenset(
            _fingerprint(text, source, f"{key}.client_fingerprints[{index}]")
            for index, text in enumerate(table.client_fingerprints)
        )
    return ClientCertificates(
        tuple(certificate.public_bytes(Encoding.DER) for certificate in authorities),
        table.client_certificate != "optional",
        fingerprints or frozenset(),
    )


def read_authorities(folder: Path, name: str, source: str, key: str) -> list[x509.Certificate]:
    """The certificates of a PEM file.

    :raises ConfigError: it cannot be read, or holds none
    """
    if not name or "\0" in name:
        raise ConfigError(source, key, "no path")
    try:
        with (folder / name).open("rb") as file:
            data = file.read(MAX_CA_FILE + 1)
    except OSError as error:
        raise ConfigError(source, key, f"the file {name} cannot be read: {error.strerror}") from error
    if len(data) > MAX_CA_FILE:
        raise ConfigError(source, key, f"the file {name} is longer than {MAX_CA_FILE} octets: it is not what is meant")
    if b"-----BEGIN CERTIFICATE-----" not in data:
        hint = "; a private key does not belong here" if b"PRIVATE KEY-----" in data else ""
        reason = f"{name} holds no PEM certificate (no line '-----BEGIN CERTIFICATE-----'){hint}"
        raise ConfigError(source, key, reason)
    try:
        found = x509.load_pem_x509_certificates(data)
        for certificate in found:
            _ = certificate.subject  # which is read only now
    except ValueError:
        raise ConfigError(source, key, f"a certificate in {name} is damaged") from None
    return found


def _fingerprint(text: str, source: str, key: str) -> bytes:
    match = _FINGERPRINT.fullmatch(text.strip())
    if match is None:
        reason = (
            "not the SHA-256 of a certificate: 64 hex digits, as openssl x509 -in FILE -noout -fingerprint -sha256 "
            "prints them behind its ="
        )
        raise ConfigError(source, key, reason)
    return bytes.fromhex(match[1].replace(":", ""))
