"""``compress`` of a site and a route: which content codings the edge gives to answers that have none.

Off where nothing is said.  A route's table is laid over its site's, key by key; ``false`` takes it off, ``true`` is the
site's, or the defaults.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from wormhole_tw.errors import ConfigError
from wormhole_tw.http.coding import AVAILABLE, CODINGS, CodingRules, MediaTypes
from wormhole_tw.structs import Meta, Struct

if TYPE_CHECKING:
    from wormhole_tw.http.edits import FieldEdits

    from .model import Route
    from .tables import SiteTable

__all__ = ["CompressTable", "with_compression"]

#: Types of one list: each new one is looked for once.
_MOST_TYPES = 256

#: Octets of an answer that is not worth it: more, and hardly any is.
_MOST_SMALLEST = 1 << 20

_PACKAGES = {b"br": "brotli", b"zstd": "zstandard"}

_VARIES = b"Accept-Encoding"


class CompressTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``compress`` of a site or a route as a table; None: nothing is said."""

    codings: list[str] | None = None
    types: Annotated[list[str], Meta(max_length=_MOST_TYPES)] | None = None
    smallest: Annotated[int, Meta(ge=0, le=_MOST_SMALLEST)] | None = None


def with_compression(routes: tuple[Route, ...], table: SiteTable, source: str, key: str) -> tuple[Route, ...]:
    """The routes of a site with what they compress.

    :param key: the place of the site
    :raises ConfigError: a coding or a type is none, or a route says of its answers' coding something else
    """
    if table.compress is None and all(written.compress is None for written in table.routes):
        return routes
    if isinstance(table.compress, CompressTable):
        # a mistake in it is told once, and of the site, also where each route has its own
        _read(table.compress, source, f"{key}.compress")
    found = []
    for index, (route, written) in enumerate(zip(routes, table.routes, strict=True)):
        place = f"{key}.routes[{index}]"
        if isinstance(written.compress, CompressTable):
            _read(written.compress, source, f"{place}.compress")
        together = _together(table.compress, written.compress)
        if together is None:
            found.append(route)
            continue
        rules = _read(together, source, f"{place}.compress")
        edits = _edits(route.response_edits, source, f"{place}.response_headers")
        found.append(replace(route, compress=rules, response_edits=edits))
    return tuple(found)


def _together(of_site: CompressTable | bool | None, own: CompressTable | bool | None) -> CompressTable | None:
    """The two as one; None for off."""
    if own is None:
        own = of_site
    if own is None or own is False:
        return None
    base = of_site if isinstance(of_site, CompressTable) else CompressTable()
    return CompressTable(**{**_said(base), **_said(own)}) if isinstance(own, CompressTable) else base


def _said(table: CompressTable) -> dict[str, Any]:
    return {name: value for name in table.__struct_fields__ if (value := getattr(table, name)) is not None}


def _read(table: CompressTable, source: str, key: str) -> CodingRules:
    changes: dict[str, Any] = {"codings": tuple(coding for coding in CODINGS if coding in AVAILABLE)}
    if table.codings is not None:
        changes["codings"] = _codings(table.codings, source, f"{key}.codings")
    if table.types is not None:
        if not table.types:
            raise ConfigError(source, f"{key}.types", "empty: nothing would be compressed; compress = false says so")
        for index, text in enumerate(table.types):
            try:
                MediaTypes.of([text])
            except ValueError as error:
                raise ConfigError(source, f"{key}.types[{index}]", str(error)) from None
        changes["types"] = MediaTypes.of(table.types)
    if table.smallest is not None:
        changes["smallest"] = table.smallest
    return CodingRules(**changes)


def _codings(texts: list[str], source: str, key: str) -> tuple[bytes, ...]:
    if not texts:
        raise ConfigError(source, key, "empty: nothing could be compressed; compress = false says so")
    found: list[bytes] = []
    for index, text in enumerate(texts):
        place, coding = f"{key}[{index}]", text.encode()
        if coding not in CODINGS:
            there = ", ".join(sorted(one.decode() for one in CODINGS))
            raise ConfigError(source, place, f"{text!r} is no coding that answers could get; there are {there}")
        if coding not in AVAILABLE:
            raise ConfigError(source, place, f"{text} needs the Python package {_PACKAGES[coding]}, which is not there")
        if coding in found:
            raise ConfigError(source, place, f"{text} stands there twice")
        found.append(coding)
    return tuple(found)


def _edits(edits: FieldEdits | None, source: str, key: str) -> FieldEdits | None:
    """Changes to answers that leave standing what compression says in them."""
    if edits is None:
        return None
    if b"content-encoding" in edits.removed or any(name.lower() == b"content-encoding" for name, _ in edits.lines):
        reason = "Content-Encoding is what compress says; take the change away, or say compress = false"
        raise ConfigError(source, key, reason)
    if b"vary" not in edits.removed:
        return edits
    # what answers depend on is said anew: their coding still is of it
    values = [value for name, value in edits.lines if name.lower() == b"vary"]
    if any(b"*" in value or _VARIES.lower() in value.lower() for value in values):
        return edits
    return replace(edits, lines=(*edits.lines, (b"Vary", _VARIES)))
