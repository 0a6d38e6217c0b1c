"""Who looks on while an edge works: metrics, the access log, the reactor's delay; nobody where nothing is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool

from wormhole_tw.edge.access_log import AccessLog
from wormhole_tw.edge.metrics import SWITCHING, EdgeMetrics, Histogram
from wormhole_tw.edge.noted import MOST, Noted
from wormhole_tw.net.loop_delay import LoopDelay

if TYPE_CHECKING:
    from collections.abc import Hashable

    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.edge.again import Again
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.passage import Passage

__all__ = ["Observer"]


class Observer:
    """What one start of an edge keeps of its requests.

    :ivar metrics: None where nobody could ask for them (there is no admin listener)
    :ivar access_log: None where none is configured
    :ivar loop_delay: how late the reactor was
    """

    __slots__ = ("_delay", "_timers", "access_log", "loop_delay", "metrics")

    def __init__(self, reactor: Any, config: EdgeConfig, context: EdgeContext) -> None:
        """
        :raises ConfigError: the access log cannot be opened
        """
        self._timers = context.timers
        self.metrics: EdgeMetrics | None = None
        self.access_log: AccessLog | None = None
        self.loop_delay = Histogram()
        self._delay = LoopDelay(reactor, self.loop_delay.observe)
        if config.access_log is not None:
            self.access_log = AccessLog(
                config.access_log,
                context.timers,
                context.wall,
                lambda *call: deferToThreadPool(reactor, reactor.getThreadPool(), *call),
                source=config.source,
            )
            self.access_log.open()
            context.passages.on_done = self.passage_done
        if config.admin is not None:
            self.metrics = EdgeMetrics()
        if self.metrics is not None or self.access_log is not None:
            context.on_exchange_done = self.exchange_done
            context.on_answered_again = self.answered_again

    def start(self) -> None:
        """The edge serves."""
        if self.metrics is not None:
            self._delay.start()

    def exchange_done(self, exchange: Exchange) -> None:
        """Take a finished exchange."""
        seconds = self._timers.seconds
        now = seconds()
        metrics, access_log = self.metrics, self.access_log
        answered = exchange.answered
        if answered is not None and exchange.attempts == 1 and not exchange.reason:
            # sent once, and answered: most of what there is to say was said of the one before
            notes = answered.noted
            if notes is None:
                answered.noted = {}  # many ways are gone once only: behind a trusted proxy each is another visitor's
            elif (noted := self._noted(exchange, notes)) is not None:
                began, sent = exchange.began, exchange.sent
                first, whole = exchange.first_byte - began, now - began
                if first < 0.0 or whole < 0.0:
                    first = whole = 0.0  # the clock was set back
                if noted.alike is not None:
                    noted.alike.one_more(sent, first, whole)
                if access_log is not None:
                    access_log.alike(noted, exchange.request_id, sent, first, whole)
                return
        if metrics is not None:
            metrics.record(exchange, now)
        if access_log is not None:
            access_log.record(exchange, now)

    def _noted(self, exchange: Exchange, notes: dict[Hashable, Noted]) -> Noted | None:
        """What it shares with those before it, or from now on with those after it; None where it stands alone."""
        upstream = exchange.upstream
        assert upstream is not None
        noted = notes.get(upstream.key)
        if noted is not None and noted.status == exchange.status:
            return noted
        if exchange.status == SWITCHING or not exchange.first_byte:
            return None
        if len(notes) >= MOST:
            notes.clear()
        alike = None if self.metrics is None else self.metrics.alike(exchange, instant=False)
        common = None if self.access_log is None else self.access_log.form.common(exchange)
        noted = notes[upstream.key] = Noted(exchange.status, alike, common)
        return noted

    def answered_again(self, repeated: Again, request_id: bytes, wall: float) -> None:
        """Take an answer that was given again.

        :param wall: seconds since 1970
        """
        metrics = self.metrics
        if metrics is not None:
            alike = repeated.alike
            if alike is None:
                alike = repeated.alike = metrics.alike(repeated.model, instant=True)
            alike.times += 1
            alike.sent += repeated.sent
        if self.access_log is not None:
            self.access_log.again(repeated, request_id, wall)

    def passage_done(self, passage: Passage) -> None:
        """Take a connection that led through the tunnel as it was, and is over."""
        assert self.access_log is not None
        self.access_log.record(passage, self._timers.seconds())

    def stop(self) -> Deferred[None]:
        """No exchange is left: write what waits; fires when it is written, and never fails."""
        self._delay.stop()
        return self.access_log.close() if self.access_log is not None else succeed(None)
