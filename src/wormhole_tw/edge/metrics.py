"""What is counted of every request: plain numbers, which the admin listener turns into text when it is asked.

Label sets are bounded by the configuration: a request that reached no site counts for none, an unknown method as
``other``, a status by its class.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wormhole_tw.edge.exchange import Exchange

__all__ = ["MAX_REASONS", "METHODS", "SECONDS", "SWITCHING", "Alike", "EdgeMetrics", "Histogram", "Traffic"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of latencies: a cached page of a service next door takes 1 ms, ``limits.first_byte`` is 60 s."""

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT")}
"""Methods that are counted by name (RFC 9110 §9, RFC 5789)."""

MAX_REASONS = 64
"""Reasons counted by name; the code has half as many, so that a mistake in it cannot fill the memory of a scraper."""

MAX_UNSORTED = 512
"""Values of a histogram that wait to be counted: some 16 KB."""

SWITCHING = 101
"""The status of an answer whose end says nothing of the service: an upgraded connection lasts as long as it is used."""


class Histogram:
    """Values in fixed buckets.  They are sorted into these many at a time, which costs less than one by one."""

    __slots__ = ("_counts", "_total", "waiting")

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._total = 0.0
        self.waiting: list[float] = []
        """Values that are counted before anybody reads: :meth:`observe`, without the call.  Who adds here calls
        :meth:`sort` now and then, at :data:`MAX_UNSORTED` at the latest."""

    def observe(self, value: float) -> None:
        """Count one; a clock that was set back makes it nothing, never less."""
        self.waiting.append(value)
        if len(self.waiting) >= MAX_UNSORTED:
            self.sort()

    def sort(self) -> None:
        """Put what waits into its buckets."""
        waiting = self.waiting
        if not waiting:
            return
        waiting.sort()
        self._total += sum(waiting[bisect_right(waiting, 0.0) :])
        counts, before = self._counts, 0
        for bucket, bound in enumerate(SECONDS):
            reached = bisect_right(waiting, bound, before)
            counts[bucket] += reached - before
            before = reached
        counts[-1] += len(waiting) - before
        waiting.clear()

    @property
    def counts(self) -> Sequence[int]:
        """Values in each bucket of :data:`SECONDS`, not added up; the last one is for all that are greater."""
        self.sort()
        return self._counts

    @property
    def total(self) -> float:
        """The sum of all values."""
        self.sort()
        return self._total

    def add_instant(self, times: int) -> None:
        """Count so many that took no time."""
        self._counts[0] += times


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
    """Requests that differ in nothing that is counted, but in the time that their answers take; see
    :meth:`EdgeMetrics.alike`.

    :ivar instant: their answers take no time, and none is observed
    :ivar times: how many there were since they were last counted
    :ivar sent: octets of their answers' bodies
    """

    __slots__ = ("_duration", "_first_byte", "cache", "instant", "label", "sent", "times", "traffic")

    def __init__(self, traffic: Traffic, label: tuple[str, int], cache: tuple[str, str], instant: bool) -> None:
        self.traffic = traffic
        self.label = label
        self.cache = cache
        self.instant = instant
        self.times = 0
        self.sent = 0
        self._first_byte = traffic.first_byte.waiting
        self._duration = traffic.duration.waiting

    def one_more(self, sent: int, first_byte: float, duration: float) -> None:
        """Note one that took its time.

        :param sent: octets of its answer's body
        :param first_byte: seconds to the head of its answer
        :param duration: seconds to the end of its answer
        """
        self.times += 1
        self.sent += sent
        self._first_byte.append(first_byte)
        self._duration.append(duration)
        if len(self._duration) >= MAX_UNSORTED:
            self.traffic.first_byte.sort()
            self.traffic.duration.sort()


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
        self._alike: dict[tuple[str, str, tuple[str, int], str, bool], Alike] = {}
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

    def alike(self, exchange: Exchange, *, instant: bool) -> Alike:
        """Where to note exchanges like this one: two additions each, and what they come to is reckoned when somebody
        asks for it.

        :param exchange: with a head, a status, and what the cache had to do with it
        :param instant: they are over as soon as they begin
        """
        label = _label(exchange)
        key = (exchange.site, exchange.backend, label, exchange.cache, instant)
        found = self._alike.get(key)
        if found is None:
            traffic = self._traffic.setdefault(key[:2], Traffic())
            found = self._alike[key] = Alike(traffic, label, (exchange.site, exchange.cache), instant)
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
            if alike.instant:
                traffic.first_byte.add_instant(times)
                traffic.duration.add_instant(times)
            if alike.cache[1]:
                self._cache[alike.cache] = self._cache.get(alike.cache, 0) + times

    def record(self, exchange: Exchange, now: float) -> None:
        """Count a finished exchange.

        :param now: the wheel's clock
        """
        key = (exchange.site, exchange.backend)
        traffic = self._traffic.get(key)
        if traffic is None:
            traffic = self._traffic[key] = Traffic()
        label = _label(exchange)
        requests = traffic.requests
        requests[label] = requests.get(label, 0) + 1
        traffic.received += exchange.received
        traffic.sent += exchange.sent
        first_byte = exchange.first_byte
        if first_byte:
            traffic.first_byte.observe(first_byte - exchange.began)
        if exchange.status != SWITCHING:
            traffic.duration.observe(now - exchange.began)
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


def _label(exchange: Exchange) -> tuple[str, int]:
    head, status = exchange.head, exchange.status
    method = "other" if head is None else METHODS.get(head.method, "other")
    # RFC 9110 §15: what is past the classes counts as 5xx
    return method, status // 100 if status < 600 else 5
