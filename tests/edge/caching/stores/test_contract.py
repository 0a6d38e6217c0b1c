"""What every store of answers does: those that stand in the package."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.edge.caching.answers import HTML, KEY, PATIENCE, bodies, body_of, find, keep, settled, span, stored
from wormhole_tw.edge.caching.coming import Coming
from wormhole_tw.edge.caching.stores import StoreSettings, make_store, names
from wormhole_tw.edge.interfaces import ICacheStore, IKeeping, IKept
from wormhole_tw.errors import CacheFault, MisuseError

MIB = 1024 * 1024
LARGE = os.urandom(700_000)
"""More than any store keeps beside its index."""


@pytest_twisted.async_yield_fixture(params=names())
async def store(request: pytest.FixtureRequest, reactor: Any, tmp_path: Path) -> AsyncIterator[ICacheStore]:
    """Each of them, with room for some."""
    settings = StoreSettings(reactor, 16 * MIB, 64 * MIB, tmp_path / "cache", late=PATIENCE)
    made = make_store(settings, request.param)
    yield made
    await made.close()


def test_one_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(MisuseError, match=r"no store of answers is called dreams; there are .*memory"):
        make_store(StoreSettings(), "dreams")


def test_the_settings_say_which_is_wanted(tmp_path: Path) -> None:
    assert StoreSettings().wanted == "memory"
    assert StoreSettings(path=tmp_path).wanted == "layered"
    assert StoreSettings(path=tmp_path, memory=0).wanted == "disk"


class TestKeeping:
    async def test_is_a_store(self, store: ICacheStore) -> None:
        assert ICacheStore.providedBy(store)
        assert await find(store) == ()
        keeping = store.begin(KEY, stored(), 5)
        assert keeping is not None
        assert IKeeping.providedBy(keeping)
        keeping.write(b"hello")
        kept = keeping.commit()
        assert IKept.providedBy(kept)
        assert IKept.providedBy((await find(store))[0])

    async def test_what_was_committed_is_found(self, store: ICacheStore) -> None:
        kept = keep(store, KEY, b"hello", status=404, reason=b"Nope", tags=(b"a", b"b"))
        assert kept is not None
        assert (kept.stored.length, kept.size, await body_of(kept)) == (5, 5, b"hello")
        (found,) = await find(store)
        assert found.key == KEY
        assert found.stored == stored(status=404, reason=b"Nope", tags=(b"a", b"b"), length=5)
        assert (found.size, found.prepared, await body_of(found)) == (5, None, b"hello")
        assert await find(store, KEY + b"x") == ()

    async def test_an_empty_body_is_a_body(self, store: ICacheStore) -> None:
        keep(store, KEY, b"", status=301)
        (found,) = await find(store)
        assert (found.stored.status, found.stored.length, found.body) == (301, 0, b"")
        assert await found.read(0, 100) == b""

    async def test_a_large_one_comes_in_pieces_and_goes_in_pieces(self, store: ICacheStore) -> None:
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        for start in range(0, len(LARGE), 9999):
            keeping.write(LARGE[start : start + 9999])
            if keeping.behind > MIB:
                await keeping.caught_up()
        assert keeping.size == len(LARGE)
        kept = keeping.commit()
        assert kept is not None
        assert await body_of(kept) == LARGE
        assert await bodies(store) == [LARGE]
        (found,) = await find(store)
        for start in (0, 1, 65535, 65536, 300_000, len(LARGE) - 1):
            piece = await found.read(start, 1000)
            assert piece == LARGE[start : start + len(piece)]
            assert piece
        assert await found.read(len(LARGE), 10) == b""

    async def test_nobody_finds_what_is_not_committed(self, store: ICacheStore) -> None:
        for size in (10, len(LARGE)):
            keeping = store.begin(KEY, stored(), None)
            assert keeping is not None
            keeping.write(LARGE[:size])
            await keeping.caught_up()
            assert await find(store) == ()
            keeping.abandon()
            assert keeping.lost
            assert keeping.commit() is None
            assert await find(store) == ()
        await settled(store)
        assert {usage.entries for usage in store.usage()} == {0}
        assert {usage.octets for usage in store.usage()} == {0}

    async def test_others_read_what_has_come_so_far(self, store: ICacheStore) -> None:
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        have = b""
        for start in range(0, len(LARGE), 100_000):
            keeping.write(LARGE[start : start + 100_000])
            while len(have) < keeping.size:
                piece = await keeping.read(len(have), 65536)
                assert piece
                have += piece
            assert await keeping.read(len(have), 100) == b""
        keeping.commit()
        assert have == LARGE
        assert await keeping.read(len(LARGE) - 5, 100) == LARGE[-5:]

    async def test_who_reads_what_is_given_up_is_told(self, store: ICacheStore) -> None:
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        keeping.write(b"hello")
        keeping.abandon()
        with pytest.raises(CacheFault):
            await keeping.read(0, 5)
        await keeping.caught_up()

    async def test_ending_twice_does_nothing(self, store: ICacheStore) -> None:
        keeping = store.begin(KEY, stored(), 5)
        assert keeping is not None
        keeping.write(b"hello")
        assert keeping.commit() is not None
        keeping.write(b" world")
        keeping.abandon()
        assert keeping.commit() is None
        assert keeping.commit_part() is None
        assert await bodies(store) == [b"hello"]

    async def test_what_is_too_large_is_not_taken(self, store: ICacheStore) -> None:
        assert store.begin(KEY, stored(), store.largest + 1) is None
        keeping = store.begin(KEY, stored(), None)
        assert keeping is not None
        piece = bytes(MIB)
        while not keeping.lost:
            keeping.write(piece)
            await keeping.caught_up()
            assert keeping.size <= store.largest + MIB
        assert keeping.commit() is None
        assert await find(store) == ()

    async def test_what_is_found_is_good_for_as_long_as_it_is_held(self, store: ICacheStore) -> None:
        keep(store, KEY, LARGE)
        (found,) = await find(store)
        first = await found.read(0, 1000)
        store.remove(found)
        assert await find(store) == ()
        assert first + await found.read(1000, 1000) == LARGE[:2000]


class TestVariants:
    EN = ((b"accept-language", b"en"),)
    DE = ((b"accept-language", b"de"),)

    async def test_lie_beside_one_another(self, store: ICacheStore) -> None:
        keep(store, KEY, b"hello", vary=self.EN)
        keep(store, KEY, b"hallo", vary=self.DE)
        assert await bodies(store) == [b"hallo", b"hello"]
        assert [kept.stored.vary for kept in await find(store)] == [self.DE, self.EN]

    async def test_a_new_one_takes_the_place_of_its_like(self, store: ICacheStore) -> None:
        keep(store, KEY, b"hello", vary=self.EN)
        keep(store, KEY, b"hallo", vary=self.DE)
        keep(store, KEY, b"hi", vary=self.EN)
        assert await bodies(store) == [b"hi", b"hallo"]
        assert {usage.entries for usage in store.usage()} == {2}

    async def test_there_are_not_endlessly_many(self, store: ICacheStore) -> None:
        for number in range(200):
            keep(store, KEY, b"%d" % number, vary=((b"cookie", b"%d" % number),))
        found = await bodies(store)
        assert found == [b"%d" % number for number in range(199, 199 - len(found), -1)]
        assert len(found) == 64

    async def test_one_is_refreshed_and_the_other_stays(self, store: ICacheStore) -> None:
        keep(store, KEY, b"hello", vary=self.EN)
        keep(store, KEY, LARGE, vary=self.DE)
        for kept in await find(store):
            if kept.stored.vary == self.DE:
                kept.prepared = "head"
                store.refresh(kept, stored(vary=self.DE, length=len(LARGE), fields=(HTML, (b"x-new", b"yes"))))
                assert kept.stored.field(b"x-new") == b"yes"
                assert kept.prepared is None
        assert [kept.stored.field(b"x-new") for kept in await find(store)] == [b"yes", None]
        assert await bodies(store) == [LARGE, b"hello"]

    async def test_what_is_gone_is_neither_refreshed_nor_removed(self, store: ICacheStore) -> None:
        kept = keep(store, KEY, b"one")
        assert kept is not None
        keep(store, KEY, b"two")
        store.refresh(kept, stored(fields=(), length=3))
        store.remove(kept)
        assert await bodies(store) == [b"two"]
        assert (await find(store))[0].stored == stored(length=3)

    async def test_one_is_removed(self, store: ICacheStore) -> None:
        keep(store, KEY, b"hello", vary=self.EN)
        keep(store, KEY, b"hallo", vary=self.DE)
        store.remove((await find(store))[0])
        assert await bodies(store) == [b"hello"]
        store.remove((await find(store))[0])
        assert await find(store) == ()
        assert {usage.octets for usage in store.usage()} == {0}


class TestPreparing:
    """What a reader has noted on an answer is there for as long as a look would find that answer, and it alone."""

    async def noted(self, store: ICacheStore) -> IKept | None:
        """One that is found at once, with a note; None where this store finds nothing so."""
        keep(store, KEY, b"hello", vary=TestVariants.EN)
        keep(store, b"another", b"hello")
        for _ in range(2):  # the first may raise it into memory
            await find(store)
        found = store.find(KEY)
        if isinstance(found, Deferred):
            await found
            return None
        [kept] = found
        kept.prepared = "head"
        return kept

    async def test_nothing_else_takes_it_away(self, store: ICacheStore) -> None:
        kept = await self.noted(store)
        keep(store, b"a third", b"hello")
        [another] = await find(store, b"another")
        store.remove(another)
        await find(store)
        assert kept is None or kept.prepared == "head"

    @pytest.mark.parametrize("what", ["removed", "replaced", "beside", "refreshed", "swept", "crowded out"])
    async def test_it_is_gone_when_it_is_not_found_alone(self, store: ICacheStore, what: str) -> None:
        kept = await self.noted(store)
        if kept is None:
            return
        if what == "removed":
            store.remove(kept)
        elif what == "replaced":
            keep(store, KEY, b"again", vary=TestVariants.EN)
        elif what == "beside":
            keep(store, KEY, b"hallo", vary=TestVariants.DE)
        elif what == "refreshed":
            store.refresh(kept, kept.stored)
        elif what == "swept":
            await store.sweep(lambda key, _: key == KEY)
        else:
            for number in range(200):
                keep(store, b"%d" % number, LARGE)
                for _ in range(3):  # it is asked for, which the first one is not any more
                    await find(store, b"%d" % number)
        assert kept.prepared is None


class TestSpans:
    SIZE = 600_000

    def part(
        self, store: ICacheStore, first: int, end: int, after: IKept | None = None, **changes: Any
    ) -> IKept | None:
        keeping = store.begin(KEY, span(first, self.SIZE, **changes), end - first, after)
        assert keeping is not None
        keeping.write(LARGE[first:end])
        return keeping.commit_part()

    async def test_what_came_before_the_end_is_kept(self, store: ICacheStore) -> None:
        keeping = store.begin(KEY, span(0, self.SIZE), self.SIZE)
        assert keeping is not None
        keeping.write(LARGE[:1000])
        kept = keeping.commit_part()
        assert kept is not None
        assert (kept.size, kept.stored.first, kept.stored.length) == (1000, 0, self.SIZE)
        assert await bodies(store) == [LARGE[:1000]]

    @pytest.mark.parametrize(
        "changes", [{"length": None}, {"etag": b""}, {"etag": b'W/"one"'}], ids=["length", "none", "weak"]
    )
    async def test_nothing_is_kept_of_what_the_rest_cannot_be_asked_for(
        self, store: ICacheStore, changes: dict[str, Any]
    ) -> None:
        keeping = store.begin(KEY, stored(**({"length": 5000} | changes)), 5000)
        assert keeping is not None
        keeping.write(LARGE[:1000])
        assert keeping.commit_part() is None
        assert await find(store) == ()

    async def test_nothing_is_no_part(self, store: ICacheStore) -> None:
        keeping = store.begin(KEY, span(0, self.SIZE), self.SIZE)
        assert keeping is not None
        assert keeping.commit_part() is None
        assert await find(store) == ()

    async def test_two_lie_beside_one_another_and_a_larger_one_takes_their_place(self, store: ICacheStore) -> None:
        self.part(store, 0, 1000)
        self.part(store, 300_000, 500_000)
        assert await bodies(store) == [LARGE[300_000:500_000], LARGE[:1000]]
        self.part(store, 300_500, 400_000)
        assert await bodies(store) == [LARGE[300_000:500_000], LARGE[:1000]]
        self.part(store, 300_000, 500_001)
        assert await bodies(store) == [LARGE[300_000:500_001], LARGE[:1000]]
        keep(store, KEY, LARGE[: self.SIZE])
        assert await bodies(store) == [LARGE[: self.SIZE]]
        self.part(store, 300_000, 500_000)
        assert await bodies(store) == [LARGE[: self.SIZE]]

    async def test_a_span_of_another_representation_takes_the_place_of_all(self, store: ICacheStore) -> None:
        self.part(store, 0, 1000)
        self.part(store, 300_000, 500_000)
        self.part(store, 2000, 3000, etag=b'"two"')
        assert await bodies(store) == [LARGE[2000:3000]]

    @pytest.mark.parametrize("cut", [1000, 65_536, 100_000, 400_000])
    async def test_one_goes_on_where_another_ends(self, store: ICacheStore, cut: int) -> None:
        first = self.part(store, 0, cut)
        rest = store.begin(KEY, span(cut, self.SIZE), self.SIZE - cut, first)
        assert rest is not None
        assert rest.size == cut
        rest.write(LARGE[cut : self.SIZE - 5])
        rest.write(LARGE[self.SIZE - 5 : self.SIZE])
        assert await rest.read(cut - 10, 10) == LARGE[cut - 10 : cut]
        kept = rest.commit()
        assert kept is not None
        assert (kept.stored.first, kept.size) == (0, self.SIZE)
        assert await bodies(store) == [LARGE[: self.SIZE]]

    async def test_what_it_went_on_from_stays_where_it_is_given_up(self, store: ICacheStore) -> None:
        first = self.part(store, 0, 100_000)
        rest = store.begin(KEY, span(100_000, self.SIZE), None, first)
        assert rest is not None
        rest.write(LARGE[100_000:200_000])
        rest.abandon()
        assert await bodies(store) == [LARGE[:100_000]]
        (found,) = await find(store)
        again = store.begin(KEY, span(100_000, self.SIZE), None, found)
        assert again is not None
        again.write(LARGE[100_000:300_000])
        again.commit_part()
        assert await bodies(store) == [LARGE[:300_000]]


class TestSweep:
    async def test_forgets_what_is_gone_and_nothing_else(self, store: ICacheStore) -> None:
        for number in range(1000):
            keep(store, b"%d" % number, b"x" * number, born=number)
        keep(store, b"large", LARGE, born=0)
        seen: set[bytes] = set()

        def gone(key: bytes, stored: Any) -> bool:
            seen.add(key)
            return stored.born < 500

        places = len(store.usage())
        assert await store.sweep(gone) == 501 * places
        assert seen == {b"large", *(b"%d" % number for number in range(1000))}
        assert {usage.entries for usage in store.usage()} == {500}
        assert await find(store, b"499") == ()
        assert await find(store, b"large") == ()
        assert await bodies(store, b"500") == [b"x" * 500]

    async def test_may_be_given_up(self, store: ICacheStore, logged_failures: Any) -> None:
        for number in range(1000):
            keep(store, b"%d" % number, b"x")
        sweeping = store.sweep(lambda key, stored: False)
        sweeping.addErrback(lambda failure: None)
        sweeping.cancel()


class TestBounds:
    async def test_hold_whatever_comes(self, store: ICacheStore) -> None:
        most = {usage.place: usage.limit for usage in store.usage()}
        for number in range(400):
            keep(store, b"key %d" % number, LARGE[: (number * 7919) % 500_000])
            if number % 20 == 0:
                await settled(store)
            assert all(usage.octets <= most[usage.place] for usage in store.usage())
        await settled(store)
        for usage in store.usage():
            assert usage.evicted > 10
            assert most[usage.place] * 0.5 < usage.octets <= most[usage.place]

    async def test_hold_for_what_comes_at_the_same_time(self, store: ICacheStore) -> None:
        """None of it has begun to count when the last of it is begun."""
        most = {usage.place: usage.limit for usage in store.usage()}
        arriving = []
        for number in range(400):
            keeping = store.begin(b"%d" % number, stored(), None)
            assert keeping is not None
            arriving.append((keeping, Coming(keeping, store.largest)))
        for start in range(0, 360_000, 60_000):
            for keeping, coming in arriving:
                coming.add(LARGE[start : start + 60_000])
                await keeping.caught_up()
                assert all(usage.octets <= most[usage.place] + 70_000 for usage in store.usage())
        for keeping, _ in arriving:
            if keeping.size and not keeping.lost:
                assert await keeping.read(0, 60_000) == LARGE[:60_000]
            keeping.abandon()
        await settled(store)
        assert all(usage.octets < 100_000 for usage in store.usage())

    async def test_what_is_asked_for_again_stays(self, store: ICacheStore) -> None:
        body = LARGE[:60_000]
        keep(store, b"front page", body)
        for number in range(2000):
            keep(store, b"crawler %d" % number, body)
            if number % 20 == 0:
                assert await bodies(store, b"front page") == [body]
                await settled(store)
        assert all(usage.evicted > 500 for usage in store.usage())
        assert await bodies(store, b"front page") == [body]
