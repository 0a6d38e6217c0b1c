"""``[[sites.routes]]`` as it is written: names, types and defaults. What the values mean :mod:`.routes` knows."""

from __future__ import annotations

from typing import Annotated, Literal

from wormhole_tw.structs import Meta, Struct

from .access_tables import AccessTable, MirrorTable
from .cache_tables import CacheTable
from .compression import CompressTable
from .middleware import MiddlewareTable

__all__ = [
    "EditTable",
    "MaintenanceTable",
    "RedirectTable",
    "RespondTable",
    "RouteTable",
    "ValueTable",
]

#: A week: what is worked on for longer is not coming back in a moment, and nobody waits for it.
_MOST_RETRY_AFTER = 604800


class ValueTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of ``headers``, ``query`` and ``cookies``."""

    name: str
    value: str | None = None
    matches: str | None = None
    present: bool | None = None


class RedirectTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``redirect``."""

    to: str
    status: Literal[301, 302, 303, 307, 308] = 302
    keep_query: bool = True


class RespondTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``respond``."""

    status: Annotated[int, Meta(ge=200, le=599)] = 200
    body: str | None = None
    file: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = {}


class MaintenanceTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``maintenance``."""

    page: str | None = None
    retry_after: Annotated[int, Meta(ge=0, le=_MOST_RETRY_AFTER)] = 300


class EditTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``request_headers`` and ``response_headers``."""

    set: dict[str, str] = {}
    add: dict[str, str | list[str]] = {}
    remove: list[str] = []


class RouteTable(AccessTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[sites.routes]]``."""

    name: str | None = None
    path: str | None = None
    exact: str | None = None
    pattern: str | None = None
    hosts: list[str] | None = None
    methods: list[str] | None = None
    scheme: Literal["http", "https"] | None = None
    headers: list[ValueTable] = []
    query: list[ValueTable] = []
    cookies: list[ValueTable] = []
    addresses: list[str] | None = None
    branch: str | None = None
    percent: float | None = None
    sticky: str | None = None
    backend: str | None = None
    redirect: RedirectTable | None = None
    respond: RespondTable | None = None
    maintenance: MaintenanceTable | None = None
    strip_prefix: bool = False
    replace_prefix: str | None = None
    rewrite: str | None = None
    request_headers: EditTable | None = None
    response_headers: EditTable | None = None
    middleware: list[MiddlewareTable] = []
    mirror: MirrorTable | None = None
    cache: CacheTable | bool | None = None
    compress: CompressTable | bool | None = None
