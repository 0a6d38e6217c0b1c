"""The connections of an edge, and the moment when there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wormhole_tw.edge.interfaces import IDrainable

__all__ = ["Connections"]


class Connections:
    """A set of connections that says when it is empty."""

    __slots__ = ("_all", "_waiting")

    def __init__(self) -> None:
        self._all: set[IDrainable] = set()
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[IDrainable]:
        return iter(self._all)

    def __contains__(self, connection: object) -> bool:
        return connection in self._all

    def add(self, connection: IDrainable) -> None:
        """Here is one."""
        self._all.add(connection)

    def discard(self, connection: IDrainable) -> None:
        """It is over; one that is not here is ignored."""
        self._all.discard(connection)
        if not self._all and self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)

    def when_empty(self) -> Deferred[None]:
        """Fires when there is none: now, or when the last one goes.  Each caller gets its own."""
        waiter: Deferred[None] = Deferred()
        if self._all:
            self._waiting.append(waiter)
        else:
            waiter.callback(None)
        return waiter
