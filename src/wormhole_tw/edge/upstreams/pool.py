"""The pool: connections towards upstreams that are kept for the next request.

Keyed by (upstream, visitor connection it is dedicated to): what was dialled for one visitor is never given to another.
The last one used is the first one taken, so that a quiet hour lets the others time out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from wormhole_tw.edge.upstreams.client import UpstreamConnection
from wormhole_tw.http.h1 import H1ClientCodec, H1Limits

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from wormhole_tw.control.limits import Limits
    from wormhole_tw.control.registry import Registry
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.interfaces import IUpstream
    from wormhole_tw.net.timers import TimerWheel

__all__ = ["Pool"]

_Key = tuple[Hashable, "ConnectionFacts | None"]


class _Dialling(Factory):
    """Builds one connection."""

    noisy = False

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> UpstreamConnection:  # type: ignore[override]
        return self._connection


class Pool:
    """Owner of every upstream connection of an edge.

    :param limits: ``idle_streams`` kept for each key, ``idle_stream_time`` seconds each
    :param http_limits: sizes of what origins send
    """

    def __init__(self, registry: Registry, timers: TimerWheel, limits: Limits, http_limits: H1Limits) -> None:
        self._timers = timers
        self._limits = limits
        self._http_limits = http_limits
        self._idle: dict[_Key, list[UpstreamConnection]] = {}
        self._dedicated: dict[ConnectionFacts, set[UpstreamConnection]] = {}  # the idle ones
        self._all: set[UpstreamConnection] = set()
        self._closed = False
        self._unsubscribe: Callable[[], None] = registry.subscribe(self._changed)

    @property
    def open(self) -> int:
        """Connections that there are, idle or busy."""
        return len(self._all)

    @property
    def idle(self) -> int:
        """Connections that nobody uses."""
        return sum(map(len, self._idle.values()))

    def take(
        self, upstream: IUpstream, visitor: ConnectionFacts | None = None, *, unused_since: float = 0.0
    ) -> UpstreamConnection | None:
        """An idle connection, or None at once.

        :param visitor: the visitor connection, where the upstream wants its own streams for each
        :param unused_since: on the wheel's clock: leave it where it was given back before this
        """
        shelf = self._idle.get((upstream.key, visitor))
        if not shelf or shelf[-1].idle_since < unused_since:
            return None
        connection = shelf[-1]
        if visitor is not None or len(shelf) == 1:
            self._take_off(shelf, connection)
        else:
            shelf.pop()
            connection.upstream.idle -= 1
        return connection

    def dial(
        self, upstream: IUpstream, visitor: ConnectionFacts | None = None, host: str = "", *, keep: bool = True
    ) -> Deferred[UpstreamConnection]:
        """A new connection.

        :param visitor: the visitor connection that it is dedicated to, or None for a shared one
        :param host: the host name that this visitor asked for
        :param keep: False for one that is never given back (Upgrade)
        :returns: fails as the upstream's endpoint does; cancel it to give up
        """
        connection = UpstreamConnection(
            upstream, self, H1ClientCodec(self._http_limits), self._timers, self._limits, visitor=visitor, keep=keep
        )
        return cast("Deferred[UpstreamConnection]", upstream.endpoint(visitor, host).connect(_Dialling(connection)))

    def drain(self) -> None:
        """End idle connections, now and whenever one becomes idle."""
        self._closed = True
        self._unsubscribe()
        for connection in [connection for shelf in self._idle.values() for connection in shelf]:
            connection.close()

    def abort(self) -> None:
        """End every connection."""
        self.drain()
        for connection in list(self._all):
            connection.abort()

    def visitor_gone(self, visitor: ConnectionFacts) -> None:
        """End what was dedicated to a visitor connection that is over."""
        for connection in list(self._dedicated.get(visitor, ())):
            connection.close()

    # for UpstreamConnection

    def made(self, connection: UpstreamConnection) -> None:
        """It stands."""
        self._all.add(connection)

    def give_back(self, connection: UpstreamConnection) -> bool:
        """It has finished its request and could take another.

        :returns: False when it is not wanted and must be closed
        """
        upstream = connection.upstream
        if self._closed or not connection.keep or not upstream.usable:
            return False
        key = (upstream.key, connection.visitor)
        shelf = self._idle.get(key)
        if shelf is None:
            if not self._limits.idle_streams:
                return False
            shelf = self._idle[key] = []
        elif len(shelf) >= self._limits.idle_streams:
            return False
        shelf.append(connection)
        upstream.idle += 1
        if connection.visitor is not None:
            self._dedicated.setdefault(connection.visitor, set()).add(connection)
        return True

    def withdraw(self, connection: UpstreamConnection) -> None:
        """It is idle no more, and not by :meth:`take`."""
        shelf = self._idle.get((connection.upstream.key, connection.visitor))
        if shelf is not None and connection in shelf:
            self._take_off(shelf, connection)

    def _take_off(self, shelf: list[UpstreamConnection], connection: UpstreamConnection) -> None:
        if shelf[-1] is connection:
            shelf.pop()
        else:
            shelf.remove(connection)
        # the upstream that the shelf was filled by, whose load the balancer reads
        connection.upstream.idle -= 1
        visitor = connection.visitor
        if not shelf:
            del self._idle[connection.upstream.key, visitor]
        if visitor is not None:
            mine = self._dedicated[visitor]
            mine.discard(connection)
            if not mine:
                del self._dedicated[visitor]

    def lost(self, connection: UpstreamConnection) -> None:
        """It is over."""
        self._all.discard(connection)

    def _changed(self, backend: str) -> None:
        for shelf in list(self._idle.values()):
            upstream = shelf[0].upstream
            if upstream.backend == backend and not upstream.usable:
                for connection in list(shelf):
                    connection.close()
