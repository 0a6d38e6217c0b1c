"""Whether the peer lives, and how long a round trip takes.  Any octet is life."""

from __future__ import annotations

__all__ = ["RTT_MAX_AGE", "Liveness"]

RTT_MAX_AGE = 10.0
"""Seconds after which a busy link measures its round trip again."""

PING_SIZE = 8


class Liveness:
    """Times of the last octet heard and of the PINGs sent; seconds everywhere.

    Dead is ``dead_after`` after the last octet, provided that a PING went out in time.  Counting from the first
    PING without an answer, instead of from the last octet, keeps a process that was stopped itself (or a machine that
    slept) from taking everybody for dead when it wakes.

    :ivar rtt: the last measured round trip, None before the first
    """

    __slots__ = ("_heard", "_measured", "_ping_at", "_pings", "_unanswered_since", "dead_after", "ping_after", "rtt")

    def __init__(self, now: float, ping_after: float, dead_after: float) -> None:
        self.ping_after = ping_after
        self.dead_after = dead_after
        self.rtt: float | None = None
        self._heard = now
        self._measured = now - RTT_MAX_AGE
        self._pings = 0
        self._ping_at: float | None = None  # when the outstanding PING was sent
        self._unanswered_since: float | None = None

    def heard(self, now: float) -> None:
        """Octets came."""
        self._heard = now
        self._unanswered_since = None

    def ping(self, now: float) -> bytes:
        """The payload of a PING that is sent now."""
        self._pings += 1
        self._ping_at = now
        return self._pings.to_bytes(PING_SIZE, "big")

    def pong(self, payload: bytes, now: float) -> None:
        """A PONG came. One that answers no PING of ours, or not the newest, says nothing."""
        if self._ping_at is not None and payload == self._pings.to_bytes(PING_SIZE, "big"):
            self.rtt = max(0.0, now - self._ping_at)
            self._measured = now
            self._ping_at = None

    def wants_rtt(self, now: float) -> bool:
        """Whether a busy link should send a PING to learn its round trip."""
        return self._ping_at is None and now - self._measured >= RTT_MAX_AGE

    def next_timer(self) -> float:
        """When to call :meth:`check` next."""
        if self._unanswered_since is None:
            return self._heard + self.ping_after
        dead = self._dead_at(self._unanswered_since)
        return min(dead, (self._ping_at or self._unanswered_since) + self.ping_after)

    def check(self, now: float) -> bytes | None:
        """The payload of a PING to send now, or None.

        :raises TimeoutError: the peer is dead
        """
        if now < self.next_timer():
            return None
        if self._unanswered_since is None:
            self._unanswered_since = now
        elif now >= self._dead_at(self._unanswered_since):
            raise TimeoutError
        return self.ping(now)

    def _dead_at(self, since: float) -> float:
        return since + (self.dead_after - self.ping_after)
