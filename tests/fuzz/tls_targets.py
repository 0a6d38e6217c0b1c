"""What must hold for any bytes where a ClientHello is expected; the second opinion is OpenSSL's."""

from __future__ import annotations

import zlib
from contextlib import suppress

from OpenSSL import SSL

from wormhole_tw.net.client_hello import ClientHello, client_hello_is_whole, read_client_hello

__all__ = ["hello"]


def hello(data: bytes) -> None:
    """A ClientHello: the same one however it is cut, and whom it asks for OpenSSL finds too.

    What we take for none may be one for OpenSSL: then nobody has been asked for a certificate, and no site that wants
    one serves it. The other way round nobody must ever get by.
    """
    found = _read(data)
    size = 1 + zlib.crc32(data) % 41
    for end in range(0, len(data), size):
        begun = _read(data[:end])
        assert begun is None or begun == found
    if data[:1] != b"\x16":
        return  # accept looks no further
    seen = _openssl(data)
    if seen and isinstance(found, ClientHello):
        assert (found.server_name or None) == (seen[0] or None)
    assert not (seen and found is None)


def _read(data: bytes) -> ClientHello | str | None:
    """What it is, or that it is none."""
    try:
        whole = client_hello_is_whole(data)
        found = read_client_hello(data)
    except ValueError:
        return "none"
    assert whole is (found is not None)
    return found


def _openssl(data: bytes) -> list[bytes | None]:
    """The name by which OpenSSL would choose a certificate; empty where it does not come to that."""
    _seen.clear()
    server = SSL.Connection(_CONTEXT, None)
    server.set_accept_state()
    server.bio_write(data)
    with suppress(SSL.Error):
        server.do_handshake()
    return list(_seen)


_seen: list[bytes | None] = []
_CONTEXT = SSL.Context(SSL.TLS_METHOD)  # it has no certificate, and stops where it would need one
_CONTEXT.set_tlsext_servername_callback(lambda connection: _seen.append(connection.get_servername()))
