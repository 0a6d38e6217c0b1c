"""What is remembered beside the answers: keys whose answers cannot be kept, and what unsafe requests made void."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

__all__ = ["MOST_NOTES", "UNSTORABLE", "Unstorable", "Voids"]

MOST_NOTES = 65536
"""Notes of one kind that are kept, some 150 octets each; the oldest give way."""

UNSTORABLE = 10.0
"""Seconds for which nobody waits for another's answer under a key whose last answer could not be kept."""


def _short(octets: bytes) -> bytes:
    return blake2b(octets, digest_size=16).digest()


class Unstorable:
    """Keys whose requests go on each by itself for a while: their answers are for one visitor each.

    :param seconds: a clock
    """

    __slots__ = ("_seconds", "_until")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def add(self, group: bytes) -> None:
        """An answer could not be kept."""
        self._until[_short(group)] = self._seconds() + UNSTORABLE
        if len(self._until) > MOST_NOTES:
            self._until.popitem(last=False)

    def discard(self, group: bytes) -> None:
        """One could."""
        if self._until:
            self._until.pop(_short(group), None)

    def __contains__(self, group: bytes) -> bool:
        if not self._until:
            return False
        short = _short(group)
        until = self._until.get(short)
        if until is None:
            return False
        if until > self._seconds():
            return True
        del self._until[short]
        return False


class Voids:
    """URLs that unsafe requests have changed (RFC 9111 §4.4), and when.

    What was asked for before is void, also under keys that differ in cookies, fields or the route, and also where it is
    still on its way.

    :ivar added: how many were
    """

    __slots__ = ("_since", "added")

    def __init__(self) -> None:
        self.added = 0
        self._since: OrderedDict[bytes, float] = OrderedDict()

    def add(self, site: str, host: str, target: bytes, now: float) -> None:
        """An unsafe request to it has succeeded.

        :param now: epoch seconds
        """
        self.added += 1
        short = _short(b"%s\0%s\0%s" % (site.encode(), host.encode(), target))
        self._since[short] = now
        self._since.move_to_end(short)
        if len(self._since) > MOST_NOTES:
            self._since.popitem(last=False)

    def __len__(self) -> int:
        return len(self._since)

    def covers(self, site: str, host: str, target: bytes, requested: float) -> bool:
        """Whether an answer is void that was asked for then (epoch seconds)."""
        if not self._since:
            return False
        short = _short(b"%s\0%s\0%s" % (site.encode(), host.encode(), target))
        return requested <= self._since.get(short, -1.0)
