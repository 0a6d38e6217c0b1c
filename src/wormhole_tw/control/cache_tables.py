"""What may be kept of answers, as it stands in ``[cache]``, ``[sites.cache]`` and ``[sites.routes.cache]``; what it
means :mod:`.caching` knows."""

from __future__ import annotations

from typing import Annotated

from wormhole_tw.structs import Meta, Struct

__all__ = ["CacheTable", "StoreTable"]

#: Seconds of a year: RFC 9111 knows no longest time, and what is kept for longer has been thrown away long before.
_YEAR = 365 * 86400

#: Names in one list: each is looked for in every request.
_MOST_NAMES = 64

_Time = Annotated[int, Meta(ge=0, le=_YEAR)]
_Names = Annotated[list[str], Meta(max_length=_MOST_NAMES)]

#: Answers in memory: what a busy site asks for again and again, and little beside what a host has.
DEFAULT_MEMORY = "256 MiB"


class StoreTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[cache]``: where answers are kept, for all sites together."""

    memory: int | str = DEFAULT_MEMORY
    disk: int | str = 0
    path: str = "cache"
    object: int | str | None = None


class CacheTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``cache`` of a site or a route; None: nothing is said."""

    ttl: _Time | None = None
    override_ttl: _Time | None = None
    max_ttl: _Time | None = None
    browser_ttl: _Time | None = None
    stale_while_revalidate: _Time | None = None
    stale_if_error: _Time | None = None
    heuristic: bool | None = None
    statuses: list[int] | None = None
    strip: _Names | None = None
    ignore: _Names | None = None
    ignore_request: _Names | None = None
    ignore_query: _Names | bool | None = None
    cookies: _Names | None = None
    headers: _Names | None = None
    bypass_cookies: _Names | None = None
    tag_header: str | None = None
    show_tags: bool | None = None
