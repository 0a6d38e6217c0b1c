"""A request's way through its middleware: to the exchange it is what an upstream's connection is.

From the visitor's side come the pieces of the request's body, which are held, at most :data:`HELD` octets, until a
middleware reads them or the service gets them.  Towards the visitor goes what the first middleware returned.  Each
``await next(request)`` behind the last one is a :class:`.service_call.ServiceCall`.

Whatever a middleware does ends with its request: when the exchange is over all of it is cancelled, and what does not
end then is named in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.compressing import Compressing
from wormhole_tw.edge.interfaces import IAnswerHandler, IUpstreamRequest
from wormhole_tw.edge.middleware.call import Call, failed
from wormhole_tw.edge.middleware.entry import driven
from wormhole_tw.edge.middleware.service_call import WINDOW, ServiceCall
from wormhole_tw.errors import HttpError, NextFailed
from wormhole_tw.http.events import Body, End, Event, Framing, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead
from wormhole_tw.http.forwarding import trailers_onwards
from wormhole_tw.middleware import Headers, Request, Response
from wormhole_tw.middleware.body import Body as ReadableBody
from wormhole_tw.middleware.body import Pieces, Pipe, Whole

if TYPE_CHECKING:
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.inner import InnerExchange
    from wormhole_tw.edge.middleware.entry import Entry

__all__ = ["HELD", "Chain", "enter_chain"]

log = Logger()

HELD = 64 * 1024
"""Octets of a request's body that wait for whoever reads them, before the visitor has to wait."""


PIECE = 16 * 1024
"""Octets that a piece counts for at least, where those who make bodies take turns: who has them by the octet, or takes
long for each, is nobody's neighbour for longer than who has them large."""


def enter_chain(exchange: Exchange, stack: tuple[Entry, ...]) -> None:
    """Send a request through its middleware; it may have its answer when this returns."""
    chain = Chain(exchange, stack)
    if exchange.compress is None:
        exchange.hand_to(chain)
    else:
        # what middleware answers, the service's or its own, gets its coding behind it
        compressing = Compressing(exchange, chain, exchange.compress)
        assert exchange.forward is not None
        compressing.request(exchange.forward, exchange)
        exchange.hand_to(compressing)
    chain.start()


@implementer(IUpstreamRequest)
class Chain:
    """One request's.

    :ivar outer: its exchange
    :ivar to: who gets its answer: that, or what stands before it
    :ivar stack: the middleware, from the visitor on
    :ivar incoming: the request's body as it comes
    :ivar over: the exchange has ended, or waits for nothing of this any more
    """

    reused = False

    __slots__ = (
        "_asked_to_go_on",
        "_calls",
        "_fed",
        "_inner",
        "_out",
        "_pumps",
        "_room",
        "_services",
        "_unread",
        "_watched",
        "_way",
        "context",
        "incoming",
        "made",
        "outer",
        "over",
        "stack",
        "steps",
        "to",
    )

    def __init__(self, outer: Exchange, stack: tuple[Entry, ...]) -> None:
        self.outer = outer
        self.to: IAnswerHandler = outer
        self.stack = stack
        self.context = outer._context
        self.over = False
        forward = outer.forward
        assert forward is not None
        self.steps = 0  # of its middleware's code, which are on the stack just now
        self.made: list[Pieces] = []  # bodies that its middleware makes
        length = forward.length if forward.framing is Framing.LENGTH else None
        self.incoming = Pipe(self._took, length, self._wanted)
        self.incoming.home = self
        self._asked_to_go_on = False  # a visitor who waits for a 100 has got it from here
        self._unread = 0  # octets of the request that nobody has taken
        self._fed = True  # the exchange need not be told to go on
        self._inner: InnerExchange | None = None  # where the request's body goes straight on to
        self._calls: list[Call] = []
        self._services: list[ServiceCall] = []
        self._watched: list[Deferred[Response]] = []
        self._pumps: set[Deferred[Any]] = set()
        self._way: ServiceCall | None = None  # whose answer goes straight on to the visitor
        self._out = 0  # octets of an answer that is made here, which the visitor has not taken
        self._room: Deferred[None] | None = None

    def start(self) -> None:
        """Call the first one."""
        outer = self.outer
        assert outer.forward is not None
        body = Whole(b"") if outer.forward.framing is Framing.NONE else self.incoming
        self.go_on(0, _request_of(outer, ReadableBody(body))).addCallbacks(self._answered, self._failed).addErrback(
            self._crashed
        )

    # for calls

    def go_on(self, index: int, request: Request) -> Deferred[Response]:
        """To the next middleware, or to the service."""
        if index < len(self.stack):
            call = Call(self, index)
            self._calls.append(call)
            return call.begin(request)
        service = ServiceCall(self)
        self._services.append(service)
        return service.begin(request)

    def switched(self, response: Response) -> bool:
        """Whether a 101 is the answer of one of its services."""
        return any(service.gives(response) for service in self._services)

    def watch(self, deferred: Deferred[Response]) -> Deferred[Response]:
        """Nobody may ever look at it, and that is no fault worth a line."""
        self._watched.append(deferred)
        return deferred

    def fail(self, error: NextFailed) -> None:
        """The visitor gets this, or an answer that is cut."""
        if not self.over:
            self._close()
            self.outer.give_up(error.reason, status=error.status, message=error.message)
            self.outer.flush()

    # for services

    def connect(self, inner: InnerExchange) -> None:
        """The request's body goes there from now on, as it comes."""
        self._inner = inner
        for piece in self.incoming.drain():
            inner.request_body(Body(piece))
        if self.incoming.over:
            inner.request_end(End(self.incoming.trailers.lines()))

    def sent_on(self, inner: InnerExchange | None, n: int) -> None:
        """The service has taken octets of a request's body."""
        if inner is self._inner and inner is not None:
            self._took(n)

    def informational(self, head: InformationalHead) -> None:
        """A service's 1xx, which passes."""
        if not self.over and (head.status != 100 or self._inner is not None):
            self.to.on_informational(head)

    def ended(self, event: End) -> None:
        """The answer that goes straight on is whole."""
        if not self.over:
            self._close()
            self.to.on_end(event)
            self.to.on_turn_end()

    def truncated(self, reason: str, code: int | None) -> None:
        """The answer that goes straight on has ended before its end."""
        if not self.over:
            self._close()
            self.outer.give_up(reason, code=code)
            self.outer.flush()

    # IUpstreamRequest

    @property
    def writable(self) -> bool:
        """See the interface."""
        self._fed = self._unread == 0 if self._inner is not None else self._unread < HELD
        return self._fed

    def request(
        self, head: RequestHead, handler: IAnswerHandler, *, whole: bool = False, request_id: bytes = b""
    ) -> None:
        """See the interface: it begins with :meth:`start`, when all that has come was handed over."""
        self.to = handler

    def send(self, event: Event) -> None:
        """See the interface."""
        if self.over:
            return
        inner = self._inner
        if type(event) is Body:
            self._unread += len(event.data)
            if inner is not None:
                inner.request_body(event)
            else:
                self.incoming.feed(event.data)
        elif type(event) is End:
            if inner is not None:
                inner.request_end(event)
            else:
                self.incoming.finish(trailers_onwards(event.trailers))
        elif type(event) is Raw and inner is not None:
            self._unread += len(event.data)
            inner.request_raw(event)
        elif type(event) is RawEnd and inner is not None:
            inner.request_raw_end(event)

    def flush(self) -> None:
        """See the interface."""
        if self._inner is not None:
            self._inner.flush_request()

    def expect_answer(self) -> None:
        """See the interface: the service's time is its own exchange's, and middleware has its timeout."""

    def consumed(self, n: int) -> None:
        """See the interface."""
        if self._way is not None:
            self._way.took(n)
        else:
            self._taken_by_visitor(n)

    def cancel(self) -> None:
        """See the interface."""
        self._close()

    def finish(self) -> None:
        """See the interface."""
        if self._way is not None:
            self._way.finish()
        self._close()

    # the request's body

    def _took(self, n: int) -> None:
        self._unread -= n
        if not self._fed and self._unread <= HELD // 2 and not self.over:
            self._fed = True
            self.to.on_resume()

    def _wanted(self) -> None:
        """A middleware waits for the body: a visitor who waits for a 100 gets it (RFC 9110 §10.1.1)."""
        forward = self.outer.forward
        if forward is not None and forward.expect_continue and not self._asked_to_go_on and not self.over:
            self._asked_to_go_on = True
            self.to.on_informational(InformationalHead(100, []))
            self.to.on_turn_end()

    def send_made(self, inner: InnerExchange, body: ReadableBody, call: ServiceCall) -> None:
        """Send the service a body that a middleware makes."""
        self._pump(self._send_made(inner, body, call))

    async def _send_made(self, inner: InnerExchange, body: ReadableBody, call: ServiceCall) -> Callable[[], object]:
        given = 0
        try:
            while piece := await body._source.pull():
                for start in range(0, len(piece), WINDOW):
                    part = piece[start : start + WINDOW]
                    await call.give(part)
                    given += max(len(part), PIECE)
                    if given >= WINDOW:
                        given = 0
                        await self.turn_end()
        except (NextFailed, HttpError) as failed:
            error = failed
            return lambda: inner.give_up(error.reason, status=error.status, message=error.message)

        def end() -> None:
            inner.request_end(End(trailers_onwards(body.trailers.lines())))
            inner.flush_request()

        return end

    # the answer

    def _answered(self, response: Response) -> None:
        if self.over:
            return
        outer, to = self.outer, self.to
        assert outer.head is not None
        method = outer.head.method
        way = next((service for service in self._services if service.gives(response)), None)
        if way is None:
            self._give(response, head_only=method == b"HEAD")
            return
        head = way.head_for(response, method)
        if response.status == 101 and self._inner is None:
            way.connect()
        if head.framing is Framing.LENGTH and (whole := way.take_whole()) is not None:
            # as most answers come
            self._close()
            to.on_answer(head, whole)
            return
        self._way = way
        to.on_head(head)
        if way.has_body and head.framing is Framing.NONE:
            # the service was asked for what this visitor does not get
            self.ended(End())
            return
        way.go_direct()
        if not self.over:
            to.on_turn_end()

    def _give(self, response: Response, *, head_only: bool) -> None:
        """Answer with what a middleware made."""
        to = self.to
        source = response.body._source
        head = ResponseHead(response.status, response.reason.encode("latin-1", "replace"), response.headers.lines())
        if isinstance(source, Whole) and not len(source.trailers):
            if source.data and response.bodiless:
                self._calls[0].entry.failed(Failure(ValueError(f"an answer with status {response.status} has no body")))
                self.fail(failed())
                return
            if not response.bodiless and (source.data or not head_only):
                head.framing, head.length = Framing.LENGTH, len(source.data)
            self._close()
            if head_only or not source.data:
                to.on_head(head)
                to.on_end(End())
                to.on_turn_end()
            else:
                to.on_answer(head, source.data)
            return
        if head_only or response.bodiless:
            self._close()
            to.on_head(head)
            to.on_end(End())
            to.on_turn_end()
            return
        head.framing = Framing.CHUNKED
        to.on_head(head)
        to.on_turn_end()
        self._pump(self._give_made(response.body))

    async def _give_made(self, body: ReadableBody) -> Callable[[], object]:
        to = self.to
        given = 0
        try:
            while piece := await body._source.pull():
                for start in range(0, len(piece), WINDOW):
                    if self.over:
                        raise CancelledError()
                    part = piece[start : start + WINDOW]
                    self._out += len(part)
                    to.on_body(Body(part))
                    to.on_turn_end()
                    if self._out:
                        room = self._room = Deferred()
                        await room
                    given += max(len(part), PIECE)
                    if given >= WINDOW:
                        # somebody who takes as much as there is must not keep the others waiting
                        given = 0
                        await self.turn_end()
        except (NextFailed, HttpError) as failed:
            error = failed
            return lambda: self.truncated(error.reason, None)
        return lambda: self.ended(End(trailers_onwards(body.trailers.lines())))

    def turn_end(self) -> Deferred[None]:
        """Fires when everybody else has had their turn."""
        waiting: Deferred[None] = Deferred()
        self.context.turn.call(lambda: None if waiting.called else waiting.callback(None))
        return waiting

    def _taken_by_visitor(self, n: int) -> None:
        self._out -= n
        room = self._room
        if not self._out and room is not None:
            self._room = None
            room.callback(None)

    def _failed(self, failure: Failure) -> None:
        if self.over:
            return
        error = failure.value
        if not isinstance(error, NextFailed):
            failure.raiseException()
        self.fail(error)

    def _crashed(self, failure: Failure) -> None:
        log.failure("a chain of middleware failed", failure)
        self._close()
        self.outer.crashed()

    # ends

    def _pump(self, steps: Coroutine[Any, Any, Callable[[], object]]) -> None:
        """Run what hands a body over; what it returns is done when it is over, and can be cancelled no more."""
        pump: Deferred[Any] = Deferred.fromCoroutine(driven(steps, self))
        self._pumps.add(pump)

        def over(result: Any) -> Any:
            self._pumps.discard(pump)
            return result

        pump.addBoth(over).addCallback(lambda then: then()).addErrback(self._pump_failed)

    def _pump_failed(self, failure: Failure) -> None:
        if not (self.over and failure.check(CancelledError)):
            self._crashed(failure)

    def step_begins(self) -> None:
        """See Watcher."""
        self.steps += 1

    def step_ends(self) -> None:
        """See Watcher."""
        self.steps -= 1

    def blocked(self, seconds: float) -> None:
        """See Watcher: what held it up in there has been named."""

    def _close(self) -> None:
        """Nothing more is wanted of any part of it."""
        if self.over:
            return
        self.over = True
        for service in self._services:
            service.cancel()
        self.incoming.fail(CancelledError())
        if self.steps:
            # what runs just now cannot be cancelled in its own step
            self.context.turn.call(self._cancel_calls)
        else:
            self._cancel_calls()

    def _cancel_calls(self) -> None:
        """End what its middleware still does."""
        for pump in list(self._pumps):
            pump.cancel()
        for call in self._calls:
            # the first takes along those that it waits for, and not those that it has forgotten
            if call.deferred is not None:
                call.deferred.cancel()
        for waiting in self._watched:
            waiting.addErrback(lambda _: None)
            waiting.cancel()
        for pieces in self.made:
            Deferred.fromCoroutine(pieces.close()).addErrback(_left_badly)
        for call in self._calls:
            call.end()
        # what refers to one another is not left to the garbage collector
        self._calls, self._services, self._watched, self.made = [], [], [], []


def _request_of(outer: Exchange, body: ReadableBody) -> Request:
    """The request as the first middleware gets it: as it would go to the service."""
    forward, facts = outer.forward, outer.facts
    assert forward is not None
    request = Request.__new__(Request)
    request.method = forward.method.decode("ascii")
    request._target = forward.target.decode("latin-1")
    request.headers = Headers.of(forward.fields)
    request.scheme = facts.forwarding.scheme
    request.host = outer.host
    request.address = facts.address
    request.port = facts.port
    request.tls = None if facts.tls is None else facts.tls.version or None
    request.id = outer.request_id.decode("ascii")
    request.site = outer.site
    request.route = outer.route
    request.upgrade = None if forward.upgrade is None else forward.upgrade.decode("latin-1")
    request.notes = {}
    request._body = body
    return request


def _left_badly(failure: Failure) -> None:
    """Its request is over, so that nobody else hears of it."""
    if not failure.check(CancelledError):
        log.failure("a body that a middleware made failed when it was ended", failure)
