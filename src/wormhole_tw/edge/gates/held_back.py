"""What visitors must not say on a route that does not ask who they are: see :mod:`wormhole_tw.control.held_back`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.edge.gates.sign_in import COOKIES
from wormhole_tw.edge.interfaces import IGate
from wormhole_tw.http.identity import tell

if TYPE_CHECKING:
    from wormhole_tw.control.held_back import HeldBack
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange

__all__ = ["HeldBackGate", "make"]


@implementer(IGate)
class HeldBackGate:
    """See the module."""

    __slots__ = ("_prefix", "hides")

    def __init__(self, settings: HeldBack) -> None:
        self.hides = settings.names
        self._prefix = COOKIES if settings.cookies else b""

    def check(self, exchange: Exchange) -> None:
        """See IGate."""
        if exchange.forward is not None:
            exchange.forward = tell(exchange.forward, names=self.hides, prefix=self._prefix)

    def close(self) -> None:
        """See IGate."""


def make(settings: HeldBack, context: EdgeContext) -> HeldBackGate:
    """See :mod:`wormhole_tw.edge.gates`."""
    return HeldBackGate(settings)
