"""Rate limits: so many requests in so long, for each of many, with time as an argument.

The generic cell rate algorithm (ITU-T I.371): for each key one number, the moment at which its bucket would be empty
again.  It is as exact as a token bucket and holds nothing else.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["MAX_KEYS", "RateLimiter"]

MAX_KEYS = 65536
"""Keys that one limit remembers, some 12 MB with their names: addresses of a flood come and go, and those that were
heard least lately are forgotten first. Who can send from more addresses than that is not held by a limit for each."""


class RateLimiter:
    """A limit for each key.

    :ivar limit: how many requests pass at once after a rest
    """

    __slots__ = ("_empty", "_interval", "_keys", "_tolerance", "limit")

    def __init__(self, requests: int, seconds: float, burst: int | None = None, keys: int = MAX_KEYS) -> None:
        """
        :param requests: so many, in the long run
        :param seconds: in this time
        :param burst: so many at once; None for ``requests``
        :param keys: so many are remembered
        """
        self.limit = requests if burst is None else burst
        self._interval = seconds / requests
        self._tolerance = self._interval * (self.limit - 1)
        self._keys = keys
        self._empty: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._empty)

    def take(self, key: str, now: float) -> float:
        """Count a request.

        :param now: seconds of a clock that does not go back
        :return: 0 where it passes; otherwise, where nothing was counted, the seconds after which the next would
        """
        empty = max(self._empty.get(key, now), now)
        wait = empty - self._tolerance - now
        if wait > 1e-9:  # what adding up intervals leaves over
            return wait
        self._empty[key] = empty + self._interval
        self._empty.move_to_end(key)
        if len(self._empty) > self._keys:
            self._empty.popitem(last=False)
        return 0.0
