"""Whether there is room for one more connection: of all, and of one visitor's address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.net.networks import counted_address

if TYPE_CHECKING:
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.trust import Trust

__all__ = ["ADDRESS_SPARE", "SPARE", "Room"]

SPARE = 256
"""Connections beyond ``limits.connections`` that may be there until it is known what they are.  An agent that comes
back gets in through a crowd of visitors; a visitor is closed as soon as it is seen to be one."""

ADDRESS_SPARE = 4
"""The same for ``limits.connections_per_address``: an agent that stands behind the address of a crowd still gets in,
and who is over the limit costs no handshake beyond these at a time."""


class Room:
    """What one port asks.

    :param trust: whom the port takes for proxies: these bring many visitors, and are not counted by address
    """

    __slots__ = ("_context", "_trust")

    def __init__(self, context: EdgeContext, trust: Trust) -> None:
        self._context = context
        self._trust = trust

    def counted(self, address: str) -> str:
        """What a connection of this address is counted for; an empty string where it is not: there is no limit, no
        address (a Unix socket), or it is a proxy's."""
        if self._context.limits.connections_per_address and address and not self._trust.believes(address):
            return counted_address(address)
        return ""

    def refusal(self, counted: str) -> str:
        """Why a connection of which nothing else is known is not taken; or empty.

        :param counted: what :meth:`counted` gave for it
        """
        context = self._context
        limits = context.limits
        if len(context.connections) >= limits.connections + SPARE:
            return "full"
        return self.address_refusal(counted) if counted else ""

    def address_refusal(self, counted: str) -> str:
        """The same of one that is there, and of which it has just become known whose it is."""
        context = self._context
        if counted and context.addresses.of(counted) >= context.limits.connections_per_address + ADDRESS_SPARE:
            return "address"
        return ""

    def newcomer_refusal(self, counted: str) -> str:
        """Why a connection that is known for a visitor's, and not counted yet, is not taken; or empty."""
        context = self._context
        limits = context.limits
        if len(context.connections) >= limits.connections:
            return "full"
        if counted and context.addresses.of(counted) >= limits.connections_per_address:
            return "address"
        return ""

    def visitor_refusal(self, counted: str) -> str:
        """Why a connection that is counted already, and turned out to be a visitor's, is not kept; or empty."""
        context = self._context
        limits = context.limits
        if len(context.connections) > limits.connections:
            return "full"
        if counted and context.addresses.of(counted) > limits.connections_per_address:
            return "address"
        return ""
