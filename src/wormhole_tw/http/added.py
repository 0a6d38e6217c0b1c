"""Fields that an answer gets where its service said nothing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.memo import remember

if TYPE_CHECKING:
    from wormhole_tw.http.events import Fields, ResponseHead

__all__ = ["Lines", "add_fields"]

Lines = tuple[tuple[bytes, bytes], ...]

_known: dict[tuple[int, int, int], tuple[Fields, Lines, Lines, Fields]] = {}


def add_fields(head: ResponseHead, defaults: Lines, besides: Lines) -> None:
    """Give an answer these fields; a list of fields that is shared stays as it is, and what comes of it is shared too.

    :param defaults: each stands where the answer has no field of that name
    :param besides: they stand in any case, beside others of their name
    """
    fields = head.fields
    if not head.common:
        head.fields = _added(fields, defaults, besides)
        return
    key = (id(fields), id(defaults), id(besides))
    known = _known.get(key)
    if known is None or known[0] is not fields or known[1] is not defaults or known[2] is not besides:
        known = (fields, defaults, besides, _added(fields, defaults, besides))
        remember(_known, key, known)
    head.fields = known[3]


def _added(fields: Fields, defaults: Lines, besides: Lines) -> Fields:
    present = {name.lower() for name, _ in fields}
    return [*fields, *(line for line in defaults if line[0].lower() not in present), *besides]
