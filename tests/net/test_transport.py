"""What is set on every socket, under TLS too."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.fakes import BoundedTransport
from tests.net.peers import SslPeer, server_context
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tls import client_creator, wrap_client_tls
from wormhole_tw.net.transport import (
    NOTSENT_LOWAT,
    NOTSENT_LOWAT_SLOW,
    limit_unsent,
    socket_of,
    transport_below,
    tune,
    unsent,
)


class Quiet(Protocol):
    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


async def connected(reactor: Any, tmp_path: Path, kind: str) -> tuple[Quiet, Any, list[Any]]:
    accepted: list[Any] = []
    authority = DevCa(tmp_path / "dev")
    context = server_context(tmp_path, authority.certificate_for([]))

    def accept() -> Any:
        accepted.append(SslPeer(context, server_side=True) if kind == "tls" else Quiet())
        return accepted[-1]

    factory = Factory.forProtocol(accept)  # type: ignore[arg-type]
    factory.noisy = False
    path = str(tmp_path / "socket")
    listening: Any = (
        UNIXServerEndpoint(reactor, path) if kind == "unix" else TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    )
    port = await listening.listen(factory)
    endpoint: Any
    if kind == "unix":
        endpoint = UNIXClientEndpoint(reactor, path)
    else:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    if kind == "tls":
        endpoint = wrap_client_tls(reactor, client_creator("localhost", ca_pem=authority.ca_pem), endpoint)
    quiet = Quiet()
    await connectProtocol(endpoint, quiet)
    return quiet, port, accepted


@pytest.mark.parametrize("kind", ["tcp", "tls", "unix"])
async def test_tune(reactor: Any, tmp_path: Path, kind: str) -> None:
    quiet, port, accepted = await connected(reactor, tmp_path, kind)
    found = socket_of(quiet.transport)
    assert found is not None
    tune(quiet.transport)
    if kind != "unix":
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == NOTSENT_LOWAT
    quiet.transport.abortConnection()  # type: ignore[union-attr]
    await quiet.lost
    tune(quiet.transport)
    await (accepted[0].gone() if kind == "tls" else accepted[0].lost)
    await port.stopListening()


@pytest.mark.parametrize("kind", ["tcp", "tls", "unix"])
async def test_what_has_not_reached_the_peer(reactor: Any, tmp_path: Path, kind: str) -> None:
    quiet, port, accepted = await connected(reactor, tmp_path, kind)
    transport: Any = quiet.transport
    while not (accepted and accepted[0].transport):
        await deferLater(reactor, 0.01)
    accepted[0].transport.pauseProducing()
    transport.write(b"x" * 60_000)
    if kind == "tls":
        assert unsent(transport) >= 60_000, "it waits for the end of the turn"
    transport.write(b"x" * 20_000_000)
    await deferLater(reactor, 0.05)
    before = unsent(transport)
    assert before > 1_000_000
    accepted[0].transport.resumeProducing()
    while unsent(transport):
        await deferLater(reactor, 0.01)
    transport.abortConnection()
    await quiet.lost
    await (accepted[0].gone() if kind == "tls" else accepted[0].lost)
    await port.stopListening()


@pytest.mark.parametrize("kind", ["tcp", "tls", "unix"])
async def test_a_limit_of_unsent_octets(reactor: Any, tmp_path: Path, kind: str) -> None:
    quiet, port, accepted = await connected(reactor, tmp_path, kind)
    below = transport_below(quiet.transport)
    found = socket_of(below)
    assert found is not None
    tune(quiet.transport)
    limit_unsent(quiet.transport, NOTSENT_LOWAT_SLOW)
    if kind != "unix" and sys.platform == "linux":
        assert found.getsockopt(socket.IPPROTO_TCP, 25) == NOTSENT_LOWAT_SLOW
        assert getattr(below, "unsent_limit", NOTSENT_LOWAT_SLOW) == NOTSENT_LOWAT_SLOW
    quiet.transport.abortConnection()  # type: ignore[union-attr]
    await quiet.lost
    limit_unsent(quiet.transport, NOTSENT_LOWAT)
    await (accepted[0].gone() if kind == "tls" else accepted[0].lost)
    await port.stopListening()


def test_what_is_no_socket_is_left_alone() -> None:
    limit_unsent(BoundedTransport(), NOTSENT_LOWAT)
    assert unsent(BoundedTransport()) == 0
    tune(BoundedTransport())
    tune(None)
    assert socket_of(object()) is None
    with socket.socketpair()[0] as one:
        one.close()

        class Closed:
            socket = one

        tune(Closed())
        assert unsent(Closed()) == 0


def test_an_option_that_the_kernel_refuses_is_passed_over() -> None:
    class Gone:
        socket = socket.socket()
        bufferSize = 1

    Gone.socket.close()
    gone = Gone()
    tune(gone)
    Gone.socket = socket.socket()
    Gone.socket.detach()
    tune(gone)


def test_a_circle_of_wrappers_ends() -> None:
    class Wrapper:
        transport: Any = None

    one, other = Wrapper(), Wrapper()
    one.transport, other.transport = other, one
    assert socket_of(one) is None
