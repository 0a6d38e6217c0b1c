"""From ``[[sites.routes]]`` to :class:`~.model.Route`: what a rule wants of a request, what it does, what it changes.

Everything is compiled here, once for a snapshot; a request only asks what was made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from wormhole_tw.errors import ConfigError
from wormhole_tw.http.edits import FieldEdits, may_change
from wormhole_tw.http.forwarding import names_visitor
from wormhole_tw.http.grammar import is_token
from wormhole_tw.http.patterns import REST, Part, PathPattern, Template
from wormhole_tw.http.regexes import Regex
from wormhole_tw.http.rewriting import PathRewrite, PrefixSwap, Redirect

from .access import check_together, read_access, read_mirror
from .conditions import AddressIs, BranchIsThere, Condition, HostIs, MethodIs, SchemeIs, Share, ValueIs
from .limits import SiteLimits
from .model import MAINTENANCE, GateSettings, LocalAnswer, Route, Security, Selection, Site
from .names import normalise_hostname, normalise_prefix
from .pages import read_page, read_text
from .route_tables import EditTable, MaintenanceTable, RedirectTable, RespondTable, RouteTable, ValueTable
from .trust import refuse_mapped

__all__ = ["OfSite", "read_route", "set_branches"]

_ACTIONS = ("backend", "redirect", "respond", "maintenance")

#: Characters of a header's value in a configuration: a long Content-Security-Policy has two thousand.
_MOST_VALUE = 4096

_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?", re.ASCII)
_TO = re.compile(r"[!-~]+", re.ASCII)
_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)

#: What HTTP/2 says by other means than HTTP/1: a condition would hold for some visitors alone.
_ELSEWHERE = {
    b"content-length": "it frames the request, and stands in some only",
    b"host": "go by hosts",
    b"transfer-encoding": "it frames the request, and HTTP/2 has none",
}

_WORKED_ON = "This part of the site is being worked on; please come back a little later."

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml",
}


class OfSite(NamedTuple):
    """What a route needs to know of its site.

    :ivar hostnames: normalised
    :ivar folder: what relative paths of files are relative to
    :ivar gates: what is asked of every request to the site
    :ivar known: raises ConfigError for a backend that is not there: ``known(key, name)``
    :ivar named: gives a name back, or raises ConfigError: ``named(key, name)``
    """

    name: str
    hostnames: Sequence[str]
    limits: SiteLimits | None
    security: Security | None
    gates: tuple[GateSettings, ...]
    folder: Path
    source: str
    known: Callable[[str, str], None]
    named: Callable[[str, str], str]


def read_route(table: RouteTable, site: OfSite, key: str) -> Route:
    """Compile one rule.

    :param key: of its table, for errors
    :raises ConfigError: something in it is wrong
    """
    return _Reader(table, site, key).route()


class _Reader:
    def __init__(self, table: RouteTable, site: OfSite, key: str) -> None:
        self._table = table
        self._site = site
        self._key = key

    def _refuse(self, name: str, reason: str) -> NoReturn:
        raise ConfigError(self._site.source, f"{self._key}.{name}" if name else self._key, reason)

    def route(self) -> Route:
        table, site = self._table, self._site
        kind, path, pattern = self._path()
        actions = [name for name in _ACTIONS if getattr(table, name) is not None]
        if not actions:
            self._refuse("backend", "missing: a route has a backend, or redirect, respond or maintenance")
        if len(actions) > 1:
            self._refuse(actions[1], f"beside {actions[0]}: a route does one thing")
        if table.backend is not None:
            site.known(f"{self._key}.backend", table.backend)
        names = pattern.names if pattern is not None else () if kind == "exact" else (REST,)
        return Route(
            site.name,
            path,
            table.backend or "",
            site.limits,
            site.security,
            name="" if table.name is None else site.named(f"{self._key}.name", table.name),
            kind=kind,  # type: ignore[arg-type]
            pattern=pattern,
            conditions=self._conditions(),
            answer=self._answer(names),
            rewrite=self._rewrite(kind, path, names),
            request_edits=self._edits("request_headers", table.request_headers),
            response_edits=self._edits("response_headers", table.response_headers),
            gates=self._gates(path if kind == "prefix" else None) or None,
        )

    def _gates(self, prefix: str | None) -> tuple[GateSettings, ...]:
        """The site's, then its own."""
        table, site = self._table, self._site
        own = read_access(table, site.folder, site.source, self._key, prefix=prefix)
        check_together(site.gates, own, site.source, self._key)
        gates = site.gates + own
        if table.mirror is None:
            return gates
        if table.backend is None:
            self._refuse("mirror", "only beside backend: what the edge answers itself has no copy")
        return (*gates, read_mirror(table.mirror, f"{self._key}.mirror", site.known))

    # what it wants

    def _path(self) -> tuple[str, str, PathPattern | None]:
        table = self._table
        given = [name for name in ("path", "exact", "pattern") if getattr(table, name) is not None]
        if len(given) > 1:
            self._refuse(given[1], f"beside {given[0]}: a route goes by one of path, exact and pattern")
        if not given:
            return "prefix", "/", None
        name = given[0]
        try:
            path = normalise_prefix(getattr(table, name))
            if name == "path":
                return "prefix", path, None
            if name == "exact":
                return "exact", path, None
            pattern = PathPattern(path)
        except ValueError as error:
            self._refuse(name, str(error))
        return ("pattern", path, pattern) if pattern.names else ("exact", path, None)

    def _conditions(self) -> tuple[Condition, ...]:
        """In the order of what they cost."""
        table = self._table
        found: list[Condition] = []
        if table.hosts is not None:
            self._some("hosts", table.hosts)
            hosts = [self._host(index, text) for index, text in enumerate(table.hosts)]
            wild = frozenset(host[2:] for host in hosts if host.startswith("*."))
            found.append(HostIs(frozenset(host for host in hosts if not host.startswith("*.")), wild))
        if table.methods is not None:
            self._some("methods", table.methods)
            for index, method in enumerate(table.methods):
                if not method.isascii() or not is_token(method.encode()) or method != method.upper():
                    self._refuse(f"methods[{index}]", f"{method!r} is no method: GET, POST … in capitals")
            found.append(MethodIs(frozenset(method.encode() for method in table.methods)))
        if table.scheme is not None:
            found.append(SchemeIs(table.scheme))
        if table.addresses is not None:
            self._some("addresses", table.addresses)
            found.append(AddressIs(tuple(self._network(index, text) for index, text in enumerate(table.addresses))))
        for name, kind in (("headers", "header"), ("query", "query"), ("cookies", "cookie")):
            values: list[ValueTable] = getattr(table, name)
            found += (self._value(f"{name}[{index}]", kind, value) for index, value in enumerate(values))
        if table.branch is not None:
            if not table.branch.strip():
                self._refuse("branch", "empty: it is the branch of a release, as agents tell it")
            if table.backend is None:
                self._refuse("branch", "without a backend, whose agents would have it")
            found.append(BranchIsThere(table.backend, table.branch))
        if table.sticky is not None and table.percent is None:
            self._refuse("sticky", "without percent, which it goes by")
        if table.percent is not None:
            found.append(self._share(table.percent, table.sticky))
        return tuple(found)

    def _some(self, name: str, values: Sequence[object]) -> None:
        if not values:
            self._refuse(name, "empty: leave it out for any")

    def _host(self, index: int, text: str) -> str:
        key = f"hosts[{index}]"
        try:
            host = normalise_hostname(text, wildcard=True)
        except ValueError as error:
            self._refuse(key, f"{text!r} is no host name: {error}")
        if host not in self._site.hostnames and f"*.{host.partition('.')[2]}" not in self._site.hostnames:
            self._refuse(key, f"{host} is none of the site's hostnames")
        return host

    def _network(self, index: int, text: str):  # type: ignore[no-untyped-def]
        try:
            network = ip_network(text)
            refuse_mapped(network)
        except ValueError as error:
            self._refuse(f"addresses[{index}]", f"no address and no network: {error}")
        return network

    def _value(self, key: str, kind: str, table: ValueTable) -> ValueIs:
        wants = [name for name in ("value", "matches", "present") if getattr(table, name) is not None]
        if len(wants) != 1:
            self._refuse(key, "one of value, matches (an expression) and present (true or false)")
        if not table.name or (kind != "query" and not (table.name.isascii() and is_token(table.name.encode()))):
            self._refuse(f"{key}.name", f"{table.name!r} is no name of a {kind}")
        name = table.name.encode()
        if kind == "header" and names_visitor(name):
            reason = (
                f"{table.name}: a visitor may write there what it likes; go by addresses, scheme or hosts, or client_ca"
            )
            self._refuse(f"{key}.name", reason)
        if kind == "header" and name.lower() in _ELSEWHERE:
            self._refuse(f"{key}.name", f"{table.name}: {_ELSEWHERE[name.lower()]}")
        regex = None
        if table.matches is not None:
            try:
                regex = Regex(table.matches)
            except ValueError as error:
                self._refuse(f"{key}.matches", str(error))
        value = None if table.value is None else table.value.encode()
        if kind == "header":
            name = name.lower()
        return ValueIs(kind, name, value, regex, table.present is not False)

    def _share(self, percent: float, sticky: str | None) -> Share:
        if not 0 < percent < 100:
            self._refuse("percent", "more than 0 and less than 100")
        if sticky is None or sticky == "address":
            return Share(float(percent), sticky or "")
        by, mark, name = sticky.partition(":")
        if by not in ("cookie", "header") or not mark or _COOKIE.fullmatch(name) is None:
            self._refuse("sticky", 'one of "cookie:NAME", "header:NAME" and "address"')
        if by == "header" and names_visitor(name.encode()):
            self._refuse("sticky", f'{name}: a visitor may write there what it likes, and has its address: "address"')
        return Share(float(percent), by, (name.lower() if by == "header" else name).encode())

    # what it does

    def _answer(self, names: Sequence[str]) -> LocalAnswer | Redirect | None:
        table = self._table
        if table.redirect is not None:
            return self._redirect(table.redirect, names)
        if table.respond is not None:
            return self._respond(table.respond)
        return None if table.maintenance is None else self._maintenance(table.maintenance)

    def _redirect(self, table: RedirectTable, names: Sequence[str]) -> Redirect:
        key, to = "redirect.to", table.to
        if _TO.fullmatch(to) is None or "\\" in to:
            self._refuse(key, "a URL of visible ASCII: what is none stands as %20 …, a host name in its xn-- form")
        base = ""
        rest = to
        if not to.startswith("/"):
            url = re.match(r"(https?://)([^/?#]*)(.*)", to)
            if url is None:
                self._refuse(key, 'a URL with https:// or http://, or a path that begins with "/"')
            base, rest = url[1] + self._authority(key, url[2], to), url[3]
            if not rest.startswith("/"):
                rest = "/" + rest
        elif to.startswith("//"):
            self._refuse(key, "two slashes are the beginning of a host name: write https:// before them, or one")
        rest, _, fragment = rest.partition("#")
        path, _, query = rest.partition("?")
        try:
            return Redirect(
                table.status,
                base,
                Template(path, names, Part.PATH),
                Template(query, names, Part.QUERY),
                Template(fragment, names, Part.QUERY),
                table.keep_query,
            )
        except ValueError as error:
            self._refuse(key, str(error))

    def _authority(self, key: str, text: str, url: str) -> str:
        """Host and port: never the visitor's to choose, or the site would be a tool for phishing."""
        if "@" in text:
            self._refuse(key, "without a user and a password")
        try:
            split = urlsplit(url)
            host = normalise_hostname(split.hostname or "")
            port = split.port
        except ValueError as error:
            self._refuse(key, f"{text!r} is no host name: {error}")
        host = f"[{host}]" if ":" in host else host
        return host if port is None else f"{host}:{port}"

    def _respond(self, table: RespondTable) -> LocalAnswer:
        key = "respond"
        if table.body is not None and table.file is not None:
            self._refuse(f"{key}.file", "beside body: the one or the other")
        suffix = ""
        body = b"" if table.body is None else table.body.encode()
        if table.file is not None:
            suffix = Path(table.file).suffix
            body = read_text(self._site.folder / table.file, self._site.source, f"{self._key}.{key}.file")
        if body and table.status in (204, 205, 304):
            self._refuse(f"{key}.status", f"an answer of {table.status} has no body")
        fields: list[tuple[bytes, bytes]] = []
        content_type = table.content_type or _CONTENT_TYPES.get(suffix, "text/plain; charset=utf-8")
        if body or table.content_type is not None:
            fields.append((b"Content-Type", self._field_value(f"{key}.content_type", content_type)))
        for name, value in table.headers.items():
            where = f"{key}.headers.{name}"
            if name.lower() == "content-type":
                self._refuse(where, "that is content_type")
            fields.append((self._field_name(where, name, of_request=False), self._field_value(where, value)))
        return LocalAnswer(table.status, tuple(fields), body)

    def _maintenance(self, table: MaintenanceTable) -> LocalAnswer:
        fields = [(b"Retry-After", b"%d" % table.retry_after)] if table.retry_after else []
        body = None
        if table.page is not None:
            kind, body = read_page(table.page, self._site.folder, self._site.source, f"{self._key}.maintenance.page")
            fields += [(b"Content-Type", _CONTENT_TYPES[kind].encode()), (b"Cache-Control", b"no-store")]
        return LocalAnswer(503, tuple(fields), body, MAINTENANCE, _WORKED_ON)

    # what it changes

    def _rewrite(self, kind: str, path: str, names: Sequence[str]) -> PrefixSwap | PathRewrite | None:
        table = self._table
        given = [name for name in ("strip_prefix", "replace_prefix", "rewrite") if getattr(table, name)]
        if table.replace_prefix == "" or table.rewrite == "":
            self._refuse("replace_prefix" if table.replace_prefix == "" else "rewrite", 'empty: a path begins with "/"')
        if not given:
            return None
        name = given[0]
        if len(given) > 1:
            self._refuse(given[1], f"beside {name}: a path is rewritten in one way")
        if table.backend is None:
            self._refuse(name, "without a backend, which would get the other path")
        try:
            if table.rewrite is not None:
                text, mark, query = table.rewrite.partition("?")
                if query and (_TO.fullmatch(query) is None or "#" in query):
                    raise ValueError("a query of visible ASCII: what is none stands as %20 …")
                return PathRewrite.of(normalise_prefix(text) + mark + query, names)
            if kind != "prefix":
                raise ValueError("with path alone, which is the prefix: exact and pattern have rewrite")
            new = "/" if table.replace_prefix is None else normalise_prefix(table.replace_prefix)
        except ValueError as error:
            self._refuse(name, str(error))
        return PrefixSwap(path.removesuffix("/"), new.removesuffix("/"))

    def _edits(self, key: str, table: EditTable | None) -> FieldEdits | None:
        if table is None:
            return None
        of_request = key == "request_headers"
        removed: dict[bytes, str] = {}
        lines: list[tuple[bytes, bytes]] = []
        for index, name in enumerate(table.remove):
            where = f"{key}.remove[{index}]"
            removed[self._field_name(where, name, of_request=of_request).lower()] = where
        changes: list[tuple[str, str, str | list[str]]] = [
            *(("set", name, value) for name, value in table.set.items()),
            *(("add", name, value) for name, value in table.add.items()),
        ]
        for verb, name, value in changes:
            where = f"{key}.{verb}.{name}"
            field = self._field_name(where, name, of_request=of_request)
            if field.lower() in removed:
                self._refuse(where, f"it stands in {removed[field.lower()]} too")
            if verb == "set":
                removed[field.lower()] = where
            texts = [value] if isinstance(value, str) else value
            lines += ((field, self._field_value(where, text)) for text in texts)
        return FieldEdits(frozenset(removed), tuple(lines)) or None

    def _field_name(self, key: str, name: str, *, of_request: bool) -> bytes:
        if not name.isascii() or not is_token(name.encode()):
            self._refuse(key, f"{name!r} is no name of a header")
        field = name.encode()
        if not may_change(field, of_request=of_request):
            reason = "this header is the edge's: it says how a message is framed, whose it is, or how it came here"
            self._refuse(key, reason)
        return field

    def _field_value(self, key: str, value: str) -> bytes:
        if len(value) > _MOST_VALUE:
            self._refuse(key, f"longer than {_MOST_VALUE} characters")
        if value and _VALUE.fullmatch(value) is None:
            self._refuse(key, "a header's value is visible ASCII, with spaces inside only: no line break, no control")
        return value.encode()


def set_branches(sites: Sequence[Site]) -> tuple[Site, ...]:
    """Lead the routes that name a branch to its agents, and the others of the same backend past them."""
    apart: dict[str, set[str]] = {}
    for site in sites:
        for route in site.routes:
            for condition in route.conditions:
                if isinstance(condition, BranchIsThere):
                    apart.setdefault(condition.backend, set()).add(condition.branch)
    if not apart:
        return tuple(sites)
    rest = {backend: Selection(None, frozenset(branches)) for backend, branches in apart.items()}
    return tuple(replace(site, routes=tuple(_select(route, rest) for route in site.routes)) for site in sites)


def _select(route: Route, rest: Mapping[str, Selection]) -> Route:
    for condition in route.conditions:
        if isinstance(condition, BranchIsThere):
            return replace(route, selection=Selection(condition.branch))
    selection = rest.get(route.backend)
    return route if selection is None else replace(route, selection=selection)
