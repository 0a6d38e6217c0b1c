"""All upstreams of a backend: the sessions of its agents, then its origins on the web."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.edge.interfaces import IUpstream, IUpstreams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wormhole_tw.edge.upstreams.agents import AgentUpstreams
    from wormhole_tw.edge.upstreams.origins import OriginUpstreams

__all__ = ["EveryUpstream"]


@implementer(IUpstreams)
class EveryUpstream:
    """See the module."""

    __slots__ = ("_agents", "_both", "_origins")

    def __init__(self, agents: AgentUpstreams, origins: OriginUpstreams) -> None:
        self._agents = agents
        self._origins = origins
        # of a backend that has both: what it was made of, and what was made of it
        self._both: dict[str, tuple[Sequence[IUpstream], Sequence[IUpstream], tuple[IUpstream, ...]]] = {}

    def for_backend(self, name: str) -> Sequence[IUpstream]:
        """See IUpstreams."""
        agents = self._agents.for_backend(name)
        origins = self._origins.for_backend(name)
        if not origins:
            return agents
        if not agents:
            return origins
        known = self._both.get(name)
        if known is None or known[0] is not agents or known[1] is not origins:
            known = self._both[name] = (agents, origins, (*agents, *origins))
        return known[2]
