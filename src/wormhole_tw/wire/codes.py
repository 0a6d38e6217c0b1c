"""The codes of GOAWAY and RESET: docs/protocol.md, "Codes".

A code that a receiver does not know is no error: an unknown GOAWAY code is read as ``INTERNAL``, an unknown RESET
code too, so that both lists can grow.
"""

from __future__ import annotations

from enum import IntEnum

from wormhole_tw.errors import TunnelProtocolError

__all__ = ["GoawayCode", "ResetCode", "broken"]


class GoawayCode(IntEnum):
    """Why a side leaves the link. The number goes into GOAWAY's ``code``."""

    NORMAL = 0
    """shutting down or moving: drain, dial again"""
    PROTOCOL_ERROR = 1
    """the receiver of this broke the protocol"""
    UNAUTHORIZED = 2
    """the token opens nothing here"""
    REPLACED = 3
    """a newer generation took the place"""
    STALE_GENERATION = 4
    """the place is held by the same or a higher generation"""
    IDS_EXHAUSTED = 5
    """stream ids come to their end: drain, dial again"""
    OVER_LIMIT = 6
    """a limit of bytes, streams or frames a second was passed"""
    TIMED_OUT = 7
    """silent for too long, or no HELLO or WELCOME in time"""
    VERSION = 8
    """no version in common"""
    TOKEN_REVOKED = 9
    """the token was good and is no more"""
    INTERNAL = 10
    """the sender of this failed"""
    NOT_AVAILABLE = 11
    """understood, but this peer does not do it (now)"""
    RATE_LIMITED = 12
    """too many failed authentications from this address"""

    @property
    def drains(self) -> bool:
        """Whether streams that are open live on: every other code ends them with the link."""
        return self in _DRAINING


_DRAINING = frozenset({GoawayCode.NORMAL, GoawayCode.REPLACED, GoawayCode.IDS_EXHAUSTED})


class ResetCode(IntEnum):
    """Why a stream ended before its end. The number goes into RESET's ``code``."""

    CANCELLED = 0
    """the sender of this does not want it any more"""
    REFUSED = 1
    """the service refused the connection, or the peer refuses the stream"""
    NO_SUCH_SERVICE = 2
    """no service of that name, or no backend of that name, here"""
    TIMED_OUT = 3
    """a limit in seconds passed"""
    OVER_LIMIT = 4
    """too many streams, or too many bytes held"""
    UNSUPPORTED_KIND = 5
    """OPEN's kind is not known, or this side may not open it"""
    FLOW_CONTROL = 6
    """more data than credit"""
    LINK_LOST = 7
    """the link ended under the stream"""
    INTERNAL = 8
    """the sender of this failed"""
    UNREACHABLE = 9
    """no address or no route to the service"""
    TLS_FAILED = 10
    """TLS with the service failed"""
    NOT_AVAILABLE = 11
    """not now: the peer leaves, or is not ready"""
    SERVICE_FAILED = 12
    """the service's connection broke midway"""


def broken(message: str) -> TunnelProtocolError:
    """The peer broke the protocol: what to raise."""
    return TunnelProtocolError(GoawayCode.PROTOCOL_ERROR, message)
