"""The feed of an edge that is alone: there is nobody to tell, and nobody to hear from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from wormhole_tw.control.interfaces import IFeed

if TYPE_CHECKING:
    from wormhole_tw.control.registry import Registry

__all__ = ["NoFeed"]


@implementer(IFeed)
class NoFeed:
    """Publishes to nobody and applies nothing: the registry holds this process's own sessions alone."""

    def start(self, registry: Registry) -> None:
        """Nothing is begun."""

    def stop(self) -> Deferred[None]:
        """Nothing is left."""
        return succeed(None)
