"""Heads of requests and answers: httptools reads the field lines, our rules judge what it lets pass.

What httptools has no rule for (STACK: size, Host, codings, HTTP/1.0) is here, each rule with its section.  The start
line is ours altogether, so that each refusal has the right status.
"""

from __future__ import annotations

import re
from typing import NoReturn

import httptools

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Fields, Framing, InformationalHead, RequestHead, ResponseHead
from wormhole_tw.http.grammar import FieldKind, is_token, kind_of, list_members
from wormhole_tw.http.h1.limits import H1Limits
from wormhole_tw.http.targets import normalise_host, reduce_target

__all__ = ["BREACH", "HeadBuffer", "parse_request", "parse_response", "parse_trailers"]

BREACH = re.compile(rb"(?<!\r)\n|\r(?!\n)(?!\Z)|\0")
"""A bare LF, a bare CR (unless more may come) or NUL: no head has it, so there is no need to wait for its end."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")

_CODED = (FieldKind.CONTENT_LENGTH, FieldKind.TRANSFER_ENCODING)
_MAX_LENGTH_DIGITS = 18
"""Content-Length up to 10**18 - 1: no body is longer, and it fits 63 bits everywhere after us."""

_DIRECT = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND"})
"""Methods given to httptools as they are; it knows a closed list only, so others are shown to it as GET."""

_UNTUNNELLED = (b"h2c", b"h2", b"http/", b"tls/")
"""Upgrades that would carry HTTP past the edge's judgement: they are ignored (RFC 9110 §7.8 allows it)."""

_FORBIDDEN_TRAILERS = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"max-forwards",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"range",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"www-authenticate",
    }
)
"""Framing, routing, authentication and control never stand in trailers: such lines are dropped (RFC 9110 §6.5.1)."""


def _refuse(status: int, reason: str, message: str) -> NoReturn:
    raise HttpError(status, reason, message)


class HeadBuffer:
    """Finds the end of a head in arriving bytes, within a size, looking at every byte once."""

    __slots__ = ("_limit", "_scanned", "_skipped", "_target_limit", "held")

    def __init__(self, limits: H1Limits) -> None:
        self.held = bytearray()
        self._limit = limits.head
        self._target_limit = limits.target
        self._scanned = 0
        self._skipped = False

    def take(self, data: bytes, *, skip_blank: bool) -> bytes | None:
        """Add bytes; give the head when it is whole.  What follows it stays in :attr:`held`.

        :param skip_blank: skip one blank line before it (RFC 9112 §2.2: some old clients send one)
        :raises HttpError: 400 for bytes that no head has; 414 or 431 past the size
        """
        held = self.held
        if not held:
            end = data.find(b"\r\n\r\n", 0, self._limit) + 4
            if end > 4 and data[0] > 0x20:
                self._skipped = False
                if end == len(data):
                    return data
                held += data[end:]
                return data[:end]
        held += data
        if skip_blank and not self._skipped and held[:2] == b"\r\n":
            del held[:2]
            self._skipped = True
        if held[:1] == b"\n" or held[:2] == b"\r\n":
            _refuse(400, "bad-request", "The message begins with blank lines.")
        end = held.find(b"\r\n\r\n", self._scanned, self._limit)
        if end < 0:
            window = held if len(held) <= self._limit else held[: self._limit]
            if BREACH.search(window, max(self._scanned - 1, 0)):
                _refuse(400, "bad-request", "The head has a bare CR, a bare LF or a NUL.")
            if len(held) >= self._limit:
                line = held.find(b"\r\n", 0, self._limit)
                if line < 0 or line > self._target_limit + 64:
                    _refuse(414, "target-too-long", "The request target is too long.")
                _refuse(431, "head-too-large", "The head is too large.")
            self._scanned = max(len(held) - 3, 0)
            return None
        head = bytes(held[: end + 4])
        del held[: end + 4]
        self._scanned = 0
        self._skipped = False
        return head


class _Lines:
    """Collects the field lines that httptools reads; the judged ones stand apart, so that judging needs no second loop."""

    __slots__ = ("fields", "judged")

    def __init__(self) -> None:
        self.fields: Fields = []
        self.judged: list[tuple[FieldKind, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.rstrip(b" \t")
        kind = kind_of(name)
        if kind:
            self.judged.append((kind, value))
            if kind in _CODED:
                return
        self.fields.append((name, value))


def _read_lines(head: bytes, limits: H1Limits, *, response: bool) -> _Lines:
    lines = _Lines()
    expected = head.count(b"\n") - 2
    if expected > limits.fields:
        _refuse(431, "too-many-fields", "The head has too many fields.")
    parser = httptools.HttpResponseParser(lines) if response else httptools.HttpRequestParser(lines)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HttpError(400, "bad-request", "The head is not valid HTTP.") from error
    coded = sum(kind in _CODED for kind, _ in lines.judged) if lines.judged else 0
    if len(lines.fields) + coded != expected:
        # A line that the tokenizer read otherwise than as one field: never guess which of the two readings is meant.
        _refuse(400, "bad-request", "The head is not valid HTTP.")
    return lines


def parse_trailers(section: bytes, limits: H1Limits) -> Fields:
    """Judge a trailer section (field lines and the blank line) by the rules of heads.

    :raises HttpError: 400 for a line that is no field, 431 for too many
    """
    lines = _read_lines(b"GET / HTTP/1.1\r\n" + section, limits, response=False)
    return [field for field in lines.fields if field[0].lower() not in _FORBIDDEN_TRAILERS]


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        _refuse(400, "bad-content-length", "Content-Length is not a number.")
    return int(value)


def parse_request(head: bytes, limits: H1Limits) -> RequestHead:
    """Judge a whole head of a request, blank line included.

    :raises HttpError: with the status for the visitor
    """
    try:
        return _parse_request(head, limits)
    except HttpError as error:
        # Such bytes are refused as soon as they are seen, so they come first also when the head arrived in one piece:
        # the refusal does not depend on how the bytes were cut.
        if error.reason != "bad-request" and BREACH.search(head):
            raise HttpError(400, "bad-request", "The head has a bare CR, a bare LF or a NUL.") from error
        raise


def _parse_request(head: bytes, limits: H1Limits) -> RequestHead:
    match = _REQUEST_LINE.match(head)
    if match is None:
        _refuse_request_line(head, limits)
    method, target, major, minor = match.groups()
    if len(method) > limits.method:
        _refuse(501, "method-too-long", "The method is not known here.")
    if len(target) > limits.target:
        _refuse(414, "target-too-long", "The request target is too long.")
    if major != b"1" or minor not in b"01":
        _refuse(505, "bad-version", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if method not in _DIRECT:
        if method == b"CONNECT":
            _refuse(501, "connect-refused", "CONNECT is not served here.")
        lines = _read_lines(b"GET" + head[len(method) :], limits, response=False)
    else:
        lines = _read_lines(head, limits, response=False)
    version = (1, 1) if minor == b"1" else (1, 0)
    host: bytes | None = None
    length: int | None = None
    coding = False
    connection: list[bytes] = []
    upgrade: list[bytes] = []
    expect: bytes | None = None
    for kind, value in lines.judged:
        if kind == FieldKind.HOST:
            if host is not None:
                _refuse(400, "bad-host", "There is more than one Host.")
            host = value
        elif kind == FieldKind.CONNECTION:
            connection += list_members(value)
        elif kind == FieldKind.CONTENT_LENGTH:
            if length is not None:
                _refuse(400, "bad-content-length", "There is more than one Content-Length.")
            length = _length(value)
        elif kind == FieldKind.TRANSFER_ENCODING:
            if coding:
                _refuse(400, "bad-transfer-encoding", "There is more than one Transfer-Encoding.")
            coding = True
            if value.lower() != b"chunked":
                _refuse(
                    400 if b"chunked" in value.lower() else 501,
                    "bad-transfer-encoding",
                    "The only Transfer-Encoding here is chunked.",
                )
        elif kind == FieldKind.UPGRADE:
            upgrade.append(value)
        else:
            expect = value if expect is None else expect + b"," + value
    if coding and (length is not None or version == (1, 0)):
        # RFC 9112 §6.1, §6.3: the classic of request smuggling.
        _refuse(400, "bad-transfer-encoding", "Transfer-Encoding stands with Content-Length or in HTTP/1.0.")
    expect_continue = False
    if expect is not None and version == (1, 1):
        if expect.lower() != b"100-continue":
            _refuse(417, "bad-expect", "The only expectation met here is 100-continue.")
        expect_continue = coding or bool(length)
    if host is None:
        if version == (1, 1):
            _refuse(400, "bad-host", "There is no Host.")
        authority = b""
    else:
        authority = host
    if target[0] != 0x2F or b"#" in target:
        target, named = reduce_target(method, target)
        if named is not None:
            if host is not None and host != named:
                normalise_host(host)
            authority = named
            lines.fields = [field for field in lines.fields if kind_of(field[0]) != FieldKind.HOST]
            lines.fields.insert(0, (b"Host", named))
    if authority or host is not None:
        normalise_host(authority)
    keep_alive = True
    if version == (1, 0):
        keep_alive = b"keep-alive" in connection
    if b"close" in connection:
        keep_alive = False
    result = RequestHead(method, target, authority, version, lines.fields, keep_alive=keep_alive)
    if coding:
        result.framing = Framing.CHUNKED
    elif length is not None:
        result.framing = Framing.LENGTH
        result.length = length
    result.expect_continue = expect_continue
    if upgrade and b"upgrade" in connection and version == (1, 1) and not coding and not length:
        result.upgrade = _judge_upgrade(b", ".join(upgrade))
    return result


def _judge_upgrade(value: bytes) -> bytes | None:
    members = list_members(value)
    for member in members:
        name, _, protocol_version = member.partition(b"/")
        if not is_token(name) or (protocol_version and not is_token(protocol_version)):
            _refuse(400, "bad-upgrade", "Upgrade is not a list of protocols.")
    if not members or any(member.startswith(_UNTUNNELLED) for member in members):
        return None
    return value


def _refuse_request_line(head: bytes, limits: H1Limits) -> NoReturn:
    line = head[: head.index(b"\r\n")]
    parts = line.split(b" ")
    if len(parts) == 3 and is_token(parts[0]) and re.fullmatch(rb"HTTP/[0-9]+(\.[0-9]+)?", parts[2]):
        if re.fullmatch(rb"[!-~]+", parts[1]):
            _refuse(505, "bad-version", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        if len(parts[1]) > limits.target:
            _refuse(414, "target-too-long", "The request target is too long.")
        _refuse(400, "bad-target", "The request target has a character that no target has.")
    _refuse(400, "bad-request", "The request line is not valid HTTP.")


def parse_response(
    head: bytes, limits: H1Limits, *, method: bytes, upgrade: bytes | None
) -> ResponseHead | InformationalHead:
    """Judge a whole head of an answer, blank line included.

    :param method: of the request that it answers
    :param upgrade: what that request offered to switch to, or None
    :raises HttpError: 502
    """
    match = _STATUS_LINE.match(head)
    if match is None:
        _refuse(502, "bad-answer", "The origin's status line is not valid HTTP.")
    major, minor, code, reason = match.groups()
    if major != b"1" or minor not in b"01":
        _refuse(502, "bad-answer", "The origin does not speak HTTP/1.1 or HTTP/1.0.")
    try:
        lines = _read_lines(head, limits, response=True)
    except HttpError as error:
        raise HttpError(502, "bad-answer", f"The origin's answer is refused. {error.message}") from error
    status = int(code)
    version = (1, 1) if minor == b"1" else (1, 0)
    length: int | None = None
    coding = False
    connection: list[bytes] = []
    switched: list[bytes] = []
    for kind, value in lines.judged:
        if kind == FieldKind.CONNECTION:
            connection += list_members(value)
        elif kind == FieldKind.CONTENT_LENGTH:
            if length is not None or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                _refuse(502, "bad-answer", "The origin's Content-Length is not one number.")
            length = int(value)
        elif kind == FieldKind.TRANSFER_ENCODING:
            if coding or value.lower() != b"chunked":
                _refuse(502, "bad-answer", "The origin uses a Transfer-Encoding other than chunked.")
            coding = True
        elif kind == FieldKind.UPGRADE:
            switched += list_members(value)
    if coding and (length is not None or version == (1, 0)):
        _refuse(502, "bad-answer", "The origin's Transfer-Encoding stands with Content-Length or in HTTP/1.0.")
    if status < 200:
        if length or coding:
            _refuse(502, "bad-answer", "The origin's interim answer claims a body.")
        if status != 101:
            return InformationalHead(status, lines.fields)
        offered = list_members(upgrade) if upgrade is not None else []
        if not switched or not set(switched) <= set(offered) or b"upgrade" not in connection or version == (1, 0):
            _refuse(502, "bad-answer", "The origin switched to a protocol that was not asked for.")
        return ResponseHead(status, reason or b"", lines.fields, version, keep_alive=False)
    keep_alive = b"close" not in connection and (version == (1, 1) or b"keep-alive" in connection)
    result = ResponseHead(status, reason or b"", lines.fields, version, keep_alive=keep_alive)
    if method == b"HEAD" or status == 304:
        result.length = length
    elif status == 204:
        # RFC 9110 §8.6, §6.1 forbid both; if a body does come, it must not be taken for the next answer.
        if length or coding:
            result.keep_alive = False
    elif coding:
        result.framing = Framing.CHUNKED
    elif length is not None:
        result.framing = Framing.LENGTH
        result.length = length
    else:
        result.framing = Framing.CLOSE
        result.keep_alive = False
    return result
