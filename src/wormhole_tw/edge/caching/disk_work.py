"""What the thread of a disk's store does: the index, the files of large bodies, and the order in which both change.

The folder has ``index.db`` and ``bodies``, with a folder for each process that ever wrote there.  A process holds the
lock of its own for as long as it lives.  A file counts when a row of the index names it, and a row is written when
its file is whole; a file is removed after the row that named it.  So after a kill -9 there are files without a row in
the folder of a process that does not live any more, and whoever finds these removes them; there is no row without its
file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from time import time
from weakref import WeakValueDictionary

from twisted.logger import Logger

from wormhole_tw.edge.caching.body_file import BodyFile, Descriptors, new_file
from wormhole_tw.edge.caching.disk_index import DiskIndex, Removed, Row, Unusable, is_corrupt, octets_of
from wormhole_tw.edge.caching.weight import MOST_VARIANTS, superseded
from wormhole_tw.errors import CacheFault
from wormhole_tw.http.caching.records import Stored
from wormhole_tw.structs import MsgspecError, msgpack

__all__ = ["DiskWork", "Found"]

DATABASE = "index.db"
BODIES = "bodies"
LOCK = "lock"
DRAFT = "new-"
DRAFT_FOR = 60.0
"""Seconds after which a folder that never got its name was left by a process that was killed."""

ASIDE = ".aside"
MOST_OPEN = 256
"""Files that are held open for those who read them; past that each read opens its file, and who reads one that was
removed meanwhile gets no further."""

FILES = 1024
"""Files in one folder."""

AT_ONCE = 256
"""Files that are looked at in one bit of tidying up."""

TOUCHED = 65536
"""Uses that wait to be written down; past that the oldest are forgotten."""

GROWS = 64 * 1024
"""Octets for which room is made at least when a body that comes in grows; an eighth of it, where that is more."""


class Found:
    """One entry, as :class:`~wormhole_tw.edge.caching.stores.disk.DiskKept` needs it."""

    __slots__ = ("body", "file", "id", "size", "stored")

    def __init__(self, number: int, stored: Stored, size: int, body: bytes | None, file: BodyFile | None) -> None:
        self.id = number
        self.stored = stored
        self.size = size
        self.body = body
        self.file = file


class DiskWork:
    """Everything is called in the thread.

    :param folder: made where it is missing
    :param limit: octets of everything
    :param tell: calls something in the reactor's thread; for the log
    :ivar touched: filled by the store: how often entries were used that were found somewhere else
    """

    log = Logger()

    def __init__(self, folder: Path, limit: int, tell: Callable[[Callable[[], None]], None]) -> None:
        self.touched: deque[int] = deque(maxlen=TOUCHED)
        self.faults = 0
        self.coming = 0
        self._folder = folder
        self._limit = limit
        self._tell = tell
        self._evicted = 0
        self._index: DiskIndex | None = None
        self._writer = ""
        self._lock = -1
        self._next_file = 0
        self._closing = Descriptors()
        self._open: WeakValueDictionary[tuple[str, int], BodyFile] = WeakValueDictionary()
        self._growing: set[str] = set()
        self._unlink: list[str] = []
        self._tidying: Iterator[None] | None = None
        self._encode = msgpack.Encoder().encode
        self._decode = msgpack.Decoder(Stored).decode

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Entries, their octets with what comes in, how many had to go, and what was damaged or failed."""
        index = self._index
        if index is None:
            return 0, self.coming, self._evicted, self.faults
        return index.entries, index.octets + self.coming, self._evicted + index.evicted, self.faults

    # what visitors wait for

    def find(self, key: bytes) -> list[Found]:
        """What is under a key, the newest first."""
        index = self.index()
        rows, damaged = index.rows(key)
        found = []
        for row in rows:
            try:
                found.append(self._found(row))
                self.touched.append(row.id)
            except (FileNotFoundError, MsgspecError):
                damaged.append(row.id)
            except OSError:
                self.faults += 1  # too many files are open, or the like: it is there another time
        for number in damaged:
            self._damaged(number)
        return found

    def read(self, file: BodyFile, number: int, start: int, size: int) -> bytes:
        """Octets of a large body."""
        try:
            return file.read(start, size)
        except CacheFault:
            self._damaged(number)
            raise
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EIO):
                self._damaged(number)
            raise CacheFault(str(error)) from error

    # what comes in

    def begin(self) -> BodyFile:
        """A file for a body that comes in."""
        self.index()
        number = self._next_file
        self._next_file += 1
        name = f"{self._writer}/{number // FILES:x}/{number:x}"
        fd = new_file(self._bodies / name)
        self._growing.add(name)
        return BodyFile(fd, self._bodies, name, 0, b"", self._closing)

    def begin_after(self, file: BodyFile) -> BodyFile:
        """The file of a part, for what comes behind it.

        :raises CacheFault: somebody does that already, or it is damaged
        """
        if file.name in self._growing:
            raise CacheFault("it grows already")
        try:
            grown = file.to_grow()
            fcntl.flock(grown.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CacheFault(str(error)) from error
        self._growing.add(file.name)
        return grown

    def write(self, file: BodyFile, pieces: list[bytes], base: int) -> int:
        """Add to it; how many octets these were.

        :param base: octets that were there before, and are counted elsewhere
        """
        size = sum(map(len, pieces))
        room = file.size - base + size - file.reserved
        if room > 0:
            room += max(GROWS, file.size // 8)
            self._make_room(room)
            self.coming += room
            file.reserved += room
        for piece in pieces:
            file.write(piece)
        return size

    def abandon(self, file: BodyFile, base: int) -> None:
        """Nothing comes of what came in."""
        self._done(file)
        if not base:
            self._remove_file(file.name)  # no row has it
        elif not self.index().names(file.name):
            self._unlink.append(file.name)  # the part that it goes on from had to go

    def insert(
        self, key: bytes, stored: Stored, size: int, body: bytes | None, file: BodyFile | None, base: int
    ) -> int | None:
        """Keep one; its id, or None where it is not wanted beside what is there.

        :raises CacheFault: its file is gone
        """
        index = self.index()
        checks = b""
        if file is not None:
            checks = file.end()
            self._done(file)
            if file.size != size:
                raise CacheFault("not all of it was written")
            os.ftruncate(file.fd, file.size)
            # another index began meanwhile, or the part that it goes on from had to go, and its file with it
            if not os.fstat(file.fd).st_nlink or not (index.names(file.name) if base else self._is_ours(file)):
                raise CacheFault("its file was removed")
        index.write()
        there = [_Beside(row.id, self._decode(row.stored), row.size) for row in self._rows(key)]
        gone_too = superseded(stored, size, there)
        if gone_too is None:
            if file is not None and not base:
                self._remove_file(file.name)
            return None
        stays = [beside for beside in there if beside not in gone_too]
        for beside in (*gone_too, *stays[MOST_VARIANTS - 1 :]):
            self._forget(index.remove(beside.id), but=file)
        encoded = self._encode(stored)
        self._make_room(octets_of(key, encoded, size, checks, inline=body is not None))
        return index.insert(key, encoded, size, file.name if file is not None else "", checks, body)

    def refresh(self, number: int, stored: Stored) -> None:
        """Let one say something else."""
        self.index().refresh(number, self._encode(stored))

    def remove(self, numbers: list[int]) -> int:
        """Forget some; how many were there."""
        index = self.index()
        found = [index.remove(number) for number in numbers]
        for removed in found:
            self._forget(removed)
        return sum(removed is not None for removed in found)

    def page(self, after: int, last: int | None, count: int) -> tuple[list[tuple[int, bytes, Stored]], int, int]:
        """Some entries, for a sweep: they themselves, up to which id that was, and the highest id of all."""
        index = self.index()
        if last is None:
            last = index.last()
        found, damaged = index.page(after, last, count)
        for number in damaged:
            self._damaged(number)
        end = max([after, *damaged, *(number for number, _, _ in found)])
        page = []
        for number, key, stored in found:
            try:
                page.append((number, key, self._decode(stored)))
            except MsgspecError:
                self._damaged(number)
        return page, end if found or damaged else last, last

    # Work

    def commit(self) -> None:
        """See Work."""
        if self._index is not None:
            self._index.commit()
        self._remove_files()

    def rollback(self) -> None:
        """See Work."""
        self._unlink.clear()  # their rows are there again
        if self._index is not None:
            self._index.rollback()

    def idle(self) -> bool:
        """See Work."""
        index = self.index()
        self._closing.close_all()
        if self.touched:
            self._touch(index)
            return True
        if index.octets + self.coming > self._limit and index.entries:
            self._make_room(0)
            return True
        if self._tidying is not None:
            if next(self._tidying, "done") == "done":
                self._tidying = None
            return True
        return index.shrink()

    def failed(self, error: Exception) -> None:
        """See Work: an index that is damaged is put aside, so that the next call begins a new one."""
        self.faults += 1
        if is_corrupt(error):
            try:
                self._put_aside(str(error))
            except OSError:
                pass  # the next call tries again, and whoever makes it is told
        elif isinstance(error, FileNotFoundError) and not (self._bodies / self._writer).is_dir():
            self._let_go()  # somebody emptied the folder: the next call begins anew

    def close(self) -> None:
        """See Work."""
        try:
            if self._index is not None:
                self.idle()
                self.commit()
        except (sqlite3.Error, OSError) as error:
            self.failed(error)
        self._let_go()
        self._closing.end()

    # the folder

    def index(self) -> DiskIndex:
        """The index; opened, or made, where it is not.

        :raises OSError: the folder cannot be used
        :raises sqlite3.Error: nor can the database
        """
        if self._index is None:
            for folder in (self._folder, self._bodies):  # nobody else reads what visitors were answered
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._bodies.chmod(0o700)
            try:
                index = DiskIndex(self._folder / DATABASE, self._limit)
            except Unusable as error:
                self._put_aside(str(error))
                index = DiskIndex(self._folder / DATABASE, self._limit)
            try:
                self._move_in()
            except OSError:
                index.close()
                raise
            self._index = index
            self._tidying = self._tidy()
        return self._index

    def _move_in(self) -> None:
        """Make a folder for the files of this process; it appears with its lock taken."""
        self._writer = token_hex(6)
        self._next_file = 0
        draft = self._bodies / f"{DRAFT}{self._writer}"
        draft.mkdir(mode=0o700)
        lock = os.open(draft / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(self._bodies / self._writer)
        except OSError:
            os.close(lock)
            raise
        self._lock = lock

    @property
    def _bodies(self) -> Path:
        return self._folder / BODIES

    def _put_aside(self, why: str) -> None:
        self._let_go()
        aside = DATABASE + ASIDE
        for end in ("", "-wal", "-shm"):
            try:
                os.replace(self._folder / f"{DATABASE}{end}", self._folder / f"{aside}{end}")
            except FileNotFoundError:
                (self._folder / f"{aside}{end}").unlink(missing_ok=True)
        path = str(self._folder)
        self._tell(
            lambda: self.log.error(
                "the answers kept in {path} cannot be used: {why}; the index is put aside as {aside}, a new one begins",
                path=path,
                why=why,
                aside=aside,
            )
        )

    def _let_go(self) -> None:
        if self._index is not None:
            self._evicted += self._index.evicted
            self._index.close()
            self._index = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _tidy(self) -> Iterator[None]:
        """Remove the files without a row of processes that do not live any more."""
        for folder in list(self._bodies.iterdir()):
            if folder.name == self._writer:
                continue
            try:
                if folder.name.startswith(DRAFT) and time() - folder.stat().st_mtime < DRAFT_FOR:
                    continue  # it is just being made
                lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # somebody else removes it
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield from self._tidy_folder(folder)
            except BlockingIOError:
                pass  # its process lives
            finally:
                os.close(lock)

    def _tidy_folder(self, folder: Path) -> Iterator[None]:
        named = self.index().files(folder.name)
        left = False
        for inner in [path for path in folder.iterdir() if path.is_dir()]:
            kept = False
            for number, path in enumerate(list(inner.iterdir())):
                name = f"{folder.name}/{inner.name}/{path.name}"
                if name in named or name in self._growing:
                    kept = True
                else:
                    path.unlink(missing_ok=True)
                if number % AT_ONCE == AT_ONCE - 1:
                    yield
            left = left or kept
            if not kept:
                rmtree(inner, ignore_errors=True)
            yield
        if not left:
            rmtree(folder, ignore_errors=True)

    def _remove_files(self) -> None:
        for name in self._unlink:
            self._remove_file(name)
        self._unlink.clear()
        self._closing.close_all()

    def _remove_file(self, name: str) -> None:
        try:
            (self._bodies / name).unlink(missing_ok=True)
        except OSError:
            self.faults += 1  # a later process finds it without a row, and tries again

    # entries

    def _rows(self, key: bytes) -> list[Row]:
        rows, damaged = self.index().rows(key)
        for number in damaged:
            self._damaged(number)
        return rows

    def _found(self, row: Row) -> Found:
        file = None
        if row.file:
            file = self._open.get((row.file, row.size))
            if file is None:
                file = BodyFile(-1, self._bodies, row.file, row.size, row.checks, self._closing)
                if len(self._open) < MOST_OPEN:
                    file.open()
                    self._open[row.file, row.size] = file
        return Found(row.id, self._decode(row.stored), row.size, row.body, file)

    def _damaged(self, number: int) -> None:
        """One is not what was written, or cannot be read: forget it."""
        removed = self.index().remove(number)
        if removed is not None:  # else another process took it, and its file, away since it was found
            self.faults += 1
            self._forget(removed)

    def _forget(self, removed: Removed | None, but: BodyFile | None = None) -> None:
        """Its file goes with it, unless it lives on in another entry."""
        if removed is not None and removed.file and not (but is not None and but.name == removed.file):
            self._unlink.append(removed.file)

    def _make_room(self, octets: int) -> None:
        """:raises CacheFault: what comes in has all of it"""
        index = self.index()
        octets_in_all = octets + self.coming
        if index.octets + octets_in_all > self._limit:
            self._touch(index)
        for removed in index.make_room(octets_in_all):
            self._forget(removed)
        if octets and index.octets + self.coming + octets > self._limit:
            raise CacheFault("there is no room")

    def _touch(self, index: DiskIndex) -> None:
        """Write down what was used: some at a time, or nobody gets his turn."""
        numbers: dict[int, int] = {}
        while self.touched and len(numbers) < AT_ONCE:
            number = self.touched.popleft()
            numbers[number] = numbers.get(number, 0) + 1
        if numbers:
            index.touch(numbers)

    def _done(self, file: BodyFile) -> None:
        """It does not come in any more."""
        self._growing.discard(file.name)
        self.coming -= file.reserved
        file.reserved = 0

    def _is_ours(self, file: BodyFile) -> bool:
        return file.name.startswith(f"{self._writer}/")


class _Beside:
    """A variant that is there, as :func:`~wormhole_tw.edge.caching.weight.superseded` looks at it."""

    __slots__ = ("id", "size", "stored")

    def __init__(self, number: int, stored: Stored, size: int) -> None:
        self.id = number
        self.stored = stored
        self.size = size
