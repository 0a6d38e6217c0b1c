"""What requests and answers have in common: their fields and their trailers, judged (RFC 9113 §8.1, §8.2)."""

from __future__ import annotations

import re

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Fields
from wormhole_tw.http.grammar import FORBIDDEN_TRAILERS
from wormhole_tw.http.h2.faults import StreamFault
from wormhole_tw.http.h2.limits import H2Limits

__all__ = ["CONNECTION_SPECIFIC", "NAME", "OVERHEAD", "VALUE", "RawFields", "judge_trailers", "length_of"]

NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
"""RFC 9110 §5.5 without the white space that RFC 9113 §8.2.1 forbids at both ends."""

CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
_MISPLACED = CONNECTION_SPECIFIC | {b"content-length", b"host", b"te"}

_MAX_DIGITS = 18
"""As on HTTP/1: no body is longer than 10**18 - 1."""

OVERHEAD = 32
"""What a field counts beside its octets (RFC 9113 §6.5.2)."""

RawFields = list[tuple[bytes, bytes]]


def length_of(value: bytes) -> int:
    """Content-Length as a number.

    :raises StreamFault: it is none
    """
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        raise StreamFault("Content-Length is not one number")
    return int(value)


def judge_trailers(raw: RawFields, limits: H2Limits) -> Fields:
    """Trailer fields from their block, without those that never stand there.

    :raises StreamFault: the section is malformed: a pseudo-header field, a field that frames or routes a message …
    :raises HttpError: 431 for too many or too large ones
    """
    size = 0
    for name, value in raw:
        size += len(name) + len(value) + OVERHEAD
        if NAME.fullmatch(name) is None or VALUE.fullmatch(value) is None:
            raise StreamFault("a trailer is not a field")
        if name in _MISPLACED:
            raise StreamFault("a trailer that frames or routes a message")
    if size > limits.head or len(raw) > limits.fields:
        raise HttpError(431, "trailers-too-large", "The trailer section is too large.")
    return [(name, value) for name, value in raw if name not in FORBIDDEN_TRAILERS]
