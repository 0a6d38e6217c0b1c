"""Contexts and certificates are made when somebody needs them, and what cannot be served is refused before."""

from __future__ import annotations

import gc
import weakref

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.net.peers import self_signed
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.certificate_map import CertificateMap, Promised
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.pem import KeyMaterial
from wormhole_tw.net.server_contexts import ServerContexts, material_of
from wormhole_tw.net.tls_policy import INTERMEDIATE


def contexts() -> ServerContexts:
    return ServerContexts((b"http/1.1",), INTERMEDIATE)


def test_a_context_is_made_once_and_says_for_what() -> None:
    one, other = self_signed("one.test"), self_signed("other.test")
    made = contexts()
    made.keep([one, other], ())
    context = made.of(one)
    assert made.of(one) is context
    assert made.of(other) is not context
    assert material_of(context) is one


def test_what_stays_keeps_its_context_and_what_goes_leaves_it() -> None:
    stays, goes = self_signed("stays.test"), self_signed("goes.test")
    made = contexts()
    made.keep([stays, goes], ())
    kept, left = made.of(stays), weakref.ref(made.of(goes))
    made.keep([stays, self_signed("new.test")], ())
    gc.collect()
    assert made.of(stays) is kept
    assert left() is None


@pytest.mark.parametrize("fault", ["not the certificate's", "too small"])
def test_what_openssl_refuses_is_named_and_nothing_changes(fault: str) -> None:
    good, key = self_signed("good.test"), rsa.generate_private_key(65537, 2048)
    made = contexts()
    made.keep([good, self_signed("other.test", key=key)], ())
    context = made.of(good)
    certificate = good.certificate
    if fault == "too small":
        key = rsa.generate_private_key(65537, 1024)  # bits, which nobody takes any more
        certificate = self_signed("bad.test", key=key).certificate
    bad = KeyMaterial(certificate, (), key, ("bad.test",), "site.crt")
    with pytest.raises(ConfigError, match=f"^site.crt: TLS cannot use this certificate or key: .*{fault}"):
        made.keep([good, bad], ())
    made.keep([good], ())
    assert made.of(good) is context


def test_a_promise_is_kept_when_a_visitor_asks(authority: DevCa) -> None:
    asked = []

    def make() -> KeyMaterial:
        asked.append(1)
        return authority.certificate_for(["app.test"])

    there = self_signed("edge.test")
    promise = Promised(("app.test", "*.app.test"), make)
    certificates = CertificateMap([there, promise])
    assert certificates.materials == (there,)
    assert certificates.serves("app.test") is certificates.serves("*.app.test") is None
    assert certificates.choose("other.test") is there
    assert not asked
    material = certificates.choose("x.app.test")
    assert material is certificates.choose("app.test") is certificates.serves("*.app.test") is promise.made
    assert certificates.materials == (there, material)
    assert len(asked) == 1


def test_the_default_is_there_from_the_beginning(authority: DevCa) -> None:
    promise = Promised(("edge.test",), lambda: authority.certificate_for(["edge.test"]))
    certificates = CertificateMap([promise], promise)
    assert certificates.default is certificates.choose(None) is promise.made
    assert certificates.materials == (promise.made,)
