"""Stores over one folder, and what the tests of the disk do with them."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from tests.edge.caching.answers import PATIENCE
from wormhole_tw.edge.caching.stores.disk import DiskStore

MIB = 1024 * 1024
LIMIT = 64 * MIB

LARGE = os.urandom(700_000)


class StoppedClock(Clock):
    """A reactor with a time of its own; threads reach it as they reach the real one."""

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.callFromThread = reactor.callFromThread


def silence(store: DiskStore) -> threading.Event:
    """The disk does not answer from here on, until the event is set."""
    goes_on = threading.Event()
    store.write(goes_on.wait, 0)
    return goes_on


class House:
    """Stores over one folder, as processes have them one after another or at once."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        self.reactor = reactor
        self.folder = folder
        self.clock: StoppedClock | None = None
        self.open: list[DiskStore] = []

    def stop_the_clock(self) -> StoppedClock:
        """For stores from here on, time stands still until a test says otherwise."""
        self.clock = StoppedClock(self.reactor)
        return self.clock

    def store(self, limit: int = LIMIT, late: float = PATIENCE, **options: Any) -> DiskStore:
        store = DiskStore(self.clock or self.reactor, self.folder, limit, late=late, **options)
        self.open.append(store)
        return store

    async def close(self) -> None:
        for store in self.open:
            await store.close()
        self.open.clear()

    def files(self) -> set[str]:
        """Files with bodies."""
        top = self.folder / "bodies"
        found = {str(Path(folder, name).relative_to(top)) for folder, _, names in os.walk(top) for name in names}
        return {name for name in found if not name.endswith("/lock")}

    def named(self) -> set[str]:
        """Files that the index names."""
        return {file for (file,) in self.ask("SELECT file FROM entry WHERE file != ''")}

    def ask(self, question: str) -> list[Any]:
        database = sqlite3.connect(self.folder / "index.db")
        try:
            return database.execute(question).fetchall()
        finally:
            database.close()

    def totals_are_right(self) -> bool:
        """Whether what the index says that it holds is what it holds."""
        said = self.ask("SELECT entries, octets, small FROM total")
        counted = self.ask(
            "SELECT count(*), coalesce(sum(octets), 0), coalesce(sum(octets * (queue = 0)), 0) FROM place"
        )
        alike = self.ask("SELECT count(*) FROM entry WHERE id NOT IN (SELECT id FROM place)")
        return bool(said == counted and alike == [(0,)])


async def tidied(store: DiskStore) -> None:
    """All that was asked for is done, and now, too, what the thread does where nobody asks for a while."""
    while await store.write(store.work.idle, 0):
        pass
