"""Who stays in a cache that cannot hold everything: hit ratios on a trace made here (``python -m benchmarks.caching``).

The trace: requests for a site's pages, few of which are wanted often (Zipf), whose favourites change slowly, and
crawlers that go over addresses which nobody else asks for.  Bodies have sizes as on the web: most are small, a few are
large.  It is the same in every run.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from time import perf_counter
from typing import Protocol

from wormhole_tw.edge.caching.queues import MOST_USES, Line, Queues

__all__ = ["POLICIES", "Trace", "measure"]

PAGES = 100_000
"""Addresses that visitors ask for."""

STEEPNESS = 0.9
"""Zipf's exponent; measured ones lie between 0.6 and 1.1."""

MEDIAN, SPREAD, MOST = 9.2, 1.4, 4 * 1024 * 1024
"""Of a body: the logarithm of the median octets (10 KB), its deviation, and the most."""


@dataclass(frozen=True)
class Trace:
    """What is asked for.

    :ivar crawled: the part of the requests that crawlers make
    :ivar drift: requests after which one favourite changes its place with another page
    """

    requests: int = 1_000_000
    crawled: float = 0.3
    drift: int = 50
    seed: int = 1

    def read(self) -> Iterator[tuple[int, int]]:
        """Address and octets of each request."""
        random = Random(self.seed)
        sums = list(accumulate((rank + 1) ** -STEEPNESS for rank in range(PAGES)))
        pages = list(range(PAGES))
        random.shuffle(pages)
        crawling, fresh = 0, PAGES
        for number in range(self.requests):
            if crawling:
                crawling -= 1
                fresh += 1
                yield fresh, size_of(fresh)
                continue
            if random.random() < self.crawled / (1000 * (1 - self.crawled) + 1):
                crawling = 1000
            if number % self.drift == 0:
                one, other = random.randrange(100), random.randrange(PAGES)
                pages[one], pages[other] = pages[other], pages[one]
            page = pages[bisect_left(sums, random.random() * sums[-1])]
            yield page, size_of(page)


def size_of(address: int) -> int:
    """Octets of what is there, always the same."""
    return int(min(Random(address * 2654435761).lognormvariate(MEDIAN, SPREAD), MOST)) + 500


class Cache(Protocol):
    """One that is compared."""

    def ask(self, address: int, size: int) -> bool:
        """Whether it is there; it is afterwards."""


class Lru:
    """What was not used for longest goes first."""

    again = True

    def __init__(self, limit: int) -> None:
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._limit = limit
        self._octets = 0

    def ask(self, address: int, size: int) -> bool:
        """See Cache."""
        if address in self._kept:
            if self.again:
                self._kept.move_to_end(address)
            return True
        self._kept[address] = size
        self._octets += size
        while self._octets > self._limit:
            self._octets -= self._kept.popitem(last=False)[1]
        return False


class Fifo(Lru):
    """What came first goes first."""

    again = False


class _Item:
    __slots__ = ("cost", "earlier", "ghost", "later", "queue", "uses")

    def __init__(self, address: int, size: int) -> None:
        self.ghost = address
        self.cost = size
        self.uses = 0
        self.queue: Line | None = None


class Ours:
    """What the stores have: :mod:`wormhole_tw.edge.caching.queues`."""

    def __init__(self, limit: int) -> None:
        self._queues = Queues(limit)
        self._kept: dict[int, _Item] = {}
        self._limit = limit

    def ask(self, address: int, size: int) -> bool:
        """See Cache."""
        item = self._kept.get(address)
        if item is not None:
            if item.uses < MOST_USES:
                item.uses += 1
            return True
        item = self._kept[address] = _Item(address, size)
        self._queues.add(item)
        while self._queues.octets > self._limit:
            del self._kept[self._queues.evict().ghost]
        return False


POLICIES: dict[str, type[Lru] | type[Ours]] = {"FIFO": Fifo, "LRU": Lru, "ours": Ours}


def measure(trace: Trace, limits: list[int]) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Of each policy and limit: hits a request, octets that came from it, and microseconds a request.

    The first fifth of the trace warms up.
    """
    asked = list(trace.read())
    warm = len(asked) // 5
    found = {}
    for name, make in POLICIES.items():
        for limit in limits:
            cache: Cache = make(limit)
            for address, size in asked[:warm]:
                cache.ask(address, size)
            begun = perf_counter()
            hits = [size for address, size in asked[warm:] if cache.ask(address, size)]
            took = perf_counter() - begun
            visitors = [size for address, size in asked[warm:] if address < PAGES]
            found[name, limit] = len(hits) / len(visitors), sum(hits) / sum(visitors), took / len(asked[warm:]) * 1e6
    return found


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caching", description=__doc__)
    parser.add_argument("--requests", type=int, default=Trace.requests, help="length of the trace")
    parser.add_argument("--crawled", type=float, nargs="*", default=[0.0, 0.3], help="the part that crawlers ask for")
    parser.add_argument("--mib", type=int, nargs="*", default=[32, 128, 512], help="sizes of the cache")
    chosen = parser.parse_args(arguments)
    limits = [mib * 1024 * 1024 for mib in chosen.mib]
    print("| crawlers | cache | " + " | ".join(f"{name}: hits | octets | µs" for name in POLICIES) + " |")
    print("|---|---|" + "---|" * (3 * len(POLICIES)))
    for crawled in chosen.crawled:
        found = measure(Trace(chosen.requests, crawled), limits)
        for limit in limits:
            figures = (found[name, limit] for name in POLICIES)
            cells = " | ".join(f"{hits:.1%} | {octets:.1%} | {took:.2f}" for hits, octets, took in figures)
            print(f"| {crawled:.0%} | {limit // 1024 // 1024} MiB | {cells} |")


if __name__ == "__main__":
    main(sys.argv[1:])
