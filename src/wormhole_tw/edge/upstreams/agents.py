"""Agents as upstreams: each session of the registry in the shape that dispatch, balancer and pool know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from wormhole_tw.control.interfaces import IAgentSession
from wormhole_tw.control.model import HTTP1
from wormhole_tw.edge.interfaces import IUpstream, IUpstreams
from wormhole_tw.wire.messages import Open

if TYPE_CHECKING:
    from wormhole_tw.control.catalog import Catalog, CatalogHolder
    from wormhole_tw.control.registry import Registry
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.members import Member
    from wormhole_tw.http.translation import Translation

__all__ = ["AgentUpstream", "AgentUpstreams"]

_SHARED = Open(kind="http")
"""OPEN of every shared stream: it says nothing of any visitor."""


@implementer(IUpstream)
class AgentUpstream:
    """One session.

    :ivar branch: the release branch that it runs, as it says
    :ivar proxy_protocol: its service gets a header of this version, and so each visitor's connection streams of its own
    """

    __slots__ = (
        "backend",
        "branch",
        "connections",
        "identity",
        "idle",
        "keep_alive",
        "key",
        "per_visitor",
        "protocol",
        "proxy_protocol",
        "region",
        "session",
        "standing",
        "translation",
    )

    proxy_protocol: Literal["v1", "v2"] | None
    weight: float = 1.0
    watched = False

    def __init__(self, session: IAgentSession) -> None:
        self.session = session
        self.key = session.facts.session_id
        self.backend = session.facts.backend
        self.region = session.facts.region
        release = session.facts.release
        self.branch = "" if release is None else release.branch
        self.connections = 0
        self.identity = b"%b/%d" % (session.facts.instance, session.facts.slot)
        self.idle = 0
        self.standing: Member | None = None
        # these two of each, and not of the class, where Python finds what each request asks for more slowly
        self.keep_alive = 0.0
        self.translation: Translation | None = None

    def configure(self, catalog: Catalog) -> AgentUpstream:
        """Take over what the configuration says of its backend."""
        backend = catalog.backends.get(self.backend)
        self.protocol = backend.protocol if backend is not None else HTTP1
        self.proxy_protocol = backend.proxy_protocol if backend is not None else None
        self.per_visitor = self.session.facts.visitor_per_stream or self.proxy_protocol is not None
        return self

    @property
    def able(self) -> bool:
        """It can do what its service needs: one that cannot write the header would pass everybody off as the agent."""
        return self.proxy_protocol is None or self.session.facts.writes_proxy_header

    @property
    def shown(self) -> str:
        return f"agent {self.key}"

    @property
    def load(self) -> int:
        # an idle stream of the pool is open, and no work; and one that carries ten requests is the work of ten
        return self.session.load - self.idle

    @property
    def usable(self) -> bool:
        return not self.session.draining

    def endpoint(self, facts: ConnectionFacts | None, host: str) -> IStreamClientEndpoint:
        if facts is None:
            return self.session.dial(_SHARED)
        visitor = facts.visitor(host)
        return self.session.dial(Open(kind="http", dedicated=True, visitor=visitor, proxy_protocol=self.proxy_protocol))

    def passage(self, facts: ConnectionFacts, host: str) -> IStreamClientEndpoint:
        visitor = facts.visitor(host)
        return self.session.dial(Open(kind="tcp", dedicated=True, visitor=visitor, proxy_protocol=self.proxy_protocol))


@implementer(IUpstreams)
class AgentUpstreams:
    """The upstreams of a backend, made once for each session and kept for as long as the registry lists it."""

    __slots__ = ("_able", "_catalog", "_catalogs", "_every", "_registry")

    def __init__(self, registry: Registry, catalogs: CatalogHolder) -> None:
        self._registry = registry
        self._catalogs = catalogs
        self._catalog = catalogs.current
        # the registry gives the same tuple until something changes, so identity is the whole check
        self._able: dict[str, tuple[tuple[IAgentSession, ...], tuple[AgentUpstream, ...]]] = {}
        self._every: dict[str, dict[IAgentSession, AgentUpstream]] = {}

    def for_backend(self, name: str) -> tuple[AgentUpstream, ...]:
        """See IUpstreams; agents alone."""
        if self._catalogs.current is not self._catalog:
            self._reload()
        sessions = self._registry.candidates(name)
        known = self._able.get(name)
        if known is not None and known[0] is sessions:
            return known[1]
        listed = self._registry.sessions(name)
        if not listed:
            self._able.pop(name, None)
            self._every.pop(name, None)
            return ()
        # one that is not ready for a while still has its connections, and with them what counts for its load
        old = self._every.get(name, {})
        every = self._every[name] = {
            session: old.get(session) or AgentUpstream(session).configure(self._catalog) for session in listed
        }
        able = tuple(upstream for session in sessions if (upstream := every[session]).able)
        self._able[name] = (sessions, able)
        return able

    def _reload(self) -> None:
        self._catalog = self._catalogs.current
        self._able.clear()
        for upstreams in self._every.values():
            for upstream in upstreams.values():
                upstream.configure(self._catalog)
