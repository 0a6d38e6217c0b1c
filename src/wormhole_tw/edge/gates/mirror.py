"""``mirror``: a share of a route's requests goes to another backend too, whose answer nobody sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.edge.interfaces import IGate
from wormhole_tw.edge.mirror import Copy

if TYPE_CHECKING:
    from wormhole_tw.control.access import MirrorRule
    from wormhole_tw.control.model import LocalAnswer
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange

__all__ = ["MirrorGate", "make"]

AT_ONCE = 256
"""Copies that run at a time: what they are for is slow, or not there, and the visitors' own requests go on."""


@implementer(IGate)
class MirrorGate:
    """See the module."""

    __slots__ = ("_context", "_rule", "_running")

    def __init__(self, rule: MirrorRule, context: EdgeContext) -> None:
        self._rule = rule
        self._context = context
        self._running: set[Copy] = set()

    def check(self, exchange: Exchange) -> LocalAnswer | None:
        """See IGate."""
        forward, rule = exchange.forward, self._rule
        if forward is None or forward.upgrade is not None or len(self._running) >= AT_ONCE:
            return None
        if rule.percent < 100 and self._context.chance() * 100 >= rule.percent:
            return None
        copy = Copy(self._context, exchange.limits, self._running.discard)
        self._running.add(copy)
        copy.begin(exchange, rule.backend)
        exchange.copy_to(copy)
        return None

    def close(self) -> None:
        """See IGate."""
        for copy in tuple(self._running):
            copy.give_up()


def make(settings: MirrorRule, context: EdgeContext) -> MirrorGate:
    """See :mod:`wormhole_tw.edge.gates`."""
    return MirrorGate(settings, context)
