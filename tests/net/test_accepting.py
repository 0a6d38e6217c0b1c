"""Connections taken by fewer calls than Twisted's: the same transports, and the same ends of whatever goes wrong."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests._harness import LoggedFailures
from tests.net.pairs import turn
from wormhole_tw.net.immediate import ImmediateServer
from wormhole_tw.net.listening import open_port

pytestmark = pytest.mark.usefixtures("ours")

LOOPBACKS = [r"tcp:0:interface=127.0.0.1", r"tcp6:0:interface=\:\:1"]


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORMHOLE_TRANSPORTS", "fast")


class Seen(Protocol):
    """Remembers how it began and ended."""

    transport: Any

    def __init__(self, house: House) -> None:
        self.house = house
        self.ended: Deferred[BaseException] = Deferred()

    def connectionMade(self) -> None:
        if self.house.fault is not None:
            raise self.house.fault
        self.house.begun.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(reason.value)


class House(Factory):
    """Takes whom it wants."""

    noisy = False

    def __init__(self) -> None:
        self.begun: list[Seen] = []
        self.addresses: list[Any] = []
        self.closed = False
        self.fault: Exception | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        self.addresses.append(addr)
        return None if self.closed else Seen(self)


class Street:
    """A port with such a house behind it, and plain sockets as its visitors."""

    def __init__(self, reactor: Any, description: str = LOOPBACKS[0]) -> None:
        self.reactor = reactor
        self.house = House()
        self.port: Any = open_port(reactor, description, self.house, source="test", key="port")
        self.visitors: list[socket.socket] = []

    async def __aenter__(self) -> Street:
        return self

    async def __aexit__(self, *_: object) -> None:
        for visitor in self.visitors:
            visitor.close()
        for seen in self.house.begun:
            if not seen.ended.called:
                await seen.ended
        await self.port.stopListening()

    def visit(self) -> socket.socket:
        at = self.port.getHost()
        visitor = socket.create_connection((at.host, at.port))
        self.visitors.append(visitor)
        return visitor

    async def until_begun(self, count: int) -> None:
        while len(self.house.begun) < count:
            await turn(self.reactor)


@pytest.mark.parametrize("description", LOOPBACKS)
async def test_a_transport_has_what_twisteds_has(reactor: Any, description: str) -> None:
    async with Street(reactor, description) as street:
        visitor = street.visit()
        await street.until_begun(1)
        (seen,) = street.house.begun
        transport = seen.transport
        assert type(transport) is ImmediateServer
        assert transport.getPeer() == street.house.addresses[0]
        assert (transport.getPeer().host, transport.getPeer().port) == visitor.getsockname()[:2]
        assert (transport.getHost().host, transport.getHost().port) == visitor.getpeername()[:2]
        assert transport.socket.getblocking() is False
        assert not os.get_inheritable(transport.fileno())
        assert transport.logPrefix() == f"Seen,0,{visitor.getsockname()[0]}"
        assert repr(transport) == f"<Seen #0 on {street.port.getHost().port}>"

        near, far = socket.socketpair()
        with near, far:
            client = visitor.getsockname()
            plain: Any = tcp.Server
            twisteds = plain(near, seen, client[:2] if len(client) == 2 else client, street.port, 0, reactor)
            reactor.removeReader(twisteds)
            # what every write looks at, which Twisted's find with their class
            early = {"_writeDisconnecting", "_writeDisconnected", "_aborting", "TLS"}
            assert {name: vars(transport)[name] for name in early} == {name: getattr(twisteds, name) for name in early}
            own = early | {"bufferSize", "_read_size"}
            assert set(vars(twisteds)) - {"logstr", "repstr"} == set(vars(transport)) - own
            assert twisteds.logPrefix() == transport.logPrefix()
            assert repr(twisteds) == repr(transport)


@pytest.mark.parametrize("wanted", [True, False])
async def test_it_ends_and_what_it_held_is_given_back(reactor: Any, wanted: bool) -> None:
    async with Street(reactor) as street:
        visitor = street.visit()
        await street.until_begun(1)
        (seen,) = street.house.begun
        transport, descriptor = seen.transport, seen.transport.fileno()
        if wanted:
            transport.write(b"the last word")
            transport.loseConnection()
        else:
            visitor.close()
        reason = await seen.ended
        assert type(reason) is ConnectionDone
        assert transport not in reactor.getReaders() + reactor.getWriters()
        assert (transport.connected, transport.disconnected) == (0, 1)
        with pytest.raises(OSError) as closed:
            os.fstat(descriptor)
        assert closed.value.errno == errno.EBADF
        if wanted:
            visitor.settimeout(10)
            assert visitor.recv(100) + visitor.recv(100) == b"the last word"
        transport.connectionLost(Failure(reason))  # a second time: nothing
        assert repr(transport).startswith("<NoneType #0")


async def test_a_crowd_is_taken_whole(reactor: Any) -> None:
    async with Street(reactor) as street:
        visitors = [street.visit() for _ in range(40)]
        await street.until_begun(40)
        assert {address.port for address in street.house.addresses} == {each.getsockname()[1] for each in visitors}
        assert [seen.transport.sessionno for seen in street.house.begun] == list(range(40))


async def test_who_is_not_wanted_is_closed(reactor: Any) -> None:
    async with Street(reactor) as street:
        street.house.closed = True
        refused = street.visit()
        while not street.house.addresses:
            await turn(reactor)
        refused.settimeout(10)
        assert refused.recv(1) == b""
        street.house.closed = False
        street.visit()
        await street.until_begun(1)


async def test_a_bug_in_one_connection_is_logged_and_the_next_one_comes(
    reactor: Any, logged_failures: LoggedFailures
) -> None:
    async with Street(reactor) as street:
        street.house.fault = ZeroDivisionError("a fault")
        street.visit()
        while not logged_failures.events:
            await turn(reactor)
        assert len(logged_failures.flush(ZeroDivisionError)) == 1
        street.house.fault = None
        street.visit()
        await street.until_begun(1)


class _NoMore:
    """A listening socket whose process has no descriptor left, for once."""

    def __init__(self, below: socket.socket, calls: list[str]) -> None:
        self._below = below
        self._calls = calls

    def _accept(self) -> Any:
        self._calls.append("ours")
        raise OSError(errno.EMFILE, "no more")

    def accept(self) -> Any:
        self._calls.append("Twisted's")
        return self._below.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


async def test_what_goes_wrong_goes_twisteds_way(reactor: Any) -> None:
    async with Street(reactor) as street:
        calls: list[str] = []
        below = street.port.socket
        street.port.socket = _NoMore(below, calls)
        street.visit()
        await street.until_begun(1)
        street.port.socket = below
        assert calls[:2] == ["ours", "Twisted's"]
        street.visit()
        await street.until_begun(2)
