"""What ``/metrics`` says of the cache: how often it helped, and how full it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from wormhole_tw.http.caching.purges import KINDS

if TYPE_CHECKING:
    from wormhole_tw.edge.caching.kept import KeptAnswers
    from wormhole_tw.edge.metrics import EdgeMetrics

__all__ = ["cache_metrics"]

_HELD = (
    ("cache_entries", "Answers that are kept.", "entries"),
    ("cache_bytes", "Octets that they take.", "octets"),
    ("cache_limit_bytes", "Octets that they may take.", "limit"),
)

_COUNTED = (
    ("cache_evictions", "Answers that had to make room for others.", "evicted"),
    ("cache_faults", "Answers that were found damaged, and reads and writes that failed.", "faults"),
)


def cache_metrics(metrics: EdgeMetrics, kept: KeptAnswers) -> Iterator[Metric]:
    """Of all sites with a cache; of the store, in any case."""
    requests = CounterMetricFamily(
        "wormhole_cache_requests",
        "Requests of routes with a cache, by what the cache had to do with them.",
        labels=("site", "result"),
    )
    for key, number in sorted(metrics.cache.items()):
        requests.add_metric(key, number)
    yield requests
    usages = kept.store.usage()
    for name, what, field in _HELD:
        gauge = GaugeMetricFamily(f"wormhole_{name}", what, labels=("place",))
        for usage in usages:
            gauge.add_metric((usage.place,), getattr(usage, field))
        yield gauge
    for name, what, field in _COUNTED:
        counter = CounterMetricFamily(f"wormhole_{name}", what, labels=("place",))
        for usage in usages:
            counter.add_metric((usage.place,), getattr(usage, field))
        yield counter
    purges = CounterMetricFamily("wormhole_cache_purges", "Purges, by what they go by.", labels=("kind",))
    for kind in KINDS:
        purges.add_metric((kind,), kept.purged[kind])
    yield purges
