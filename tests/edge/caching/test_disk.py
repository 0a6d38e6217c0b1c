"""The store on disk: kills at any moment, damage, restarts, and two processes."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests._support import ROOT, program_environment, sized
from tests.edge.caching.answers import KEY, bodies, body_of, find, keep, settled, span, stored
from tests.edge.caching.disk_house import LARGE, LIMIT, MIB, House, tidied
from tests.edge.caching.writer import body
from wormhole_tw.edge.caching import disk_work
from wormhole_tw.edge.caching.disk_index import DiskIndex
from wormhole_tw.edge.caching.stores.disk import DiskStore
from wormhole_tw.edge.interfaces import IKept
from wormhole_tw.errors import CacheFault

LOGS = 20 * MIB
"""What the write-ahead log takes at most, beside the bound."""


@pytest_twisted.async_yield_fixture
async def house(reactor: Any, tmp_path: Path) -> AsyncIterator[House]:
    house = House(reactor, tmp_path / "cache")
    yield house
    await house.close()


def tidied_by_itself(store: DiskStore, reactor: Any) -> Deferred[None]:
    """Fires when the thread has found nothing left to tidy up."""
    done: Deferred[None] = Deferred()
    tidy = store._worker._tidy

    def noted() -> bool:
        left = tidy()
        if not left and not done.called:
            reactor.callFromThread(done.callback, None)
        return left

    store._worker._tidy = noted  # type: ignore[method-assign]
    return done


async def all_kept(store: DiskStore) -> dict[int, IKept]:
    """Everything that is there, by its number, when each of it was found to be whole and right."""
    keys: set[bytes] = set()

    def note(key: bytes, _stored: Any) -> bool:
        keys.add(key)
        return False

    await store.sweep(note)
    right = {}
    for key in keys:
        for kept in await find(store, key):
            number, size = map(int, kept.stored.tags)
            got = await body_of(kept)
            assert got == body(number, size)[: kept.size]
            assert kept.stored.length == size
            right[number] = kept
    return right


class Writer:
    """A process that writes."""

    def __init__(self, folder: Path, limit: int, first: int) -> None:
        self.told: list[int] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.edge.caching.writer", str(folder), str(limit), str(first)],
            cwd=ROOT,
            env=program_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )

    def listen(self) -> None:
        """Wait for one line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it ended by itself"
        self.told += map(int, line.split())

    def kill(self, after: float) -> None:
        try:
            self.process.wait(after)
        except subprocess.TimeoutExpired:
            self.process.kill()
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        assert self.process.wait() == -9
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                self.told += map(int, line.split())
        self.process.stdout.close()


@pytest.mark.deadline(sized(120, 1200))
@pytest.mark.parametrize("limit", [16 * MIB, 4096 * MIB], ids=["crowded", "roomy"])
async def test_whatever_was_written_is_whole_after_a_kill_at_any_moment(house: House, limit: int) -> None:
    """A second process writes to the same folder while the first is killed, as where one edge takes over."""
    random = Random(7)
    kills = sized(1, 50 if limit < LIMIT else 15)
    told: list[int] = []
    old = Writer(house.folder, limit, 0)
    old.listen()
    for number in range(1, kills + 1):
        new = Writer(house.folder, limit, number * 1_000_000)
        new.listen()
        for _ in range(random.randrange(3)):
            old.listen()
        old.kill(random.random() * 0.05)
        told += old.told
        if number == kills:
            new.kill(random.random() * 0.05)
            told += new.told
        store = house.store(limit)
        kept = await all_kept(store)
        assert [usage.faults for usage in store.usage()] == [0]
        if limit > LIMIT:
            assert kept
            assert set(told) <= set(kept)  # nothing that was told to be there is missing
        await house.close()
        old = new
    store = house.store(limit)
    assert await all_kept(store)
    await tidied(store)
    assert house.files() == house.named()
    assert len(list((house.folder / "bodies").iterdir())) <= kills + 2
    await house.close()
    assert house.totals_are_right()
    assert (
        sum(os.path.getsize(Path(folder, name)) for folder, _, names in os.walk(house.folder) for name in names)
        < limit * 1.3 + LOGS
    )


class TestDamage:
    @pytest.mark.deadline(sized(60, 900))
    async def test_a_flipped_octet_is_found_and_never_served(self, house: House) -> None:
        """Everywhere in the index, and in a file: what is found is right, or is not there."""
        store = house.store()
        small = b"body of a small one" * 20
        keep(store, KEY, small)
        keep(store, b"large", LARGE)
        await settled(store)
        await house.close()
        database = house.folder / "index.db"
        whole = database.read_bytes()
        places = [whole.index(small) + 5, whole.index(b'"one"') + 1, whole.index(KEY), whole.rindex(b"status") + 7]
        random = Random(5)
        places += [random.randrange(len(whole)) for _ in range(sized(40, 1000))]
        for place in places:
            changed = bytearray(whole)
            changed[place] ^= 1 << random.randrange(8)
            for name in ("index.db", "index.db-wal", "index.db-shm"):
                (house.folder / name).unlink(missing_ok=True)
            database.write_bytes(changed)
            store = house.store()
            for key, right in ((KEY, small), (b"large", LARGE)):
                for kept in await find(store, key):
                    assert kept.stored == stored(length=len(right)), place
                    try:
                        assert await body_of(kept) == right, place
                    except CacheFault:
                        assert key == b"large"
            await house.close()
            if not house.files():  # it was the index that had the name of the file
                store = house.store()
                (house.folder / "index.db").unlink()
                keep(store, b"large", LARGE)
                keep(store, KEY, small)
                await settled(store)
                await house.close()
                whole = database.read_bytes()

    async def test_a_damaged_file_is_told_and_forgotten(self, house: House) -> None:
        store = house.store()
        keep(store, KEY, LARGE)
        await settled(store)
        (name,) = house.files()
        path = house.folder / "bodies" / name
        with open(path, "r+b") as file:
            file.seek(300_000)
            octet = file.read(1)
            file.seek(300_000)
            file.write(bytes([octet[0] ^ 1]))
        (kept,) = await find(store)
        assert await kept.read(0, 65536) == LARGE[:65536]
        with pytest.raises(CacheFault, match="is damaged"):
            await kept.read(299_000, 5000)
        assert await find(store) == ()
        assert [usage.faults for usage in store.usage()] == [1]
        await settled(store)
        assert house.files() == set()

    @pytest.mark.parametrize("how", ["cut", "gone"])
    async def test_a_file_that_is_short_or_gone_is_no_answer(self, house: House, how: str) -> None:
        store = house.store()
        keep(store, KEY, LARGE)
        await settled(store)
        await house.close()
        (name,) = house.files()
        path = house.folder / "bodies" / name
        path.unlink() if how == "gone" else os.truncate(path, 500_000)
        store = house.store()
        found = await find(store)
        if how == "cut":
            with pytest.raises(CacheFault, match="ends too soon"):
                await body_of(found[0])
        else:
            assert found == ()
        assert await find(store) == ()

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda path: path.write_bytes(b"rubbish" * 1000), "not a database"),
            (lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 20_000), "malformed"),
            (lambda path: version(path, 99), "it is of version 99, and this is version 1"),
            (lambda path: version(path, 0), "it is of version 0"),
        ],
        ids=["rubbish", "pages", "newer", "older"],
    )
    async def test_what_cannot_be_used_is_put_aside_and_a_new_one_begins(
        self, house: House, log_lines: Any, spoil: Callable[[Path], None], why: str
    ) -> None:
        store = house.store()
        keep(store, KEY, b"hello")
        keep(store, b"large", LARGE)
        await settled(store)
        await house.close()
        spoil(house.folder / "index.db")
        store = house.store()
        assert await find(store) == ()
        keep(store, KEY, b"new")
        await settled(store)
        assert await bodies(store) == [b"new"]
        assert len(log_lines.matching("cannot be used")) == 1
        assert why in log_lines.text
        assert "put aside as index.db.aside" in log_lines
        assert (house.folder / "index.db.aside").exists()
        await tidied(store)
        assert not house.files()  # bodies that no index names any more

    async def test_what_is_damaged_while_it_is_open_is_put_aside_too(self, house: House, log_lines: Any) -> None:
        store = house.store()
        for number in range(300):
            keep(store, b"%d" % number, b"x" * 3000)
        await settled(store)
        await house.close()
        store = house.store()
        assert await bodies(store, b"7") == [b"x" * 3000]
        path = house.folder / "index.db"
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        for number in range(300):
            assert await bodies(store, b"%d" % number) in ([], [b"x" * 3000])
        keep(store, KEY, b"new")
        await settled(store)
        keep(store, KEY, b"newer")
        assert await bodies(store) == [b"newer"]
        assert "cannot be used" in log_lines


def version(path: Path, number: int) -> None:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version={number}")
    database.close()


async def test_more_large_ones_than_files_may_be_open_are_read_all_the_same(house: House) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    store = house.store()
    for number in range(300):
        keep(store, b"%d" % number, LARGE[number : number + 70_000])
        if number % 50 == 0:
            await settled(store)
    held = [(await find(store, b"%d" % number))[0] for number in range(300)]
    await tidied(store)  # those of the writers are closed
    assert 250 < len(os.listdir("/proc/self/fd")) - before < 300
    for number in (0, 299):
        assert await body_of(held[number]) == LARGE[number : number + 70_000]
        store.remove(held[number])
    await settled(store)
    assert await held[0].read(0, 100) == LARGE[:100]
    with pytest.raises(CacheFault):
        await held[299].read(0, 100)
    await house.close()
    held.clear()
    assert len(os.listdir("/proc/self/fd")) <= before


class TestRestart:
    async def test_what_was_kept_is_there_after_it(self, house: House) -> None:
        store = house.store()
        keep(store, KEY, b"hello")
        keep(store, b"large", LARGE)
        keeping = store.begin(b"part", span(0, 700_000), 700_000)
        assert keeping is not None
        keeping.write(LARGE[:400_000])
        keeping.commit_part()
        await house.close()
        store = house.store()
        assert await bodies(store) == [b"hello"]
        assert await bodies(store, b"large") == [LARGE]
        (part,) = await find(store, b"part")
        rest = store.begin(b"part", span(400_000, 700_000), None, part)
        assert rest is not None
        rest.write(LARGE[400_000:])
        rest.commit()
        assert await bodies(store, b"part") == [LARGE]
        assert len(house.files()) == 2

    async def test_nobody_else_may_look_into_it(self, house: House) -> None:
        store = house.store()
        keep(store, KEY, b"hello")
        await settled(store)
        assert house.folder.stat().st_mode & 0o777 == 0o700

    async def test_a_smaller_bound_holds_at_once(self, house: House) -> None:
        store = house.store()
        for number in range(200):
            keep(store, b"%d" % number, LARGE[:50_000])
        await house.close()
        store = house.store(4 * MIB)
        done = tidied_by_itself(store, house.reactor)
        assert await find(store) == ()
        await done
        assert 0 < store.usage()[0].octets < 4 * MIB
        await house.close()
        assert house.totals_are_right()

    async def test_two_processes_see_what_the_other_keeps_and_removes(self, house: House) -> None:
        one, two = house.store(), house.store()
        keep(one, KEY, b"hello")
        keep(one, b"large", LARGE)
        await settled(one)
        assert await bodies(two) == [b"hello"]
        (kept,) = await find(two, b"large")
        two.remove(kept)
        await settled(two)
        assert await find(one, b"large") == ()
        keep(two, KEY, b"other")
        await settled(two)
        assert await bodies(one) == [b"other"]
        await house.close()
        assert house.totals_are_right()

    async def test_what_another_process_took_away_meanwhile_is_no_fault(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(disk_work, "MOST_OPEN", 0)  # a file is opened when it is read
        one, two = house.store(), house.store()
        keep(one, KEY, LARGE)
        await settled(one)
        (kept,) = await find(one)
        two.remove((await find(two))[0])
        await settled(two)
        with pytest.raises(CacheFault):
            await kept.read(0, 100)
        assert [usage.faults for store in (one, two) for usage in store.usage()] == [0, 0]

    async def test_a_part_grows_in_one_process_alone(self, house: House) -> None:
        one, two = house.store(), house.store()
        keeping = one.begin(KEY, span(0, 700_000), None)
        assert keeping is not None
        keeping.write(LARGE[:300_000])
        keeping.commit_part()
        await settled(one)
        rests = []
        for store in (one, two, one):
            (part,) = await find(store)
            rest = store.begin(KEY, span(300_000, 700_000), None, part)
            assert rest is not None
            rest.write(LARGE[300_000:])
            await rest.caught_up()
            rests.append(rest)
        assert [rest.lost for rest in rests] == [False, True, True]
        assert rests[0].commit() is not None
        assert [rest.commit() for rest in rests[1:]] == [None, None]
        assert await bodies(one) == [LARGE]


@pytest.mark.parametrize("there", [False, True], ids=["new", "made by somebody"])
async def test_nobody_else_reads_what_is_kept(house: House, there: bool) -> None:
    old = os.umask(0o022)
    try:
        if there:
            (house.folder / "bodies").mkdir(parents=True)
            for path in (house.folder, house.folder / "bodies"):
                path.chmod(0o755)
            sqlite3.connect(house.folder / "index.db").close()
            (house.folder / "index.db").touch()
            (house.folder / "index.db").chmod(0o644)
        store = house.store()
        keep(store, KEY, b"hello")
        keep(store, b"large", LARGE)
        await settled(store)
        found = {path: path.stat().st_mode & 0o777 for path in house.folder.rglob("*")}
        assert len(found) > 6
        assert {mode for path, mode in found.items() if path.is_file()} == {0o600}
        assert {mode for path, mode in found.items() if path.is_dir()} == {0o700}
    finally:
        os.umask(old)


@pytest.mark.deadline(sized(30, 300))
async def test_a_very_large_body_goes_through_in_pieces(house: House) -> None:
    """With what waits for the disk bounded, and read by another one while it comes."""
    size = sized(64, 1024) * MIB
    store = house.store(5 * size)
    block = os.urandom(MIB)
    keeping = store.begin(KEY, span(0, size), size)
    assert keeping is not None
    most = have = 0
    while keeping.size < size:
        for start in range(0, MIB, 65536):
            keeping.write(block[start : start + 65536])
        most = max(most, keeping.behind)
        if keeping.behind > MIB:
            await keeping.caught_up()
        piece = await keeping.read(have, 256 * 1024)
        assert piece == block[have % MIB : have % MIB + len(piece)]
        have += len(piece)
    assert most < 3 * MIB
    keeping.commit()
    await settled(store)
    (kept,) = await find(store)
    assert kept.size == size
    for start in (0, size // 2 - 100, size - MIB):
        assert await kept.read(start, 1000) == (block + block)[start % MIB : start % MIB + 1000]


async def test_the_index_says_how_an_entry_is_found_without_a_scan(house: House) -> None:
    store = house.store()
    keep(store, KEY, b"hello")
    await settled(store)
    await house.close()
    for question in (
        "SELECT id FROM entry WHERE hash=1 AND key=x'00' ORDER BY id DESC",
        "SELECT 1 FROM entry WHERE file='a' AND file != ''",
        "SELECT id, uses, octets FROM place WHERE queue=0 ORDER BY turn LIMIT 16",
        "DELETE FROM ghost WHERE hash=1",
    ):
        plan = " ".join(str(row[3]) for row in house.ask(f"EXPLAIN QUERY PLAN {question}"))
        assert "USING" in plan, plan
        assert "SCAN" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan
    assert DiskIndex is not None
