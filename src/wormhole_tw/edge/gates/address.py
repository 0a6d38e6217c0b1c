"""``allow`` and ``deny``: who may come by the address it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.control.model import LocalAnswer
from wormhole_tw.edge.interfaces import IGate
from wormhole_tw.edge.who import Who

if TYPE_CHECKING:
    from wormhole_tw.control.access import AddressRule
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange

__all__ = ["AddressGate", "make"]

_NOT_HERE = LocalAnswer(403, reason="address-refused", message="This is not for visitors from your address.")


@implementer(IGate)
class AddressGate:
    """See the module."""

    __slots__ = ("_allow", "_deny")

    def __init__(self, rule: AddressRule) -> None:
        self._allow = None if rule.allow is None else Who(rule.allow)
        self._deny = Who(rule.deny)

    def check(self, exchange: Exchange) -> LocalAnswer | None:
        """See IGate."""
        address = exchange.facts.address
        if address in self._deny or (self._allow is not None and address not in self._allow):
            return _NOT_HERE
        return None

    def close(self) -> None:
        """See IGate."""


def make(settings: AddressRule, context: EdgeContext) -> AddressGate:
    """See :mod:`wormhole_tw.edge.gates`."""
    return AddressGate(settings)
