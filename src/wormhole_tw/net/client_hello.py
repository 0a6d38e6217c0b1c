"""A TLS ClientHello, read before TLS is: whom the client asks for, and which session it would resume.

OpenSSL judges a session before it tells the server name, so that who wants to choose by name what may be resumed (or
to whom the bytes go) has to look for it first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

__all__ = ["ClientHello", "client_hello_is_whole", "read_client_hello"]

_HANDSHAKE = b"\x16\x03"
_CLIENT_HELLO = 1
_SERVER_NAME = b"\0\0"
_PRE_SHARED_KEY = b"\0\x29"
_HOST_NAME = 0

MAX_NAME = 255
"""Octets of a server name; OpenSSL refuses a longer one, and one with a zero in it (``unrecognized_name``)."""

MAX_RECORD = 16384
"""Octets of clear text in a record (RFC 8446 section 5.1)."""

MAX_RECORDS = 64
"""Clients send one. Whoever sends a byte a record makes us begin anew with each of them."""


MAX_EXTENSIONS = 128
"""Of a ClientHello: browsers send some twenty. Its 16 KiB hold four thousand, which would cost more than a handshake
does."""

MAX_SESSIONS = 64
"""Sessions that a client would resume; they send one or two. What it offers behind these is not looked at."""


class ClientHello(NamedTuple):
    """What stands in a ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3).

    :ivar server_name: the SNI as it was sent, or None
    :ivar sessions: the sessions of TLS 1.3 that the client would resume: its tickets
    """

    server_name: bytes | None
    sessions: tuple[bytes, ...]


def client_hello_is_whole(data: bytes) -> bool:
    """Whether the first octets of a connection have a ClientHello to its end.

    :raises ValueError: what they begin is none
    """
    if (
        len(data) > 9
        and data[:2] == _HANDSHAKE
        and data[5] == _CLIENT_HELLO
        and int.from_bytes(data[3:5], "big") == len(data) - 5 == int.from_bytes(data[6:9], "big") + 4 <= MAX_RECORD
    ):
        return True  # as almost all come: in one record, and nothing behind it
    return _message(data) is not None


def read_client_hello(data: bytes) -> ClientHello | None:
    """Read the first octets of a connection; what follows the ClientHello is not looked at.

    :returns: None while it is not whole
    :raises ValueError: it is no ClientHello, or one that OpenSSL would refuse
    """
    message = _message(data)
    if message is None:
        return None
    try:
        return _read(message)
    except IndexError:
        raise ValueError("no valid ClientHello") from None


def _message(data: bytes) -> bytes | None:
    """The body of the handshake message, which may lie in several records."""
    message = b""
    at = 0
    for _ in range(MAX_RECORDS):
        begun = data[at : at + 2]
        if begun not in (b"", b"\x16", b"\x16\x03"):
            raise ValueError("no TLS handshake")
        if len(data) < at + 5:
            return None
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < length <= MAX_RECORD:
            raise ValueError("no TLS record")
        at += 5
        message += data[at : at + length]
        at += length
        if message and message[0] != _CLIENT_HELLO:
            raise ValueError("no ClientHello")
        if len(message) >= 4:
            end = 4 + int.from_bytes(message[1:4], "big")
            if len(message) >= end:
                return message[4:end]
        if len(data) < at:
            return None
    raise ValueError("no ClientHello in so many records")


def _read(message: bytes) -> ClientHello:
    at = 2 + 32  # version, random
    at += 1 + message[at]  # session id
    at += 2 + _length(message, at)  # cipher suites
    at += 1 + message[at]  # compression methods
    name: bytes | None = None
    sessions: tuple[bytes, ...] = ()
    end = len(message)
    if at == end:
        return ClientHello(name, sessions)
    if at + 2 + _length(message, at) != end:
        raise IndexError
    at += 2
    seen: set[bytes] = set()
    while at < end:
        kind, content = message[at : at + 2], at + 4
        at = content + _length(message, at + 2)
        if at > end or kind in seen or len(seen) == MAX_EXTENSIONS:
            raise IndexError
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(message[content:at])
        elif kind == _PRE_SHARED_KEY:
            sessions = tuple(islice(_sessions(message[content:at]), MAX_SESSIONS))
    return ClientHello(name, sessions)


def _length(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _server_name(content: bytes) -> bytes:
    """The one name of the list: OpenSSL takes no second, and no other kind."""
    name = content[5:]
    if _length(content, 0) != len(content) - 2 or content[2] != _HOST_NAME or _length(content, 3) != len(name):
        raise IndexError
    if len(name) > MAX_NAME or b"\0" in name:
        raise IndexError
    return name


def _sessions(content: bytes) -> Iterator[bytes]:
    at, end = 2, 2 + _length(content, 0)
    while at < end:
        identity = content[at + 2 : at + 2 + _length(content, at)]
        at += 2 + _length(content, at) + 4  # and its age
        if at > end or end > len(content):
            raise IndexError
        yield identity
