"""Everything that the data path shares, in one object that the composition root makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

from wormhole_tw.control.limits import Limits, SiteLimits
from wormhole_tw.edge.answers import HttpDate
from wormhole_tw.edge.caching.cache import EdgeCache
from wormhole_tw.edge.compressing import Compressors
from wormhole_tw.edge.connections import Connections
from wormhole_tw.edge.dispatch import Dispatch
from wormhole_tw.edge.gates import Gates
from wormhole_tw.edge.inflight import InFlight, Requests
from wormhole_tw.edge.middleware.stacks import Middlewares
from wormhole_tw.edge.pace import LOOKS
from wormhole_tw.edge.passages import Passages
from wormhole_tw.edge.password_checks import PasswordChecks
from wormhole_tw.edge.request_ids import request_ids
from wormhole_tw.edge.upstreams.agents import AgentUpstreams
from wormhole_tw.edge.upstreams.every import EveryUpstream
from wormhole_tw.edge.upstreams.pool import Pool
from wormhole_tw.http.h1 import H1Limits
from wormhole_tw.http.h2 import H2Limits

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from wormhole_tw.control.catalog import CatalogHolder
    from wormhole_tw.control.registry import Registry
    from wormhole_tw.edge.again import Again
    from wormhole_tw.edge.caching.kept import KeptAnswers
    from wormhole_tw.edge.door import TunnelDoor
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.interfaces import IUpstreams
    from wormhole_tw.edge.outside import Outside
    from wormhole_tw.edge.upstreams.origins import OriginUpstreams
    from wormhole_tw.net.timers import TimerWheel
    from wormhole_tw.net.turn import TurnEnd

__all__ = ["REFUSED", "SHED", "Counters", "EdgeContext"]

REFUSED = ("full", "address", "stopping")
"""What connections are refused for: ``limits.connections`` are there, ``connections_per_address``, a stop."""

MAX_SITES = 1024
"""Different limits of sites whose whole is kept, a kilobyte each; sites with the same ones share them."""

SHED = ("head", "body", "reader", "idle")
"""What visitors are dropped for: a head, a body, or taking an answer too slowly; an upgraded connection's silence."""


class Counters:
    """What happened since the start; plain numbers that only rise, for health and later metrics.

    :ivar answers: finished answers by the first digit of their status; index 0 counts visitors who left before one
    :ivar early: answers to what never became a request (a head that did not come, HTTP on a TLS port), and what HTTP/2
        refuses without an answer, by reason
    :ivar handshakes: TLS handshakes that came to their end
    :ivar refused: connections that were closed at once, by the reason, one of :data:`REFUSED`
    :ivar shed: visitors whose time was over, by what was slow, one of :data:`SHED`
    """

    __slots__ = (
        "answers",
        "connections",
        "early",
        "handshakes",
        "handshakes_failed",
        "refused",
        "requests",
        "retries",
        "shed",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.early: Counter[str] = Counter()
        self.handshakes = 0
        self.handshakes_failed = 0
        self.refused: Counter[str] = Counter()
        self.requests = 0
        self.retries = 0
        self.shed: Counter[str] = Counter()
        self.answers = [0] * 10


class EdgeContext:
    """What accept, listener and exchange need.

    :ivar awaited: token → what a CA is to find under it on a plain listener (HTTP-01); None where no CA asks
    :ivar cache: what routes with a cache do with what is kept
    :ivar addresses: visitors' connections by what counts of the address, where that has a limit
    :ivar chance: a number from 0 to 1, without 1
    :ivar catalogs: the current catalog; an exchange keeps the route and the limits that it found in it
    :ivar connections: visitors' connections (and those whose first bytes are still awaited)
    :ivar names: the edge's own host names, normalised
    :ivar origins: those on the web; None where nobody can dial them
    :ivar public_port: the port that visitors reach with https; set it when the listener is bound, if it was not known
    :ivar door: where agents come in by WebSocket, or None
    :ivar draining: connections take no new request
    :ivar lingering: but those that may be on their way already
    :ivar gates: what routes ask before a request goes on
    :ivar kept: where answers are kept, and which of them were purged; None where nobody gave one
    :ivar middleware: the Python that requests of some routes go through
    :ivar idle_look: seconds after which it is looked whether an idle visitor has taken its answer
    :ivar request_ids: gives each request its name
    :ivar in_flight: requests, where they have a limit
    :ivar turn: the end of the reactor's turn
    :ivar site_limits: the limits of a site that has some of its own
    :ivar compressors: what gives answers their content coding
    :ivar outside: threads and the web, for gates that want them; None where there is nothing but what tests give
    :ivar password_checks: whose turn it is
    :ivar passages: connections that lead through the tunnel as they are
    :ivar offers: whether an agent of a release branch could take a request for a backend now
    :ivar on_answered_again: called with what was said again (:mod:`wormhole_tw.edge.again`), the name of its
        request and the wall's clock, or None
    :ivar on_exchange_done: called with each finished :class:`~wormhole_tw.edge.exchange.Exchange`, or None
    """

    __slots__ = (
        "addresses",
        "awaited",
        "cache",
        "catalogs",
        "chance",
        "compressors",
        "connections",
        "counters",
        "date",
        "dispatch",
        "door",
        "draining",
        "gates",
        "h2_limits",
        "http_limits",
        "idle_look",
        "in_flight",
        "kept",
        "limits",
        "lingering",
        "middleware",
        "names",
        "offers",
        "on_answered_again",
        "on_exchange_done",
        "origins",
        "outside",
        "passages",
        "password_checks",
        "pool",
        "public_port",
        "registry",
        "request_ids",
        "site_limits",
        "timers",
        "turn",
        "wall",
    )

    def __init__(
        self,
        *,
        catalogs: CatalogHolder,
        registry: Registry,
        timers: TimerWheel,
        turn: TurnEnd,
        limits: Limits,
        random: Random,
        wall: Callable[[], float],
        names: frozenset[str] = frozenset(),
        public_port: int = 443,
        awaited: Mapping[bytes, bytes] | None = None,
        outside: Outside | None = None,
        origins: OriginUpstreams | None = None,
        region: str = "",
        kept: KeptAnswers | None = None,
        compressors: Compressors | None = None,
    ) -> None:
        """
        :param region: where the edge is
        :param kept: where answers are kept; None where no route has a cache
        :param random: where balancing takes its chance from
        :param wall: seconds since 1970, for ``Date``
        """
        self.awaited = awaited
        self.outside = outside
        self.kept = kept
        self.compressors = compressors or Compressors(timers)
        self.catalogs = catalogs
        self.registry = registry
        self.timers = timers
        self.turn = turn
        self.limits = limits
        self.idle_look = min(limits.keep_alive, limits.stall / LOOKS)
        self.names = names
        self.public_port = public_port
        self.wall = wall
        self.date = HttpDate()
        self.http_limits = H1Limits(
            head=limits.head_bytes, fields=limits.head_fields, target=min(limits.target_bytes, limits.head_bytes)
        )
        self.h2_limits = H2Limits(
            head=limits.head_bytes,
            fields=limits.head_fields,
            target=self.http_limits.target,
            queue=limits.write_buffer,
            queues=8 * limits.write_buffer,
        )
        self.pool = Pool(registry, timers, limits, self.http_limits, self.h2_limits.towards_services())
        agents = AgentUpstreams(registry, catalogs)
        self.origins = origins
        if origins is not None:
            origins.pool = self.pool
        upstreams: IUpstreams = agents if origins is None else EveryUpstream(agents, origins)
        self.dispatch = Dispatch(registry, upstreams, catalogs, timers, limits, random, self.pool, region)
        self.connections = Connections()
        self.addresses = InFlight()
        self.in_flight = Requests()
        self.site_limits: Callable[[SiteLimits], Limits] = lru_cache(maxsize=MAX_SITES)(lambda own: own.over(limits))
        self.counters = Counters()
        self.passages = Passages(timers.seconds)
        self.draining = False
        self.lingering = False
        self.request_ids = request_ids(random.randbytes)
        self.chance = random.random
        self.offers = self.dispatch.offers
        self.door: TunnelDoor | None = None
        self.on_exchange_done: Callable[[Exchange], None] | None = None
        self.on_answered_again: Callable[[Again, bytes, float], None] | None = None
        self.password_checks = PasswordChecks()
        self.gates = Gates(self)
        self.middleware = Middlewares(timers)
        self.cache = EdgeCache(self)

    def date_line(self) -> tuple[bytes, bytes]:
        """The ``Date`` of now."""
        return self.date.line(self.wall())

    def linger(self) -> None:
        """Let visitors go without their noticing: what is asked meanwhile is answered, and each answer says that it is
        the last of its connection.  :meth:`drain` ends it."""
        self.draining = self.lingering = True
        for connection in list(self.connections):
            connection.linger()

    def drain(self) -> Deferred[None]:
        """Let running exchanges finish and take no new ones: idle connections close now, the others after theirs.

        :returns: fires when no connection is left, and never fails; how long that may take is the caller's to bound,
            with :meth:`abort`
        """
        self.draining = True
        self.lingering = False
        for connection in list(self.connections):
            connection.drain()
        return self.connections.when_empty()

    def abort(self) -> None:
        """End every visitor's and every upstream's connection, and every wait, now."""
        self.draining = True
        self.dispatch.close()
        self.gates.close()
        self.cache.stop()
        for connection in list(self.connections):
            connection.abort()
        self.pool.abort()
        if self.origins is not None:
            self.origins.close()
        self.compressors.close()
