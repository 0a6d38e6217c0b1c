"""One protocol stands aside for another on a connection that stands, and costs nothing from then on."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocol

from wormhole_tw.net.tls_halves import HalfClosingTls

__all__ = ["hand_over"]


def hand_over(transport: Any, protocol: IProtocol, data: bytes = b"") -> None:
    """From now on ``transport`` (a socket's, or TLS's) speaks to ``protocol``, which is connected here.

    :param data: what came for it already
    """
    if isinstance(transport, HalfClosingTls):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)
    if data:
        protocol.dataReceived(data)
