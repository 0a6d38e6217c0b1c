"""Credit: the shared budgets, and the receiving window of a stream, which grows while the stream is busy.

The sending side of flow control is one number on the stream.  The receiving side is here: what the peer may still
send, what the application holds, what it has consumed and was not yet granted again.  The three always add up to the
window's size.
"""

from __future__ import annotations

from wormhole_tw.errors import MisuseError

__all__ = ["FAR", "LINK_BUDGET", "MARGIN", "PROCESS_BUDGET", "RTT_FLOOR", "Budget", "ReceiveWindow"]

LINK_BUDGET = 64 * 1024 * 1024
"""Octets by which all windows of a link may grow together: sixteen streams at full speed over a long path."""

PROCESS_BUDGET = 256 * 1024 * 1024
"""The same for all links of a process: an edge with a thousand agents must not promise 64 GiB."""

RTT_FLOOR = 0.0005
"""Seconds. Below this a turn of the reactor is the round trip, not the network. With more, windows on a short path grow
until milliseconds of data lie in front of a busy process, and what is urgent waits behind them."""

FAR = 0.005
"""Seconds of a round trip from which on a window is fitted to what its path carries. On a shorter one the octets of a
few round trips wait for milliseconds only, and processes that stop for as long need them to be kept busy."""

MARGIN = 1.5
"""How many times what its path carries in a round trip a far stream may have under way. What is more than once lies in
the queue of the path's narrowest place, where all that comes behind it waits; with less, a path that hesitates runs
empty."""

GAIN = 1.25
"""How many times as much must pass in a round trip once a far window is twice as large; otherwise it was not the window
that held the stream back."""

KEEPS = 0.9
"""The part of what passed that must pass still once a far window is smaller; otherwise it gets its size back."""

_FADES = 0.97
"""The part of the most that passed of late that still counts, each time that it is counted: a path, or a process, that
is slow for a second gets its window back only slowly."""

_TOO_LARGE = 1.2
"""How many times larger than it should be a window is made smaller."""

_ROUNDS = 4
"""Round trips over which it is counted what a path carries: a process that stood still for the length of one, and takes
all that waited at once, looks like a faster path in the next."""

_AGAIN = 200
"""Times so many after which it is tried again whether more would pass: the path may have become another."""

_RESTED = 0.5
"""Seconds between two grants after which the stream has rested and is counted anew: a busy process on either side, or a
path that hesitates, is not as slow."""

_NEAR_PART, _FAR_PART = 2, 8
"""The part of a window that is granted at a time. Fewer grants cost less; but what was consumed and not granted yet is
room that the window has in vain, and on a far path must have in addition."""

_LEAST = 32 * 1024
"""Octets of a far path's grant, unless half of the window is less: many streams with small windows give a WINDOW for no
fewer octets than on a near path, and the peer counts those (:data:`~wormhole_tw.wire.floods.FLOOD_LIMITS`)."""

_TRIES, _GROWN, _FITS, _SHRUNK = 0, 1, 2, 3
"""A far window may double now; it has, and the next round trip is the first that shows it; it follows its path; it was
made smaller, and if less passes now that was wrong."""


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
    :ivar pending: octets consumed and not granted again
    :ivar due: how many of those are granted
    :ivar extra: octets of growth, taken from the budget
    """

    __slots__ = (
        "_before",
        "_begun",
        "_excess",
        "_granted",
        "_left",
        "_most",
        "_passed",
        "_phase",
        "_rate",
        "_since",
        "_smaller",
        "available",
        "due",
        "extra",
        "pending",
        "size",
        "unacknowledged",
    )

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self.available = size
        self.unacknowledged = 0
        self.pending = 0
        self.due = -(-size // _NEAR_PART)
        self.extra = 0
        self._excess = 0  # of the growth, to be taken back from what would be granted
        self._since = self._granted = now  # of the last grant, and the same where a rest does not count
        self._begun = now  # of counting what passes, and what has passed since
        self._passed = 0
        self._phase = _TRIES
        self._most = 0.0  # octets a second that passed of late
        self._rate = 0.0  # octets a second that passed before the window became another
        self._before = size  # its size then
        self._left = 1  # times that the path is counted until it is tried what another size gives,
        self._smaller = True  # and whether that is a smaller one

    def received(self, amount: int, now: float) -> bool:
        """Count arrived octets; False where that is more than the peer had credit for."""
        if self.available == self.size:
            self._since = now  # after a rest the clock of "busy" starts with the first octet
            if not self._passed:
                self._begun = now
        self.available -= amount
        self.unacknowledged += amount
        return self.available >= 0

    def consumed(self, amount: int, now: float, rtt: float | None, budget: Budget, limit: int) -> int:
        """Count consumed octets; gives the increment to grant now, often 0.

        Grants come in parts of the window (:attr:`due`), so that one WINDOW covers many DATA.  A window that is what
        holds the stream back grows, up to ``limit`` and while the budget lasts.  On a near path that is one that was
        consumed within two round trips, and it doubles.  On a far one (:data:`FAR`) it doubles for as long as that lets
        more pass, and then follows what the path carries in a round trip, :data:`MARGIN` times; it becomes smaller,
        too, where no less passes then.

        :param rtt: seconds of the shortest round trip; None, and nothing grows until it is known
        :raises MisuseError: more than was received
        """
        if amount < 0 or amount > self.unacknowledged:
            raise MisuseError(f"{amount} octets acknowledged of {self.unacknowledged} received")
        self.unacknowledged -= amount
        self.pending += amount
        if self.pending < self.due:
            return 0
        wanted, far = 0, False
        if rtt is None:
            pass  # it is being measured
        elif rtt < FAR:
            if (now - self._since) * self.size < 2 * max(rtt, RTT_FLOOR) * self.pending:
                wanted = self.size
        else:
            far = True
            wanted = self._wanted(now, rtt)
        growth = min(wanted, limit - self.size)
        if growth > 0 and budget.take(growth):
            self.size += growth
            self.extra += growth
            self.pending += growth
        elif wanted > 0:
            self._phase = _FITS  # there is no more to be had
        elif self._excess:
            back = min(self._excess, self.pending)
            self._excess -= back
            self.size -= back
            self.extra -= back
            self.pending -= back
            budget.release(back)
        due = -(-self.size // _NEAR_PART)
        if far and due > _LEAST:
            due = max(-(-self.size // _FAR_PART), _LEAST)
        self.due = due
        grant = self.pending
        self.available += grant
        self.pending = 0
        self._since = self._granted = now
        return grant

    def _wanted(self, now: float, rtt: float) -> int:
        """Octets by which to grow, on a far path; what is to be taken back is noted."""
        if now - self._granted > _RESTED + rtt:
            self._begun = now
            self._passed = 0
            return 0
        self._passed += self.pending
        span = now - self._begun
        if span < (_ROUNDS * rtt if self._phase >= _FITS else rtt):
            return 0
        rate = self._passed / span
        self._begun = now
        self._passed = 0
        if self._phase == _GROWN:
            self._phase = _TRIES  # it takes a round trip until a grant is heard and answered
        elif self._phase == _TRIES:
            if rate > self._rate * GAIN:
                self._phase, self._rate = _GROWN, rate
                return self.size
            self._phase, self._left, self._smaller = _FITS, 1, True
        elif self._phase == _SHRUNK:
            self._phase, self._left = _FITS, 1
            if rate < self._rate * KEEPS:
                self._left, self._smaller = _AGAIN, False
                self._excess = 0
                return self._before - self.size
        else:
            return self._fit(rate, rtt)
        return 0

    def _fit(self, rate: float, rtt: float) -> int:
        """Octets by which to grow; now and then it is tried what another size gives."""
        size = self.size
        self._most = max(rate, self._most * _FADES)
        fitting = int(rate * rtt * MARGIN)
        if fitting >= size:
            return min(fitting - size, size)
        self._left -= 1
        if self._left:
            return 0
        enough = int(self._most * rtt * MARGIN)
        if not self._smaller:
            self._phase, self._rate = _TRIES, 0.0
        elif size > enough * _TOO_LARGE and self.extra:
            self._phase, self._rate, self._before = _SHRUNK, rate, size
            self._excess = min(self.extra, size - max(enough, size // 2))
        else:
            self._left, self._smaller = _AGAIN, False
        return 0
