"""Certificates of visitors, and a handshake in memory."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from wormhole_tw.net.tls import ServedTls, ServerTls

DAY = datetime.timedelta(days=1)


class Person:
    """A certificate and its key, and whom it can sign.

    :param signer: who signed it; itself by default
    :param ends: days from now
    :param purpose: what it is for, and nothing else
    :param filler: octets of an extension that means nothing
    """

    def __init__(
        self,
        name: str,
        signer: Person | None = None,
        *,
        ca: bool = False,
        ends: int = 30,
        purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
        filler: int = 0,
    ) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name if signer else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 60 * DAY)
            .not_valid_after(now + ends * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca and purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if filler:
            nothing = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.999.1"), bytes(filler))
            builder = builder.add_extension(nothing, critical=False)
        self.certificate = builder.sign(signer.key if signer else self.key, hashes.SHA256())
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.fingerprint = hashlib.sha256(self.der).digest()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path, *chain: Person) -> tuple[Path, Path]:
        """Its certificate and chain, and its key, as files."""
        name = self.name.rfc4514_string().removeprefix("CN=").replace(" ", "-")
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(b"".join([self.pem, *(one.pem for one in chain)]))
        key.touch(mode=0o600)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key


ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


class OddPerson(Person):
    """One whose certificate has a version that does not exist: OpenSSL takes it, and ``cryptography`` does not."""

    def __init__(self, name: str, signer: Person) -> None:
        super().__init__(name, signer)
        version = bytes.fromhex("a003020102")
        told = self.certificate.tbs_certificate_bytes.replace(version, version[:-1] + b"\5", 1)
        signature = signer.key.sign(told, ec.ECDSA(hashes.SHA256()))
        content = told + ECDSA_SHA256 + b"\3" + bytes([1 + len(signature)]) + b"\0" + signature
        self.der = b"\x30\x82" + len(content).to_bytes(2, "big") + content
        self.fingerprint = hashlib.sha256(self.der).digest()

    @property
    def pem(self) -> bytes:
        return ssl.DER_cert_to_PEM_cert(self.der).encode()


class Shaken:
    """One handshake between the ssl module and a server, cut short by whoever refuses.

    :param hello: whether the server hears beforehand what the client begins with
    :param meanwhile: called when the server has heard the ClientHello, and waits

    :ivar client: the client's side
    :ivar refusal: why the client heard that it was over, or None
    :ivar served: what the server says; None where it refused
    :ivar hello: what the client began with
    """

    def __init__(
        self,
        tls: ServerTls,
        context: ssl.SSLContext,
        name: str | None,
        session: Any = None,
        *,
        hello: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
        self.refusal: str | None = None
        self.refused: SSL.Error | None = None
        self._say(incoming)
        self.hello = outgoing.read()
        self.server = tls.serverConnectionForTLS(_Transport(self.hello if hello else b""))
        self.server.set_accept_state()
        self._hear(self.hello)
        if meanwhile is not None:
            meanwhile()
        for _ in range(4):
            with suppress(SSL.WantReadError):
                incoming.write(self.server.bio_read(65536))
            self._say(incoming)
            self._hear(outgoing.read())
        self.served = self.judged() if self.refused is None else None

    def judged(self) -> ServedTls | None:
        """What the server says now."""
        return ServerTls.served(_Handle(self.server))

    def _say(self, incoming: ssl.MemoryBIO) -> None:
        try:
            self.client.do_handshake()
            self.client.read(1)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.refusal = self.refusal or error.reason or str(error)

    def _hear(self, data: bytes) -> None:
        if self.refused is not None:
            return
        if data:
            self.server.bio_write(data)
        try:
            self.server.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self.refused = error

    @property
    def session(self) -> Any:
        return self.client.session

    @property
    def resumed(self) -> bool:
        return bool(self.client.session_reused)


class _Transport:
    def __init__(self, hello: bytes) -> None:
        self.hello = hello


class _Handle:
    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def getHandle(self) -> SSL.Connection:
        return self._connection
