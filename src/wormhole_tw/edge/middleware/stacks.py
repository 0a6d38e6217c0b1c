"""The middleware of the current catalog's routes: loaded before a configuration is taken over, kept where nothing has
changed, let go when its last request is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList

from wormhole_tw.edge.middleware.chain import enter_chain
from wormhole_tw.edge.middleware.entry import Entry
from wormhole_tw.edge.middleware.loading import Loader, make

if TYPE_CHECKING:
    from wormhole_tw.control.catalog import Catalog
    from wormhole_tw.control.middleware import MiddlewareSettings
    from wormhole_tw.control.model import Route
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.net.timers import TimerWheel

__all__ = ["Middlewares", "Prepared", "Stack", "check_middleware"]


class Stack:
    """What the requests of a route go through.

    :ivar entries: from the visitor on
    """

    __slots__ = ("entries",)

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries

    def enter(self, exchange: Exchange) -> None:
        """Send a request through; it may have its answer when this returns."""
        enter_chain(exchange, self.entries)

    def keep(self) -> None:
        """A request is on its way here: nothing of it stops before that is over, whatever is reloaded."""
        for entry in self.entries:
            entry.enter()

    def release(self) -> None:
        """It has come, or will not."""
        for entry in self.entries:
            entry.leave()


class Prepared(NamedTuple):
    """Everything that a catalog's routes name, loaded.

    :ivar of: by the identity of a route
    :ivar entries: every one, once
    """

    of: dict[int, Stack]
    entries: tuple[Entry, ...]


NOTHING = Prepared({}, ())


def check_middleware(catalog: Catalog) -> None:
    """Load everything that a catalog's routes name, as taking it over would.

    :raises ConfigError: one of it cannot be had
    """
    loader = Loader()
    for site in catalog.sites:
        for route in site.routes:
            for settings in route.middleware or ():
                make(loader.load(settings), settings)


class Middlewares:
    """Owner of every middleware of an edge."""

    __slots__ = ("_leaving", "_now", "_timers")

    def __init__(self, timers: TimerWheel) -> None:
        self._timers = timers
        self._now = NOTHING
        self._leaving: list[Entry] = []

    def of(self, route: Route) -> Stack:
        """The middleware of a route of the current catalog, which has some."""
        return self._now.of[id(route)]

    def prepare(self, catalog: Catalog) -> Prepared:
        """Load what a catalog names.  One whose text and settings are the same as now keeps its object.

        :raises ConfigError: one of it cannot be had; nothing has changed then
        """
        if not any(route.middleware for site in catalog.sites for route in site.routes):
            return NOTHING
        loader = Loader()
        entries: list[Entry] = []
        of: dict[int, Stack] = {}
        before: dict[str, list[Entry]] = {}
        for entry in self._now.entries:
            before.setdefault(entry.site, []).append(entry)
        try:
            for site in catalog.sites:
                mine: list[Entry] = []
                for route in site.routes:
                    if route.middleware:
                        stack = [
                            self._entry(loader, settings, site.name, mine, before.get(site.name, ()))
                            for settings in route.middleware
                        ]
                        of[id(route)] = Stack(tuple(stack))
                entries += mine
        except BaseException:
            loader.undo()
            raise
        return Prepared(of, tuple(entries))

    def _entry(
        self, loader: Loader, settings: MiddlewareSettings, site: str, made: list[Entry], before: Sequence[Entry]
    ) -> Entry:
        loaded = loader.load(settings)
        for entry in made:
            if entry.settings.same_object(settings) and entry.settings.timeout == settings.timeout:
                return entry
        for entry in before:
            if (
                entry.source == loaded.source
                and entry.settings.same_object(settings)
                and entry.settings.timeout == settings.timeout
            ):
                made.append(entry)
                return entry
        entry = Entry(make(loaded, settings), settings, site, loaded.source, self._timers)
        made.append(entry)
        return entry

    def take_over(self, prepared: Prepared) -> None:
        """From now on requests go through these; what is not among them any more goes with its last request."""
        old, self._now = self._now, prepared
        kept = set(map(id, prepared.entries))
        for entry in old.entries:
            if id(entry) not in kept:
                self._let_go(entry)

    def _let_go(self, entry: Entry) -> None:
        self._leaving.append(entry)
        entry.retire().addCallback(lambda _: self._leaving.remove(entry))

    def close(self) -> Deferred[Any]:
        """Let go of all of it; fires when all have stopped, and never fails. Safe to call twice."""
        entries = [*self._leaving, *self._now.entries]
        self.take_over(NOTHING)
        waiting = []
        for entry in entries:
            for timer in entry.lingering:
                timer.cancel()
            waiting.append(entry.when_stopped())
        return DeferredList(waiting)
