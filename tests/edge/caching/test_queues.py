"""Who stays where not all can."""

from __future__ import annotations

from random import Random

import pytest
from benchmarks.caching import PAGES, Trace, measure, size_of

from tests._support import sized
from wormhole_tw.edge.caching.queues import MOST_USES, Line, Queues

MIB = 1024 * 1024


class Item:
    def __init__(self, name: str, cost: int = 10) -> None:
        self.ghost = name
        self.cost = cost
        self.uses = 0
        self.queue: Line | None = None


class Cache:
    """Room for so many octets, as a store has it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.queues = Queues(limit)
        self.items: dict[str, Item] = {}

    def use(self, name: str) -> None:
        self.items[name].uses = min(MOST_USES, self.items[name].uses + 1)

    def add(self, name: str, cost: int = 10) -> list[str]:
        """Who had to go for it."""
        item = self.items[name] = Item(name, cost)
        self.queues.add(item)
        gone = []
        while self.queues.octets > self.limit:
            gone.append(self.queues.evict().ghost)
            del self.items[gone[-1]]
        return gone


def test_what_nobody_asked_for_again_goes_in_the_order_in_which_it_came() -> None:
    cache = Cache(100)
    assert [cache.add(f"{number}") for number in range(13)] == [[]] * 10 + [["0"], ["1"], ["2"]]


def test_what_was_asked_for_again_stays_when_others_pass() -> None:
    cache = Cache(100)
    cache.add("wanted")
    cache.use("wanted")
    for number in range(100):
        assert "wanted" not in cache.add(f"{number}")
    assert cache.queues.count == len(cache.items) == 10


def test_who_comes_back_soon_was_not_forgotten() -> None:
    cache = Cache(100)
    for number in range(11):
        cache.add(f"{number}")
    assert "0" not in cache.items
    cache.add("0")  # its name is remembered: it is not for once
    for number in range(100, 200):
        cache.add(f"{number}")
    assert "0" in cache.items


def test_what_is_not_used_any_more_goes_in_the_end() -> None:
    cache = Cache(100)
    for number in range(10):
        cache.add(f"old {number}")
        for _ in range(5):
            cache.use(f"old {number}")
    for number in range(200):
        cache.add(f"new {number}")
        cache.use(f"new {number}")
    assert not any(name.startswith("old") for name in cache.items)


def test_names_are_not_remembered_for_ever() -> None:
    cache = Cache(1000)
    for number in range(10_000):
        cache.add(f"{number}")
    assert 64 <= cache.queues.ghosts <= 100
    cache.add("large", 990)
    cache.add("another", 10)
    cache.add("one more", 10)
    assert cache.queues.ghosts <= 64


def test_nothing_is_taken_out_of_nothing() -> None:
    queues = Queues(100)
    assert queues.evict() is None
    item = Item("one")
    queues.add(item)
    queues.discard(item)
    queues.discard(item)
    assert (queues.octets, queues.count, queues.evict()) == (0, 0, None)


def test_the_sums_stay_right_whatever_happens() -> None:
    random = Random(2)
    cache = Cache(5000)
    for number in range(5000):
        name = f"{random.randrange(300)}"
        if name in cache.items and random.random() < 0.5:
            cache.use(name)
        elif name in cache.items:
            cache.queues.discard(cache.items.pop(name))
        else:
            cache.add(name, random.randrange(1, 200))
        assert cache.queues.octets == sum(item.cost for item in cache.items.values()) <= cache.limit, number
        assert cache.queues.count == len(cache.items)


@pytest.mark.parametrize(("crawled", "better"), sized([(0.3, 0.05)], [(0.0, 0.03), (0.3, 0.05)]))
def test_more_requests_hit_than_where_the_least_recently_used_goes(crawled: float, better: float) -> None:
    """The trace that docs/caching.md has the figures of, shortened."""
    found = measure(Trace(sized(25_000, 400_000), crawled), [16 * MIB])
    ours, least_recent = found["ours", 16 * MIB], found["LRU", 16 * MIB]
    assert ours[0] > least_recent[0] + better
    assert ours[1] > least_recent[1] + better


def test_the_trace_is_the_same_each_time() -> None:
    trace = list(Trace(3000, 0.5).read())
    assert trace == list(Trace(3000, 0.5).read())
    assert all(size == size_of(address) for address, size in trace)
    assert 500 < sum(address >= PAGES for address, _ in trace) < 2900
