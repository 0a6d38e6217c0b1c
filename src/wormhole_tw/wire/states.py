"""The states of a session, and which frames it takes in each: one table (docs/protocol.md, "States of a session")."""

from __future__ import annotations

from enum import Enum, IntEnum

from wormhole_tw.wire.frames import FrameType

__all__ = ["SESSION_TABLE", "SessionState", "Side", "Verdict"]


class Side(Enum):
    """Who dialled the connection under the link."""

    DIALLER = "dialler"
    """sends the preface and HELLO; opens even ids"""
    ACCEPTOR = "acceptor"
    """sends WELCOME; opens odd ids"""


class SessionState(IntEnum):
    """Where a session is in its life."""

    START = 0
    """dialler: HELLO was not given yet"""
    AWAIT_HELLO = 1
    """acceptor: preface and HELLO have not come whole"""
    JUDGING = 2
    """acceptor: HELLO came, WELCOME or GOAWAY is to be said"""
    AWAIT_WELCOME = 3
    """dialler: HELLO is out"""
    OPEN = 4
    """the link stands"""
    DRAINING = 5
    """GOAWAY went either way; open streams live on"""
    CLOSING = 6
    """our last GOAWAY is to be written, nothing is read"""
    CLOSED = 7
    """nothing is read or written"""

    @property
    def stands(self) -> bool:
        """WELCOME was said and the end was not."""
        return self is SessionState.OPEN or self is SessionState.DRAINING


class Verdict(Enum):
    """What a frame is in a state."""

    TAKE = "take"
    ERROR = "error"
    """ends the link: PROTOCOL_ERROR"""
    IGNORE = "ignore"


_EVERY: list[FrameType | None] = [kind for kind in FrameType if kind is not FrameType.DATAGRAM]
_EVERY.append(None)
_AFTER_WELCOME: dict[FrameType | None, Verdict] = {
    kind: Verdict.ERROR if kind in (FrameType.HELLO, FrameType.WELCOME) else Verdict.TAKE for kind in _EVERY
}


def _only(*kinds: FrameType) -> dict[FrameType | None, Verdict]:
    return {kind: Verdict.TAKE if kind in kinds else Verdict.ERROR for kind in _EVERY}


SESSION_TABLE: dict[SessionState, dict[FrameType | None, Verdict]] = {
    SessionState.START: _only(),
    SessionState.AWAIT_HELLO: _only(FrameType.HELLO, FrameType.GOAWAY),
    SessionState.JUDGING: _only(FrameType.GOAWAY),
    SessionState.AWAIT_WELCOME: _only(FrameType.WELCOME, FrameType.GOAWAY),
    SessionState.OPEN: _AFTER_WELCOME,
    SessionState.DRAINING: _AFTER_WELCOME,
    SessionState.CLOSING: dict.fromkeys(_EVERY, Verdict.IGNORE),
    SessionState.CLOSED: dict.fromkeys(_EVERY, Verdict.IGNORE),
}
"""For each state and each type of frame (None: an unknown type) whether it is taken."""
