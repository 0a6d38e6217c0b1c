"""Origins on the web as upstreams, in the shape that dispatch, balancer and pool know.

Each connection is dialled at an address that was looked up and judged just before: whatever DNS says, and whenever it
says something else, nothing is dialled that the backend does not allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.control.model import HTTP1
from wormhole_tw.control.special_addresses import special_kind
from wormhole_tw.edge.complaints import Lines
from wormhole_tw.edge.interfaces import IUpstream, IUpstreams
from wormhole_tw.errors import AddressRefused, TimedOut
from wormhole_tw.http.translation import Translation
from wormhole_tw.net.immediate import immediate_reactor
from wormhole_tw.net.networks import canonical_address
from wormhole_tw.net.racing import dial_addresses, in_turns
from wormhole_tw.net.resolver import Resolver
from wormhole_tw.net.tls import client_creator, explain_tls_failure, wrap_client_tls
from wormhole_tw.net.tls_failure import is_tls_failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol, IProtocolFactory

    from wormhole_tw.control.catalog import Catalog, CatalogHolder
    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.control.origin import Origin, Target
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.members import Member
    from wormhole_tw.edge.upstreams.pool import Pool
    from wormhole_tw.net.resolver import Found
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["OriginUpstream", "OriginUpstreams"]

log = Logger()

ALPN = b"http/1.1"

FAMILY_MEMORY = 600.0
"""Seconds for which the family of addresses that stood first is tried first: where IPv6 is broken, only one connection
in ten minutes waits for it."""

LOOK_AT_LEAST = 1.0
"""Seconds between two looks at the addresses of an origin that has connections."""


class _Key:
    """Itself and no other: one before it may have had the same URL, and other certificates to trust."""

    __slots__ = ("_url",)

    def __init__(self, url: str) -> None:
        self._url = url

    def __str__(self) -> str:
        return self._url


@implementer(IUpstream)
class OriginUpstream:
    """One origin of a backend.

    :ivar origin: what the configuration says of it; a reload may change what is not about its connections
    """

    per_visitor = False
    branch = ""
    watched = True

    __slots__ = (
        "_addresses",
        "_creator",
        "_dials",
        "_family",
        "_family_until",
        "_lines",
        "_looking",
        "_owner",
        "_timer",
        "_turn",
        "backend",
        "connections",
        "identity",
        "idle",
        "keep_alive",
        "key",
        "origin",
        "protocol",
        "region",
        "standing",
        "translation",
        "usable",
        "weight",
    )

    translation: Translation | None

    def __init__(self, owner: OriginUpstreams, backend: str, origin: Origin, protocol: str) -> None:
        self.key = _Key(origin.url)
        self.identity = origin.url.encode()
        self.backend = backend
        self.protocol = protocol
        self.usable = True
        self.standing: Member | None = None
        self.idle = 0
        self.connections = 0
        self._owner = owner
        self._addresses: frozenset[str] = frozenset()
        self._creator: IOpenSSLClientConnectionCreator | None = None
        self._dials = 0  # that have not come to an end
        self._family = 6
        self._family_until = 0.0
        self._lines = Lines(owner.timers.seconds)
        self._looking: Deferred[Any] | None = None
        self._timer: Timer | None = None
        self._turn = 0
        self.configure(origin)

    def configure(self, origin: Origin) -> None:
        """Take over what may change without other connections."""
        self.origin = origin
        self.keep_alive = origin.keep_alive
        self.weight = origin.weight
        self.region = origin.region
        target = origin.target
        self.translation = Translation(
            target.scheme.encode(),
            target.authority.encode(),
            None if origin.host is None else origin.host.encode(),
            origin.base.encode(),
            origin.index.encode(),
            origin.rewrite,
        )

    @property
    def shown(self) -> str:
        return f"origin {self.origin.url}"

    @property
    def load(self) -> int:
        return self.connections - self.idle + self._dials

    def endpoint(self, facts: ConnectionFacts | None, host: str) -> IStreamClientEndpoint:
        target = self.origin.target
        plain = _Plain(self)
        if not target.secure:
            return _Counted(self, plain)
        if self._creator is None:
            # made when it is needed first: it takes some ten milliseconds
            self._creator = client_creator(
                target.server_name, ca_pem=target.authorities or None, alpn=[ALPN], source=f"backend {self.backend}"
            )
        return _Counted(self, wrap_client_tls(self._owner.reactor, self._creator, plain))

    def passage(self, facts: ConnectionFacts, host: str) -> IStreamClientEndpoint:
        return _Plain(self)

    async def dial(self, factory: IProtocolFactory) -> IProtocol:
        """A connection to an address that was just looked up, and is allowed.

        :raises LookupFailed: there is no address
        :raises AddressRefused: there is none that may be dialled
        """
        owner, target = self._owner, self.origin.target
        try:
            found = await owner.resolver.lookup(target.host)
            addresses = self._judged(target, found.addresses)
            self._watch(found)
            order = self._in_order(addresses)
            return await dial_addresses(owner.dialler, order, target.port, factory, won=self._took)
        except (CancelledError, AddressRefused):
            raise
        except Exception as error:
            self.complain(str(error) or type(error).__name__)
            raise

    def begun(self) -> None:
        """A dial has begun: somebody waits for it."""
        self._dials += 1

    def ended(self, failure: Failure | None) -> None:
        """It has come to its end."""
        self._dials -= 1
        target = self.origin.target
        if failure is None or not target.secure:
            return
        if is_tls_failure(failure) or failure.check(ConnectionDone, ConnectionLost, TimedOut):
            self.complain(
                explain_tls_failure(failure, target.server_name, target.port, ca_option="ca_file", offered=[ALPN])
            )

    def complain(self, sentence: str) -> None:
        """Tell the operator, once in a while."""
        self._lines.say(f"backend {self.backend}, origin {self.origin.url}: {sentence}")

    def leave(self) -> None:
        """It takes no request any more."""
        self.usable = False
        self._stop_looking()

    # within

    def _judged(self, target: Target, addresses: Sequence[str]) -> list[str]:
        good: list[str] = []
        refused: list[str] = []
        for address in addresses:
            kind = special_kind(address, target.allowed)
            if kind is None:
                good.append(address)
            else:
                refused.append(f"{address} is {kind}")
        if refused:
            sentence = f"its name leads to what allow_networks does not name: {', '.join(refused)}"
            self.complain(sentence)
            if not good:
                raise AddressRefused(sentence)
        return good

    def _in_order(self, addresses: list[str]) -> list[str]:
        """Each connection begins with another one of a family, so that they share the work."""
        self._turn += 1
        start = self._turn % len(addresses)
        family = self._family if self._owner.timers.seconds() < self._family_until else 6
        return in_turns(addresses[start:] + addresses[:start], first=family)

    def _took(self, address: str) -> None:
        self._family = 6 if ":" in address else 4
        now = self._owner.timers.seconds()
        if now >= self._family_until:
            self._family_until = now + FAMILY_MEMORY

    # Connections that are kept are used for as long as visitors come; meanwhile the name may lead elsewhere.

    def _watch(self, found: Found) -> None:
        before = self._addresses
        self._addresses = frozenset(map(canonical_address, found.addresses))
        if self._addresses != before and self._owner.pool is not None:
            self._owner.pool.moved(self, self._addresses)
        if found.until == float("inf") or not self.usable:
            return
        timers = self._owner.timers
        seconds = max(found.until - timers.seconds(), LOOK_AT_LEAST)
        if self._timer is None:
            self._timer = timers.start(seconds, self._look)
        elif not self._timer.active:
            self._timer.restart(seconds)

    def _look(self) -> None:
        if self._looking is not None or not (self.connections and self.usable):
            return
        looking = self._looking = self._owner.resolver.lookup(self.origin.target.host)
        looking.addCallbacks(self._looked, self._saw_nothing)
        looking.addErrback(lambda failure: log.failure("an origin's addresses could not be taken over", failure))

    def _looked(self, found: Found) -> None:
        self._looking = None
        self._watch(found)

    def _saw_nothing(self, failure: Failure) -> None:
        """What stands goes on; whoever dials is told."""
        self._looking = None
        if failure.check(CancelledError) is None and self._timer is not None:
            self._timer.restart(LOOK_AT_LEAST)

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()


@implementer(IStreamClientEndpoint)
class _Plain:
    """Dials an origin without TLS."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: OriginUpstream) -> None:
        self._upstream = upstream

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._upstream.dial(protocolFactory))


@implementer(IStreamClientEndpoint)
class _Counted:
    """Dials that count as work, and say why TLS did not come about."""

    __slots__ = ("_endpoint", "_upstream")

    def __init__(self, upstream: OriginUpstream, endpoint: IStreamClientEndpoint) -> None:
        self._upstream = upstream
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self._upstream.begun()
        return self._endpoint.connect(protocolFactory).addBoth(self._ended)

    def _ended(self, result: IProtocol | Failure) -> IProtocol | Failure:
        self._upstream.ended(result if isinstance(result, Failure) else None)
        return result


def _servers(config: EdgeConfig) -> list[tuple[str, int]]:
    return [(server.host, server.port) for server in config.resolvers]


@implementer(IUpstreams)
class OriginUpstreams:
    """The origins of every backend; kept over reloads as long as their connections stay what they are.

    :ivar pool: who has the connections; set before the first request
    """

    def __init__(self, reactor: Any, resolver: Resolver, catalogs: CatalogHolder, timers: TimerWheel) -> None:
        """
        :param reactor: time and TCP
        """
        self.reactor = reactor
        self.dialler = immediate_reactor(reactor)
        self.resolver = resolver
        self.timers = timers
        self.pool: Pool | None = None
        self._by_backend: dict[str, tuple[OriginUpstream, ...]] = {}
        self._unsubscribe = catalogs.subscribe(self._changed)
        self._changed(catalogs.current)

    @classmethod
    def of(cls, reactor: Any, config: EdgeConfig, catalogs: CatalogHolder, timers: TimerWheel) -> OriginUpstreams:
        """Those of an edge, whose names are looked up as it is configured."""
        return cls(reactor, Resolver(reactor, _servers(config)), catalogs, timers)

    def ask(self, config: EdgeConfig) -> None:
        """Look names up as this says from now on."""
        self.resolver.ask_others(_servers(config))

    def for_backend(self, name: str) -> tuple[OriginUpstream, ...]:
        """See IUpstreams; origins alone."""
        return self._by_backend.get(name, ())

    def close(self) -> None:
        """Look nothing up any more."""
        self._unsubscribe()
        self.resolver.close()
        for upstreams in self._by_backend.values():
            for upstream in upstreams:
                upstream.leave()

    def _changed(self, catalog: Catalog) -> None:
        old = self._by_backend
        new: dict[str, tuple[OriginUpstream, ...]] = {}
        for backend in catalog.backends.values():
            if backend.origins:
                protocol = backend.protocol or HTTP1
                known = {
                    (upstream.origin.target, upstream.origin.base): upstream
                    for upstream in old.get(backend.name, ())
                    if upstream.protocol == protocol
                }
                upstreams = tuple(
                    self._kept(known.get((origin.target, origin.base)), backend.name, origin, protocol)
                    for origin in backend.origins
                )
                before = old.get(backend.name)
                # the same tuple where nothing has changed but what its members know
                new[backend.name] = before if before == upstreams else upstreams
        self._by_backend = new
        for name, upstreams in old.items():
            gone = [upstream for upstream in upstreams if upstream not in new.get(name, ())]
            for upstream in gone:
                upstream.leave()
            if gone and self.pool is not None:
                self.pool.changed(name)

    def _kept(self, known: OriginUpstream | None, backend: str, origin: Origin, protocol: str) -> OriginUpstream:
        if known is None:
            return OriginUpstream(self, backend, origin, protocol)
        if known.origin != origin:
            known.configure(origin)
        return known
