"""The store on disk, where that is full, broken, silent, or slower than what comes in."""

from __future__ import annotations

import resource
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.edge.caching.answers import KEY, PATIENCE, bodies, find, keep, settled, span, stored
from tests.edge.caching.disk_house import LARGE, MIB, House, silence, tidied
from wormhole_tw.errors import CacheFault


@pytest_twisted.async_yield_fixture
async def house(reactor: Any, tmp_path: Path) -> AsyncIterator[House]:
    house = House(reactor, tmp_path / "cache")
    yield house
    await house.close()


class TestTrouble:
    async def test_a_folder_that_cannot_be_made_is_told_once_and_nothing_else_happens(
        self, house: House, log_lines: Any
    ) -> None:
        house.folder.write_text("a file")
        store = house.store(quiet=0.0)
        for _ in range(3):
            keep(store, KEY, b"hello")
            keep(store, b"large", LARGE)
            assert await find(store) == ()
            with pytest.raises(CacheFault, match="not all of it could be looked at"):
                await store.sweep(lambda key, stored: True)
        assert len(log_lines.matching("answers cannot be kept in")) == 1
        house.folder.unlink()
        keep(store, KEY, b"hello")
        assert await bodies(store) == [b"hello"]
        await log_lines.wait_for("answers are kept in")

    async def test_a_full_disk_takes_nothing_and_gives_what_it_has(self, house: House, log_lines: Any) -> None:
        store = house.store(quiet=0.0)
        keep(store, KEY, b"hello")
        await settled(store)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        try:
            keeping = store.begin(b"large", stored(), None)
            assert keeping is not None
            keeping.write(LARGE)
            await keeping.caught_up()
            assert keeping.lost
            assert keeping.commit() is None
            with pytest.raises(CacheFault):
                await keeping.read(0, 10)
            keep(store, b"large", LARGE)
            await settled(store)
            assert len(log_lines.matching("answers cannot be kept in")) == 1
            for number in range(20):
                keep(store, b"%d" % number, LARGE[:60_000])
                await settled(store)
            assert await bodies(store) == [b"hello"]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        keep(store, b"large", LARGE)
        assert await bodies(store, b"large") == [LARGE]
        await tidied(store)
        assert house.files() == house.named()
        await house.close()
        assert house.totals_are_right()

    async def test_after_trouble_nothing_is_tried_for_a_while(self, house: House) -> None:
        house.folder.write_text("a file")
        store = house.store(quiet=1000.0)
        keep(store, KEY, b"hello")
        await settled(store)
        assert store.begin(KEY, stored(), 5) is None
        assert not store.takes

    async def test_a_disk_that_does_not_answer_has_nothing_until_it_does(self, house: House, log_lines: Any) -> None:
        clock = house.stop_the_clock()
        store = house.store()
        keep(store, KEY, b"hello")
        keep(store, b"large", LARGE)
        (large,) = await find(store, b"large")
        goes_on = silence(store)
        waiting = [find(store), find(store)]
        reading = large.read(0, 100)
        asked = [Deferred.fromCoroutine(each) for each in waiting]
        clock.advance(PATIENCE)
        assert [await each for each in asked] == [(), ()]
        with pytest.raises(CacheFault, match="does not answer"):
            await reading
        assert "has not answered for 60.0 s" in log_lines
        assert store.find(KEY) == ()
        assert store.begin(KEY, stored(), 5) is None
        with pytest.raises(CacheFault, match="does not answer"):
            await large.read(0, 100)
        goes_on.set()
        await log_lines.wait_for("answers again")
        assert await bodies(store) == [b"hello"]
        assert await large.read(0, 100) == LARGE[:100]

    async def test_it_can_be_closed_all_the_same(self, house: House) -> None:
        clock = house.stop_the_clock()
        store = house.store()
        keep(store, KEY, b"hello")
        await settled(store)
        goes_on = silence(store)
        closed = house.close()
        ended = Deferred.fromCoroutine(closed)
        clock.advance(PATIENCE)
        assert not ended.called
        for _ in range(5):
            clock.advance(PATIENCE)
        await ended
        goes_on.set()

    async def test_who_waits_for_a_silent_disk_to_catch_up_goes_on_without(self, house: House) -> None:
        clock = house.stop_the_clock()
        store = house.store(200 * MIB)
        await settled(store)
        goes_on = silence(store)
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        keeping.write(LARGE)
        caught_up = keeping.caught_up()
        assert not caught_up.called
        clock.advance(PATIENCE)
        await caught_up
        assert keeping.lost
        goes_on.set()
        await settled(store)
        assert await find(store) == ()
        assert keep(store, KEY, b"hello") is not None

    async def test_a_body_that_comes_faster_than_the_disk_takes_it_is_given_up(self, house: House) -> None:
        store = house.store(200 * MIB)
        await settled(store)
        goes_on = threading.Event()
        store.write(goes_on.wait, 0)
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        while not keeping.lost:
            keeping.write(LARGE)
        assert keeping.size < 10 * MIB
        goes_on.set()
        await keeping.caught_up()
        await settled(store)
        assert await find(store) == ()
        assert house.files() == set()

    async def test_answers_that_come_faster_than_the_disk_takes_them_are_not_taken(self, house: House) -> None:
        store = house.store(200 * MIB)
        await settled(store)
        goes_on = threading.Event()
        store.write(goes_on.wait, 0)
        taken = 0
        while keep(store, b"%d" % taken, LARGE[:60_000]) is not None:
            taken += 1
        assert 1000 < taken < 2000
        goes_on.set()
        await settled(store)
        assert keep(store, KEY, b"hello") is not None

    async def test_nothing_is_read_or_kept_behind_a_hole(self, house: House) -> None:
        """One piece did not go to the disk: those behind it would be in the wrong place."""
        store = house.store()
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        keeping.write(LARGE[:200_000])
        await keeping.caught_up()
        write = store.work.write
        calls: list[int] = []

        def fails_once(*arguments: Any) -> int:
            calls.append(1)
            if len(calls) == 1:
                raise CacheFault("there is no room")
            return write(*arguments)

        store.work.write = fails_once  # type: ignore[method-assign]
        for start in (200_000, 300_000, 400_000):
            keeping.write(LARGE[start : start + 100_000])
        follower = keeping.read(300_000, 1000)
        kept = keeping.commit()
        with pytest.raises(CacheFault):
            await follower
        assert kept is not None
        with pytest.raises(CacheFault):
            await kept.read(0, 1000)
        await settled(store)
        assert await find(store) == ()
        assert house.files() == set()

    async def test_what_is_taken_back_by_the_disk_changes_nothing_of_others(self, house: House) -> None:
        """Who holds an entry whose transaction failed must not reach another's by its number."""
        store = house.store(quiet=0.0)
        keep(store, b"first", b"hello")
        await settled(store)
        kept = keep(store, KEY, b"mine")
        assert kept is not None
        store.write(lambda: 1 // 0, 0)  # in the same transaction
        await settled(store)
        keep(store, b"other", b"somebody else's")
        await settled(store)
        store.refresh(kept, stored(status=404))
        store.remove(kept)
        await settled(store)
        assert await find(store) == ()
        (other,) = await find(store, b"other")
        assert (other.stored.status, other.body) == (200, b"somebody else's")

    async def test_a_sweep_goes_on_where_somebody_cannot_judge(self, house: House, logged_failures: Any) -> None:
        store = house.store()
        for number in range(5):
            keep(store, b"%d" % number, b"hello")
        assert await store.sweep(lambda key, stored: bool(1 // int(key))) == 1
        assert len(logged_failures.flush(ZeroDivisionError)) == 1

    async def test_who_does_not_wait_any_more_is_left_alone(self, house: House) -> None:
        store = house.store()
        keep(store, KEY, b"hello")
        asked = store.find(KEY)
        assert not isinstance(asked, tuple)
        asked.addErrback(lambda failure: None)
        asked.cancel()
        assert await bodies(store) == [b"hello"]

    async def test_who_goes_away_is_no_trouble_of_the_disk(self, house: House, log_lines: Any) -> None:
        store = house.store()
        keep(store, KEY, LARGE)
        (kept,) = await find(store)
        left = [kept.read(0, 1000), store.find(KEY)]
        for waiting in left:
            assert isinstance(waiting, Deferred)
            waiting.addErrback(lambda failure: None)
            waiting.cancel()
        assert await bodies(store) == [LARGE]
        assert log_lines.matching("answers cannot be kept in") == []

    async def test_nor_is_who_leaves_while_it_comes_in(self, house: House, log_lines: Any) -> None:
        store = house.store()
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        keeping.write(LARGE)
        reading = keeping.read(0, 1000)
        reading.addErrback(lambda failure: None)
        reading.cancel()
        await settled(store)
        assert store.takes
        assert await keeping.read(0, 1000) == LARGE[:1000]
        assert keeping.commit() is not None
        assert await bodies(store) == [LARGE]
        assert log_lines.matching("answers cannot be kept in") == []

    async def test_who_reads_what_comes_in_waits_for_no_silent_disk(self, house: House, log_lines: Any) -> None:
        clock = house.stop_the_clock()
        store = house.store()
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        keeping.write(LARGE)
        await settled(store)
        goes_on = silence(store)
        reading, left = keeping.read(0, 1000), keeping.read(0, 1000)
        clock.advance(PATIENCE / 2)
        left.addErrback(lambda failure: None)
        left.cancel()
        clock.advance(PATIENCE / 2)
        with pytest.raises(CacheFault, match="does not answer"):
            await reading
        with pytest.raises(CacheFault, match="does not answer"):
            await keeping.read(0, 1000)
        goes_on.set()
        await log_lines.wait_for("answers again")
        keeping.abandon()

    async def test_what_the_disk_takes_back_leaves_no_file(self, house: House) -> None:
        """Its row is gone with the transaction: nobody would find the file before the process ends."""
        store = house.store(quiet=0.0)
        keep(store, KEY, LARGE)
        store.write(lambda: 1 // 0, 0)  # in the same transaction
        for _ in range(2):
            await settled(store)
        assert await find(store) == ()
        assert house.files() == set()

    async def test_what_grew_and_has_no_room_leaves_no_file(self, house: House) -> None:
        """The part has made room for it already."""
        store = house.store()
        keeping = store.begin(KEY, span(0, len(LARGE)), None)
        assert keeping is not None
        keeping.write(LARGE[:300_000])
        keeping.commit_part()
        (part,) = await find(store)
        rest = store.begin(KEY, span(300_000, len(LARGE)), None, part)
        assert rest is not None
        rest.write(LARGE[300_000:])
        await rest.caught_up()

        def no_room(octets: int) -> None:
            raise CacheFault("there is no room")

        store.work._make_room = no_room  # type: ignore[method-assign]
        rest.commit()
        for _ in range(2):
            await settled(store)
        assert await find(store) == ()
        assert house.files() == set()

    async def test_a_folder_that_somebody_empties_is_begun_anew(self, house: House) -> None:
        store = house.store(quiet=0.0)
        keep(store, KEY, LARGE)
        await settled(store)
        for path in house.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        keep(store, b"first", LARGE)  # which finds that out
        await settled(store)
        keep(store, b"second", LARGE)
        assert await bodies(store, b"second") == [LARGE]

    async def test_a_folder_of_files_that_could_not_be_made_is_made_by_the_next(self, house: House) -> None:
        store = house.store(quiet=0.0)
        await settled(store)
        (writer,) = (house.folder / "bodies").iterdir()
        (writer / "0").write_text("in the way")
        keep(store, b"first", LARGE)
        await settled(store)
        (writer / "0").unlink()
        keep(store, b"second", LARGE)
        assert await bodies(store, b"second") == [LARGE]

    async def test_after_its_end_nobody_waits(self, house: House) -> None:
        clock = house.stop_the_clock()
        store = house.store()
        keep(store, KEY, b"hello")
        await store.close()
        assert await find(store) == ()
        with pytest.raises(CacheFault, match="closed"):
            await store.sweep(lambda key, stored: True)
        clock.advance(PATIENCE)
        assert clock.getDelayedCalls() == []
