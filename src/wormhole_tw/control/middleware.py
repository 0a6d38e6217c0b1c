"""``[[sites.middleware]]`` and ``[[sites.routes.middleware]]``: which Python stands before a site's service.

What is read here is only named: the edge loads it when it takes the configuration over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import Meta, Struct

if TYPE_CHECKING:
    from .model import Route
    from .tables import SiteTable

__all__ = [
    "DEFAULT_TIMEOUT",
    "FILE_OBJECT",
    "MiddlewareSettings",
    "MiddlewareTable",
    "read_middleware",
    "with_middleware",
]

#: Seconds that a middleware may take itself: it looks at heads and asks a neighbour something; a visitor who waits
#: longer has left.
DEFAULT_TIMEOUT = 10.0

#: What is looked for in a file where ``use`` names nothing.
FILE_OBJECT = "Middleware"

#: Middleware of one site or route: each costs a coroutine a request, and somebody who has more has a loop.
_MOST = 32

_USE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_OBJECT = re.compile(r"[^\W\d]\w*")


class MiddlewareTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of them, as it is written."""

    use: str | None = None
    file: str | None = None
    settings: dict[str, Any] = {}
    timeout: Annotated[float, Meta(gt=0, le=3600)] = DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True)
class MiddlewareSettings:
    """One of them, checked.

    :ivar module: the dotted name of its module, or None
    :ivar file: its file, absolute, or None; exactly one of the two is there
    :ivar name: what of it is used
    :ivar settings: keyword arguments for it
    :ivar timeout: seconds that it may take itself
    :ivar shown: what errors and the log call it
    :ivar source: the configuration file, for errors
    :ivar key: its own place there
    """

    module: str | None
    file: Path | None
    name: str
    settings: Mapping[str, Any] = field(hash=False, repr=False)
    timeout: float = DEFAULT_TIMEOUT
    shown: str = ""
    source: str = field(default="", compare=False, repr=False)
    key: str = field(default="", compare=False, repr=False)

    def same_object(self, other: MiddlewareSettings) -> bool:
        """Whether the other one asks for an object that is made in the same way."""
        mine = (self.module, self.file, self.name, self.settings)
        return mine == (other.module, other.file, other.name, other.settings)


def read_middleware(
    tables: Sequence[MiddlewareTable], folder: Path, source: str, key: str
) -> tuple[MiddlewareSettings, ...]:
    """Check one list.

    :param folder: what files are relative to
    :param key: the place of the list
    :raises ConfigError: one names nothing, or too much
    """
    if len(tables) > _MOST:
        raise ConfigError(source, key, f"more than {_MOST}")
    return tuple(_read(table, folder, source, f"{key}[{number}]") for number, table in enumerate(tables))


def with_middleware(
    routes: tuple[Route, ...], table: SiteTable, folder: Path, source: str, key: str
) -> tuple[Route, ...]:
    """The routes of a site with its middleware, and their own behind it; not those that answer themselves.

    :param key: the place of the site
    :raises ConfigError: as above; one that answers itself has some of its own
    """
    site = read_middleware(table.middleware, folder, source, f"{key}.middleware")
    result = []
    for index, (route, written) in enumerate(zip(routes, table.routes, strict=True)):
        place = f"{key}.routes[{index}].middleware"
        own = read_middleware(written.middleware, folder, source, place)
        if route.answer is not None:
            if own:
                raise ConfigError(source, place, "the route answers itself: there is no service to lead to")
            result.append(route)
            continue
        result.append(replace(route, middleware=(*site, *own)) if site or own else route)
    return tuple(result)


def _read(table: MiddlewareTable, folder: Path, source: str, key: str) -> MiddlewareSettings:
    use, file = table.use, table.file
    if file is None:
        if use is None:
            reason = 'it names nothing: use = "package.module:Name", or file = "name.py"'
            raise ConfigError(source, f"{key}.use", reason)
        if _USE.fullmatch(use) is None:
            reason = "expected a module and a name in it, with a colon between: package.module:Name"
            raise ConfigError(source, f"{key}.use", reason)
        module, _, name = use.partition(":")
        return MiddlewareSettings(module, None, name, table.settings, table.timeout, use, source, key)
    if not file or "\0" in file:
        raise ConfigError(source, f"{key}.file", "no path")
    name = FILE_OBJECT if use is None else use
    if _OBJECT.fullmatch(name) is None:
        reason = f"beside file it is the name of what the file has, {FILE_OBJECT} where it is left out"
        raise ConfigError(source, f"{key}.use", reason)
    shown = file if use is None else f"{file}:{name}"
    return MiddlewareSettings(None, folder / file, name, table.settings, table.timeout, shown, source, key)
