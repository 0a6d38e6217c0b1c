"""Codecs give many small pieces; transports like few."""

from __future__ import annotations

__all__ = ["JOIN_BELOW", "joined"]

JOIN_BELOW = 64 * 1024
"""Queued pieces are joined into one write up to this many octets: one TLS record or frame run, and a copy of this size
is cheaper than a second trip through the transport.  Chunks stay under the 128 KiB from where malloc maps memory."""


def joined(pieces: list[bytes]) -> list[bytes]:
    """Pieces as few writes as is cheap."""
    if len(pieces) == 1:
        return pieces
    out: list[bytes] = []
    run: list[bytes] = []
    size = 0
    for piece in pieces:
        if size + len(piece) > JOIN_BELOW and run:
            out.append(b"".join(run))
            run, size = [], 0
        run.append(piece)
        size += len(piece)
    if run:
        out.append(b"".join(run))
    return out
