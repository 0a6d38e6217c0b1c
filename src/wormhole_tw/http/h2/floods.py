"""Budgets of what a peer may make us do for nothing: token buckets, without a timer."""

from __future__ import annotations

from wormhole_tw.http.h2.faults import ConnectionFault, ErrorCode
from wormhole_tw.http.h2.limits import Budget

__all__ = ["Bucket"]


class Bucket:
    """One budget of one connection.

    :param name: of what, for the message
    """

    __slots__ = ("_at", "_budget", "_left", "_most", "_name")

    def __init__(self, name: str, budget: Budget) -> None:
        self._name = name
        self._budget = budget
        self._left = float(budget.burst)
        self._most = float(budget.most or budget.burst)
        self._at: float | None = None

    def take(self, now: float) -> None:
        """Take one.

        :raises ConnectionFault: ENHANCE_YOUR_CALM where none is left
        """
        if self._at is None:
            self._at = now
        left = self._left
        if left < 1:
            # only now does it matter what time it is
            budget = self._budget
            left = min(float(budget.burst), left + (now - self._at) * budget.rate)
            self._at = now
            if left < 1:
                self._left = left
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {self._name}")
        self._left = left - 1

    def earn(self, n: int) -> None:
        """Put ``n`` back, up to the burst, or what the budget says instead."""
        left = self._left + n
        self._left = left if left < self._most else self._most
