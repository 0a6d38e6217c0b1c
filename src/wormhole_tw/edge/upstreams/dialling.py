"""Dialling for one connection that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

__all__ = ["Dialling"]


class Dialling(Factory):
    """Gives the one connection that is dialled."""

    noisy = False

    def __init__(self, connection: IProtocol) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:  # type: ignore[override]
        return self._connection
