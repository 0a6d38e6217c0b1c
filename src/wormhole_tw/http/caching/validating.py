"""Conditional requests to the origin (RFC 9111 §4.3.1, §4.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wormhole_tw.http.caching.records import Stored
    from wormhole_tw.http.events import Fields

__all__ = ["completing", "conditional", "confirmed", "continues"]


def conditional(fields: Fields, stored: Iterable[Stored]) -> Fields:
    """The fields of a request that asks the origin which of these stored answers is still right.

    ``Range`` and the visitor's own conditions are dropped: they are judged by :func:`.serve` when the answer is there.
    ``If-None-Match`` lists every entity tag (of several variants too); ``If-Modified-Since`` is added where exactly
    one answer is asked for and it has ``Last-Modified``.

    :param fields: of the request as it would go to the origin, names in any case; not changed in place
    :param stored: the selected answer, and perhaps other variants of the same key; empty for a plain fetch without
        conditions
    """
    raise NotImplementedError


def confirmed(fields: Fields, candidates: Iterable[Stored]) -> Stored | None:
    """Which stored answer a 304 confirms (RFC 9111 §4.3.4).

    By its strong entity tag; else by its weak one or its ``Last-Modified``; else, where it has no validator and one
    answer alone was asked for, that.  None: none of them (ask again without conditions).

    :param fields: of the 304
    :param candidates: those that :func:`conditional` was given
    """
    raise NotImplementedError


def completing(fields: Fields, stored: Stored, size: int) -> Fields | None:
    """The fields of a request for the octets behind a kept span that begins at 0: ``Range`` and ``If-Range`` (RFC 9111
    §3.4).  None where that cannot be put together (no strong entity tag, not known to be longer).

    :param fields: as :func:`conditional` takes them
    :param size: octets of the span that are kept
    """
    raise NotImplementedError


def continues(stored: Stored, size: int, status: int, fields: Fields) -> bool:
    """Whether an answer (a 206) carries on exactly behind a kept span of the same representation (RFC 9111 §3.4)."""
    raise NotImplementedError
