"""Answers in memory: bounded by octets, everything estimated (:mod:`~wormhole_tw.edge.caching.weight`).

Who stays is :mod:`~wormhole_tw.edge.caching.queues`' to say.  What comes in counts from its first octet on, so that the
bound holds for a thousand answers that arrive at once; where they alone would take more than half of it, no more are
begun, and where they take all of it, none of them grows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Cooperator
from zope.interface import implementer

from wormhole_tw.edge.caching.queues import MOST_USES, Line, Queues
from wormhole_tw.edge.caching.sweeping import is_gone
from wormhole_tw.edge.caching.usage import Usage
from wormhole_tw.edge.caching.weight import MOST_VARIANTS, ROUND, superseded, weight
from wormhole_tw.edge.interfaces import ICacheStore, IKeeping, IKept
from wormhole_tw.errors import CacheFault
from wormhole_tw.structs import replace

if TYPE_CHECKING:
    from wormhole_tw.edge.caching.stores import StoreSettings
    from wormhole_tw.http.caching.records import Stored

__all__ = ["MemoryKeeping", "MemoryKept", "MemoryStore", "make"]

SHARE = 8
"""One answer takes at most this part of the whole: a few large ones would leave no room for what is asked for more."""

PIECE = 2 * ROUND
"""Octets round one piece of a body that comes in: its bytes object and its place in a list."""

AT_ONCE = 256
"""Entries that a sweep looks at before others get their turn: less than a millisecond."""


def make(settings: StoreSettings) -> MemoryStore:
    """See :mod:`wormhole_tw.edge.caching.stores`."""
    return MemoryStore(settings.memory, settings.largest, settings.reactor)


@implementer(IKept)
class MemoryKept:
    """See IKept.

    :ivar beneath: the same answer in the store under this one, where there is one
    :ivar told: the turn in which its use was told to that one
    """

    __slots__ = (
        "beneath",
        "body",
        "cost",
        "earlier",
        "key",
        "later",
        "prepared",
        "queue",
        "size",
        "stored",
        "told",
        "uses",
    )

    def __init__(self, key: bytes, stored: Stored, body: bytes, beneath: IKept | None = None) -> None:
        self.key = key
        self.stored = stored
        self.size = len(body)
        self.body = body
        self.prepared: object = None
        self.beneath = beneath
        self.told = -1
        self.cost = weight(key, stored, self.size)
        self.uses = 0
        self.queue: Line | None = None

    @property
    def ghost(self) -> int:
        """See :class:`~wormhole_tw.edge.caching.queues.Item`."""
        return hash((self.key, self.stored.vary, self.stored.first))

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """See IKept."""
        return succeed(self.body[start : start + size])


@implementer(ICacheStore)
class MemoryStore:
    """See ICacheStore.

    :param limit: octets for everything
    :param largest: octets of the largest body; never more than a :data:`SHARE` of the limit
    :param reactor: whose turns a sweep shares with others
    """

    name = "memory"

    def __init__(self, limit: int, largest: int | None, reactor: object) -> None:
        share = limit // SHARE
        self.largest = share if largest is None else min(share, largest)
        self.turn = 0
        self.touched: list[IKept] = []
        """What was used, once a turn, as it lies in the store beneath: that one empties the list, and says when another
        turn begins."""
        self.left: Callable[[bytes, bool], None] | None = None
        """Told of what had to make room for others: its key, and whether others under it are still there."""
        self._limit = limit
        self._kept: dict[bytes, tuple[MemoryKept, ...]] = {}
        self._queues = Queues(limit)
        self._coming = 0
        self._evicted = 0
        self._reactor = reactor

    def find(self, key: bytes) -> tuple[MemoryKept, ...]:
        """See ICacheStore."""
        found = self._kept.get(key, ())
        for kept in found:
            if kept.uses < MOST_USES:
                kept.uses += 1
            if kept.told != self.turn:
                kept.told = self.turn
                if kept.beneath is not None:
                    self.touched.append(kept.beneath)
        return found

    def begin(
        self, key: bytes, stored: Stored, expected: int | None, after: IKept | None = None
    ) -> MemoryKeeping | None:
        """See ICacheStore."""
        if after is not None and after.body is None:
            return None
        before = b"" if after is None or after.body is None else after.body
        if len(before) + (expected or 0) > self.largest or self._coming > self._limit // 2:
            return None
        if after is not None:
            stored = replace(stored, first=after.stored.first)
        keeping = MemoryKeeping(self, key, stored)
        if before:
            keeping.write(before)
        return keeping

    def put(self, key: bytes, stored: Stored, body: bytes, beneath: IKept | None = None) -> MemoryKept | None:
        """Keep what is whole; None where it is not taken.  See ICacheStore for what it takes the place of."""
        if len(body) > self.largest:
            return None
        variants = self._kept.get(key, ())
        gone = superseded(stored, len(body), variants)
        if gone is None:
            return None
        kept = MemoryKept(key, stored, body, beneath)
        for other in variants:
            other.prepared = None
        for other in gone:
            self._queues.discard(other)
        stays = [other for other in variants if other not in gone]
        for other in stays[MOST_VARIANTS - 1 :]:
            self._queues.discard(other)
        self._kept[key] = (kept, *stays[: MOST_VARIANTS - 1])
        self._queues.add(kept, max((other.uses for other in gone), default=0))
        self._make_room()
        return kept

    def refresh(self, kept: IKept, stored: Stored) -> None:
        """See ICacheStore."""
        assert isinstance(kept, MemoryKept)
        kept.stored, kept.prepared = stored, None
        if (queue := kept.queue) is not None:
            cost = weight(kept.key, stored, kept.size)
            queue.octets += cost - kept.cost
            kept.cost = cost
            self._make_room()

    def remove(self, kept: IKept) -> None:
        """See ICacheStore."""
        assert isinstance(kept, MemoryKept)
        if kept.queue is not None:
            self._queues.discard(kept)
            self._forget(kept)

    def order(self, key: bytes, newest_first: list[IKept]) -> None:
        """Say in which order the variants under a key came."""
        places = {id(kept): place for place, kept in enumerate(newest_first)}
        there = self._kept.get(key, ())
        if len(there) > 1:
            self._kept[key] = tuple(sorted(there, key=lambda kept: places.get(id(kept), -1)))

    def under(self, key: bytes) -> tuple[MemoryKept, ...]:
        """What is under a key, without having used it."""
        return self._kept.get(key, ())

    def sweep(self, gone: Callable[[bytes, Stored], bool]) -> Deferred[int]:
        """See ICacheStore."""
        found = 0

        def work() -> Iterator[None]:
            nonlocal found
            for number, key in enumerate(list(self._kept)):
                for kept in self._kept.get(key, ()):
                    if is_gone(gone, key, kept.stored):
                        self.remove(kept)
                        found += 1
                if number % AT_ONCE == AT_ONCE - 1:
                    yield

        task = self._cooperator().cooperate(work())
        done: Deferred[int] = Deferred(lambda _: task.stop())
        task.whenDone().addCallbacks(lambda _: done.callback(found), lambda _: None)
        return done

    def usage(self) -> tuple[Usage, ...]:
        """See ICacheStore."""
        octets = self._queues.octets + self._coming
        return (Usage(self.name, self._queues.count, octets, self._limit, self._evicted),)

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        return succeed(None)

    def reserve(self, octets: int) -> bool:
        """Set room aside for one that is read from somewhere else; False where too much comes in already.  It is given
        back with :meth:`room_for`."""
        if self._coming + octets > self._limit // 2:
            return False
        self.room_for(octets)
        return True

    @property
    def crowded(self) -> bool:
        """What comes in has taken all room."""
        return self._coming >= self._limit

    def room_for(self, octets: int) -> None:
        """Something that comes in takes so much more, or less."""
        self._coming += octets
        if octets > 0:
            self._make_room()

    def _make_room(self) -> None:
        queues = self._queues
        while queues.octets + self._coming > self._limit:
            kept = queues.evict()
            if kept is None:
                return
            self._evicted += 1
            self._forget(kept)
            if self.left is not None:
                self.left(kept.key, kept.key in self._kept)

    def _forget(self, kept: MemoryKept) -> None:
        """It is in no queue any more: take it out of the index."""
        kept.prepared = None
        stays = tuple(other for other in self._kept[kept.key] if other is not kept)
        if stays:
            self._kept[kept.key] = stays
        else:
            del self._kept[kept.key]

    def _cooperator(self) -> Cooperator:
        reactor = self._reactor
        return Cooperator(scheduler=lambda work: reactor.callLater(0, work))  # type: ignore[attr-defined]


@implementer(IKeeping)
class MemoryKeeping:
    """See IKeeping."""

    behind = 0

    def __init__(self, store: MemoryStore, key: bytes, stored: Stored) -> None:
        self._store = store
        self._key = key
        self._stored = stored
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._taken = 0
        self._ended = False
        self.size = 0
        self.lost = False

    @property
    def crowded(self) -> bool:
        """See IKeeping."""
        return self._store.crowded

    def write(self, data: bytes) -> None:
        """See IKeeping."""
        if self.lost or self._ended or not data:
            return
        self.size += len(data)
        if self.size > self._store.largest:
            self.abandon()
            return
        self._starts.append(self.size - len(data))
        self._pieces.append(data)
        self._taken += len(data) + PIECE
        self._store.room_for(len(data) + PIECE)

    def caught_up(self) -> Deferred[None]:
        """See IKeeping."""
        return succeed(None)

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """See IKeeping."""
        if self.lost:
            return fail(CacheFault("what comes in is not kept any more"))
        return succeed(self.piece(start, size))

    def piece(self, start: int, size: int) -> bytes:
        """Octets that were written: from one piece, or from all at once where it is whole."""
        if start >= self.size:
            return b""
        number = bisect_right(self._starts, start) - 1
        offset = start - self._starts[number]
        return self._pieces[number][offset : offset + size]

    def commit(self) -> MemoryKept | None:
        """See IKeeping."""
        if self.lost or self._ended:
            return None
        stored = self._stored
        if stored.length is None:
            stored = replace(stored, length=stored.first + self.size)
        return self._end(stored)

    def commit_part(self) -> MemoryKept | None:
        """See IKeeping."""
        if self.lost or self._ended:
            return None
        if not (self.size and self._stored.length is not None and self._stored.strong):
            self.abandon()
            return None
        return self._end(self._stored)

    def abandon(self) -> None:
        """See IKeeping."""
        if not self._ended and not self.lost:
            self.lost = True
            self._pieces, self._starts = [], []
            self._store.room_for(-self._taken)

    def _end(self, stored: Stored) -> MemoryKept | None:
        self._ended = True
        body = b"".join(self._pieces)
        self._pieces, self._starts = [body], [0]
        self._store.room_for(-self._taken)
        return self._store.put(self._key, stored, body)
