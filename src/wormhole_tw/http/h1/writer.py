"""Heads and chunks as bytes.  What the codec owns (Connection, Transfer-Encoding, Content-Length) is ``extra`` here."""

from __future__ import annotations

from functools import lru_cache

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Fields, Framing, RequestHead, ResponseHead
from wormhole_tw.http.grammar import LF, NUL, SPACE, TE_TRAILERS
from wormhole_tw.http.memo import remember

__all__ = [
    "JOIN_WHOLE_BELOW",
    "LAST_CHUNK",
    "common_request_head",
    "common_response_head",
    "informational_head",
    "last_chunk",
    "plain_answer",
    "request_head",
    "response_head",
    "write_chunk",
]

LAST_CHUNK = b"0\r\n\r\n"

JOIN_BELOW = 1024
"""A chunk shorter than this is copied into one buffer with its size; above, three buffers are cheaper than a copy."""


JOIN_WHOLE_BELOW = 16 * 1024
"""Octets of a whole answer's body that are copied behind its head: one write, one record."""

_WITH_MORE = frozenset({101, 204, 304, 426})
"""Statuses whose heads say more, or less, than the length of the body."""

_HTTP_1_1 = (1, 1)
_LENGTH = Framing.LENGTH


@lru_cache(maxsize=256)
def _status_line(status: int, reason: bytes) -> bytes:
    return b"HTTP/1.1 %d %s\r\n" % (status, reason)


def _lines(start: bytes, fields: Fields, extra: bytes) -> bytes:
    head = b"".join((start, b"\r\n".join(map(b": ".join, fields)), b"\r\n" if fields else b"", extra, b"\r\n"))
    # The last line of defence against a value that carries a line of its own: every one was judged where it came in.
    lines = len(fields) + 2 + extra.count(b"\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines or NUL in head:
        raise MisuseError("a field has CR, LF or NUL in it")
    return head


def response_head(status: int, reason: bytes, fields: Fields, extra: bytes) -> bytes:
    """A whole head of an answer; ``extra`` are finished lines with their CRLF."""
    return _lines(_status_line(status, reason), fields, extra)


def informational_head(status: int, fields: Fields) -> bytes:
    """A whole head of an interim answer."""
    return _lines(_status_line(status, b""), fields, b"")


def request_head(head: RequestHead) -> bytes:
    """A whole head of a request, ``Host`` first (RFC 9112 §3.2).

    :raises MisuseError: a body that ends with the connection, or an octet that would break the lines
    """
    extra = b""
    framing = head.framing
    if framing is Framing.LENGTH:
        extra = b"Content-Length: %d\r\n" % (head.length or 0)
    elif framing is Framing.CHUNKED:
        extra = b"Transfer-Encoding: chunked\r\n"
    elif framing is Framing.CLOSE:
        raise MisuseError("a request cannot end with its connection")
    if head.expect_continue:
        extra += b"Expect: 100-continue\r\n"
    named = []
    if head.upgrade is not None:
        extra += b"Upgrade: %s\r\n" % head.upgrade
        named.append(b"Upgrade")
    if TE_TRAILERS in head.fields:
        # RFC 9110 §10.1.4: TE is of this connection, and says so.
        named.append(b"TE")
    if named:
        extra += b"Connection: %s\r\n" % b", ".join(named)
    method, target, authority = head.method, head.target, head.authority
    if SPACE in target or SPACE in method or LF in target or LF in authority:
        raise MisuseError("a request line has a space or line end in it")
    return _lines(b"%s %s HTTP/1.1\r\n" % (method, target), [(b"Host", authority), *head.fields], extra)


_answers: dict[tuple[int, int, bytes, bytes], tuple[Fields, bytes]] = {}
_plain: dict[tuple[int, int], tuple[Fields, int, bytes, bytes]] = {}


def common_request_head(head: RequestHead) -> bytes:
    """:func:`request_head` of a head that is shared, written once."""
    if not head.written:
        head.written = request_head(head)
    return head.written


def common_response_head(head: ResponseHead, extra: bytes) -> bytes:
    """:func:`response_head` of a head whose fields are shared, written once."""
    key = (id(head.fields), head.status, head.reason, extra)
    known = _answers.get(key)
    if known is not None and known[0] is head.fields:
        return known[1]
    written = response_head(head.status, head.reason, head.fields, extra)
    remember(_answers, key, (head.fields, written))
    return written


def plain_answer(request: RequestHead, head: ResponseHead, body: bytes) -> bytes | None:
    """A whole answer as most go, whose fields are shared: to a request that leaves the connection open, of a length and
    not a long one.  Its head is written once, and stays with it (``head.written``), for who has this very head again
    for the same request.

    :returns: None where it is not so
    """
    if (
        not head.keep_alive
        or head.length != len(body)
        or head.framing is not _LENGTH
        or not request.keep_alive
        or request.version != _HTTP_1_1
        or request.method == b"HEAD"
        or request.expect_continue
        or len(body) >= JOIN_WHOLE_BELOW
        or head.status in _WITH_MORE
    ):
        return None
    fields = head.fields
    key = (id(fields), head.length)
    known = _plain.get(key)
    if known is not None and known[0] is fields and known[1] == head.status and known[2] == head.reason:
        written = known[3]
    else:
        written = response_head(head.status, head.reason, fields, b"Content-Length: %d\r\n" % head.length)
        remember(_plain, key, (fields, head.status, head.reason, written))
    head.written = (request, written)
    return written + body


def write_chunk(data: bytes, out: list[bytes]) -> None:
    """Append one chunk."""
    if len(data) < JOIN_BELOW:
        out.append(b"%x\r\n%s\r\n" % (len(data), data))
    else:
        out += (b"%x\r\n" % len(data), data, b"\r\n")


def last_chunk(trailers: Fields) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST_CHUNK
    return _lines(b"0\r\n", trailers, b"")
