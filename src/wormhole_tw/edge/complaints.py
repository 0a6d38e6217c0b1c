"""What the log says of what others do wrong, in lines that nobody can fill it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from wormhole_tw.net.networks import canonical_address

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from wormhole_tw.edge.context import Counters

__all__ = ["QUIET", "HeaderComplaints", "Lines", "host_of"]

log = Logger()

QUIET = 10.0
"""Seconds between two lines: who is set up wrongly does the same wrong with each connection."""


def host_of(address: IAddress) -> str:
    """Its IP address as text, in one spelling; empty for a Unix socket's."""
    return canonical_address(str(getattr(address, "host", "")))


class HeaderComplaints:
    """Counts, and says, what came in place of a header or where none was wanted; one a listener.

    :param seconds: the clock
    :param expected: the listener has ``proxy_protocol``
    """

    __slots__ = ("_counters", "_expected", "_invalid", "_refused")

    def __init__(self, counters: Counters, seconds: Callable[[], float], *, expected: bool) -> None:
        self._counters = counters
        self._expected = expected
        self._invalid = Lines(seconds)
        self._refused = Lines(seconds)

    def invalid(self, proxy: IAddress, why: str) -> None:
        """A trusted peer did not begin as it should."""
        self._counters.early["proxy-header-invalid"] += 1
        self._invalid.say(f"{_shown(proxy)} is trusted to send the PROXY protocol's header, and did not: {why}")

    def refused(self, stranger: IAddress, *, second: bool) -> None:
        """Somebody sent a header who is not trusted, or where none is expected.

        :param second: it stands behind one that was good
        """
        self._counters.early["proxy-header-refused"] += 1
        if second:
            why = "it stands behind another one"
        elif self._expected:
            why = "this address is not among the trusted"
        else:
            why = "its listener has no proxy_protocol = true"
        self._refused.say(f"a header of the PROXY protocol from {_shown(stranger)} was refused: {why}")


class Lines:
    """At most one in :data:`QUIET` seconds; the next one says how many were left out."""

    __slots__ = ("_left_out", "_seconds", "_until")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._until = float("-inf")
        self._left_out = 0

    def say(self, sentence: str) -> None:
        """Log it, or count it."""
        now = self._seconds()
        if now < self._until:
            self._left_out += 1
            return
        more = f" ({self._left_out} more since the last such line)" if self._left_out else ""
        self._until = now + QUIET
        self._left_out = 0
        log.warn("{sentence}{more}", sentence=sentence, more=more)


def _shown(address: IAddress) -> str:
    return host_of(address) or "a peer on the Unix socket"
