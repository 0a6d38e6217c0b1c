"""Where agents come in by WebSocket: an Upgrade at ``/.wormhole/tunnel`` of the edge's own names, never a site's."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from wsproto.connection import ConnectionType

from wormhole_tw.edge.router import host_of
from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Framing, ResponseHead
from wormhole_tw.tunnel.carriers.websocket import PATH, WebSocketTransport, accept_token

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime

    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.interfaces import IVisitor
    from wormhole_tw.http.events import Fields, RequestHead

__all__ = ["TunnelDoor"]

_PATH = PATH.encode("ascii")

_BROWSER = "Tunnels are not for browsers."
_EXPECTED = "This is where agents bring their tunnels, by WebSocket."
_NOT_HERE = "No tunnels are taken on this port, or not from who asks."
_INVALID = "The WebSocket's opening is not valid (RFC 6455 section 4.2.1)."


class TunnelDoor:
    """What an edge does with requests for the tunnel's path.

    :param names: the edge's own, normalised
    :param make_link: a protocol for an agent's tunnel, given its address
    """

    def __init__(self, names: Container[str], make_link: Callable[[IAddress], IProtocol], clock: IReactorTime) -> None:
        self._names = names
        self._make_link = make_link
        self._clock = clock

    def enter(self, exchange: Exchange, visitor: IVisitor, head: RequestHead) -> bool:
        """Answer a request that no site takes, if it is one for the tunnel; says whether it was.

        A good one becomes an agent's link; the connection is no visitor's any more.

        :raises HttpError: its host name is not valid
        """
        if head.target != _PATH and not head.target.startswith(_PATH + b"?"):
            return False
        facts = exchange.facts
        host = host_of(head)
        if host not in self._names:
            return False
        if not facts.takes_tunnels:
            exchange.give_up("tunnels-not-here", status=403, message=_NOT_HERE)
            return True
        if facts.served is not None and facts.served.misdirected(host):
            exchange.give_up("misdirected")
            return True
        try:
            key = _judge(head, visitor.hands_over)
        except HttpError as error:
            exchange.give_up(error.reason, status=error.status, message=error.message)
            return True
        address = IPv6Address if ":" in facts.address else IPv4Address
        link = self._make_link(address("TCP", facts.address, facts.port))
        fields: Fields = [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", accept_token(key))]
        carrier: Any = WebSocketTransport(ConnectionType.SERVER, self._clock, link)
        exchange.hand_over(ResponseHead(101, b"Switching Protocols", fields), carrier)
        return True


def _judge(head: RequestHead, hands_over: bool) -> bytes:
    """The key of a WebSocket's opening that is as RFC 6455 §4.2.1 has it.

    :raises HttpError: it is not, or a browser's
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in head.fields:
        fields.setdefault(name.lower(), []).append(value)
    if b"origin" in fields:
        # RFC 6455 §10.2: a page that a browser shows must not reach this with the browser's rights on the network
        raise HttpError(403, "tunnel-from-browser", _BROWSER)
    upgrades = [token.strip().lower() for token in (head.upgrade or b"").split(b",")]
    if not hands_over or b"websocket" not in upgrades:
        raise HttpError(426, "websocket-expected", _EXPECTED)
    if fields.get(b"sec-websocket-version") != [b"13"]:
        raise HttpError(426, "websocket-expected", "Version 13 of WebSocket is spoken here.")
    keys = fields.get(b"sec-websocket-key", [])
    if head.method != b"GET" or head.framing is not Framing.NONE or len(keys) != 1 or not _is_key(keys[0]):
        raise HttpError(400, "bad-request", _INVALID)
    return keys[0]


def _is_key(key: bytes) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
