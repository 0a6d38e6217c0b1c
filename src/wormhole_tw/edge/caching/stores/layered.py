"""Memory in front of a disk: what is kept goes to both, what is asked for comes out of memory.

What is found on disk goes into memory; how long it stays there is for memory's queues to say.  And the disk hears what
is used in memory, so that the most wanted answers do not grow old there, and are still found after a restart.

Where memory has some of the answers under a key and the disk may have more (other variants, or one that is too large
for memory), both are asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.caching.disk_answers import DiskKeeping, DiskKept
from wormhole_tw.edge.caching.stores import disk, memory
from wormhole_tw.edge.caching.stores.disk import DiskStore
from wormhole_tw.edge.caching.stores.memory import MemoryKeeping, MemoryKept, MemoryStore
from wormhole_tw.edge.caching.weight import is_whole
from wormhole_tw.edge.interfaces import ICacheStore, IKeeping, IKept
from wormhole_tw.errors import CacheFault

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from wormhole_tw.edge.caching.stores import StoreSettings
    from wormhole_tw.edge.caching.usage import Usage
    from wormhole_tw.http.caching.records import Stored

__all__ = ["LayeredKeeping", "LayeredStore", "make"]

AT_FIRST = 256 * 1024
"""Octets of the largest file that goes into memory when it is asked for; a larger one has to be asked for twice."""

REMEMBERED = 1024
"""So many large files are remembered for that."""

PIECE = 256 * 1024
"""Octets of a file that are read together on their way into memory."""

TURNS = 16
"""What is used in memory is told to the disk so often while new answers fill it once."""


def make(settings: StoreSettings) -> LayeredStore:
    """See :mod:`wormhole_tw.edge.caching.stores`.

    :raises MisuseError: there is no path
    """
    return LayeredStore(memory.make(settings), disk.make(settings))


class _Look:
    """The disk is asked for a key; whether something under it changes meanwhile."""

    __slots__ = ("loading", "unchanged", "waiting")

    def __init__(self) -> None:
        self.unchanged = True
        self.loading: Deferred[None] | None = None
        self.waiting: list[Deferred[tuple[IKept, ...]]] = []


@implementer(ICacheStore)
class LayeredStore:
    """See ICacheStore.

    :param front: its ``touched``, ``turn`` and ``left`` are this store's from now on
    """

    name = "layered"
    log = Logger()

    def __init__(self, front: MemoryStore, back: DiskStore) -> None:
        self.largest = max(front.largest, back.largest)
        self._front = front
        self._back = back
        self._taken = 0
        self._partial: set[bytes] = set()
        self._looks: dict[bytes, _Look] = {}
        self._wanted: OrderedDict[bytes, None] = OrderedDict()
        self._loading: dict[bytes, _Look] = {}
        front.left = self._left

    def find(self, key: bytes) -> tuple[IKept, ...] | Deferred[tuple[IKept, ...]]:
        """See ICacheStore."""
        found = self._front.find(key)
        if found and key not in self._partial:
            return found
        look = self._looks.get(key)
        if look is None:
            answer = self._back.find(key)
            if isinstance(answer, tuple):
                return answer or found
            look = self._looks[key] = _Look()
            answer.addCallback(self._found, key, look).addErrback(self._lost, look)
        waiting: Deferred[tuple[IKept, ...]] = Deferred(look.waiting.remove)
        look.waiting.append(waiting)
        return waiting

    def begin(
        self, key: bytes, stored: Stored, expected: int | None, after: IKept | None = None
    ) -> LayeredKeeping | None:
        """See ICacheStore."""
        beneath = after.beneath if isinstance(after, MemoryKept) else after
        front = back = None
        if after is None or after.body is not None:
            front = self._front.begin(key, stored, expected, after)
        if after is None or beneath is not None:
            back = self._back.begin(key, stored, expected, beneath)
        if front is None and back is None:
            return None
        return LayeredKeeping(self, key, stored, front, back)

    def refresh(self, kept: IKept, stored: Stored) -> None:
        """See ICacheStore."""
        front, back = self._both(kept)
        self._change(kept.key)
        kept.stored, kept.prepared = stored, None
        if front is not None:
            self._front.refresh(front, stored)
        if back is not None:
            self._back.refresh(back, stored)

    def remove(self, kept: IKept) -> None:
        """See ICacheStore."""
        front, back = self._both(kept)
        self._change(kept.key)
        if front is not None:
            self._front.remove(front)
            if not self._front.under(kept.key):
                self._partial.discard(kept.key)
        if back is not None:
            self._back.remove(back)

    def sweep(self, gone: Callable[[bytes, Stored], bool]) -> Deferred[int]:
        """See ICacheStore.  The disk first: nothing of it comes into memory behind the sweep's back."""

        async def sweep() -> int:
            try:
                found = await self._back.sweep(gone)
            except CacheFault:
                await self._front.sweep(gone)
                raise
            return found + await self._front.sweep(gone)

        return Deferred.fromCoroutine(sweep())

    def usage(self) -> tuple[Usage, ...]:
        """See ICacheStore."""
        return (*self._front.usage(), *self._back.usage())

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        self._tell()
        return self._back.close()

    def kept(self, key: bytes, front: MemoryKept | None, back: DiskKept | None) -> None:
        """Something new is under a key."""
        self._change(key)
        self._tell()
        if back is not None:
            self._taken += back.size
            if self._taken > self._back.limit // TURNS:
                self._taken = 0
                self._front.turn += 1
        there = self._front.under(key)
        if front is not None and front in there:
            front.beneath = back
            if len(there) == 1 and (front.stored.vary or not is_whole(front.stored, front.size)):
                self._add_partial(key)  # others may be on disk that were not asked for
        elif there:
            self._add_partial(key)

    def _found(self, found: tuple[IKept, ...], key: bytes, look: _Look) -> None:
        """The disk has said what it has."""
        del self._looks[key]
        self._tell()
        result: tuple[IKept, ...] | Deferred[tuple[IKept, ...]]
        if look.unchanged:
            result = self._raise(key, found)
        else:
            result = self.find(key)
        for waiting in list(look.waiting):
            if isinstance(result, Deferred):
                result.addCallback(self._pass_on, waiting)
            else:
                self._pass_on(result, waiting)

    def _lost(self, failure: Failure, look: _Look) -> None:
        """A fault of ours on the way: it is a miss for those who wait, and no more than that."""
        self.log.failure("what the disk has of an answer could not be given", failure)
        for waiting in list(look.waiting):
            self._pass_on((), waiting)

    def _pass_on(self, found: tuple[IKept, ...], waiting: Deferred[tuple[IKept, ...]]) -> tuple[IKept, ...]:
        if not waiting.called:  # else it was cancelled
            waiting.callback(found)
        return found

    def _raise(self, key: bytes, found: tuple[IKept, ...]) -> tuple[IKept, ...]:
        """Take what was found on disk into memory, where it fits."""
        result: list[IKept] = []
        whole = True
        for kept in reversed(found):
            assert isinstance(kept, DiskKept)
            above: IKept | None = self._above(kept)
            if above is None and kept.body is not None:
                above = self._front.put(key, kept.stored, kept.body, kept)
            if above is None:
                whole = False
                if kept.body is None:
                    self._load(kept)
            result.append(above or kept)
        result.reverse()
        self._front.order(key, result)
        if whole:
            self._partial.discard(key)
        elif self._front.under(key):
            self._add_partial(key)
        known = {id(kept) for kept in result}
        only = [kept for kept in self._front.under(key) if id(kept) not in known and kept.beneath is None]
        return (*only, *result)

    def _load(self, kept: DiskKept) -> None:
        """Read a file into memory, beside its visitors."""
        if kept.size > self._front.largest or kept.key in self._loading:
            return
        if kept.size > AT_FIRST and kept.key not in self._wanted:
            self._wanted[kept.key] = None
            if len(self._wanted) > REMEMBERED:
                self._wanted.popitem(last=False)
            return
        if not self._front.reserve(kept.size):
            return  # others are on their way: it is there another time
        self._wanted.pop(kept.key, None)
        look = self._loading[kept.key] = _Look()

        async def load() -> None:
            pieces: list[bytes] = []
            try:
                for start in range(0, kept.size, PIECE):
                    pieces.append(await kept.read(start, PIECE))
            except CacheFault:
                pieces.clear()
            finally:
                self._front.room_for(-kept.size)
            self._loading.pop(kept.key, None)
            if pieces and look.unchanged and self._above(kept) is None:
                self._front.put(kept.key, kept.stored, b"".join(pieces), kept)
                if len(self._front.under(kept.key)) > 1 or kept.stored.vary or kept.size != kept.stored.length:
                    self._add_partial(kept.key)

        look.loading = Deferred.fromCoroutine(load())

    def _above(self, kept: DiskKept) -> MemoryKept | None:
        """The same answer in memory."""
        for front in self._front.under(kept.key):
            if front.beneath is kept or (kept.id and getattr(front.beneath, "id", 0) == kept.id):
                return front
        return None

    def _both(self, kept: IKept) -> tuple[MemoryKept | None, IKept | None]:
        if isinstance(kept, MemoryKept):
            return kept, kept.beneath
        assert isinstance(kept, DiskKept)
        return self._above(kept), kept

    def _change(self, key: bytes) -> None:
        for looks in (self._looks, self._loading):
            if (look := looks.get(key)) is not None:
                look.unchanged = False

    def _left(self, key: bytes, others: bool) -> None:
        """Memory had no room for one any more."""
        if others:
            self._add_partial(key)
        else:
            self._partial.discard(key)

    def _add_partial(self, key: bytes) -> None:
        """The disk may have more under a key."""
        self._partial.add(key)
        for kept in self._front.under(key):
            kept.prepared = None

    def _tell(self) -> None:
        if self._front.touched:
            used, self._front.touched = self._front.touched, []
            self._back.used(used)


@implementer(IKeeping)
class LayeredKeeping:
    """See IKeeping: the same octets on their way to both, as far as each takes them."""

    def __init__(
        self, store: LayeredStore, key: bytes, stored: Stored, front: MemoryKeeping | None, back: DiskKeeping | None
    ) -> None:
        self._store = store
        self._key = key
        self._front = front
        self._back = back

    @property
    def size(self) -> int:
        """See IKeeping."""
        return max(each.size for each in (self._front, self._back) if each is not None)

    @property
    def behind(self) -> int:
        """See IKeeping."""
        return 0 if self._back is None or self._back.lost else self._back.behind

    @property
    def crowded(self) -> bool:
        """See IKeeping."""
        return (self._back is None or self._back.lost) and self._front is not None and self._front.crowded

    @property
    def lost(self) -> bool:
        """See IKeeping."""
        return (self._front is None or self._front.lost) and (self._back is None or self._back.lost)

    def write(self, data: bytes) -> None:
        """See IKeeping."""
        if self._back is not None:
            self._back.write(data)
        if self._front is None:
            return
        if self._front.crowded and self._back is not None and not self._back.lost:
            self._front.abandon()  # the disk has all of it
        else:
            self._front.write(data)

    def caught_up(self) -> Deferred[None]:
        """See IKeeping."""
        return succeed(None) if self._back is None else self._back.caught_up()

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """See IKeeping."""
        if self._front is not None and not self._front.lost:
            return self._front.read(start, size)
        if self._back is not None:
            return self._back.read(start, size)
        return fail(CacheFault("what comes in is not kept any more"))

    def commit(self) -> IKept | None:
        """See IKeeping."""
        return self._end(
            None if self._front is None else self._front.commit(), None if self._back is None else self._back.commit()
        )

    def commit_part(self) -> IKept | None:
        """See IKeeping."""
        return self._end(
            None if self._front is None else self._front.commit_part(),
            None if self._back is None else self._back.commit_part(),
        )

    def abandon(self) -> None:
        """See IKeeping."""
        if self._front is not None:
            self._front.abandon()
        if self._back is not None:
            self._back.abandon()

    def _end(self, front: MemoryKept | None, back: DiskKept | None) -> IKept | None:
        if front is not None or back is not None:
            self._store.kept(self._key, front, back)
        return front or back
