"""Answers on disk: they survive a restart and a kill -9, and all reading and writing is done beside the reactor.

Small bodies lie in an SQLite database beside what is said of them, large ones in files: see
:mod:`~wormhole_tw.edge.caching.disk_work` for what is where, and docs/decisions/0020 for why.

The disk may be slow, full, read-only or gone: then answers are not kept, or not found, which is logged once, and again
when it works.  A disk that does not answer in time has nothing, until it answers.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.caching.disk_answers import DiskKeeping, DiskKept
from wormhole_tw.edge.caching.disk_work import DiskWork, Found
from wormhole_tw.edge.caching.sweeping import is_gone
from wormhole_tw.edge.caching.usage import Usage
from wormhole_tw.edge.caching.worker import Worker
from wormhole_tw.edge.interfaces import ICacheStore, IKept
from wormhole_tw.errors import CacheFault, MisuseError
from wormhole_tw.structs import replace

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from wormhole_tw.edge.caching.stores import StoreSettings
    from wormhole_tw.http.caching.records import Stored

__all__ = ["DiskStore", "make"]

T = TypeVar("T")

SHARE = 4
"""One answer takes at most this part of the disk."""

MOST_WAITING = 64 * 1024 * 1024
"""Octets of all that wait for the disk: past that nothing new is taken, for the disk does not keep up."""

CALL = 1024
"""Octets of one call that waits, beside what it writes."""

MOST_ASKED = 4096
"""Questions that wait for the disk: past that it has nothing for new ones."""

ENDINGS = 5
"""Times as long may take what waits to be written when the store is closed."""

QUIET = 30.0
"""Seconds for which nothing is written to a disk that did not take something."""

SWEEP = 256
"""Entries that a sweep looks at before others get their turn."""


def make(settings: StoreSettings) -> DiskStore:
    """See :mod:`wormhole_tw.edge.caching.stores`.

    :raises MisuseError: there is no path
    """
    if settings.path is None:
        raise MisuseError("a store on disk needs a path")
    return DiskStore(settings.reactor, settings.path, settings.disk, settings.largest, late=settings.late)


@implementer(ICacheStore)
class DiskStore:
    """See ICacheStore.

    :param reactor: whose thread calls it
    :param path: the folder; its own, made where it is missing
    :param limit: octets of all that lies there
    :param largest: octets of the largest body; never more than a :data:`SHARE` of the limit
    :param late: seconds in which the disk answers, or has nothing
    :param quiet: see :data:`QUIET`
    :ivar limit: as above
    :ivar late: as above
    :ivar waiting: octets that wait for the disk
    """

    name = "disk"
    log = Logger()

    def __init__(
        self,
        reactor: Any,
        path: Path,
        limit: int,
        largest: int | None = None,
        *,
        late: float,
        quiet: float = QUIET,
    ) -> None:
        share = limit // SHARE
        self.largest = share if largest is None else min(share, largest)
        self.waiting = 0
        self._reactor = reactor
        self._path = path
        self.limit = limit
        self.late = late
        self._quiet = quiet
        self._work = DiskWork(path, limit, reactor.callFromThread)
        self._worker = Worker(reactor, self._work)
        self._changing: Counter[bytes] = Counter()
        self._asked: dict[Deferred[Any] | DiskKeeping, float] = {}
        self._timer: IDelayedCall | None = None
        self._stuck = False
        self._quiet_until = 0.0
        self._told = False
        self._closed: Deferred[None] | None = None
        self._close_by = 0.0

    # what visitors wait for

    def find(self, key: bytes) -> tuple[IKept, ...] | Deferred[tuple[IKept, ...]]:
        """See ICacheStore."""
        if self._stuck or len(self._asked) >= MOST_ASKED:
            return ()
        waiting = self._ask(partial(self._work.find, key), urgent=key not in self._changing)
        return waiting.addCallbacks(partial(self._found, key), self._nothing)

    def read(self, kept: DiskKept, start: int, size: int) -> Deferred[bytes]:
        """Octets of a large body; see IKept."""
        # what is just being committed has its checksums and its row when that is done
        return self.ask(partial(self._read, kept, start, size), urgent=bool(kept.id))

    def ask(self, read: Callable[[], bytes], *, urgent: bool = False) -> Deferred[bytes]:
        """Let the thread read something for a visitor, who may leave: that is no trouble of the disk.

        :param urgent: before what is to be written, and not behind it
        """
        if self._stuck:
            return fail(CacheFault("the disk does not answer"))
        return self._ask(read, urgent=urgent).addErrback(self._fault)

    def begin(self, key: bytes, stored: Stored, expected: int | None, after: IKept | None = None) -> DiskKeeping | None:
        """See ICacheStore."""
        before = after.size if after is not None else 0
        if before + (expected or 0) > self.largest or not self.takes:
            return None
        if after is None:
            return DiskKeeping(self, key, stored)
        assert isinstance(after, DiskKept)
        return DiskKeeping(self, key, replace(stored, first=after.stored.first), after)

    @property
    def takes(self) -> bool:
        """Whether something new can be written now."""
        return not (self._stuck or self.waiting > MOST_WAITING or self._reactor.seconds() < self._quiet_until)

    def refresh(self, kept: IKept, stored: Stored) -> None:
        """See ICacheStore."""
        assert isinstance(kept, DiskKept)
        kept.stored, kept.prepared = stored, None
        self.change(kept.key, lambda: self._work.refresh(kept.id, stored))

    def remove(self, kept: IKept) -> None:
        """See ICacheStore."""
        assert isinstance(kept, DiskKept)
        self.change(kept.key, lambda: self._work.remove([kept.id]))

    def put(self, key: bytes, stored: Stored, body: bytes) -> DiskKept | None:
        """Keep a small body that is whole."""
        if not self.takes:
            return None
        kept = DiskKept(self, key, stored, len(body), body, None)
        self.insert(kept, 0)
        return kept

    def used(self, kept: list[IKept]) -> None:
        """These were used, but not found here: what they are kept in front of says so."""
        for one in kept:
            assert isinstance(one, DiskKept)
            if one.id:
                self._work.touched.append(one.id)

    def sweep(self, gone: Callable[[bytes, Stored], bool]) -> Deferred[int]:
        """See ICacheStore."""

        async def sweep() -> int:
            found, after, last = 0, 0, None
            while last is None or after < last:
                try:
                    page, after, last = await self._worker.ask(partial(self._work.page, after, last, SWEEP))
                    numbers = [number for number, key, stored in page if is_gone(gone, key, stored)]
                    if numbers:
                        found += await self._worker.ask(partial(self._work.remove, numbers))
                except (OSError, sqlite3.Error) as error:
                    self._trouble(error)
                    raise CacheFault(f"not all of it could be looked at: {error}") from error
            return found

        return Deferred.fromCoroutine(sweep())

    def usage(self) -> tuple[Usage, ...]:
        """See ICacheStore."""
        entries, octets, evicted, faults = self._work.figures
        return (Usage(self.name, entries, octets, self.limit, evicted, faults),)

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        closed = self._closed = self._worker.close()
        if not closed.called:
            self._close_by = self._reactor.seconds() + ENDINGS * self.late
            self._arm()
        return closed.addBoth(self._end)

    # for what comes in

    def insert(self, kept: DiskKept, base: int) -> Deferred[Any]:
        """Write an entry, whose file is whole; ``kept`` has its id when that is done."""

        def insert() -> bool:
            number = self._work.insert(kept.key, kept.stored, kept.size, kept.body, kept.file, base)
            kept.id = number or 0
            return True

        return self.change(kept.key, insert, len(kept.body or b""))

    def change(self, key: bytes, call: Callable[[], Any], octets: int = 0) -> Deferred[Any]:
        """Change what is under a key; whoever asks for it afterwards sees it.  The Deferred never fails."""
        self._changing[key] += 1
        return self.write(call, octets).addBoth(self._changed, key)

    def write(self, call: Callable[[], T], octets: int) -> Deferred[T | None]:
        """Let the thread write something; None where it did not go.

        :param call: gives True where it has really written
        """
        octets += CALL
        self.waiting += octets

        def done(result: Any) -> Any:
            self.waiting -= octets
            self._alive()
            return self._written(result)

        return self._worker.ask(call).addBoth(done)

    @property
    def work(self) -> DiskWork:
        """What is called in the thread."""
        return self._work

    # results

    def _found(self, key: bytes, found: list[Found]) -> tuple[IKept, ...]:
        kept: list[IKept] = []
        for one in found:
            made = DiskKept(self, key, one.stored, one.size, one.body, one.file)
            made.id = one.id
            kept.append(made)
        return tuple(kept)

    def _read(self, kept: DiskKept, start: int, size: int) -> bytes:
        if kept.file is None:
            raise CacheFault("it was not written")
        return self._work.read(kept.file, kept.id, start, size)

    def _nothing(self, failure: Any) -> tuple[IKept, ...]:
        if not failure.check(CacheFault, CancelledError):
            self._trouble(failure.value)
        return ()

    def _fault(self, failure: Any) -> bytes:
        if not failure.check(CacheFault, CancelledError):
            self._trouble(failure.value)
            raise CacheFault(str(failure.value))
        raise failure.value

    def _changed(self, result: Any, key: bytes) -> Any:
        self._changing[key] -= 1
        if not self._changing[key]:
            del self._changing[key]
        return result

    def _written(self, result: Any) -> Any:
        error = getattr(result, "value", None)
        if isinstance(error, CacheFault):
            return None
        if isinstance(error, Exception):
            self._trouble(error)
            self._quiet_until = self._reactor.seconds() + self._quiet
            return None
        if result is True and self._told and self._reactor.seconds() >= self._quiet_until:
            self._told = False
            self.log.info("answers are kept in {path} again", path=str(self._path))
        return result

    def _trouble(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            self.log.error(
                "answers cannot be kept in {path}: {error}; requests go on without", path=str(self._path), error=error
            )

    # a disk that does not answer

    def _ask(self, call: Callable[[], T], *, urgent: bool) -> Deferred[T]:
        answer = self._worker.ask(call, urgent=urgent)
        waiting: Deferred[T] = Deferred(self._gave_up)
        self._asked[waiting] = self._reactor.seconds() + self.late
        self._arm()
        answer.addBoth(self._answered, waiting)
        return waiting

    def watch(self, keeping: DiskKeeping) -> None:
        """Somebody waits for what comes in to be written: give it up where it is late."""
        self._asked.setdefault(keeping, self._reactor.seconds() + self.late)
        self._arm()

    def unwatch(self, keeping: DiskKeeping) -> None:
        """Nobody does any more."""
        self._asked.pop(keeping, None)

    def _alive(self) -> None:
        if self._stuck:
            self._stuck = False
            self.log.info("the disk of {path} answers again", path=str(self._path))

    def _answered(self, result: Any, waiting: Deferred[Any]) -> None:
        self._alive()
        if self._asked.pop(waiting, None) is not None:
            waiting.callback(result)

    def _gave_up(self, waiting: Deferred[Any]) -> None:
        self._asked.pop(waiting, None)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self._reactor.callLater(self.late, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        late = [waiting for waiting, until in self._asked.items() if until <= now]
        if late and not self._stuck:
            self._stuck = True
            self.log.error(
                "the disk of {path} has not answered for {late} s; requests go on without",
                path=str(self._path),
                late=self.late,
            )
        for waiting in late:
            if self._asked.pop(waiting, None) is None:
                continue
            if isinstance(waiting, DiskKeeping):
                waiting.abandon()
            else:
                waiting.errback(CacheFault("the disk does not answer"))
        closed = self._closed
        if closed is not None and not closed.called and now >= self._close_by:
            closed.callback(None)  # it never answers: its thread ends with the process
        elif self._asked or (closed is not None and not closed.called):
            self._arm()

    def _end(self, result: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
