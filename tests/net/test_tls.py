"""The server side of TLS against the standard library: SNI, ALPN, reload, resumption; the certificate map by itself."""

from __future__ import annotations

import gc
import ssl
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.net.peers import SslPeer, client_context, self_signed
from wormhole_tw.errors import ConfigError
from wormhole_tw.net import tls as tls_module
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.immediate import immediate_port
from wormhole_tw.net.pem import KeyMaterial
from wormhole_tw.net.tls import CertificateMap, ServedTls, ServerTls
from wormhole_tw.net.tls_halves import HalfClosingTls
from wormhole_tw.net.tls_transport import TlsAcceptor, tls_connection_of


@implementer(IHandshakeListener)
class Echo(Protocol):
    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.lost: Deferred[None] = Deferred()
        self.served: ServedTls | None = None

    def connectionMade(self) -> None:
        assert ServerTls.served(self.transport) is None
        self.edge.connections.append(self)

    def handshakeCompleted(self) -> None:
        self.served = ServerTls.served(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class _Accept(Protocol):
    """As the edge does: reads the first bytes, then gives them to TLS."""

    tls: HalfClosingTls | None = None

    def __init__(self, edge: Edge) -> None:
        self.edge = edge

    def dataReceived(self, data: bytes) -> None:
        if self.tls is None:
            self.tls = self.edge.acceptor.wrap(Echo(self.edge))
            self.tls.makeConnection(self.transport)  # type: ignore[no-untyped-call]
        self.tls.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.tls is not None:
            self.tls.connectionLost(reason)


class Edge:
    """A listener that ends TLS and echoes."""

    def __init__(self, reactor: Any, certificates: CertificateMap, alpn: list[bytes]) -> None:
        self.reactor = reactor
        self.tls = ServerTls(certificates, alpn)
        self.acceptor = TlsAcceptor(reactor, self.tls)
        self.connections: list[Echo] = []
        self.peers: list[SslPeer] = []

    async def listen(self) -> None:
        factory: Factory = Factory.forProtocol(lambda: _Accept(self))  # type: ignore[arg-type]
        factory.noisy = False
        listening = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        self.port: Any = immediate_port(await listening.listen(factory))

    async def stop(self) -> None:
        for peer in self.peers:
            if peer.lost is None and peer.transport is not None:
                peer.transport.abortConnection()  # type: ignore[attr-defined]
                await peer.gone()
        for connection in self.connections:
            if not connection.lost.called:
                await connection.lost
        await self.port.stopListening()

    async def dial(
        self, context: ssl.SSLContext, name: str | None, *, session: Any = None, cut: int = 0, wait: bool = True
    ) -> SslPeer:
        peer = SslPeer(context, server_hostname=name, session=session, cut=cut)
        self.peers.append(peer)
        await connectProtocol(TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port.getHost().port), peer)
        if wait:
            await peer.handshake()
        return peer

    async def served(self, peer: SslPeer, index: int = -1) -> ServedTls:
        peer.send(b"x")
        assert await peer.read(1) == b"x"
        served = self.connections[index].served
        assert served is not None
        return served


def serial(peer: SslPeer) -> int:
    from cryptography import x509

    der = peer.tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture
def materials(authority: DevCa) -> dict[str, KeyMaterial]:
    return {
        "edge": authority.certificate_for(["edge.test"]),
        "app": authority.certificate_for(["app.example.test"]),
        "wild": authority.certificate_for(["*.example.test"]),
    }


@pytest_twisted.async_yield_fixture
async def edge(reactor: Any, materials: dict[str, KeyMaterial]) -> AsyncIterator[Edge]:
    made = Edge(reactor, CertificateMap(materials.values()), [b"wormhole/1", b"http/1.1"])
    await made.listen()
    yield made
    await made.stop()


def test_map_chooses(materials: dict[str, KeyMaterial]) -> None:
    certificates = CertificateMap([materials["wild"], materials["app"]], default=materials["edge"])
    assert certificates.choose("app.example.test") is materials["app"]
    assert certificates.choose("App.Example.Test.") is materials["app"]
    assert certificates.choose("x.example.test") is materials["wild"]
    assert certificates.choose("a.b.example.test") is materials["edge"]
    assert certificates.choose("example.test") is materials["edge"]
    assert certificates.choose(None) is materials["edge"]
    assert certificates.find("nobody") is None
    assert certificates.find("::1") is materials["wild"]  # the first that has it
    assert certificates.materials == (materials["wild"], materials["app"], materials["edge"])
    assert CertificateMap([materials["app"]]).default is materials["app"]
    with pytest.raises(ValueError, match="at least one"):
        CertificateMap([])


def test_an_address_as_server_name_counts_as_none(materials: dict[str, KeyMaterial]) -> None:
    """RFC 6066 allows none, and wrk sends one."""
    tls = ServerTls(CertificateMap(materials.values()), [b"http/1.1"])
    server = tls.serverConnectionForTLS(TlsAcceptor(Clock(), tls).wrap(Protocol()))
    client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    client.set_tlsext_host_name(b"127.0.0.1")
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(3):
        for side, other in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                side.do_handshake()
            with suppress(SSL.WantReadError):
                other.bio_write(side.bio_read(65536))
    assert server.get_servername() == b"127.0.0.1"
    served = ServerTls.served(_Handle(server))
    assert served is not None
    assert served.server_name is None
    assert not served.misdirected("app.example.test")


class _Handle:
    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def getHandle(self) -> SSL.Connection:
        return self._connection


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sni_chooses_the_certificate(
    edge: Edge, authority: DevCa, materials: dict[str, KeyMaterial], version: ssl.TLSVersion
) -> None:
    context = client_context(authority.ca_pem)
    context.maximum_version = version
    for name, material in (
        ("app.example.test", "app"),
        ("other.example.test", "wild"),
        ("edge.test", "edge"),
        ("localhost", "edge"),
    ):
        peer = await edge.dial(context, name)
        assert serial(peer) == materials[material].certificate.serial_number
        served = await edge.served(peer)
        assert served.server_name == name
        assert served.material is materials[material]
        assert served.alpn is None
        assert served.version == peer.tls.version()
        assert served.cipher == peer.tls.cipher()[0]  # type: ignore[index]
        assert served.covers(name.upper() + ".")
        assert not served.misdirected(name)
    assert edge.connections[1].served is not None
    assert edge.connections[1].served.misdirected("edge.test")
    assert not edge.connections[1].served.misdirected("third.example.test")


async def test_no_sni_and_unknown_sni_get_the_default(edge: Edge, materials: dict[str, KeyMaterial]) -> None:
    for name in (None, "unknown.test", "127.0.0.1"):
        peer = await edge.dial(client_context(), name)
        assert serial(peer) == materials["edge"].certificate.serial_number
        served = await edge.served(peer)
        assert served.server_name == (name if name == "unknown.test" else None)
        assert served.misdirected("app.example.test") is (name == "unknown.test")


async def test_an_address_is_verified_too(edge: Edge, authority: DevCa) -> None:
    await edge.dial(client_context(authority.ca_pem), "127.0.0.1")


async def test_alpn(edge: Edge) -> None:
    for offered, agreed in (
        (["http/1.1", "wormhole/1"], "wormhole/1"),
        (["h2", "http/1.1"], "http/1.1"),
        ([], None),
    ):
        peer = await edge.dial(client_context(alpn=offered), "app.example.test")
        assert peer.tls.selected_alpn_protocol() == agreed
        assert (await edge.served(peer)).alpn == (agreed.encode() if agreed else None)
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        await edge.dial(client_context(alpn=["smtp"]), "app.example.test")


async def test_bytes_cut_at_every_place(edge: Edge, authority: DevCa) -> None:
    peer = await edge.dial(client_context(authority.ca_pem), "app.example.test", cut=1)
    data = bytes(range(256)) * 300
    peer.send(data)
    assert await peer.read(len(data)) == data


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
async def test_ciphers_and_versions(edge: Edge) -> None:
    peer = await edge.dial(client_context(), "app.example.test")
    assert peer.tls.version() == "TLSv1.3"
    old = client_context()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)version|protocol"):
        await edge.dial(old, "app.example.test")
    weak = client_context()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
        await edge.dial(weak, "app.example.test")


@pytest.mark.parametrize(("curve", "agreed"), [("prime256v1", True), ("secp384r1", True), ("secp521r1", False)])
async def test_groups(edge: Edge, curve: str, agreed: bool) -> None:
    context = client_context()
    context.set_ecdh_curve(curve)  # for TLS 1.3; one of TLS 1.2 would name the certificate's curve, too
    if agreed:
        await edge.dial(context, "app.example.test")
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            await edge.dial(context, "app.example.test")


async def test_swap_serves_the_new_and_leaves_the_old(edge: Edge, authority: DevCa) -> None:
    context = client_context(authority.ca_pem)
    before = await edge.dial(context, "app.example.test")
    await edge.served(before)
    old = edge.tls.certificates
    renewed, added = authority.certificate_for(["app.example.test"]), authority.certificate_for(["new.test"])
    edge.tls.swap(CertificateMap([renewed, added]))
    assert edge.tls.certificates is not old
    for name, material in (("app.example.test", renewed), ("new.test", added)):
        peer = await edge.dial(context, name)
        assert serial(peer) == material.certificate.serial_number
    before.send(b"still here")
    assert await before.read(10) == b"still here"
    served = ServerTls.served(edge.connections[0].transport)
    assert served == edge.connections[0].served


async def test_what_a_name_led_to_is_kept_until_there_are_others(
    edge: Edge, authority: DevCa, materials: dict[str, KeyMaterial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "MAX_CHOSEN", 2)
    context = client_context(authority.ca_pem)
    app, wild = materials["app"].certificate.serial_number, materials["wild"].certificate.serial_number
    for name, number in [("app.example.test", app), ("b.example.test", wild), ("c.example.test", wild)] * 2:
        assert serial(await edge.dial(context, name)) == number
        assert serial(await edge.dial(context, name)) == number
    renewed = authority.certificate_for(["app.example.test"])
    edge.tls.swap(CertificateMap([renewed]))
    for _ in range(2):
        assert serial(await edge.dial(context, "app.example.test")) == renewed.certificate.serial_number


async def test_what_is_over_is_freed_without_the_collector(
    edge: Edge, authority: DevCa, reactor: Any, way_through_openssl: str
) -> None:
    if way_through_openssl == "twisted":
        return  # its own circle of connection and transport waits for the collector
    gc.collect()
    gc.disable()
    try:
        peer = await edge.dial(client_context(authority.ca_pem), "app.example.test")
        await edge.served(peer)
        engine = edge.connections[-1].transport
        held = [weakref.ref(engine), weakref.ref(tls_connection_of(engine))]
        del engine
        peer.close_notify()
        await edge.connections[-1].lost
        await peer.gone()
        edge.connections.clear()
        for _ in range(100):
            await deferLater(reactor, 0)
        assert [each() for each in held] == [None, None]
    finally:
        gc.enable()


async def test_a_swap_in_the_middle_of_a_handshake(edge: Edge, authority: DevCa) -> None:
    peer = await edge.dial(client_context(authority.ca_pem), "app.example.test", wait=False)
    edge.tls.swap(CertificateMap([authority.certificate_for(["app.example.test"])]))
    await peer.handshake()


def test_a_bad_swap_keeps_the_old_map(materials: dict[str, KeyMaterial]) -> None:
    tls = ServerTls(CertificateMap([materials["app"]]), [])
    old = tls.certificates
    wrong = KeyMaterial(
        materials["app"].certificate, (), rsa.generate_private_key(65537, 2048), ("app.example.test",), "site.crt"
    )
    with pytest.raises(ConfigError, match=r"^site.crt: TLS cannot use this certificate or key"):
        tls.swap(CertificateMap([wrong]))
    assert tls.certificates is old


async def test_ed25519_and_rsa_certificates(reactor: Any) -> None:
    keys: list[Any] = [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)]
    for key in keys:
        material = self_signed("a.example", key=key)
        edge = Edge(reactor, CertificateMap([material]), [])
        await edge.listen()
        peer = await edge.dial(
            client_context(material.certificate.public_bytes(Encoding.PEM), strict=False), "a.example"
        )
        assert peer.shaken
        await edge.stop()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sessions_are_resumed_under_sni_and_over_a_reload(
    edge: Edge, authority: DevCa, version: ssl.TLSVersion
) -> None:
    context = client_context(authority.ca_pem)
    context.maximum_version = version
    first = await edge.dial(context, "app.example.test")
    await edge.served(first)
    session = first.tls.session
    again = await edge.dial(context, "app.example.test", session=session)
    assert again.tls.session_reused
    served = await edge.served(again)
    assert served.server_name == "app.example.test"
    assert served.covers("app.example.test")
    edge.tls.swap(CertificateMap([authority.certificate_for(["app.example.test"])]))
    later = await edge.dial(context, "app.example.test", session=again.tls.session)
    assert later.tls.session_reused
    assert (await edge.served(later)).covers("app.example.test")


async def test_what_is_no_tls_ends_the_connection(edge: Edge, reactor: Any) -> None:
    class Plain(Protocol):
        def __init__(self) -> None:
            self.lost: Deferred[None] = Deferred()

        def connectionMade(self) -> None:
            self.transport.write(b"\x16\x03\x01\x00\x10 this is no ClientHello")  # type: ignore[union-attr]

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            self.lost.callback(None)

    plain = Plain()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", edge.port.getHost().port), plain)
    await plain.lost
    assert edge.connections[0].served is None


@implementer(IHandshakeListener)
class Greeter(Echo):
    """Speaks before the handshake is done, and says at once that this is all."""

    half = True

    def connectionMade(self) -> None:
        self.edge.connections.append(self)
        self.transport.write(b"220 " + b"hello " * 20_000)  # type: ignore[union-attr]
        if self.half:
            self.transport.loseWriteConnection()  # type: ignore[union-attr]
        else:
            self.transport.loseConnection()  # type: ignore[union-attr]


@pytest.mark.parametrize("half", [True, False])
async def test_what_is_written_before_the_handshake_is_sent_after_it(
    edge: Edge, authority: DevCa, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    monkeypatch.setattr(Greeter, "half", half)
    monkeypatch.setattr(edge.acceptor, "wrap", lambda _protocol, wrap=edge.acceptor.wrap: wrap(Greeter(edge)))
    peer = await edge.dial(client_context(authority.ca_pem), "app.example.test")
    await peer.until(lambda: peer.closed)
    assert peer.received == b"220 " + b"hello " * 20_000
    peer.close_notify()
    await edge.connections[0].lost
    await peer.gone()


async def test_closed_before_a_word_was_said(edge: Edge, authority: DevCa, reactor: Any) -> None:
    class Shy(Greeter):
        def connectionMade(self) -> None:
            self.edge.connections.append(self)
            self.transport.loseConnection()  # type: ignore[union-attr]

    edge.acceptor.wrap, wrap = (lambda _protocol: wrap(Shy(edge))), edge.acceptor.wrap  # type: ignore[method-assign]
    peer = await edge.dial(client_context(authority.ca_pem), "app.example.test", wait=False)
    await peer.gone()
    assert not peer.shaken
