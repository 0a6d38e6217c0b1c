"""Heads of answers, judged as strictly as requests are (RFC 9112 §4, §6.3)."""

from __future__ import annotations

import re
from typing import NoReturn

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Framing, InformationalHead, ResponseHead
from wormhole_tw.http.grammar import (
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    UPGRADE,
    judged_fields,
    list_members,
)
from wormhole_tw.http.h1.fields import MAX_LENGTH_DIGITS, read_fields, without_framing
from wormhole_tw.http.h1.limits import H1Limits
from wormhole_tw.http.memo import MAX_HEAD, remember

__all__ = ["parse_response"]

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")

_LENGTH = Framing.LENGTH
_CHUNKED = Framing.CHUNKED
_CLOSE = Framing.CLOSE
_HTTP_1_1 = (1, 1)
_HTTP_1_0 = (1, 0)


def _refuse(message: str) -> NoReturn:
    raise HttpError(502, "bad-answer", message)


def parse_response(
    head: bytes, limits: H1Limits, *, method: bytes, upgrade: bytes | None
) -> ResponseHead | InformationalHead:
    """Judge a whole head of an answer, blank line included.

    One that came before is the same object.

    :param method: of the request that it answers
    :param upgrade: what that request offered to switch to, or None
    :raises HttpError: 502
    """
    if upgrade is not None or len(head) > MAX_HEAD:
        return _parse_response(head, limits, method=method, upgrade=upgrade)
    key = (method == b"HEAD", head)
    known = limits.answers.get(key)
    if known is not None:
        known.common = True
        return known
    result = _parse_response(head, limits, method=method, upgrade=None)
    if type(result) is ResponseHead:
        remember(limits.answers, key, result)
    return result


def _parse_response(
    head: bytes, limits: H1Limits, *, method: bytes, upgrade: bytes | None
) -> ResponseHead | InformationalHead:
    match = _STATUS_LINE.match(head)
    if match is None:
        _refuse("The origin's status line is not valid HTTP/1.1 or HTTP/1.0.")
    minor, code, phrase = match.groups()
    try:
        fields = read_fields(head, limits, response=True)
    except HttpError as error:
        _refuse(f"The origin's answer is refused. {error.message}")
    status = int(code)
    reason = phrase or b""
    version = _HTTP_1_1 if minor == b"1" else _HTTP_1_0
    length: int | None = None
    coding = False
    connection: tuple[bytes, ...] = ()
    switched: tuple[bytes, ...] = ()
    for kind, (_, value) in judged_fields(fields):
        if kind == CONTENT_LENGTH:
            if length is not None or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                _refuse("The origin's Content-Length is not one number.")
            length = int(value)
        elif kind == CONNECTION:
            connection += list_members(value)
        elif kind == TRANSFER_ENCODING:
            if coding or value.lower() != b"chunked":
                _refuse("The origin uses a Transfer-Encoding other than chunked.")
            coding = True
        elif kind == UPGRADE:
            switched += list_members(value)
    if coding or length is not None:
        fields = without_framing(fields)
    if coding and (length is not None or version is _HTTP_1_0):
        _refuse("The origin's Transfer-Encoding stands with Content-Length or in HTTP/1.0.")
    if status < 200:
        if length or coding:
            _refuse("The origin's interim answer claims a body.")
        if status != 101:
            return InformationalHead(status, fields)
        offered = list_members(upgrade) if upgrade is not None else ()
        if not switched or not set(switched) <= set(offered) or b"upgrade" not in connection or version is _HTTP_1_0:
            _refuse("The origin switched to a protocol that was not asked for.")
        return ResponseHead(status, reason, fields, version, keep_alive=False)
    keep_alive = b"close" not in connection and (version is _HTTP_1_1 or b"keep-alive" in connection)
    result = ResponseHead(status, reason, fields, version, keep_alive=keep_alive)
    if method == b"HEAD" or status == 304 or status == 204:
        if status != 204:
            result.length = length
        # An origin that sends the body all the same sends it late, maybe after the next request: it must not be taken
        # for the answer to that one, which may be another visitor's.  So where a body can be meant, nothing follows.
        if length or coding or (length is None and status not in (204, 304)):
            result.keep_alive = False
    elif coding:
        result.framing = _CHUNKED
    elif length is not None:
        result.framing = _LENGTH
        result.length = length
    else:
        result.framing = _CLOSE
        result.keep_alive = False
    return result
