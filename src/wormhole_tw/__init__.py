"""A reverse tunnel and edge proxy on Twisted.

``EdgeService`` and ``AgentService`` (with ``EdgeConfig`` and ``AgentConfig``) are the two halves as ordinary Twisted
services; they are imported when first asked for, so that importing this package costs nothing and needs no reactor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .agent.config import AgentConfig
    from .agent.service import AgentService
    from .control.config import EdgeConfig
    from .edge.service import EdgeService

__all__ = ["AgentConfig", "AgentService", "EdgeConfig", "EdgeService", "__version__"]

_HOMES = {
    "AgentConfig": "wormhole_tw.agent.config",
    "AgentService": "wormhole_tw.agent.service",
    "EdgeConfig": "wormhole_tw.control.config",
    "EdgeService": "wormhole_tw.edge.service",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
