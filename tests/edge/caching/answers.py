"""Answers to keep, for tests of stores."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from twisted.internet.defer import maybeDeferred

from wormhole_tw.edge.interfaces import ICacheStore, IKept
from wormhole_tw.errors import CacheFault
from wormhole_tw.http.caching.records import Stored

KEY = b"example\0https\0app.example.test\0/"
TIME = 1_790_000_000.0
PATIENCE = 60.0
"""Seconds for a disk in tests that are not about its being late: the machine may have other things to do."""

HTML = (b"content-type", b"text/html; charset=utf-8")


def stored(**changes: Any) -> Stored:
    """What an answer says, as the rules have it."""
    plain = {
        "status": 200,
        "reason": b"OK",
        "fields": (HTML, (b"etag", b'"one"'), (b"date", b"Mon, 23 Nov 2026 12:00:00 GMT")),
        "requested": TIME,
        "received": TIME + 0.1,
        "date": TIME,
        "zero": TIME,
        "fresh_until": TIME + 60,
        "behind_until": TIME + 60,
        "error_until": TIME + 60,
        "etag": b'"one"',
    }
    return Stored(**(plain | changes))


def span(first: int, length: int, **changes: Any) -> Stored:
    """What a part of a representation says."""
    return stored(first=first, length=length, **changes)


def keep(store: ICacheStore, key: bytes, body: bytes, **changes: Any) -> IKept | None:
    """Keep a whole answer."""
    keeping = store.begin(key, stored(**changes), len(body))
    if keeping is None:
        return None
    keeping.write(body)
    return keeping.commit()


async def find(store: ICacheStore, key: bytes = KEY) -> tuple[IKept, ...]:
    """What a store has under a key, at once or later."""
    found: tuple[IKept, ...] = await maybeDeferred(store.find, key)
    return found


async def settled(store: ICacheStore) -> None:
    """What was committed, removed and refreshed has been done."""
    with suppress(CacheFault):  # the disk does not work, and that is done
        await store.sweep(lambda key, stored: False)


async def body_of(kept: IKept) -> bytes:
    """The whole body, as a reader has it that takes pieces."""
    if kept.body is not None:
        assert len(kept.body) == kept.size
        return kept.body
    pieces = []
    while (start := sum(map(len, pieces))) < kept.size:
        pieces.append(await kept.read(start, 65536))
        assert pieces[-1], "nothing more came before the end"
    return b"".join(pieces)


async def bodies(store: ICacheStore, key: bytes = KEY) -> list[bytes]:
    """The bodies under a key, the newest first."""
    return [await body_of(kept) for kept in await find(store, key)]
