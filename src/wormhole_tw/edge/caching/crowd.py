"""Those who wait for one fetch, and how fast its answer may come for them.

While the answer is stored it comes as fast as the store takes it, whoever is slow.  Where it is not (any more), what is
ahead of the slowest is held here, and its origin has to wait when that is much; who keeps others waiting then is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.edge.caching.coming import Coming

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from wormhole_tw.edge.caching.cache import EdgeCache
    from wormhole_tw.edge.caching.reader import Reader
    from wormhole_tw.edge.inner import InnerExchange
    from wormhole_tw.http.events import Fields
    from wormhole_tw.net.timers import Timer

__all__ = ["SLOW", "Crowd"]

SLOW = 5.0
"""Seconds for which one who does not read may keep others waiting who read the same answer."""


class Crowd:
    """See the module.

    :ivar first: the reader that it began for; None where that has left
    """

    __slots__ = (
        "_cache",
        "_catching_up",
        "_coming",
        "_held_up",
        "_inner",
        "_over",
        "_readers",
        "_slow",
        "_trailers",
        "first",
    )

    def __init__(self, cache: EdgeCache, first: Reader | None) -> None:
        self.first = first
        self._cache = cache
        self._readers: list[Reader] = [] if first is None else [first]
        self._coming = Coming(None, 0)
        self._trailers: Fields = []
        self._inner: InnerExchange | None = None
        self._held_up = False  # the origin has to wait for us
        self._catching_up = False  # the disk has to
        self._over = False
        self._slow: Timer | None = None

    def _lost_store(self) -> None:
        """No more of the answer is stored."""
        raise NotImplementedError

    @property
    def writable(self) -> bool:
        """See IVisitor."""
        coming = self._coming
        if coming.room:
            return True
        self._held_up = True
        if coming.stores:
            if not self._catching_up:
                keeping = coming.keeping
                assert keeping is not None
                self._catching_up = True
                keeping.caught_up().addCallback(self._caught_up)
        elif len(self._readers) > 1 and self._slow is None:
            self._slow = self._cache.context.timers.start(SLOW, self._cut_slowest)
        return False

    def flush(self) -> None:
        """See IVisitor."""
        for reader in list(self._readers):
            reader.poke()

    def piece(self, position: int, most: int) -> bytes | Deferred[bytes] | None:
        """See Coming."""
        return self._coming.piece(position, most)

    def trailers_for(self, reader: Reader) -> Fields:
        """What stands behind the body: for the first one alone, for nothing of it is stored."""
        return self._trailers if reader is self.first else []

    def moved(self) -> None:
        """A reader has gone on, or left: there may be room for more."""
        if self._held_up and not self._over:
            self._trim()
            self._go_on()

    def _more(self, data: bytes) -> None:
        coming = self._coming
        if not coming.add(data):
            self._lost_store()
            for reader in [reader for reader in self._readers if not coming.has(reader.position)]:
                reader.fail("cache-fault", None, None)
        self._trim()

    def _trim(self) -> None:
        coming = self._coming
        if not coming.stores:
            coming.trim(min([reader.position for reader in self._readers], default=coming.total))

    def _caught_up(self, _: None) -> None:
        self._catching_up = False
        if not self._over:
            self._go_on()

    def _go_on(self) -> None:
        if self._held_up and self.writable:
            self._held_up = False
            self._leave_slow()  # whoever was waited for has read
            if self._inner is not None:
                self._inner.visitor_resumed()

    def _cut_slowest(self) -> None:
        self._slow = None
        if self._held_up and len(self._readers) > 1 and not self._over:
            min(self._readers, key=lambda reader: reader.position).fail("slow-reader", None, None)

    def _leave_slow(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
