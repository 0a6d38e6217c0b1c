"""A shorter way from epoll to a transport, for the reactor of a process that is ours.

Twisted's own loop wraps every event into a logging context and three more calls; with tens of thousands of events a
second that is a tenth of the process.  Here the one event that matters, "readable", goes straight to ``doRead``, and
whatever waits for the end of the turn (``net/turn``) runs between the events and the next sleep instead of by a
``callLater(0)``.  Everything else, and every error, goes Twisted's way.
"""

from __future__ import annotations

import errno
import sys
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

from wormhole_tw.net.turn import turn_end_of

__all__ = ["dispatch_directly"]

log = Logger()


def dispatch_directly(reactor: object) -> bool:
    """Make a reactor's loop take the shorter way; gives whether it does. Only Twisted's epoll reactor is known."""
    if type(reactor) is not EPollReactor:
        return False
    turn = turn_end_of(reactor)
    turn.hook()
    epoll: Any = reactor
    poll = epoll._poller.poll
    selectables: dict[int, Any] = epoll._selectables
    slow_way = epoll._doReadOrWrite

    def iterate(timeout: float | None) -> None:
        if turn.pending:
            # of a delayed call, which ran after the last poll; what it starts may be due before the timeout
            turn.run()
            timeout = 0
        try:
            events = poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is None:
                continue
            if event != EPOLLIN or selectable.fileno() == -1:
                slow_way(selectable, descriptor, event)
                continue
            try:
                why = selectable.doRead()
            except BaseException:  # noqa: BLE001 - as Twisted: whatever an application does, its connection ends
                why = sys.exc_info()[1]
                log.failure("a transport failed to read")
            if why:
                epoll._disconnectSelectable(selectable, why, True)
        if turn.pending:
            turn.run()

    epoll.doIteration = iterate
    return True
