"""Handshakes of the TLS engine: certificates of both sides, alerts as clear errors, sessions, no second handshake."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from tests.net.engines import (
    HOST,
    MATERIAL,
    Conversation,
    LimitedClient,
    LimitedServer,
    Matrix,
    client_of,
    server_of,
    ssl_context,
)
from tests.net.peers import chain_pem, client_context, key_pem, self_signed, write_pair
from wormhole_tw.net.pem import KeyMaterial
from wormhole_tw.net.tls import CertificateRejected, client_creator, explain_tls_failure

pytestmark = pytest.mark.usefixtures("way_through_openssl")

CALLER = self_signed("caller.test")
"""A client's certificate."""

STRANGER = self_signed("stranger.test")
"""One that no server here knows."""


def twisted(material: KeyMaterial) -> Certificate:
    return Certificate.loadPEM(material.certificate.public_bytes(Encoding.PEM))  # type: ignore[no-untyped-call,no-any-return]


def asking_server(version: str) -> LimitedServer:
    """Ordinary options of Twisted's that want a client certificate, and know one."""
    options: Any = CertificateOptions(
        privateKey=MATERIAL.key,
        certificate=MATERIAL.certificate,  # type: ignore[arg-type]
        trustRoot=trustRootFromCertificates([twisted(CALLER)]),
    )
    return LimitedServer(options, version)


def showing_client(version: str, material: KeyMaterial) -> LimitedClient:
    """Ordinary options of Twisted's that bring a client certificate."""
    key = KeyPair.load(key_pem(material.key), 1)  # FILETYPE_PEM
    own = PrivateCertificate.fromCertificateAndKeyPair(twisted(material), key)  # type: ignore[no-untyped-call]
    trust = trustRootFromCertificates([twisted(MATERIAL)])
    return LimitedClient(optionsForClientTLS(HOST, trustRoot=trust, clientCertificate=own), version)


def asking_context(folder: Path, version: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_pair(folder, MATERIAL, "asking"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=chain_pem(CALLER).decode())
    return limited(context, version)


def showing_context(folder: Path, version: str, material: KeyMaterial | None) -> ssl.SSLContext:
    context = client_context(chain_pem(MATERIAL), strict=False)
    if material is not None:
        context.load_cert_chain(*write_pair(folder, material, "showing"))
    return limited(context, version)


def limited(context: ssl.SSLContext, version: str) -> ssl.SSLContext:
    wanted = ssl.TLSVersion.TLSv1_2 if version == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    context.minimum_version = context.maximum_version = wanted
    return context


def with_client_certificate(matrix: Matrix, folder: Path, material: KeyMaterial | None) -> Conversation:
    """A server that wants a certificate, and a client that shows this one."""
    role, other, version = matrix
    client: Any = client_of(version) if material is None else showing_client(version, material)
    server: Any = asking_server(version)
    if role == "client":
        far = asking_context(folder, version) if other == "ssl" else server
        return Conversation(*matrix, creator=client, far=far)
    far = showing_context(folder, version, material) if other == "ssl" else client
    return Conversation(*matrix, creator=server, far=far)


def test_a_client_certificate(matrix: Matrix, tmp_path: Path) -> None:
    talk = with_client_certificate(matrix, tmp_path, CALLER)
    talk.shake()
    talk.tls.write(b"who am I")
    talk.run()
    assert talk.far.received == b"who am I"
    if matrix[0] == "server":
        shown = talk.tls.getPeerCertificate()
        assert shown.to_cryptography() == CALLER.certificate


@pytest.mark.parametrize(("material", "alert"), [(None, "required"), (STRANGER, "unknown ca")])
def test_a_client_without_the_right_certificate(
    matrix: Matrix, tmp_path: Path, material: KeyMaterial | None, alert: str
) -> None:
    talk = with_client_certificate(matrix, tmp_path, material)
    talk.run()
    reason = talk.app.reason
    assert isinstance(reason, SSL.Error)
    said = explain_tls_failure(reason, "peer.test", 443)
    if matrix[0] == "client":
        # TLS 1.2 has no alert of its own for a certificate that is missing.
        expected = {
            ("required", "TLSv1.3"): "peer.test:443 wants a client certificate",
            ("required", "TLSv1.2"): "it wants a client certificate",
            ("unknown ca", "TLSv1.2"): "does not know the CA of the client certificate",
            ("unknown ca", "TLSv1.3"): "does not know the CA of the client certificate",
        }[alert, matrix[2]]
        assert expected in said
    else:
        assert talk.far.failed
        expected = "gave no client certificate" if material is None else "is not signed by a CA that is trusted here"
        assert expected in said
        seen = talk.far.failure
        assert alert.replace(" ", "_") in seen or alert in seen or "handshake" in seen
    assert talk.app.received == b""


@pytest.mark.parametrize("host", ["other.test", "10.0.0.1"])
def test_a_certificate_for_another_name(other: str, version: str, host: str) -> None:
    talk = Conversation("client", other, version, creator=client_of(version, host=host))
    talk.run()
    assert isinstance(talk.app.reason, VerificationError)
    assert f"not for the name {host}" in explain_tls_failure(talk.app.reason, host, 443)
    assert "handshake" not in talk.app.events
    assert talk.far.failed
    # an alert, and not only an end: who looks at the server's log knows why
    assert "certificate" in talk.far.failure or "alert" in talk.far.failure


def test_a_ca_that_is_not_known(other: str, version: str) -> None:
    creator = LimitedClient(client_creator(HOST, ca_pem=chain_pem(STRANGER)), version)
    talk = Conversation("client", other, version, creator=creator)
    talk.run()
    assert isinstance(talk.app.reason, CertificateRejected)
    assert "is not signed by a CA that is trusted here" in explain_tls_failure(talk.app.reason, HOST, 443)
    assert "handshake" not in talk.app.events
    assert "unknown ca" in talk.far.failure or "unknown_ca" in talk.far.failure


def test_a_client_that_does_not_know_our_ca(other: str, version: str) -> None:
    if other == "ssl":
        far: Any = limited(client_context(chain_pem(STRANGER), strict=False), version)
    else:
        trust = trustRootFromCertificates([twisted(STRANGER)])
        far = LimitedClient(optionsForClientTLS(HOST, trustRoot=trust), version)
    talk = Conversation("server", other, version, far=far)
    talk.run()
    assert isinstance(talk.app.reason, SSL.Error)
    assert "unknown ca" in str(talk.app.reason)
    assert talk.app.events[-1] == "lost"


def test_no_protocol_in_common(matrix: Matrix) -> None:
    role, other, version = matrix
    ours, theirs = (b"wormhole/1",), (b"smtp",)
    if other == "ssl" and role == "client":  # which goes on without one: whoever dials looks at it
        talk = Conversation(*matrix, alpn=ours, far=ssl_context(False, version, theirs))
        talk.shake()
        assert talk.tls.negotiatedProtocol is None
        return
    if role == "server":
        far: Any = ssl_context(True, version, theirs) if other == "ssl" else client_of(version, alpn=theirs)
        talk = Conversation(*matrix, alpn=ours, far=far)
    else:
        talk = Conversation(*matrix, alpn=ours, far=server_of(version, alpn=theirs))
    talk.run()
    assert isinstance(talk.app.reason, SSL.Error)
    assert talk.far.failed
    if role == "client":
        said = explain_tls_failure(talk.app.reason, HOST, 443, offered=ours)
        assert "none of the protocols offered (wormhole/1)" in said
    else:
        assert "application" in talk.far.failure
    assert "handshake" not in talk.app.events


def test_no_version_in_common(role: str, other: str) -> None:
    version, theirs = "TLSv1.2", "TLSv1.3"
    if other == "ssl":
        far: Any = ssl_context(role == "server", theirs)
    else:
        far = (server_of if role == "client" else client_of)(theirs)
    talk = Conversation(role, other, version, far=far)
    talk.run()
    assert isinstance(talk.app.reason, SSL.Error)
    assert talk.far.failed
    assert "version" in explain_tls_failure(talk.app.reason, HOST, 443).lower()


def reused(connection: SSL.Connection) -> bool:
    inside: Any = connection
    return bool(SSL._lib.SSL_session_reused(inside._ssl))  # type: ignore[attr-defined]


@cache
def _with_tickets() -> Any:
    # optionsForClientTLS wants no tickets, without which TLS 1.2 resumes nothing.
    return CertificateOptions(trustRoot=trustRootFromCertificates([twisted(MATERIAL)]), enableSessionTickets=True)


def resuming_client(version: str, session: Any) -> LimitedClient:
    return LimitedClient(_with_tickets(), version, session)


TRIES = 12
"""OpenSSL's server shakes hands in full now and then where TLS 1.2 could resume (one in thirty here, whoever serves),
as RFC 5077 section 3.1 lets it."""


def judge(resumed: list[bool], version: str) -> None:
    first, *then = resumed
    assert not first
    assert all(then) if version == "TLSv1.3" else any(then)


def test_a_session_is_resumed_by_a_server_of_ours(other: str, version: str) -> None:
    session: Any = None
    resumed = []
    for _ in range(TRIES):
        if other == "ssl":
            talk = Conversation("server", other, version, far_session=session)
        else:
            talk = Conversation("server", other, version, far=resuming_client(version, session))
        talk.shake()
        talk.tls.write(b"x")  # a ticket of TLS 1.3 comes after the handshake, and is read with what follows
        talk.run()
        assert talk.far.received == b"x"
        resumed.append(reused(talk.tls.getHandle()))
        if other == "ssl":
            assert talk.far.app.tls.session_reused is resumed[-1]
            session = talk.far.app.tls.session
        else:
            session = talk.far.protocol.getHandle().get_session()
    judge(resumed, version)


def test_a_session_is_resumed_by_a_client_of_ours(other: str, version: str) -> None:
    session = None
    resumed = []
    for _ in range(TRIES):
        talk = Conversation("client", other, version, creator=resuming_client(version, session))
        talk.shake()
        talk.far.send(b"x")
        talk.run()
        assert talk.app.received == b"x"
        resumed.append(reused(talk.tls.getHandle()))
        session = talk.tls.getHandle().get_session()
    judge(resumed, version)


def unlimited(role: str) -> Any:
    """A far end that would shake hands twice."""
    if role == "server":
        trust = trustRootFromCertificates([twisted(MATERIAL)])
        return LimitedClient(optionsForClientTLS(HOST, trustRoot=trust), "TLSv1.2")
    options: Any = CertificateOptions(privateKey=MATERIAL.key, certificate=MATERIAL.certificate)  # type: ignore[arg-type]
    return LimitedServer(options, "TLSv1.2")


@pytest.mark.parametrize("other", ["engine", "twisted"])
def test_a_client_that_wants_a_second_handshake_is_refused(other: str) -> None:
    talk = Conversation("server", other, "TLSv1.2", far=unlimited("server"))
    talk.shake()
    far = talk.far.protocol
    assert far.getHandle().renegotiate()
    with pytest.raises(SSL.WantReadError):
        far.getHandle().do_handshake()
    far._flushSendBIO()
    talk.run()
    assert talk.app.events.count("handshake") == 1
    assert talk.far.failed
    assert "renegotiation" in talk.far.failure


@pytest.mark.parametrize("other", ["engine", "twisted"])
def test_a_server_that_wants_a_second_handshake_is_refused(other: str) -> None:
    talk = Conversation("client", other, "TLSv1.2", far=unlimited("client"))
    talk.shake()
    far = talk.far.protocol
    assert far.getHandle().renegotiate()
    talk.far.send(b"comes all the same")
    talk.run()
    assert talk.app.received == b"comes all the same" or talk.far.failed
    assert talk.tls.getHandle() is None or talk.tls.getHandle().total_renegotiations() == 0
    assert talk.app.events.count("handshake") == 1
