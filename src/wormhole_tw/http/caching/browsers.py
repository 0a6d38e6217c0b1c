"""What visitors are told of freshness where the policy says another than the origin (``browser_ttl``).

Directives that are about us (``max-age``, ``s-maxage``, ``stale-…``) or that the policy overrules (``no-cache``,
``no-store``) are not passed on beside it; the others are.  ``max-age`` is told with the answer's age on top, so that a
visitor, who subtracts ``Age``, keeps it for as long as is meant (RFC 9111 §4.2.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from wormhole_tw.http.caching.directives import members

if TYPE_CHECKING:
    from wormhole_tw.http.events import Fields

__all__ = ["told_directives", "told_fields"]

_OURS = frozenset(
    {
        b"max-age",
        b"must-understand",
        b"no-cache",
        b"no-store",
        b"s-maxage",
        b"stale-if-error",
        b"stale-while-revalidate",
    }
)


def told_directives(values: Iterable[bytes]) -> bytes:
    """The directives that are told as they are, with a comma behind each."""
    return b"".join(
        member + b", "
        for value in values
        for member in members(value)
        if member.partition(b"=")[0].rstrip(b" \t").lower() not in _OURS
    )


def told_fields(fields: Iterable[tuple[bytes, bytes]], browser: tuple[bytes, int], age: int) -> Fields:
    """The fields of an answer as visitors are told.

    :param browser: the directives of :func:`told_directives`, and the seconds that a visitor may keep it
    :param age: of the answer, in seconds
    """
    prefix, seconds = browser
    told = [line for line in fields if line[0].lower() not in (b"cache-control", b"expires")]
    told.append((b"cache-control", b"%smax-age=%d" % (prefix, age + seconds if seconds else 0)))
    return told
