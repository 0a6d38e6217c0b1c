"""One request's walk: from its head to the end of its answer, as a synchronous state machine (see ``states``).

The two directions are free of one another: a body goes on being sent while its answer comes, and an answer that ends
first ends the exchange.  Nothing here waits for a Deferred; a request that has to wait does so in ``search``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.answers import challenge_answer, options_answer, redirect_answer
from wormhole_tw.edge.asking import REPLAY_LIMIT, WHOLE_WITH_HEAD, Asking, too_large
from wormhole_tw.edge.certificates.challenges import awaited_value
from wormhole_tw.edge.compressing import Compressing
from wormhole_tw.edge.gating import GateWalk
from wormhole_tw.edge.interfaces import IAnswerHandler, IUpstream, IUpstreamRequest, IVisitor
from wormhole_tw.edge.race import HEDGED, Race
from wormhole_tw.edge.refusals import refusal
from wormhole_tw.edge.request_ids import given_id
from wormhole_tw.edge.router import Answered, Way, redirect_location, route_request
from wormhole_tw.edge.search import Search, kept_stream
from wormhole_tw.edge.seeker import UNTOLD
from wormhole_tw.edge.states import BEFORE_ANSWER, State
from wormhole_tw.errors import HttpError
from wormhole_tw.http.edits import edit_request
from wormhole_tw.http.events import Body, Framing, RequestHead
from wormhole_tw.http.forwarding import ends_here, fields_of_answer, request_towards_origin
from wormhole_tw.http.methods import is_idempotent, is_safe

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.control.model import LocalAnswer, Route, Selection
    from wormhole_tw.edge.caching.caching import Caching
    from wormhole_tw.edge.caching.hearing import Beside
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.inflight import Counted
    from wormhole_tw.edge.members import Member
    from wormhole_tw.edge.mirror import Copy
    from wormhole_tw.http.added import Lines
    from wormhole_tw.http.edits import FieldEdits
    from wormhole_tw.http.events import ResponseHead
    from wormhole_tw.net.timers import Timer

__all__ = ["Exchange"]

log = Logger()

_NO_BODY = Framing.NONE

# members of an enum cost a look-up each; these stand on the path of every request
_NEW = State.NEW
_SENDING = State.SENDING
_ANSWERING = State.ANSWERING
_DONE = State.DONE


@implementer(IAnswerHandler)
class Exchange(Asking):
    """One request and its answer.

    :ivar attempts: how often it was sent
    :ivar began: the wheel's clock when the head was there
    :ivar facts: what is known of the visitor and its connection; ``facts.address`` is *the* visitor's address
    :ivar host: the host name that was asked for, normalised
    :ivar forward: the request as it goes to the upstream; None before it was routed, and where the edge answers itself
    :ivar local: what the edge answers itself, as its route says; None where a service is asked
    :ivar selection: which of the backend's upstreams it may go to; None for any
    :ivar site: the name of its site, or an empty string
    :ivar route: the name of its route, or its path where it has none, or an empty string
    """

    __slots__ = (
        "_counted",
        "_search",
        "_whole",
        "attempts",
        "began",
        "host",
        "local",
        "route",
        "selection",
        "site",
    )

    def __init__(self, context: EdgeContext, visitor: IVisitor) -> None:
        self._context = context
        self._visitor = visitor
        self.facts: ConnectionFacts = visitor.facts
        self.limits: Limits = context.limits
        self.host = ""
        self.forward: RequestHead | None = None
        self.added = None
        self.edits = None
        self.besides = ()
        self.cache = ""
        self.caching = None
        self.local: LocalAnswer | None = None
        self.state = _NEW
        self.head = None
        self.backend = ""
        self.status = 0
        self.reason = ""
        self.attempts = 0
        seconds, name = context.timers.seconds, context.request_ids
        self.began = seconds()
        self.first_byte = 0.0
        self.request_id = name()
        self.site = ""
        self.route = ""
        self.received = 0
        self.sent = 0
        self.upstream: IUpstream | None = None
        self.selection: Selection | None = None
        self._request_edits: FieldEdits | None = None
        self.standing = None
        self.asked = UNTOLD
        self._counted: Counted | None = None
        self._connection: IUpstreamRequest | None = None
        self._search: Search | None = None
        self._walk: GateWalk | None = None
        self._held = []
        self._held_size = 0
        self._trailers = None
        self.answered = None
        self._untaken = 0  # octets of the request that the visitor's codec still counts
        self._unread = 0  # octets of the answer that the upstream's codec still counts
        self._raw_in_ended = False
        self._raw_out_ended = False
        self._whole: Timer | None = None
        self.copy: Copy | None = None
        self.compress = None
        self.rewrite = None

    # what the visitor's connection calls

    def begin(self, head: RequestHead) -> None:
        """The head is there."""
        context = self._context
        facts = self.facts
        self.head = head
        context.counters.requests += 1
        if facts.trusted:
            self.request_id = given_id(head.fields) or self.request_id
            facts = self.facts = facts.of_request(head)
        if head.framing is _NO_BODY:
            self._trailers = WHOLE_WITH_HEAD
        way = facts.way
        try:
            if way is not None and way.head is head and way.catalog is context.catalogs.current:
                self.added = way.added
                limits = self.limits = way.limits
            elif (way := self._find_way(head, facts)) is None:
                return
            else:
                limits = way.limits
            if limits.requests_per_site or limits.requests_per_address:
                self._leads_to(way.route)  # also where it is one too many
                self._counted = context.in_flight.enter(limits, way.route.site, facts.address)
        except HttpError as error:
            if error.reason != "unknown-host" or not self._is_tunnel(head):
                self.give_up(error.reason, status=error.status, message=error.message)
            return
        if limits.whole:
            self._whole = context.timers.start(limits.whole, self._took_too_long)
        route = way.route
        self.host = way.host
        self.site = route.site
        self.route = route.label
        self.backend = route.backend
        self.forward = way.forward
        self.selection = route.selection
        self._request_edits = route.request_edits
        self.edits = route.response_edits
        self.compress = route.compress
        self.rewrite = route.rewrite
        self.besides = way.besides
        self.caching = way.caching
        self.answered = way.answered
        self.local = way.answer
        if way.gates is None:
            self.proceed()
        else:
            self._walk = GateWalk(self, way.gates, way.stack)
            self._walk.go_on()

    def proceed(self) -> None:
        """Nothing stands in its way any more: send it on."""
        if self.local is not None:
            self.answer_locally(self.local)
            return
        if self.caching is not None and self.caching.take(self):
            return
        context = self._context
        forward = self.forward
        assert forward is not None
        upstream = context.dispatch.pick(self.backend, (), self.selection, self)
        if upstream is not None and forward.upgrade is None:
            connection = kept_stream(context, upstream, self.facts, forward.method)
            if connection is not None:
                # as most requests go: nothing to search, nothing to wait for
                self.upstream = upstream
                self.attempts = 1
                standing = upstream.standing
                if standing is not None:
                    # took(), without the call: it is the first one that has it
                    self.standing = standing
                    now = self.asked = context.timers.seconds()
                    head = self.head
                    standing.begin(now, head is not None and head.framing is _NO_BODY)
                self.send_on(connection)
                return
        self._search = Search(context, self)
        self._search.begin(upstream)

    def _find_way(self, head: RequestHead, facts: ConnectionFacts) -> Way | None:
        """Where it goes; None where it is answered here.

        :raises HttpError: it goes nowhere
        """
        context = self._context
        if context.awaited and facts.served is None and (value := awaited_value(context.awaited, head)):
            self._answer(*challenge_answer(value, context.date.at(context.wall())))
            return None
        if facts.redirect:
            if not self._is_tunnel(head):
                self._redirect(head)
            return None
        catalog = context.catalogs.current
        routed = route_request(context, catalog, facts, head)
        route = routed.route
        if route.security is not None:
            self.added = route.security.secure if facts.forwarding.scheme == "https" else route.security.plain
        if route.limits is not None:
            self.limits = context.site_limits(route.limits)
        limits = self.limits
        if limits.body_bytes and head.length is not None and head.length > limits.body_bytes:
            self._leads_to(route)
            raise too_large()
        if head.method == b"OPTIONS" and ends_here(head):
            self._answer(*options_answer(context.date.at(context.wall())))
            return None
        forward = None
        if routed.answer is None:
            forward = request_towards_origin(head, routed.target, facts.forwarding)
            if route.request_edits is not None:
                forward = edit_request(forward, route.request_edits)
        gates = None if route.gates is None else context.gates.of(route)
        caching: Caching | Beside | None = None
        if route.cache is not None:
            caching = context.cache.of(route)
        elif context.cache.beside and not is_safe(head.method):
            caching = context.cache.beside.get(route.site)
        stack = None
        if route.middleware is not None:
            stack, gates = context.middleware.of(route), gates or ()
        added, answer, besides = self.added, routed.answer, routed.besides
        # who repeats a request on its connection (a poller, an API's client) has the same way again
        lasting = head.common and routed.lasting
        known = lasting and head.framing is _NO_BODY and head.upgrade is None and gates is None and caching is None
        answered = Answered() if known else None
        way = Way(
            head, catalog, routed.host, route, forward, limits, added, gates, answer, besides, stack, caching, answered
        )
        if lasting:
            facts.way = way
        return way

    def _leads_to(self, route: Route) -> None:
        """Where it would go, for whoever counts and writes down that it does not."""
        self.site = route.site
        self.route = route.label
        self.backend = route.backend

    def visitor_gone(self) -> None:
        """The visitor's connection is over; nothing can be said to it any more."""
        if self.state is _DONE:
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            if self.state is State.SWITCHED:
                # what it said last must still arrive
                connection.finish()
            else:
                connection.cancel()
        self.reason = self.reason or "visitor-gone"
        self._done()

    def crashed(self) -> None:
        """Something in here raised (it is logged already): 500, or a visible truncation."""
        if self.state is not _DONE:
            self.give_up("internal", close=True)
            self._visitor.flush()

    # what a cache calls

    @property
    def outer(self) -> Exchange:
        """The visitor's exchange: this one, where nothing stands in between."""
        return self

    def heard(self, head: ResponseHead) -> None:
        """See Answering."""
        if self.caching is not None:
            if self._translation is not None:
                # as visitors hear it, and as it is kept
                head = fields_of_answer(head)
                self._translate(self._translation, head)
            self.caching.heard(self, head)

    def go_alone(self) -> None:
        """No cache has a part in it any more: send it on, as it came."""
        self._connection = None
        self._held = []
        self.proceed()
        self.flush()

    # what the search for an upstream calls

    @property
    def repeats(self) -> bool:
        """See Seeker."""
        forward = self.forward
        return forward is not None and forward.upgrade is None and is_idempotent(forward.method)

    @property
    def repeatable(self) -> bool:
        """It can be sent again: all that was sent of it is still here, and the visitor has heard nothing."""
        return self._held is not None and self.state in BEFORE_ANSWER

    def flush(self) -> None:
        """Let leave what is queued, both ways."""
        if self._connection is not None:
            self._connection.flush()
        self._visitor.flush()

    def send_on(self, connection: IUpstreamRequest) -> None:
        """The request has its connection."""
        forward = self.forward
        held = self._held
        assert forward is not None
        assert held is not None
        if self.state is _NEW:
            self.state = _SENDING  # as most go, without the call
        else:
            self.move(_SENDING)
        self._connection = connection
        upstream = self.upstream
        assert upstream is not None
        translation = self._translation = upstream.translation
        if translation is not None:
            if translation.circles(forward):
                self.give_up("loop")
                return
            forward = translation.request(forward)
        whole = forward.framing is _NO_BODY
        if whole:
            standing = self.standing
            if standing is not None and standing.group.hedge_after and forward.method in HEDGED and not forward.upgrade:
                connection = self._connection = Race(self._context, self, connection)
        if self.compress is not None:
            connection = self._connection = Compressing(self, connection, self.compress)
        if whole:
            connection.request(forward, self, whole=True, request_id=self.request_id)
            return
        connection.request(forward, self, request_id=self.request_id)
        for data in held:
            connection.send(Body(data))
        if self._trailers is not None:
            connection.send(self._trailers)
            connection.expect_answer()
        elif forward.expect_continue and not held:
            connection.expect_answer()
        if self._held_size > REPLAY_LIMIT:
            self._held = None
        if connection.writable:
            self._took_body()

    # what a race of two upstream connections calls

    def adopt(self, upstream: IUpstream, standing: Member, asked: float) -> None:
        """Another upstream has it than the one it was sent to first."""
        self.left()
        self.upstream = upstream
        self.standing = standing
        self.asked = asked
        self._translation = upstream.translation

    def run_by(self, connection: IUpstreamRequest) -> None:
        """This is the one that answers."""
        self._connection = connection

    # what the upstream connection calls

    def on_failure(self, error: Exception, begun: bool) -> None:
        """See IAnswerHandler."""
        connection, self._connection = self._connection, None
        if self.state is _DONE:
            return
        # what the lost connection had accepted is held, or gone: the visitor may go on
        self._took_body()
        if self._search is None:
            self._search = Search(self._context, self)
        self._search.failed(error, reused=connection is not None and connection.reused, begun=begun)
        self.flush()

    # ends

    def _is_tunnel(self, head: RequestHead) -> bool:
        door = self._context.door
        return door is not None and door.enter(self, self._visitor, head)

    def _redirect(self, head: RequestHead) -> None:
        context = self._context
        location = redirect_location(context.catalogs.current, context.names, head, context.public_port)
        self._answer(*redirect_answer(location, context.date.at(context.wall())))

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
        """Answer with an error, or end visibly where the answer has begun.

        :param code: the HTTP/2 error code that the service gave
        :param fields: what an answer says besides
        """
        if self.state is _DONE:
            return
        self.reason = reason
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cancel()
        if self.state in BEFORE_ANSWER:
            close = close or self._much_is_left()
            head, body = refusal(self._context, self, reason, status=status, message=message, close=close)
            head.fields += fields
            self._answer(head, body)
        else:
            self._done()
            self._visitor.truncate(code)

    def _took_too_long(self) -> None:
        if self.standing is not None and self._trailers is not None:
            self.fared(self._context.timers.seconds(), 0)  # all was said, and the service's turn
        self.give_up("service-timeout")
        self._visitor.flush()

    def _done(self) -> None:
        if self.state is _ANSWERING:
            self.state = _DONE  # as most go, without the call
        else:
            self.move(_DONE)
        if self._search is not None:
            self._search.stop()
        elif self._walk is not None:
            self._walk.stop()
        self._held = None
        if self.copy is not None and self._trailers is None:
            self.copy.give_up()
        if self.standing is not None:
            self.left()
        if self._whole is not None:
            self._whole.cancel()
        context = self._context
        if self._counted is not None:
            context.in_flight.leave(self._counted)
        context.counters.answers[self.status // 100] += 1
        if context.on_exchange_done is not None:
            try:
                context.on_exchange_done(self)
            except Exception:  # noqa: BLE001 - the visitor has its answer, whatever becomes of the record of it
                log.failure("the hook for finished exchanges failed")
