"""A stream as one side sees it, and the one table of its transitions (docs/protocol.md, "States of a stream").

"Sent" means that the frame left the outbox: an END or RESET that waits behind data has not changed the state yet.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from wormhole_tw.wire.windows import ReceiveWindow

__all__ = ["STREAM_TABLE", "Stream", "StreamInput", "StreamState"]


class StreamState(IntEnum):
    """Which halves are open, and whether OPENED was said."""

    OPENING = 0
    """we opened it; OPENED has not come"""
    OPENING_ENDED = 1
    """the same, and our half is ended"""
    OFFERED = 2
    """the peer opened it; OPENED was not said"""
    OFFERED_ENDED = 3
    """the same, and the peer's half is ended"""
    OPEN = 4
    LOCAL_ENDED = 5
    """our half is ended"""
    REMOTE_ENDED = 6
    """the peer's half is ended"""
    RESETTING = 7
    """our RESET waits behind our data; whatever comes is dropped"""
    CLOSED = 8


class StreamInput(IntEnum):
    """What can happen to a stream."""

    OPENED_CAME = 0
    DATA_CAME = 1
    END_CAME = 2
    WINDOW_CAME = 3
    RESET_CAME = 4
    ACCEPTED = 5
    """we say OPENED"""
    END_SENT = 6
    RESET_QUEUED = 7
    """reset() with data before it"""
    RESET_SENT = 8
    """also: cancelled, with nothing before it"""


_S = StreamState
_I = StreamInput

# A pair that is missing is an error: of the peer for an input that came, of the caller for the others.
_TRANSITIONS: dict[StreamState, dict[StreamInput, StreamState]] = {
    _S.OPENING: {
        _I.OPENED_CAME: _S.OPEN,
        _I.WINDOW_CAME: _S.OPENING,
        _I.RESET_CAME: _S.CLOSED,
        _I.END_SENT: _S.OPENING_ENDED,
        _I.RESET_QUEUED: _S.RESETTING,
        _I.RESET_SENT: _S.CLOSED,
    },
    _S.OPENING_ENDED: {
        _I.OPENED_CAME: _S.LOCAL_ENDED,
        _I.WINDOW_CAME: _S.OPENING_ENDED,
        _I.RESET_CAME: _S.CLOSED,
        _I.RESET_SENT: _S.CLOSED,
    },
    _S.OFFERED: {
        _I.DATA_CAME: _S.OFFERED,
        _I.END_CAME: _S.OFFERED_ENDED,
        _I.WINDOW_CAME: _S.OFFERED,
        _I.RESET_CAME: _S.CLOSED,
        _I.ACCEPTED: _S.OPEN,
        _I.RESET_SENT: _S.CLOSED,
    },
    _S.OFFERED_ENDED: {
        _I.WINDOW_CAME: _S.OFFERED_ENDED,
        _I.RESET_CAME: _S.CLOSED,
        _I.ACCEPTED: _S.REMOTE_ENDED,
        _I.RESET_SENT: _S.CLOSED,
    },
    _S.OPEN: {
        _I.DATA_CAME: _S.OPEN,
        _I.END_CAME: _S.REMOTE_ENDED,
        _I.WINDOW_CAME: _S.OPEN,
        _I.RESET_CAME: _S.CLOSED,
        _I.END_SENT: _S.LOCAL_ENDED,
        _I.RESET_QUEUED: _S.RESETTING,
        _I.RESET_SENT: _S.CLOSED,
    },
    _S.LOCAL_ENDED: {
        _I.DATA_CAME: _S.LOCAL_ENDED,
        _I.END_CAME: _S.CLOSED,
        _I.WINDOW_CAME: _S.LOCAL_ENDED,
        _I.RESET_CAME: _S.CLOSED,
        _I.RESET_SENT: _S.CLOSED,
    },
    _S.REMOTE_ENDED: {
        _I.WINDOW_CAME: _S.REMOTE_ENDED,
        _I.RESET_CAME: _S.CLOSED,
        _I.END_SENT: _S.CLOSED,
        _I.RESET_QUEUED: _S.RESETTING,
        _I.RESET_SENT: _S.CLOSED,
    },
    _S.RESETTING: {
        _I.OPENED_CAME: _S.RESETTING,
        _I.DATA_CAME: _S.RESETTING,
        _I.END_CAME: _S.RESETTING,
        _I.WINDOW_CAME: _S.RESETTING,
        _I.RESET_CAME: _S.CLOSED,
        _I.END_SENT: _S.RESETTING,
        _I.RESET_QUEUED: _S.RESETTING,
        _I.RESET_SENT: _S.CLOSED,
    },
    _S.CLOSED: {
        # a frame for a stream that is gone is dropped
        _I.OPENED_CAME: _S.CLOSED,
        _I.DATA_CAME: _S.CLOSED,
        _I.END_CAME: _S.CLOSED,
        _I.WINDOW_CAME: _S.CLOSED,
        _I.RESET_CAME: _S.CLOSED,
    },
}

STREAM_TABLE: tuple[tuple[StreamState | None, ...], ...] = tuple(
    tuple(_TRANSITIONS[state].get(given) for given in StreamInput) for state in StreamState
)
"""``STREAM_TABLE[state][input]`` is the next state, or None where the input is an error."""


class Stream:
    """One stream of the table.

    :ivar ours: we opened it
    :ivar credit: octets that we may still send
    :ivar queue: what is to be sent, ``queued`` octets in all; pieces are kept by reference; one stands for itself, as
        most do, and None for nothing: an empty deque weighs more than all the rest of an idle stream
    :ivar open_payload: the OPEN that has not left yet
    :ivar end_pending: END follows the queue
    :ivar reset_payload: RESET follows the queue and the END
    :ivar in_ready: it stands in the outbox's ring of ready streams
    :ivar touched: a DATA octet of ours left for the peer
    """

    __slots__ = (
        "credit",
        "end_pending",
        "end_said",
        "id",
        "in_ready",
        "open_payload",
        "ours",
        "queue",
        "queued",
        "reset_payload",
        "state",
        "touched",
        "window",
    )

    def __init__(self, stream_id: int, *, ours: bool, credit: int, window: ReceiveWindow) -> None:
        self.id = stream_id
        self.ours = ours
        self.state = StreamState.OPENING if ours else StreamState.OFFERED
        self.credit = credit
        self.window = window
        self.queue: bytes | memoryview | deque[bytes | memoryview] | None = None
        self.queued = 0
        self.open_payload: bytes | None = None
        self.end_pending = False
        self.end_said = False
        self.reset_payload: bytes | None = None
        self.in_ready = False
        self.touched = False

    @property
    def sendable(self) -> bool:
        """Whether a frame of it could leave now."""
        if self.queued:
            return self.credit > 0
        return self.end_pending or self.reset_payload is not None
