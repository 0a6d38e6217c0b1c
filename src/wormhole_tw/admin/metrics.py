"""``/metrics``: what an edge counts, in the text format of Prometheus.

Nothing of it costs a request anything: the edge keeps plain numbers, and they are turned into text here, when somebody
asks.  docs/observability.md lists the metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from twisted.web.resource import Resource

from wormhole_tw import __version__
from wormhole_tw.admin.balancing import balancing_metrics
from wormhole_tw.admin.caching import cache_metrics
from wormhole_tw.edge.context import REFUSED, SHED
from wormhole_tw.edge.metrics import SECONDS, EdgeMetrics, Histogram
from wormhole_tw.errors import MisuseError

if TYPE_CHECKING:
    from twisted.web.server import Request

    from wormhole_tw.edge.agents import Agents
    from wormhole_tw.edge.certificates.keeper import CertificateKeeper
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.observer import Observer
    from wormhole_tw.edge.passages import Passages
    from wormhole_tw.edge.service import EdgeService

__all__ = ["EdgeCollector", "MetricsResource"]

_Rows = Iterable[tuple[Sequence[str], float]]


def _counter(name: str, what: str, labels: Sequence[str] = (), rows: _Rows = ()) -> Metric:
    family = CounterMetricFamily(name, what, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _gauge(name: str, what: str, labels: Sequence[str] = (), rows: _Rows = ()) -> Metric:
    family = GaugeMetricFamily(name, what, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _histogram(
    name: str, what: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, what, labels=labels)
    bounds = [*map(str, SECONDS), "+Inf"]
    for values, histogram in rows:
        buckets = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
        family.add_metric(values, buckets, histogram.total)
    return family


class EdgeCollector(Collector):
    """The metrics of one edge; while it is stopped, only that it is.

    :param edge: may be started and stopped as it likes
    """

    def __init__(self, edge: EdgeService) -> None:
        self._edge = edge

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        edge = self._edge
        labels = ("version", "edge", "region")
        facts = (__version__, edge.config.name, edge.config.region)
        yield _gauge("wormhole_edge_info", "What runs here; always 1.", labels, [(facts, 1)])
        yield _gauge("wormhole_ready", "1 while the edge takes new visitors.", rows=[((), not edge.unready())])
        try:
            context, agents, observer = edge.context, edge.agents, edge.observer
        except MisuseError:
            return
        if observer.metrics is not None:
            yield from _of_requests(observer.metrics, context)
            if context.kept is not None:
                yield from cache_metrics(observer.metrics, context.kept)
        yield from _of_connections(context)
        yield from _of_passages(context.passages)
        yield from balancing_metrics(context.dispatch)
        yield from _of_agents(agents)
        yield from _of_certificates(edge.certificates)
        yield from _of_the_process(observer)


def _of_requests(metrics: EdgeMetrics, context: EdgeContext) -> Iterator[Metric]:
    place = ("site", "backend")
    traffic = sorted(metrics.traffic.items())
    yield _counter(
        "wormhole_requests",
        "Finished requests.",
        (*place, "method", "status"),
        (
            ((*key, method, f"{digit}xx" if digit else "none"), number)
            for key, of in traffic
            for (method, digit), number in sorted(of.requests.items())
        ),
    )
    yield _histogram(
        "wormhole_request_duration_seconds",
        "From a request's head to the end of its answer; without upgraded connections.",
        place,
        ((key, of.duration) for key, of in traffic),
    )
    yield _histogram(
        "wormhole_first_byte_seconds",
        "From a request's head to the head of its answer.",
        place,
        ((key, of.first_byte) for key, of in traffic),
    )
    yield _counter(
        "wormhole_request_body_bytes",
        "Octets of requests' bodies.",
        place,
        ((key, of.received) for key, of in traffic),
    )
    yield _counter(
        "wormhole_response_body_bytes", "Octets of answers' bodies.", place, ((key, of.sent) for key, of in traffic)
    )
    yield _counter(
        "wormhole_failed_requests",
        "Requests that the edge answered itself, or whose answer is not whole, by X-Wormhole-Error.",
        ("reason",),
        (((reason,), number) for reason, number in sorted((context.counters.early + Counter(metrics.reasons)).items())),
    )


def _of_connections(context: EdgeContext) -> Iterator[Metric]:
    counters = context.counters
    for name, what, number in (
        ("connections", "Connections accepted, agents' too.", counters.connections),
        ("tls_handshakes", "TLS handshakes that came to their end.", counters.handshakes),
        ("tls_handshakes_failed", "TLS handshakes that did not.", counters.handshakes_failed),
        ("retries", "Requests that were sent once more, elsewhere.", counters.retries),
    ):
        yield _counter(f"wormhole_{name}", what, rows=[((), number)])
    yield _counter(
        "wormhole_connections_refused",
        "Connections closed at once: no room, too many of one address, or the edge stops.",
        ("reason",),
        (((reason,), counters.refused[reason]) for reason in REFUSED),
    )
    yield _counter(
        "wormhole_visitors_shed",
        "Visitors dropped for their slowness, by what was slow.",
        ("kind",),
        (((kind,), counters.shed[kind]) for kind in SHED),
    )
    yield _gauge("wormhole_visitor_connections", "Connections of visitors.", rows=[((), len(context.connections))])
    idle = context.pool.idle
    yield _gauge(
        "wormhole_upstream_connections",
        "Streams towards services.",
        ("state",),
        [(("idle",), idle), (("busy",), context.pool.open - idle)],
    )


def _of_passages(passages: Passages) -> Iterator[Metric]:
    labels = ("kind", "service", "backend")
    traffic = sorted(passages.traffic.items())
    yield _counter(
        "wormhole_tcp_connections",
        "Connections of TCP services and pass-through sites that are over, by why they ended.",
        (*labels, "reason"),
        (((*key, reason), number) for key, of in traffic for reason, number in sorted(of.ended.items())),
    )
    yield _gauge(
        "wormhole_tcp_connections_open",
        "Those that there are.",
        labels,
        ((key, len(of.open)) for key, of in traffic),
    )
    yield _counter(
        "wormhole_tcp_received_bytes",
        "Octets from their visitors.",
        labels,
        ((key, of.received) for key, of in traffic),
    )
    yield _counter("wormhole_tcp_sent_bytes", "Octets to them.", labels, ((key, of.sent) for key, of in traffic))
    yield _histogram(
        "wormhole_tcp_connect_seconds",
        "From their beginning until the service was reached.",
        labels,
        ((key, of.connect) for key, of in traffic),
    )


def _of_agents(agents: Agents) -> Iterator[Metric]:
    states: dict[tuple[str, str], int] = {}
    streams: dict[str, int] = {}
    trips: dict[str, list[float]] = {}
    for name in agents.catalog.current.backends:
        streams[name] = 0
        states.update({(name, state): 0 for state in ("ready", "not-ready", "draining")})
    for session in agents.links:
        if not session.admitted:
            continue
        name = session.facts.backend
        state = "draining" if session.draining else "ready" if session.ready else "not-ready"
        states[name, state] = states.get((name, state), 0) + 1
        streams[name] = streams.get(name, 0) + session.load
        trip = session.link.rtt
        if trip is not None:
            trips.setdefault(name, []).append(trip)
    backend = ("backend",)
    yield _gauge("wormhole_agents", "Agents that are connected.", ("backend", "state"), sorted(states.items()))
    yield _gauge(
        "wormhole_agent_streams",
        "Streams open to agents, idle ones too.",
        backend,
        (((b,), n) for b, n in streams.items()),
    )
    yield _gauge(
        "wormhole_tunnel_round_trip_seconds",
        "The last measured round trips of a backend's tunnels.",
        ("backend", "of"),
        (
            row
            for name, found in trips.items()
            for row in (
                ((name, "fastest"), min(found)),
                ((name, "mean"), sum(found) / len(found)),
                ((name, "slowest"), max(found)),
            )
        ),
    )
    counters = agents.counters
    for name, what, label, numbers in (
        ("agent_connections", "Links of agents that were let in.", "backend", counters.connected),
        ("agent_reconnects", "Those that were not their agent's first.", "backend", counters.reconnected),
        ("agents_lost", "Links that ended without a word.", "backend", counters.lost),
        ("agent_refusals", "Links that were refused, by GOAWAY's code.", "reason", counters.refused),
    ):
        rows = [((value,), number) for value, number in sorted(numbers.items())]
        yield _counter(f"wormhole_{name}", what, (label,), rows)


def _of_certificates(keeper: CertificateKeeper) -> Iterator[Metric]:
    name = ("name",)
    yield _gauge(
        "wormhole_certificate_days_left",
        "Days until the certificate that is served for a name ends.",
        name,
        (((name,), days) for name, days in sorted(keeper.days_left().items())),
    )
    statuses = [] if keeper.acme is None else keeper.acme.statuses()
    yield _gauge(
        "wormhole_certificate_failures",
        "Tries in a row that brought no certificate for a name.",
        name,
        (((status.name,), status.failures) for status in statuses if status.state != "local"),
    )
    yield _gauge(
        "wormhole_certificates_missing",
        "Names that visitors are refused for, because they have no certificate yet.",
        rows=[((), sum(status.state == "missing" for status in statuses))],
    )


def _of_the_process(observer: Observer) -> Iterator[Metric]:
    yield _histogram(
        "wormhole_event_loop_delay_seconds",
        "How late the reactor was, looked at twice a second.",
        (),
        [((), observer.loop_delay)],
    )
    access_log = observer.access_log
    if access_log is not None:
        written, dropped = access_log.written, access_log.dropped
        yield _counter("wormhole_access_log_lines", "Lines written to the access log.", rows=[((), written)])
        yield _counter("wormhole_access_log_lines_dropped", "Lines that were not.", rows=[((), dropped)])


class MetricsResource(Resource):
    """Answers a scrape; the process's own figures (``process_…``, ``python_gc_…``) are in it."""

    isLeaf = True

    def __init__(self, edge: EdgeService) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(EdgeCollector(edge))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", CONTENT_TYPE_LATEST.encode("ascii"))
        request.setHeader(b"cache-control", b"no-store")
        return generate_latest(self._registry)
