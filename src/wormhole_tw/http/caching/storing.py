"""What is stored of an answer (RFC 9111 §3), and how one that was confirmed is brought up to date (§3.2, §4.3.4-5).

**Which answers** (§3): to GET, with a final status, without ``no-store`` in answer or request, and without ``private``,
unless that names fields (§5.2.2.7).  Somebody must have said how long it is fresh, or it must be allowed to guess
(:mod:`.freshness`); one that is stale at once is stored only where it can be validated or served stale.  ``public``
allows to guess for any status code; ``must-understand`` asks for one that we know, and wins over the ``no-store``
beside it then (§5.2.2.3).

**To requests with Authorization** (§3.5), or of somebody whom an access rule knows: only with ``public``, ``s-maxage``
or ``must-revalidate``.  **With Set-Cookie**: not at all (§7.3 warns; the standard would allow it), unless the policy
strips it, or the answer names it in ``no-cache="set-cookie"`` or ``private="set-cookie"``.  **With Cookie** in the
request: where freshness was said; it is never guessed.

**Which fields** (§3.1): all but those of one connection, ``Age`` (it is worked out), ``Warning`` (§5.5, obsolete) and
what is named or stripped.  ``Date`` is added where there is none (RFC 9110 §6.6.1).

**In a coding**: for those alone who ask for codings in the same way, also where ``Vary`` forgets to say so.

**Parts** (§3.3, §3.4): the body of a 206 is kept as a span of its 200, where there is a strong entity tag and the
complete length.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from wormhole_tw.http.caching.browsers import told_directives, told_fields
from wormhole_tw.http.caching.dates import read_date, write_date
from wormhole_tw.http.caching.directives import field_names
from wormhole_tw.http.caching.etags import is_strong, weakly_equal
from wormhole_tw.http.caching.freshness import Lines, age_of, directives_of, freshness, times_of
from wormhole_tw.http.caching.records import NO_CACHE, PERSONAL, Refusal, Stored
from wormhole_tw.http.caching.selecting import selecting_fields, selecting_values
from wormhole_tw.http.forwarding import fields_of_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wormhole_tw.http.caching.freshness import Directives
    from wormhole_tw.http.caching.policy import CachePolicy
    from wormhole_tw.http.caching.question import Question
    from wormhole_tw.http.events import ResponseHead

__all__ = ["freshen", "storable", "told"]

MAX_TAGS = 256
MAX_TAG = 256
"""Tags of an answer and octets of one: what could not be purged by all of its tags is not stored."""

_Line = tuple[bytes, bytes]

_OF_CONNECTION = frozenset({b"age", b"warning", b"proxy-authentication-info", b"trailer"})
"""Dropped beside those that every proxy drops; trailers are not kept, and not announced then."""

_OF_BODY = frozenset(
    {
        b"content-digest",
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"digest",
        b"etag",
        b"repr-digest",
    }
)
"""What says how the stored body is, and is not replaced by a 304's (RFC 9111 §3.2)."""

_NEVER_STORED = frozenset({304, 412, 416, 428, 429, 431, 511})
"""Answers to a condition or a range, not to the target; and those that RFC 6585 forbids to store, for they are about
one visitor's request."""

_UNDERSTOOD = frozenset(
    {200, 203, 204, 206, 300, 301, 302, 303, 307, 308}
    | set(range(400, 418))
    | {421, 422, 425, 426, 428, 429, 431, 451}
    | set(range(500, 506))
    | {511}
)
"""Status codes whose meaning for a cache is known (``must-understand``, RFC 9111 §5.2.2.3)."""

_SHAREABLE = (b"public", b"s-maxage", b"must-revalidate")

_CONTENT_RANGE = re.compile(rb"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)

_NO_NAMES: frozenset[bytes] = frozenset()

_SEPARATORS = re.compile(rb"[ \t,]+")


def storable(
    asked: Question, head: ResponseHead, policy: CachePolicy, requested: float, received: float, born: int = 0
) -> Stored | Refusal:
    """Whether an answer may be stored for others, and the record of it (RFC 9111 §3).

    The record's ``length`` is what ``Content-Length`` (``head.length``) says, or None; whoever stores the body puts
    the length of a body without one in when it has ended (``structs.replace(stored, length=…)``).  A 206 is stored as
    a span of its 200: ``first`` and ``length`` come of its ``Content-Range`` (Refusal ``partial`` where that has no
    complete length, or there is no strong entity tag), and its body has ``head.length`` octets.

    An answer to HEAD is not stored by itself (Refusal ``request``); see :func:`freshen`.

    :param asked: the visitor's request; its fields are what the origin was asked with, for Vary
    :param head: the origin's answer, as it came from its codec
    :param requested: epoch seconds when the request was sent
    :param received: epoch seconds when the head came
    :param born: the purge clock when the fetch began
    """
    if asked.head or (b"no-store" in asked.directives and b"no-store" not in policy.ignore_request):
        return Refusal("request")
    if head.status < 200 or head.status in _NEVER_STORED:
        return Refusal("status")
    said = _answer_fields(head, policy)
    lines = _lines(said)
    kept = [line for line in said if line[0] not in _OF_CONNECTION]
    status, reason, first, length = head.status, head.reason, 0, head.length
    if status == 206:
        span = _span(head, lines)
        if span is None:
            return Refusal("partial")
        kept = [line for line in kept if line[0] != b"content-range"]
        status, reason = 200, b"OK"
        first, length = span
    elif status == 204:
        length = 0
    return _record(
        asked,
        kept,
        lines,
        policy,
        requested,
        received,
        status=status,
        reason=reason,
        first=first,
        length=length,
        born=born,
        vary=None,
    )


def _answer_fields(head: ResponseHead, policy: CachePolicy) -> list[_Line]:
    """The fields of an answer that concern more than its connection, lower-case, without those that are stripped."""
    strip = policy.strip
    return [(lower, value) for name, value in fields_of_answer(head).fields if (lower := name.lower()) not in strip]


def _lines(fields: Iterable[_Line]) -> Lines:
    lines: Lines = {}
    for name, value in fields:
        lines.setdefault(name, []).append(value)
    return lines


def _record(
    asked: Question,
    kept: list[_Line],
    lines: Lines,
    policy: CachePolicy,
    requested: float,
    received: float,
    *,
    status: int,
    reason: bytes,
    first: int,
    length: int | None,
    born: int,
    vary: tuple[tuple[bytes, bytes | None], ...] | None,
) -> Stored | Refusal:
    """
    :param kept: the fields that are stored
    :param lines: all that the answer says, with what is not stored (``Age``)
    :param vary: selecting values that are known; None: of this request
    """
    said, targeted = directives_of(lines, policy)
    refused = _refused(asked, said, status)
    if refused:
        return Refusal(refused)
    named = _named(said)
    if named:
        kept = [line for line in kept if line[0] not in named]
    if b"set-cookie" in lines and b"set-cookie" not in named:
        return Refusal("set-cookie")
    names = selecting_fields(lines.get(b"vary", ()))
    if names is None:
        return Refusal("vary")
    if b"content-encoding" in lines and b"accept-encoding" not in names:
        names = (*names, b"accept-encoding")
    tags = _tags(lines.get(policy.tag_header, ()))
    if tags is None:
        return Refusal("tags")
    times = times_of(lines, requested, received)
    if not times.dated:
        kept = [line for line in kept if line[0] != b"date"]
        kept.append((b"date", write_date(received)))
    guessing = not asked.personal and b"cookie" not in asked.fields
    fresh = freshness(said, lines, policy, status, times, received, targeted=targeted, guessing=guessing)
    if fresh is None:
        return Refusal("not-fresh")
    etag = lines[b"etag"][0] if b"etag" in lines else b""
    modified = read_date(lines[b"last-modified"][0], received) if b"last-modified" in lines else None
    usable = max(fresh.fresh_until, fresh.behind_until, fresh.error_until) > received
    if (not usable or fresh.flags & NO_CACHE) and not etag and modified is None:
        return Refusal("not-fresh")
    browser = None
    if policy.browser_ttl is not None:
        browser = (told_directives(lines.get(b"cache-control", ())), policy.browser_ttl)
    return Stored(
        status=status,
        reason=reason,
        fields=tuple(kept),
        requested=requested,
        received=received,
        date=times.date,
        zero=times.zero,
        fresh_until=fresh.fresh_until,
        behind_until=fresh.behind_until,
        error_until=fresh.error_until,
        vary=selecting_values(asked, names) if vary is None or tuple(name for name, _ in vary) != names else vary,
        length=length,
        first=first,
        tags=tags,
        born=born,
        flags=fresh.flags | (PERSONAL if asked.personal else 0),
        etag=etag,
        modified=modified,
        browser=browser,
    )


def _refused(asked: Question, said: Directives, status: int) -> str | None:
    if b"must-understand" in said:
        if status not in _UNDERSTOOD:
            return "must-understand"
    elif b"no-store" in said:
        return "no-store"
    if b"private" in said and not field_names(said[b"private"] or b""):
        return "private"
    if asked.personal and not any(name in said for name in _SHAREABLE):
        return "authorization"
    return None


def _named(said: Directives) -> frozenset[bytes]:
    """The fields that ``no-cache="…"`` and ``private="…"`` keep out of the store (RFC 9111 §5.2.2.4, §5.2.2.7)."""
    if b"no-cache" not in said and b"private" not in said:
        return _NO_NAMES
    return field_names(said.get(b"no-cache") or b"") | field_names(said.get(b"private") or b"")


def _span(head: ResponseHead, lines: Lines) -> tuple[int, int] | None:
    """Where the body of a 206 begins in its representation, and how long that is."""
    ranges = lines.get(b"content-range", [])
    match = _CONTENT_RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    if match is None or not is_strong(lines.get(b"etag", [b""])[0]):
        return None
    first, last, length = int(match[1]), int(match[2]), int(match[3])
    if not first <= last < length or head.length not in (None, last - first + 1):
        return None
    return first, length


def _tags(values: Sequence[bytes]) -> tuple[bytes, ...] | None:
    if not values:
        return ()
    tags = dict.fromkeys(tag for value in values for tag in _SEPARATORS.split(value) if tag)
    if len(tags) > MAX_TAGS or any(len(tag) > MAX_TAG for tag in tags):
        return None
    return tuple(tags)


def freshen(
    stored: Stored, head: ResponseHead, asked: Question, policy: CachePolicy, requested: float, received: float
) -> Stored | None:
    """A stored answer after the origin confirmed it by a 304, or answered HEAD for it (RFC 9111 §3.2, §4.3.4, §4.3.5).

    Its fields are replaced by those that came, but for those that say what the body is (``Content-Length``,
    ``Content-Encoding``, ``Content-Range``, ``Content-MD5``, ``ETag`` …), and age and freshness are worked out anew.
    A ``Set-Cookie`` in it is for one visitor, and dropped.

    :returns: the very same record, which is as old as it was, where nothing can be concluded for others: an error (5xx)
        to HEAD, and what may not be stored, or is said to HEAD of another representation, to somebody with ``Cookie``
        or ``Authorization``: no visitor can have an answer removed by showing some.  A 304 still allows to serve it to
        the one who asked.  None where it can no longer be used: the answer is of another representation (another
        status, validator or length), or may not be stored any more.  It has to be removed then
    """
    # what somebody is told of whom the origin may know says nothing about what others get
    void = stored if asked.personal or b"cookie" in asked.fields else None
    if head.status != 304:
        if head.status >= 500 and stored.status < 500:
            return stored
        if head.status != stored.status or (
            head.length is not None and stored.length is not None and head.length != stored.length
        ):
            return void
    said = _answer_fields(head, policy)
    if not _same(stored, _lines(said), every=head.status != 304):
        return void if head.status != 304 else None
    update = [line for line in said if line[0] not in _OF_BODY and line[0] != b"set-cookie"]
    replaced = {name for name, _ in update} | {b"date"}
    fields = [line for line in stored.fields if line[0] not in replaced] + update
    made = _record(
        asked,
        [line for line in fields if line[0] not in _OF_CONNECTION],
        _lines(fields),
        policy,
        requested,
        received,
        status=stored.status,
        reason=stored.reason,
        first=stored.first,
        length=stored.length,
        born=stored.born,
        vary=stored.vary,
    )
    return void if isinstance(made, Refusal) else made


def _same(stored: Stored, lines: Lines, *, every: bool) -> bool:
    """Whether the validators of an answer are those of a stored one, as far as it has them.

    :param every: all of them (HEAD, RFC 9111 §4.3.5); else an entity tag is enough (304, §4.3.4)
    """
    tag = lines[b"etag"][0] if b"etag" in lines else None
    if tag is not None:
        same = stored.etag == tag if is_strong(tag) else weakly_equal(stored.etag, tag)
        if not same or not every:
            return same
    if b"last-modified" in lines and stored.modified is not None:
        return read_date(lines[b"last-modified"][0], stored.received) == stored.modified
    return True


def told(head: ResponseHead, policy: CachePolicy) -> ResponseHead:
    """An answer that comes from the origin, as the first visitor gets it: as it came, but for ``browser_ttl`` and the
    fields that the policy strips.  The same object where the policy changes nothing.

    Only for answers that are stored.
    """
    if policy.browser_ttl is None and not policy.strip:
        return head
    fields = [line for line in head.fields if line[0].lower() not in policy.strip]
    if policy.browser_ttl is not None:
        lines = _lines((name.lower(), value) for name, value in fields)
        prefix = told_directives(lines.get(b"cache-control", ()))
        fields = told_fields(fields, (prefix, policy.browser_ttl), age_of(lines) or 0)
    return replace(head, fields=fields, common=False)
