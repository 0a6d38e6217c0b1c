"""Certificates and keys from PEM files, every mistake told as a `ConfigError` that names the file."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from twisted.logger import Logger

from wormhole_tw.errors import ConfigError

__all__ = ["KeyMaterial", "certificate_names", "load_ca_certificates", "load_key_material", "name_matches", "read_file"]

log = Logger()

MAX_PEM_FILE = 4 * 1024 * 1024
"""Bytes. Bundles of all public CAs are a quarter of a megabyte; this stops a wrong path (a disk, a log) early."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyMaterial:
    """A certificate, the chain that goes with it, and its private key.

    :ivar names: what the certificate is for, from its subjectAltName: DNS names in lower case (a wildcard is one
        left-most label), IP addresses in their shortest form
    :ivar source: where it came from, for messages (a file name, "dev CA")
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: CertificateIssuerPrivateKeyTypes = field(repr=False)
    names: tuple[str, ...]
    source: str

    def covers(self, name: str) -> bool:
        """Whether the certificate is valid for this host name or IP address (lower case, no port, no trailing dot)."""
        return name in self.names or any(name_matches(pattern, name) for pattern in self.names)

    @property
    def not_after(self) -> datetime.datetime:
        """The end of its validity, UTC."""
        return self.certificate.not_valid_after_utc

    def concerns(self, now: datetime.datetime) -> list[str]:
        """What an operator should know though it can be served: expired, not yet valid, or good for no name."""
        found = []
        if now > self.not_after:
            found.append(f"the certificate expired at {self.not_after:%Y-%m-%d %H:%M} UTC")
        if now < self.certificate.not_valid_before_utc:
            found.append(
                f"the certificate is not valid before {self.certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            )
        if not self.names:
            found.append("the certificate has no subject alternative name, so that no client will accept it")
        return found


def name_matches(pattern: str, name: str) -> bool:
    """Whether ``pattern`` (``a.example`` or ``*.example``) covers ``name``; a wildcard stands for one left-most label.

    Both in lower case (RFC 6125 section 6.4.3, RFC 9525 section 6.3). A wildcard never covers an IP address.
    """
    if pattern == name:
        return True
    if not pattern.startswith("*."):
        return False
    label, dot, parent = name.partition(".")
    return bool(label and dot) and parent == pattern[2:] and not name.rpartition(".")[2].isdigit()


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses of a certificate's subjectAltName; empty where it has none."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    dns = [name.lower().removesuffix(".") for name in extension.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in extension.get_values_for_type(x509.IPAddress)]
    return tuple(dict.fromkeys([*dns, *addresses]))


def normal_name(name: str) -> str:
    """A host name or address as it stands in `KeyMaterial.names`: lower case, no trailing dot, shortest address."""
    name = name.lower().removesuffix(".")
    if ":" in name:
        try:
            return str(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return name
    return name


def read_file(path: str | os.PathLike[str], *, source: str, key: str) -> bytes:
    """The bytes of a small file.

    :param source: the file or variable in which ``path`` stood, for the error
    :param key: its key there
    :raises ConfigError: missing, unreadable, not a file, or larger than `MAX_PEM_FILE`
    """
    shown = os.fspath(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_PEM_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(source, key, f"the file {shown} does not exist") from None
    except PermissionError:
        raise ConfigError(source, key, f"the file {shown} may not be read by this user") from None
    except OSError as error:
        raise ConfigError(source, key, f"the file {shown} cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_PEM_FILE:
        raise ConfigError(
            source, key, f"the file {shown} is larger than {MAX_PEM_FILE} bytes, and so not what is meant here"
        )
    return data


def load_key_material(
    certificate_file: str | os.PathLike[str],
    key_file: str | os.PathLike[str],
    *,
    source: str,
    certificate_key: str = "certificate",
    private_key_key: str = "key",
    quiet: bool = False,
) -> KeyMaterial:
    """Read a certificate with its chain (leaf first) and its private key; both may stand in one file.

    An expired certificate is served all the same, with a warning in the log: it is the lesser evil on a reload.

    :param source: the configuration file, for errors; ``certificate_key`` and ``private_key_key`` are the keys in it
    :param quiet: without that warning
    :raises ConfigError: missing, unreadable, not PEM, an encrypted key, or a key of another certificate
    """
    certificates = _certificates(
        read_file(certificate_file, source=source, key=certificate_key), certificate_file, source, certificate_key
    )
    key = _private_key(read_file(key_file, source=source, key=private_key_key), key_file, source, private_key_key)
    leaf, chain = certificates[0], certificates[1:]
    if not _belong_together(leaf, key):
        if any(_belong_together(certificate, key) for certificate in chain):
            reason = (
                f"{os.fspath(certificate_file)}: the chain's order is wrong, the server's own certificate comes first"
            )
            raise ConfigError(source, certificate_key, reason)
        reason = f"{os.fspath(key_file)} is not the key of the certificate in {os.fspath(certificate_file)}"
        raise ConfigError(source, private_key_key, reason)
    material = KeyMaterial(leaf, tuple(chain), key, certificate_names(leaf), os.fspath(certificate_file))
    for concern in () if quiet else material.concerns(datetime.datetime.now(datetime.UTC)):
        log.warn("{source}: {concern}", source=material.source, concern=concern)
    return material


def load_ca_certificates(path: str | os.PathLike[str], *, source: str, key: str) -> list[x509.Certificate]:
    """The CA certificates of a PEM bundle, at least one.

    :raises ConfigError: missing, unreadable, or without any readable certificate
    """
    return _certificates(read_file(path, source=source, key=key), path, source, key)


def parse_certificates(data: bytes) -> list[x509.Certificate]:
    """Every certificate in a PEM text, in its order.

    :raises ValueError: there is none, or one is broken
    """
    return x509.load_pem_x509_certificates(data)


def _certificates(data: bytes, path: str | os.PathLike[str], source: str, key: str) -> list[x509.Certificate]:
    shown = os.fspath(path)
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ConfigError(source, key, f"{shown} holds no PEM certificate (no line '-----BEGIN CERTIFICATE-----')")
    try:
        return parse_certificates(data)
    except ValueError:
        raise ConfigError(source, key, f"a certificate in {shown} is damaged") from None


def _private_key(data: bytes, path: str | os.PathLike[str], source: str, key: str) -> CertificateIssuerPrivateKeyTypes:
    shown = os.fspath(path)
    if b"PRIVATE KEY-----" not in data:
        raise ConfigError(source, key, f"{shown} holds no PEM private key")
    try:
        loaded = load_pem_private_key(data, password=None)
    except TypeError:
        reason = f"the private key in {shown} is encrypted, give one without a password (openssl pkey -in … -out …)"
        raise ConfigError(source, key, reason) from None
    except Exception:  # noqa: BLE001 - cryptography has no one class for a broken key; its text may repeat the key
        raise ConfigError(source, key, f"the private key in {shown} is damaged or of an unknown kind") from None
    return loaded  # type: ignore[return-value]  # kinds that sign no certificate fail at _belong_together


def _belong_together(certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes) -> bool:
    shape = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*shape) == key.public_key().public_bytes(*shape)
