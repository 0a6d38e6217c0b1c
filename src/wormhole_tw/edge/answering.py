"""The answer of an exchange: what its upstream says, or what the edge says itself, as its visitor hears it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from wormhole_tw.control.model import H2C, AddedFields
from wormhole_tw.edge.answers import local_answer
from wormhole_tw.edge.compressing import own_answer
from wormhole_tw.edge.flow import Flow
from wormhole_tw.edge.states import MOVES, State
from wormhole_tw.http.added import add_fields
from wormhole_tw.http.edits import edit_answer, edit_trailers
from wormhole_tw.http.events import Body, End, Framing, InformationalHead, RequestHead, ResponseHead
from wormhole_tw.http.forwarding import answer_towards_visitor, interim_towards_visitor, trailers_onwards

if TYPE_CHECKING:
    from wormhole_tw.control.model import LocalAnswer
    from wormhole_tw.edge.caching.caching import Caching
    from wormhole_tw.edge.caching.hearing import Beside, Hearing
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.router import Answered
    from wormhole_tw.http.added import Lines
    from wormhole_tw.http.coding import CodingRules
    from wormhole_tw.http.edits import FieldEdits
    from wormhole_tw.http.rewriting import PathRewrite, PrefixSwap
    from wormhole_tw.http.translation import Translation

__all__ = ["Answering"]

_SENDING = State.SENDING
_ANSWERING = State.ANSWERING

MAX_COOKIES = 1024
"""Answers' additions with a cookie that are kept: sites times agents, a few hundred octets each."""


class Answering(Flow):
    """What an exchange does with its answer.

    :ivar head: the request as it came; None where the head itself was refused
    :ivar answered: the last answer on its way, where nothing but the service has a say in it; else None
    :ivar backend: where it was routed, or an empty string
    :ivar reason: why the edge answered itself (``X-Wormhole-Error``) or the answer is not whole; else empty
    :ivar first_byte: the wheel's clock when its answer began, or 0; kept only where ``on_exchange_done`` is set
    :ivar request_id: its name
    :ivar edits: changes to the fields of its answer, as its route wants it; None for none
    :ivar besides: what its answer says besides, and no other; gates may add to it
    :ivar added: what its answer gets besides, as its site wants it; None for nothing
    :ivar caching: its route's cache, where that is still to look at the request, or wants to hear of its answer
    :ivar cache: what the cache had to do with it, one of :data:`wormhole_tw.edge.caching.counting.WORDS`, or empty
    :ivar compress: the content codings that its answer may get; None for none
    :ivar rewrite: how its route makes the service's target; None for the visitor's own
    """

    __slots__ = (
        "_context",
        "_held",
        "_trailers",
        "_translation",
        "added",
        "answered",
        "backend",
        "besides",
        "cache",
        "caching",
        "compress",
        "edits",
        "facts",
        "first_byte",
        "forward",
        "head",
        "reason",
        "request_id",
        "rewrite",
    )

    _context: EdgeContext
    # the body so far, for the connection to come and for another try; None once it cannot be sent again
    _held: list[bytes] | None
    _trailers: End | None
    # of the upstream that has the request
    _translation: Translation | None
    added: AddedFields | None
    answered: Answered | None
    backend: str
    besides: Lines
    cache: str
    caching: Caching | Hearing | Beside | None
    compress: CodingRules | None
    edits: FieldEdits | None
    facts: ConnectionFacts
    forward: RequestHead | None
    first_byte: float
    head: RequestHead | None
    reason: str
    request_id: bytes
    rewrite: PrefixSwap | PathRewrite | None

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
        """Answer with an error."""
        raise NotImplementedError

    def heard(self, head: ResponseHead) -> None:
        """Its answer has begun, and there is :attr:`caching`."""
        raise NotImplementedError

    def move(self, state: State) -> None:
        """Go to a state; the table allows it, or there is a bug here."""
        if state not in MOVES[self.state]:
            raise AssertionError(f"an exchange does not go from {self.state.value} to {state.value}")
        self.state = state

    @property
    def carries_messages(self) -> bool:
        """It is gRPC, for a service that is said to speak HTTP/2: its body is messages, with any silence in between."""
        head = self.head
        backend = self._context.catalogs.current.backends.get(self.backend)
        if head is None or backend is None or backend.protocol != H2C:
            return False
        return any(value.startswith(b"application/grpc") for name, value in head.fields if name == b"content-type")

    def on_informational(self, head: InformationalHead) -> None:
        """See IAnswerHandler."""
        if self.state is State.SENDING:
            interim = interim_towards_visitor(head)
            if self._translation is not None:
                self._translate(self._translation, interim)
            self._visitor.send(interim)

    def _translate(self, translation: Translation, answer: ResponseHead | InformationalHead) -> None:
        """What an origin says of itself, in the visitor's words."""
        if not translation.touches(answer.fields):
            return
        asked, forward, forwarding = self.head, self.forward, self.facts.forwarding
        assert asked is not None
        assert forward is not None
        authority = forwarding.host or asked.authority
        scheme = forwarding.scheme.encode()
        answer.fields = translation.answer(answer.fields, scheme, authority, asked.target, forward, self.rewrite)
        if type(answer) is ResponseHead:
            answer.common = False

    def on_head(self, head: ResponseHead) -> None:
        """See IAnswerHandler."""
        forward = self.forward
        if forward is not None and forward.upgrade is not None and self._opens_nothing(head):
            return
        self._held = None
        self.status = head.status
        if self.standing is not None:
            self.fared(self._context.timers.seconds(), head.status)
        if self._context.on_exchange_done is not None:
            self.first_byte = self._context.timers.seconds()
        answer = answer_towards_visitor(head, self._context.date_line)
        if self._translation is not None:
            self._translate(self._translation, answer)
        if head.status == 101:
            self.move(State.SWITCHED)
        else:
            self.move(State.ANSWERING)
            if self.caching is not None:
                self.heard(head)
            self._complete(answer)
            if head.status >= 400 and self._much_is_left():
                # an early refusal: the rest of the body is of no use, and the visitor is told so
                answer.keep_alive = False
        self._visitor.send(answer)

    def on_end(self, event: End) -> None:
        """See IAnswerHandler."""
        self._connection = None
        if event.trailers:
            event = End(edit_trailers(trailers_onwards(event.trailers), self.edits))
        self._visitor.send(event)
        self._done()
        self._visitor.exchange_done()

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """See IAnswerHandler."""
        answered = self.answered
        if answered is None:
            forward = self.forward
            if forward is not None and forward.upgrade is not None and self._opens_nothing(head):
                return
        if self.state is _SENDING:
            self.state = _ANSWERING  # as most go, without the call
        else:
            self.move(_ANSWERING)
        context = self._context
        self._connection = None
        self.status = head.status
        self.sent = len(body)
        standing = self.standing
        if standing is not None or context.on_exchange_done is not None:
            seconds = context.timers.seconds
            self.first_byte = now = seconds()
            if standing is not None:
                self.fared(now, head.status)
        if (
            answered is not None
            and answered.came is head
            and answered.went is not None
            and self._translation is None
            and (answered.dated is None or answered.dated is context.date_line())
        ):
            # as the answer before
            answer = answered.went
        else:
            answer = answer_towards_visitor(head, context.date_line)
            last = answer.fields[-1]
            if self._translation is not None:
                self._translate(self._translation, answer)
            if self.caching is not None:
                self.heard(head)
            self._complete(answer)
            if head.status >= 400 and self._much_is_left():
                answer.keep_alive = False
            if answered is not None and head.common and self._translation is None:
                answered.came = head
                # behind our own Via there is no Date but ours
                answered.dated = last if last[0] == b"Date" else None
                answered.went = answer
        visitor = self._visitor
        more = visitor.answer(answer, body)
        self._done()
        if more:
            visitor.flush()

    def _opens_nothing(self, head: ResponseHead) -> bool:
        """Whether it is a success that its visitor would take for what it asked to open, and is not: he hears so."""
        if head.status >= 300 or self._visitor.hears(head):
            return False
        self.give_up("bad-answer")
        self._visitor.flush()
        return True

    def stick(self, cookie: bytes) -> None:
        """See Seeker."""
        self.answered = None
        self.added = _with_cookie(self.added, cookie)

    def on_turn_end(self) -> None:
        """See IAnswerHandler."""
        self._visitor.flush()

    def _much_is_left(self) -> bool:
        """Whether more of the body is to come than a codec would read only to throw it away."""
        head = self.head
        if self._trailers is not None or head is None or head.framing is Framing.NONE:
            return False
        return head.length is None or head.length - self.received > self._context.http_limits.drain

    def answer_locally(self, answer: LocalAnswer) -> None:
        """Answer without asking a service."""
        body = answer.body
        if body is None:
            self.give_up(answer.reason, status=answer.status, message=answer.message, fields=answer.fields)
            return
        head, body = local_answer(answer, body, self._context.date.at(self._context.wall()))
        if self.head is not None and self.head.upgrade is not None and self._opens_nothing(head):
            return
        self.reason = answer.reason
        head.keep_alive = not self._much_is_left()
        self._answer(head, body)

    def _complete(self, head: ResponseHead) -> None:
        """What its route and its site want of every answer."""
        if self.edits is not None:
            edit_answer(head, self.edits)
        if self.besides:
            head.fields = [*head.fields, *self.besides]
            head.common = False
        if self.added is not None:
            add_fields(head, self.added.defaults, self.added.besides)

    def _answer(self, head: ResponseHead, body: bytes) -> None:
        visitor = self._visitor
        if self.compress is not None and self.head is not None:
            head, body = own_answer(self.compress, self.head, head, body)
        self._complete(head)
        self.status = head.status
        self.sent = len(body)
        self.first_byte = self._context.timers.seconds()
        self._took_body()
        visitor.send(head)
        if body:
            visitor.send(Body(body))
        visitor.send(End())
        self._done()
        visitor.exchange_done()


@lru_cache(maxsize=MAX_COOKIES)
def _with_cookie(added: AddedFields | None, cookie: bytes) -> AddedFields:
    """What an answer gets besides, and this cookie in place of another one of its name."""
    if added is None:
        added = AddedFields()
    name = cookie.partition(b"=")[0] + b"="
    others = tuple(line for line in added.besides if line[0] != b"Set-Cookie" or not line[1].startswith(name))
    return AddedFields(added.defaults, (*others, (b"Set-Cookie", cookie)))
