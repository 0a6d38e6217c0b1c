"""The search for an upstream that takes a request, where an idle stream was not there for the taking.

It dials, waits for an agent that is expected back, and tries again elsewhere what may be sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.failures import blames, code_of, expects_successor, reason_of, undelivered
from wormhole_tw.edge.interfaces import IUpstream, IUpstreamRequest, IWaiter
from wormhole_tw.edge.states import State
from wormhole_tw.errors import HttpError, NoUpstream, RequestReset, TimedOut
from wormhole_tw.http.methods import IDEMPOTENT, is_idempotent

if TYPE_CHECKING:
    from collections.abc import Hashable

    from wormhole_tw.control.model import Selection
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.net.timers import Timer

__all__ = ["REUSE_WITHIN", "Search", "kept_stream"]

log = Logger()

REUSE_WITHIN = 1.0
"""Seconds for which an idle stream takes a request that must not be sent twice.  An origin may close an idle connection
at the moment the request is on its way, and nobody knows then whether it was handled; origins wait 2 s and more."""

_NOBODY = NoUpstream("no agent is there")


def kept_stream(
    context: EdgeContext, upstream: IUpstream, facts: ConnectionFacts, method: bytes
) -> IUpstreamRequest | None:
    """An idle connection to an upstream that is good for a request of this method."""
    since = 0.0 if method in IDEMPOTENT else context.timers.now - REUSE_WITHIN
    return context.pool.take(upstream, facts if upstream.per_visitor else None, unused_since=since)


@implementer(IWaiter)
class Search:
    """The search of one exchange; it may begin again when an upstream fails."""

    __slots__ = ("_avoid", "_context", "_dialling", "_exchange", "_failure", "_fresh", "_refused", "_timer")

    def __init__(self, context: EdgeContext, exchange: Exchange) -> None:
        self._context = context
        self._exchange = exchange
        self._avoid: set[Hashable] = set()
        self._fresh = False
        self._refused = False
        self._failure: BaseException = _NOBODY
        self._dialling: Deferred[IUpstreamRequest] | None = None
        self._timer: Timer | None = None

    def begin(self, upstream: IUpstream | None) -> None:
        """Go on from the first choice, which has no idle stream (or must not use one), or is no choice at all."""
        if upstream is None:
            self._wait_or_give_up()
        else:
            self._take(upstream)
            self._dial(upstream)

    def find(self) -> None:
        """Look for an upstream now; what comes of it, the exchange is told, perhaps before this returns."""
        pick, backend, selection = self._context.dispatch.pick, self._exchange.backend, self._exchange.selection
        upstream = pick(backend, self._avoid, selection, self._exchange)
        if upstream is None and self._refused:
            # a service that refused this one, or left with its connection, may well take the next
            upstream = pick(backend, (), selection, self._exchange)
        if upstream is not None:
            self.use(upstream)
        else:
            self._wait_or_give_up()

    def _wait_or_give_up(self) -> None:
        exchange, dispatch = self._exchange, self._context.dispatch
        waits = expects_successor(self._failure) or dispatch.busy(exchange.backend, self._avoid, exchange.selection)
        if waits and dispatch.wait(exchange.backend, self):
            exchange.move(State.WAITING)
        else:
            self._give_up()

    def _give_up(self) -> None:
        exchange, reason = self._exchange, None
        if self._failure is _NOBODY:
            reason = self._context.dispatch.why(exchange.backend, exchange.selection)
        exchange.give_up(reason or reason_of(self._failure), code=code_of(self._failure))

    def _take(self, upstream: IUpstream) -> None:
        exchange = self._exchange
        exchange.upstream = upstream
        exchange.attempts += 1
        if exchange.standing is not None or upstream.standing is not None:
            exchange.took(upstream.standing, self._context.timers.seconds())

    def use(self, upstream: IUpstream) -> None:
        """Send the request there: on an idle stream, or on a new one."""
        context, exchange = self._context, self._exchange
        self._take(upstream)
        forward = exchange.forward
        assert forward is not None
        if forward.upgrade is None and not self._fresh:
            connection = kept_stream(context, upstream, exchange.facts, forward.method)
            if connection is not None:
                exchange.send_on(connection)
                return
        self._dial(upstream)

    def failed(self, error: BaseException, *, reused: bool, begun: bool) -> None:
        """The upstream failed while it had the request: send it again where that is allowed, or give up.

        :param reused: the stream had taken a request before
        :param begun: an octet of an answer had come
        """
        exchange = self._exchange
        lost = undelivered(error)
        closing = reused and not lost
        if closing:
            # the idle stream was closing: a new one to the same agent is as good as any
            self._fresh = True
        elif exchange.upstream is not None:
            self._avoid.add(exchange.upstream.key)
        self._refused = isinstance(error, RequestReset) and lost
        if not closing:
            # one that lay idle and was being closed says nothing of its service
            self._fared(error)
        assert exchange.forward is not None
        may = not isinstance(error, HttpError | TimedOut) and not begun
        self._again(error, may=may and (lost or is_idempotent(exchange.forward.method)))

    def stop(self) -> None:
        """The exchange is over."""
        self._context.dispatch.forget(self._exchange.backend, self)
        self._stop_timer()
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()

    # IWaiter

    @property
    def avoid(self) -> set[Hashable]:
        """See IWaiter."""
        return self._avoid

    @property
    def seeker(self) -> Exchange:
        """See IWaiter."""
        return self._exchange

    @property
    def selection(self) -> Selection | None:
        """See IWaiter."""
        return self._exchange.selection

    def upstream_ready(self, upstream: IUpstream) -> None:
        """See IWaiter."""
        try:
            self.use(upstream)
        except Exception:  # noqa: BLE001 - the registry, which calls this, must not suffer
            log.failure("an exchange failed on its new upstream")
            self._exchange.crashed()
        self._exchange.flush()

    def upstream_missing(self) -> None:
        """See IWaiter."""
        self._give_up()
        self._exchange.flush()

    # within

    def _again(self, error: BaseException, *, may: bool) -> None:
        self._failure = error
        exchange = self._exchange
        if not (may and exchange.repeatable and self._has_try_left(error)):
            exchange.give_up(reason_of(error), code=code_of(error))
            return
        self._context.counters.retries += 1
        self.find()

    def _has_try_left(self, error: BaseException) -> bool:
        exchange, dispatch = self._exchange, self._context.dispatch
        # an agent that is gone takes no more load, and its requests are new to the others
        gone = expects_successor(error)
        return exchange.attempts < dispatch.attempts(exchange.backend) and (
            gone or dispatch.may_retry(exchange.backend)
        )

    def _fared(self, error: BaseException) -> None:
        exchange = self._exchange
        if exchange.standing is not None and blames(error):
            exchange.fared(self._context.timers.seconds(), 0)

    def _dial(self, upstream: IUpstream) -> None:
        context, exchange = self._context, self._exchange
        forward = exchange.forward
        assert forward is not None
        exchange.move(State.DIALLING)
        if forward.upgrade is None:
            visitor = exchange.facts if upstream.per_visitor else None
            # what came through a proxy of ours is one request of a visitor, and nobody says when the visitor leaves
            keep = visitor is None or visitor.exclusive
            dialling = context.pool.dial(upstream, visitor, exchange.host, keep=keep)
        else:
            # it belongs to this visitor from now on, whatever becomes of the upgrade
            dialling = context.pool.dial(upstream, exchange.facts, exchange.host, keep=False)
        self._dialling = dialling
        dialling.addCallbacks(self._dialled, self._dial_failed).addErrback(self._dial_crashed)
        if self._dialling is dialling:
            # the tunnel gives its streams at once; others may take their time
            self._timer = context.timers.start(exchange.limits.connect, self._dial_timed_out)

    def _dialled(self, connection: IUpstreamRequest) -> None:
        self._dialling = None
        self._stop_timer()
        if self._exchange.state is not State.DIALLING:
            connection.cancel()
            return
        self._exchange.send_on(connection)
        self._exchange.flush()

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        self._stop_timer()
        exchange = self._exchange
        if exchange.state is not State.DIALLING:
            return
        error: BaseException = failure.value or _NOBODY
        if isinstance(error, CancelledError):
            error = TimedOut("limits.connect", "the connection to the service did not stand in time")
        if exchange.upstream is not None:
            self._avoid.add(exchange.upstream.key)
        self._fared(error)
        # nothing was sent on a connection that never stood
        self._again(error, may=True)
        exchange.flush()

    def _dial_crashed(self, failure: Failure) -> None:
        log.failure("an exchange failed on its new connection", failure)
        self._exchange.crashed()

    def _dial_timed_out(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
