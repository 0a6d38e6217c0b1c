"""Checks of passwords, which are made to cost time: a few at a time in the whole process, by turns among sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

__all__ = ["AT_ONCE", "PasswordChecks"]

AT_ONCE = 2
"""Checks that run at a time, whoever wants them: more threads than that would take the processor from the reactor, and
the reactor's few threads from those who look up names."""

Next = Callable[[], "Deferred[Any] | None"]
"""Begins the next check of one who wants some; None where it wants none any more. The Deferred never fails."""


class PasswordChecks:
    """Whose turn it is. One who is asked for thousands holds up nobody but its own."""

    __slots__ = ("_running", "_wanted")

    def __init__(self) -> None:
        self._running = 0
        self._wanted: dict[Next, None] = {}

    def want(self, begin: Next) -> None:
        """Call this when a check was added to those that wait.

        :param begin: of one asker always an equal one
        """
        self._wanted.setdefault(begin)
        self._begin()

    def _begin(self) -> None:
        while self._wanted and self._running < AT_ONCE:
            begin = next(iter(self._wanted))
            del self._wanted[begin]
            self._running += 1
            check = begin()
            if check is None:
                self._running -= 1
                continue
            self._wanted.setdefault(begin)  # behind the others
            check.addBoth(self._ended)

    def _ended(self, _: object) -> None:
        self._running -= 1
        self._begin()
