"""The journal of purges: what it knows after a kill, beside another process, and when it is damaged."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredQueue

from wormhole_tw.edge.caching.journal import PurgeJournal, purge_offline
from wormhole_tw.errors import CacheFault, MisuseError
from wormhole_tw.http.caching.purges import Purges

NOW = 1_790_000_000.0
HOUR = 3600.0


class House:
    """Journals over one file, as processes have them one after another or at once."""

    def __init__(self, reactor: Any, path: Path) -> None:
        self.reactor = reactor
        self.path = path
        self.time = NOW
        self.journals: list[PurgeJournal] = []

    def process(self) -> PurgeJournal:
        self.time += 1
        journal = PurgeJournal(self.reactor, self.path, lambda: self.time, waste=50)
        journal.load()
        self.journals.append(journal)
        return journal


@pytest_twisted.async_yield_fixture
async def house(reactor: Any, tmp_path: Path) -> AsyncIterator[House]:
    house = House(reactor, tmp_path / "cache" / "purges")
    yield house
    for journal in house.journals:
        await journal.close()


def covers(purges: Purges, target: bytes, born: int) -> bool:
    return purges.covers("app", b"app.example.test", target, (), born)


async def test_a_purge_holds_at_once_and_in_the_next_process(house: House) -> None:
    first = house.process()
    born = first.purges.clock
    house.time += 1
    done = first.purge("url", "app", b"/x")
    assert covers(first.purges, b"/x", born)
    clock = await done
    second = house.process()  # the first was killed, it was not closed
    assert second.purges.clock == clock
    assert covers(second.purges, b"/x", born)
    assert not covers(second.purges, b"/y", born)
    assert not covers(second.purges, b"/x", clock)


async def test_nobody_else_reads_it(house: House) -> None:
    old = os.umask(0o022)
    try:
        house.path.parent.mkdir(mode=0o755)
        await house.process().purge("url", "app", b"/secret")
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in house.path.parent.iterdir()} == {0o600}


async def test_what_was_kept_where_there_was_no_journal_is_void(house: House, log_lines: Any) -> None:
    assert covers(house.process().purges, b"/x", int(NOW * 1_000_000))
    before = house.process().purges.clock
    house.path.unlink()
    house.time += 60
    assert covers(house.process().purges, b"/x", before)
    assert not log_lines.lines


@pytest.mark.parametrize("damage", [b"rubbish", b"\0" * 100 + b"\n", b"00000000 []\n"])
async def test_a_damaged_one_is_put_aside_and_what_was_kept_is_void(
    house: House, log_lines: Any, damage: bytes
) -> None:
    first = house.process()
    clock = await first.purge("url", "app", b"/x")
    data = house.path.read_bytes()
    house.path.write_bytes(damage if damage == b"rubbish" else data + damage)
    second = house.process()
    assert covers(second.purges, b"/y", clock)
    assert "what was kept before is not used" in log_lines
    assert house.path.with_name("purges.damaged").exists()
    await second.purge("url", "app", b"/z")
    log_lines.clear()
    third = house.process()
    assert third.purges.clock == second.purges.clock
    assert not log_lines.lines


async def test_a_line_that_was_being_written_when_the_process_was_killed_is_nobodys(house: House) -> None:
    first = house.process()
    born = first.purges.clock
    await first.purge("url", "app", b"/x")
    whole = house.path.read_bytes()
    house.time += 1
    await first.purge("url", "app", b"/y")
    data = house.path.read_bytes()
    for cut in range(len(whole) + 1, len(data)):
        house.path.write_bytes(data[:cut])
        second = house.process()
        assert covers(second.purges, b"/x", born)
        assert not covers(second.purges, b"/y", born)
    await second.purge("url", "app", b"/z")
    third = house.process()
    assert [covers(third.purges, target, born) for target in (b"/x", b"/y", b"/z")] == [True, False, True]


async def test_two_processes_read_what_the_other_appended(house: House) -> None:
    one, two = house.process(), house.process()
    born = one.purges.clock
    for number in range(20):
        house.time += 1
        await (one, two)[number % 2].purge("url", "app", b"/%d" % number)
    for journal in (one, two):
        await journal.follow()
        assert all(covers(journal.purges, b"/%d" % number, born) for number in range(20))
    three = house.process()
    assert all(covers(three.purges, b"/%d" % number, born) for number in range(20))


async def test_a_process_that_watches_hears_of_it(house: House) -> None:
    one, two = house.process(), house.process()
    born = one.purges.clock
    looks: DeferredQueue[None] = DeferredQueue()
    follow = one.follow
    one.follow = lambda: follow().addCallback(looks.put)  # type: ignore[method-assign]
    one.watch()
    await two.purge("prefix", "app", b"/docs/")
    while not covers(one.purges, b"/docs/x", born):
        await looks.get()


async def test_what_is_purged_again_and_again_does_not_fill_the_disk(house: House) -> None:
    one, two = house.process(), house.process()
    born = two.purges.clock
    for number in range(250):
        house.time += 1
        one.purge("url", "app", b"/%d" % (number % 3))
        if number % 50 == 0:
            await two.purge("url", "app", b"/two %d" % number)
    await one.purge("url", "app", b"/last")
    assert house.path.read_bytes().count(b"\n") < 200
    three = house.process()
    for target in (b"/0", b"/1", b"/2", b"/last", b"/two 0", b"/two 200"):
        assert covers(three.purges, target, born), target
    await two.follow()
    assert covers(two.purges, b"/last", three.purges.clock - 1)


async def test_what_is_settled_goes_and_the_last_hour_stays(house: House) -> None:
    one = house.process()
    born = one.purges.clock
    house.time += 1
    old = await one.purge("url", "app", b"/old")
    house.time += 2 * HOUR
    await one.purge("url", "app", b"/new")
    one.settle(one.purges.clock)
    assert [covers(one.purges, target, born) for target in (b"/old", b"/new")] == [False, True]
    assert old < one.purges.clock
    for _ in range(70):
        one.purge("url", "app", b"/new")
    await one.purge("url", "app", b"/new")
    assert b"/old" not in house.path.read_bytes()


async def test_a_disk_that_takes_nothing_is_told_and_the_purge_holds_here(house: House, log_lines: Any) -> None:
    one = house.process()
    born = one.purges.clock
    house.time += 1
    lock = house.path.with_name(".purges.lock")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(CacheFault, match="it holds until the edge ends"):
        await one.purge("url", "app", b"/x")
    assert covers(one.purges, b"/x", born)
    assert "could not be recorded" in log_lines
    two = house.process()
    assert "purges cannot be recorded" in log_lines
    assert covers(two.purges, b"/anything", born)


async def test_a_file_that_somebody_removed_is_written_anew_and_all_is_void(house: House) -> None:
    one = house.process()
    house.time += 1
    await one.purge("url", "app", b"/x")
    house.path.unlink()
    house.time += 1
    await one.purge("url", "app", b"/y")
    two = house.process()
    assert covers(two.purges, b"/x", one.purges.clock - 1_000_000)


async def test_a_purge_where_no_edge_runs_is_found_by_the_next(house: House) -> None:
    purge_offline(house.path, "site", "app", b"", NOW)
    assert not house.path.exists()
    one = house.process()
    born = one.purges.clock
    await one.close()
    purge_offline(house.path, "url", "app", b"/x", house.time + 1)
    assert covers(house.process().purges, b"/x", born)
    with pytest.raises(MisuseError):
        purge_offline(house.path, "dream", "app", b"/x", NOW)
    house.path.write_bytes(b"rubbish")
    purge_offline(house.path, "url", "app", b"/x", NOW)
    assert os.listdir(house.path.parent)


async def test_what_another_process_spoils_makes_all_void(house: House, log_lines: Any) -> None:
    one = house.process()
    born = one.purges.clock
    with open(house.path, "ab") as file:
        file.write(b"rubbish\n")
    house.time += 1
    await one.follow()
    assert covers(one.purges, b"/anything", born)
    assert "what was kept before now is not used" in log_lines
    house.path.unlink()
    await one.follow()
    assert not covers(one.purges, b"/anything", one.purges.clock)
