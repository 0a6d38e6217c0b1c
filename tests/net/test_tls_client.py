"""The client side of TLS against the standard library: verification, ALPN, half-close, and failures told clearly."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionAborted, ConnectionRefusedError, NoProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tests.net.peers import chain_pem, self_signed, server_context
from tests.net.services import HalfTalker, Service, Talker, tls_peer, turn
from wormhole_tw.errors import ConfigError, TimedOut
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.pem import KeyMaterial
from wormhole_tw.net.tls import CertificateRejected, client_creator, explain_tls_failure
from wormhole_tw.net.tls_failure import is_tls_failure


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "x.example.test"])
async def test_a_verified_connection(service: Service, authority: DevCa, tmp_path: Path, host: str) -> None:
    names: list[str | None] = []
    context = server_context(tmp_path, authority.certificate_for(["*.example.test"]), ["wormhole/1"])
    context.sni_callback = lambda _tls, name, _context: names.append(name)
    await service.listen(tls_peer(context, cut=7))
    creator = client_creator(host, ca_file=authority.ca_path, alpn=[b"wormhole/1", b"http/1.1"])
    talker = await service.dial(creator, HalfTalker())
    assert talker.events == ["handshake"]
    assert talker.alpn == b"wormhole/1"
    assert names == [host if host[0] in "lx" else None]
    peer = service.accepted[0]
    await peer.handshake()
    for part in (b"a", b"b" * 300_000, b"c"):
        talker.transport.write(part)
    talker.transport.writeSequence([b"d", b"e"])
    assert await peer.read(300_004) == b"a" + b"b" * 300_000 + b"cde"
    peer.send(b"answer")
    await talker.until(lambda: talker.received == b"answer")


async def test_a_creator_serves_many_connections_and_takes_bytes(
    service: Service, authority: DevCa, tmp_path: Path
) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    creator = client_creator("localhost", ca_pem=authority.ca_pem)
    for _ in range(3):
        assert (await service.dial(creator)).alpn is None


async def test_a_certificate_that_is_no_root_may_be_trusted_by_itself(
    service: Service, authority: DevCa, tmp_path: Path
) -> None:
    material = authority.certificate_for([])
    await service.listen(tls_peer(server_context(tmp_path, material)))
    await service.dial(client_creator("localhost", ca_pem=chain_pem(material)))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("names", [None, b"\x30\x03\x82\x01\xff"])
async def test_a_certificate_without_names_is_good_for_none(
    service: Service, tmp_path: Path, host: str, names: bytes | None, log_lines: Any
) -> None:
    material = nameless(names)
    await service.listen(tls_peer(server_context(tmp_path, material)))
    with pytest.raises((CertificateError, VerificationError)) as caught:
        await service.dial(client_creator(host, ca_pem=chain_pem(material)))
    assert "is not for the name" in explained(caught.value, host)
    assert "Traceback" not in log_lines.text


def nameless(names: bytes | None) -> KeyMaterial:
    """A certificate that is trusted for itself, without subjectAltName or with these octets as one."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - datetime.timedelta(days=1), now + datetime.timedelta(days=1)
    )
    if names is not None:
        oid = x509.oid.ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, names), critical=False)
    return KeyMaterial(builder.sign(key, hashes.SHA256()), (), key, (), "a test")


def explained(error: BaseException, host: str) -> str:
    return explain_tls_failure(error, host, 8443, offered=[b"wormhole/1"])


@pytest.mark.parametrize(
    ("host", "material", "trusted", "sentence"),
    [
        (
            "localhost",
            lambda ca: ca.certificate_for([]),
            False,
            "the certificate of localhost:8443 is not signed by a CA that is trusted here; give its CA with --ca-file",
        ),
        (
            "localhost",
            lambda ca: self_signed("localhost"),
            True,
            "the certificate of localhost:8443 is not signed by a CA that is trusted here; give its CA with --ca-file",
        ),
        (
            "other.test",
            lambda ca: ca.certificate_for([]),
            True,
            "the certificate of other.test:8443 is not for the name other.test: a wrong host name, or another server "
            "answered",
        ),
        (
            "10.0.0.1",
            lambda ca: ca.certificate_for([]),
            True,
            "the certificate of 10.0.0.1:8443 is not for the name 10.0.0.1: a wrong host name, or another server "
            "answered",
        ),
        (
            "localhost",
            lambda ca: expired(ca),
            True,
            "the certificate of localhost:8443 has expired (or this machine's clock is wrong)",
        ),
        (
            "localhost",
            lambda ca: early(ca),
            True,
            "the certificate of localhost:8443 is not valid yet (is this machine's clock right?)",
        ),
    ],
)
async def test_what_is_not_accepted(
    service: Service,
    authority: DevCa,
    tmp_path: Path,
    host: str,
    material: Callable[[DevCa], Any],
    trusted: bool,
    sentence: str,
) -> None:
    await service.listen(tls_peer(server_context(tmp_path, material(authority))))
    talker = Talker()
    with pytest.raises(Exception) as raised:
        await service.dial(client_creator(host, ca_file=authority.ca_path if trusted else None), talker)
    assert is_tls_failure(raised.value)
    assert explained(raised.value, host) == sentence
    assert talker.transport is None, "the protocol is built for a verified peer only"


def expired(authority: DevCa) -> Any:
    import datetime

    then = authority._ca.certificate.not_valid_before_utc
    authority_life = datetime.timedelta(days=3650)
    assert authority.certificate_for([], then + authority_life / 2)
    return _signed_with_dates(authority, -10, -1)


def early(authority: DevCa) -> Any:
    return _signed_with_dates(authority, 1, 10)


def _signed_with_dates(authority: DevCa, begins: float, ends: float) -> Any:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from wormhole_tw.net.pem import KeyMaterial

    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority._ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(now + datetime.timedelta(days=begins))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .sign(authority._ca.key, hashes.SHA256())  # type: ignore[arg-type]
    )
    return KeyMaterial(certificate, (), key, ("localhost",), "a test")


async def test_unverified_only_when_asked(service: Service, tmp_path: Path) -> None:
    names: list[str | None] = []
    context = server_context(tmp_path, self_signed("nobody.test"), ["http/1.1"])
    context.sni_callback = lambda _tls, name, _context: names.append(name)
    await service.listen(tls_peer(context))
    talker = await service.dial(client_creator("some.test", verify=False, alpn=[b"http/1.1"]))
    assert talker.alpn == b"http/1.1"
    await service.dial(client_creator("127.0.0.1", verify=False))
    assert names == ["some.test", None]


class Answers(Protocol):
    """Not TLS: says something, or closes."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if self.answer is not None:
            self.transport.write(self.answer)
        self.transport.loseConnection()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "localhost:8443 does not speak TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "localhost:8443 does not speak TLS"),
        (None, "localhost:8443 closed the connection during the TLS handshake"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "localhost:8443 refused the TLS handshake: no common ciphers, or it wants a "
         "client certificate"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "localhost:8443 and this program have no TLS version in common (1.2 and 1.3 "
         "are spoken here)"),
        (b"\x15\x03\x03\x00\x02\x02\x78", "localhost:8443 speaks TLS, but none of the protocols offered (wormhole/1)"),
        (b"\x15\x03\x03\x00\x02\x02\x70", "localhost:8443 has no certificate for the name localhost"),
    ],
)  # fmt: skip
async def test_a_peer_that_does_not_shake_hands(service: Service, answer: bytes | None, sentence: str) -> None:
    await service.listen(lambda: Answers(answer))
    with pytest.raises(Exception) as raised:
        await service.dial(client_creator("localhost"))
    assert explained(raised.value, "localhost") == sentence


async def test_a_peer_that_says_nothing(service: Service) -> None:
    await service.listen(Protocol)
    with pytest.raises(TimedOut) as raised:
        await service.dial(client_creator("localhost"), timeout=0.05)
    assert explained(raised.value, "localhost") == "localhost:8443 did not finish the TLS handshake in time"


async def test_cancelling_a_dial(service: Service, reactor: Any) -> None:
    await service.listen(Talker)
    dialling = service.endpoint(client_creator("localhost")).connect(Factory.forProtocol(Talker))
    while not service.accepted:
        await turn(reactor)
    dialling.cancel()
    with pytest.raises(CancelledError):
        await dialling
    await service.accepted[0].gone()


async def test_a_refused_connection_is_not_tls(service: Service, reactor: Any) -> None:
    await service.listen(Protocol)
    endpoint = service.endpoint(client_creator("localhost"))
    await service.port.stopListening()
    with pytest.raises(ConnectionRefusedError) as raised:
        await endpoint.connect(Factory.forProtocol(Talker))
    assert not is_tls_failure(raised.value)
    assert explained(raised.value, "::1").startswith("no TLS connection to [::1]:8443: ")


async def test_a_factory_that_builds_nothing_or_fails(service: Service, authority: DevCa, tmp_path: Path) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    endpoint = service.endpoint(client_creator("localhost", ca_pem=authority.ca_pem))
    for result, expected in ((None, NoProtocol), (ZeroDivisionError(), ZeroDivisionError)):

        def build(result: Any = result) -> Any:
            if result is not None:
                raise result

        factory = Factory.forProtocol(build)  # type: ignore[arg-type]
        factory.noisy = False
        if result is None:
            factory.buildProtocol = lambda addr: None  # type: ignore[method-assign,assignment]
        with pytest.raises(expected):
            await endpoint.connect(factory)


def test_ca_files_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^FLY_TLS_CERT_FILE: the file .* does not exist"):
        client_creator("localhost", ca_file=tmp_path / "none", source="FLY_TLS_CERT_FILE")
    with pytest.raises(ConfigError, match=r"--ca-file: the CA certificates are not PEM"):
        client_creator("localhost", ca_pem=b"hello")


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (CertificateRejected([], 23), "is revoked"),
        (CertificateRejected([], 26), "is not one for servers"),
        (CertificateRejected([], 99), "OpenSSL's verify error 99"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "closed the connection"),
        (SSL.Error([]), "closed the connection"),
        (SSL.Error([("SSL routines", "", "unexpected eof while reading")]), "closed the connection"),
        (SSL.Error([("SSL routines", "", "certificate verify failed")]), "unknown CA, expired, or not for the name a"),
        (SSL.Error([("SSL routines", "", "tlsv1 alert internal error")]), "had an internal error"),
        (SSL.Error([("SSL routines", "", "something new")]), "the TLS handshake with a:1 failed: something new"),
        (Failure(ConnectionAborted()), "was given up"),
        (OSError("odd"), "no TLS connection to a:1: odd"),
    ],
)
def test_explained(error: Any, part: str) -> None:
    sentence = explain_tls_failure(error, "a", 1)
    assert part in sentence
    assert "\n" not in sentence


# Ends.
