"""Looking names up in threads that the end of the process does not wait for.

``getaddrinfo`` cannot be cancelled. With name servers that do not answer it takes ten seconds, in a pod with its five
search domains a minute, and the reactor's own threads are waited for when it stops: SIGTERM would seem to do nothing.
"""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any

from twisted.internet._resolver import GAIResolver  # which takes a pool of threads, and has no public name
from twisted.python.threadpool import ThreadPool

__all__ = ["MAX_LOOKUPS", "look_names_up_aside"]

MAX_LOOKUPS = 20
"""Names that are looked up at the same time; others wait. An agent has sixteen edges at the most, and a proxy and a
service of its own."""


class _Threads(ThreadPool):
    threadFactory = staticmethod(partial(Thread, daemon=True))  # type: ignore[assignment]


def look_names_up_aside(reactor: Any) -> None:
    """Have this process's reactor do so. To be said before anything is made that dials."""
    pool = _Threads(0, MAX_LOOKUPS, "wormhole-tw names")

    def started() -> ThreadPool:
        if not pool.started:  # not before the first name, for a daemon forks before
            pool.start()
        return pool

    reactor.installNameResolver(GAIResolver(reactor, started))
