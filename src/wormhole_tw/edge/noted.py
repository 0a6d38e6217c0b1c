"""What requests share that differ in nothing but their time: worked out once, and kept with the answer on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wormhole_tw.edge.metrics import Alike

__all__ = ["MOST", "Noted"]

MOST = 8
"""Upstreams of one way whose answers are noted, half a kilobyte each; beyond, notes begin anew. Who asks again and
again gets to know as many agents as the backend has."""


class Noted:
    """Requests of one connection with the same head and way, and answers of one upstream to them.

    :ivar status: the status of these answers
    :ivar alike: where metrics note them, or None
    :ivar common: what their lines share, in the access log's format, or None
    """

    __slots__ = ("alike", "common", "status")

    def __init__(self, status: int, alike: Alike | None, common: Any) -> None:
        self.status = status
        self.alike = alike
        self.common = common
