"""A process that keeps answers on disk as fast as it can, until it is killed: ``python -m tests.edge.caching.writer``.

Each body follows from its number, which its tag says, so that whoever finds it knows what it should be.  What is
written for good is told on standard output, a line of numbers at a time.
"""

from __future__ import annotations

import sys
from hashlib import shake_128
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.edge.caching.answers import PATIENCE, settled, stored
from wormhole_tw.edge.caching.stores.disk import DiskStore

SIZES = (0, 100, 5000, 60_000, 70_000, 200_000)


def body(number: int, size: int) -> bytes:
    """The body of a number."""
    return shake_128(b"%d" % number).digest(size)


def key(number: int) -> bytes:
    """Most are of their own, some take the place of others."""
    return b"shared %d" % (number % 7) if number % 5 == 0 else b"%d" % number


async def write(store: DiskStore, first: int, random: Random) -> None:
    number = first
    while True:
        told = []
        for _ in range(20):
            number += 1
            size = random.choice(SIZES)
            whole = body(number, size)
            tags = (b"%d" % number, b"%d" % size)
            keeping = store.begin(key(number), stored(length=size, tags=tags), size)
            assert keeping is not None
            cut = random.randrange(size + 1)
            keeping.write(whole[:cut])
            if number % 11 == 0:
                keeping.abandon()
                continue
            if number % 3 == 0 and cut:
                part = keeping.commit_part()
                keeping = store.begin(key(number), stored(length=size, tags=tags), size - cut, part)
                assert keeping is not None
            keeping.write(whole[cut:])
            if number % 13:
                kept = keeping.commit()
                assert kept is not None
                if number % 4 == 0:
                    store.refresh(kept, stored(length=size, tags=tags, status=203))
                if number % 17 == 0:
                    store.remove(kept)
                elif number % 5:
                    told.append(number)
            if keeping.behind > 500_000:
                await keeping.caught_up()
        await settled(store)
        print(*told, flush=True)


def main(reactor: Any, folder: str, limit: str, first: str) -> Deferred[None]:
    store = DiskStore(reactor, Path(folder), int(limit), late=PATIENCE)
    return Deferred.fromCoroutine(write(store, int(first), Random(int(first))))


if __name__ == "__main__":
    react(main, sys.argv[1:])
