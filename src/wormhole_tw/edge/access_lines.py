"""A finished request as a line: an object of JSON, or the combined format that Apache and nginx write."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from wormhole_tw.http.memo import remember

if TYPE_CHECKING:
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.http.events import RequestHead

__all__ = ["LEFT", "LINES", "MAX_VALUE", "AccessLine", "combined_line", "json_line"]

LEFT = 499
"""The status of a visitor who left before an answer, in both formats; nginx's, which tools know."""

MAX_VALUE = 2048
"""Characters of a path, a user agent or a referer; the rest of a longer one is cut off."""


class AccessLine(msgspec.Struct):
    """The fields of a line, in their order; docs/observability.md says what they are."""

    time: str
    request_id: str
    client: str
    method: str
    scheme: str
    host: str
    path: str
    http: str
    tls: str | None
    site: str
    route: str
    backend: str
    session: str
    attempts: int
    status: int
    reason: str
    received: int
    sent: int
    first_byte: float | None
    duration: float
    user_agent: str
    referer: str


_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(maxsize=4)
def _clf_second(second: int) -> str:
    t = time.gmtime(second)
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[t.tm_mon - 1]
    return f"{t.tm_mday:02d}/{month}/{t.tm_year:04d}:{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"


def _text(value: bytes) -> str:
    return value[:MAX_VALUE].decode("latin-1")


_USER = re.compile(rb"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@")


def _referer(value: bytes) -> str:
    """Without query, fragment, user and password."""
    value = value.partition(b"?")[0].partition(b"#")[0]
    if b"@" in value:
        value = _USER.sub(rb"\1", value)
    return _text(value)


def _shown(head: RequestHead) -> tuple[str, str, str, str, str, str]:
    """Method, host, path, version, user agent and referer of a head."""
    agent = referer = ""
    for name, value in head.fields:
        length = len(name)
        if length == 10:
            if name.lower() == b"user-agent":
                agent = _text(value)
        elif length == 7 and name.lower() == b"referer":
            referer = _referer(value)
    major, minor = head.version
    return (
        _text(head.method),
        _text(head.authority),
        _text(head.target.partition(b"?")[0]),
        f"{major}.{minor}" if major < 2 else str(major),
        agent,
        referer,
    )


_NOTHING = ("", "", "", "", "", "")

_shown_before: dict[int, tuple[RequestHead, tuple[str, str, str, str, str, str]]] = {}


def _shown_of(head: RequestHead) -> tuple[str, str, str, str, str, str]:
    """The same, worked out once for a head that is shared."""
    if not head.common:
        return _shown(head)
    known = _shown_before.get(id(head))
    if known is not None and known[0] is head:
        return known[1]
    shown = _shown(head)
    remember(_shown_before, id(head), (head, shown))
    return shown


def json_line(exchange: Exchange, ended: float, wall: float) -> bytes:
    """A line of JSON.

    :param ended: the wheel's clock at its end
    :param wall: seconds since 1970 at its end
    """
    head = exchange.head
    method, host, path, http, agent, referer = _shown_of(head) if head is not None else _NOTHING
    facts = exchange.facts
    served = facts.served
    upstream = exchange.upstream
    began = exchange.began
    first_byte = exchange.first_byte
    second = int(wall)
    line = AccessLine(
        f"{_second(second)}.{int((wall - second) * 1000):03d}Z",
        exchange.request_id.decode("ascii"),
        facts.address,
        method,
        "http" if served is None else "https",
        exchange.host or host,
        path,
        http,
        None if served is None else served.version,
        exchange.site,
        exchange.route,
        exchange.backend,
        "" if upstream is None else str(upstream.key),
        exchange.attempts,
        exchange.status or LEFT,
        exchange.reason,
        exchange.received,
        exchange.sent,
        round(first_byte - began, 6) if first_byte else None,
        round(ended - began, 6),
        agent,
        referer,
    )
    return _encode(line) + b"\n"


_UNSAFE = re.compile(r"[^ !#-\[\]-~]")


def _quoted(text: str) -> str:
    """As Apache writes what stands between quotation marks; ``-`` for nothing."""
    if not text:
        return "-"
    return _UNSAFE.sub(lambda found: f"\\{found[0]}" if found[0] in '"\\' else f"\\x{ord(found[0]):02x}", text)


def combined_line(exchange: Exchange, ended: float, wall: float) -> bytes:
    """A line in the combined format: visitor, time, request line, status, octets sent, referer, user agent."""
    head = exchange.head
    request = "-"
    agent = referer = ""
    if head is not None:
        method, _, path, http, agent, referer = _shown_of(head)
        request = _quoted(f"{method} {path} HTTP/{http}")
    address = exchange.facts.address or "-"
    return (
        f'{address} - - [{_clf_second(int(wall))}] "{request}" {exchange.status or LEFT} {exchange.sent or "-"}'
        f' "{_quoted(referer)}" "{_quoted(agent)}"\n'
    ).encode("ascii")


LINES: Mapping[str, Callable[[Exchange, float, float], bytes]] = {"json": json_line, "combined": combined_line}
"""By ``access_log.format``."""
