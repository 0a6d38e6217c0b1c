"""What ``/metrics`` and ``/readyz?verbose`` say of backends: who takes requests, who was ejected, what waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from wormhole_tw.control.windows import BreakerState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wormhole_tw.edge.dispatch import Dispatch
    from wormhole_tw.edge.group import Group

__all__ = ["balancing_metrics"]

_BREAKER = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

_COUNTED = (
    ("backend_retries", "Requests of a backend that were sent once more.", "retry"),
    ("backend_hedges", "Requests that were sent to a second upstream too, because the first was slow.", "hedge"),
    ("backend_hedges_won", "Those that the second answered first.", "hedge_won"),
    ("backend_failovers", "Requests that another backend took.", "failover"),
    ("backend_queued", "Requests that waited for an upstream.", "queued"),
    ("backend_queue_expired", "Those that waited for too long.", "queue_expired"),
)


def balancing_metrics(dispatch: Dispatch) -> Iterator[Metric]:
    """Of every backend that has had a request, or is looked after."""
    groups = sorted(dispatch, key=lambda group: group.name)
    upstreams = GaugeMetricFamily("wormhole_upstreams", "Agents and origins of a backend.", labels=("backend", "state"))
    for group in groups:
        for state, number in group.states().items():
            upstreams.add_metric((group.name, state), number)
    yield upstreams
    for name, what, key in _COUNTED:
        yield _counter(name, what, ((group.name, group.counts[key]) for group in groups))
    ejected = ((group.name, group.ejected) for group in groups)
    yield _counter("upstream_ejections", "Times that one was ejected.", ejected)
    refused = ((group.name, group.budget.refused) for group in groups)
    yield _counter("backend_retries_refused", "Retries that the budget did not allow.", refused)
    yield _gauge("backend_waiting", "Requests that wait.", ((group.name, len(group.queue)) for group in groups))
    breakers = [(group, group.breaker) for group in groups if group.breaker is not None]
    states = ((group.name, _BREAKER[breaker.state]) for group, breaker in breakers)
    yield _gauge("backend_circuit", "0 while a circuit is closed, 1 half-open, 2 open.", states)
    opened = ((group.name, breaker.opened) for group, breaker in breakers)
    yield _counter("backend_circuit_opened", "Times that a circuit opened.", opened)
    yield _estimates(groups)


def _estimates(groups: Iterable[Group]) -> Metric:
    family = GaugeMetricFamily(
        "wormhole_upstream_latency_seconds",
        "What balancing takes the latency of a backend's upstreams to be.",
        labels=("backend", "of"),
    )
    for group in groups:
        found = group.estimates()
        if found:
            for of, seconds in (("fastest", min(found)), ("slowest", max(found))):
                family.add_metric((group.name, of), seconds)
    return family


def _counter(name: str, what: str, rows: Iterable[tuple[str, float]]) -> Metric:
    family = CounterMetricFamily(f"wormhole_{name}", what, labels=("backend",))
    for backend, number in rows:
        family.add_metric((backend,), number)
    return family


def _gauge(name: str, what: str, rows: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(f"wormhole_{name}", what, labels=("backend",))
    for backend, number in rows:
        family.add_metric((backend,), number)
    return family
