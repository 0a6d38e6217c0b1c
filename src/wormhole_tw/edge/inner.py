"""The service's part of an exchange, as an exchange of its own: for who stands between the visitor and the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zope.interface import implementer

from wormhole_tw.edge.answers import ANSWERS
from wormhole_tw.edge.exchange import Exchange
from wormhole_tw.edge.interfaces import IAnswerHandler, IVisitor
from wormhole_tw.edge.states import BEFORE_ANSWER, State
from wormhole_tw.errors import NextFailed
from wormhole_tw.http.events import End, Framing, RequestHead, ResponseHead
from wormhole_tw.http.forwarding import fields_of_answer, trailers_onwards

if TYPE_CHECKING:
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.http.added import Lines

__all__ = ["Asker", "InnerExchange"]


class Asker(Protocol):
    """Who asks the service, beside what it is as the visitor of that exchange."""

    @property
    def outer(self) -> Exchange:
        """The exchange of a visitor for whom that is."""

    def failed(self, error: NextFailed) -> None:
        """There is no answer."""


@implementer(IAnswerHandler)
class InnerExchange(Exchange):
    """The service's part of an exchange: everything from dispatch on.  What is counted, logged and added to answers is
    the outer one's."""

    __slots__ = ("_asker",)

    def __init__(
        self, context: EdgeContext, visitor: IVisitor, asker: Asker, outer: Exchange, forward: RequestHead
    ) -> None:
        """
        :param visitor: who gets its answer; the asker himself
        :param outer: the exchange whose facts, limits and names it has
        :param forward: the request
        """
        super().__init__(context, visitor)
        self._asker = asker
        self.facts = outer.facts
        self.limits = outer.limits
        self.host = outer.host
        self.head = outer.head
        self.backend = outer.backend
        self.request_id = outer.request_id
        self.site = outer.site
        self.route = outer.route
        self.selection = outer.selection
        self.rewrite = outer.rewrite
        self.forward = forward
        if forward.framing is Framing.NONE:
            self._trailers = End()

    @property
    def outer(self) -> Exchange:
        """See Exchange."""
        return self._asker.outer

    def on_head(self, head: ResponseHead) -> None:
        """See IAnswerHandler: the head as the service sent it, without what belongs to its connection."""
        self._held = None
        self.status = head.status
        if self.standing is not None:
            self.fared(self._context.timers.seconds(), head.status)
        self.move(State.SWITCHED if head.status == 101 else State.ANSWERING)
        if self.caching is not None:
            self.heard(head)
        self._visitor.send(self._told(head))

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """See IAnswerHandler."""
        self.move(State.ANSWERING)
        self._connection = None
        self.status = head.status
        self.sent = len(body)
        if self.standing is not None:
            self.fared(self._context.timers.seconds(), head.status)
        if self.caching is not None:
            self.heard(head)
        # over before it is heard: who hears it may end this exchange with its chain
        self._done()
        self._visitor.answer(self._told(head), body)
        self._visitor.flush()

    def on_end(self, event: End) -> None:
        """See IAnswerHandler."""
        self._connection = None
        self._done()
        self._visitor.send(End(trailers_onwards(event.trailers)) if event.trailers else event)

    def stick(self, cookie: bytes) -> None:
        """See Seeker."""
        self._asker.outer.stick(cookie)

    def _told(self, head: ResponseHead) -> ResponseHead:
        """As whoever asked reads it: an origin's own names are the visitor's already."""
        answer = fields_of_answer(head)
        if self._translation is not None:
            self._translate(self._translation, answer)
        return answer

    def give_up(
        self,
        reason: str,
        *,
        status: int | None = None,
        message: str | None = None,
        close: bool = False,
        code: int | None = None,
        fields: Lines = (),
    ) -> None:
        """Tell whoever asked (a middleware, the cache), in the place of a visitor."""
        if self.state is State.DONE:
            return
        self.reason = reason
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cancel()
        begun = self.state not in BEFORE_ANSWER
        self._done()
        if begun:
            self._visitor.truncate(code)
        else:
            answer = ANSWERS.get(reason)
            status = status or (answer.status if answer is not None else 502)
            text = message or (answer.message if answer is not None else "The service gave no answer.")
            self._asker.failed(NextFailed(status, reason, text))

    def _done(self) -> None:
        """What the outer one does once for a request is not done here."""
        if self.state is State.DONE:
            return  # the end of a switched connection comes from both sides at once
        self.move(State.DONE)
        if self._search is not None:
            self._search.stop()
        self._held = None
        if self.standing is not None:
            self.left()
