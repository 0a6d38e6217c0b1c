"""Purges survive the process: a journal of them, appended to and synced before anybody is told that it is done.

A purge holds in this process from the call on, and after a kill -9 from the moment that its Deferred fires.  Several
processes may have one journal (while one takes over from the other, or a command purges where no edge runs): each
appends under a lock of the file beside it, and each reads what others appended (:meth:`PurgeJournal.follow`).

Where the journal is missing or damaged, nobody knows what was purged: everything that was kept before then counts as
purged, so that nothing comes back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from wormhole_tw.errors import CacheFault
from wormhole_tw.http.caching.purges import EVERY_SITE, Purge, Purges, encode_purge, read_journal, write_journal
from wormhole_tw.net.threads import Turns

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

__all__ = ["PurgeJournal", "purge_offline"]

LOOK_EVERY = 1.0
"""Seconds between two looks at what other processes appended; a look is one call of ``stat``."""

MICROSECONDS = 1_000_000

WASTE = 1000
"""Records that are of no use any more are left in the file until there are this many, and as many as useful ones."""

SETTLES_AFTER = 3600.0
"""Seconds for which a purge is remembered at least: another process that is on its way out may still have answers from
before, and has to read it in the journal."""


class PurgeJournal:
    """The journal of one edge, and its purges.

    :param reactor: whose thread it is called in
    :param path: the file; made where it is missing, with its folder
    :param now: the time of day
    :param waste: see :data:`WASTE`
    :ivar purges: what walks ask
    """

    log = Logger()

    def __init__(self, reactor: Any, path: Path, now: Callable[[], float] = time, waste: int = WASTE) -> None:
        self.purges = Purges()
        self._reactor = reactor
        self._path = path
        self._now = now
        self._waste = waste
        self._turns = Turns(reactor, finished=True)
        self._seen = (0, 0)
        self._lines = 0
        self._settled = 0
        self._timer: IDelayedCall | None = None

    def load(self) -> None:
        """Read it.  Called once, before anything is asked of a store; it is some kilobytes.

        A folder that nothing can be written to is logged: purges hold until the process ends then.
        """
        try:
            with _locked(self._path):
                data = self._read_or_renew()
        except OSError as error:
            self._everything()
            self.log.error("purges cannot be recorded in {path}: {error}", path=str(self._path), error=error)
            return
        self._followed((data, 0, self._seen[0]))

    def watch(self) -> None:
        """Look from now on at what others append, until :meth:`close`."""
        self._timer = self._reactor.callLater(LOOK_EVERY, self._look)

    def purge(self, kind: str, site: str, value: bytes) -> Deferred[int]:
        """Purge: here at once, and for whoever reads the journal when the Deferred fires with the purge's number.

        It fails with :class:`~wormhole_tw.errors.CacheFault` where it cannot be written: what was purged is void until
        this process ends, and would come back with the next.

        :raises MisuseError: see :meth:`~wormhole_tw.http.caching.purges.Purges.add`
        """
        purge = self.purges.add(kind, site, value, self._now())
        self._lines += 1
        settled = self._settled if self._lines > 2 * len(self.purges) + self._waste else None
        if settled is not None:
            self._lines = len(self.purges)

        def write() -> int:
            _append(self._path, purge, settled, self._now())
            return purge.clock

        def failed(failure: Any) -> int:
            failure.trap(OSError)
            self.log.error(
                "a purge could not be recorded in {path}, and holds until this process ends: {error}",
                path=str(self._path),
                error=failure.value,
            )
            raise CacheFault(f"it holds until the edge ends, for it cannot be recorded: {failure.value}")

        return self._turns.take(write).addErrback(failed)

    def settle(self, clock: int) -> None:
        """Every store was swept of what was purged up to ``clock``, and no fetch from before it is on its way: let go
        of these purges, but for those of the last hour.  The file is written anew by and by.
        """
        self._settled = max(self._settled, min(clock, int((self._now() - SETTLES_AFTER) * MICROSECONDS)))
        self.purges.forget(self._settled)

    def follow(self) -> Deferred[None]:
        """Read what others appended; never fails."""
        return self._turns.take(self._tail).addCallbacks(self._followed, self._lost)

    def close(self) -> Deferred[None]:
        """Stop looking; fires when what was begun is done."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        return self._turns.take(lambda: None)

    def _look(self) -> None:
        self._timer = self._reactor.callLater(LOOK_EVERY, self._look)
        try:
            found = self._path.stat()
        except OSError:
            return  # told when something is written
        if (found.st_ino, found.st_size) != self._seen:
            self.follow()

    def _tail(self) -> tuple[bytes, int, int]:
        """What is in the file behind what was read of it: octets, where they begin, and the file's number."""
        number, read = self._seen
        with open(self._path, "rb") as file:
            found = os.fstat(file.fileno())
            start = read if (found.st_ino, found.st_size >= read) == (number, True) else 0
            file.seek(start)
            return file.read(), start, found.st_ino

    def _followed(self, found: tuple[bytes, int, int]) -> None:
        data, start, number = found
        try:
            purges, whole = read_journal(data, begun=start > 0)
        except ValueError as error:
            self._everything()
            self._seen = (number, start + len(data))
            self.log.error("{path}: {error}; what was kept before now is not used", path=str(self._path), error=error)
            return
        for purge in purges:
            self.purges.note(purge)
        self._lines += len(purges)
        self._seen = (number, start + whole)

    def _lost(self, failure: Any) -> None:
        failure.trap(OSError)

    def _read_or_renew(self) -> bytes:
        """The whole of it; a new one where there is none, or none that can be read."""
        try:
            data = self._path.read_bytes()
            read_journal(data)
        except (FileNotFoundError, ValueError) as error:
            fresh = Purges()
            fresh.add("site", EVERY_SITE, b"", self._now())
            data = write_journal(fresh)
            if isinstance(error, ValueError):
                aside = self._path.with_name(f"{self._path.name}.damaged")
                os.replace(self._path, aside)
                self.log.error(
                    "{path}: {error}; it is now {aside}, and what was kept before is not used",
                    path=str(self._path),
                    error=error,
                    aside=aside.name,
                )
            _replace(self._path, data)
        found = self._path.stat()
        self._seen = (found.st_ino, 0)
        return data

    def _everything(self) -> None:
        self.purges.add("site", EVERY_SITE, b"", self._now())


def purge_offline(path: Path, kind: str, site: str, value: bytes, now: float) -> None:
    """Record a purge where no edge runs: the next one reads it.

    Nothing where there is no journal: whatever is kept then is void when an edge starts.

    :raises MisuseError: see :meth:`~wormhole_tw.http.caching.purges.Purges.add`
    :raises OSError: it cannot be written
    """
    if not path.exists():
        Purges().add(kind, site, value, now)
        return
    try:
        known = _read(path)
    except ValueError:
        return  # who reads it takes everything as purged
    _append(path, known.add(kind, site, value, now), None, now)


def _append(path: Path, purge: Purge, settled: int | None, now: float) -> None:
    """Write one line and sync it.

    :param settled: write a new file, without what nobody needs any more: the purges up to this clock
    """
    with _locked(path):
        if settled is None and _ends_well(path):
            with open(path, "ab", opener=_private) as file:
                file.write(encode_purge(purge))
                file.flush()
                os.fsync(file.fileno())
            return
        try:
            known = _read(path)
        except (FileNotFoundError, ValueError):  # somebody did that while we ran
            known = Purges()
            known.add("site", EVERY_SITE, b"", now)
        known.forget(settled or 0)
        known.note(purge)
        _replace(path, write_journal(known))


def _read(path: Path) -> Purges:
    purges = Purges()
    for purge in read_journal(path.read_bytes())[0]:
        purges.note(purge)
    return purges


def _ends_well(path: Path) -> bool:
    """Whether another line can follow: it is there, and its last line is whole."""
    try:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    except OSError:
        return False


def _replace(path: Path, data: bytes) -> None:
    """A new file in its place: the old one or the new one is there at any moment, and whole."""
    draft = path.with_name(f".{path.name}.new")
    with open(draft, "wb", opener=_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _private(path: str, flags: int) -> int:
    """Open for nobody else: URLs may be secrets."""
    return os.open(path, flags, 0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else appends or replaces it meanwhile; the lock is the kernel's, and ends with a process."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "ab", opener=_private) as lock:
        flock(lock, LOCK_EX)
        yield
