"""A finished request as a line: an object of JSON, or the combined format that Apache and nginx write."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from wormhole_tw.http.memo import remember

if TYPE_CHECKING:
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.http.events import RequestHead

__all__ = ["FIELDS", "LEFT", "LINES", "MAX_VALUE", "clf_second", "combined_line", "json_line", "shown_second"]

LEFT = 499
"""The status of a visitor who left before an answer, in both formats; nginx's, which tools know."""

MAX_VALUE = 2048
"""Characters of a path, a user agent or a referer; the rest of a longer one is cut off."""


FIELDS = (
    "time",
    "request_id",
    "client",
    "scheme",
    "tls",
    "client_certificate",
    "method",
    "host",
    "path",
    "http",
    "user_agent",
    "referer",
    "site",
    "route",
    "backend",
    "session",
    "attempts",
    "status",
    "reason",
    "cache",
    "received",
    "sent",
    "first_byte",
    "duration",
)
"""The fields of a line of JSON, in their order; docs/observability.md says what they are."""


_C1 = re.compile(rb"\xc2([\x80-\x9f])")
"""Control characters that JSON may hold as they are: one of them begins what a terminal obeys, another ends a line."""


def as_json(value: object) -> bytes:
    """As JSON; seldom asked for, as most of a line is known from before."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return _C1.sub(lambda found: b"\\u00%x" % found[1][0], text)


@lru_cache(maxsize=4)
def shown_second(second: int) -> bytes:
    """A second of UTC as RFC 3339 has it, without its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode("ascii")


@lru_cache(maxsize=4)
def clf_second(second: int) -> str:
    """A second as the combined format has it."""
    t = time.gmtime(second)
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[t.tm_mon - 1]
    return f"{t.tm_mday:02d}/{month}/{t.tm_year:04d}:{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"


def _text(value: bytes) -> str:
    return str(value, "latin-1") if len(value) <= MAX_VALUE else value[:MAX_VALUE].decode("latin-1")


_USER = re.compile(rb"((?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]{2})?[^/\\]*@")
"""What stands before a host, also without a scheme: no browser sends that, but it may be a password all the same."""


def _referer(value: bytes) -> bytes:
    """Without query, fragment, user and password."""
    value = value.partition(b"?")[0].partition(b"#")[0]
    if b"@" not in value:
        return value
    match = _USER.match(value)
    return value if match is None else (match[1] or b"") + value[match.end() :]


_Values = tuple[bytes, bytes, bytes, bytes, bytes, bytes]


def _shown(head: RequestHead) -> _Values:
    """Method, host, path, version, user agent and referer of a head."""
    agent = referer = b""
    for name, value in head.fields:
        length = len(name)
        if length == 10:
            if name == b"User-Agent" or name.lower() == b"user-agent":
                agent = value
        elif length == 7 and name.lower() == b"referer":
            referer = _referer(value)
    return head.method, head.authority, head.target.partition(b"?")[0], _version(head.version), agent, referer


@lru_cache(maxsize=8)
def _version(version: tuple[int, int]) -> bytes:
    return b"%d.%d" % version if version[0] < 2 else b"%d" % version[0]


_json_before: dict[int, tuple[RequestHead, bytes]] = {}
_places_before: dict[tuple[str, str, str, object], bytes] = {}


_HEAD = b'"method":"%s","host":"%s","path":"%s","http":"%s","user_agent":"%s","referer":"%s"'
_NO_HEAD = _HEAD % (b"", b"", b"", b"", b"", b"")
_PLAIN = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\')
"""Octets that stand in JSON as they are."""


def _head_json(head: RequestHead) -> bytes:
    values = _shown(head)
    together = b"".join(values)
    if len(together) <= MAX_VALUE and not together.translate(None, _PLAIN):
        return _HEAD % values
    return _HEAD % tuple(as_json(_text(value))[1:-1] for value in values)


def _json_of(head: RequestHead) -> bytes:
    """What a line says of a head; worked out once for one that is shared."""
    if not head.common:
        return _head_json(head)
    known = _json_before.get(id(head))
    if known is None or known[0] is not head:
        known = (head, _head_json(head))
        remember(_json_before, id(head), known)
    return known[1]


def _json(names: Iterable[str], values: Iterable[str | None]) -> bytes:
    """Members of an object, without its braces."""
    return as_json(dict(zip(names, values, strict=True)))[1:-1]


_CONNECTION = FIELDS[2:6]
_PLACE = FIELDS[12:16]

_LINE = (
    b'{"time":"%s.%03dZ","request_id":"%s",%s,%s,%s,"attempts":%d,"status":%d,"reason":%s,"cache":"%s",'
    b'"received":%d,"sent":%d,"first_byte":%s,"duration":%.6f}\n'
)


def json_line(exchange: Exchange, ended: float, wall: float) -> bytes:
    """A line of JSON, made of parts that are the same for a connection, a head, and a place in the configuration.

    :param ended: the wheel's clock at its end
    :param wall: seconds since 1970 at its end
    """
    head = exchange.head
    facts = exchange.facts
    connection = facts.noted
    if connection is None:
        tls = facts.tls
        texts: tuple[str | None, ...] = (facts.address, facts.forwarding.scheme, None, None)
        if tls is not None:
            texts = (*texts[:2], tls.version or None, tls.client_fingerprint)
        connection = facts.noted = _json(_CONNECTION, texts)
    upstream = exchange.upstream
    session = "" if upstream is None else upstream.key
    where = (exchange.site, exchange.route, exchange.backend, session)
    place = _places_before.get(where)
    if place is None:
        place = _json(_PLACE, map(str, where))
        remember(_places_before, where, place)
    began = exchange.began
    first_byte = exchange.first_byte
    duration = ended - began
    second = int(wall)
    return _LINE % (
        shown_second(second),
        (wall - second) * 1000,
        exchange.request_id,
        connection,
        _NO_HEAD if head is None else _json_of(head),
        place,
        exchange.attempts,
        exchange.status or LEFT,
        as_json(exchange.reason) if exchange.reason else b'""',
        exchange.cache.encode(),
        exchange.received,
        exchange.sent,
        b"%.6f" % (first_byte - began) if first_byte > began else b"0.0" if first_byte else b"null",
        duration if duration > 0.0 else 0.0,
    )


_UNSAFE = re.compile(r"[^ !#-\[\]-~]")


def _quoted(text: str) -> str:
    """As Apache writes what stands between quotation marks; ``-`` for nothing."""
    if not text:
        return "-"
    return _UNSAFE.sub(lambda found: f"\\{found[0]}" if found[0] in '"\\' else f"\\x{ord(found[0]):02x}", text)


_combined_before: dict[int, tuple[RequestHead, tuple[str, str]]] = {}


def _combined(head: RequestHead) -> tuple[str, str]:
    """The request line, and referer and user agent, quoted; worked out once for a head that is shared."""
    known = _combined_before.get(id(head)) if head.common else None
    if known is not None and known[0] is head:
        return known[1]
    method, _, path, http, agent, referer = map(_text, _shown(head))
    parts = (_quoted(f"{method} {path} HTTP/{http}"), f'"{_quoted(referer)}" "{_quoted(agent)}"')
    if head.common:
        remember(_combined_before, id(head), (head, parts))
    return parts


def combined_line(exchange: Exchange, ended: float, wall: float) -> bytes:
    """A line in the combined format: visitor, time, request line, status, octets sent, referer, user agent."""
    head = exchange.head
    request, rest = ("-", '"-" "-"') if head is None else _combined(head)
    address = exchange.facts.address or "-"
    status, sent = exchange.status or LEFT, exchange.sent or "-"
    return f'{address} - - [{clf_second(int(wall))}] "{request}" {status} {sent} {rest}\n'.encode("ascii")


LINES: Mapping[str, Callable[[Exchange, float, float], bytes]] = {"json": json_line, "combined": combined_line}
"""By ``access_log.format``."""
