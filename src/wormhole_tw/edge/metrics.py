"""What is counted of every request: plain numbers, which the admin listener turns into text when it is asked.

Label sets are bounded by the configuration: a request that reached no site counts for none, an unknown method as
``other``, a status by its class.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wormhole_tw.edge.exchange import Exchange

__all__ = ["MAX_REASONS", "METHODS", "SECONDS", "Alike", "EdgeMetrics", "Histogram", "Traffic"]

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


class Alike:
    """Requests that differ in nothing that is counted, whose answers take no time; see :meth:`EdgeMetrics.alike`.

    :ivar times: how many there were since they were last counted
    :ivar sent: octets of their answers' bodies
    """

    __slots__ = ("cache", "label", "sent", "times", "traffic")

    def __init__(self, traffic: Traffic, label: tuple[str, int], cache: tuple[str, str]) -> None:
        self.traffic = traffic
        self.label = label
        self.cache = cache
        self.times = 0
        self.sent = 0


class EdgeMetrics:
    """All that is counted of requests since the start.

    :ivar traffic: (site, backend), empty strings where a request reached none → its requests
    :ivar reasons: why the edge answered itself, or an answer is not whole (``X-Wormhole-Error``) → how often
    :ivar cache: (site, what the cache had to do with it) → how many requests, of routes with a cache
    """

    __slots__ = ("_alike", "_cache", "_traffic", "reasons")

    def __init__(self) -> None:
        self._traffic: dict[tuple[str, str], Traffic] = {}
        self._cache: dict[tuple[str, str], int] = {}
        self._alike: dict[tuple[str, str, tuple[str, int], str], Alike] = {}
        self.reasons: dict[str, int] = {}

    @property
    def traffic(self) -> Mapping[tuple[str, str], Traffic]:
        """See the class."""
        self._count_alike()
        return self._traffic

    @property
    def cache(self) -> Mapping[tuple[str, str], int]:
        """See the class."""
        self._count_alike()
        return self._cache

    def alike(self, exchange: Exchange) -> Alike:
        """Where to note exchanges like this one that were over as soon as they began: two additions each, and what they
        come to is reckoned when somebody asks for it.

        :param exchange: with a head, a status, and what the cache had to do with it
        """
        assert exchange.head is not None
        label = METHODS.get(exchange.head.method, "other"), exchange.status // 100
        key = (exchange.site, exchange.backend, label, exchange.cache)
        found = self._alike.get(key)
        if found is None:
            traffic = self._traffic.setdefault(key[:2], Traffic())
            found = self._alike[key] = Alike(traffic, label, (exchange.site, exchange.cache))
        return found

    def _count_alike(self) -> None:
        for alike in self._alike.values():
            times, alike.times = alike.times, 0
            if not times:
                continue
            traffic = alike.traffic
            traffic.requests[alike.label] = traffic.requests.get(alike.label, 0) + times
            traffic.sent += alike.sent
            alike.sent = 0
            traffic.first_byte.counts[0] += times
            traffic.duration.counts[0] += times
            self._cache[alike.cache] = self._cache.get(alike.cache, 0) + times

    def record(self, exchange: Exchange, now: float) -> None:
        """Count a finished exchange.

        :param now: the wheel's clock
        """
        key = (exchange.site, exchange.backend)
        traffic = self._traffic.get(key)
        if traffic is None:
            traffic = self._traffic[key] = Traffic()
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
            self._cache[place] = self._cache.get(place, 0) + 1
        if exchange.reason:
            self.refused(exchange.reason)

    def refused(self, reason: str) -> None:
        """Count why the edge answered itself."""
        if reason not in self.reasons and len(self.reasons) >= MAX_REASONS:
            reason = "other"
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
