"""Addresses of the two ends of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

if TYPE_CHECKING:
    from wormhole_tw.wire.messages import Open

__all__ = ["WormholeAddress", "host_of", "peer_of"]


@implementer(IAddress)
@dataclass(frozen=True, slots=True)
class WormholeAddress:
    """One end of a stream that has no address of its own on a network.

    :ivar session_id: the link's session, as WELCOME named it; empty before that
    :ivar stream: the stream's id on that link
    """

    session_id: str
    stream: int


def peer_of(message: Open, session_id: str, stream: int, *, ours: bool) -> IAddress:
    """Who is at the far end: the visitor where the stream is dedicated to one, otherwise the other side of the link.

    For a stream that this side opened (``ours``) the far end is always the other side of the link.
    """
    visitor = message.visitor
    if ours or not message.dedicated or visitor is None:
        return WormholeAddress(session_id, stream)
    if ":" in visitor.address:
        return IPv6Address("TCP", visitor.address, visitor.port)
    return IPv4Address("TCP", visitor.address, visitor.port)


def host_of(message: Open, session_id: str, stream: int, *, ours: bool) -> IAddress:
    """Where the far end came to: the public host name and port that the visitor asked for, where they are known."""
    visitor = message.visitor
    if ours or not message.dedicated or visitor is None or not visitor.server_name:
        return WormholeAddress(session_id, stream)
    return HostnameAddress(visitor.server_name.encode("ascii", "replace"), visitor.local_port)
