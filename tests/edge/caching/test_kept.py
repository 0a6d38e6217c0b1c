"""What an edge keeps of answers from start to stop: the store that its configuration asks for, and its purges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tests.edge.caching.house import CachingHouse
from tests.edge.tenants import TOML, Premises
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.edge.caching.kept import KeptAnswers, journal_of
from wormhole_tw.http.caching.records import Stored

CACHED = TOML.replace('hostnames = ["app', 'cache = true\nhostnames = ["app')


def kept_of(premises: Premises) -> KeptAnswers:
    kept = premises.edge.context.kept
    assert kept is not None
    return kept


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("", "memory"),
        ('memory = "1 MiB"\ndisk = "16 MiB"', "layered"),
        ('memory = 0\ndisk = "16 MiB"\npath = "elsewhere"', "disk"),
        ("memory = 0", "memory"),
    ],
)
async def test_the_store_is_what_the_configuration_asks_for(
    reactor: Any, tmp_path: Path, table: str, name: str
) -> None:
    premises = Premises(reactor, tmp_path, CACHED.replace("[[sites]]", f"[cache]\n{table}\n[[sites]]"))
    premises.edge.startService()
    assert kept_of(premises).store.name == name
    assert (tmp_path / "state" / "elsewhere").exists() is ("elsewhere" in table)
    await premises.close()


async def test_an_edge_without_a_cache_writes_nothing(reactor: Any, tmp_path: Path) -> None:
    premises = Premises(reactor, tmp_path)
    premises.edge.startService()
    journal = journal_of(premises.edge.config)
    assert not journal.exists()
    # a reload that brings the first cache brings the journal too, and the same store
    store = kept_of(premises).store
    premises.write(CACHED)
    await premises.edge.reload()
    assert journal.exists()
    assert kept_of(premises).store is store
    await premises.close()


async def test_what_was_purged_stays_so_for_the_next_start(reactor: Any, tmp_path: Path) -> None:
    premises = Premises(reactor, tmp_path, CACHED)
    premises.edge.startService()
    purges = kept_of(premises).purges
    born = purges.clock
    await kept_of(premises).purge("tag", "app", [b"news", b"old"])
    assert kept_of(premises).purged == {"tag": 1}
    assert purges.covers("app", b"app.example.test", b"/", (b"old",), born)
    await premises.edge.stopService()
    premises.edge.startService()
    assert kept_of(premises).purges is not purges
    assert kept_of(premises).purges.covers("app", b"app.example.test", b"/", (b"news",), born)
    await premises.close()


async def test_a_site_that_goes_takes_what_was_kept_of_it_along(reactor: Any, tmp_path: Path) -> None:
    """Another one of its name, and of the same backend, may be somebody else's."""
    premises = Premises(reactor, tmp_path, CACHED)
    premises.edge.startService()
    purges = kept_of(premises).purges
    born = purges.clock
    # without its cache it is still there
    for text, void in ((TOML, False), (CACHED.replace('name = "app"\ncache', 'name = "new"\ncache'), True)):
        premises.write(text)
        await premises.edge.reload()
        assert purges.covers("app", b"app.example.test", b"/", (), born) is void
        assert not purges.covers("new", b"app.example.test", b"/", (), born)
    assert kept_of(premises).purged == {"site": 1}
    await premises.close()


class Slow:
    """A store of which a sweep takes its time."""

    def __init__(self) -> None:
        self.sweeps: list[tuple[Callable[[bytes, Stored], bool], Deferred[int]]] = []
        self.cancelled = 0

    def sweep(self, gone: Callable[[bytes, Stored], bool]) -> Deferred[int]:
        def cancel(_: Deferred[int]) -> None:
            self.cancelled += 1

        self.sweeps.append((gone, Deferred(cancel)))
        return self.sweeps[-1][1]

    def close(self) -> Deferred[None]:
        return succeed(None)


def answer(born: int, *tags: bytes) -> Stored:
    times: dict[str, Any] = dict.fromkeys(("requested", "received", "date", "zero"), 0.0)
    until: dict[str, Any] = dict.fromkeys(("fresh_until", "behind_until", "error_until"), 0.0)
    return Stored(status=200, reason=b"OK", fields=(), tags=tags, born=born, **times, **until)


async def test_room_is_given_back_and_once_more_for_what_came_meanwhile(reactor: Any, tmp_path: Path) -> None:
    store = Slow()
    (tmp_path / "edge.toml").write_text(CACHED)
    config, catalog = FileStore(tmp_path / "edge.toml").load()
    kept = KeptAnswers(reactor, config)
    kept.store = store  # type: ignore[assignment]
    kept.serve(catalog)
    born = kept.purges.clock
    await kept.purge("url", "app", [b"app.example.test/a"])
    await kept.purge("tag", "app", [b"news"])
    await kept.purge("tag", "app", [b"old"])
    ((gone, swept),) = store.sweeps
    key = b"\0".join((b"app", b"https", b"app.example.test", b"/a", b"", b"more"))
    assert gone(key, answer(born))
    assert not gone(key.replace(b"/a", b"/b"), answer(born))
    assert gone(key.replace(b"/a", b"/b"), answer(born, b"old"))
    assert not gone(key, answer(kept.purges.clock))
    swept.callback(1)
    assert len(store.sweeps) == 2, "what it had gone past may be void since"
    assert len(kept.purges) == 3, "what was purged in the last hour, another process may not have read yet"
    await kept.close()
    assert store.cancelled == 1
    assert len(store.sweeps) == 2


async def test_purges_are_forgotten_when_nothing_that_they_cover_can_be_there(
    reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wormhole_tw.edge.caching.journal.SETTLES_AFTER", 0.0)
    store = Slow()
    (tmp_path / "edge.toml").write_text(CACHED)
    config, _ = FileStore(tmp_path / "edge.toml").load()
    kept = KeptAnswers(reactor, config)
    kept.store = store  # type: ignore[assignment]
    await kept.purge("tag", "app", [b"one"])
    first = kept.purges.clock
    await kept.purge("tag", "app", [b"two"])
    kept.oldest = lambda: first
    store.sweeps[0][1].callback(0)
    assert len(kept.purges) == 1, "a fetch that began before the second is on its way"
    kept.oldest = lambda: kept.purges.clock
    store.sweeps[1][1].callback(0)
    assert len(kept.purges) == 0
    await kept.close()


def test_the_oldest_fetch_that_runs() -> None:
    house = CachingHouse()
    cache = house.context.cache
    assert cache.oldest() == cache.purges.clock == 0
    house.ask("/one")
    purge = cache.purges.add("tag", "app", b"x", 1.0)
    house.ask("/two")
    assert cache.oldest() == 0
    house.answer("Cache-Control: max-age=60", stream=house.streams[0])
    assert cache.oldest() == purge.clock
    house.answer("Cache-Control: max-age=60", stream=house.streams[1])
    house.close()
