"""A server name that shall have a certificate and has none is refused, and is never shown another's."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from OpenSSL import SSL

from tests.net.peers import self_signed
from wormhole_tw.net import sni
from wormhole_tw.net.pem import KeyMaterial
from wormhole_tw.net.tls import CertificateMap, ServerTls

EDGE = self_signed("edge.test")
APP = self_signed("app.test", "*.wild.test")


def certificates(*missing: str, default: KeyMaterial | None = EDGE) -> CertificateMap:
    return CertificateMap([EDGE, APP], default, missing=missing)


def test_who_is_missing_is_refused() -> None:
    found = certificates("new.test", "*.other.test", "a.wild.test", "b.wild.test")
    assert found.choose("app.test") is APP
    assert found.choose("new.test") is None
    assert found.choose("New.Test.") is None
    assert found.choose("x.other.test") is None
    # Neither what is under it further down, nor a name that nobody configured.
    assert found.choose("a.b.other.test") is EDGE
    assert found.choose("other.test") is EDGE
    assert found.choose("nobody.test") is EDGE
    assert found.choose(None) is EDGE
    # A wildcard's certificate is good for the names under it, whoever else waits for one of his own.
    assert found.choose("a.wild.test") is APP
    assert found.serves("*.wild.test") is APP
    assert found.serves("*.other.test") is None
    assert found.serves("app.test") is APP


def test_without_a_default_nobody_else_is_served() -> None:
    found = CertificateMap([APP], missing=["edge.test"])
    assert found.default is None
    assert found.choose(None) is None
    assert found.choose("nobody.test") is None
    assert found.choose("app.test") is APP
    empty = CertificateMap([], missing=[])
    assert empty.materials == ()
    assert empty.choose("app.test") is None


def heard(tls: ServerTls, name: bytes | None, version: int) -> str:
    """What a client hears who asks for a name: the certificate's first name, or the alert."""
    server = tls.serverConnectionForTLS(object())
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(version)
    client = SSL.Connection(context, None)
    if name is not None:
        client.set_tlsext_host_name(name)
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(4):
        for side, other in ((client, server), (server, client)):
            try:
                side.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                if side is client:
                    return str(error.args[0][0][-1])
            with suppress(SSL.WantReadError):
                other.bio_write(side.bio_read(65536))
    certificate = client.get_peer_certificate()
    assert certificate is not None
    return "app" if certificate.to_cryptography() == APP.certificate else "edge"


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_the_alert_says_why(version: int) -> None:
    tls = ServerTls(certificates("new.test"), [b"http/1.1"])
    assert heard(tls, b"new.test", version) == "tlsv1 unrecognized name"
    assert heard(tls, b"app.test", version) == "app"
    assert heard(tls, b"nobody.test", version) == heard(tls, None, version) == "edge"
    # Its certificate comes.
    new = self_signed("new.test")
    tls.swap(CertificateMap([EDGE, new], EDGE, missing=[]))
    assert heard(tls, b"new.test", version) == "edge"  # neither APP
    assert tls.certificates.choose("new.test") is new
    tls.swap(certificates(default=None))
    assert heard(tls, None, version) == "tlsv1 unrecognized name"


def test_where_the_library_is_another_it_is_refused_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SSL.Connection, "_reverse_mapping", None)
        tls = ServerTls(certificates("new.test"), [b"http/1.1"])
    assert "handshake failure" in heard(tls, b"new.test", SSL.TLS1_3_VERSION)
    assert heard(tls, b"app.test", SSL.TLS1_3_VERSION) == "app"


def test_a_bug_in_choosing_is_one_visitors(logged_failures: Any) -> None:
    context = SSL.Context(SSL.TLS_METHOD)

    def choose(_connection: SSL.Connection) -> bool:
        raise RuntimeError("a bug")

    sni.choose_by_name(context, choose)
    server, client = SSL.Connection(context, None), SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    server.set_accept_state()
    client.set_connect_state()
    with suppress(SSL.WantReadError):
        client.do_handshake()
    server.bio_write(client.bio_read(65536))
    with pytest.raises(SSL.Error):
        server.do_handshake()
    assert len(logged_failures.flush(RuntimeError)) == 1
