"""The catalog: sites, routes, backends and tokens, compiled for lookup, immutable, and swapped whole.

A lookup costs the same with one site and with ten thousand: exact names are one dict, the parents of wildcards another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from wormhole_tw.errors import ConfigError

from .conditions import HostIs
from .model import Backend, Route, Site
from .rules import RuleIndex, find_shadows

if TYPE_CHECKING:
    from .config import EdgeConfig

__all__ = ["EMPTY", "Catalog", "CatalogHolder", "build_catalog", "removed_tokens"]

MANY_ROUTES = 16
"""Prefixes that are compared one after the other; of more, the first segments are looked up."""

_HTTPS = 443


def _authority(hostname: str) -> str:
    """The form of a normalised host name in Host and in a URL."""
    return f"[{hostname}]" if ":" in hostname else hostname


def _hosts_of(route: Route, site: Site) -> Iterable[str]:
    """The host names for which a route is, in the order of its site's."""
    named = next((condition for condition in route.conditions if isinstance(condition, HostIs)), None)
    return site.hostnames if named is None else named.shown


class Catalog:
    """One snapshot of what should be. Nothing in it ever changes; a reload makes another.

    :param sites: their names and host names normalised and unique
    :param backends: their names and token digests unique
    :param own_names: names of the edge itself; they are never a site, whatever a wildcard says
    :param warnings: what is allowed but surely not meant, one line each, for the log at start-up and reload
    :raises ValueError: two of them claim the same name, host name or token, or a route leads nowhere
    """

    __slots__ = (
        "_by_digest",
        "_exact",
        "_hostnames",
        "_reached",
        "_wild",
        "authorities",
        "backends",
        "passes",
        "rules",
        "sites",
        "warnings",
    )

    authorities: Mapping[bytes, tuple[str, Site]]
    """Exact host names as most requests spell them (no port, lower case) → the normalised name and its site."""
    rules: Mapping[str, RuleIndex]
    """By the names of the sites that are not plain, or have many routes."""

    passes: bool
    """There are sites whose TLS is not ended here."""
    backends: Mapping[str, Backend]
    sites: tuple[Site, ...]
    warnings: tuple[str, ...]

    def __init__(
        self,
        sites: Iterable[Site] = (),
        backends: Iterable[Backend] = (),
        *,
        own_names: Iterable[str] = (),
        warnings: Iterable[str] = (),
    ) -> None:
        self.sites = tuple(sites)
        self.passes = any(site.passthrough for site in self.sites)
        self.warnings = tuple(warnings)
        self._exact: dict[str, Site | None] = dict.fromkeys(own_names)
        self._wild: dict[str, Site] = {}
        by_name: dict[str, Backend] = {}
        self._by_digest: dict[bytes, Backend] = {}
        for backend in backends:
            if backend.name in by_name:
                raise ValueError(f"two backends named {backend.name!r}")
            by_name[backend.name] = backend
            for digest in backend.tokens:
                if digest in self._by_digest:
                    raise ValueError(f"one token for {self._by_digest[digest].name!r} and {backend.name!r}")
                self._by_digest[digest] = backend
        self.backends = MappingProxyType(by_name)
        for site in self.sites:
            for route in site.routes:
                if route.backend not in by_name and route.answer is None:
                    raise ValueError(f"site {site.name!r} leads to no backend {route.backend!r}")
            for hostname in site.hostnames:
                if hostname in self._exact or (hostname.startswith("*.") and hostname[2:] in self._wild):
                    raise ValueError(f"two claims to {hostname!r}")
                if hostname.startswith("*."):
                    self._wild[hostname[2:]] = site
                else:
                    self._exact[hostname] = site
        self.authorities = {
            _authority(name).encode("ascii"): (name, site) for name, site in self._exact.items() if site is not None
        }
        self.rules = {
            site.name: RuleIndex(site.routes) for site in self.sites if not site.plain or len(site.routes) > MANY_ROUTES
        }
        self._hostnames = tuple(hostname for site in self.sites for hostname in site.hostnames)
        self._reached: dict[str, dict[tuple[str, str], None]] = {}
        for site in self.sites:
            shadows = find_shadows(site.routes)
            for index, route in enumerate(site.routes):
                if index not in shadows and route.answer is None:
                    reached = self._reached.setdefault(route.backend, {})
                    path = route.path if route.pattern is None else route.pattern.head
                    for hostname in _hosts_of(route, site):
                        reached[(_authority(hostname), "" if path == "/" else path)] = None

    def site_for(self, hostname: str) -> Site | None:
        """Find the site of a host name; an exact name wins over a wildcard.

        :param hostname: lower case, no port, no trailing dot; an IPv6 address without brackets
        """
        if hostname in self._exact:
            return self._exact[hostname]
        label, _, parent = hostname.partition(".")
        return self._wild.get(parent) if label else None

    def match(self, site: Site, path: bytes | str) -> Route | None:
        """Find the first route of a plain site that takes a path (normalised, percent-encoded, without the query)."""
        if len(site.routes) > MANY_ROUTES and (rules := self.rules.get(site.name)) is not None:
            return rules.by_path(path if isinstance(path, str) else str(path, "latin-1"))
        text: str | None = None
        for route in site.routes:
            if route.path == "/":
                return route
            if text is None:
                # Latin-1 cannot fail, and an octet outside ASCII matches no prefix, for those are escaped.
                text = path if isinstance(path, str) else str(path, "latin-1")
            if text == route.path or text.startswith(route.below):
                return route
        return None

    def backend_for_digest(self, digest: bytes) -> Backend | None:
        """Find the backend that the token with this SHA-256 opens."""
        return self._by_digest.get(digest)

    def tokens(self) -> Mapping[bytes, Backend]:
        """Every token digest and what it opens."""
        return MappingProxyType(self._by_digest)

    def hostnames(self) -> tuple[str, ...]:
        """Every host name of every site, in the order of the file; wildcards as ``*.parent``."""
        return self._hostnames

    def urls_for(self, backend: str, port: int = _HTTPS) -> list[str]:
        """Give the https URLs under which a backend is reached, for the agent's log.

        :param port: what visitors see; 443 is left out of the URL
        """
        suffix = "" if port == _HTTPS else f":{port}"
        return [f"https://{authority}{suffix}{path}" for authority, path in self._reached.get(backend, ())]


#: A catalog with nothing in it: every host name is unknown, every token opens nothing.
EMPTY = Catalog()


def build_catalog(config: EdgeConfig) -> Catalog:
    """Compile a configuration, which was checked when it was made.

    Its ``warnings`` name what can never have an effect: routes behind a route that takes all they would, and backends
    that no route leads to; and origins that may be this edge itself.
    """
    warnings: list[str] = []
    reached: set[str | None] = {service.backend for service in config.tcp}
    reached.update(backend.policy.failover for backend in config.backends)
    for number, site in enumerate(config.sites):
        shadows = find_shadows(site.routes)
        for index, route in enumerate(site.routes):
            shadow = shadows.get(index)
            if shadow is None:
                reached.add(route.backend)
                # a copy of its requests leads somewhere too
                reached.update(getattr(settings, "backend", None) for settings in route.gates or ())
                continue
            path = site.routes[shadow].path
            reason = (
                f"{route.path} of site {site.name} can never be reached: routes[{shadow}] "
                f"({path}) stands before it and takes all of it"
            )
            warnings.append(str(ConfigError(config.source, f"$.sites[{number}].routes[{index}]", reason)))
    names = {hostname for site in config.sites for hostname in site.hostnames}
    for number, backend in enumerate(config.backends):
        for origin in backend.origins:
            host = origin.target.host
            if host in names:  # as when a site has moved behind the edge, name and all
                reason = (
                    f"the origin {origin.url} has the name of a site: where that leads here, requests go in a circle"
                )
                warnings.append(str(ConfigError(config.source, f"$.backends[{number}]", reason)))
        if backend.name not in reached:
            reason = f"no route leads to backend {backend.name}"
            warnings.append(str(ConfigError(config.source, f"$.backends[{number}]", reason)))
    if not config.sites and not config.tcp:
        warnings.append(str(ConfigError(config.source, "$.sites", "there is no site: every request gets 404")))
    return Catalog(config.sites, config.backends, own_names=config.names, warnings=warnings)


def removed_tokens(old: Catalog, new: Catalog) -> frozenset[bytes]:
    """Give the digests that open a backend in ``old``, and another or none in ``new``: their agents must go."""
    return frozenset(
        digest
        for digest, backend in old.tokens().items()
        if (now := new.backend_for_digest(digest)) is None or now.name != backend.name
    )


class CatalogHolder:
    """The one place that changes: which catalog is current. Requests keep the one that they began with.

    :ivar current: the catalog for requests that begin now; :meth:`swap` alone writes it
    """

    __slots__ = ("_subscribers", "current")

    def __init__(self, current: Catalog = EMPTY) -> None:
        self.current = current
        self._subscribers: dict[object, Callable[[Catalog], None]] = {}

    def swap(self, new: Catalog) -> Catalog:
        """Make ``new`` current, then tell the subscribers; give the one that was."""
        old, self.current = self.current, new
        for callback in tuple(self._subscribers.values()):
            callback(new)
        return old

    def subscribe(self, callback: Callable[[Catalog], None]) -> Callable[[], None]:
        """Call ``callback(catalog)`` after each swap; it must not raise.

        :return: a function that ends the subscription; calling it twice does no harm
        """
        key = object()
        self._subscribers[key] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe
