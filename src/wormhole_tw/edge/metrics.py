"""What is counted of every request: plain numbers, which the admin listener turns into text when it is asked.

Label sets are bounded by the configuration: a request that reached no site counts for none, an unknown method as
``other``, a status by its class.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.edge.exchange import Exchange

__all__ = ["MAX_REASONS", "METHODS", "SECONDS", "EdgeMetrics", "Histogram", "Traffic"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of latencies: a cached page of a service next door takes 1 ms, ``limits.first_byte`` is 60 s."""

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT")}
"""Methods that are counted by name (RFC 9110 §9, RFC 5789)."""

MAX_REASONS = 64
"""Reasons counted by name; the code has half as many, so that a mistake in it cannot fill the memory of a scraper."""

_SWITCHING = 101


class Histogram:
    """Values in fixed buckets.

    :ivar counts: values in each bucket of :data:`SECONDS`, not added up; the last one is for all that are greater
    :ivar total: the sum of all values
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one; a clock that was set back makes it nothing, never less."""
        self.counts[bisect_left(SECONDS, value)] += 1
        if value > 0.0:
            self.total += value


class Traffic:
    """The requests of one site and backend.

    :ivar requests: (method, first digit of the status, 0 for visitors who left before an answer) → how many
    :ivar received: octets of requests' bodies
    :ivar sent: octets of answers' bodies
    :ivar duration: from the head of a request to the end of its answer; upgraded connections are not in it
    :ivar first_byte: from the head of a request to the head of its answer
    """

    __slots__ = ("duration", "first_byte", "received", "requests", "sent")

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.received = 0
        self.sent = 0
        self.duration = Histogram()
        self.first_byte = Histogram()


class EdgeMetrics:
    """All that is counted of requests since the start.

    :ivar traffic: (site, backend), empty strings where a request reached none → its requests
    :ivar reasons: why the edge answered itself, or an answer is not whole (``X-Wormhole-Error``) → how often
    :ivar cache: (site, what the cache had to do with it) → how many requests, of routes with a cache
    """

    __slots__ = ("cache", "reasons", "traffic")

    def __init__(self) -> None:
        self.traffic: dict[tuple[str, str], Traffic] = {}
        self.reasons: dict[str, int] = {}
        self.cache: dict[tuple[str, str], int] = {}

    def record(self, exchange: Exchange, now: float) -> None:
        """Count a finished exchange.

        :param now: the wheel's clock
        """
        key = (exchange.site, exchange.backend)
        traffic = self.traffic.get(key)
        if traffic is None:
            traffic = self.traffic[key] = Traffic()
        head = exchange.head
        status = exchange.status
        label = (
            METHODS.get(head.method, "other") if head is not None else "other",
            # RFC 9110 §15: what is past the classes counts as 5xx
            status // 100 if status < 600 else 5,
        )
        requests = traffic.requests
        requests[label] = requests.get(label, 0) + 1
        traffic.received += exchange.received
        traffic.sent += exchange.sent
        # observe(), twice, without the calls: this runs once a request
        first_byte = exchange.first_byte
        if first_byte:
            value = first_byte - exchange.began
            histogram = traffic.first_byte
            histogram.counts[bisect_left(SECONDS, value)] += 1
            if value > 0.0:
                histogram.total += value
        if status != _SWITCHING:
            value = now - exchange.began
            histogram = traffic.duration
            histogram.counts[bisect_left(SECONDS, value)] += 1
            if value > 0.0:
                histogram.total += value
        if exchange.cache:
            place = (exchange.site, exchange.cache)
            self.cache[place] = self.cache.get(place, 0) + 1
        if exchange.reason:
            self.refused(exchange.reason)

    def refused(self, reason: str) -> None:
        """Count why the edge answered itself."""
        if reason not in self.reasons and len(self.reasons) >= MAX_REASONS:
            reason = "other"
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
