"""What an edge keeps of answers, from its start until it stops: the store, and what was purged.

It outlives reloads; which routes use it, and how, is the catalog's to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.logger import Logger

from wormhole_tw.edge.caching.journal import PurgeJournal
from wormhole_tw.edge.caching.stores import StoreSettings, make_store
from wormhole_tw.errors import CacheFault

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.python.failure import Failure

    from wormhole_tw.control.catalog import Catalog
    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.edge.interfaces import ICacheStore
    from wormhole_tw.http.caching.purges import Purges
    from wormhole_tw.http.caching.records import Stored

__all__ = ["KeptAnswers", "journal_of"]

log = Logger()

_JOURNAL = "purges"


def journal_of(config: EdgeConfig) -> Path:
    """Where purges are written down."""
    return config.state / config.cache.path / _JOURNAL


class KeptAnswers:
    """The answers of one start of an edge, or of all that share a disk.

    :param reactor: whose thread it is called in
    :ivar store: where they are
    :ivar purges: which of them are void
    :ivar purged: how many purges there were, by kind
    :ivar oldest: gives the purge clock when the oldest fetch that runs began
    """

    def __init__(self, reactor: Any, config: EdgeConfig) -> None:
        stores = config.cache
        folder = config.state / stores.path if stores.disk else None
        settings = StoreSettings(reactor, stores.memory, stores.disk, folder, stores.largest)
        self.purged: Counter[str] = Counter()
        self._journal = PurgeJournal(reactor, journal_of(config))
        self._in_use = False
        self._sites: frozenset[str] = frozenset()
        self.oldest: Callable[[], int] = lambda: self.purges.clock
        self.store: ICacheStore = make_store(settings, "disk" if stores.disk and not stores.memory else None)
        self._sweeping: Deferred[int] | None = None
        self._sweep_wanted = False
        self._closed = False

    def serve(self, catalog: Catalog) -> None:
        """Be ready for a catalog.  The journal is there from the first route with a cache on: an edge without any
        writes nothing.

        A site that is not there any more takes what was kept of it along: another one of that name may be somebody
        else's.
        """
        sites = frozenset(site.name for site in catalog.sites if any(route.cache is not None for route in site.routes))
        if sites:
            self._use()
        there = {site.name for site in catalog.sites}
        for name in sorted(self._sites - there):
            self.purge("site", name, (b"",)).addErrback(lambda _: None)  # told by the journal
        self._sites = (self._sites & there) | sites

    def _use(self) -> None:
        if not self._in_use:
            self._in_use = True
            self._journal.load()
            self._journal.watch()

    @property
    def purges(self) -> Purges:
        """Which of them are void."""
        return self._journal.purges

    def purge(self, kind: str, site: str, values: Iterable[bytes]) -> Deferred[None]:
        """Make answers void: for the next request that comes here, and when the Deferred fires for a process that
        starts after a crash.

        It fails with :class:`~wormhole_tw.errors.CacheFault` where it could not be written down.

        :param values: see :meth:`wormhole_tw.http.caching.purges.Purges.add`; each is a purge
        """
        self._use()
        written = [self._journal.purge(kind, site, value) for value in values]
        self.purged[kind] += 1
        self._sweep()
        done: Deferred[Any] = gatherResults(written, consumeErrors=True)
        return done.addCallbacks(lambda _: None, lambda failure: failure.value.subFailure)

    def follow(self) -> Deferred[None]:
        """Heed what other processes have purged; never fails."""
        return self._journal.follow()

    def close(self) -> Deferred[Any]:
        """Let go of it all; fires when what was to be written is."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        return DeferredList([self._journal.close(), self.store.close()], consumeErrors=True)

    def _sweep(self) -> None:
        """Give room back: what is void is found by nobody, and takes some until it is gone."""
        if self._sweeping is not None:
            self._sweep_wanted = True
            return
        self._sweep_wanted = False
        purges = self.purges
        clock = purges.clock

        def gone(key: bytes, stored: Stored) -> bool:
            site, _, host, target, _ = key.split(b"\0", 4)  # how every key begins, see edge/caching/asking
            return purges.covers(site.decode(), host, target, stored.tags, stored.born)

        self._sweeping = self.store.sweep(gone)
        self._sweeping.addCallbacks(self._swept, self._not_swept, callbackArgs=(clock,))

    def _swept(self, count: int, clock: int) -> None:
        self._sweeping = None
        log.debug("{count} purged answers are gone", count=count)
        self._journal.settle(min(clock, self.oldest()))
        self._sweep_again()

    def _not_swept(self, failure: Failure) -> None:
        """Not all of it was looked at: what was purged is remembered, until a later sweep goes through."""
        self._sweeping = None
        failure.trap(CacheFault, CancelledError)
        self._sweep_again()

    def _sweep_again(self) -> None:
        if self._sweep_wanted and not self._closed:
            self._sweep()
