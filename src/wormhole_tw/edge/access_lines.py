"""A finished request as a line: an object of JSON, or the combined format that Apache and nginx write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any, NamedTuple

from wormhole_tw.http.memo import remember

if TYPE_CHECKING:
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.http.events import RequestHead

__all__ = ["FIELDS", "LEFT", "LINES", "MAX_VALUE", "Form", "clf_second", "combined_line", "json_line", "shown_second"]

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
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)).encode("ascii")


@lru_cache(maxsize=4)
def clf_second(second: int) -> str:
    """A second as the combined format has it."""
    t = gmtime(second)
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

_COMMON = b'",%s,%s,%s,"attempts":%d,"status":%d,"reason":%s,"cache":"%s","received":%d,"sent":'


def _json_time(milliseconds: int) -> bytes:
    return b'{"time":"%s.%03dZ","request_id":"' % (shown_second(milliseconds // 1000), milliseconds % 1000)


def _json_common(exchange: Exchange) -> bytes:
    """From behind the request's name to the octets that were sent: of parts that are the same for a connection, a head,
    and a place in the configuration."""
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
    return _COMMON % (
        connection,
        _NO_HEAD if head is None else _json_of(head),
        place,
        exchange.attempts,
        exchange.status or LEFT,
        as_json(exchange.reason) if exchange.reason else b'""',
        exchange.cache.encode(),
        exchange.received,
    )


def _json_alike(time: bytes, common: bytes, request_id: bytes, sent: int, first: float | None, whole: float) -> bytes:
    if first is None:
        return b'%s%s%s%d,"first_byte":null,"duration":%.6f}\n' % (time, request_id, common, sent, whole)
    return b'%s%s%s%d,"first_byte":%.6f,"duration":%.6f}\n' % (time, request_id, common, sent, first, whole)


def json_line(exchange: Exchange, ended: float, wall: float) -> bytes:
    """A line of JSON.

    :param ended: the wheel's clock at its end
    :param wall: seconds since 1970 at its end
    """
    began = exchange.began
    first_byte = exchange.first_byte
    first = max(0.0, first_byte - began) if first_byte else None
    whole = max(0.0, ended - began)
    time = _json_time(int(wall * 1000))
    return _json_alike(time, _json_common(exchange), exchange.request_id, exchange.sent, first, whole)


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


def _combined_common(exchange: Exchange) -> tuple[str, str, int, str]:
    """Address, request line, status, and what stands behind the octets that were sent."""
    head = exchange.head
    request, rest = ("-", '"-" "-"') if head is None else _combined(head)
    return exchange.facts.address or "-", request, exchange.status or LEFT, rest


def _combined_time(milliseconds: int) -> str:
    return clf_second(milliseconds // 1000)


def _combined_alike(
    time: str, common: tuple[str, str, int, str], request_id: bytes, sent: int, first: float | None, whole: float
) -> bytes:
    address, request, status, rest = common
    return f'{address} - - [{time}] "{request}" {status} {sent or "-"} {rest}\n'.encode("ascii")


def combined_line(exchange: Exchange, ended: float, wall: float) -> bytes:
    """A line in the combined format: visitor, time, request line, status, octets sent, referer, user agent."""
    time = _combined_time(int(wall * 1000))
    return _combined_alike(time, _combined_common(exchange), b"", exchange.sent, None, 0.0)


class Form(NamedTuple):
    """A format.

    :ivar line: a request's line, by its exchange, the wheel's clock and the wall's (seconds since 1970) at its end
    :ivar time: the wall's clock in milliseconds, as lines have it
    :ivar common: what a request's line shares with those of others that differ in nothing but what ``alike`` is given
    :ivar alike: the line of one of them: its time, what it shares, its name, octets of its answer's body, seconds from
        its head to that of its answer (None: there was none) and to its end
    """

    line: Callable[[Exchange, float, float], bytes]
    time: Callable[[int], Any]
    common: Callable[[Exchange], Any]
    alike: Callable[[Any, Any, bytes, int, float | None, float], bytes]


LINES: Mapping[str, Form] = {
    "json": Form(json_line, _json_time, _json_common, _json_alike),
    "combined": Form(combined_line, _combined_time, _combined_common, _combined_alike),
}
"""By ``access_log.format``."""
