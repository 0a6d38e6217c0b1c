"""Hedging: a GET that has no answer after a while is sent to another upstream too; the first answer wins.

To the exchange a race is its upstream request, until one of the two has won; from then on that one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.failures import blames
from wormhole_tw.edge.interfaces import IAnswerHandler, IUpstream, IUpstreamRequest
from wormhole_tw.edge.search import kept_stream
from wormhole_tw.edge.seeker import Seeker
from wormhole_tw.errors import TimedOut

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.compressing import Compressing
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.members import Member
    from wormhole_tw.http.events import Body, End, Event, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead
    from wormhole_tw.net.timers import Timer

__all__ = ["HEDGED", "Race"]

log = Logger()

HEDGED = frozenset({b"GET", b"HEAD"})
"""Safe methods without a body: asking twice costs a service work, and nothing else (RFC 9110 §9.2.1)."""


@implementer(IUpstreamRequest)
class Race:
    """One request on its first upstream, and perhaps on a second.

    :param connection: to the first
    :ivar handler: who gets the answer: the exchange, or what stands before it
    """

    __slots__ = (
        "_connection",
        "_context",
        "_dialling",
        "_exchange",
        "_first",
        "_request_id",
        "_second",
        "_timer",
        "handler",
    )

    writable = True  # there is no body

    def __init__(self, context: EdgeContext, exchange: Exchange, connection: IUpstreamRequest) -> None:
        self._context = context
        self._exchange = exchange
        self.handler: Exchange | Compressing = exchange
        self._connection = connection
        self._first: Runner | None = None
        self._second: Runner | None = None
        self._dialling: Deferred[IUpstreamRequest] | None = None
        self._request_id = b""
        self._timer: Timer | None = None

    # IUpstreamRequest

    @property
    def reused(self) -> bool:
        """See the interface: of the one that is left, or was last."""
        return self._connection.reused

    def request(
        self, head: RequestHead, handler: IAnswerHandler, *, whole: bool = False, request_id: bytes = b""
    ) -> None:
        """See the interface; the handler is the exchange, or what stands before it."""
        exchange = self._exchange
        self.handler = handler  # type: ignore[assignment]
        upstream, standing = exchange.upstream, exchange.standing
        assert upstream is not None
        assert standing is not None
        self._request_id = request_id
        runner = self._first = Runner(self, upstream, standing, exchange.asked, self._connection)
        self._timer = self._context.dispatch.fine.start(standing.group.hedge_after, self._send_second)
        self._connection.request(head, runner, whole=whole, request_id=request_id)

    def send(self, event: Event) -> None:
        """See the interface: there is nothing to send."""

    def flush(self) -> None:
        """See the interface."""
        for runner in (self._first, self._second):
            if runner is not None:
                runner.connection.flush()

    def expect_answer(self) -> None:
        """See the interface: it is whole, and was expected from the beginning."""

    def consumed(self, n: int) -> None:
        """See the interface: nothing is received before one has won."""

    def cancel(self) -> None:
        """See the interface."""
        self._stop()
        first, second = self._first, self._second
        self._first = self._second = None
        if first is not None:
            first.connection.cancel()
        if second is not None:
            second.retire()

    def finish(self) -> None:
        """See the interface: nothing is switched before one has won."""
        self.cancel()

    # the second

    def _send_second(self) -> None:
        exchange, context = self._exchange, self._context
        standing, upstream = exchange.standing, exchange.upstream
        if standing is None or upstream is None:
            return
        group, now = standing.group, context.timers.seconds()
        if len(group.members) < 2 or not group.may_hedge(now):
            return
        # a failover's branches are none of this route's
        selection = exchange.selection if group.name == exchange.backend else None
        asking = _Second(exchange)
        other = group.pick((upstream.key,), selection, asking)
        if other is None or other.standing is None:
            return
        group.counts["hedge"] += 1
        exchange.attempts += 1
        other.standing.begin(now, timed=True)
        runner = Runner(self, other, other.standing, now, self._connection)
        runner.cookie = asking.cookie
        forward = exchange.forward
        assert forward is not None
        connection = kept_stream(context, other, exchange.facts, forward.method)
        if connection is not None:
            self._run(runner, connection)
            return
        visitor = exchange.facts if other.per_visitor else None
        self._second = runner
        runner.connection = _NOTHING
        self._timer = context.timers.start(exchange.limits.connect, self._dial_late)
        self._dialling = context.pool.dial(other, visitor, exchange.host, keep=visitor is None or visitor.exclusive)
        self._dialling.addCallbacks(self._dialled, self._dial_failed).addErrback(self._bug)

    def _dial_late(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()

    def _dialled(self, connection: IUpstreamRequest) -> None:
        self._dialling = None
        runner = self._second
        if runner is None:
            connection.cancel()
            return
        self._run(runner, connection)

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        runner = self._second
        if runner is not None:
            error = failure.value
            if isinstance(error, CancelledError) or not isinstance(error, Exception):
                error = TimedOut("limits.connect", "the connection to the service did not stand in time")
            self.lost(runner, error, begun=False)

    def _bug(self, failure: Failure) -> None:
        log.failure("a hedged request failed on its second connection", failure)
        self._exchange.crashed()

    def _run(self, runner: Runner, connection: IUpstreamRequest) -> None:
        self._second = runner
        runner.connection = connection
        forward, translation = self._exchange.forward, runner.upstream.translation
        assert forward is not None
        head = forward if translation is None else translation.request(forward)
        connection.request(head, runner, whole=True, request_id=self._request_id)

    # what the runners tell

    def alone(self, runner: Runner) -> bool:
        """No other runs."""
        return (self._second if runner is self._first else self._first) is None

    def won(self, runner: Runner) -> None:
        """The first octets of an answer have come: the other gives up."""
        self._stop()
        exchange = self._exchange
        first, second = self._first, self._second
        self._first = self._second = None
        now = self._context.timers.seconds()
        if runner is second:
            second.standing.group.counts["hedge_won"] += 1
            if first is not None:
                first.connection.cancel()
                exchange.outrun(now)
            self._adopt(runner)
        elif second is not None:
            second.retire()
        self.handler.run_by(runner.connection)

    def lost(self, runner: Runner, error: Exception, *, begun: bool) -> None:
        """It failed: the other goes on alone; where there is none, the exchange is told."""
        exchange, now = self._exchange, self._context.timers.seconds()
        alone = self.alone(runner)
        if alone:
            self._stop()
            self._first = self._second = None
            self._connection = runner.connection
            if runner.standing is not exchange.standing:
                self._adopt(runner)
            self.handler.on_failure(error, begun)
        elif runner is self._second:
            self._second = None
            if blames(error):
                runner.standing.fared(now, now - runner.asked, 0)
            else:
                runner.standing.unanswered(timed=True)
            runner.standing.end()
        else:
            self._first = None
            if blames(error):
                exchange.fared(now, 0)

    def _adopt(self, runner: Runner) -> None:
        self._exchange.adopt(runner.upstream, runner.standing, runner.asked)
        if runner.cookie:
            self._exchange.stick(runner.cookie)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            second, self._second = self._second, None
            dialling.cancel()
            if second is not None:
                second.retire()


class _Second(Seeker):
    """Who asks for the second upstream: the visitor remembers it only if it answers.

    :ivar cookie: what leads the visitor there, or nothing
    """

    __slots__ = ("cookie", "facts", "head")

    def __init__(self, exchange: Exchange) -> None:
        self.facts = exchange.facts
        self.head = exchange.head
        self.cookie = b""

    def stick(self, cookie: bytes) -> None:
        self.cookie = cookie


class _Nothing:
    """The connection of one that is still being dialled."""

    reused = False

    def cancel(self) -> None:
        """There is nothing to cancel."""

    def flush(self) -> None:
        """There is nothing to send."""


_NOTHING: IUpstreamRequest = _Nothing()  # type: ignore[assignment]


@implementer(IAnswerHandler)
class Runner:
    """One of the two, and what its upstream says; once it has won, that is the exchange's.

    :ivar asked: when it was sent
    :ivar cookie: what leads the visitor to its upstream, where it is not the first; or nothing
    """

    __slots__ = ("_exchange", "_race", "_won", "asked", "connection", "cookie", "standing", "upstream")

    def __init__(
        self, race: Race, upstream: IUpstream, standing: Member, asked: float, connection: IUpstreamRequest
    ) -> None:
        self._race = race
        self._exchange = race._exchange
        self._won = False
        self.cookie = b""
        self.upstream = upstream
        self.standing = standing
        self.asked = asked
        self.connection = connection

    @property
    def limits(self) -> Limits:
        """See IAnswerHandler."""
        return self._exchange.limits

    def retire(self) -> None:
        """The other one has won, or nobody wants an answer any more."""
        self.connection.cancel()
        self.standing.unanswered(timed=True)
        self.standing.end()

    def _win(self) -> None:
        if not self._won:
            self._won = True
            self._race.won(self)

    # IAnswerHandler

    def on_informational(self, head: InformationalHead) -> None:
        """See IAnswerHandler; while two run, what is not final is of use to nobody."""
        if self._won or self._race.alone(self):
            self._race.handler.on_informational(head)

    def on_head(self, head: ResponseHead) -> None:
        """See IAnswerHandler."""
        self._win()
        self._race.handler.on_head(head)

    def on_body(self, event: Body) -> None:
        """See IAnswerHandler."""
        self._race.handler.on_body(event)

    def on_end(self, event: End) -> None:
        """See IAnswerHandler."""
        self._race.handler.on_end(event)

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """See IAnswerHandler."""
        self._win()
        self._race.handler.on_answer(head, body)

    def on_raw(self, event: Raw) -> None:
        """See IAnswerHandler."""
        self._race.handler.on_raw(event)

    def on_raw_end(self, event: RawEnd) -> None:
        """See IAnswerHandler."""
        self._race.handler.on_raw_end(event)

    def on_failure(self, error: Exception, begun: bool) -> None:
        """See IAnswerHandler."""
        if self._won:
            self._race.handler.on_failure(error, begun)
        else:
            self._race.lost(self, error, begun=begun)

    def on_pause(self) -> None:
        """See IAnswerHandler: there is no body to hold back."""

    def on_resume(self) -> None:
        """See IAnswerHandler."""

    def on_turn_end(self) -> None:
        """See IAnswerHandler."""
        self._race.handler.on_turn_end()

    def crashed(self) -> None:
        """See IAnswerHandler."""
        self._race.handler.crashed()
