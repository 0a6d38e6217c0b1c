"""What may be kept of answers: from the ``cache`` of a site and a route to what the edge works with.

Off where nothing is said.  A route's table is laid over its site's, key by key; ``false`` takes it off, ``true`` is the
site's, or the defaults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from wormhole_tw.errors import ConfigError
from wormhole_tw.http.caching.keying import EVERY_MEMBER, IgnoredQuery, Names
from wormhole_tw.http.caching.policy import CachePolicy
from wormhole_tw.http.edits import FieldEdits, may_change
from wormhole_tw.http.forwarding import names_visitor
from wormhole_tw.http.grammar import is_token

from .access import BasicRule, SignInRule, TokenRule
from .cache_tables import CacheTable, StoreTable
from .sizes import parse_size, show_size

if TYPE_CHECKING:
    from .model import Backend, Route, Site
    from .tables import RouteTable, SiteTable

__all__ = ["CacheSettings", "Stores", "read_stores", "with_caches"]

DIRECTIVES = frozenset(
    {
        b"immutable",
        b"max-age",
        b"must-revalidate",
        b"must-understand",
        b"no-cache",
        b"no-store",
        b"private",
        b"proxy-revalidate",
        b"public",
        b"s-maxage",
        b"stale-if-error",
        b"stale-while-revalidate",
    }
)
"""Of answers (RFC 9111 §5.2.2, RFC 5861, RFC 8246): what may stand in ``ignore``."""

REQUEST_DIRECTIVES = frozenset(
    {b"max-age", b"max-stale", b"min-fresh", b"no-cache", b"no-store", b"only-if-cached", b"stale-if-error"}
)
"""Of requests (RFC 9111 §5.2.1): what may stand in ``ignore_request``."""

MIN_MEMORY = 1024 * 1024
MIN_DISK = 16 * 1024 * 1024
"""Octets: with less, no page and its pictures have room, and a unit was forgotten."""

MOST = 1 << 50
"""Octets of a store: more is a slip of the pen."""

_KEYED_ANYWAY = {
    b"accept-encoding": "the cache brings it into one form, and Vary keeps codings apart",
    b"cookie": "name the cookies in cookies",
    b"host": "each host name has answers of its own",
    b"range": "the cache answers it itself",
}

_STAR = re.compile(rb"[^*]*\*?")

_NOT_IN_SCOPE = frozenset(
    {
        "allow",
        "basic_auth",
        "cache",
        "compress",
        "deny",
        "jwt",
        "middleware",
        "mirror",
        "name",
        "oidc",
        "rate_limit",
        "response_headers",
    }
)
"""Of a route's table: what neither chooses the service nor changes what it is asked, or stands in the scope in another
form.  Whatever is added to routes keeps answers apart, unless somebody puts it here."""

_ROUTE_KEYS = frozenset({"ignore_query", "cookies", "headers", "bypass_cookies", "show_tags"})
"""What is not the policy's."""


STANDARDS = CachePolicy()
"""Where nothing is changed."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How the answers of a route are kept.

    :ivar policy: the rules
    :ivar ignore_query: members of the query that make no difference; None where all of them do
    :ivar cookies: names of cookies whose values are in the key, sorted
    :ivar headers: names of fields, lower-case, whose values are in the key, sorted
    :ivar bypass_cookies: a request with one of these is never answered from the cache, nor is its answer kept; None
        for none
    :ivar show_tags: visitors see the field that has the tags
    :ivar scope: a part of the key: printable octets, the same for two routes only where they would ask the same of the
        same service and keep it by the same rules.  So an answer that was had by a field or cookie which chose its
        route is never served on another one, and what was kept under other settings is not served any more
    """

    policy: CachePolicy = STANDARDS
    ignore_query: IgnoredQuery | None = None
    cookies: tuple[bytes, ...] = ()
    headers: tuple[bytes, ...] = ()
    bypass_cookies: Names | None = None
    show_tags: bool = False
    scope: bytes = b""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where answers are kept, for all sites together.

    :ivar memory: octets at most; 0 for none
    :ivar disk: octets at most; 0 for none
    :ivar path: the folder of what is on disk, relative to the state folder
    :ivar largest: octets of the largest answer that is kept; None for what the stores think right
    """

    memory: int
    disk: int
    path: str
    largest: int | None = None


# [cache]


def read_stores(table: StoreTable, source: str) -> Stores:
    """Check ``[cache]``.

    :raises ConfigError: a size is none, or too small for anything
    """

    def size(name: str, least: int) -> int:
        key = f"$.cache.{name}"
        try:
            octets = parse_size(getattr(table, name))
        except ValueError as error:
            raise ConfigError(source, key, str(error)) from None
        if 0 < octets < least:
            reason = (
                f'{octets} octets have no room for anything: at least {show_size(least)}, or 0 for none ("256 MiB")'
            )
            raise ConfigError(source, key, reason)
        if octets > MOST:
            raise ConfigError(source, key, f"more than {show_size(MOST)}")
        return octets

    memory, disk = size("memory", MIN_MEMORY), size("disk", MIN_DISK)
    if not table.path or "\0" in table.path:
        raise ConfigError(source, "$.cache.path", "no path")
    largest = None
    if table.object is not None:
        largest = size("object", 1)
        if not largest:
            raise ConfigError(source, "$.cache.object", "0: nothing could be kept; leave it out, or cache nothing")
        if largest > max(memory, disk):
            reason = f"more than memory and disk hold ({show_size(max(memory, disk))})"
            raise ConfigError(source, "$.cache.object", reason)
    return Stores(memory, disk, table.path, largest)


# [sites.cache] and [sites.routes.cache]


def with_caches(
    sites: Sequence[Site], tables: Sequence[SiteTable], backends: Iterable[Backend], source: str
) -> tuple[Site, ...]:
    """The sites, with what is kept of the answers of their routes.

    :param sites: compiled, with their selections
    :param tables: what they were made of, in the same order
    :raises ConfigError: something in a table is wrong, or a route that answers itself has one
    """
    services = {backend.name: backend for backend in backends}
    found = []
    for number, (site, table) in enumerate(zip(sites, tables, strict=True)):
        if table.cache is None and all(route.cache is None for route in table.routes):
            found.append(site)
            continue
        found.append(_of_site(site, table, services, source, f"$.sites[{number}]"))
    return tuple(found)


def _of_site(site: Site, table: SiteTable, services: Mapping[str, Backend], source: str, key: str) -> Site:
    here = _Reader(source, f"{key}.cache")
    if isinstance(table.cache, CacheTable):
        here.settings(table.cache)  # a mistake in it is told once, and of the site, also where each route has its own
    routes = []
    for index, (route, written) in enumerate(zip(site.routes, table.routes, strict=True)):
        read = _Reader(source, f"{key}.routes[{index}].cache")
        if route.answer is not None:
            if written.cache:
                read.refuse("", "the route answers itself: there is no service whose answers could be kept")
            routes.append(route)
            continue
        if isinstance(written.cache, CacheTable):
            read.settings(written.cache)
        together = _together(table.cache, written.cache)
        if together is not None:
            settings = read.settings(together)
            scope = _scope(route, written, services[route.backend], settings)
            route = replace(route, cache=replace(settings, scope=scope))
            if not settings.show_tags:
                hidden = FieldEdits(frozenset({settings.policy.tag_header}))
                edits = route.response_edits
                route = replace(route, response_edits=hidden if edits is None else hidden.then(edits))
        routes.append(route)
    return replace(site, routes=tuple(routes))


def _together(of_site: CacheTable | bool | None, own: CacheTable | bool | None) -> CacheTable | None:
    """The two as one; None for off."""
    if own is None:
        own = of_site
    if own is None or own is False:
        return None
    base = of_site if isinstance(of_site, CacheTable) else CacheTable()
    if not isinstance(own, CacheTable) or own is of_site:
        return base
    return CacheTable(**{**_said(base), **_said(own)})


def _said(table: CacheTable) -> dict[str, Any]:
    return {name: value for name in table.__struct_fields__ if (value := getattr(table, name)) is not None}


def _scope(route: Route, written: RouteTable, backend: Backend, settings: CacheSettings) -> bytes:
    said = [(name, getattr(written, name)) for name in written.__struct_fields__ if name not in _NOT_IN_SCOPE]
    policy = settings.policy
    what = (
        said,
        route.selection and (route.selection.branch, sorted(route.selection.apart)),
        [settings.shown for settings in route.middleware or ()],
        [gate.kind for gate in route.gates or () if isinstance(gate, BasicRule | TokenRule | SignInRule)],
        [(origin.url, origin.host, origin.index, origin.rewrite) for origin in backend.origins],
        [
            sorted(value) if isinstance(value, frozenset) else value
            for name in policy.__slots__
            if name != "name" and (value := getattr(policy, name)) is not None
        ],
        settings.headers,
        settings.cookies,
        route.compress and route.compress.said,
    )
    return blake2b(repr(what).encode(), digest_size=16).hexdigest().encode()


class _Reader(NamedTuple):
    source: str
    key: str

    def refuse(self, name: str, reason: str) -> NoReturn:
        raise ConfigError(self.source, f"{self.key}.{name}" if name else self.key, reason)

    def settings(self, table: CacheTable) -> CacheSettings:
        """Without the scope."""
        changes = {name: value for name, value in _said(table).items() if name not in _ROUTE_KEYS}
        for name, check in (
            ("strip", self._stripped),
            ("ignore", self._directive),
            ("ignore_request", self._directive),
        ):
            if name in changes:
                changes[name] = frozenset(self._each(name, changes[name], check))
        if table.statuses is not None:
            changes["statuses"] = self._statuses(table.statuses)
        if table.tag_header is not None:
            changes["tag_header"] = self._tag_header(table.tag_header)
        bypass = Names.of(self._each("bypass_cookies", table.bypass_cookies or (), self._cookie_or_prefix))
        return CacheSettings(
            CachePolicy(**changes),
            self._ignored(table.ignore_query),
            tuple(sorted(set(self._each("cookies", table.cookies or (), self._cookie)))),
            tuple(sorted(set(self._each("headers", table.headers or (), self._keyed)))),
            bypass or None,
            bool(table.show_tags),
        )

    def _each(self, name: str, texts: Sequence[str], check: Callable[[str, str], bytes]) -> list[bytes]:
        return [check(f"{name}[{index}]", text) for index, text in enumerate(texts)]

    def _token(self, name: str, text: str, what: str) -> bytes:
        if not text.isascii() or not is_token(text.encode()):
            self.refuse(name, f"{text!r} is no name of a {what}")
        return text.encode()

    def _stripped(self, name: str, text: str) -> bytes:
        field = self._token(name, text, "header").lower()
        if field != b"set-cookie" and not may_change(field, of_request=False):
            self.refuse(name, f"{text}: this header says how a message is framed, or is the edge's own")
        return field

    def _directive(self, name: str, text: str) -> bytes:
        known = REQUEST_DIRECTIVES if name.startswith("ignore_request") else DIRECTIVES
        directive = text.lower().encode("ascii", "replace")
        if directive not in known:
            listed = ", ".join(sorted(one.decode() for one in known))
            self.refuse(name, f"{text!r} is no directive that could be ignored; there are {listed}")
        return directive

    def _statuses(self, statuses: Sequence[int]) -> frozenset[int]:
        if not statuses:
            self.refuse("statuses", "empty: no answer would have a time; leave it out, or cache = false")
        for index, status in enumerate(statuses):
            if not 200 <= status <= 599 or status in (206, 304):
                self.refuse(f"statuses[{index}]", "a status from 200 to 599; a 206 is kept as a part of its 200")
        return frozenset(statuses)

    def _tag_header(self, text: str) -> bytes:
        field = self._token("tag_header", text, "header").lower()
        if not may_change(field, of_request=False):
            self.refuse("tag_header", f"{text}: this header has a meaning of its own")
        return field

    def _ignored(self, said: Sequence[str] | bool | None) -> IgnoredQuery | None:
        if said is True:
            return EVERY_MEMBER
        names = []
        for index, text in enumerate(said or ()):
            name = text.encode()
            if not name or b"&" in name or b"=" in name or _STAR.fullmatch(name) is None:
                reason = f'{text!r} is no name: give names of parameters as "ref", or what they begin with as "utm_*"'
                self.refuse(f"ignore_query[{index}]", reason)
            if name == b"*":
                self.refuse(f"ignore_query[{index}]", "all of them are ignore_query = true")
            names.append(name)
        return IgnoredQuery(Names.of(names)) if names else None

    def _cookie(self, name: str, text: str) -> bytes:
        return self._token(name, text, "cookie")

    def _cookie_or_prefix(self, name: str, text: str) -> bytes:
        if not text.removesuffix("*") or "*" in text.removesuffix("*"):
            self.refuse(name, f'{text!r}: a cookie\'s name, or what it begins with, as "wordpress_logged_in_*"')
        return self._token(name, text, "cookie")

    def _keyed(self, name: str, text: str) -> bytes:
        field = self._token(name, text, "header").lower()
        if field in _KEYED_ANYWAY or field.startswith(b"if-"):
            self.refuse(name, f"{text}: {_KEYED_ANYWAY.get(field, 'the cache answers it itself')}")
        if names_visitor(field) or not may_change(field, of_request=True):
            self.refuse(name, f"{text}: the edge writes it itself, or takes it out of requests")
        return field
