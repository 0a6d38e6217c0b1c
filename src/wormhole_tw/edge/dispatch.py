"""Dispatch: which upstream takes a request, now or, where one is expected back, in a moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.control.model import Selection
    from wormhole_tw.control.registry import Registry
    from wormhole_tw.edge.interfaces import IBalancer, IUpstream, IUpstreams, IWaiter
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["Dispatch"]

log = Logger()


class Dispatch:
    """Candidates from the registry, one of them by the balancer; a bounded queue, first come first served.

    :param limits: ``waiting`` requests of one backend at most, ``waiting_time`` seconds each
    """

    def __init__(
        self, registry: Registry, upstreams: IUpstreams, balancer: IBalancer, timers: TimerWheel, limits: Limits
    ) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._balancer = balancer
        self._timers = timers
        self._limits = limits
        # backend → those that wait, in the order they came
        self._queues: dict[str, dict[IWaiter, Timer]] = {}
        self._unsubscribe: Callable[[], None] | None = registry.subscribe(self._changed)

    def pick(
        self, backend: str, avoid: Collection[Hashable] = (), selection: Selection | None = None
    ) -> IUpstream | None:
        """An upstream for a request now, or None.

        :param avoid: keys of upstreams that failed this request already
        :param selection: which of them its route leads to; None for any
        """
        candidates = self._upstreams.for_backend(backend)
        if selection is not None:
            candidates = tuple(upstream for upstream in candidates if selection.takes(upstream.branch))
        if avoid:
            candidates = tuple(upstream for upstream in candidates if upstream.key not in avoid)
        if not candidates:
            return None
        return self._balancer.pick(candidates)

    def offers(self, backend: str, branch: str) -> bool:
        """Whether an upstream of a release branch could take a request for a backend now."""
        return any(upstream.branch == branch for upstream in self._upstreams.for_backend(backend))

    def wait(self, backend: str, waiter: IWaiter) -> bool:
        """Queue a request until an upstream comes.

        :returns: False when none is expected, or too many wait already; nothing was queued then
        """
        if self._unsubscribe is None or not self._registry.expecting(backend):
            return False
        queue = self._queues.setdefault(backend, {})
        if len(queue) >= self._limits.waiting:
            return False
        queue[waiter] = self._timers.start(self._limits.waiting_time, lambda: self._expired(backend, waiter))
        return True

    def forget(self, backend: str, waiter: IWaiter) -> None:
        """The request is gone; unknown ones are ignored."""
        queue = self._queues.get(backend)
        timer = queue.pop(waiter, None) if queue else None
        if timer is not None:
            timer.cancel()
            if not queue:
                del self._queues[backend]

    def waiting(self, backend: str) -> int:
        """How many requests of a backend wait."""
        return len(self._queues.get(backend, ()))

    def close(self) -> None:
        """Let nobody wait any longer, now or later."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for backend, queue in list(self._queues.items()):
            for waiter in list(queue):
                self._expired(backend, waiter)

    def _expired(self, backend: str, waiter: IWaiter) -> None:
        self.forget(backend, waiter)
        waiter.upstream_missing()

    def _changed(self, backend: str) -> None:
        queue = self._queues.get(backend)
        if not queue:
            return
        for waiter in list(queue):
            upstream = self.pick(backend, (), waiter.selection)
            if upstream is None:
                if waiter.selection is None:
                    return  # none for anybody
                continue
            if waiter not in queue:
                continue  # what another was given has ended it
            self.forget(backend, waiter)
            try:
                waiter.upstream_ready(upstream)
            except Exception:  # noqa: BLE001 - the registry's other subscribers and the next in the queue go on
                log.failure("a request that waited for backend {backend} failed", backend=backend)
