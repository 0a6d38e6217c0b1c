"""Heads of answers as HTTP/2 fields: lower-case names, no field of an HTTP/1 connection (RFC 9113 §8.2)."""

from __future__ import annotations

import re

from hpack import HeaderTuple, NeverIndexedHeaderTuple

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Fields, ResponseHead
from wormhole_tw.http.memo import remember

__all__ = ["answer_fields", "plain_fields"]

_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"content-length"}
)
"""Of one HTTP/1 connection; and the length, which is the codec's."""

_BREACH = re.compile(rb"[\r\n\0]")

_names: dict[bytes, bytes] = {}
_answers: dict[tuple[int, int, int | None], tuple[Fields, list[tuple[bytes, bytes]]]] = {}


def plain_fields(fields: Fields) -> list[tuple[bytes, bytes]]:
    """The fields as they are sent.

    :raises MisuseError: for a value with CR, LF or NUL, the last line of defence
    """
    out: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        lower = _names.get(name)
        if lower is None:
            lower = name.lower()
            remember(_names, name, lower)
        if lower in _CONNECTION_SPECIFIC:
            continue
        if _BREACH.search(value) is not None or _BREACH.search(lower) is not None:
            raise MisuseError("a field has CR, LF or NUL in it")
        # what is secret or never the same twice would only push out of the table what is worth keeping
        out.append(NeverIndexedHeaderTuple(lower, value) if lower == b"set-cookie" else HeaderTuple(lower, value))
    return out


def answer_fields(head: ResponseHead, status: int, length: int | None) -> list[tuple[bytes, bytes]]:
    """A whole head of an answer."""
    key = (id(head.fields), status, length)
    if head.common:
        known = _answers.get(key)
        if known is not None and known[0] is head.fields:
            return known[1]
    out = plain_fields(head.fields)
    out.insert(0, HeaderTuple(b":status", b"%d" % status))
    if length is not None:
        out.append(HeaderTuple(b"content-length", b"%d" % length))
    if head.common:
        remember(_answers, key, (head.fields, out))
    return out
