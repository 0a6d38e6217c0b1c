"""Agents as upstreams: each session of the registry in the shape that dispatch, balancer and pool know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from wormhole_tw.control.interfaces import IAgentSession
from wormhole_tw.edge.interfaces import IUpstream
from wormhole_tw.wire.messages import Open

if TYPE_CHECKING:
    from wormhole_tw.control.registry import Registry
    from wormhole_tw.edge.facts import ConnectionFacts

__all__ = ["AgentUpstream", "AgentUpstreams"]

_SHARED = Open(kind="http")
"""OPEN of every shared stream: it says nothing of any visitor."""


@implementer(IUpstream)
class AgentUpstream:
    """One session."""

    __slots__ = ("backend", "idle", "key", "per_visitor", "session")

    protocol = "http/1.1"

    def __init__(self, session: IAgentSession) -> None:
        self.session = session
        self.key = session.facts.session_id
        self.backend = session.facts.backend
        self.per_visitor = session.facts.visitor_per_stream
        self.idle = 0

    @property
    def load(self) -> int:
        # an idle stream of the pool is open, and no work
        return self.session.load - self.idle

    @property
    def usable(self) -> bool:
        return not self.session.draining

    def endpoint(self, facts: ConnectionFacts | None, host: str) -> IStreamClientEndpoint:
        if facts is None:
            return self.session.dial(_SHARED)
        return self.session.dial(Open(kind="http", dedicated=True, visitor=facts.visitor(host)))


class AgentUpstreams:
    """The upstreams of a backend, made once for each session and kept for as long as the registry lists it."""

    __slots__ = ("_by_backend", "_registry")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # the registry gives the same tuple until something changes, so identity is the whole check
        self._by_backend: dict[str, tuple[tuple[IAgentSession, ...], tuple[AgentUpstream, ...]]] = {}

    def candidates(self, backend: str) -> tuple[AgentUpstream, ...]:
        """Those that take a new request now."""
        sessions = self._registry.candidates(backend)
        known = self._by_backend.get(backend)
        if known is not None:
            if known[0] is sessions:
                return known[1]
            old = {upstream.session: upstream for upstream in known[1]}
        else:
            old = {}
        if not sessions:
            self._by_backend.pop(backend, None)
            return ()
        upstreams = tuple(old.get(session) or AgentUpstream(session) for session in sessions)
        self._by_backend[backend] = (sessions, upstreams)
        return upstreams
