"""Ports from descriptions: open at once, or one error that names the setting."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.listening import open_port
from wormhole_tw.net.transport import KEEPALIVE_IDLE, NOTSENT_LOWAT, tune

TCP_NOTSENT_LOWAT = 25
"""Linux's number; Python 3.11 has no name for it everywhere."""


def quiet() -> Factory:
    factory: Factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    return factory


def refused(reactor: Any, description: str) -> str:
    with pytest.raises(ConfigError) as caught:
        open_port(reactor, description, quiet(), source="edge.toml", key="$.edge.https[0]")
    text = str(caught.value)
    assert text.startswith("edge.toml: $.edge.https[0]: ")
    assert "\n" not in text
    return text


async def test_it_listens_at_once(reactor: Any) -> None:
    port: Any = open_port(reactor, "tcp:0:interface=127.0.0.1", quiet(), source="edge.toml", key="$.edge.https[0]")
    assert port.getHost().port
    assert "Address already in use" in refused(reactor, f"tcp:{port.getHost().port}:interface=127.0.0.1")
    await port.stopListening()


async def test_what_a_port_accepts_is_tuned_as_what_is_dialled(reactor: Any, transports: str) -> None:
    accepted: Deferred[Any] = Deferred()
    lost: Deferred[None] = Deferred()

    class Visitor(Protocol):
        def connectionMade(self) -> None:
            tune(self.transport)
            accepted.callback(self.transport)

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            lost.callback(None)

    factory: Factory = Factory.forProtocol(Visitor)
    factory.noisy = False
    port: Any = open_port(reactor, "tcp:0:interface=127.0.0.1", factory, source="test", key="port")
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as visitor:
        transport = await accepted
        assert getattr(transport, "tuned", False) is (transports == "fast" and sys.platform == "linux")
        found = transport.getHandle()
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE
            assert found.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT) == NOTSENT_LOWAT
        transport.loseConnection()
        await lost
        assert visitor.recv(1) == b""
        await port.stopListening()


async def test_an_ipv6_address_that_is_not_escaped_is_told_how(reactor: Any) -> None:
    assert r"tcp6:443:interface=\:\:1" in refused(reactor, "tcp:8443:interface=::1")


async def test_what_is_no_description_is_said_so(reactor: Any) -> None:
    for description in ("nonsense:1", "tcp:port", "tcp"):
        assert "is no endpoint description" in refused(reactor, description)


async def test_an_address_that_is_not_ours_is_refused(reactor: Any) -> None:
    # class E: no machine has one of these, where those for documentation are somebody's network now and then
    assert "cannot listen on" in refused(reactor, "tcp:0:interface=240.0.0.1")
