"""The first process of a container inherits every process whose parent has ended, and has to ask for its end.

Twisted asks for those that it has started itself, and so do our threads; others would stay as zombies, and fill the
table of processes.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import process
from twisted.internet.task import LoopingCall

from wormhole_tw.net.children import strays

__all__ = ["INTERVAL", "reap_strays", "reap_strays_of"]

INTERVAL = 0.5
"""Seconds between two looks: a zombie takes nothing but its number, and a look is one call of the system."""


def reap_strays() -> int:
    """Take the end of every child that nobody of this process waits for; gives how many there were."""
    count = 0
    with strays() as is_stray:
        while is_stray is not None:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if ended is None or ended.si_pid in process.reapProcessHandlers or not is_stray(ended.si_pid):
                break  # nobody, or one that somebody is about to ask for: what is behind it has time
            os.waitpid(ended.si_pid, os.WNOHANG)
            count += 1
    return count


def reap_strays_of(reactor: Any) -> None:
    """Look again and again, from the reactor's start to its end."""
    looking = LoopingCall(reap_strays)
    looking.clock = reactor
    reactor.callWhenRunning(looking.start, INTERVAL)
    reactor.addSystemEventTrigger("after", "shutdown", looking.stop)
