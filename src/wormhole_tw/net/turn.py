"""The end of a reactor turn: where everything that was collected during it is flushed, once.

A busy connection gets many small writes in one turn (a frame each from many streams). Sending each at once costs a
system call and a TLS record apiece; sending them together at the turn's end nearly halves the CPU of a request.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["MAX_ROUNDS", "TurnEnd", "turn_end_of"]

log = Logger()

MAX_ROUNDS = 8
"""How often one flush looks again for functions that were added while it ran. A flush may make another connection want
one (a relay inside one process), which should not wait a turn; two that keep waking each other must not starve the
reactor."""

_ATTRIBUTE = "_wormhole_tw_turn_end"


class TurnEnd:
    """Runs functions at the end of the current reactor turn, with one ``callLater(0)`` a turn for all callers together.

    Each ``call(f)`` runs ``f`` once; whoever must not run twice in a turn remembers that it asked. Nothing can be
    withdrawn: a function must bear being called when its owner has closed meanwhile.
    """

    __slots__ = ("_clock", "_functions", "_hooked", "_running", "_scheduled")

    def __init__(self, reactor: IReactorTime) -> None:
        self._clock = reactor
        self._functions: list[Callable[[], object]] = []
        self._scheduled: IDelayedCall | None = None
        self._running = False
        self._hooked = False

    @property
    def pending(self) -> bool:
        """Something waits for the end of this turn."""
        return bool(self._functions)

    @property
    def running(self) -> bool:
        """The turn is ending: what is asked for now runs before it is over."""
        return self._running

    def hook(self) -> None:
        """From now on the reactor's loop calls :meth:`run` itself, after the events of each poll and before the next
        one sleeps: no ``callLater(0)`` any more."""
        self._hooked = True

    def call(self, function: Callable[[], object]) -> None:
        """Run ``function()`` at the end of this turn; during a flush, in the same flush.

        What it raises is logged and keeps no other function from running.
        """
        self._functions.append(function)
        if self._scheduled is None and not self._running and not self._hooked:
            self._scheduled = self._clock.callLater(0, self.run)

    def run(self) -> None:
        """Run what waits: the reactor's loop does, at the end of a turn."""
        self._scheduled = None
        self._running = True
        try:
            for _ in range(MAX_ROUNDS):
                functions = self._functions
                if not functions:
                    break
                self._functions = []
                for function in functions:
                    try:
                        function()
                    except Exception:  # noqa: BLE001 - one connection's bug must not lose the flush of the others
                        log.failure("a function at the end of a reactor turn failed: {function!r}", function=function)
        finally:
            self._running = False
            if self._functions and not self._hooked:
                self._scheduled = self._clock.callLater(0, self.run)


def turn_end_of(reactor: IReactorTime) -> TurnEnd:
    """The one `TurnEnd` of this reactor (or clock).

    It is kept on the reactor itself: it refers to its reactor, so a weak table would keep every test's clock for ever.
    """
    turn_end = getattr(reactor, _ATTRIBUTE, None)
    if not isinstance(turn_end, TurnEnd):
        turn_end = TurnEnd(reactor)
        setattr(reactor, _ATTRIBUTE, turn_end)
    return turn_end
