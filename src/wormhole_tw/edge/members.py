"""One upstream among the others of its backend: what is remembered of it, and who is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.control.standing import Place, Standing
from wormhole_tw.control.windows import Window

if TYPE_CHECKING:
    from wormhole_tw.edge.checks import Looking
    from wormhole_tw.edge.group import Group
    from wormhole_tw.edge.interfaces import IUpstream
    from wormhole_tw.net.timers import Timer

__all__ = ["Member"]

_IN = Place.IN  # an enum's member takes longer to find than all else that is done with it

FAILED = 500
"""From this status on, an answer is a failure where it is weighed who answers well (RFC 9110 §15.6)."""

PATIENCE = 0.1
"""Seconds that somebody has to have waited, and left, for that to tell of a slow service; before it they change their
minds."""

SHARE_WINDOW = 10.0
"""Seconds whose answers ``ejection.share`` is a share of."""


class Member(Standing):
    """A standing with its upstream.

    :ivar looking: its active checks, or None
    :ivar timer: for the end of its ejection, or None
    """

    __slots__ = ("_bad_from", "_window", "group", "looking", "timer", "upstream")

    def __init__(self, group: Group, upstream: IUpstream, *, weight: float, latency: float, now: float) -> None:
        super().__init__(weight=weight, latency=latency, now=now, slow_start=group.policy.balance.slow_start)
        self.group = group
        self.upstream = upstream
        self.looking: Looking | None = None
        self.timer: Timer | None = None
        self._window: Window | None = None
        self._bad_from = FAILED
        self.look_again()

    def look_again(self) -> None:
        """The policy may have changed."""
        settings = self.group.policy.ejection
        self._bad_from = min(low for low, _ in settings.statuses)
        if not settings.share:
            self._window = None
        elif self._window is None:
            self._window = Window(SHARE_WINDOW)

    def fared(self, now: float, seconds: float, status: int) -> None:
        """How a request fared: the status of its answer, or 0 for none.

        :param seconds: below 0 where they tell nothing
        """
        group = self.group
        bad = not status or (status >= self._bad_from and group.policy.ejection.counts(status))
        self.answered(now, seconds, bad or status >= FAILED)
        self.row = self.row + 1 if bad else 0
        if self._window is not None:
            self._window.note(now, bad)
        if bad or group.breaker is not None or self.place is not _IN:
            group.fared(self, now, bad)

    def fails_often(self, now: float) -> bool:
        """Too many of its latest answers were failures."""
        settings, window = self.group.policy.ejection, self._window
        if window is None:
            return False
        window.look(now)
        return window.total >= settings.requests and window.failed >= settings.share * window.total

    def outrun(self, now: float, seconds: float) -> None:
        """Another one has answered first; this one would have taken longer than so many seconds."""
        self.answered(now, seconds, failed=False)
        self._unsaid()

    def given_up(self, asked: float) -> None:
        """Somebody would not wait for an answer any longer, who had asked then; below 0 where that tells nothing."""
        now = self.group.now
        if asked >= 0.0 and now - asked > max(self.latency, PATIENCE):
            self.outrun(now, now - asked)
        else:
            self.unanswered(asked >= 0.0)

    def unanswered(self, timed: bool) -> None:
        super().unanswered(timed)
        self._unsaid()

    def _unsaid(self) -> None:
        """Nobody knows whether it would have gone well."""
        if self.place is Place.TRIAL:
            self.tried = False
        if self.group.breaker is not None:
            self.group.breaker.abandon()

    def end(self) -> None:
        self.active -= 1
        if self.group.queue:
            self.group.room()

    def stop(self) -> None:
        """It is no member any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.looking is not None:
            self.looking.stop()
            self.looking = None
