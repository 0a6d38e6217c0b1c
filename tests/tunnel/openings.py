"""The accepting side of the WebSocket carrier for tests without an edge: it takes every opening."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol
from wsproto.connection import ConnectionType

from wormhole_tw.net.handover import hand_over
from wormhole_tw.tunnel.carriers.websocket import WebSocketTransport, accept_token


class Opening(Protocol):
    """Reads a request's head, and upgrades.

    :param make: the protocol above the WebSocket
    :ivar asked: the head that came
    """

    transport: Any

    def __init__(self, reactor: Any, make: Callable[[], Any]) -> None:
        self.reactor = reactor
        self.make = make
        self.asked = b""

    def dataReceived(self, data: bytes) -> None:
        self.asked += data
        if not self.asked.endswith(b"\r\n\r\n"):
            return
        key = next(line[19:] for line in self.asked.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: "))
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_token(key) + b"\r\n\r\n"
        )
        carrier: Any = WebSocketTransport(ConnectionType.SERVER, self.reactor, self.make())
        hand_over(self.transport, carrier)
