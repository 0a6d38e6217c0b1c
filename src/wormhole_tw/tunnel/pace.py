"""How much a link writes at a time: about what its path sends in a few milliseconds.

What is urgent waits behind what was written before it. On a fast path long writes cost less an octet and keep nobody
waiting; on a slow one they would take tenths of a second.
"""

from __future__ import annotations

__all__ = ["BITE", "BULK_BITE", "QUICK", "Pace"]

BITE = 16 * 1024
"""Octets, at first and on a slow path: one record."""

BULK_BITE = 256 * 1024
"""Octets, the most: beyond, writes cost no less."""

QUICK = 0.004
"""Seconds that a transport may take for what it holds so that bites grow; where it takes longer they shrink to what it
would have sent in this time. Nobody sees these seconds."""


class Pace:
    """One link's.

    :ivar bite: octets to write at a time
    :ivar slow: the path takes longer than :data:`QUICK` even for the smallest bites
    """

    __slots__ = ("_paused_at", "bite", "slow")

    def __init__(self) -> None:
        self.bite = BITE
        self.slow = False
        self._paused_at = 0.0

    def paused(self, now: float) -> None:
        """The transport has enough."""
        self._paused_at = now

    def resumed(self, now: float) -> bool:
        """The transport wants more; gives whether ``slow`` is another than before."""
        took = now - self._paused_at
        if took <= QUICK:
            self.faster()
            slow = False
        else:
            wanted = int(self.bite * QUICK / took)
            self.bite = max(BITE, wanted)
            slow = self.slow or wanted < BITE
        changed = slow is not self.slow
        self.slow = slow
        return changed

    def faster(self) -> None:
        """What was written has left."""
        self.bite = min(2 * self.bite, BULK_BITE)
