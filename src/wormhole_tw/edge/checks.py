"""Active checks: the edge asks an origin again and again whether it is well, as a visitor would."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.control.checks import Verdict
from wormhole_tw.edge.interfaces import IAnswerHandler, IUpstreamRequest
from wormhole_tw.http.events import Body, End, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead

if TYPE_CHECKING:
    from wormhole_tw.control.balancing import HealthCheck
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.members import Member
    from wormhole_tw.edge.upstreams.pool import Pool
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["Checks", "Looking"]

log = Logger()

FIELDS = [(b"User-Agent", b"wormhole-tw health check"), (b"Accept", b"*/*")]


class Checks:
    """What all active checks share."""

    __slots__ = ("limits", "pool", "random", "timers")

    def __init__(self, pool: Pool, timers: TimerWheel, limits: Limits, random: Random) -> None:
        self.pool = pool
        self.timers = timers
        self.limits = limits
        self.random = random


@implementer(IAnswerHandler)
class Looking:
    """The checks of one upstream; its group is told when they say otherwise than before.

    :ivar settings: what is asked
    :ivar limits: the edge's
    :ivar reason: why the last check failed; empty where it passed, or none has ended
    """

    __slots__ = ("_checks", "_connection", "_dialling", "_member", "_timer", "_verdict", "limits", "reason", "settings")

    def __init__(self, checks: Checks, member: Member, settings: HealthCheck) -> None:
        self.settings = settings
        self.limits = checks.limits
        self.reason = ""
        self._checks = checks
        self._member = member
        self._verdict = Verdict(settings)
        self._verdict.well = member.well
        self._connection: IUpstreamRequest | None = None
        self._dialling: Deferred[IUpstreamRequest] | None = None
        self._timer: Timer = checks.timers.start(self._verdict.first(checks.random), self._tick)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()
        self._let_go()

    # within

    @property
    def _asking(self) -> bool:
        return self._dialling is not None or self._connection is not None

    def _tick(self) -> None:
        if self._asking:
            self._ended(f"no answer in {self.settings.timeout:g} s")
        else:
            self._ask()

    def _ask(self) -> None:
        self._timer.restart(self.settings.timeout)
        # a connection of its own: one that is kept says little of whether a new one would come about
        dialling = self._dialling = self._checks.pool.dial(self._member.upstream, keep=False)
        dialling.addCallbacks(self._dialled, self._dial_failed)
        dialling.addErrback(self._bug)

    def _dialled(self, connection: IUpstreamRequest) -> None:
        self._dialling = None
        self._connection = connection
        settings, translation = self.settings, self._member.upstream.translation
        host = b"" if settings.host is None else settings.host.encode("ascii")
        head = RequestHead(b"GET", settings.path.encode("ascii"), host, (1, 1), list(FIELDS))
        if translation is not None:
            head = translation.request(head)
            head.authority = host or head.authority or translation.authority
        connection.request(head, self, whole=True)

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        if failure.check(CancelledError) is None:
            self._ended(str(failure.value) or type(failure.value).__name__)

    def _bug(self, failure: Failure) -> None:
        log.failure("a check of backend {name} failed", failure, name=self._member.upstream.backend)
        self._ended("the check itself failed")

    def _let_go(self) -> None:
        dialling, self._dialling = self._dialling, None
        connection, self._connection = self._connection, None
        if dialling is not None:
            dialling.cancel()
        if connection is not None:
            connection.cancel()

    def _ended(self, reason: str = "") -> None:
        self._let_go()
        self.reason = reason
        self._timer.restart(self._verdict.wait(self._checks.random))
        if self._verdict.note(not reason):
            self._member.group.checked(self._member, self._verdict.well, reason)

    def _judge(self, status: int) -> None:
        self._ended("" if self.settings.accepts(status) else f"GET {self.settings.path} gave {status}")

    # IAnswerHandler

    def on_informational(self, head: InformationalHead) -> None:
        """See IAnswerHandler."""

    def on_head(self, head: ResponseHead) -> None:
        """See IAnswerHandler: its status is all that is asked."""
        self._judge(head.status)

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """See IAnswerHandler."""
        self._connection = None
        self._judge(head.status)

    def on_failure(self, error: Exception, begun: bool) -> None:
        """See IAnswerHandler."""
        self._connection = None
        self._ended(str(error) or type(error).__name__)

    def on_body(self, event: Body) -> None:
        """See IAnswerHandler: nobody waits for it."""

    def on_end(self, event: End) -> None:
        """See IAnswerHandler."""

    def on_raw(self, event: Raw) -> None:
        """See IAnswerHandler."""

    def on_raw_end(self, event: RawEnd) -> None:
        """See IAnswerHandler."""

    def on_pause(self) -> None:
        """See IAnswerHandler."""

    def on_resume(self) -> None:
        """See IAnswerHandler."""

    def on_turn_end(self) -> None:
        """See IAnswerHandler."""

    def crashed(self) -> None:
        """See IAnswerHandler."""
        self._connection = None
        self._ended("the check itself failed")
