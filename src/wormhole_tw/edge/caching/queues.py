"""Who stays where not all can: S3-FIFO (Yang and others, "FIFO queues are all you need for cache eviction", SOSP 2023).

Most of what visitors ask for they ask for once; kept like everything else, such answers push out those that are asked
for again and again (a crawler that goes over a whole site does it in minutes).  So what comes goes into a *small*
queue, and from there, where nobody asked for it again, out.  What was asked for again goes on into the *main* queue,
whose oldest leaves as well, unless it was used since it came or came round: then it goes round once more.  And the
names of what left the small queue are remembered for a while (*ghosts*): who comes back soon goes into the main queue
at once.

A use is one addition to a number: nothing is moved, so that a hit in memory costs nothing more.  Everything is counted
in octets.  ``python -m benchmarks.caching`` compares it with other ways; docs/caching.md has the figures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any, Protocol

__all__ = ["GHOST", "MOST_USES", "Item", "Queues"]

MOST_USES = 3
"""Uses are counted up to here: how often something goes round unused before it leaves."""

SMALL = 0.1
"""The part of the room that is for what nobody has asked for twice."""

WORTH = 1
"""Uses in the small queue that lead to the main one."""

GHOST = 112
"""Octets of memory for one name that is remembered: an int, its places in a deque and in a set."""

FEWEST_GHOSTS = 64
"""So many are remembered also where a handful of large answers is all there is room for."""


class Item(Protocol):
    """What stands in a queue.  All but ``cost`` and ``ghost`` belongs to the queues, once it was put in.

    :ivar cost: octets, unchanged while it is in
    :ivar ghost: what tells it from others
    :ivar uses: how often it was used: whoever uses it adds one, up to :data:`MOST_USES`
    :ivar queue: where it is, None where it is in none
    """

    cost: int
    uses: int
    queue: Line | None
    earlier: Any
    later: Any

    @property
    def ghost(self) -> Hashable: ...


class Line:
    """A queue of items, a ring of which it is itself the mark between the newest and the oldest."""

    __slots__ = ("count", "earlier", "later", "octets")

    def __init__(self) -> None:
        self.earlier: Any = self
        self.later: Any = self
        self.octets = 0
        self.count = 0

    def push(self, item: Any) -> None:
        item.queue = self
        newest = self.earlier
        item.earlier, item.later = newest, self
        newest.later = self.earlier = item
        self.octets += item.cost
        self.count += 1

    def drop(self, item: Any) -> None:
        item.earlier.later, item.later.earlier = item.later, item.earlier
        item.queue = item.earlier = item.later = None
        self.octets -= item.cost
        self.count -= 1


class Queues:
    """The small queue, the main queue and the ghosts.

    :param limit: octets of which the small queue's part is reckoned
    """

    def __init__(self, limit: int) -> None:
        self._small_limit = int(limit * SMALL)
        self._small = Line()
        self._main = Line()
        self._ghosts: deque[Hashable] = deque()
        self._known: set[Hashable] = set()

    @property
    def octets(self) -> int:
        """The sum of the costs of what is in."""
        return self._small.octets + self._main.octets

    @property
    def count(self) -> int:
        """How many are in."""
        return self._small.count + self._main.count

    @property
    def ghosts(self) -> int:
        """How many names are remembered: at most as many as there are items, or :data:`FEWEST_GHOSTS`."""
        return len(self._ghosts)

    def add(self, item: Any, uses: int = 0) -> None:
        """One that is new, or was away."""
        item.uses = uses
        if item.ghost in self._known:
            self._known.discard(item.ghost)
            self._main.push(item)
        else:
            self._small.push(item)

    def discard(self, item: Any) -> None:
        """One is not there any more, for reasons of its own; nothing where it is in no queue."""
        if item.queue is not None:
            item.queue.drop(item)

    def evict(self) -> Any:
        """Take out the one that is missed least, and give it; None where there is none."""
        small, main = self._small, self._main
        while small.count or main.count:
            if small.count and (small.octets > self._small_limit or not main.count):
                item = small.later
                small.drop(item)
                if item.uses >= WORTH:
                    item.uses = 0
                    main.push(item)
                    continue
                self._remember(item.ghost)
                return item
            item = main.later
            main.drop(item)
            if item.uses:
                item.uses -= 1
                main.push(item)
                continue
            return item
        return None

    def _remember(self, ghost: Hashable) -> None:
        if ghost not in self._known:
            self._known.add(ghost)
            self._ghosts.append(ghost)
        most = max(self.count, FEWEST_GHOSTS)
        while len(self._ghosts) > most:
            self._known.discard(self._ghosts.popleft())
