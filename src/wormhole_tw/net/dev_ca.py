"""A certificate authority for one machine: https that works at once, for development.

The folder holds ``ca.pem`` (to be trusted by browsers and agents) and ``ca.key`` (readable by its owner alone). The
certificates that it signs are made anew after each start and never written.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.logger import Logger

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.pem import KeyMaterial, load_key_material, normal_name

__all__ = ["CA_VALIDITY", "LEAF_VALIDITY", "LOCAL_NAMES", "DevCa"]

log = Logger()

CA_VALIDITY = datetime.timedelta(days=3650)
LEAF_VALIDITY = datetime.timedelta(days=90)
"""Clients cap what they accept (Apple: 825 days for a private CA); short, and renewed while it runs."""

CLOCK_SKEW = datetime.timedelta(hours=1)
"""How far back validity begins, for a container or a phone whose clock is late."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""What every certificate is for besides the names asked for."""

_MAX_COMMON_NAME = 64  # characters, ub-common-name in RFC 5280 appendix A


class DevCa:
    """The authority of one folder, made there when it is not there yet.

    Two processes that start at once get the same one: files are made under a lock, written beside and renamed.

    :param folder: ``<state>/dev``; created with mode 0700, parents included
    :param source: what named the folder, for errors
    :raises ConfigError: the folder or a file in it cannot be read or written, is damaged, or is not a CA
    """

    def __init__(self, folder: str | os.PathLike[str], *, source: str = "dev CA") -> None:
        self.folder = Path(folder)
        self.ca_path = self.folder / "ca.pem"
        self.key_path = self.folder / "ca.key"
        self._source = source
        self._ca = self._load_or_make()

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate, for those who shall trust it."""
        return self._ca.certificate.public_bytes(Encoding.PEM)

    def certificate_for(self, names: Iterable[str], now: datetime.datetime | None = None) -> KeyMaterial:
        """A new certificate and key for these names and `LOCAL_NAMES`.

        :param names: host names, wildcards (``*.preview.example``) and IP addresses
        :raises ConfigError: a name that no certificate can hold
        """
        now = now or _now()
        every = self.names_for(names)
        key = ec.generate_private_key(ec.SECP256R1())
        first = every[0] if len(every[0]) <= _MAX_COMMON_NAME else "wormhole-tw"
        authority = self._ca.certificate
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, first)]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - CLOCK_SKEW, authority.not_valid_before_utc))
            .not_valid_after(min(now + LEAF_VALIDITY, authority.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName([self._general_name(name) for name in every]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_authority_key_identifier(authority), critical=False)
        )
        leaf = builder.sign(_signing_key(self._ca.key), hashes.SHA256())
        return KeyMaterial(leaf, (), key, every, f"dev CA {self.ca_path}")

    def names_for(self, names: Iterable[str]) -> tuple[str, ...]:
        """What :meth:`certificate_for` these names would be good for.

        :raises ConfigError: a name that no certificate can hold
        """
        every = tuple(dict.fromkeys(normal_name(name) for name in (*names, *LOCAL_NAMES)))
        for name in every:
            self._general_name(name)
        return every

    @staticmethod
    def needs_renewal(material: KeyMaterial, now: datetime.datetime | None = None) -> bool:
        """Whether under a third of a certificate's life is left."""
        begins, ends = material.certificate.not_valid_before_utc, material.not_after
        return (ends - (now or _now())) < (ends - begins) / 3

    def _general_name(self, name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            pass
        try:
            return x509.DNSName(name)
        except ValueError:
            raise ConfigError(self._source, "", f"no certificate can be made for the name {name!r}") from None

    # The files.

    def _load_or_make(self) -> KeyMaterial:
        try:
            if self.ca_path.exists() and self.key_path.exists():
                loaded = self._load()
                if not self._ending(loaded):
                    return loaded
        except PermissionError:
            raise ConfigError(self._source, "", f"the folder {self.folder} may not be read by this user") from None
        except ConfigError:
            # Perhaps another process is replacing the pair just now; under the lock it is one or the other.
            if not os.access(self.folder, os.W_OK):
                raise
        with self._locked():
            if self.ca_path.exists():
                if not self.key_path.exists():
                    reason = f"{self.key_path} is missing beside ca.pem; delete {self.ca_path} to have a new CA made"
                    raise ConfigError(self._source, "", reason)
                loaded = self._load()
                if not self._ending(loaded):
                    return loaded
                log.warn("the dev CA {path} has come to its end; a new one is made, trust it anew", path=self.ca_path)
            # A key without a certificate is what a crash between the two leaves; nobody trusts it yet.
            made = _make_authority()
            pem = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            self._write(self.key_path, pem, 0o600)
            self._write(self.ca_path, made.certificate.public_bytes(Encoding.PEM), 0o644)
            return made

    def _load(self) -> KeyMaterial:
        material = load_key_material(
            # a CA has no names, and its own end is looked at below
            self.ca_path,
            self.key_path,
            source=self._source,
            certificate_key="",
            private_key_key="",
            quiet=True,
        )
        if not _can_sign(material.certificate) or not isinstance(material.key, ec.EllipticCurvePrivateKey):
            reason = f"{self.ca_path} is no CA of ours; move it away to have a new one made"
            raise ConfigError(self._source, "", reason)
        mode = self.key_path.stat().st_mode & 0o777
        if mode & 0o077:
            log.warn("{path} was readable by others (mode {mode:o}); it is 0600 now", path=self.key_path, mode=mode)
            try:
                self.key_path.chmod(0o600)
            except OSError as error:
                reason = f"{self.key_path} is readable by others and cannot be made private: {error.strerror}"
                raise ConfigError(self._source, "", reason) from None
        return material

    def _ending(self, material: KeyMaterial) -> bool:
        return material.not_after - _now() < LEAF_VALIDITY

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = -1
        try:
            for missing in reversed([path for path in (self.folder, *self.folder.parents) if not path.exists()]):
                missing.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            shown = error.filename or self.folder
            raise ConfigError(self._source, "", f"{shown} cannot be written: {error.strerror or error}") from None
        try:
            yield
        finally:
            os.close(descriptor)

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        temporary = path.with_name(f".{path.name}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
            with open(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), mode)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise ConfigError(self._source, "", f"{path} cannot be written: {error.strerror or error}") from None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _make_authority() -> KeyMaterial:
    key = ec.generate_private_key(ec.SECP256R1())
    # Names of two machines' CAs must differ: a trust store that holds both looks an issuer up by name first.
    host = socket.gethostname().encode("ascii", "replace").decode("ascii")
    serial = x509.random_serial_number()
    common_name = f"wormhole-tw dev CA {host[:24]} {serial & 0xFFFFFFFF:08x}"
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "wormhole-tw development"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = _now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyMaterial(certificate, (), key, (), "dev CA")


def _key_usage(**granted: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: granted.get(name, False) for name in every})


def _authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        subject = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(cast(Any, authority.public_key()))
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)


def _can_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _signing_key(key: CertificateIssuerPrivateKeyTypes) -> ec.EllipticCurvePrivateKey:
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # `_load` refuses others
    return key
