"""Who looks for an upstream: a request, or a connection that is passed through, as dispatch and balancers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.events import Framing

if TYPE_CHECKING:
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.members import Member
    from wormhole_tw.http.events import RequestHead

__all__ = ["UNTOLD", "Seeker"]

_NO_BODY = Framing.NONE

UNTOLD = -1.0
"""A time that says nothing."""


class Seeker:
    """What was chosen for it is told how it fares, where somebody remembers: one :meth:`took` for each try.

    :ivar standing: what is remembered of the upstream that has it; None where nothing is, or nobody has it
    :ivar asked: when that was asked, on the wheel's clock; below 0 once it has answered
    """

    __slots__ = ("asked", "standing")

    asked: float
    facts: ConnectionFacts
    head: RequestHead | None
    standing: Member | None

    @property
    def repeats(self) -> bool:
        """It could be sent again if it failed: it may find out whether somebody is well."""
        return True

    @property
    def timed(self) -> bool:
        """How long it takes tells something of the upstream: the time of an upload is the visitor's."""
        head = self.head
        return head is not None and head.framing is _NO_BODY

    def stick(self, cookie: bytes) -> None:
        """Have the visitor remember what was chosen: the value of a ``Set-Cookie`` for the answer."""

    def took(self, standing: Member | None, now: float) -> None:
        """It goes to this upstream now, and the one that had it before is done with it."""
        if self.standing is not None:
            self.left()
        self.standing = standing
        if standing is not None:
            self.asked = now
            standing.begin(now, self.timed)

    def fared(self, now: float, status: int) -> None:
        """The upstream has answered with this status, or failed without an answer (0); once for each try."""
        standing, asked = self.standing, self.asked
        if standing is not None and asked >= 0.0:
            self.asked = UNTOLD
            head = self.head  # timed, without the call
            timed = head is not None and head.framing is _NO_BODY
            standing.fared(now, now - asked if timed else UNTOLD, status)

    def outrun(self, now: float) -> None:
        """Another upstream has answered first; this one would have taken longer than it had."""
        standing, asked = self.standing, self.asked
        if standing is not None and asked >= 0.0:
            self.asked = UNTOLD
            standing.outrun(now, now - asked)

    def left(self) -> None:
        """The upstream has nothing more to do with it."""
        standing, self.standing = self.standing, None
        if standing is not None:
            if self.asked >= 0.0:
                standing.given_up(self.asked if self.timed else UNTOLD)
            standing.end()
