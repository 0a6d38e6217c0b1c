"""How many frames a second a peer may send that cost it nothing and us something.

DATA is bounded by credit and streams by ``max_streams``; what is left is counted here.  The numbers are far above
what an honest peer needs, and low enough that a second's worth is well under a tenth of a core.
"""

from __future__ import annotations

from enum import IntEnum

from wormhole_tw.errors import TunnelProtocolError
from wormhole_tw.wire.codes import GoawayCode

__all__ = ["FLOOD_LIMITS", "Flood", "FloodGuard"]


class Flood(IntEnum):
    """What is counted."""

    OPEN = 0
    RESET = 1
    WINDOW = 2
    PING = 3
    PONG = 4
    STATUS = 5
    GOAWAY = 6
    UNKNOWN = 7
    EMPTY_DATA = 8


FLOOD_LIMITS: dict[Flood, int] = {
    Flood.OPEN: 20_000,  # more new streams than one core serves requests
    Flood.RESET: 20_000,  # one for each of those
    Flood.WINDOW: 50_000,  # 32 KiB each: 1.6 GB/s
    Flood.PING: 100,  # an honest peer sends one in seconds, and a few to measure the round trip
    Flood.PONG: 100,  # answers to ours
    Flood.STATUS: 100,  # a health check that flaps
    Flood.GOAWAY: 16,  # one, a second with another code, some for a smaller last_stream_id
    Flood.UNKNOWN: 100,  # a newer peer that probes
    Flood.EMPTY_DATA: 1_000,  # legal and useless
}


class FloodGuard:
    """Counts by the second."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._left = list(FLOOD_LIMITS.values())

    def count(self, kind: Flood, now: float) -> None:
        """Count one.

        :raises TunnelProtocolError: that was one too many for this second (``OVER_LIMIT``)
        """
        if now - self._since >= 1.0:
            self._since = now
            self._left = list(FLOOD_LIMITS.values())
        left = self._left[kind]
        if left == 0:
            raise TunnelProtocolError(
                GoawayCode.OVER_LIMIT, f"more than {FLOOD_LIMITS[kind]} {kind.name} frames in a second"
            )
        self._left[kind] = left - 1
