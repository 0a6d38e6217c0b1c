"""``Cache-Status`` (RFC 9211)."""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.http.caching.records import Stored

__all__ = ["Forwarded", "cache_status"]


_TOKEN = re.compile(rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_SPECIAL = re.compile(rb'["\\]')
_UNWRITABLE = re.compile(rb"[^ -~]")


class Forwarded(Enum):
    """Why a request went to the origin (RFC 9211 §2.2)."""

    BYPASS = b"bypass"
    """the cache was not to handle it"""
    METHOD = b"method"
    """its method needs the origin"""
    URI_MISS = b"uri-miss"
    """nothing is stored under its key"""
    VARY_MISS = b"vary-miss"
    """something is, but for other selecting fields"""
    MISS = b"miss"
    """nothing that could be used, and it is not known which of the two above"""
    REQUEST = b"request"
    """what is stored is fresh, but the request's directives ask for the origin"""
    STALE = b"stale"
    """what is stored is stale"""
    PARTIAL = b"partial"
    """what is stored has not all octets that are asked for"""


def cache_status(
    name: bytes,
    *,
    stored: Stored | None = None,
    now: float = 0.0,
    hit: bool = False,
    forwarded: Forwarded | None = None,
    status: int | None = None,
    kept: bool = False,
    collapsed: bool = False,
    detail: str = "",
) -> bytes:
    """One member of ``Cache-Status``: ``wormhole; hit; ttl=376``, ``wormhole; fwd=stale; fwd-status=304; stored`` …

    An answer has what former caches wrote before it: add a line, or a member behind theirs.

    :param name: of the policy: a token
    :param stored: what was served (with ``now``: its ``ttl``, negative where it is stale)
    :param hit: it was answered without the origin (never together with ``forwarded``)
    :param status: of the origin's answer, where that differs from what the visitor gets
    :param kept: the origin's answer was stored
    :param collapsed: the request waited for another's fetch
    :param detail: a word of ours (a refusal's reason, an error's name)
    """
    parts = [_item(name)]
    if hit:
        parts.append(b"hit")
    if forwarded is not None:
        parts.append(b"fwd=" + forwarded.value)
    if status is not None:
        parts.append(b"fwd-status=%d" % status)
    if stored is not None:
        parts.append(b"ttl=%d" % math.floor(stored.fresh_until - now))
    if kept:
        parts.append(b"stored")
    if collapsed:
        parts.append(b"collapsed")
    if detail:
        parts.append(b"detail=" + _item(detail.encode("ascii", "replace")))
    return b"; ".join(parts)


def _item(text: bytes) -> bytes:
    """A token where it is one, else a string (RFC 9651 §3.3.3)."""
    if _TOKEN.fullmatch(text):
        return text
    return b'"%s"' % _SPECIAL.sub(rb"\\\g<0>", _UNWRITABLE.sub(b"?", text))
