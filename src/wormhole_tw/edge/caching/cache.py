"""What the caches of all routes share: where answers are kept, the fetches that run, what is void, what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.edge.caching.caching import Caching
from wormhole_tw.edge.caching.counting import CacheCounters
from wormhole_tw.edge.caching.hearing import Beside
from wormhole_tw.edge.caching.notes import Unstorable, Voids

if TYPE_CHECKING:
    from wormhole_tw.control.catalog import Catalog
    from wormhole_tw.control.model import Route
    from wormhole_tw.edge.caching.asking import Asked, Place
    from wormhole_tw.edge.caching.fetch import Fetch
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.interfaces import ICacheStore
    from wormhole_tw.http.caching import Stored
    from wormhole_tw.http.caching.purges import Purges

__all__ = ["EdgeCache"]


class EdgeCache:
    """The cache of an edge.  Routes have it as :class:`~wormhole_tw.edge.caching.caching.Caching`, made anew with every
    catalog; what is kept (``context.kept``) and what runs stays.

    :ivar store: where answers are kept
    :ivar purges: what was purged of them
    :ivar counters: what was done
    :ivar voids: what unsafe requests have changed
    :ivar unstorable: keys whose answers are not kept
    :ivar beside: site → what hears of unsafe requests that take its routes without a cache, where others have one
    """

    __slots__ = (
        "_fetches",
        "_of",
        "_open",
        "_running",
        "_unsubscribe",
        "beside",
        "context",
        "counters",
        "purges",
        "store",
        "turn",
        "unstorable",
        "voids",
        "wall",
    )

    store: ICacheStore
    purges: Purges

    def __init__(self, context: EdgeContext) -> None:
        self.context = context
        self.counters = CacheCounters()
        self.voids = Voids()
        self.unstorable = Unstorable(context.timers.seconds)
        self.turn = context.turn
        self.wall = context.wall
        self._fetches: dict[bytes, list[Fetch]] = {}  # those that others may join, by group
        self._running: set[Fetch] = set()
        self._of: dict[int, Caching] = {}  # by the identity of the current catalog's routes
        self._open = True
        self._take_over(context.catalogs.current)
        self._unsubscribe = context.catalogs.subscribe(self._take_over)

    def of(self, route: Route) -> Caching:
        """The cache of a route of the current catalog, which has one."""
        return self._of[id(route)]

    def _take_over(self, catalog: Catalog) -> None:
        kept = self.context.kept
        if kept is not None:
            self.store, self.purges = kept.store, kept.purges
            kept.oldest = self.oldest
        self._of = {
            id(route): Caching(self, route, route.cache)
            for site in catalog.sites
            for route in site.routes
            if route.cache is not None
        }
        self.beside: dict[str, Beside] = {}
        for site in catalog.sites:
            cached = [route.cache for route in site.routes if route.cache is not None]
            if 0 < len(cached) < len(site.routes):
                self.beside[site.name] = Beside(self, {settings.ignore_query for settings in cached})

    # fetches

    def began(self, fetch: Fetch) -> None:
        """One is on its way."""
        self._running.add(fetch)
        if fetch.shared:
            self._fetches.setdefault(fetch.asked.group, []).append(fetch)

    def closed(self, fetch: Fetch) -> None:
        """Nobody may join it any more."""
        group = fetch.asked.group
        fetches = self._fetches.get(group)
        if fetches is not None and fetch in fetches:
            fetches.remove(fetch)
            if not fetches:
                del self._fetches[group]

    def ended(self, fetch: Fetch) -> None:
        """It is over."""
        self.closed(fetch)
        self._running.discard(fetch)

    def running(self, asked: Asked) -> Fetch | None:
        """One that a request may wait for."""
        for fetch in self._fetches.get(asked.group, ()):
            if fetch.takes(asked):
                return fetch
        return None

    @property
    def running_count(self) -> int:
        """How many run."""
        return len(self._running)

    def oldest(self) -> int:
        """The purge clock when the oldest of them began; that of now where none runs."""
        return min((fetch.born for fetch in self._running), default=self.purges.clock)

    # what is void

    def voided(self, place: Place, requested: float) -> bool:
        """Whether an unsafe request has made void what was asked for then."""
        return self.voids.covers(place.site, place.host, place.target, requested)

    def is_void(self, place: Place, stored: Stored) -> bool:
        """Whether an answer was purged, or made void, since its fetch began."""
        if stored.born < self.purges.clock and self.purges.covers(
            place.site, place.host.encode(), place.target, stored.tags, stored.born
        ):
            return True
        return self.voided(place, stored.requested)

    # its end

    def stop(self) -> None:
        """End what runs; calling it twice does no harm."""
        if self._open:
            self._open = False
            self._unsubscribe()
        for fetch in list(self._running):
            fetch.stop()
