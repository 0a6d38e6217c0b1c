"""Dialling through proxies, over real sockets."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.net.proxies import FakeProxy, Names, connect_rules, socks_rules
from wormhole_tw.errors import ProxyRefused
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.proxied import ProxiedEndpoint
from wormhole_tw.net.proxy_settings import parse_proxy
from wormhole_tw.net.tls import CertificateMap, ServerTls, TlsAcceptor, client_creator, wrap_client_tls

MUCH = os.urandom(300_000)


class Echo(Protocol):
    """A service."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(bytes(data))


class Caller(Protocol):
    """Who dialled."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.wanted = 0
        self.came: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self.wanted and not self.came.called:
            self.came.callback(self.data)

    def ask(self, data: bytes) -> Deferred[bytes]:
        self.wanted = len(data)
        self.transport.write(data)
        return self.came

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


def callers() -> Factory:
    factory = Factory.forProtocol(Caller)
    factory.noisy = False
    return factory


async def hang_up(caller: Any) -> None:
    caller.transport.abortConnection()
    await caller.gone


@pytest_twisted.async_yield_fixture
async def service(reactor: Any) -> AsyncIterator[int]:
    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    yield port.getHost().port
    await port.stopListening()


MakeProxy = Callable[..., Any]


@pytest_twisted.async_yield_fixture
async def proxies(reactor: Any) -> AsyncIterator[MakeProxy]:
    """Starts proxies."""
    made: list[FakeProxy] = []

    async def make(rules: Callable[[], Any], **more: Any) -> FakeProxy:
        proxy = FakeProxy(reactor, rules, **more)
        made.append(proxy)
        await proxy.listen()
        return proxy

    yield make
    for proxy in made:
        await proxy.close()


async def test_through_connect_with_a_password(reactor: Any, service: int, proxies: MakeProxy) -> None:
    wanted = b64encode(b"user:p@ss").decode()
    proxy = await proxies(lambda: connect_rules(authorization=wanted))
    settings = parse_proxy(f"http://user:p%40ss@localhost:{proxy.number}")
    caller: Any = await ProxiedEndpoint(reactor, settings, "127.0.0.1", service).connect(callers())
    assert await caller.ask(MUCH) == MUCH
    await hang_up(caller)


async def test_without_the_password(reactor: Any, service: int, proxies: MakeProxy) -> None:
    proxy = await proxies(lambda: connect_rules(authorization="x"))
    settings = parse_proxy(f"http://localhost:{proxy.number}", "ALL_PROXY")
    with pytest.raises(ProxyRefused, match=r"wants a user and a password \(407\): write .* in ALL_PROXY") as raised:
        await ProxiedEndpoint(reactor, settings, "127.0.0.1", service).connect(callers())
    assert raised.value.status == 407


async def test_through_socks_with_the_proxys_names(reactor: Any, service: int, proxies: MakeProxy) -> None:
    seen: list[bytes] = []
    proxy = await proxies(lambda: socks_rules(seen))
    settings = parse_proxy(f"socks5h://127.0.0.1:{proxy.number}")
    # a name that nobody but the proxy knows
    caller: Any = await ProxiedEndpoint(reactor, settings, "edge.invalid", service).connect(callers())
    assert await caller.ask(MUCH) == MUCH
    assert seen == [b"\x03\x0cedge.invalid"]
    await hang_up(caller)


async def test_through_socks_with_our_own_names(reactor: Any, service: int, proxies: MakeProxy) -> None:
    seen: list[bytes] = []
    proxy = await proxies(lambda: socks_rules(seen))
    settings = parse_proxy(f"socks5://127.0.0.1:{proxy.number}")
    caller: Any = await ProxiedEndpoint(reactor, settings, "localhost", service).connect(callers())
    assert seen[-1] in (b"\x01\x7f\x00\x00\x01", b"\x04" + bytes(15) + b"\x01")
    await hang_up(caller)


@pytest.mark.parametrize("no", [5, None], ids=["says no", "hangs up, as ssh -D"])
async def test_each_address_of_a_name_is_tried(reactor: Any, service: int, proxies: MakeProxy, no: int | None) -> None:
    seen: list[bytes] = []
    proxy = await proxies(lambda: socks_rules(seen, reply=0 if len(seen) else no))
    settings = parse_proxy(f"socks5://127.0.0.1:{proxy.number}")
    with Names(reactor, {"edge.test": ["192.0.2.1", "192.0.2.2"]}):
        caller: Any = await ProxiedEndpoint(reactor, settings, "edge.test", service).connect(callers())
    assert seen == [b"\x01\xc0\x00\x02\x01", b"\x01\xc0\x00\x02\x02"]
    await hang_up(caller)


async def test_no_address_is_taken(reactor: Any, service: int, proxies: MakeProxy) -> None:
    seen: list[bytes] = []
    proxy = await proxies(lambda: socks_rules(seen, reply=2))
    settings = parse_proxy(f"socks5://127.0.0.1:{proxy.number}")
    with (
        Names(reactor, {"edge.test": ["192.0.2.1", "192.0.2.2"]}),
        pytest.raises(ProxyRefused, match=r"does not connect to 192.0.2.2:\d+: its rules do not allow it"),
    ):
        await ProxiedEndpoint(reactor, settings, "edge.test", service).connect(callers())
    assert len(seen) == 2


async def test_a_name_that_is_not_known_here(reactor: Any, proxies: MakeProxy) -> None:
    proxy = await proxies(lambda: socks_rules([]))
    settings = parse_proxy(f"socks5://127.0.0.1:{proxy.number}")
    with Names(reactor, {}), pytest.raises(DNSLookupError):
        await ProxiedEndpoint(reactor, settings, "edge.test", 443).connect(callers())
    assert proxy.connections == 0


async def test_tls_to_the_proxy_and_within(reactor: Any, service: int, proxies: MakeProxy, tmp_path: Any) -> None:
    ca = DevCa(tmp_path)
    server = ServerTls(CertificateMap([ca.certificate_for(["localhost"])]), [b"http/1.1"])
    # the service speaks TLS too: TLS in TLS
    inner = await proxies(lambda: connect_rules(), wrap=lambda _: TlsAcceptor(reactor, server).wrap(Echo()))
    proxy = await proxies(connect_rules, wrap=lambda protocol: TlsAcceptor(reactor, server).wrap(protocol))
    creator = client_creator("localhost", ca_file=ca.ca_path, alpn=[b"http/1.1"])
    settings = parse_proxy(f"https://localhost:{proxy.number}")
    below = ProxiedEndpoint(reactor, settings, "127.0.0.1", inner.number, creator=creator)
    caller: Any = await wrap_client_tls(reactor, creator, below).connect(callers())
    assert await caller.ask(MUCH) == MUCH
    await hang_up(caller)


async def test_a_proxy_whose_certificate_is_not_trusted(reactor: Any, proxies: MakeProxy, tmp_path: Any) -> None:
    server = ServerTls(CertificateMap([DevCa(tmp_path).certificate_for(["localhost"])]), [b"http/1.1"])
    proxy = await proxies(connect_rules, wrap=lambda protocol: TlsAcceptor(reactor, server).wrap(protocol))
    settings = parse_proxy(f"https://localhost:{proxy.number}")
    with pytest.raises(ProxyRefused, match=r"no TLS with the proxy https://localhost:.* not signed by a CA"):
        await ProxiedEndpoint(reactor, settings, "127.0.0.1", 1, creator=client_creator("localhost")).connect(callers())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"220 mail.example ESMTP\r\n", "is not an HTTP proxy: it is not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20000, "is not an HTTP proxy: its head is longer"),
        (None, "closed the connection without an answer; is it a proxy"),
        (b"", "did not answer within 1 s"),
    ],
)
async def test_what_is_no_proxy(reactor: Any, said: bytes | None, reason: str) -> None:
    class Stranger(Protocol):
        transport: Any

        def dataReceived(self, data: bytes) -> None:
            if said is None:
                self.transport.loseConnection()
            elif said:
                self.transport.write(said)

    factory = Factory.forProtocol(Stranger)
    factory.noisy = False
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    settings = parse_proxy(f"http://127.0.0.1:{port.getHost().port}")
    timeout = 1.0 if said == b"" else 10.0
    with pytest.raises(ProxyRefused, match=reason):
        await ProxiedEndpoint(reactor, settings, "127.0.0.1", 443, timeout=timeout).connect(callers())
    await port.stopListening()


async def test_nobody_there(reactor: Any) -> None:
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Echo))
    number = port.getHost().port
    await port.stopListening()
    with pytest.raises(ProxyRefused, match="refuses connections; is it running there"):
        await ProxiedEndpoint(reactor, parse_proxy(f"127.0.0.1:{number}"), "127.0.0.1", 1).connect(callers())


async def test_a_proxy_of_a_name_that_nobody_knows(reactor: Any) -> None:
    with Names(reactor, {}), pytest.raises(ProxyRefused, match=r"the host name of the proxy http://p.test:1080 is not"):
        await ProxiedEndpoint(reactor, parse_proxy("p.test"), "127.0.0.1", 1).connect(callers())


async def test_it_can_be_given_up(reactor: Any, proxies: MakeProxy) -> None:
    asked: Deferred[None] = Deferred()

    def silent(data: bytes) -> None:
        if not asked.called:
            asked.callback(None)

    proxy = await proxies(lambda: silent)
    dialled = ProxiedEndpoint(reactor, parse_proxy(f"127.0.0.1:{proxy.number}"), "127.0.0.1", 1).connect(callers())
    await asked
    dialled.cancel()
    with pytest.raises(CancelledError):
        await dialled


async def test_a_factory_that_fails(reactor: Any, service: int, proxies: MakeProxy) -> None:
    class Broken(Factory):
        noisy = False

        def buildProtocol(self, addr: object) -> Any:
            raise RuntimeError("no")

    proxy = await proxies(connect_rules)
    endpoint = ProxiedEndpoint(reactor, parse_proxy(f"127.0.0.1:{proxy.number}"), "127.0.0.1", service)
    with pytest.raises(RuntimeError):
        await endpoint.connect(Broken())
