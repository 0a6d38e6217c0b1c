"""Who guesses tokens waits: failed authentications by address, and nothing but those, are limited.

An agent behind the same address with a good token is never refused for its neighbour's mistakes once it stands, only
while the address is over its limit; a good token is judged only after that, so that a guesser cannot tell a hit either.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from wormhole_tw.net.networks import counted_address

__all__ = ["FailedAuthentications"]

WINDOW = 60.0
"""Seconds over which failures are counted."""

MAX_ADDRESSES = 10_000
"""Addresses remembered at a time; the one that failed longest ago goes first. About 2 MB when full."""


class FailedAuthentications:
    """Counts failures by address in a window of a minute.

    A window begins with an address's first failure and ends a minute later (two numbers an address, no lists).

    :param limit: failures a minute that an address may have before it has to wait
    :param seconds: the clock
    """

    __slots__ = ("_failures", "_limit", "_seconds")

    def __init__(self, limit: int, seconds: Callable[[], float]) -> None:
        self._limit = limit
        self._seconds = seconds
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 if it may now."""
        address = counted_address(address)
        found = self._failures.get(address)
        if found is None:
            return 0.0
        since, count = found
        passed = self._seconds() - since
        if passed >= WINDOW:
            del self._failures[address]
            return 0.0
        return WINDOW - passed if count >= self._limit else 0.0

    def failed(self, address: str) -> None:
        """Count one more failure of this address."""
        address = counted_address(address)
        now = self._seconds()
        since, count = self._failures.pop(address, (now, 0))
        if now - since >= WINDOW:
            since, count = now, 0
        self._failures[address] = (since, count + 1)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def __len__(self) -> int:
        return len(self._failures)
