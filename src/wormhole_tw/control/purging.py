"""What somebody wants gone from the cache: from the words of a command to purges by site and value.

A configuration decides what the words mean: which site a host name is, and which parameters of a query its routes
ignore.  What could mean two things is refused, and what there is not, with a sentence that says what there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from wormhole_tw.errors import HttpError, WormholeError
from wormhole_tw.http.caching.purges import EVERY_SITE, KINDS
from wormhole_tw.http.targets import normalise_host, normalise_target

from .schema import closest

if TYPE_CHECKING:
    from .catalog import Catalog
    from .model import Site

__all__ = ["Order", "PurgeRefused", "Wish", "read_wish"]

_PATH = "/!$&'()*+,;=:@%[]\\^`{|}~\"<>"
"""What stays as it is typed in a path: the rest is escaped, as a browser does."""

_URL = re.compile(r"(?:https?://)?([^/?#]+)([^\s]*)", re.IGNORECASE)

_SHOWN = 5
"""Names in a sentence."""


class PurgeRefused(WormholeError):
    """What is to be purged is not clear, or not there; one sentence."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asked for.

    :ivar kind: ``url``, ``prefix``, ``tag`` or ``site``
    :ivar value: a URL, how URLs begin, or a tag, as typed; empty for ``site``
    :ivar site: the name of a site; None where nobody said one
    :ivar everywhere: of all sites
    """

    kind: str
    value: str = ""
    site: str | None = None
    everywhere: bool = False


class Order(NamedTuple):
    """What is to be done.

    :ivar site: the name of a site, or :data:`~wormhole_tw.http.caching.purges.EVERY_SITE`
    :ivar values: each is a purge of its own; one empty one for a whole site
    :ivar said: what it is, for people: "tag news of site blog"
    :ivar cached: answers of the site are kept at all
    """

    kind: str
    site: str
    values: tuple[bytes, ...]
    said: str
    cached: bool


def read_wish(catalog: Catalog, wish: Wish) -> Order:
    """Find out what is meant.

    :raises PurgeRefused: it is not clear, or there is no such site
    """
    if wish.kind not in KINDS:
        raise PurgeRefused(f"nothing is purged by {wish.kind}; there are {', '.join(KINDS)}")
    if wish.everywhere and wish.site is not None:
        raise PurgeRefused("either one site or all of them")
    if wish.kind in ("url", "prefix"):
        return _by_url(catalog, wish)
    if wish.kind == "site":
        if wish.everywhere:
            return Order("site", EVERY_SITE, (b"",), "all sites", _any_cached(catalog.sites))
        site = _named(catalog, wish.site)
        return Order("site", site.name, (b"",), f"site {site.name}", _cached(site))
    tag = wish.value.strip().encode()
    if not tag or any(octet <= 0x20 or octet in b",\x7f" for octet in tag):
        raise PurgeRefused(f"{wish.value!r} is no tag: one word, without spaces and commas")
    if wish.everywhere:
        return Order("tag", EVERY_SITE, (tag,), f"tag {wish.value} of all sites", _any_cached(catalog.sites))
    site = _named(catalog, wish.site)
    return Order("tag", site.name, (tag,), f"tag {wish.value} of site {site.name}", _cached(site))


def _cached(site: Site) -> bool:
    return any(route.cache is not None for route in site.routes)


def _any_cached(sites: Sequence[Site]) -> bool:
    return any(map(_cached, sites))


def _named(catalog: Catalog, name: str | None) -> Site:
    """A site by its name; without one the only site that is kept anything of."""
    if name is None:
        cached = [site for site in catalog.sites if _cached(site)]
        if len(cached) == 1:
            return cached[0]
        if not cached:
            raise PurgeRefused("which site? None has a cache now; say which one with --site")
        raise PurgeRefused(f"which site? Say it with --site: {_listed([site.name for site in cached])}; or --all-sites")
    for site in catalog.sites:
        if site.name == name:
            return site
    names = [site.name for site in catalog.sites]
    if (owner := catalog.site_for(name.lower())) is not None:
        raise PurgeRefused(f"{name} is a host name of site {owner.name}: --site {owner.name}")
    if not names:
        raise PurgeRefused(f"there is no site {name}: there is none at all")
    guess = closest(name, names)
    raise PurgeRefused(
        f"there is no site {name}; {f'did you mean {guess}?' if guess else f'there are {_listed(names)}'}"
    )


def _listed(names: Sequence[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def _by_url(catalog: Catalog, wish: Wish) -> Order:
    if wish.everywhere:
        raise PurgeRefused("a URL is of one site: it has a host name, or give --site and its path")
    text = wish.value
    if text.startswith("/"):
        if wish.site is None:
            raise PurgeRefused(f"{text} of which host? Write https://HOST{text}; or --site, for all hosts of a site")
        site, host = _named(catalog, wish.site), b""
        where = f"any host of site {site.name}, {text}"
        rest = text
    else:
        site, name, rest = _of_host(catalog, text)
        if wish.site is not None and wish.site != site.name:
            raise PurgeRefused(f"{name} is a host name of site {site.name}, not of {wish.site}")
        host, where = name.encode("ascii"), text
    path, mark, query = rest.partition("#")[0].partition("?")
    written = quote(query, safe=_PATH + "?").encode("ascii") if mark else None
    try:
        canonical, _ = normalise_target(quote(path or "/", safe=_PATH).encode("ascii"))
    except HttpError as error:
        raise PurgeRefused(f"{text}: {error.message}") from None
    queries: dict[bytes | None, None] = {written: None}
    if wish.kind == "url" and written is not None:
        # it lies where its routes keep it: without what they ignore
        for route in site.routes:
            if route.cache is not None and route.cache.ignore_query is not None and route.takes(canonical.decode()):
                queries[route.cache.ignore_query.of(written)] = None
    values = tuple(host + (canonical if query is None else b"%s?%s" % (canonical, query)) for query in queries)
    said = f"{where} and all that begins so" if wish.kind == "prefix" else where
    return Order(wish.kind, site.name, values, said, _cached(site))


def _of_host(catalog: Catalog, text: str) -> tuple[Site, str, str]:
    """The site of a URL, its host name, and what stands behind that."""
    url = _URL.fullmatch(text)
    try:
        if url is None:
            raise ValueError
        host, _ = normalise_host(url[1].encode("ascii" if url[1].isascii() else "idna"))
    except (ValueError, HttpError):
        if url is not None and url[1].startswith("*."):
            raise PurgeRefused(f"{text}: one host name, or --site with a path, for all of a site's") from None
        raise PurgeRefused(f"{text} is no URL of a site: https://host/path") from None
    name = host.strip("[]")
    site = catalog.site_for(name)
    if site is None:
        names = catalog.hostnames()
        guess = closest(name, names)
        there = f"did you mean {guess}?" if guess else f"there are {_listed(names)}" if names else "there is no site"
        raise PurgeRefused(f"no site has the host name {name}; {there}")
    if site.passthrough:
        raise PurgeRefused(f"TLS for {name} is its service's to end (passthrough): nothing of it is kept here")
    return site, name, url[2]
