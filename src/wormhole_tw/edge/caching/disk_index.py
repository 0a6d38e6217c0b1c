"""The index of a disk's store, and its small bodies: an SQLite database with a write-ahead log.

Everything here waits for the disk, and runs in the store's thread.  A transaction is there as a whole or not at all
after a kill -9; after a loss of power the last seconds may be missing (``synchronous=NORMAL``).  Two processes may have
it open at once: each transaction begins by reading what the other left.

Every row has a checksum over all that it says, and one over its body; a row that is not what was written is no answer.

Who stays is decided as in memory (:mod:`~wormhole_tw.edge.caching.queues`), with the queues in a table.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import time_ns
from zlib import crc32

from wormhole_tw.edge.caching.queues import FEWEST_GHOSTS, MOST_USES, SMALL, WORTH

__all__ = ["FORMAT", "DiskIndex", "Removed", "Row", "Unusable", "hash_of"]

FORMAT = 1
"""The version of tables and files; a store of another one is put aside."""

APPLICATION = 0x77747763
"""What tells our databases from others (``application_id``): "wtwc"."""

LOCKED_FOR = 2.0
"""Seconds to wait for another process's transaction, which takes milliseconds."""

ROW = 260
"""Octets that one entry takes beside what it says: its places in three tables and four indexes, half-full pages."""

PAGE = 4096
"""Octets of a page of the database, and of a block of a file system."""

AT_ONCE = 16
"""Entries that are looked at together for one that can leave."""

LOG_LIMIT = 16 * 1024 * 1024
"""Octets to which the write-ahead log is cut back."""

SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, key BLOB NOT NULL, stored BLOB NOT NULL,
    size INTEGER NOT NULL, file TEXT NOT NULL, checks BLOB NOT NULL, body INTEGER NOT NULL, row INTEGER NOT NULL);
CREATE INDEX entry_hash ON entry (hash);
CREATE INDEX entry_file ON entry (file) WHERE file != '';
CREATE TABLE body (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE place (
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, turn INTEGER NOT NULL, uses INTEGER NOT NULL,
    octets INTEGER NOT NULL);
CREATE INDEX place_turn ON place (queue, turn);
CREATE TABLE ghost (turn INTEGER PRIMARY KEY, hash INTEGER NOT NULL);
CREATE INDEX ghost_hash ON ghost (hash);
CREATE TABLE total (entries INTEGER NOT NULL, octets INTEGER NOT NULL, small INTEGER NOT NULL, ghosts INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0, 0, 0);
"""


class Unusable(Exception):
    """The database is damaged, of another version, or none of ours."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it was read, whole and right.

    :ivar body: its body, where it lies in the database
    :ivar file: the name of the file that has it, or empty
    """

    id: int
    key: bytes
    stored: bytes
    size: int
    file: str
    checks: bytes
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Removed:
    """One entry that is not there any more, and the file that had its body."""

    id: int
    file: str


def hash_of(key: bytes) -> int:
    """What entries are looked up by; the key is compared besides."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big", signed=True)


def is_corrupt(error: Exception) -> bool:
    """Whether an error of SQLite says that the file is damaged, not that the disk is full or somebody was faster."""
    return isinstance(error, sqlite3.DatabaseError) and any(
        words in str(error) for words in ("malformed", "not a database", "no such table", "no such column", "corrupt")
    )


def octets_of(key: bytes, stored: bytes, size: int, checks: bytes, *, inline: bool) -> int:
    """What an entry takes on disk."""
    octets = ROW + len(key) + len(stored) + len(checks)
    if inline and size <= PAGE // 2:
        return octets + size
    return octets + size + -size % PAGE + (size // PAGE * 4 if inline else PAGE)


class DiskIndex:
    """See the module.

    :param path: the database, made where it is missing
    :param limit: octets of everything
    :raises Unusable: it cannot be used, and has to be put aside
    :raises OSError: nor make the file
    :raises sqlite3.Error: the disk does not do it
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.entries = self.octets = self.evicted = 0
        self.limit = limit
        self._small = self._ghosts = 0
        self._turn = 0
        self._writing = False
        _be_private(path)
        self._db = sqlite3.connect(path, timeout=LOCKED_FOR, isolation_level=None)
        try:
            self._prepare()
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error) and is_corrupt(error):
                raise Unusable(str(error)) from error
            raise

    def _prepare(self) -> None:
        ask = self._db.execute
        (version,) = ask("PRAGMA user_version").fetchone()
        (tables,) = ask("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            ask(f"PRAGMA page_size={PAGE}")
            ask("PRAGMA auto_vacuum=INCREMENTAL")
        elif version != FORMAT or ask("PRAGMA application_id").fetchone() != (APPLICATION,):
            raise Unusable(f"it is of version {version}, and this is version {FORMAT}")
        ask("PRAGMA journal_mode=WAL")
        ask("PRAGMA synchronous=NORMAL")
        ask(f"PRAGMA journal_size_limit={LOG_LIMIT}")
        if not tables:
            ask("BEGIN IMMEDIATE")
            if not ask("SELECT count(*) FROM sqlite_master").fetchone()[0]:  # else another process was faster
                for statement in SCHEMA.strip().split(";\n"):
                    ask(statement)
                ask(f"PRAGMA application_id={APPLICATION}")
                ask(f"PRAGMA user_version={FORMAT}")
            ask("COMMIT")
        self._load()
        self._turn = self.last()

    def close(self) -> None:
        """Let go of it."""
        self._db.close()

    # transactions

    def write(self) -> None:
        """Begin a transaction, unless one has begun."""
        if not self._writing:
            self._db.execute("BEGIN IMMEDIATE")
            self._writing = True
            self._load()

    def commit(self) -> None:
        """End it; nothing where none has begun."""
        if self._writing:
            self._db.execute(
                "UPDATE total SET entries=?, octets=?, small=?, ghosts=?",
                (self.entries, self.octets, self._small, self._ghosts),
            )
            self._db.execute("COMMIT")
            self._writing = False

    def rollback(self) -> None:
        """Take it back; never fails."""
        if self._writing:
            self._writing = False
            try:
                self._db.execute("ROLLBACK")
                self._load()
            except sqlite3.Error:
                pass  # it had rolled back by itself, or nothing works any more: the next call says so

    def _load(self) -> None:
        found = self._db.execute("SELECT entries, octets, small, ghosts FROM total").fetchone()
        if found is None:
            raise sqlite3.DatabaseError("malformed: no totals")
        self.entries, self.octets, self._small, self._ghosts = found

    # entries

    def rows(self, key: bytes) -> tuple[list[Row], list[int]]:
        """What is under a key, the newest first; and the ids of what is damaged."""
        found = self._db.execute(
            "SELECT id, key, stored, size, file, checks, body, row FROM entry WHERE hash=? AND key=? ORDER BY id DESC",
            (hash_of(key), key),
        ).fetchall()
        return self._whole(found)

    def page(self, after: int, last: int, count: int) -> tuple[list[tuple[int, bytes, bytes]], list[int]]:
        """Some entries in the order of their ids, behind ``after`` up to ``last``: id, key and what they say.

        :return: and the ids of what is damaged
        """
        found = self._db.execute(
            "SELECT id, key, stored, size, file, checks, body, row FROM entry WHERE id>? AND id<=? ORDER BY id LIMIT ?",
            (after, last, count),
        ).fetchall()
        right = [entry for entry in found if _is_right(entry)]
        return [entry[:3] for entry in right], [entry[0] for entry in found if not _is_right(entry)]

    def last(self) -> int:
        """The highest id."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()[0])

    def _whole(self, found: list[tuple[int, bytes, bytes, int, str, bytes, int, int]]) -> tuple[list[Row], list[int]]:
        rows: list[Row] = []
        damaged: list[int] = []
        for entry in found:
            number, key, stored, size, file, checks, check, _ = entry
            body = None
            if _is_right(entry) and not file:
                kept = self._db.execute("SELECT data FROM body WHERE id=?", (number,)).fetchone()
                body = kept[0] if kept and isinstance(kept[0], bytes) and len(kept[0]) == size else None
                if body is not None and crc32(body) != check:
                    body = None
            if not _is_right(entry) or (not file and body is None):
                damaged.append(number)
            else:
                rows.append(Row(number, key, stored, size, file, checks, body))
        return rows, damaged

    def insert(self, key: bytes, stored: bytes, size: int, file: str, checks: bytes, body: bytes | None) -> int:
        """Add one; room was made before.

        :return: its id, higher than any before
        :raises sqlite3.Error: the disk does not take it
        """
        self.write()
        number = hash_of(key)
        check = 0 if body is None else crc32(body)
        added = self._next()  # never used again, not even where this is taken back: somebody may have it in his hand
        self._db.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (added, number, key, stored, size, file, checks, check, _check(key, stored, size, file, checks, check)),
        )
        if body is not None:
            self._db.execute("INSERT INTO body VALUES (?, ?)", (added, body))
        octets = octets_of(key, stored, size, checks, inline=body is not None)
        known = self._db.execute("DELETE FROM ghost WHERE hash=?", (number,)).rowcount
        self._ghosts -= known
        self._db.execute("INSERT INTO place VALUES (?, ?, ?, 0, ?)", (added, int(known > 0), self._next(), octets))
        self.entries += 1
        self.octets += octets
        self._small += 0 if known else octets
        return added

    def refresh(self, number: int, stored: bytes) -> None:
        """Let one say something else; nothing where it is gone."""
        self.write()
        found = self._db.execute(
            "SELECT key, size, file, checks, body, octets, queue, length(stored) FROM entry JOIN place USING (id)"
            " WHERE id=?",
            (number,),
        ).fetchone()
        if found is not None:
            key, size, file, checks, check, octets, queue, before = found
            row = _check(key, stored, size, file, checks, check)
            more = len(stored) - before
            self._db.execute("UPDATE entry SET stored=?, row=? WHERE id=?", (stored, row, number))
            self._db.execute("UPDATE place SET octets=? WHERE id=?", (octets + more, number))
            self.octets += more
            self._small += 0 if queue else more

    def remove(self, number: int) -> Removed | None:
        """Take one out; None where it is gone already."""
        self.write()
        place = self._db.execute("SELECT queue, octets FROM place WHERE id=?", (number,)).fetchone()
        entry = self._db.execute("SELECT file FROM entry WHERE id=?", (number,)).fetchone()
        if place is None and entry is None:
            return None
        for table in ("entry", "body", "place"):
            self._db.execute(f"DELETE FROM {table} WHERE id=?", (number,))
        if place is not None:
            self.entries -= 1
            self.octets -= place[1]
            self._small -= 0 if place[0] else place[1]
        return Removed(number, entry[0] if entry is not None and isinstance(entry[0], str) else "")

    def touch(self, numbers: dict[int, int]) -> None:
        """Say how often some were used."""
        self.write()
        self._db.executemany(
            f"UPDATE place SET uses=min(uses+?, {MOST_USES}) WHERE id=?",
            [(uses, number) for number, uses in numbers.items()],
        )

    def make_room(self, octets: int) -> list[Removed]:
        """Take out what is missed least, until there is room for so many more."""
        gone: list[Removed] = []
        while self.octets + octets > self.limit and self.entries > 0:
            self.write()
            if not self._turn_out(octets, gone):
                break
        return gone

    def files(self, folder: str) -> set[str]:
        """The names of the files below a folder that entries have."""
        found = self._db.execute("SELECT file FROM entry WHERE file > ? AND file < ?", (f"{folder}/", f"{folder}0"))
        return {file for (file,) in found}

    def names(self, file: str) -> bool:
        """Whether an entry has this file."""
        return self._db.execute("SELECT 1 FROM entry WHERE file=?", (file,)).fetchone() is not None

    def shrink(self) -> bool:
        """Give pages that are free back to the file system, a few at a time, where many are; whether more are left."""
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (all_pages,) = self._db.execute("PRAGMA page_count").fetchone()
        if free * 4 <= all_pages or free < 2560:  # less than 10 MiB: they are wanted again soon
            return False
        self._db.execute("PRAGMA incremental_vacuum(256)").fetchall()
        return True

    def _turn_out(self, octets: int, gone: list[Removed]) -> bool:
        """One round: whether there was anything."""
        for queue in (0, 1) if self._small > self.limit * SMALL or self._small >= self.octets else (1, 0):
            found = self._db.execute(
                "SELECT id, uses, octets FROM place WHERE queue=? ORDER BY turn LIMIT ?", (queue, AT_ONCE)
            ).fetchall()
            for number, uses, size in found:
                if self.octets + octets <= self.limit:
                    break
                self._judge(queue, number, uses, size, gone)
            if found:
                return True
        return False

    def _judge(self, queue: int, number: int, uses: int, size: int, gone: list[Removed]) -> None:
        if uses >= (1 if queue else WORTH):
            self._db.execute(
                "UPDATE place SET queue=1, uses=?, turn=? WHERE id=?", (uses - 1 if queue else 0, self._next(), number)
            )
            self._small -= 0 if queue else size
            return
        if not queue:
            self._db.execute(
                "INSERT INTO ghost SELECT ?, hash FROM entry WHERE id=?",
                (self._next(), number),
            )
            self._ghosts += 1
            if (many := self._ghosts - max(self.entries, FEWEST_GHOSTS)) > AT_ONCE:
                self._ghosts -= self._db.execute(
                    "DELETE FROM ghost WHERE turn IN (SELECT turn FROM ghost ORDER BY turn LIMIT ?)", (many,)
                ).rowcount
        removed = self.remove(number)
        if removed is not None:
            gone.append(removed)
            self.evicted += 1

    def _next(self) -> int:
        """A turn behind all others, also those of another process."""
        self._turn = max(self._turn + 1, time_ns())
        return self._turn


def _be_private(path: Path) -> None:
    """Nobody else reads what visitors were answered, whatever the folder lets them: SQLite would go by the umask, and
    gives the log the database's permissions.

    A database that is there is not opened here: to close it would give up the locks that this process has on it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.chmod(f"{path}{end}", 0o600)


def _check(key: bytes, stored: bytes, size: int, file: str, checks: bytes, body: int) -> int:
    says = b"%d %d %d %d %s " % (len(key), len(stored), size, body, file.encode())
    return crc32(checks, crc32(stored, crc32(key, crc32(says))))


def _is_right(entry: tuple[int, bytes, bytes, int, str, bytes, int, int]) -> bool:
    """Whether a row is what was written; what stands in it may be anything."""
    _, key, stored, size, file, checks, body, row = entry
    try:
        return _check(key, stored, size, file, checks, body) == row
    except (TypeError, AttributeError, UnicodeError):
        return False
