"""What active checks say of an upstream: well or not, and when to look again.  Sans-IO; chance is an argument."""

from __future__ import annotations

from random import Random

from .balancing import HealthCheck

__all__ = ["Verdict"]

JITTER = 0.1
"""How much sooner or later than the interval the next check comes, so that many edges do not ask in step."""

FIRST_WITHIN = 1.0
"""Seconds within which the first check comes: at an edge's start everybody's would come at the same moment."""


class Verdict:
    """Well at first; not after so many failed checks in a row; well again after so many that passed.

    :ivar well: as of the last check
    """

    __slots__ = ("_row", "_settings", "well")

    def __init__(self, settings: HealthCheck) -> None:
        self._settings = settings
        self._row = 0  # checks in a row that said otherwise
        self.well = True

    def note(self, passed: bool) -> bool:
        """A check has passed or failed; gives whether the verdict changed."""
        if passed is self.well:
            self._row = 0
            return False
        self._row += 1
        if self._row < (self._settings.healthy if passed else self._settings.unhealthy):
            return False
        self._row = 0
        self.well = passed
        return True

    def first(self, random: Random) -> float:
        """Seconds to the first check."""
        return random.random() * min(FIRST_WITHIN, self._settings.interval)

    def wait(self, random: Random) -> float:
        """Seconds from one check's end to the next."""
        return self._settings.interval * (1.0 - JITTER + 2.0 * JITTER * random.random())
