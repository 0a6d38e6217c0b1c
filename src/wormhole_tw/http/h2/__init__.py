"""HTTP/2 (RFC 9113): the visitor's side and the service's, on the ``h2`` library."""

from __future__ import annotations

from wormhole_tw.http.h2.client import H2ClientCodec
from wormhole_tw.http.h2.limits import DEFAULT_LIMITS, H2Limits
from wormhole_tw.http.h2.server import H2ServerCodec

__all__ = ["DEFAULT_LIMITS", "H2ClientCodec", "H2Limits", "H2ServerCodec"]
