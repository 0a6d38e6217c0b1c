"""How late the reactor comes to what is due: the one figure that says whether a process has too much to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["EVERY", "LoopDelay"]

EVERY = 0.5
"""Seconds between two looks: often enough to meet any pause of a second, and nothing of a core."""


class LoopDelay:
    """Looks at the clock every half second, and says by how much it was late.

    :param clock: the reactor
    :param observe: is told each delay in seconds
    """

    __slots__ = ("_call", "_clock", "_due", "_observe")

    def __init__(self, clock: IReactorTime, observe: Callable[[float], object]) -> None:
        self._clock = clock
        self._observe = observe
        self._due = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin; nothing where it runs already."""
        if self._call is None:
            self._arm()

    def stop(self) -> None:
        """End; safe to call twice."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _arm(self) -> None:
        self._due = self._clock.seconds() + EVERY
        self._call = self._clock.callLater(EVERY, self._look)

    def _look(self) -> None:
        self._observe(self._clock.seconds() - self._due)
        self._arm()
