"""One answer on disk, and one on its way there, as the reactor's thread sees them; for
:mod:`wormhole_tw.edge.caching.stores.disk`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from wormhole_tw.edge.caching.body_file import BodyFile
from wormhole_tw.edge.interfaces import IKeeping, IKept
from wormhole_tw.errors import CacheFault
from wormhole_tw.structs import replace

if TYPE_CHECKING:
    from wormhole_tw.edge.caching.stores.disk import DiskStore
    from wormhole_tw.http.caching.records import Stored

__all__ = ["DiskKeeping", "DiskKept"]

INLINE = 64 * 1024
"""Octets of the largest body that lies in the database: up to about here that is faster than a file, and takes less."""

AT_ONCE = 64 * 1024
"""Octets of a body that are handed to the thread together."""

MOST_BEHIND = 8 * 1024 * 1024
"""Octets of one body that wait for the disk: past that it is given up.  Whoever minds ``behind`` never comes here."""


@implementer(IKept)
class DiskKept:
    """See IKept.

    :ivar id: the row's; 0 until it is written, or where it never will be
    """

    __slots__ = ("_store", "body", "file", "id", "key", "prepared", "size", "stored")

    def __init__(
        self, store: DiskStore, key: bytes, stored: Stored, size: int, body: bytes | None, file: BodyFile | None
    ) -> None:
        self._store = store
        self.key = key
        self.stored = stored
        self.size = size
        self.body = body
        self.file = file
        self.id = 0
        self.prepared: object = None

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """See IKept."""
        if self.body is not None:
            return succeed(self.body[start : start + size])
        return self._store.read(self, start, size)


@implementer(IKeeping)
class DiskKeeping:
    """See IKeeping.  Up to :data:`INLINE` octets it is in memory alone."""

    crowded = False

    def __init__(self, store: DiskStore, key: bytes, stored: Stored, after: DiskKept | None = None) -> None:
        self.size = 0
        self.behind = 0
        self.lost = False
        self._store = store
        self._key = key
        self._stored = stored
        self._pieces: list[bytes] = []
        self._held = 0
        self._ended = False
        self._file: BodyFile | None = None
        self._in_file = False
        self._base = 0
        self._number = 0
        self._waiters: list[Deferred[None]] = []
        if after is not None and after.body is not None:
            self.write(after.body)
        elif after is not None:
            self.size = self._base = after.size
            self._to_file(partial(self._open_after, after))

    def write(self, data: bytes) -> None:
        """See IKeeping."""
        if self.lost or self._ended or not data:
            return
        self.size += len(data)
        self._pieces.append(data)
        self._held += len(data)
        if self.size > self._store.largest or self.behind + self._held > MOST_BEHIND:
            self.abandon()
        elif self._in_file:
            if self._held >= AT_ONCE:
                self._flush()
        elif self.size > INLINE:
            self._to_file(self._open)

    def caught_up(self) -> Deferred[None]:
        """See IKeeping."""
        if self._in_file and not self.lost:
            self._flush()
        if not self.behind or self.lost:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiters.append(waiting)
        self._store.watch(self)
        return waiting

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """See IKeeping."""
        if self.lost:
            return fail(CacheFault("what comes in is not kept any more"))
        if not self._in_file:
            return succeed(b"".join(self._pieces)[start : start + size])
        self._flush()
        return self._store.ask(partial(self._read, start, size)).addCallback(self._was_read)

    def commit(self) -> DiskKept | None:
        """See IKeeping."""
        stored = self._stored
        if stored.length is None:
            stored = replace(stored, length=stored.first + self.size)
        return self._end(stored)

    def commit_part(self) -> DiskKept | None:
        """See IKeeping."""
        stored = self._stored
        if not (self.size and stored.length is not None and stored.strong):
            self.abandon()
        return self._end(stored)

    def abandon(self) -> None:
        """See IKeeping."""
        if self.lost or self._ended:
            return
        self.lost = True
        self._pieces, self._held = [], 0
        if self._in_file:
            self._store.write(self._forget, 0)
        self._wake()

    def _end(self, stored: Stored) -> DiskKept | None:
        if self.lost or self._ended:
            return None
        if not self._in_file:
            self._ended = True
            self._pieces = [b"".join(self._pieces)]
            return self._store.put(self._key, stored, self._pieces[0])
        self._flush()
        self._ended = True
        kept = DiskKept(self._store, self._key, stored, self.size, None, None)

        def insert() -> bool:
            if self._file is None:
                return False
            kept.file = self._file
            self._number = self._store.work.insert(self._key, stored, self.size, None, self._file, self._base) or 0
            kept.id = self._number
            return True

        self._store.change(self._key, insert).addCallback(self._check)
        return kept

    # towards the thread

    def _to_file(self, opening: Callable[[], None]) -> None:
        self._in_file = True
        self._store.write(self._tried(opening), 0).addCallback(self._check)
        self._flush()

    def _flush(self) -> None:
        if self._held and not self._ended:
            pieces, octets = self._pieces, self._held
            self._pieces, self._held = [], 0
            self.behind += octets
            self._store.write(self._tried(partial(self._write, pieces)), octets).addCallback(self._check, octets)

    def _check(self, went: bool | None, octets: int = 0) -> None:
        self.behind -= octets
        if not went:
            self._lose()
        if not self.behind:
            self._wake()

    def _lose(self) -> None:
        """The disk did not take it."""
        if not self.lost:
            self.lost = True
            self._pieces, self._held = [], 0
            self._store.write(self._forget, 0)
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        self._store.unwatch(self)
        for waiting in waiters:
            if not waiting.called:  # else it was cancelled
                waiting.callback(None)

    def _was_read(self, data: bytes) -> bytes:
        if self.lost:
            raise CacheFault("what comes in is not kept any more")
        return data

    # in the thread

    def _tried(self, call: Callable[[], None]) -> Callable[[], bool]:
        def tried() -> bool:
            call()
            return True

        return tried

    def _open(self) -> None:
        self._file = self._store.work.begin()

    def _open_after(self, after: DiskKept) -> None:
        if after.file is None:
            raise CacheFault("it was not written")
        self._file = self._store.work.begin_after(after.file)

    def _write(self, pieces: list[bytes]) -> None:
        if self._file is None:
            raise CacheFault("there is no file for it")
        try:
            self._store.work.write(self._file, pieces, self._base)
        except BaseException:
            self._forget()  # what comes behind a hole is in the wrong place: nobody reads or keeps it
            raise

    def _read(self, start: int, size: int) -> bytes:
        if self._file is None:
            raise CacheFault("there is no file for it")
        return self._file.read(start, size, checked=False)

    def _forget(self) -> None:
        file, self._file = self._file, None
        if self._number and self._store.work.remove([self._number]):
            return
        if file is not None:  # it has no row, or had one that was taken back
            self._store.work.abandon(file, self._base)
