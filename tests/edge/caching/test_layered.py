"""Memory in front of a disk: what comes out of which, and that both say the same."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.edge.caching.answers import HTML, KEY, PATIENCE, bodies, body_of, find, keep, settled, span, stored
from wormhole_tw.edge.caching.disk_answers import DiskKept
from wormhole_tw.edge.caching.stores.disk import DiskStore
from wormhole_tw.edge.caching.stores.layered import LayeredStore
from wormhole_tw.edge.caching.stores.memory import MemoryKept, MemoryStore
from wormhole_tw.edge.interfaces import ICacheStore
from wormhole_tw.errors import CacheFault

MIB = 1024 * 1024
LARGE = os.urandom(4 * MIB)
EN = ((b"accept-language", b"en"),)
DE = ((b"accept-language", b"de"),)


class House:
    """Layered stores over one folder, as an edge has them before and after a restart."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        self.reactor = reactor
        self.folder = folder
        self.open: list[LayeredStore] = []
        self.asked: list[bytes] = []

    def store(self, memory: int = 16 * MIB) -> LayeredStore:
        back = DiskStore(self.reactor, self.folder, 256 * MIB, late=PATIENCE)
        find = back.find

        def noted(key: bytes) -> Any:
            self.asked.append(key)
            return find(key)

        back.find = noted  # type: ignore[method-assign]
        store = LayeredStore(MemoryStore(memory, None, self.reactor), back)
        self.open.append(store)
        return store

    async def restart(self, memory: int = 16 * MIB) -> LayeredStore:
        await self.close()
        self.asked.clear()
        return self.store(memory)

    async def close(self) -> None:
        for store in self.open:
            await store.close()
        self.open.clear()

    async def until_in_memory(self, store: LayeredStore, key: bytes = KEY) -> tuple[Any, ...]:
        """What is found without the disk, as soon as something is."""
        found = store.find(key)
        if isinstance(found, Deferred):
            await found
            await loaded(store)
            found = store.find(key)
        assert isinstance(found, tuple)
        return found


async def loaded(store: LayeredStore) -> None:
    """What is being read into memory is there."""
    await gatherResults([look.loading for look in store._loading.values() if look.loading is not None])


@pytest_twisted.async_yield_fixture
async def house(reactor: Any, tmp_path: Path) -> AsyncIterator[House]:
    house = House(reactor, tmp_path / "cache")
    yield house
    await house.close()


def at_once(store: ICacheStore, key: bytes = KEY) -> tuple[Any, ...]:
    """What is found without waiting."""
    found = store.find(key)
    assert isinstance(found, tuple)
    return found


class TestFaults:
    async def test_who_waits_for_the_disk_is_answered_also_where_we_have_a_bug(
        self, house: House, logged_failures: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep(house.store(), KEY, b"hello")
        store = await house.restart()

        def broken(*arguments: object) -> MemoryKept | None:
            raise ZeroDivisionError

        monkeypatch.setattr(store._front, "put", broken)
        waiting = [store.find(KEY), store.find(KEY)]
        assert [await found for found in waiting if isinstance(found, Deferred)] == [(), ()]
        assert len(logged_failures.flush(ZeroDivisionError)) == 1
        monkeypatch.undo()
        (found,) = await find(store)
        assert found.body == b"hello"


class TestRising:
    async def test_what_is_found_on_disk_is_in_memory_then(self, house: House) -> None:
        keep(house.store(), KEY, b"hello")
        store = await house.restart()
        (found,) = await find(store)
        assert isinstance(found, MemoryKept)
        assert at_once(store) == (found,)
        assert (found.body, house.asked) == (b"hello", [KEY])

    async def test_a_file_that_is_not_large_rises_when_it_was_asked_for(self, house: House) -> None:
        keep(house.store(), KEY, LARGE[:200_000])
        store = await house.restart()
        (found,) = await find(store)
        assert isinstance(found, DiskKept)
        (found,) = await house.until_in_memory(store)
        assert found.body == LARGE[:200_000]

    async def test_a_larger_one_when_it_was_asked_for_again(self, house: House) -> None:
        keep(house.store(), KEY, LARGE[:MIB])
        store = await house.restart()
        assert await bodies(store) == [LARGE[:MIB]]
        await settled(store)
        assert isinstance(store.find(b"other"), Deferred)
        assert [usage.entries for usage in store.usage()] == [0, 1]
        (found,) = await house.until_in_memory(store)
        assert found.body == LARGE[:MIB]

    async def test_one_that_is_too_large_for_memory_stays_below(self, house: House) -> None:
        keep(house.store(), KEY, LARGE)
        store = await house.restart()
        for _ in range(3):
            (found,) = await find(store)
            assert await body_of(found) == LARGE
        assert [usage.entries for usage in store.usage()] == [0, 1]

    async def test_files_on_their_way_into_memory_count_there(self, house: House) -> None:
        """Many that are asked for at once would take any amount of it."""
        store = house.store(memory=MIB)
        for number in range(12):
            keep(store._back, b"%d" % number, LARGE[:120_000])
        await settled(store)
        seen = []
        room_for = store._front.room_for

        def noted(octets: int) -> None:
            room_for(octets)
            seen.append(store.usage()[0].octets)

        store._front.room_for = noted  # type: ignore[method-assign]
        asking = [find(store, b"%d" % number) for number in range(12)]
        await gatherResults([Deferred.fromCoroutine(each) for each in asking])
        await house.until_in_memory(store, b"0")
        assert 400_000 < max(seen) <= MIB // 2
        await loaded(store)
        assert not store._loading
        assert store._front._coming == 0
        assert [kept.body for kept in await house.until_in_memory(store, b"11")] == [LARGE[:120_000]]

    async def test_what_had_to_leave_memory_is_found_on_disk(self, house: House) -> None:
        store = house.store(memory=MIB)
        for number in range(100):
            keep(store, b"%d" % number, LARGE[number : number + 50_000])
        for number in range(100):
            assert await bodies(store, b"%d" % number) == [LARGE[number : number + 50_000]]
        assert store.usage()[0].evicted > 80
        assert store.usage()[1].evicted == 0

    async def test_many_who_ask_at_once_ask_the_disk_once(self, house: House) -> None:
        keep(house.store(), KEY, b"hello")
        store = await house.restart()
        asking = [store.find(KEY) for _ in range(50)]
        for waiting in asking[:10]:
            assert isinstance(waiting, Deferred)
            waiting.addErrback(lambda failure: None)
            waiting.cancel()
        for waiting in asking[10:]:
            assert isinstance(waiting, Deferred)
            assert [kept.body for kept in await waiting] == [b"hello"]
        assert house.asked == [KEY]


class TestAgreement:
    async def test_what_was_kept_meanwhile_is_newer_than_what_the_disk_says(self, house: House) -> None:
        keep(house.store(), KEY, b"old")
        store = await house.restart()
        asked = store.find(KEY)
        keep(store, KEY, b"new")
        assert isinstance(asked, Deferred)
        assert [kept.body for kept in await asked] == [b"new"]
        assert await bodies(store) == [b"new"]
        assert await bodies(await house.restart()) == [b"new"]

    async def test_what_was_removed_meanwhile_does_not_come_back(self, house: House) -> None:
        keep(house.store(), KEY, b"old")
        store = await house.restart()
        (kept,) = await find(store)
        store = await house.restart()
        asked = store.find(KEY)
        assert isinstance(asked, Deferred)
        (again,) = await find(store)
        store.remove(again)
        assert await find(store) == ()
        assert [usage.entries for usage in store.usage()] == [0, 0]
        assert len(await asked) == 1  # it was there when it was asked for
        assert kept.body == b"old"

    async def test_a_file_that_is_removed_while_it_rises_stays_away(self, house: House) -> None:
        keep(house.store(), KEY, LARGE[:200_000])
        store = await house.restart()
        (kept,) = await find(store)
        store.remove(kept)
        await settled(store)
        assert await body_of(kept) == LARGE[:200_000]
        assert await find(store) == ()
        assert [usage.entries for usage in store.usage()] == [0, 0]

    async def test_what_is_refreshed_is_so_in_both(self, house: House) -> None:
        keep(house.store(), KEY, b"hello")
        keep(house.open[0], b"large", LARGE)
        store = await house.restart()
        for key in (KEY, b"large"):
            (kept,) = await find(store, key)
            store.refresh(kept, stored(length=kept.size, fields=(HTML,)))
            assert (await find(store, key))[0].stored.fields == (HTML,)
        store = await house.restart()
        for key in (KEY, b"large"):
            assert (await find(store, key))[0].stored.fields == (HTML,)

    async def test_variants_on_disk_are_found_beside_those_in_memory(self, house: House) -> None:
        keep(house.store(), KEY, b"hello", vary=EN)
        keep(house.open[0], b"large", LARGE, vary=EN)
        store = await house.restart()
        keep(store, KEY, b"hallo", vary=DE)
        keep(store, b"large", b"klein", vary=DE)
        assert await bodies(store) == [b"hallo", b"hello"]
        assert [kept.body for kept in at_once(store)] == [b"hallo", b"hello"]
        assert await bodies(store, b"large") == [b"klein", LARGE]
        assert [kept.stored.vary for kept in await find(store, b"large")] == [DE, EN]

    async def test_one_of_which_there_may_be_others_is_looked_for(self, house: House) -> None:
        """Who has noted something on an answer that is found without the disk asks again when this is not so."""
        store = house.store()
        kept = keep(store, KEY, b"hello", vary=EN)
        await settled(store)
        assert await find(store) == (kept,)
        assert at_once(store) == (kept,)
        assert kept is not None
        kept.prepared = "head"
        keep(store, KEY, LARGE, vary=DE)  # too large for memory
        assert isinstance(kept, MemoryKept)
        assert kept.prepared is None
        assert await bodies(store) == [LARGE, b"hello"]

    async def test_variants_of_which_one_had_to_leave_memory_are_found(self, house: House) -> None:
        store = house.store(memory=MIB)
        keep(store, KEY, b"hello" * 2000, vary=EN)
        keep(store, KEY, b"hallo" * 2000, vary=DE)
        for number in range(100):
            keep(store, b"%d" % number, LARGE[:50_000])
            (one, other) = await bodies(store)
            assert (one[:5], other[:5]) == (b"hallo", b"hello")

    async def test_a_part_goes_on_below_where_memory_does_not_take_it(self, house: House) -> None:
        store = house.store()
        first = store.begin(KEY, span(0, len(LARGE)), len(LARGE))
        assert first is not None
        first.write(LARGE[: 3 * MIB])
        part = first.commit_part()
        rest = store.begin(KEY, span(3 * MIB, len(LARGE)), None, part)
        assert rest is not None
        rest.write(LARGE[3 * MIB :])
        assert rest.size == len(LARGE)
        assert await rest.read(3 * MIB - 5, 5) == LARGE[3 * MIB - 5 : 3 * MIB]
        rest.commit()
        assert await bodies(store) == [LARGE]
        assert await bodies(await house.restart()) == [LARGE]

    async def test_a_small_part_goes_on_in_both(self, house: House) -> None:
        store = house.store()
        first = store.begin(KEY, span(0, 1000), 1000)
        assert first is not None
        first.write(LARGE[:300])
        rest = store.begin(KEY, span(300, 1000), 700, first.commit_part())
        assert rest is not None
        rest.write(LARGE[300:1000])
        rest.commit()
        assert await bodies(store) == [LARGE[:1000]]
        assert await bodies(await house.restart()) == [LARGE[:1000]]


class TestDisk:
    async def test_a_broken_one_leaves_memory_as_it_is(self, house: House, log_lines: Any) -> None:
        house.folder.write_text("a file")
        store = house.store()
        keep(store, KEY, b"hello")
        await settled(store)
        keep(store, b"other", LARGE[:MIB])
        assert [kept.body for kept in at_once(store)] == [b"hello"]
        assert [kept.body for kept in at_once(store, b"other")] == [LARGE[:MIB]]
        assert await find(store, b"missing") == ()
        assert len(log_lines.matching("answers cannot be kept")) == 1

    async def test_a_broken_one_is_not_swept_and_memory_is(self, house: House) -> None:
        house.folder.write_text("a file")
        store = house.store()
        keep(store, KEY, b"hello")
        with pytest.raises(CacheFault, match="not all of it could be looked at"):
            await store.sweep(lambda key, stored: True)
        assert [usage.entries for usage in store.usage()] == [0, 0]

    async def test_hears_what_is_used_in_memory(self, house: House) -> None:
        """A front page that is served from memory for weeks is still on the disk when the edge starts again."""
        back = DiskStore(house.reactor, house.folder, 8 * MIB, late=PATIENCE)
        store = LayeredStore(MemoryStore(16 * MIB, None, house.reactor), back)
        house.open.append(store)
        keep(store, KEY, b"front page")
        for number in range(400):
            assert at_once(store)
            keep(store, b"crawler %d" % number, LARGE[:50_000])
            if number % 20 == 0:
                await settled(store)
        assert back.usage()[0].evicted > 200
        await house.close()
        assert await bodies(await house.restart()) == [b"front page"]
