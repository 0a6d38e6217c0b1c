"""Answers made of what is stored: 200, 304, 206, 416, and to HEAD (RFC 9111 §4, §4.3.2; RFC 9110 §13, §14).

**Conditions** (RFC 9110 §13.2.2): ``If-None-Match`` by the weak comparison; else ``If-Modified-Since`` against
``Last-Modified``, or where there is none against ``Date`` (RFC 9111 §4.3.2).  Only for a stored 200.  A 304 has the
fields of the 200 but for those that say what its body is (RFC 9110 §15.4.5).

**Ranges**: of a stored 200, for GET.  ``If-Range`` by the strong comparison, or the very ``Last-Modified`` where
that is strong: at least a second before ``Date`` (RFC 9110 §8.8.2.2, §13.1.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.caching.browsers import told_fields
from wormhole_tw.http.caching.dates import read_date, write_date
from wormhole_tw.http.caching.etags import is_strong, listed, weakly_equal
from wormhole_tw.http.caching.ranges import OTHER, UNSATISFIABLE, resolved_range
from wormhole_tw.http.caching.records import Answer, Stored
from wormhole_tw.http.events import Fields, Framing, ResponseHead
from wormhole_tw.http.memo import remember

if TYPE_CHECKING:
    from wormhole_tw.http.caching.question import Question

__all__ = ["begun", "serve", "wanted"]

_LENGTH = Framing.LENGTH
_NONE = Framing.NONE

_NOTHING = (0, 0)

_OF_BODY = frozenset(
    {
        b"content-digest",
        b"content-encoding",
        b"content-language",
        b"content-md5",
        b"content-range",
        b"content-type",
        b"digest",
        b"repr-digest",
    }
)
"""What a 304 does not say, for the visitor has it."""

_WITHOUT_BODY = (204, 205)

_OK = 200
_PARTIAL = 206
_NOT_MODIFIED = 304
_NOT_SATISFIABLE = 416

_heads: dict[tuple[int, bool], tuple[Stored, int, int, Answer]] = {}


def serve(asked: Question, stored: Stored, size: int, now: float) -> Answer | None:
    """The answer to a request from a stored one, which :func:`.judge` allowed.

    With ``Age``; ``Date`` and everything else as it was stored.  The visitor's ``If-None-Match`` (else
    ``If-Modified-Since``) gets a 304 where it matches; one ``Range`` (with ``If-Range``) gets a 206 or 416; several
    ranges, another unit, or a range of anything but a 200 get the whole.

    :param size: octets of the body that are kept; the whole is where ``stored.first == 0`` and ``size ==
        stored.length`` (a record without a length stands for a body that is whole)
    :param now: epoch seconds
    :returns: None where octets are asked for that are not kept
    """
    age = int(now - stored.zero)
    if age < 0:
        age = 0
    if not asked.plain and stored.status == _OK:
        return _judged(asked, stored, size, age, now)
    return _whole(asked.head, stored, size, age)


def begun(stored: Stored, now: float) -> ResponseHead:
    """The head of a stored answer whose length nobody knows yet, for those who get it while it comes."""
    fields = _fields(stored, max(0, int(now - stored.zero)))
    return ResponseHead(stored.status, stored.reason, fields, framing=Framing.CHUNKED)


def _whole(without_body: bool, stored: Stored, size: int, age: int) -> Answer | None:
    """All of it, or its head alone.  One object for all visitors of a second: what is made of it can be kept, too."""
    key = (id(stored), without_body)
    known = _heads.get(key)
    if known is not None and known[0] is stored and known[1] == age and known[2] == size:
        return known[3]
    length = size if stored.length is None else stored.length
    if not without_body and (stored.first or size != length):
        return None
    bare = stored.status in _WITHOUT_BODY
    head = _head(stored.status, stored.reason, _fields(stored, age), None if bare else length)
    head.common = True
    answer = Answer(head, 0, 0 if without_body or bare else length)
    remember(_heads, key, (stored, age, size, answer))
    return answer


def _judged(asked: Question, stored: Stored, size: int, age: int, now: float) -> Answer | None:
    if not_modified(asked, stored, now):
        fields = [
            line
            for line in _fields(stored, age)
            if line[0] not in _OF_BODY and not (line[0] == b"last-modified" and stored.etag)
        ]
        return Answer(_head(_NOT_MODIFIED, b"Not Modified", fields, None), 0, 0)
    length = size if stored.length is None else stored.length
    part = _part(asked, stored, length)
    if part is OTHER:
        return _whole(asked.head, stored, size, age)
    if part is UNSATISFIABLE:
        refused = [(b"date", write_date(now)), (b"content-range", b"bytes */%d" % length)]
        return Answer(_head(_NOT_SATISFIABLE, b"Range Not Satisfiable", refused, 0), 0, 0)
    start, end = part
    if start < stored.first or end > stored.first + size:
        return None
    fields = [line for line in _fields(stored, age) if line[0] != b"content-range"]
    fields.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, length)))
    head = _head(_PARTIAL, b"Partial Content", fields, end - start)
    return Answer(head, start - stored.first, end - stored.first)


def _fields(stored: Stored, age: int) -> Fields:
    fields = list(stored.fields) if stored.browser is None else told_fields(stored.fields, stored.browser, age)
    fields.append((b"age", b"%d" % age))
    return fields


def _head(status: int, reason: bytes, fields: Fields, length: int | None) -> ResponseHead:
    return ResponseHead(status, reason, fields, (1, 1), _NONE if length is None else _LENGTH, length)


def not_modified(asked: Question, stored: Stored, now: float) -> bool:
    """Whether the visitor has what is stored already (RFC 9110 §13.1.2, §13.1.3; RFC 9111 §4.3.2)."""
    tags = asked.fields.get(b"if-none-match")
    if tags is not None:
        if tags == stored.etag and tags:
            return True
        return any(tag == b"*" or weakly_equal(stored.etag, tag) for tag in listed(tags))
    since = asked.fields.get(b"if-modified-since")
    if since is None:
        return False
    when = read_date(since, now)
    return when is not None and (stored.date if stored.modified is None else stored.modified) <= when


def _part(asked: Question, stored: Stored, length: int) -> tuple[int, int]:
    """The range that is asked for, or OTHER where the whole is."""
    asked_range = asked.fields.get(b"range")
    if asked_range is None or asked.head:
        return OTHER
    condition = asked.fields.get(b"if-range")
    if condition is not None and not _holds(condition, stored):
        return OTHER
    return resolved_range(asked_range, length)


def _holds(condition: bytes, stored: Stored) -> bool:
    if is_strong(condition):
        return condition == stored.etag
    return (
        stored.modified is not None
        and stored.date - stored.modified >= 1
        and condition == stored.field(b"last-modified")
    )


def wanted(asked: Question, stored: Stored, now: float) -> tuple[int, int] | None:
    """The octets of the representation that a request is for, as (start, end), end excluded; None where that needs a
    length that is not known.  (0, 0) where no octet is needed (HEAD, a 304, a 416).

    :param now: epoch seconds
    """
    if asked.head or (stored.status == _OK and not asked.plain and not_modified(asked, stored, now)):
        return _NOTHING
    length = stored.length
    if length is None:
        return None
    part = OTHER if asked.plain or stored.status != _OK else _part(asked, stored, length)
    if part is OTHER:
        return 0, length
    return _NOTHING if part is UNSATISFIABLE else part
