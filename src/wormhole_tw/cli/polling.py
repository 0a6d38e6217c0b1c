"""A shorter way from epoll to a transport, for the reactor of a process that is ours.

Twisted's own loop wraps every event into a logging context and three more calls; with tens of thousands of events a
second that is a tenth of the process.  Here the one event that matters, "readable", goes straight to ``doRead``, and
whatever waits for the end of the turn (``net/turn``) runs between the events and the next sleep instead of by a
``callLater(0)``; where nothing but sockets has anything to say, the next sleep follows at once.  A socket comes and
goes in one call instead of four.  Everything else, and every error, goes Twisted's way.
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

ROUNDS = 64
"""Polls that may follow each other before Twisted's loop has its turn, come what may."""

LONGEST = 3600.0
"""Seconds that a poll may sleep without its leave; epoll cannot sleep for more than 24 days."""


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
    seconds = epoll.seconds

    def iterate(timeout: float | None) -> None:
        if turn.pending:
            # of a delayed call, which ran after the last poll; what it starts may be due before the timeout
            turn.run()
            timeout = 0
        for _ in range(ROUNDS):
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
                if turn.pending:
                    return
            # Twisted's loop would now look for calls of other threads, for delayed calls and for its own end, in half a
            # dozen calls. Where there is none of them, the next poll follows at once.
            if epoll._newTimedCalls or epoll.threadCallQueue or epoll._justStopped or not epoll.running:
                return
            delayed = epoll._pendingTimedCalls
            if delayed:
                timeout = delayed[0].time - seconds()
                if not 0.0 < timeout < LONGEST:
                    return
            else:
                timeout = None

    reads: set[int] = epoll._reads
    writes: set[int] = epoll._writes
    elsewhere = epoll._continuousPolling  # what epoll does not take: a file's descriptor
    register, unregister = epoll._poller.register, epoll._poller.unregister
    add_reader, remove_reader, remove_writer = epoll.addReader, epoll.removeReader, epoll.removeWriter

    def begin_to_read(reader: Any) -> None:
        descriptor = reader.fileno()
        if descriptor in writes or descriptor in reads:
            add_reader(reader)
            return
        try:
            register(descriptor, EPOLLIN)
        except OSError:
            add_reader(reader)  # no descriptor, or a file's: it fails once more there, and is dealt with
            return
        reads.add(descriptor)
        selectables[descriptor] = reader

    def stop_to_read(reader: Any) -> None:
        descriptor = reader.fileno()
        if descriptor in reads and descriptor not in writes:
            unregister(descriptor)
            reads.discard(descriptor)
            del selectables[descriptor]
        elif descriptor == -1 or descriptor in writes or elsewhere._readers:
            remove_reader(reader)

    def stop_to_write(writer: Any) -> None:
        descriptor = writer.fileno()
        if descriptor == -1 or descriptor in writes or elsewhere._writers:
            remove_writer(writer)

    epoll.addReader, epoll.removeReader, epoll.removeWriter = begin_to_read, stop_to_read, stop_to_write
    epoll.doIteration = iterate
    return True
