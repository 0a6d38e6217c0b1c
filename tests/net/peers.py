"""Independent TLS peers: the standard library's ``ssl`` as a Twisted protocol, and certificates for the tests."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.net.pem import KeyMaterial, certificate_names


def self_signed(*names: str, days: float = 30, since: float = -1, key: Any = None) -> KeyMaterial:
    """A certificate that signs itself, valid from ``since`` days from now for ``days``."""
    import ipaddress

    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "nobody")])
    begins = now + datetime.timedelta(days=since)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + datetime.timedelta(days=days))
    )
    general: list[x509.GeneralName] = []
    for text in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            general.append(x509.DNSName(text))
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    certificate = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return KeyMaterial(certificate, (), key, certificate_names(certificate), "a test")


def key_pem(key: Any, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return data


def chain_pem(material: KeyMaterial) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in (material.certificate, *material.chain))


def write_pair(folder: Path, material: KeyMaterial, stem: str = "site") -> tuple[Path, Path]:
    certificate, key = folder / f"{stem}.crt", folder / f"{stem}.key"
    certificate.write_bytes(chain_pem(material))
    key.write_bytes(key_pem(material.key))
    return certificate, key


def client_context(ca_pem: bytes | None = None, alpn: Iterable[str] = (), *, strict: bool = True) -> ssl.SSLContext:
    """A verifying client of the standard library; without a CA, one that verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_pem is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=ca_pem.decode())
        if strict:
            context.verify_flags |= ssl.VERIFY_X509_STRICT
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def server_context(folder: Path, material: KeyMaterial, alpn: Iterable[str] = ()) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = write_pair(folder, material, "peer")
    context.load_cert_chain(certificate, key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@implementer(IHalfCloseableProtocol)
class SslPeer(Protocol):
    """The standard library's TLS over a Twisted transport, which may cut what it sends into small pieces.

    :ivar received: clear text
    :ivar closed: the peer's close_notify came
    :ivar truncated: the connection ended without it
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
        session: ssl.SSLSession | None = None,
        cut: int = 0,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname, session=session
        )
        self._cut = cut
        self.received = b""
        self.closed = False
        self.truncated = False
        self.shaken = False
        self.error: Exception | None = None
        self.lost: Failure | None = None
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []

    # what a test does

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires once ``condition()`` holds after something happened here."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append((condition, waiter))
        self._look()
        return waiter

    async def handshake(self) -> None:
        await self.until(lambda: self.shaken or self.error is not None or self.lost is not None)
        if self.error is not None:
            raise self.error
        assert self.shaken, f"lost during the handshake: {self.lost}"

    async def read(self, size: int) -> bytes:
        await self.until(lambda: len(self.received) >= size or self.lost is not None)
        data, self.received = self.received[:size], self.received[size:]
        return data

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def close_notify(self) -> None:
        """Our half ends; the other one is still read."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:  # SSLWantRead: sent, and the peer's has not come
            pass
        self._flush()

    def gone(self) -> Deferred[None]:
        return self.until(lambda: self.lost is not None)

    # the protocol

    def connectionMade(self) -> None:
        self._step()

    def dataReceived(self, data: bytes) -> None:
        self._incoming.write(data)
        self._step()

    def readConnectionLost(self) -> None:
        if not self.closed:
            self.truncated = True
        self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason
        self._look()

    def _step(self) -> None:
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            while True:
                data = self.tls.read(65536)
                if not data:
                    self.closed = True
                    break
                self.received += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        except ssl.SSLError as error:
            self.error = error
        self._flush()
        self._look()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if self.transport is None:
            return
        step = self._cut or max(1, len(data))
        for start in range(0, len(data), step):
            self.transport.write(data[start : start + step])

    def _look(self) -> None:
        waiters, self._waiters = self._waiters, []
        for condition, waiter in waiters:
            if condition():
                waiter.callback(None)
            else:
                self._waiters.append((condition, waiter))
