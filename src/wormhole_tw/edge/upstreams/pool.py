"""The pool: connections towards upstreams, kept for the next request, or shared by many.

Keyed by (upstream, visitor connection it is dedicated to): what was dialled for one visitor is never given to another.
Of HTTP/1's, the last one used is the first one taken; of HTTP/2's, the first one that has room takes the request.  So a
quiet hour lets the others time out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from wormhole_tw.control.model import HTTP1
from wormhole_tw.edge.complaints import Lines
from wormhole_tw.edge.upstreams.client import UpstreamConnection
from wormhole_tw.edge.upstreams.dialling import Dialling
from wormhole_tw.edge.upstreams.h2 import SharedConnection
from wormhole_tw.http.h1 import H1ClientCodec, H1Limits
from wormhole_tw.http.h2 import H2ClientCodec, H2Limits

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.control.registry import Registry
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.interfaces import IUpstream, IUpstreamRequest
    from wormhole_tw.net.timers import TimerWheel

__all__ = ["Pool"]

_Pooled = UpstreamConnection | SharedConnection
_Key = tuple[Hashable, "ConnectionFacts | None"]


class Pool:
    """Owner of every upstream connection of an edge.

    :param limits: ``idle_streams`` kept for each key, ``idle_stream_time`` seconds each
    :param http_limits: sizes of what origins send
    :param h2_limits: the same for those that speak HTTP/2
    """

    def __init__(
        self, registry: Registry, timers: TimerWheel, limits: Limits, http_limits: H1Limits, h2_limits: H2Limits
    ) -> None:
        self._timers = timers
        self._limits = limits
        self._http_limits = http_limits
        self._h2_limits = h2_limits
        self._idle: dict[_Key, list[UpstreamConnection]] = {}
        self._shared: dict[_Key, list[SharedConnection]] = {}  # those that take requests, full ones among them
        # of one visitor connection: the idle ones, and the shared ones
        self._dedicated: dict[ConnectionFacts, set[_Pooled]] = {}
        self._all: set[_Pooled] = set()
        self._complaints: dict[str, Lines] = {}  # by backend
        self._closed = False
        self._unsubscribe: Callable[[], None] = registry.subscribe(self.changed)

    @property
    def open(self) -> int:
        """Connections that there are, idle or busy."""
        return len(self._all)

    @property
    def idle(self) -> int:
        """Connections that nobody uses."""
        shared = sum(not connection.busy for shelf in self._shared.values() for connection in shelf)
        return shared + sum(map(len, self._idle.values()))

    def take(
        self, upstream: IUpstream, visitor: ConnectionFacts | None = None, *, unused_since: float = 0.0
    ) -> IUpstreamRequest | None:
        """A connection that can take a request, or None at once.

        :param visitor: the visitor connection, where the upstream wants its own streams for each
        :param unused_since: on the wheel's clock: leave it where it was given back before this; HTTP/2 has GOAWAY to
            say what it has not processed
        """
        if upstream.protocol != HTTP1:
            return self._roomy(upstream, visitor)
        shelf = self._idle.get((upstream.key, visitor))
        if shelf is None or shelf[-1].idle_since < unused_since:
            return None
        connection = shelf.pop()
        # the upstream that the shelf was filled by, whose load the balancer reads
        connection.upstream.idle -= 1
        if visitor is not None or not shelf:
            self._tidy(shelf, connection)
        return connection

    def dial(
        self, upstream: IUpstream, visitor: ConnectionFacts | None = None, host: str = "", *, keep: bool = True
    ) -> Deferred[IUpstreamRequest]:
        """A new connection, or room on one that is shared.

        :param visitor: the visitor connection that it is dedicated to, or None for a shared one
        :param host: the host name that this visitor asked for
        :param keep: False for one that is never given back (Upgrade); on HTTP/2 that is a stream like any other
        :returns: fails as the upstream's endpoint does; cancel it to give up
        """
        if upstream.protocol != HTTP1:
            return self._dial_shared(upstream, visitor if upstream.per_visitor else None, host)
        connection = UpstreamConnection(
            upstream, self, H1ClientCodec(self._http_limits), self._timers, self._limits, visitor=visitor, keep=keep
        )
        return cast("Deferred[IUpstreamRequest]", upstream.endpoint(visitor, host).connect(Dialling(connection)))

    def _roomy(self, upstream: IUpstream, visitor: ConnectionFacts | None) -> IUpstreamRequest | None:
        for connection in self._shared.get((upstream.key, visitor), ()):
            if connection.has_room:
                return connection.open()
        return None

    def _dial_shared(
        self, upstream: IUpstream, visitor: ConnectionFacts | None, host: str
    ) -> Deferred[IUpstreamRequest]:
        request = self._roomy(upstream, visitor)
        if request is not None:
            return succeed(request)
        codec = H2ClientCodec(self._h2_limits)
        connection = SharedConnection(upstream, self, codec, self._timers, self._limits, visitor)
        self._shared.setdefault((upstream.key, visitor), []).append(connection)
        if visitor is not None:
            self._dedicated.setdefault(visitor, set()).add(connection)
        connection.dial(upstream.endpoint(visitor, host))
        if connection.failure is not None:
            return fail(Failure(connection.failure))
        return succeed(cast("IUpstreamRequest", connection.open()))

    def drain(self) -> None:
        """End idle connections, now and whenever one becomes idle."""
        self._closed = True
        self._unsubscribe()
        for shelf in self._shelves():
            for connection in list(shelf):
                connection.close()

    def abort(self) -> None:
        """End every connection, those that do not stand yet among them."""
        shared = [connection for shelf in self._shared.values() for connection in shelf]
        self.drain()
        for connection in {*self._all, *shared}:
            connection.abort()

    def visitor_gone(self, visitor: ConnectionFacts) -> None:
        """End what was dedicated to a visitor connection that is over."""
        for connection in list(self._dedicated.get(visitor, ())):
            connection.close()

    # for UpstreamConnection and SharedConnection

    def made(self, connection: _Pooled) -> None:
        """It stands."""
        self._all.add(connection)
        connection.upstream.connections += 1

    def give_back(self, connection: UpstreamConnection) -> bool:
        """It has finished its request and could take another.

        :returns: False when it is not wanted and must be closed
        """
        upstream = connection.upstream
        if self._closed or not connection.keep or not upstream.usable:
            return False
        shelf = self._idle.get(connection.key)
        if shelf is None:
            if not self._limits.idle_streams:
                return False
            shelf = self._idle[connection.key] = []
        elif len(shelf) >= self._limits.idle_streams:
            return False
        shelf.append(connection)
        upstream.idle += 1
        if connection.visitor is not None:
            self._dedicated.setdefault(connection.visitor, set()).add(connection)
        return True

    def withdraw(self, connection: UpstreamConnection) -> None:
        """It is idle no more, and not by :meth:`take`."""
        shelf = self._idle.get(connection.key)
        if shelf is not None and connection in shelf:
            shelf.remove(connection)
            connection.upstream.idle -= 1
            self._tidy(shelf, connection)

    def _tidy(self, shelf: list[UpstreamConnection], connection: UpstreamConnection) -> None:
        """What else there is to do when a connection has left its shelf."""
        if not shelf:
            del self._idle[connection.key]
        if connection.visitor is not None:
            self._undedicate(connection.visitor, connection)

    def unshare(self, connection: SharedConnection) -> None:
        """It takes no further request."""
        key = (connection.upstream.key, connection.visitor)
        shelf = self._shared.get(key)
        if shelf is None or connection not in shelf:
            return
        shelf.remove(connection)
        if not shelf:
            del self._shared[key]
        if connection.visitor is not None:
            self._undedicate(connection.visitor, connection)

    def retire(self, connection: SharedConnection) -> None:
        """Its service has ended it: let those that stand beside it take nothing new.

        A service that stops or starts anew ends them all, and a request that it did not process must not go from one to
        the next of them until it has no try left.
        """
        for other in list(self._shared.get((connection.upstream.key, connection.visitor), ())):
            other.close()

    def _undedicate(self, visitor: ConnectionFacts, connection: _Pooled) -> None:
        mine = self._dedicated[visitor]
        mine.discard(connection)
        if not mine:
            del self._dedicated[visitor]

    def wants(self, connection: SharedConnection) -> bool:
        """An idle one is worth keeping: one of a single request's visitor, behind a proxy of ours, is not."""
        visitor = connection.visitor
        return not self._closed and connection.upstream.usable and (visitor is None or visitor.exclusive)

    def complain(self, connection: SharedConnection, sentence: str) -> None:
        """Tell the operator what is wrong with a service."""
        upstream = connection.upstream
        lines = self._complaints.get(upstream.backend)
        if lines is None:
            lines = self._complaints[upstream.backend] = Lines(self._timers.seconds)
        what = "agent" if upstream.translation is None else "origin"
        lines.say(f"backend {upstream.backend}, {what} {upstream.key}: {sentence}")

    def lost(self, connection: _Pooled) -> None:
        """It is over."""
        self._all.discard(connection)
        connection.upstream.connections -= 1

    def _shelves(self) -> list[Sequence[_Pooled]]:
        return [*self._idle.values(), *self._shared.values()]

    def moved(self, upstream: IUpstream, addresses: Collection[str]) -> None:
        """Its name leads to these addresses now: connections to others end, each after what runs on it."""
        for connection in list(self._all):
            if connection.upstream is upstream and connection.address not in addresses:
                connection.retire()

    def changed(self, backend: str) -> None:
        """Something is otherwise with its upstreams: end what lies idle at one that takes no requests any more."""
        for shelf in self._shelves():
            upstream = shelf[0].upstream
            if upstream.backend == backend and not upstream.usable:
                for connection in list(shelf):
                    connection.close()
