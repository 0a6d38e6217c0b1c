"""A copy of a request, sent to another backend, whose answer nobody sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.failures import blames
from wormhole_tw.edge.interfaces import IAnswerHandler, IUpstreamRequest
from wormhole_tw.edge.search import kept_stream
from wormhole_tw.edge.seeker import UNTOLD, Seeker
from wormhole_tw.errors import WormholeError
from wormhole_tw.http.events import Body, End, Framing

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.http.events import Event, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead
    from wormhole_tw.net.timers import Timer

__all__ = ["BEHIND", "LONGEST", "Copy"]

log = Logger()

BEHIND = 256 * 1024
"""Octets of a body by which a copy may stay behind; then it is given up, for the visitor's own must not wait."""

LONGEST = 60.0
"""Seconds that a copy may take, its answer included."""


@implementer(IAnswerHandler)
class Copy(Seeker):
    """One copy, from :meth:`begin` until ``done``; to the backend that gets it, a request like any other.

    :ivar limits: of the request it is a copy of
    """

    __slots__ = (
        "_behind",
        "_connection",
        "_context",
        "_dialling",
        "_done",
        "_ended",
        "_held",
        "_timer",
        "facts",
        "head",
        "limits",
    )

    def __init__(self, context: EdgeContext, limits: Limits, done: Callable[[Copy], None]) -> None:
        """
        :param done: called once, when it is over
        """
        self.limits = limits
        self._context = context
        self._done = done
        self._connection: IUpstreamRequest | None = None
        self._dialling: Deferred[IUpstreamRequest] | None = None
        self._held: list[Event] = []
        self._behind = 0
        self._ended = False
        self.standing = None
        self.asked = UNTOLD
        self._timer: Timer | None = context.timers.start(LONGEST, self.give_up)

    def begin(self, exchange: Exchange, backend: str) -> None:
        """Send it on its way; where nobody is there, that is its end."""
        context, forward = self._context, exchange.forward
        assert forward is not None
        self.facts, self.head = exchange.facts, forward
        upstream = context.dispatch.pick(backend, (), None, self)
        if upstream is None:
            self.give_up()
            return
        self.took(upstream.standing, context.timers.seconds())
        if upstream.translation is not None:
            if upstream.translation.circles(forward):
                self.give_up()
                return
            forward = upstream.translation.request(forward)
        self._ended = forward.framing is Framing.NONE
        connection = kept_stream(context, upstream, exchange.facts, forward.method)
        if connection is not None:
            self._send(connection, forward, exchange.request_id)
            return
        visitor = exchange.facts if upstream.per_visitor else None
        keep = visitor is None or visitor.exclusive
        dialling = self._dialling = context.pool.dial(upstream, visitor, exchange.host, keep=keep)
        dialling.addCallbacks(self._dialled, self._failed, callbackArgs=(forward, exchange.request_id))
        dialling.addErrback(self._broken)

    def add(self, event: Body | End) -> None:
        """A piece of the request's body, or its end."""
        if self._timer is None:
            return
        if isinstance(event, End):
            self._ended = True
        connection = self._connection
        if connection is not None and not self._held and (connection.writable or isinstance(event, End)):
            connection.send(event)
            if self._ended:
                connection.expect_answer()
            connection.flush()
            return
        self._held.append(event)
        if isinstance(event, Body):
            self._behind += len(event.data)
            if self._behind > BEHIND:
                self.give_up()

    def give_up(self) -> None:
        """End it now, wherever it is."""
        dialling, self._dialling = self._dialling, None
        connection, self._connection = self._connection, None
        if dialling is not None:
            dialling.cancel()
        if connection is not None:
            connection.cancel()
        self._over()

    def _over(self) -> None:
        timer, self._timer = self._timer, None
        self._held.clear()
        if timer is not None:
            timer.cancel()
            self.left()
            self._done(self)

    def _dialled(self, connection: IUpstreamRequest, forward: RequestHead, request_id: bytes) -> None:
        self._dialling = None
        if self._timer is None:
            connection.cancel()
            return
        self._send(connection, forward, request_id)
        connection.flush()

    def _failed(self, failure: Failure) -> None:
        self._dialling = None
        self._failed_by(failure.value)
        if self._timer is not None and not failure.check(WormholeError):
            log.debug("a copy of a request did not get through: {error}", error=failure.value)
        self.give_up()

    def _broken(self, failure: Failure) -> None:
        log.failure("a copy of a request failed on its new connection", failure)
        self.give_up()

    def _failed_by(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, CancelledError) and blames(error):
            self.fared(self._context.timers.seconds(), 0)

    def _send(self, connection: IUpstreamRequest, forward: RequestHead, request_id: bytes) -> None:
        self._connection = connection
        if forward.framing is Framing.NONE:
            connection.request(forward, self, whole=True, request_id=request_id)
            return
        connection.request(forward, self, request_id=request_id)
        self.on_resume()

    # IAnswerHandler

    def on_informational(self, head: InformationalHead) -> None:
        """See IAnswerHandler."""

    def on_head(self, head: ResponseHead) -> None:
        """See IAnswerHandler."""
        self.fared(self._context.timers.seconds(), head.status)

    def on_body(self, event: Body) -> None:
        """See IAnswerHandler."""
        if self._connection is not None:
            self._connection.consumed(len(event.data))

    def on_end(self, event: End) -> None:
        """See IAnswerHandler."""
        self._connection = None
        self._over()

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """See IAnswerHandler."""
        self._connection = None
        self.fared(self._context.timers.seconds(), head.status)
        self._over()

    def on_raw(self, event: Raw) -> None:
        """See IAnswerHandler."""
        self.give_up()

    def on_raw_end(self, event: RawEnd) -> None:
        """See IAnswerHandler."""

    def on_failure(self, error: Exception, begun: bool) -> None:
        """See IAnswerHandler."""
        self._connection = None
        self._failed_by(error)
        self._over()

    def on_pause(self) -> None:
        """See IAnswerHandler."""

    def on_resume(self) -> None:
        """See IAnswerHandler."""
        connection = self._connection
        assert connection is not None
        held, self._held, self._behind = self._held, [], 0
        for event in held:
            connection.send(event)
        if self._ended and held:
            connection.expect_answer()
        connection.flush()

    def on_turn_end(self) -> None:
        """See IAnswerHandler."""

    def crashed(self) -> None:
        """See IAnswerHandler."""
        self.give_up()
