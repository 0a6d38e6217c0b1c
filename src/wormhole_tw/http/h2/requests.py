"""Heads of requests, judged (RFC 9113 §8, RFC 8441, RFC 9110 §7).

Two kinds of refusal: a *malformed* message is a fault of its stream and gets no answer (§8.1.1); what is well-formed
and not served here is answered with its status, as on HTTP/1.
"""

from __future__ import annotations

import re
from typing import NoReturn

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Fields, Framing, RequestHead
from wormhole_tw.http.grammar import TE_TRAILERS, is_token
from wormhole_tw.http.h2.faults import StreamFault
from wormhole_tw.http.h2.limits import H2Limits
from wormhole_tw.http.h2.messages import CONNECTION_SPECIFIC, NAME, OVERHEAD, VALUE, RawFields, length_of
from wormhole_tw.http.h2.websocket import WEBSOCKET
from wormhole_tw.http.memo import MAX_HEAD, remember
from wormhole_tw.http.targets import normalise_host

__all__ = ["judge_request"]

_PATH = re.compile(rb"/[!\"$-~]*")
"""Origin-form; what is in it, the router judges as it does for HTTP/1."""

_SCHEMES = (b"https", b"http")
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})

_NONE = Framing.NONE
_LENGTH = Framing.LENGTH
_CHUNKED = Framing.CHUNKED


def _refuse(status: int, reason: str, message: str) -> NoReturn:
    raise HttpError(status, reason, message)


def judge_request(raw: RawFields, *, ended: bool, limits: H2Limits) -> RequestHead:
    """A request from its decoded header block; one that came before is the same object.

    A WebSocket's extended CONNECT is the GET with ``upgrade`` that it stands for, without its key.

    :param ended: the block ends the stream: there is no body
    :raises StreamFault: the message is malformed
    :raises HttpError: with the status for the visitor
    """
    key = (ended, tuple(raw))
    known = limits.requests.get(key)
    if known is not None:
        known.common = True
        return known
    size = sum([len(name) + len(value) for name, value in raw])
    result = _judge(raw, ended, limits, size + OVERHEAD * len(raw))
    if size <= MAX_HEAD and result.upgrade is None:
        remember(limits.requests, key, result)
    return result


def _judge(raw: RawFields, ended: bool, limits: H2Limits, size: int) -> RequestHead:
    pseudo: dict[bytes, bytes] = {}
    fields: Fields = []
    cookies: list[bytes] = []
    host: bytes | None = None
    length: int | None = None
    expect: list[bytes] = []
    for line in raw:
        name, value = line
        if VALUE.fullmatch(value) is None:
            raise StreamFault("a field's value has an octet that no value has, or white space at an end")
        if name[:1] == b":":
            if name not in _PSEUDO:
                raise StreamFault("an unknown pseudo-header field")
            if name in pseudo:
                raise StreamFault("a pseudo-header field stands twice")
            if fields or cookies or host is not None or length is not None or expect:
                raise StreamFault("a pseudo-header field stands after others")
            pseudo[name] = value
            continue
        if NAME.fullmatch(name) is None:
            raise StreamFault("a field's name is not a lower-case token")
        if name == b"cookie":
            cookies.append(value)
        elif name == b"host":
            if host is not None:
                raise StreamFault("there is more than one Host")
            host = value
        elif name == b"content-length":
            if length is not None:
                raise StreamFault("there is more than one Content-Length")
            length = length_of(value)
        elif name == b"expect":
            expect.append(value.lower())
        elif name in CONNECTION_SPECIFIC:
            raise StreamFault("a field of HTTP/1 connections")
        elif name == b"te":
            if value.lower() != b"trailers":
                raise StreamFault("TE is not trailers")
            fields.append(TE_TRAILERS)
        else:
            fields.append((name, value))
    if cookies:
        # RFC 9113 §8.2.3: split for compression, one field everywhere else
        fields.append((b"cookie", b"; ".join(cookies)))
    return _assemble(pseudo, fields, host, length, expect, ended=ended, limits=limits, size=size, lines=len(raw))


def _assemble(
    pseudo: dict[bytes, bytes],
    fields: Fields,
    host: bytes | None,
    length: int | None,
    expect: list[bytes],
    *,
    ended: bool,
    limits: H2Limits,
    size: int,
    lines: int,
) -> RequestHead:
    method = pseudo.get(b":method")
    if method is None or not is_token(method):
        raise StreamFault("there is no :method, or it is no token")
    authority = _authority(pseudo.get(b":authority"), host)
    protocol = pseudo.get(b":protocol")
    tunnel = method == b"CONNECT"
    if tunnel and protocol is None:
        if b":scheme" in pseudo or b":path" in pseudo:
            raise StreamFault("a plain CONNECT has :scheme or :path")
        _refuse(501, "connect-refused", "CONNECT is not served here.")
    if protocol is not None and not tunnel:
        raise StreamFault(":protocol is for CONNECT alone")
    if pseudo.get(b":scheme") not in _SCHEMES:
        raise StreamFault("there is no :scheme, or it is not https")
    path = pseudo.get(b":path", b"")
    if _PATH.fullmatch(path) is None and not (path == b"*" and method == b"OPTIONS"):
        raise StreamFault("there is no :path, or it is not a path")
    if ended and length:
        raise StreamFault("a Content-Length and no body")
    if size > limits.head:
        _refuse(431, "head-too-large", "The head of the request is too large.")
    if lines > limits.fields:
        _refuse(431, "too-many-fields", "The head has too many fields.")
    if len(path) > limits.target:
        _refuse(414, "target-too-long", "The request target is too long.")
    if len(method) > limits.method:
        _refuse(501, "method-too-long", "The method is not known here.")
    if method == b"TRACE":
        _refuse(501, "trace-refused", "TRACE is not served here.")
    if authority is None:
        _refuse(400, "bad-host", "The request names no host.")
    normalise_host(authority)
    if expect and expect != [b"100-continue"]:
        _refuse(417, "bad-expect", "The only expectation met here is 100-continue.")
    if tunnel:
        return _websocket(protocol, path, authority, fields, length, ended)
    framing = _LENGTH if length is not None else _NONE if ended else _CHUNKED
    result = RequestHead(method, path, authority, (2, 0), fields, framing, length)
    result.expect_continue = bool(expect) and not ended and length != 0
    return result


def _authority(named: bytes | None, host: bytes | None) -> bytes | None:
    """What the request is for; a Host that means another is a breach (RFC 9113 §8.3.1)."""
    if named is None or host is None or named == host:
        return host if named is None else named
    if named.lower() != host.lower():
        raise StreamFault(":authority and Host are not the same")
    return named


def _websocket(
    protocol: bytes | None, path: bytes, authority: bytes, fields: Fields, length: int | None, ended: bool
) -> RequestHead:
    if protocol != WEBSOCKET:
        _refuse(501, "protocol-not-supported", "The only protocol that CONNECT leads to here is websocket.")
    if ended or length is not None:
        raise StreamFault("a CONNECT that has a length or ends at once")
    # the key is between the edge and the origin (RFC 8441 §5)
    fields = [line for line in fields if line[0] != b"sec-websocket-key"]
    return RequestHead(b"GET", path, authority, (2, 0), fields, upgrade=WEBSOCKET)
