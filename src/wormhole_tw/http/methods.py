"""What may be sent a second time (RFC 9110 §9.2)."""

from __future__ import annotations

__all__ = ["IDEMPOTENT", "is_idempotent", "is_safe"]

_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY"})
IDEMPOTENT = _SAFE | {b"PUT", b"DELETE"}
"""What :func:`is_idempotent` looks into, for who asks once a request."""


def is_safe(method: bytes) -> bool:
    """Whether the method only reads (RFC 9110 §9.2.1; the IANA registry for those outside of it)."""
    return method in _SAFE


def is_idempotent(method: bytes) -> bool:
    """Whether sending it twice has the effect of sending it once (RFC 9110 §9.2.2)."""
    return method in IDEMPOTENT
