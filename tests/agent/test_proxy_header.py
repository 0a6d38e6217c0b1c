"""The PROXY protocol towards the private service: first on each of its connections, and before TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from tests.agent._edge import FakeEdge
from tests.agent._services import LocalServer
from tests.agent.conftest import AgentMaker
from wormhole_tw.agent.bridge import proxy_header
from wormhole_tw.agent.interfaces import IStreamFactory
from wormhole_tw.errors import ProxyHeaderError
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.proxy_protocol import ProxyReader, encode_header
from wormhole_tw.net.tls import CertificateMap, ServerTls
from wormhole_tw.net.tls_transport import TlsAcceptor
from wormhole_tw.wire.codes import ResetCode
from wormhole_tw.wire.messages import Open, TlsFacts, Visitor

VISITOR = Visitor(address="192.0.2.7", port=40000, server_name="app.test", local_address="198.51.100.1", local_port=443)
SECURE = Visitor(
    address="2001:db8::7",
    port=1,
    server_name="app.test",
    local_address="198.51.100.1",
    local_port=443,
    tls=TlsFacts(version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", sni="sni.test", alpn="h2"),
)
NOBODY = encode_header("v2", None)
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n"


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("target", ["{port}", "localhost:{port}", "tcp:127.0.0.1:{port}"])
async def test_it_is_the_first_that_the_service_gets(
    make_agent: AgentMaker, edge: FakeEdge, local: LocalServer, version: Any, target: str
) -> None:
    make_agent(local=target.format(port=local.number))
    link = await edge.ready_link()
    for visitor_facts in (VISITOR, SECURE, None):
        visitor = link.visit(dedicated=visitor_facts is not None, visitor=visitor_facts, proxy_protocol=version)
        visitor.transport.write(b"hello")
        visitor.transport.loseWriteConnection()
        await visitor.end()
        got = bytes(local.connections[-1].received)
        reader = ProxyReader()
        header = reader.feed(got)
        assert header is not None
        assert reader.rest == b"hello"
        if visitor_facts is None:
            assert got == encode_header(version, None) + b"hello"
        elif visitor_facts is VISITOR:
            assert (header.source, header.destination) == (("192.0.2.7", 40000), ("198.51.100.1", 443))
            assert not header.secure
        else:
            # the visitor came to an address of the other family, which the header has no room for
            assert (header.source, header.destination) == (("2001:db8::7", 1), ("::", 443))
            assert (header.secure, header.tls_version, header.authority, header.alpn) == (
                (True, "TLSv1.3", "sni.test", b"") if version == "v2" else (False, "", "", b"")
            )
    # and nobody who does not ask for it
    visitor = link.visit(dedicated=True, visitor=VISITOR)
    visitor.transport.write(b"hello")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"HELLO<5 bytes>"


@pytest.mark.parametrize("address", ["", "unknown", "192.0.2.7\r\nPROXY", "/run/x"])
def test_who_has_no_address_is_nobody(address: str) -> None:
    message = Open(kind="http", dedicated=True, visitor=Visitor(address=address, port=1), proxy_protocol="v1")
    assert proxy_header(message) == b"PROXY UNKNOWN\r\n"


def test_a_shared_stream_has_no_visitor() -> None:
    assert proxy_header(Open(kind="http", visitor=VISITOR, proxy_protocol="v1")) == b"PROXY UNKNOWN\r\n"


def test_whether_a_certificate_was_verified() -> None:
    for fingerprint, client in ((None, b"\x01\0\0\0\1"), ("ab" * 32, b"\x07\0\0\0\0")):
        visitor = Visitor(address="192.0.2.7", port=1, tls=TlsFacts(client_fingerprint=fingerprint))
        header = proxy_header(Open(kind="http", dedicated=True, visitor=visitor, proxy_protocol="v2"))
        assert header.endswith(b"\x20\0\x05" + client)


def test_the_name_that_tls_asks_for() -> None:
    """Of a connection that is passed through it is the visitor's; of one that carries requests, TLS's alone."""

    def named(kind: str, **facts: Any) -> str:
        visitor = Visitor(address="192.0.2.7", port=1, **facts)
        header = ProxyReader().feed(proxy_header(Open(kind=kind, dedicated=True, visitor=visitor, proxy_protocol="v2")))
        assert header is not None
        return header.authority

    assert named("tcp", server_name="vault.test") == "vault.test"
    assert named("http", server_name="vault.test") == ""
    assert named("http", server_name="a.test", tls=TlsFacts(sni="b.test")) == "b.test"
    assert named("tcp", tls=TlsFacts(sni="b.test")) == "b.test"


class HeaderThenTls(Protocol):
    """Takes a header, then TLS, and nothing else."""

    transport: Any

    def __init__(self, service: HeaderService) -> None:
        self.service = service
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        reader = ProxyReader()
        try:
            header = reader.feed(self.data)
        except ProxyHeaderError:
            self.transport.abortConnection()
            return
        if header is not None:
            rest = reader.rest
            self.service.headers.append(self.data.removesuffix(rest))
            echo = Echo()
            tls = self.service.acceptor.wrap(echo)  # type: ignore[arg-type]
            self.transport.protocol = tls
            tls.makeConnection(self.transport)
            if rest:
                tls.dataReceived(rest)


class Echo(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data.upper())
        self.transport.loseConnection()


class HeaderService(Factory):
    noisy = False

    def __init__(self, reactor: Any, ca: DevCa) -> None:
        self.headers: list[bytes] = []
        self.acceptor = TlsAcceptor(reactor, ServerTls(CertificateMap([ca.certificate_for([])]), []))

    def buildProtocol(self, addr: Any) -> HeaderThenTls:
        return HeaderThenTls(self)


async def test_it_stands_before_tls(make_agent: AgentMaker, edge: FakeEdge, reactor: Any, tmp_path: Path) -> None:
    ca = DevCa(tmp_path / "service-ca")
    service = HeaderService(reactor, ca)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(service)
    try:
        # whether it is there is asked with a header too, once the edge has said that it wants one
        edge.granted = ["proxy_protocol"]
        make_agent(local=f"https://localhost:{port.getHost().port}", local_ca_file=str(ca.ca_path), local_timeout=0.3)
        link = await edge.ready_link()
        assert link.hello is not None
        assert "proxy_protocol" in link.hello.options
        for _ in range(2):
            visitor = link.visit(dedicated=True, visitor=VISITOR, proxy_protocol="v1")
            visitor.transport.write(b"hello")
            assert await visitor.end() == b"HELLO"
        assert service.headers == [NOBODY, V1, V1]
    finally:
        await port.stopListening()


async def test_a_service_that_is_not_there(make_agent: AgentMaker, edge: FakeEdge, local: LocalServer) -> None:
    make_agent(local=str(local.number))
    link = await edge.ready_link()
    await local.stop_listening()
    visitor = link.visit(dedicated=True, visitor=VISITOR, proxy_protocol="v2")
    visitor.transport.write(b"hello")
    error = await visitor.failure()
    assert (error.code, error.delivered) == (ResetCode.REFUSED, False)


async def test_an_application_s_endpoint_still_hears_of_the_visitor(
    make_agent: AgentMaker, edge: FakeEdge, reactor: Any, local: LocalServer
) -> None:
    seen: list[Any] = []

    @implementer(IStreamClientEndpoint)
    class Endpoint:
        def connect(self, protocolFactory: IProtocolFactory) -> Any:
            if IStreamFactory.providedBy(protocolFactory):
                seen.append((protocolFactory.peer, protocolFactory.host))
            return TCP4ClientEndpoint(reactor, "127.0.0.1", local.number).connect(protocolFactory)

    make_agent(local=Endpoint())
    link = await edge.ready_link()
    visitor = link.visit(dedicated=True, visitor=VISITOR, proxy_protocol="v1")
    visitor.transport.write(b"hello")
    visitor.transport.loseWriteConnection()
    await visitor.end()
    assert local.connections[-1].received == V1 + b"hello"
    assert [(peer.host, host.hostname) for peer, host in seen if hasattr(peer, "host")] == [("192.0.2.7", b"app.test")]
