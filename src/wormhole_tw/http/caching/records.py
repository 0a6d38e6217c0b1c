"""What a cache keeps of an answer beside its body, and the small records that the rules hand back.

Everything a hit needs is worked out once, when the answer is stored: two comparisons say whether it is fresh, one
subtraction is its age.  These figures are those of the policy that was in force when the answer came; a changed policy
is seen by answers that come after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from wormhole_tw.http.caching.etags import is_strong
from wormhole_tw.structs import Struct

if TYPE_CHECKING:
    from wormhole_tw.http.events import ResponseHead

__all__ = [
    "IMMUTABLE",
    "MUST_REVALIDATE",
    "NEVER_STALE",
    "NO_CACHE",
    "PERSONAL",
    "Answer",
    "Refusal",
    "Stored",
    "Target",
    "Verdict",
]

NO_CACHE = 1
"""``no-cache`` without field names: never served without asking the origin (RFC 9111 §5.2.2.4)."""

MUST_REVALIDATE = 2
"""``must-revalidate``, ``proxy-revalidate`` or ``s-maxage``: never served stale, whatever a visitor or a policy allows
(RFC 9111 §4.2.4, §5.2.2.2, §5.2.2.8, §5.2.2.10)."""

PERSONAL = 4
"""The request that brought it had ``Authorization``, or an access rule knew who asked; the answer says that it may be
shared all the same (RFC 9111 §3.5)."""

IMMUTABLE = 8
"""Its body never changes while it is fresh: a reload is no reason to ask for it again (RFC 8246)."""

NEVER_STALE = NO_CACHE | MUST_REVALIDATE
"""Neither a policy nor a visitor can have it stale; the windows that the answer itself names are in its record."""


class Stored(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The head of a stored answer, and what was worked out of it.  Its body is not in it.

    Encoded and decoded by ``wormhole_tw.structs.msgpack`` (a map, defaults left out).

    :ivar status: 200 to 999, never 206 or 304: a part of a representation is stored as the 200 it is part of
    :ivar reason: reason phrase of the origin, may be empty
    :ivar fields: as they will be served, names lower-case: without fields of one connection, ``Age``, ``Warning``,
        ``Content-Length``, ``Content-Range``, what the policy strips, what ``no-cache="…"`` or ``private="…"`` name
    :ivar requested: epoch seconds when the request that brought it was sent
    :ivar received: epoch seconds when its head came (of the last answer that confirmed it)
    :ivar vary: the selecting fields (lower-case) and the values that the request had, normalised; None for a field
        that it did not have.  Empty: any request selects it
    :ivar length: octets of the whole representation; None where that is not known until the body has ended
    :ivar first: where the kept body begins in the representation
    :ivar tags: what it can be purged by
    :ivar born: the purge clock when its fetch began: a purge after that covers it
    :ivar date: epoch seconds of ``Date`` (RFC 9110 §6.6.1), or of ``received`` where it says none
    :ivar zero: epoch seconds when its age was zero (RFC 9111 §4.2.3), so that its age is ``now - zero``
    :ivar fresh_until: epoch seconds; stale from then on
    :ivar behind_until: until then it may be served stale while the origin is asked behind the visitor's back (RFC 5861
        §3); never before ``fresh_until``
    :ivar error_until: until then it may be served stale where the origin fails (RFC 5861 §4); never before
        ``fresh_until``
    :ivar flags: of NO_CACHE, MUST_REVALIDATE, PERSONAL, IMMUTABLE
    :ivar etag: the entity tag as the origin wrote it; empty for none
    :ivar modified: epoch seconds of ``Last-Modified``; None for none
    :ivar browser: where the policy tells visitors another freshness: the directives that are told before it (with
        their comma) and the seconds; :func:`.serve` puts them in the place of ``Cache-Control`` and ``Expires``
    """

    status: int
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    requested: float
    received: float
    date: float
    zero: float
    fresh_until: float
    behind_until: float
    error_until: float
    vary: tuple[tuple[bytes, bytes | None], ...] = ()
    length: int | None = None
    first: int = 0
    tags: tuple[bytes, ...] = ()
    born: int = 0
    flags: int = 0
    etag: bytes = b""
    modified: float | None = None
    browser: tuple[bytes, int] | None = None

    def field(self, name: bytes) -> bytes | None:
        """The value of the first line of a field, None for none.

        :param name: lower-case
        """
        for known, value in self.fields:
            if known == name:
                return value
        return None

    @property
    def strong(self) -> bool:
        """Whether it has a strong entity tag: what parts of one representation are put together by (RFC 9110 §8.8.3,
        RFC 9111 §3.4)."""
        return is_strong(self.etag)

    @property
    def validated(self) -> bool:
        """Whether the origin can be asked if it is still right (RFC 9111 §4.3.1)."""
        return bool(self.etag) or self.modified is not None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an answer is not stored.

    :ivar reason: one word for logs, counters and ``Cache-Status; detail``: ``no-store``, ``private``, ``set-cookie``,
        ``authorization``, ``vary``, ``status``, ``not-fresh``, ``partial``, ``must-understand``, ``request``, ``tags``
    """

    reason: str


class Verdict(IntEnum):
    """What may be done with a stored answer for one request (RFC 9111 §4)."""

    FRESH = 0
    """serve it"""
    STALE = 1
    """serve it, and ask nobody: the visitor takes a stale one (``max-stale``)"""
    STALE_SERVE = 2
    """serve it, and revalidate it behind (``stale-while-revalidate``)"""
    REVALIDATE = 3
    """ask the origin first, with :func:`.conditional`; if that fails, see :func:`.usable_on_error`"""
    UNAVAILABLE = 4
    """it may not be served, and the visitor wants nobody asked (``only-if-cached``): answer 504"""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer made of what is stored.

    :ivar head: to be handed on as it is; shared between equal requests of one second (``head.common``)
    :ivar start: first octet of the KEPT body that is sent (not of the representation)
    :ivar end: octet of the kept body before which it ends; equal to ``start`` where no body is sent
    """

    head: ResponseHead
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Target:
    """Whatever an unsafe request made void (RFC 9111 §4.4).

    :ivar target: path and query in origin-form, as the origin or the visitor wrote it (to be normalised as a request's
        is).  Scheme and host are those of the request: others are never touched
    """

    target: bytes
