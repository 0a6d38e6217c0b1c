"""A process through whose store many different answers pass: ``python -m tests.edge.caching.passing STORE …``.

It prints what the store says that it holds, and what the process really took for it: resident memory and the disk.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import react

from tests.edge.caching.answers import PATIENCE, settled, stored
from wormhole_tw.cli.process import keep_freed_memory
from wormhole_tw.edge.caching.stores import StoreSettings, make_store
from wormhole_tw.edge.caching.stores.disk import DiskStore

MIB = 1024 * 1024


def resident() -> int:
    """Octets of this process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def on_disk(folder: Path) -> int:
    """Octets that files take, in blocks; the store's own thread may take some away meanwhile."""
    octets = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                octets += os.stat(Path(place, name)).st_blocks * 512
    return octets


async def go(reactor: Any, name: str, folder: Path, memory: int, disk: int, count: int, median: float) -> None:
    store = make_store(StoreSettings(reactor, memory, disk, folder, late=PATIENCE), name)
    keep_freed_memory()  # as an edge does
    random = Random(3)
    noise = random.randbytes(8 * MIB)
    gc.collect()
    before, most, most_on_disk, refused = resident(), 0, 0, 0
    for number in range(count):
        key = b"\0".join((b"site", b"https", b"www.example.test", b"/articles/%d/of/many?page=%d" % (number, number)))
        size = int(min(random.lognormvariate(median, 1.5), 2 * MIB))
        place = random.randrange(len(noise) - size)
        fields = [
            (name + b"", value + b"%d" % number)
            for name, value in (
                (b"content-type", b"text/html; charset="),
                (b"cache-control", b"public, max-age=6"),
                (b"last-modified", b"Mon, 23 Nov 2026 12:00:"),
                (b"x-request", b"0123456789abcdef"),
                (b"etag", b'"'),
            )
        ]
        keeping = store.begin(key, stored(fields=tuple(fields), tags=(b"article-%d" % number,)), size)
        if keeping is None:
            refused += 1
        else:
            for start in range(place, place + size, 16384):
                keeping.write(noise[start : min(start + 16384, place + size)])
            if keeping.commit() is None:
                refused += 1
        if number % 7 == 0:  # visitors ask again for some
            for kept in await maybeDeferred(store.find, key):
                kept.prepared = b"\r\n".join(name + b": " + value for name, value in kept.stored.fields)
        if number % 200 == 0:
            if isinstance(store, DiskStore) and store.waiting > MIB:  # a sweep would look at everything each time
                await store.write(lambda: True, 0)
            most = max(most, resident() - before)
            if number % 10_000 == 0 or number > count - 1000:
                most_on_disk = max(most_on_disk, on_disk(folder))
    await settled(store)
    says = {usage.place: [usage.entries, usage.octets, usage.limit, usage.evicted] for usage in store.usage()}
    await store.close()
    print(json.dumps({"resident": most, "blocks": max(most_on_disk, on_disk(folder)), "refused": refused, **says}))


def main(reactor: Any, name: str, folder: str, *figures: str) -> Deferred[None]:
    memory, disk, count = map(int, figures[:3])
    return Deferred.fromCoroutine(go(reactor, name, Path(folder), memory, disk, count, float(figures[3])))


if __name__ == "__main__":
    react(main, sys.argv[1:])
