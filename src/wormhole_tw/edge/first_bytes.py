"""What a connection's first bytes may be: a table of rows for each kind of port."""

from __future__ import annotations

from collections.abc import Callable

from wormhole_tw.net.client_hello import client_hello_is_whole
from wormhole_tw.net.proxy_protocol import begins_like_header
from wormhole_tw.wire.frames import PREFACE_NAME

__all__ = ["FIRST_BYTES", "HANDSHAKE_BYTES", "PASSING_PORT", "PLAIN_PORT", "TLS_PORT", "WITHIN_TLS", "Judge", "Rows"]

FIRST_BYTES = 16 * 1024
"""Octets that a stranger may send before it is known what it is: a ClientHello with post-quantum shares has 2 KiB."""

HANDSHAKE_BYTES = 64 * 1024
"""Octets of a TLS handshake, and of what a client says before it hears that it is refused: a chain of certificates has
20 KiB where they are signed with post-quantum keys, and who is refused in the middle of an upload shall hear why."""


def _is_client_hello(data: bytes) -> bool | None:
    if data[0] != 0x16:
        return False
    try:
        # whole, for what it asks for decides over the handshake; what cannot become one, OpenSSL has the alert for
        return client_hello_is_whole(data) or len(data) > FIRST_BYTES or None
    except ValueError:
        return True


def _is_preface(data: bytes) -> bool | None:
    # the link itself refuses another version, in words that its agent understands
    if data.startswith(PREFACE_NAME):
        return True
    # "W" may still become the preface, and may be the first letter of a method
    return None if PREFACE_NAME.startswith(data) else False


def _is_http(data: bytes) -> bool | None:
    # a method's first letter, or the blank line that some clients send before it (RFC 9112 §2.2)
    return data[:1].isalnum() or data[0] in b"\r\n!#$%&'*+-.^_`|~"


Judge = Callable[[bytes], "bool | None"]
"""True: it is; None: it may be, more octets will tell."""

Rows = tuple[tuple[Judge, str], ...]
"""The first judge that says yes decides; with the name of what accept does then."""

WITHIN_TLS: Rows = ((_is_preface, "_to_link"), (_is_http, "_to_visitor"))
PLAIN_PORT: Rows = ((begins_like_header, "_refuse_header"), *WITHIN_TLS)
_NO_HELLO: Rows = ((begins_like_header, "_refuse_header"), (_is_http, "_to_https_hint"))
TLS_PORT: Rows = ((_is_client_hello, "_to_tls"), *_NO_HELLO)
PASSING_PORT: Rows = ((_is_client_hello, "_by_name"), *_NO_HELLO)
"""The same where there are sites whose TLS is not ended here."""
