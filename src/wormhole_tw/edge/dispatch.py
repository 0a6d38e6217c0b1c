"""Dispatch: which upstream takes a request, now or, where one is expected back or all are busy, in a moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from random import Random
from typing import TYPE_CHECKING

from twisted.logger import Logger

from wormhole_tw.control.balancing import USUAL
from wormhole_tw.edge.checks import Checks
from wormhole_tw.edge.group import CIRCUIT_OPEN, Group
from wormhole_tw.net.timers import TimerWheel

if TYPE_CHECKING:
    from wormhole_tw.control.catalog import Catalog, CatalogHolder
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.control.model import Selection
    from wormhole_tw.control.registry import Registry
    from wormhole_tw.edge.interfaces import IUpstream, IUpstreams, IWaiter
    from wormhole_tw.edge.seeker import Seeker
    from wormhole_tw.edge.upstreams.pool import Pool

__all__ = ["Dispatch"]

log = Logger()

FINE = 0.01
"""Seconds that a hedge may be late: what is hedged are latencies of tens of milliseconds."""


class Dispatch:
    """Candidates from those who know them, one of them by the balancer; a bounded queue, first come first served.

    :param limits: ``waiting`` requests of one backend at most, ``waiting_time`` seconds each, where its own ``queue``
        says nothing else
    :param region: the edge's
    """

    def __init__(
        self,
        registry: Registry,
        upstreams: IUpstreams,
        catalogs: CatalogHolder,
        timers: TimerWheel,
        limits: Limits,
        random: Random,
        pool: Pool,
        region: str = "",
    ) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._catalogs = catalogs
        self._timers = timers
        self._limits = limits
        self._random = random
        self._region = region
        self._checks = Checks(pool, timers, limits, random)
        self._groups: dict[str, Group] = {}
        self._fine: TimerWheel | None = None
        self._open = True
        self._unsubscribe: list[Callable[[], None]] = [
            registry.subscribe(self._changed),
            catalogs.subscribe(self._reloaded),
        ]
        self._begin_checks(catalogs.current)

    @property
    def fine(self) -> TimerWheel:
        """Timers for what is counted in hundredths of a second."""
        if self._fine is None:
            self._fine = TimerWheel(self._timers.clock, FINE)
        return self._fine

    def __iter__(self) -> Iterator[Group]:
        """Every backend's group that there is."""
        return iter(self._groups.values())

    def group(self, backend: str) -> Group:
        """What is remembered of a backend."""
        group = self._groups.get(backend)
        if group is None:
            group = Group(backend, self._checks, self._timers, self._random, self._region, self._wake)
            self._groups[backend] = group
            self._refresh(group, self._catalogs.current)
        return group

    def pick(
        self,
        backend: str,
        avoid: Collection[Hashable] = (),
        selection: Selection | None = None,
        seeker: Seeker | None = None,
    ) -> IUpstream | None:
        """An upstream for a request now, or None.  Whoever takes it says so: :meth:`Seeker.took`, where it has a
        standing.

        :param avoid: keys of upstreams that failed this request already
        :param selection: which of them its route leads to; None for any
        :param seeker: who asks, for balancers that look at that
        """
        group = self._groups.get(backend)
        if group is None:
            group = self.group(backend)
        sole = group.sole
        if sole is not None and selection is None and not avoid:
            # as most backends are: nothing to choose, nothing to remember
            group.requests += 1
            return sole
        upstream = group.pick(avoid, selection, seeker)
        if upstream is None and group.policy.failover is not None:
            upstream = self.pick(group.policy.failover, avoid, None, seeker)
            if upstream is not None:
                group.counts["failover"] += 1
        return upstream

    def why(self, backend: str, selection: Selection | None = None) -> str | None:
        """Why :meth:`pick` gave none though there are some: the key of an answer; None where there are none."""
        return self.group(backend).why(selection)

    def busy(self, backend: str, avoid: Collection[Hashable], selection: Selection | None) -> bool:
        """Whether there is one that would take a request, had it not as many as it may have."""
        return self.group(backend).busy(avoid, selection)

    def attempts(self, backend: str) -> int:
        """How often one request of a backend may be sent."""
        return self.group(backend).policy.retries.attempts

    def may_retry(self, backend: str) -> bool:
        """Whether a request may be sent once more; then it is counted."""
        group = self.group(backend)
        if not group.budget.take(self._timers.seconds(), group.requests):
            return False
        group.counts["retry"] += 1
        return True

    def offers(self, backend: str, branch: str) -> bool:
        """Whether an upstream of a release branch could take a request for a backend now."""
        return any(upstream.branch == branch for upstream in self._upstreams.for_backend(backend))

    def wait(self, backend: str, waiter: IWaiter) -> bool:
        """Queue a request until an upstream comes, or has room.

        :returns: False when none is expected, or too many wait already; nothing was queued then
        """
        group = self.group(backend)
        queue = group.policy.queue
        most, seconds = self._limits.waiting, self._limits.waiting_time
        if queue is not None:
            most, seconds = queue.requests, queue.seconds
        elif not self._registry.expecting(backend):
            return False
        if most and self._registry.succeeding:
            most = max(most, self._limits.connections)
        # an open circuit means an answer at once
        if not self._open or len(group.queue) >= most or group.why(waiter.selection) == CIRCUIT_OPEN:
            return False
        group.queue[waiter] = self._timers.start(seconds, lambda: self._expired(group, waiter))
        group.counts["queued"] += 1
        return True

    def forget(self, backend: str, waiter: IWaiter) -> None:
        """The request is gone; unknown ones are ignored."""
        group = self._groups.get(backend)
        timer = None if group is None else group.queue.pop(waiter, None)
        if timer is not None:
            timer.cancel()

    def waiting(self, backend: str) -> int:
        """How many requests of a backend wait."""
        group = self._groups.get(backend)
        return 0 if group is None else len(group.queue)

    def lines(self) -> list[str]:
        """What is not as it should be, a line each, for people."""
        return [line for group in self._groups.values() for line in group.lines()]

    def close(self) -> None:
        """Let nobody wait any longer, now or later."""
        self._open = False
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe = []
        for group in list(self._groups.values()):
            for waiter in list(group.queue):
                self._expired(group, waiter)
            group.stop()

    # within

    def _expired(self, group: Group, waiter: IWaiter) -> None:
        self.forget(group.name, waiter)
        group.counts["queue_expired"] += 1
        waiter.upstream_missing()

    def _refresh(self, group: Group, catalog: Catalog) -> None:
        backend = catalog.backends.get(group.name)
        group.configure(USUAL if backend is None else backend.policy)
        group.take_over(self._upstreams.for_backend(group.name))

    def _changed(self, backend: str) -> None:
        group = self._groups.get(backend)
        if group is not None:
            group.take_over(self._upstreams.for_backend(backend))

    def _reloaded(self, catalog: Catalog) -> None:
        for name, group in list(self._groups.items()):
            self._refresh(group, catalog)
            if name not in catalog.backends and not group.members and not group.queue:
                group.stop()
                del self._groups[name]
        self._begin_checks(catalog)

    def _begin_checks(self, catalog: Catalog) -> None:
        """Who has to be looked after is, before a request comes."""
        for name, backend in catalog.backends.items():
            if backend.policy.health is not None:
                self.group(name)

    def _wake(self, group: Group) -> None:
        queue = group.queue
        for waiter in list(queue):
            if waiter not in queue:
                continue  # what another was given has ended it
            upstream = self.pick(group.name, waiter.avoid, waiter.selection, waiter.seeker)
            if upstream is None:
                if waiter.selection is None and not waiter.avoid:
                    return  # none for anybody
                continue
            self.forget(group.name, waiter)
            try:
                waiter.upstream_ready(upstream)
            except Exception:  # noqa: BLE001 - the registry's other subscribers and the next in the queue go on
                log.failure("a request that waited for backend {backend} failed", backend=group.name)
