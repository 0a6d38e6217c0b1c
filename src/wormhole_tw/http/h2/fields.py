"""Heads of messages as HTTP/2 fields: lower-case names, no field of an HTTP/1 connection (RFC 9113 §8.2, §8.3)."""

from __future__ import annotations

import re

from hpack import HeaderTuple, NeverIndexedHeaderTuple

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Fields, Framing, RequestHead, ResponseHead
from wormhole_tw.http.h2.websocket import WEBSOCKET
from wormhole_tw.http.memo import remember

__all__ = ["answer_fields", "plain_fields", "request_fields"]

_SCHEME = HeaderTuple(b":scheme", b"http")
"""Of the connection that a request goes on, which is how services read it; the visitor's is in X-Forwarded-Proto."""

_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"content-length"}
)
"""Of one HTTP/1 connection; and the length, which is the codec's."""

_UNINDEXED = frozenset(
    {b"authorization", b"cookie", b"forwarded", b"set-cookie", b"x-forwarded-for", b"x-request-id", b"x-real-ip"}
)
"""What is secret, or another one's on the next request: it would only push out of the table what is worth keeping."""

_BREACH = re.compile(rb"[\r\n\0]")

_names: dict[bytes, bytes] = {}
_answers: dict[tuple[int, int, int | None], tuple[Fields, list[tuple[bytes, bytes]]]] = {}
_requests: dict[int, tuple[RequestHead, list[tuple[bytes, bytes]]]] = {}


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
        out.append(NeverIndexedHeaderTuple(lower, value) if lower in _UNINDEXED else HeaderTuple(lower, value))
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


def request_fields(head: RequestHead) -> list[tuple[bytes, bytes]]:
    """A whole head of a request; one with ``upgrade`` is the extended CONNECT that stands for it (RFC 8441 §5).

    :raises MisuseError: as :func:`plain_fields`, for a request that goes to no path, or an upgrade that is no WebSocket
    """
    if head.common:
        known = _requests.get(id(head))
        if known is not None and known[0] is head:
            return known[1]
    method, target, authority = head.method, head.target, head.authority
    if not (target.startswith(b"/") or target == b"*") or b" " in target or _BREACH.search(target + authority + method):
        raise MisuseError("a request's target, host or method breaks its head")
    out: list[tuple[bytes, bytes]]
    if head.upgrade is None:
        out = [HeaderTuple(b":method", method)]
        fields = head.fields
    else:
        if head.upgrade.lower() != WEBSOCKET:
            raise MisuseError("HTTP/2 has no Upgrade but a WebSocket's")
        out = [HeaderTuple(b":method", b"CONNECT"), HeaderTuple(b":protocol", WEBSOCKET)]
        # the key is between the two ends of an HTTP/1 connection
        fields = [line for line in head.fields if line[0].lower() != b"sec-websocket-key"]
    out += [_SCHEME, HeaderTuple(b":authority", authority), HeaderTuple(b":path", target)]
    out += plain_fields(fields)
    if head.framing is Framing.LENGTH:
        out.append(HeaderTuple(b"content-length", b"%d" % (head.length or 0)))
    if head.expect_continue:
        out.append(HeaderTuple(b"expect", b"100-continue"))
    if head.common:
        remember(_requests, id(head), (head, out))
    return out
