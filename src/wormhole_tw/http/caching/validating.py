"""Conditional requests to the origin, and what comes of them (RFC 9111 §3.4, §4.3.1, §4.3.2, §4.3.4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wormhole_tw.http.caching.dates import read_date
from wormhole_tw.http.caching.etags import is_strong, weakly_equal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wormhole_tw.http.caching.records import Stored
    from wormhole_tw.http.events import Fields

__all__ = ["completing", "conditional", "confirmed", "continues"]

_CONDITIONS = frozenset(
    {b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"range"}
)

MAX_ASKED_FOR = 32
"""Variants whose entity tags one request lists: more would make its head longer than services take."""

_CONTENT_RANGE = re.compile(rb"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)


def conditional(fields: Fields, stored: Iterable[Stored]) -> Fields:
    """The fields of a request that asks the origin which of these stored answers is still right.

    ``Range`` and the visitor's own conditions are dropped: they are judged by :func:`.serve` when the answer is there.
    ``If-None-Match`` lists every entity tag (of several variants too); ``If-Modified-Since`` is added where exactly
    one answer is asked for and it has ``Last-Modified``.

    :param fields: of the request as it would go to the origin, names in any case; not changed in place
    :param stored: the selected answer, and perhaps other variants of the same key; empty for a plain fetch without
        conditions
    """
    made = [line for line in fields if line[0].lower() not in _CONDITIONS]
    asked_for = list(stored)
    tags = list(dict.fromkeys(one.etag for one in asked_for if one.etag))[:MAX_ASKED_FOR]
    if tags:
        made.append((b"If-None-Match", b", ".join(tags)))
    if len(asked_for) == 1 and asked_for[0].modified is not None:
        modified = asked_for[0].field(b"last-modified")
        if modified is not None:
            made.append((b"If-Modified-Since", modified))
    return made


def confirmed(fields: Fields, candidates: Iterable[Stored]) -> Stored | None:
    """Which stored answer a 304 confirms (RFC 9111 §4.3.4).

    By its entity tag, a strong one octet for octet; else by its ``Last-Modified``; else, where it has no validator that
    could be compared and one answer alone was asked for, that.  None: none of them (ask again without conditions).

    :param fields: of the 304
    :param candidates: those that :func:`conditional` was given, the selected one first
    """
    known = list(candidates)
    alone = len(known) == 1
    tag = _first(fields, b"etag")
    if tag is not None:
        equal = _strongly_equal if is_strong(tag) else weakly_equal
        return next((one for one in known if equal(one.etag, tag)), None)
    modified = _first(fields, b"last-modified")
    if modified is not None:
        for one in known:
            if one.modified is not None and one.modified == read_date(modified, one.received):
                return one
        known = [one for one in known if one.modified is None]
    return known[0] if alone and known else None


def _strongly_equal(one: bytes, other: bytes) -> bool:
    return one == other


def completing(fields: Fields, stored: Stored, size: int) -> Fields | None:
    """The fields of a request for the octets behind a kept span that begins at 0: ``Range`` and ``If-Range`` (RFC 9111
    §3.4).  None where that cannot be put together (no strong entity tag, not known to be longer).

    :param fields: as :func:`conditional` takes them
    :param size: octets of the span that are kept
    """
    if stored.first or not stored.strong or stored.length is None or not 0 < size < stored.length:
        return None
    made = conditional(fields, ())
    made.append((b"Range", b"bytes=%d-" % size))
    made.append((b"If-Range", stored.etag))
    return made


def continues(stored: Stored, size: int, status: int, fields: Fields) -> bool:
    """Whether an answer (a 206) carries on exactly behind a kept span of the same representation, to its end (RFC 9111
    §3.4): a service may send less than it was asked for (RFC 9110 §15.3.7)."""
    if status != 206 or not stored.strong or _first(fields, b"etag") != stored.etag:
        return False
    match = _CONTENT_RANGE.fullmatch(_first(fields, b"content-range") or b"")
    if match is None or stored.length is None or int(match[1]) != stored.first + size:
        return False
    return int(match[2]) + 1 == stored.length and match[3] in (b"*", b"%d" % stored.length)


def _first(fields: Fields, name: bytes) -> bytes | None:
    return next((value for known, value in fields if known.lower() == name), None)
