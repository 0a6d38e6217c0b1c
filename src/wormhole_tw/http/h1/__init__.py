"""HTTP/1.1 and HTTP/1.0 on the wire (RFC 9112), sans-IO: a server codec for visitors, a client codec for origins."""

from __future__ import annotations

from wormhole_tw.http.h1.client import H1ClientCodec
from wormhole_tw.http.h1.limits import H1Limits
from wormhole_tw.http.h1.server import H1ServerCodec

__all__ = ["H1ClientCodec", "H1Limits", "H1ServerCodec"]
