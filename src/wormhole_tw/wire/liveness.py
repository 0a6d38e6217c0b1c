"""Whether the peer lives, and how long a round trip takes.  Any octet is life."""

from __future__ import annotations

from wormhole_tw.errors import TunnelProtocolError
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.floods import Flood, FloodGuard
from wormhole_tw.wire.frames import FrameType, encode_frame
from wormhole_tw.wire.outbox import Outbox

__all__ = ["MAX_WAITING_CONTROL", "RTT_MAX_AGE", "Liveness"]

RTT_MAX_AGE = 10.0
"""Seconds after which a busy link measures its round trip again."""

MAX_WAITING_CONTROL = 256
"""PONGs and the like that may wait for a peer that asks and does not read."""

SHORTEST_AGE = 600.0
"""Seconds for which the shortest round trip is the path's own: the others wait in queues, often queues of ours, and
windows that grow with them make them longer. A path may become another one, but rarely without a new connection."""

OVERSLEPT = 2.0
"""Seconds. A timer that comes later than this says that this process stood still, not the peer."""

PING_SIZE = 8


class Liveness:
    """Times of the last octet heard and of the PINGs sent; seconds everywhere.

    A PING goes out after ``ping_after`` of silence, and again; without any octet the peer is dead ``dead_after``
    after the last one, counted from that first PING.  A process that was stopped itself, or a machine that slept, sees
    it by its late timer, and asks anew before it takes everybody for dead.

    :ivar rtt: the last measured round trip, None before the first
    :ivar shortest: the shortest one of the last :data:`SHORTEST_AGE`
    """

    __slots__ = (
        "_asked",
        "_guard",
        "_heard",
        "_last_ping",
        "_measured",
        "_outbox",
        "_pings",
        "_shortest_at",
        "_unanswered",
        "dead_after",
        "ping_after",
        "rtt",
        "shortest",
    )

    def __init__(self, now: float, ping_after: float, dead_after: float, outbox: Outbox, guard: FloodGuard) -> None:
        self.ping_after = ping_after
        self.dead_after = dead_after
        self.rtt: float | None = None
        self.shortest: float | None = None
        self._shortest_at = 0.0
        self._outbox = outbox
        self._guard = guard
        self._heard = now
        self._measured = now - RTT_MAX_AGE
        self._pings = 0
        self._last_ping = now
        self._unanswered = False
        self._asked: float | None = None  # when the first PING after the last octet heard was sent

    def heard(self, now: float) -> None:
        """Octets came."""
        self._heard = now
        self._asked = None

    def on_ping(self, payload: bytes, now: float) -> None:
        """A PING came: queue its PONG.

        :raises TunnelProtocolError: too many in a second, or too many wait
        """
        self._guard.count(Flood.PING, now)
        if self._outbox.waiting_control >= MAX_WAITING_CONTROL:
            raise TunnelProtocolError(GoawayCode.OVER_LIMIT, "PINGs come and their PONGs are not read")
        self._outbox.control(encode_frame(FrameType.PONG, 0, payload))

    def on_pong(self, payload: bytes, now: float) -> None:
        """A PONG came. One that answers no PING of ours, or not the newest, says nothing.

        :raises TunnelProtocolError: too many in a second
        """
        self._guard.count(Flood.PONG, now)
        if self._unanswered and payload == self._pings.to_bytes(PING_SIZE, "big"):
            self.rtt = rtt = max(0.0, now - self._last_ping)
            if self.shortest is None or rtt <= self.shortest or now - self._shortest_at > SHORTEST_AGE:
                self.shortest = rtt
                self._shortest_at = now
            self._measured = now
            self._unanswered = False

    def busy(self, now: float) -> None:
        """The link moves data: measure its round trip where that is not known, or old."""
        if not self._unanswered and now - self._measured >= RTT_MAX_AGE:
            self._ping(now)

    def next_timer(self) -> float:
        """When to call :meth:`check` next."""
        if self._asked is None:
            return self._heard + self.ping_after
        return min(self._dead_at(self._asked), self._last_ping + self.ping_after)

    def check(self, now: float) -> bool:
        """Send a PING where it is time. False: the peer is dead."""
        late = now - self.next_timer()
        if late >= 0:
            if self._asked is None or late > OVERSLEPT:
                self._asked = now
            elif now >= self._dead_at(self._asked):
                return False
            self._ping(now)
        return True

    def _ping(self, now: float) -> None:
        self._pings += 1
        self._last_ping = now
        self._unanswered = True
        self._outbox.control(encode_frame(FrameType.PING, 0, self._pings.to_bytes(PING_SIZE, "big")))

    def _dead_at(self, since: float) -> float:
        return since + (self.dead_after - self.ping_after)
