"""The numbers of a session, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from wormhole_tw.errors import MisuseError
from wormhole_tw.wire.frames import HEADER_SIZE
from wormhole_tw.wire.messages import INITIAL_CREDIT, MAX_WINDOW
from wormhole_tw.wire.windows import LINK_BUDGET, Budget

__all__ = ["SessionConfig"]


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What one side of a link is set to. Octets and seconds.

    :ivar initial_credit: what the peer may send on a new stream before a WINDOW; four turns of the scheduler
    :ivar max_window: how far a busy stream's window grows; more gave nothing on loopback, and 4 MiB at 50 ms is 80 MB/s
    :ivar link_budget: how much all windows of this link may grow together
    :ivar budget: the budget of the process above it, None for none
    :ivar max_held: octets received and not acknowledged, on all streams; past it the stream that holds most is reset
    :ivar max_streams: streams that either side may have open at once; each costs about 1 KB
    :ivar ping_after: silence after which a PING goes out
    :ivar dead_after: silence after which the peer is dead
    :ivar hello_timeout: from the connection to WELCOME
    :ivar slice: octets of DATA a turn when several streams are ready: with the header, one TLS record; a long
        flush takes several of them from each
    :ivar low_water: octets queued on a stream below which its producer is resumed
    :ivar kinds: the kinds of OPEN that this side takes; others are answered by RESET(unsupported_kind)
    """

    initial_credit: int = INITIAL_CREDIT
    max_window: int = 4 * 1024 * 1024
    link_budget: int = LINK_BUDGET
    budget: Budget | None = None
    max_held: int = 64 * 1024 * 1024
    max_streams: int = 8192
    ping_after: float = 5.0
    dead_after: float = 12.0
    hello_timeout: float = 10.0
    slice: int = 16 * 1024 - HEADER_SIZE
    low_water: int = 32 * 1024
    kinds: frozenset[str] = frozenset({"http", "tcp"})

    def __post_init__(self) -> None:
        if not 1024 <= self.initial_credit <= self.max_window <= MAX_WINDOW:
            raise MisuseError("1024 <= initial_credit <= max_window <= 2**31 - 1 does not hold")
        if not 0 < self.ping_after < self.dead_after:
            raise MisuseError("0 < ping_after < dead_after does not hold")
        if self.slice < 1 or self.max_streams < 1:
            raise MisuseError("slice and max_streams must be positive")
