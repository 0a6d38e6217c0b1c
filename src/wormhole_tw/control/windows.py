"""How often something happened, and how often it failed, in the last seconds; the breaker and the retry budget on it.

Time is an argument everywhere: seconds on a clock that does not go back.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

__all__ = ["Breaker", "BreakerState", "RetryBudget", "Window"]

PARTS = 10
"""Into how many parts a window is cut: what is a tenth of it too old is forgotten."""

REMEMBERED = 10.0
"""Seconds whose requests a retry budget is a share of."""


class Window:
    """Counts of the last seconds.

    :param seconds: how long it is, at least; a tenth more at most
    """

    __slots__ = ("_parts", "_width", "failed", "total")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / PARTS
        self._parts: deque[list[int]] = deque()  # [number of the part, total, failed]
        self.total = 0
        self.failed = 0

    def note(self, now: float, failed: int, total: int = 1) -> None:
        """So many more, of which so many failed."""
        number = int(now / self._width)
        parts = self._parts
        if not parts or parts[-1][0] != number:
            self.look(now)
            parts.append([number, 0, 0])
        last = parts[-1]
        last[1] += total
        last[2] += failed
        self.total += total
        self.failed += failed

    def look(self, now: float) -> None:
        """Forget what is too old."""
        oldest = int(now / self._width) - PARTS
        parts = self._parts
        while parts and parts[0][0] < oldest:
            _, total, failed = parts.popleft()
            self.total -= total
            self.failed -= failed

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self.total = self.failed = 0


class BreakerState(Enum):
    """Of a circuit breaker."""

    CLOSED = "closed"
    """requests pass"""
    OPEN = "open"
    """none does"""
    HALF_OPEN = "half-open"
    """some do, to see how they fare"""


class Breaker:
    """Takes all load off a backend that fails, for a while; then lets a few requests try.

    :param share: of failures among the requests of the last ``window`` seconds, that opens it
    :param requests: that there have to be among them
    :param seconds: for which it stays open
    :param trials: requests that have to go well, one after the other, until it closes

    :ivar state: as of the last call
    :ivar opened: how often it opened
    """

    __slots__ = ("_good", "_out", "_trials", "_until", "_window", "opened", "requests", "seconds", "share", "state")

    def __init__(self, share: float, requests: int, window: float, seconds: float, trials: int) -> None:
        self.share = share
        self.requests = requests
        self.seconds = seconds
        self.state = BreakerState.CLOSED
        self.opened = 0
        self._trials = trials
        self._window = Window(window)
        self._until = 0.0
        self._out = 0
        self._good = 0

    def allows(self, now: float) -> bool:
        """Whether a request may go now; one that does has to be followed by :meth:`note` or :meth:`abandon`."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN:
            if now < self._until:
                return False
            self.state = BreakerState.HALF_OPEN
            self._out = self._good = 0
        if self._out + self._good >= self._trials:
            return False
        self._out += 1
        return True

    def left(self, now: float) -> float:
        """Seconds until a request may try; 0 where it may now."""
        return max(0.0, self._until - now) if self.state is BreakerState.OPEN else 0.0

    def note(self, now: float, failed: bool) -> bool:
        """How a request fared; gives whether the state changed."""
        if self.state is BreakerState.OPEN:
            return False  # it was on its way when the others failed
        if self.state is BreakerState.HALF_OPEN:
            self._out = max(0, self._out - 1)
            if failed:
                self._open(now)
                return True
            self._good += 1
            if self._good < self._trials:
                return False
            self.state = BreakerState.CLOSED
            self._window.clear()
            return True
        window = self._window
        window.note(now, failed)
        if failed:
            window.look(now)
            if window.total >= self.requests and window.failed >= self.share * window.total:
                self._open(now)
                return True
        return False

    def abandon(self) -> None:
        """A request that was allowed is over, and nobody knows how it would have fared."""
        if self.state is BreakerState.HALF_OPEN:
            self._out = max(0, self._out - 1)

    def _open(self, now: float) -> None:
        self.state = BreakerState.OPEN
        self.opened += 1
        self._until = now + self.seconds


class RetryBudget:
    """How many requests may be sent once more: a share of those that came lately, and a few in any case.

    Without it a service that begins to fail gets three times the load at the moment when it can bear it least.

    :param share: of the requests of the last ten seconds
    :param least: that may in any case, in ten seconds
    :param now: when it begins
    :param requests: how many had been sent then
    """

    __slots__ = ("_at", "_seen", "_share", "_window", "least", "refused")

    def __init__(self, share: float, least: int, now: float, requests: int = 0) -> None:
        self._share = share
        self._window = Window(REMEMBERED)
        self._at = now
        self._seen = requests
        self.least = least
        self.refused = 0

    def take(self, now: float, requests: int) -> bool:
        """Whether one more may be sent again; then it is counted.

        :param requests: how many were ever sent, those that were sent again among them: a number that only rises
        """
        window = self._window
        # of those that came since somebody asked last, the part of these ten seconds, on average
        came, elapsed = requests - self._seen, now - self._at
        window.note(now, 0, came if elapsed <= REMEMBERED else int(came * REMEMBERED / elapsed))
        self._at, self._seen = now, requests
        window.look(now)
        # a share of what came, not of what was made of it
        if window.failed >= max(self.least, self._share * (window.total - window.failed)):
            self.refused += 1
            return False
        window.note(now, 1, 0)  # it is among the requests when it is sent
        return True
