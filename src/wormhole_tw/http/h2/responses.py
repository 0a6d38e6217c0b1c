"""Heads of answers, judged as strictly as requests are (RFC 9113 §8.1, §8.3.2; RFC 9110 §6.4.1, §15)."""

from __future__ import annotations

from http import HTTPStatus

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Fields, Framing, InformationalHead, ResponseHead
from wormhole_tw.http.h2.faults import StreamFault
from wormhole_tw.http.h2.limits import H2Limits
from wormhole_tw.http.h2.messages import CONNECTION_SPECIFIC, NAME, OVERHEAD, VALUE, RawFields, length_of
from wormhole_tw.http.memo import MAX_HEAD, remember

__all__ = ["judge_response"]

_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
"""HTTP/2 has none (RFC 9113 §8.3.2), and visitors who speak HTTP/1 are used to them."""

_CHUNKED = Framing.CHUNKED
_LENGTH = Framing.LENGTH


def judge_response(
    raw: RawFields, *, ended: bool, headless: bool, limits: H2Limits
) -> ResponseHead | InformationalHead:
    """An answer's head from its decoded header block; one that came before is the same object.

    :param ended: the block ends the stream: there is no body
    :param headless: the request was a HEAD: there is none whatever the head says
    :raises StreamFault: the message is malformed
    :raises HttpError: 502, for one that is too large
    """
    key = (ended, headless, tuple(raw))
    known = limits.answers.get(key)
    if known is not None:
        if type(known) is ResponseHead:
            known.common = True
        return known
    size = sum([len(name) + len(value) for name, value in raw])
    if size + OVERHEAD * len(raw) > limits.head or len(raw) > limits.fields:
        raise HttpError(502, "bad-answer", "The head of the service's answer is too large.")
    result = _judge(raw, ended, headless)
    if size <= MAX_HEAD:
        remember(limits.answers, key, result)
    return result


def _judge(raw: RawFields, ended: bool, headless: bool) -> ResponseHead | InformationalHead:
    code = b""
    fields: Fields = []
    length: int | None = None
    for line in raw:
        name, value = line
        if VALUE.fullmatch(value) is None:
            raise StreamFault("a field's value has an octet that no value has, or white space at an end")
        if name[:1] == b":":
            if name != b":status" or code or fields or length is not None:
                raise StreamFault("a pseudo-header field that is not the one :status in front")
            code = value
        elif NAME.fullmatch(name) is None:
            raise StreamFault("a field's name is not a lower-case token")
        elif name in CONNECTION_SPECIFIC:
            raise StreamFault("a field of HTTP/1 connections")
        elif name == b"content-length":
            if length is not None:
                raise StreamFault("there is more than one Content-Length")
            length = length_of(value)
        else:
            fields.append(line)
    if len(code) != 3 or not code.isdigit() or code[0] == 0x30:
        raise StreamFault("there is no :status, or it is no status")
    status = int(code)
    if status < 200:
        # RFC 9113 §8.6: there is no 101; §8.1: an interim answer ends nothing
        if status == 101 or ended or length:
            raise StreamFault("an interim answer that switches, ends its stream or claims a body")
        return InformationalHead(status, fields)
    head = ResponseHead(status, _PHRASES.get(status, b""), fields, (2, 0))
    if headless or status == 304:
        head.length = length
    elif status != 204 and ended and length:
        raise StreamFault("a Content-Length and no body")
    elif status != 204 and not ended:
        head.framing = _CHUNKED if length is None else _LENGTH
        head.length = length
    return head
