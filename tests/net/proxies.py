"""Small proxies of the tests' own, in this process: they do as the test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from wormhole_tw.net.immediate import immediate_port

__all__ = ["FakeProxy", "Names", "connect_rules", "socks_rules"]

NOWHERE = ("127.0.0.1", 0)
"""Where no connection leads to: the proxy's client is dropped."""

Rules = Callable[[bytes], "tuple[bytes, int, tuple[str, int] | None] | None"]
"""What came so far → what to say, how much of it is used up, and where to connect (None: nowhere yet)."""


def connect_rules(answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", *, authorization: str | None = None) -> Rules:
    """An HTTP proxy.

    :param authorization: the credentials in base64 that it wants
    """

    def judge(data: bytes) -> tuple[bytes, int, tuple[str, int] | None] | None:
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end:
            return None
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        assert method == "CONNECT"
        if authorization is not None and f"Proxy-Authorization: Basic {authorization}" not in lines:
            return b"HTTP/1.1 407 Who are you?\r\nProxy-Authenticate: Basic\r\n\r\n", len(head) + 4, None
        host, _, port = target.rpartition(":")
        good = answer.startswith(b"HTTP/1.1 200")
        return answer, len(head) + 4, (host, int(port)) if good else None

    return judge


def socks_rules(seen: list[bytes], reply: int | None = 0) -> Rules:
    """A SOCKS5 proxy for everybody; ``seen`` gets the addresses as they were asked for.

    :param reply: its answer; 0 where it connects, None for an end of the connection, which is what ``ssh -D`` says
    """
    greeted = False

    def judge(data: bytes) -> tuple[bytes, int, tuple[str, int] | None] | None:
        nonlocal greeted
        if not greeted:
            if len(data) < 2 or len(data) < 2 + data[1]:
                return None
            greeted = True
            return b"\x05\x00", 2 + data[1], None
        if len(data) < 5:
            return None
        size = {1: 4, 3: 1 + data[4], 4: 16}[data[3]]
        if len(data) < 6 + size:
            return None
        where, port = data[3 : 4 + size], int.from_bytes(data[4 + size : 6 + size], "big")
        seen.append(where)
        if reply is None:
            return b"", 6 + size, NOWHERE
        answer = bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0])
        return answer, 6 + size, None if reply else ("127.0.0.1", port)

    return judge


class FakeProxy:
    """A port of a proxy.

    :ivar number: the port
    :ivar connections: how many came
    """

    def __init__(self, reactor: Any, rules: Callable[[], Rules], wrap: Callable[[Any], Any] = lambda p: p) -> None:
        self.reactor = reactor
        self.rules = rules
        self.wrap = wrap
        self.connections = 0
        self.number = 0
        self._port: Any = None
        self._open: set[Protocol] = set()

    async def listen(self) -> None:
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        factory.buildProtocol = self._build  # type: ignore[method-assign,assignment]
        self._port = immediate_port(
            await TCP4ServerEndpoint(self.reactor, self.number, interface="127.0.0.1").listen(factory)
        )
        self.number = self._port.getHost().port

    def _build(self, _address: Any) -> Any:
        self.connections += 1
        return self.wrap(_Client(self))

    async def close(self) -> None:
        if self._port is not None:
            await self._port.stopListening()
        self.cut()

    def cut(self) -> None:
        """Drop every connection."""
        for protocol in list(self._open):
            protocol.transport.abortConnection()  # type: ignore[union-attr]


class _Client(Protocol):
    transport: Any

    def __init__(self, proxy: FakeProxy) -> None:
        self.proxy = proxy
        self.rules = proxy.rules()
        self.data = b""
        self.far: _Far | None = None
        self.dialling = False

    def connectionMade(self) -> None:
        self.proxy._open.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self.far is not None:
            self.far.transport.write(bytes(data))
            return
        self.data += data
        if not self.dialling:
            self.judge()

    def judge(self) -> None:
        while self.data and (verdict := self.rules(self.data)) is not None:
            say, used, where = verdict
            self.data = self.data[used:]
            if where is None:
                self.transport.write(say)
                continue
            self.dialling = True
            factory = Factory.forProtocol(lambda: _Far(self))  # type: ignore[arg-type]
            factory.noisy = False
            dialled = TCP4ClientEndpoint(self.proxy.reactor, *where).connect(factory)
            dialled.addCallback(self.stands, say)
            dialled.addErrback(lambda _: self.transport.abortConnection())
            return

    def stands(self, far: Any, say: bytes) -> None:
        self.far = far
        self.transport.write(say)
        data, self.data = self.data, b""
        if data:
            far.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.proxy._open.discard(self)
        if self.far is not None:
            self.far.transport.loseConnection()


class _Far(Protocol):
    transport: Any

    def __init__(self, near: _Client) -> None:
        self.near = near

    def connectionMade(self) -> None:
        self.near.proxy._open.add(self)

    def dataReceived(self, data: bytes) -> None:
        self.near.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.near.proxy._open.discard(self)
        self.near.transport.loseConnection()


class Names:
    """Another resolver for a while: for what dials then, and was made then.

    :ivar names: name → addresses; change it as you like
    """

    def __init__(self, reactor: Any, names: dict[str, list[str]]) -> None:
        self.reactor = reactor
        self.names = names

    def __enter__(self) -> Self:
        self.before = self.reactor.nameResolver
        self.reactor.installNameResolver(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.reactor.installNameResolver(self.before)

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
        receiver.resolutionBegan(None)
        for address in [hostName] if hostName[0].isdigit() else self.names.get(hostName, []):
            receiver.addressResolved(IPv4Address("TCP", address, portNumber))
        receiver.resolutionComplete()
        return receiver
