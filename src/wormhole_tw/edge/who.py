"""Lists of networks that visitors are looked up in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.net.networks import Networks

if TYPE_CHECKING:
    from wormhole_tw.control.trust import Trusted

__all__ = ["Who"]


class Who:
    """A list of networks, and whether who has no address (on a Unix socket) is in it.

    The zone of a link-local address is left out, which no network has: who is denied must not come in by it.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, listed: Trusted) -> None:
        self._networks = Networks(listed.networks)
        self._unix = listed.unix

    def __contains__(self, address: str) -> bool:
        return address.partition("%")[0] in self._networks if address else self._unix
