"""The bridge between WebSocket's two openings: extended CONNECT here (RFC 8441), Upgrade towards the origin (RFC 6455).

The key and its proof are between the edge and the origin: HTTP/2 has neither.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

from wormhole_tw.http.events import Fields

__all__ = ["WEBSOCKET", "acceptance", "is_accepted", "key_field"]

WEBSOCKET = b"websocket"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def key_field(nonce: bytes) -> tuple[bytes, bytes]:
    """The field of the opening handshake (RFC 6455 §4.1).

    :param nonce: 16 random octets
    """
    return b"Sec-WebSocket-Key", b64encode(nonce)


def is_accepted(key: bytes, fields: Fields) -> bool:
    """Whether a 101 proves that the origin has read the key (RFC 6455 §4.1, 4.2.2)."""
    return [value for name, value in fields if name.lower() == b"sec-websocket-accept"] == [acceptance(key)]


def acceptance(key: bytes) -> bytes:
    """The proof that a key was read (RFC 6455 §4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
