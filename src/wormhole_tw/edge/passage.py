"""A visitor's connection that leads through the tunnel as it is: a TCP service's, or one whose TLS the service ends.

It has a dedicated stream of kind ``tcp``, and so a connection of its own to the private service.  Until that stands
(OPENED), nothing more is read of the visitor than came at once; from then on the relay joins the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.failures import blames, expects_successor, reason_of
from wormhole_tw.edge.interfaces import IDrainable, IUpstream, IWaiter
from wormhole_tw.edge.seeker import UNTOLD, Seeker
from wormhole_tw.edge.upstreams.dialling import Dialling
from wormhole_tw.errors import NoUpstream, TimedOut
from wormhole_tw.net.relay import Relay, RelayEnd
from wormhole_tw.net.transport import unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.internet.interfaces import IProtocol

    from wormhole_tw.control.model import Selection
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.net.timers import Timer

__all__ = ["CLOSED", "REASONS", "Course", "Passage"]

log = Logger()

CLOSED = "closed"
"""The reason of a connection that one of its two sides has closed, and the other one after it."""

REASONS = (
    CLOSED,
    "visitor-gone",
    "service-failed",
    "agent-lost",
    "idle",
    "stopping",
    "no-agent",
    "circuit-open",
    "overloaded",
    "service-refused",
    "service-timeout",
    "not-allowed",
    "service-busy",
    "too-many-connections",
    "site-busy",
    "too-many-requests",
    "removed",
    "internal",
)
"""Why a connection ended, for the access log and the metrics; docs/tcp.md says what they mean."""

LOOKS = 4
"""How often in the time of ``idle`` it is looked whether anything moved: silence ends a quarter of it late at most, and
octets cost nothing."""

LAST_WORDS = 60.0
"""Seconds that a visitor may take nothing of what a service said before it closed, where ``idle`` has no limit."""

_NOBODY = NoUpstream("no agent is there")

REACHED = 200
"""What a service that was reached counts for among those that answer."""


class Course(NamedTuple):
    """Where a connection goes, and what holds on its way.

    :ivar kind: ``tcp``, or ``passthrough`` for a site whose TLS is not ended here
    :ivar name: of the TCP service, or of the site
    :ivar host: the host name that its ClientHello asks for; empty where nobody looked
    :ivar connect: seconds until the service is reached, for each try
    :ivar idle: seconds without an octet either way; 0 is off
    :ivar selection: which of the backend's upstreams it may lead to; None for any
    """

    kind: str
    name: str
    backend: str
    host: str
    connect: float
    idle: float
    selection: Selection | None = None


@implementer(IDrainable, IWaiter)
class Passage(Seeker):
    """One connection, and the stream that it leads into.

    :ivar facts: what is known of the visitor's connection
    :ivar upstream: the last one that was tried
    :ivar attempts: how many were
    :ivar began: the wheel's clock when the connection was taken
    :ivar joined: the same when the service was reached; 0 while it is not
    :ivar reason: why it ended, one of :data:`REASONS`; empty while it has not
    """

    __slots__ = (
        "_avoid",
        "_context",
        "_dialling",
        "_failure",
        "_moved",
        "_on_over",
        "_over",
        "_relay",
        "_silent_since",
        "_timer",
        "attempts",
        "began",
        "course",
        "facts",
        "head",
        "joined",
        "reason",
        "upstream",
    )

    def __init__(
        self,
        context: EdgeContext,
        course: Course,
        facts: ConnectionFacts,
        on_over: Callable[[], None] | None = None,
    ) -> None:
        """
        :param on_over: called once, when neither side is connected any more
        """
        self.course = course
        self.facts = facts
        self.head = None
        self.standing = None
        self.asked = UNTOLD
        self.upstream: IUpstream | None = None
        self.attempts = 0
        self.began = context.timers.seconds()
        self.joined = 0.0
        self.reason = ""
        self._context = context
        self._on_over = on_over
        self._relay = Relay(self._broke, self._ended)
        self._avoid: set[Hashable] = set()
        self._failure: BaseException = _NOBODY
        self._dialling: Deferred[IProtocol] | None = None
        self._timer: Timer | None = None
        self._moved: tuple[int, int, int] = (0, 0, 0)
        self._silent_since = 0.0
        self._over = False

    @property
    def received(self) -> int:
        """Octets that the visitor sent."""
        return self._relay.near.received

    @property
    def sent(self) -> int:
        """Octets that the visitor was sent."""
        return self._relay.near.written

    def begin(self, transport: Any, data: bytes = b"") -> None:
        """Take the visitor's connection over.

        :param data: what was read of it already
        """
        context = self._context
        near: Any = self._relay.near
        context.connections.add(self)
        context.passages.begun(self)
        transport.protocol = near
        near.makeConnection(transport)  # which stops reading
        if data:
            near.dataReceived(data)
        try:
            self._find()
        except Exception:  # noqa: BLE001 - a bug's connection must not stay for ever, paused and without a timer
            self._crashed(Failure())

    # IDrainable

    def linger(self) -> None:
        """Nothing: as :meth:`drain`."""

    def drain(self) -> None:
        """Nothing: what it carries has no end that we could wait for, so that it goes on until the deadline."""

    def abort(self) -> None:
        """See IDrainable."""
        self._give_up("stopping")

    # IWaiter

    @property
    def selection(self) -> Selection | None:
        """See IWaiter."""
        return self.course.selection

    @property
    def avoid(self) -> set[Hashable]:
        """See IWaiter."""
        return self._avoid

    @property
    def seeker(self) -> Passage:
        """See IWaiter."""
        return self

    def upstream_ready(self, upstream: IUpstream) -> None:
        """See IWaiter."""
        try:
            self._dial(upstream)
        except Exception:  # noqa: BLE001 - the registry, which calls this, must not suffer
            self._crashed(Failure())

    def upstream_missing(self) -> None:
        """See IWaiter."""
        self._give_up(self._why())

    # the way to the service

    def _find(self) -> None:
        context, backend = self._context, self.course.backend
        upstream = context.dispatch.pick(backend, self._avoid, self.course.selection, self)
        if upstream is not None:
            self._dial(upstream)
        elif not (
            (expects_successor(self._failure) or context.dispatch.busy(backend, self._avoid, None))
            and context.dispatch.wait(backend, self)
        ):
            self._give_up(self._why())

    def _why(self) -> str:
        reason = self._context.dispatch.why(self.course.backend) if self._failure is _NOBODY else None
        return reason or reason_of(self._failure)

    def _dial(self, upstream: IUpstream) -> None:
        self.upstream = upstream
        self.attempts += 1
        self.took(upstream.standing, self._context.timers.seconds())
        # as soon as the stream is open (OPENED) the relay lets the visitor's octets through
        dialling = upstream.passage(self.facts, self.course.host).connect(Dialling(self._relay.far))
        self._dialling = dialling
        dialling.addCallbacks(self._stands, self._dial_failed).addErrback(self._crashed)
        if self._dialling is dialling:
            self._timer = self._context.timers.start(self.course.connect, self._too_late)

    def _stands(self, _protocol: IProtocol) -> None:
        self._dialling = None
        self._stop_timer()
        if self._over:
            return
        self.joined = self._silent_since = now = self._context.timers.seconds()
        self.fared(now, REACHED)
        self._timer = self._context.timers.start((self.course.idle or LAST_WORDS) / LOOKS, self._look)
        self._context.passages.joined(self)

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        self._stop_timer()
        if self._over or self.reason:
            return
        error: BaseException = failure.value or _NOBODY
        if isinstance(error, CancelledError):
            error = TimedOut("connect", "the connection to the service did not stand in time")
        self._failure = error
        # nothing was sent on a stream that was never joined: it may be tried elsewhere, but not for ever
        dispatch, backend = self._context.dispatch, self.course.backend
        if blames(error):
            self.fared(self._context.timers.seconds(), 0)
        if (
            isinstance(error, TimedOut)
            or self.attempts >= dispatch.attempts(backend)
            or not (expects_successor(error) or dispatch.may_retry(backend))
        ):
            self._give_up(reason_of(error))
            return
        assert self.upstream is not None
        self._avoid.add(self.upstream.key)
        self._context.counters.retries += 1
        self._find()

    def _too_late(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()

    def _crashed(self, failure: Failure) -> None:
        log.failure("a visitor's connection could not be joined to its stream", failure)
        self._give_up("internal")

    # its end

    def _look(self) -> None:
        """Has anything moved?"""
        near, far, now = self._relay.near, self._relay.far, self._context.timers.seconds()
        moved = (near.received, far.received, unsent(near.transport))
        if moved != self._moved:
            self._moved = moved
            self._silent_since = now
        # a service that has said all and is gone still waits for a visitor to take it
        limit = self.course.idle or (LAST_WORDS if far.lost is not None else 0.0)
        if limit and now - self._silent_since >= limit:
            self._give_up("idle")
        else:
            assert self._timer is not None
            self._timer.restart()

    def _give_up(self, reason: str) -> None:
        """Cut off whatever is there; a visitor who was never joined to anything is closed in order, which every client
        can tell from a port that is not open."""
        if self._over:
            return
        self.reason = self.reason or reason
        if self.joined or reason == "stopping":
            self._relay.abort()
        else:
            self._relay.near.transport.loseConnection()

    def _broke(self, lost: RelayEnd, failure: Failure) -> None:
        """One of the two ended otherwise than by its end: so does the other."""
        near = lost is self._relay.near
        self.reason = self.reason or ("visitor-gone" if near else reason_of(failure.value or _NOBODY))
        lost.other.transport.abortConnection()

    def _ended(self, _relay: Relay) -> None:
        """Neither is there any more."""
        self._over = True
        context = self._context
        if not self.reason:
            self.reason = CLOSED if self.joined else "visitor-gone"
        self._stop_timer()
        context.dispatch.forget(self.course.backend, self)
        self.left()
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        if self._on_over is not None:
            self._on_over()
        context.passages.ended(self)
        context.connections.discard(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
