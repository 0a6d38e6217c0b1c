"""Heads of requests, judged (RFC 9112 §3, RFC 9110 §7): what is ambiguous is refused.

The request line is ours altogether, so that each refusal has the right status; the field lines are httptools'.
"""

from __future__ import annotations

import re
from typing import NoReturn

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Fields, Framing, RequestHead
from wormhole_tw.http.grammar import (
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    TRANSFER_ENCODING,
    UPGRADE,
    is_token,
    judged_fields,
    kind_of,
    list_members,
)
from wormhole_tw.http.h1.fields import MAX_LENGTH_DIGITS, read_fields, without_framing
from wormhole_tw.http.h1.framer import BREACH
from wormhole_tw.http.h1.limits import H1Limits
from wormhole_tw.http.memo import MAX_HEAD, remember
from wormhole_tw.http.targets import normalise_host, reduce_target

__all__ = ["parse_request"]

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.([01])\r\n")
_ANY_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
"""RFC 9112 §2.3: one digit each; ``HTTP/1`` and ``HTTP/01.1`` are no versions, and not HTTP."""

_ANY_TARGET = re.compile(rb"[!-~]+")
_COMPRESSED = re.compile(rb"(?:(?:x-)?gzip|deflate|(?:x-)?compress)[ \t]*,[ \t]*chunked", re.IGNORECASE)
"""Codings that are registered and not spoken here: 501 (RFC 9112 §6.1).  Any other list is a disguise: 400."""

_FRAMED = re.compile(rb"\r\n(?:content-length|transfer-encoding):", re.IGNORECASE)

_DIRECT = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND"})
"""Methods given to httptools as they are; it knows a closed list only, so others are shown to it as GET."""

_UNTUNNELLED = (b"h2c", b"h2", b"http/", b"tls/")
"""Upgrades that would carry HTTP past the edge's judgement: they are ignored (RFC 9110 §7.8 allows it)."""

# Reading a member of an Enum from its class costs 0.1 µs on Python 3.11, a global a tenth of that.
_NONE = Framing.NONE
_LENGTH = Framing.LENGTH
_CHUNKED = Framing.CHUNKED
_HTTP_1_1 = (1, 1)
_HTTP_1_0 = (1, 0)


def _refuse(status: int, reason: str, message: str) -> NoReturn:
    raise HttpError(status, reason, message)


def parse_request(head: bytes, limits: H1Limits) -> RequestHead:
    """Judge a whole head of a request, blank line included; one that came before is the same object.

    :raises HttpError: with the status for the visitor
    """
    known = limits.requests.get(head)
    if known is not None:
        known.common = True
        return known
    try:
        result = _parse_request(head, limits)
    except HttpError as error:
        # Such bytes are refused as soon as they are seen, so they come first also when the head arrived in one piece:
        # the refusal does not depend on how the bytes were cut.
        if error.reason != "bad-request" and BREACH.search(head):
            raise HttpError(400, "bad-request", "The head has a bare CR, a bare LF or a NUL.") from error
        raise
    if len(head) <= MAX_HEAD:
        remember(limits.requests, head, result)
        result.octets = head
    return result


def _parse_request(head: bytes, limits: H1Limits) -> RequestHead:
    match = _REQUEST_LINE.match(head)
    if match is None:
        _refuse_request_line(head)
    method, target, minor = match.groups()
    if len(method) > limits.method:
        _refuse(501, "method-too-long", "The method is not known here.")
    if len(target) > limits.target:
        _refuse(414, "target-too-long", "The request target is too long.")
    if method in _DIRECT:
        fields = read_fields(head, limits, response=False)
    elif method == b"CONNECT":
        _refuse(501, "connect-refused", "CONNECT is not served here.")
    elif method == b"TRACE":
        # RFC 9110 §9.3.8 would show a visitor, and scripts of a page, what proxies before and behind us add.
        if _FRAMED.search(head):
            _refuse(400, "bad-request", "TRACE has no content.")
        _refuse(501, "trace-refused", "TRACE is not served here.")
    else:
        fields = read_fields(b"GET" + head[len(method) :], limits, response=False)
    version = _HTTP_1_1 if minor == b"1" else _HTTP_1_0
    host: bytes | None = None
    length: int | None = None
    coding = False
    connection: tuple[bytes, ...] = ()
    upgrade: list[bytes] = []
    expect: list[bytes] = []
    for kind, (_, value) in judged_fields(fields):
        if kind == HOST:
            if host is not None:
                _refuse(400, "bad-host", "There is more than one Host.")
            host = value
        elif kind == CONNECTION:
            connection += list_members(value)
        elif kind == CONTENT_LENGTH:
            if length is not None or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                _refuse(400, "bad-content-length", "Content-Length is not one number.")
            length = int(value)
        elif kind == TRANSFER_ENCODING:
            if coding or value.lower() != b"chunked":
                if not coding and _COMPRESSED.fullmatch(value):
                    _refuse(501, "bad-transfer-encoding", "The only Transfer-Encoding here is chunked.")
                _refuse(400, "bad-transfer-encoding", "Transfer-Encoding is not chunked, once.")
            coding = True
        elif kind == UPGRADE:
            upgrade.append(value)
        else:
            expect.append(value.lower())
    if coding and (length is not None or version is _HTTP_1_0):
        # RFC 9112 §6.1, §6.3: the classic of request smuggling.
        _refuse(400, "bad-transfer-encoding", "Transfer-Encoding stands with Content-Length or in HTTP/1.0.")
    if coding or length is not None:
        fields = without_framing(fields)
    if host is None and version is _HTTP_1_1:
        _refuse(400, "bad-host", "There is no Host.")
    authority = host
    if not target.startswith(b"/") or b"#" in target:
        target, authority = _reduce(method, target, host, fields)
    if authority is not None:
        normalise_host(authority)
    keep_alive = True
    if connection or version is _HTTP_1_0:
        keep_alive = b"close" not in connection and (version is _HTTP_1_1 or b"keep-alive" in connection)
    framing = _CHUNKED if coding else _NONE if length is None else _LENGTH
    result = RequestHead(method, target, authority or b"", version, fields, framing, length, False, None, keep_alive)
    if expect and version is _HTTP_1_1:
        if expect != [b"100-continue"]:
            _refuse(417, "bad-expect", "The only expectation met here is 100-continue.")
        result.expect_continue = coding or bool(length)
    if upgrade and b"upgrade" in connection and version is _HTTP_1_1 and not coding and not length:
        result.upgrade = _judge_upgrade(b", ".join(upgrade))
    return result


def _reduce(method: bytes, target: bytes, host: bytes | None, fields: Fields) -> tuple[bytes, bytes | None]:
    """Bring another form of target to the origin's; its authority takes the place of Host (RFC 9112 §3.2.2)."""
    target, named = reduce_target(method, target)
    if named is None:
        return target, host
    if host is not None:
        normalise_host(host)
    fields[:] = [line for line in fields if kind_of(line[0]) != HOST]
    fields.insert(0, (b"Host", named))
    return target, named


def _judge_upgrade(value: bytes) -> bytes | None:
    members = list_members(value)
    for member in members:
        name, _, protocol_version = member.partition(b"/")
        if not is_token(name) or (protocol_version and not is_token(protocol_version)):
            _refuse(400, "bad-upgrade", "Upgrade is not a list of protocols.")
    if not members or any(member.startswith(_UNTUNNELLED) for member in members):
        return None
    return value


def _refuse_request_line(head: bytes) -> NoReturn:
    line = head[: head.index(b"\r\n")]
    parts = line.split(b" ")
    if len(parts) == 3 and is_token(parts[0]) and _ANY_VERSION.fullmatch(parts[2]):
        if _ANY_TARGET.fullmatch(parts[1]):
            _refuse(505, "bad-version", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        _refuse(400, "bad-target", "The request target has a character that no target has.")
    _refuse(400, "bad-request", "The request line is not valid HTTP.")
