"""From the end of a chain to the service: an exchange of its own, whose visitor is the middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from wormhole_tw.edge.inner import InnerExchange
from wormhole_tw.edge.interfaces import IVisitor
from wormhole_tw.edge.states import State
from wormhole_tw.errors import NextFailed
from wormhole_tw.http.events import Body, End, Event, Framing, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead
from wormhole_tw.http.targets import normalise_target
from wormhole_tw.middleware import Headers, Request, Response
from wormhole_tw.middleware.body import Body as ReadableBody
from wormhole_tw.middleware.body import Pipe, Whole
from wormhole_tw.middleware.messages import response_of_service

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.middleware.chain import Chain

__all__ = ["WINDOW", "ServiceCall"]

WINDOW = 64 * 1024
"""Octets of a body that a middleware makes which may be on their way to the service before it is asked for more."""

_PIECE = 64 * 1024
"""Octets of a body in memory that are handed over at once."""


_WITH_BODY = (b"POST", b"PUT", b"PATCH")


@implementer(IVisitor)
class ServiceCall:
    """One ``await next(request)`` behind the last middleware.

    Its answer's body goes into a pipe that the middleware reads; or, when the chain gives the answer on as it came,
    straight on to the visitor.
    """

    hands_over = False

    __slots__ = (
        "_answer",
        "_chain",
        "_direct",
        "_head",
        "_inner",
        "_noted",
        "_pipe",
        "_sending",
        "_unacked",
        "_waiting",
        "facts",
    )

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.facts = chain.outer.facts
        self._inner: InnerExchange | None = None
        self._head: ResponseHead | None = None
        self._pipe = Pipe(self._taken)
        self._pipe.home = chain
        self._answer: Deferred[Response] = Deferred(lambda _: self.cancel())
        self._direct = False
        self._unacked = 0  # octets that the visitor has not taken, where they go straight on
        self._noted = False
        self._sending = 0  # octets of a body made here that the service has not taken
        self._waiting: Deferred[None] | None = None

    @property
    def outer(self) -> Exchange:
        """The visitor's exchange."""
        return self._chain.outer

    def begin(self, request: Request) -> Deferred[Response]:
        """Send it.

        :raises MisuseError: its body was given away before
        """
        chain = self._chain
        forward = self._forward(request)
        source = request.body._source
        source.claim()
        inner = self._inner = InnerExchange(chain.context, self, self, chain.outer, forward)
        inner.caching = chain.outer.caching
        inner.proceed()
        if source is chain.incoming:
            chain.connect(inner)
        elif isinstance(source, Whole):
            data = source.data
            if forward.framing is not Framing.NONE:
                for start in range(0, len(data), _PIECE):
                    inner.request_body(Body(data[start : start + _PIECE]))
                inner.request_end(End(source.trailers.lines()))
        else:
            chain.send_made(inner, request.body, self)
        inner.flush_request()
        return self._answer

    def _forward(self, request: Request) -> RequestHead:
        base = self._chain.outer.forward
        assert base is not None
        source = request.body._source
        framing, length = Framing.CHUNKED, None
        expect = False
        if source is self._chain.incoming and not source.begun:
            framing, length, expect = base.framing, base.length, base.expect_continue
        elif isinstance(source, Whole):
            length = len(source.data)
            method = request.method.encode("ascii")
            # RFC 9110 §8.6: one that gives content a meaning says that it has none
            empty = not length and base.framing is Framing.NONE and (method == base.method or method not in _WITH_BODY)
            framing = Framing.NONE if empty else Framing.LENGTH
            if empty:
                length = None
        path, query = normalise_target(request.target.encode("latin-1"))
        return RequestHead(
            request.method.encode("ascii"),
            path if query is None else b"%s?%s" % (path, query),
            base.authority,
            base.version,
            request.headers.lines(),
            framing,
            length,
            expect,
            # one of a middleware's own (who is that?) switches nothing
            None if request.upgrade is None else base.upgrade,
        )

    # what the inner exchange calls

    @property
    def writable(self) -> bool:
        """See IVisitor."""
        return not self._unacked if self._direct else not self._pipe.held

    def hears(self, head: ResponseHead) -> bool:
        """See IVisitor."""
        return True

    def send(self, event: Event) -> None:
        """See IVisitor."""
        chain = self._chain
        if type(event) is Body or type(event) is Raw:
            if self._direct:
                self._unacked += len(event.data)
                if isinstance(event, Raw):
                    chain.to.on_raw(event)
                else:
                    chain.to.on_body(event)
            else:
                self._pipe.feed(event.data)
        elif type(event) is ResponseHead:
            self._begun(event)
        elif type(event) is End:
            if self._direct:
                chain.ended(event)
            else:
                self._pipe.finish(event.trailers)
        elif type(event) is RawEnd:
            if self._direct:
                chain.to.on_raw_end(event)
            else:
                self._pipe.finish([])
        elif type(event) is InformationalHead:
            chain.informational(event)

    def answer(self, head: ResponseHead, body: bytes) -> bool:
        """See IVisitor."""
        if body:
            self._pipe.feed(body)
        self._pipe.finish([])
        self._begun(head)
        return True

    def flush(self) -> None:
        """See IVisitor."""
        if not self._chain.over:
            self._chain.to.on_turn_end()

    def consumed(self, n: int) -> None:
        """See IVisitor."""
        self._chain.sent_on(self._inner, n)
        self._sending -= n
        waiting = self._waiting
        if waiting is not None:
            self._waiting = None
            waiting.callback(None)

    def give(self, data: bytes) -> Deferred[None]:
        """Send a piece of a body that a middleware makes; fires when the service has taken it."""
        inner = self._inner
        assert inner is not None
        self._sending += len(data)
        inner.request_body(Body(data))
        inner.flush_request()
        waiting: Deferred[None] = Deferred()
        if self._sending and not self._chain.over:
            self._waiting = waiting
        else:
            waiting.callback(None)
        return waiting

    def exchange_done(self) -> None:
        """See IVisitor."""

    def hand_over(self, protocol: IProtocol) -> None:
        """See IVisitor."""
        raise AssertionError("a middleware has no connection")

    def truncate(self, code: int | None = None) -> None:
        """See IVisitor."""
        inner = self._inner
        assert inner is not None
        if self._direct:
            self._chain.truncated(inner.reason, code)
        else:
            self._pipe.fail(NextFailed(502, inner.reason, "The service's answer ended before its end."))

    def failed(self, error: NextFailed) -> None:
        """There is no answer."""
        self._count()
        if not self._answer.called:
            self._answer.errback(error)

    def _begun(self, head: ResponseHead) -> None:
        self._head = head
        self._count()
        status = head.status
        if head.framing is Framing.LENGTH:
            self._pipe.length = head.length
        elif head.framing is Framing.NONE:
            self._pipe.length = 0
        # who reads the body of a 101 finds none: the octets behind it are the visitor's
        body = ReadableBody(Whole(b"") if status == 101 else self._pipe, answer=True)
        declared = head.length if head.framing is Framing.NONE else None
        response = response_of_service(
            status, head.reason.decode("latin-1"), Headers.of(head.fields), body, declared, self
        )
        if not self._answer.called:
            self._answer.callback(response)

    def _count(self) -> None:
        """What the log says of where the request went."""
        inner, outer = self._inner, self._chain.outer
        if inner is not None and not self._noted:
            self._noted = True
            outer.upstream = inner.upstream or outer.upstream
            outer.attempts += inner.attempts

    # what the chain calls

    def gives(self, response: Response) -> bool:
        """Whether that is its answer, or one with its body, of which nothing was read."""
        if response.status == 101:
            return response._wire is self
        return response.body._source is self._pipe and not self._pipe.begun

    def head_for(self, response: Response, method: bytes) -> ResponseHead:
        """The head of its answer as the visitor gets it.

        :param method: the visitor's
        """
        found = self._head
        assert found is not None
        framing, length = found.framing, found.length
        if framing is Framing.NONE:
            length = response.declared
        if response.status in (101, 204):
            framing, length = Framing.NONE, None
        elif method == b"HEAD" or response.status == 304:
            framing = Framing.NONE
        elif framing is Framing.NONE:
            # the service was asked with HEAD, or its answer has another status now
            framing, length = Framing.LENGTH, 0
        return ResponseHead(
            response.status,
            response.reason.encode("latin-1", "replace"),
            response.headers.lines(),
            found.version,
            framing,
            length,
        )

    def take_whole(self) -> bytes | None:
        """Its answer's body, where all of it has come and nothing follows."""
        pipe, head = self._pipe, self._head
        if not pipe.over or pipe.failure is not None or len(pipe.trailers) or head is None or head.status == 101:
            return None
        return b"".join(pipe.drain())

    def go_direct(self) -> None:
        """From now on everything of its answer goes straight on to the visitor; what has come goes at once."""
        chain, pipe = self._chain, self._pipe
        self._direct = True
        head = self._head
        switched = head is not None and head.status == 101
        pieces = pipe.drain()
        self._unacked = sum(map(len, pieces))
        for piece in pieces:
            if switched:
                chain.to.on_raw(Raw(piece))
            else:
                chain.to.on_body(Body(piece))
        if not pipe.over:
            return
        if switched:
            chain.to.on_raw_end(RawEnd())
        elif pipe.failure is not None:
            assert self._inner is not None
            chain.truncated(self._inner.reason, None)
        else:
            chain.ended(End(pipe.trailers.lines()))

    @property
    def has_body(self) -> bool:
        """Its answer has one."""
        return self._head is not None and self._head.framing is not Framing.NONE

    def connect(self) -> None:
        """What the visitor sends goes there."""
        if self._inner is not None:
            self._chain.connect(self._inner)

    def took(self, n: int) -> None:
        """The visitor has taken octets that went straight on."""
        self._unacked -= n
        if not self._unacked and self._inner is not None:
            self._inner.visitor_resumed()

    def finish(self) -> None:
        """A switched connection is over, and its last octets must still arrive."""
        if self._inner is not None:
            self._inner.visitor_gone()

    def cancel(self) -> None:
        """Nobody wants the answer, or the rest of it."""
        inner = self._inner
        if inner is not None and inner.state is not State.DONE:
            inner.visitor_gone()
        self._count()
        self._pipe.fail(CancelledError())

    def _taken(self, n: int) -> None:
        del n
        if not self._pipe.held and self._inner is not None:
            self._inner.visitor_resumed()
