"""The states of an exchange and the moves between them, one table.

::

    NEW ──→ WAITING ──→ DIALLING ──→ SENDING ──→ ANSWERING ──→ DONE
     │          └────────────┴──────────┤   └──→ SWITCHED ──────┘
     ├── (an idle stream) ──────────────┘         (101)
     └── CHECKING (a gate that takes its time), and from there as from NEW

A failure before the answer has begun leads from SENDING back to DIALLING or WAITING, or to another idle stream, where
the request may be sent again; and from anywhere to DONE.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["BEFORE_ANSWER", "MOVES", "State"]


class State(Enum):
    """Where an exchange is."""

    # Enum's own is a function in Python, and a state is looked up for every move.
    __hash__ = object.__hash__

    NEW = "new"
    CHECKING = "checking"
    """a gate of its route is asked, and takes its time"""
    WAITING = "waiting"
    """no upstream is there; one is expected"""
    DIALLING = "dialling"
    """a stream is being opened"""
    SENDING = "sending"
    """the request is under way, no final answer yet"""
    ANSWERING = "answering"
    """the head of the answer is out"""
    SWITCHED = "switched"
    """101: octets both ways"""
    DONE = "done"


MOVES: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.CHECKING, State.WAITING, State.DIALLING, State.SENDING, State.DONE}),
    State.CHECKING: frozenset({State.WAITING, State.DIALLING, State.SENDING, State.DONE}),
    State.WAITING: frozenset({State.DIALLING, State.SENDING, State.DONE}),
    State.DIALLING: frozenset({State.SENDING, State.WAITING, State.DIALLING, State.DONE}),
    State.SENDING: frozenset(
        {State.ANSWERING, State.SWITCHED, State.WAITING, State.DIALLING, State.SENDING, State.DONE}
    ),
    State.ANSWERING: frozenset({State.DONE}),
    State.SWITCHED: frozenset({State.DONE}),
    State.DONE: frozenset(),
}
"""Every move there is."""

BEFORE_ANSWER = frozenset({State.NEW, State.CHECKING, State.WAITING, State.DIALLING, State.SENDING})
"""The visitor has heard no final head: an error can still be an answer."""
