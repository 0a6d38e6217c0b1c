"""Credit: the shared budgets, and the receiving window of a stream, which grows while the stream is busy.

The sending side of flow control is one number on the stream.  The receiving side is here: what the peer may still
send, what the application holds, what it has consumed and was not yet granted again.  The three always add up to the
window's size.
"""

from __future__ import annotations

from wormhole_tw.errors import MisuseError

__all__ = ["LINK_BUDGET", "PROCESS_BUDGET", "RTT_FLOOR", "Budget", "ReceiveWindow"]

LINK_BUDGET = 64 * 1024 * 1024
"""Octets by which all windows of a link may grow together: sixteen streams at full speed over a long path."""

PROCESS_BUDGET = 256 * 1024 * 1024
"""The same for all links of a process: an edge with a thousand agents must not promise 64 GiB."""

RTT_FLOOR = 0.0005
"""Seconds. Below this a turn of the reactor is the round trip, not the network. With more, windows on a short path grow
until milliseconds of data lie in front of a busy process, and what is urgent waits behind them."""


class Budget:
    """A shared amount, taken and given back, inside an optional larger one.

    :ivar used: what is taken now
    """

    __slots__ = ("limit", "parent", "used")

    def __init__(self, limit: int, parent: Budget | None = None) -> None:
        self.limit = limit
        self.parent = parent
        self.used = 0

    def take(self, amount: int) -> bool:
        """Take ``amount`` here and above, or nothing and False."""
        if self.used + amount > self.limit or (self.parent is not None and not self.parent.take(amount)):
            return False
        self.used += amount
        return True

    def release(self, amount: int) -> None:
        """Give back what was taken.

        :raises MisuseError: that is more than was taken
        """
        if amount > self.used:
            raise MisuseError("a budget got back more than it gave")
        self.used -= amount
        if self.parent is not None:
            self.parent.release(amount)


class ReceiveWindow:
    """What the peer may send on one stream.

    :ivar size: the window: ``available + unacknowledged + pending``, always
    :ivar available: octets that the peer may still send
    :ivar unacknowledged: octets given to the application and not consumed yet
    :ivar extra: octets of growth, taken from the budget
    """

    __slots__ = ("_since", "available", "extra", "pending", "size", "unacknowledged")

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self.available = size
        self.unacknowledged = 0
        self.pending = 0
        self.extra = 0
        self._since = now

    def received(self, amount: int, now: float) -> bool:
        """Count arrived octets; False where that is more than the peer had credit for."""
        if self.available == self.size:
            self._since = now  # after a rest the clock of "busy" starts with the first octet
        self.available -= amount
        self.unacknowledged += amount
        return self.available >= 0

    def consumed(self, amount: int, now: float, rtt: float | None, budget: Budget, limit: int) -> int:
        """Count consumed octets; gives the increment to grant now, often 0.

        Grants come in halves of the window, so that one WINDOW covers many DATA.  A window that was consumed within
        two round trips is what holds the stream back: it doubles, up to ``limit`` and while the budget lasts.

        :param rtt: seconds of the shortest round trip; None, and a stream whose application keeps up is busy
        :raises MisuseError: more than was received
        """
        if amount < 0 or amount > self.unacknowledged:
            raise MisuseError(f"{amount} octets acknowledged of {self.unacknowledged} received")
        self.unacknowledged -= amount
        self.pending += amount
        if self.pending * 2 < self.size:
            return 0
        if rtt is None:
            busy = self.unacknowledged == 0
        else:
            busy = (now - self._since) * self.size < 2 * max(rtt, RTT_FLOOR) * self.pending
        growth = min(self.size, limit - self.size)
        if busy and growth > 0 and budget.take(growth):
            self.size += growth
            self.extra += growth
            self.pending += growth
        grant = self.pending
        self.available += grant
        self.pending = 0
        self._since = now
        return grant
