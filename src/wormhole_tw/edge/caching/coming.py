"""The octets of an answer on their way from the origin into the store, and to those who wait for them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from wormhole_tw.edge.interfaces import IKeeping

__all__ = ["BEHIND", "TAIL", "Coming"]

TAIL = 256 * 1024
"""Octets of an answer that are held here: what the fastest wait for; and where nothing is stored, all that is ahead of
the slowest."""

BEHIND = 1024 * 1024
"""Octets that may wait for the disk before no more is read from the origin."""


class Coming:
    """See the module.  Positions are counted as the store counts them: from the first octet that is kept.

    :ivar keeping: the answer in the store; None where it is not stored
    :ivar total: the position before which all has come
    :ivar stores: more of it is stored
    """

    __slots__ = ("_held", "_largest", "_tail", "_tail_start", "keeping", "stores", "total")

    def __init__(self, keeping: IKeeping | None, largest: int) -> None:
        """
        :param largest: octets of the largest answer that the store takes
        """
        self.keeping = keeping
        self.stores = keeping is not None
        self.total = self._tail_start = 0 if keeping is None else keeping.size
        self._largest = largest
        self._tail: deque[bytes] = deque()
        self._held = 0

    def add(self, data: bytes) -> bool:
        """A piece has come.

        :returns: False where from here on nothing of it is stored any more
        """
        self.total += len(data)
        self._tail.append(data)
        self._held += len(data)
        keeping = self.keeping
        if not self.stores or keeping is None:
            return True
        if keeping.size + len(data) > self._largest or keeping.crowded:
            # those who are behind still read from there what came before
            self.stores = False
            return False
        keeping.write(data)
        if not keeping.lost:
            while self._held > TAIL and len(self._tail) > 1:
                self._drop_oldest()
            return True
        self.keeping = None
        self.stores = False
        return False

    def trim(self, slowest: int) -> None:
        """Let go of what all have read, where nothing is stored.

        :param slowest: the position of who has read least
        """
        if self.stores:
            return
        kept = 0 if self.keeping is None else self.keeping.size
        tail = self._tail
        while tail:
            end = self._tail_start + len(tail[0])
            if end > slowest and end > kept:
                break
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        size = len(self._tail.popleft())
        self._held -= size
        self._tail_start += size

    @property
    def room(self) -> bool:
        """More may come."""
        if self.stores and self.keeping is not None:
            return self.keeping.behind < BEHIND
        return self._held < TAIL

    def has(self, position: int) -> bool:
        """Whether what begins there can still be read, once it has come."""
        return self.keeping is not None or position >= self._tail_start

    def piece(self, position: int, most: int) -> bytes | Deferred[bytes] | None:
        """At most so many octets from there on; None where they have not come yet.

        A Deferred fails with :class:`~wormhole_tw.errors.CacheFault` where the store has lost them.
        """
        if position >= self.total:
            return None
        start = self._tail_start
        if position >= start:
            for data in self._tail:
                end = start + len(data)
                if position < end:
                    whole = position == start and len(data) <= most
                    return data if whole else data[position - start : position - start + most]
                start = end
        keeping = self.keeping
        assert keeping is not None
        return keeping.read(position, min(most, self.total - position))
