"""Whom a listener believes: proxies of ours, by address, and what they say of the visitors whom they pass on."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from wormhole_tw.http.visitors import NOTHING, Told, by_forwarded, by_x_forwarded
from wormhole_tw.net.networks import Networks

if TYPE_CHECKING:
    from wormhole_tw.control.config import Listener
    from wormhole_tw.http.events import Fields, RequestHead

__all__ = ["NOBODY", "Trust"]

MAX_KNOWN = 1024
"""Visitors whose fields were read before and are kept."""

MAX_KEPT = 512
"""Octets of the values that are kept so: a visitor may put as many before those of a proxy as a head may have."""


class Trust:
    """What holds on one listener.

    :ivar networks: addresses of the proxies
    :ivar unix: who comes by a Unix socket is a proxy, too
    :ivar passes_family: the other fields of the X-Forwarded- family are believed, and go on
    """

    __slots__ = ("_read", "_told", "networks", "passes_family", "unix")

    def __init__(self, networks: Networks, *, unix: bool = False, header: str = "x-forwarded-for") -> None:
        """
        :param header: the field that the proxies write, ``x-forwarded-for`` (with its family) or ``forwarded``
        """
        self.networks = networks
        self.unix = unix
        self.passes_family = header == "x-forwarded-for"
        self._read = by_x_forwarded if self.passes_family else by_forwarded
        self._told: Callable[[tuple[tuple[bytes, bytes], ...]], Told] = lru_cache(maxsize=MAX_KNOWN)(self._judge)

    @classmethod
    def of(cls, listener: Listener) -> Trust:
        """What a listener's configuration says."""
        if not listener.trusted and not listener.trusts_unix:
            return NOBODY
        return cls(Networks(listener.trusted), unix=listener.trusts_unix, header=listener.trusted_header)

    def believes(self, address: str) -> bool:
        """Whether a peer is a proxy of ours.

        :param address: its IP address as text; empty for one that came by a Unix socket
        """
        return address in self.networks if address else self.unix

    def told(self, head: RequestHead) -> Told:
        """What a request that came from a proxy tells of its visitor."""
        fields = tuple(line for line in head.fields if _names_visitor(line[0]))
        if not fields:
            return NOTHING
        short = sum(len(value) for _, value in fields) <= MAX_KEPT
        return self._told(fields) if short else self._judge(fields)

    def _judge(self, fields: tuple[tuple[bytes, bytes], ...]) -> Told:
        lines: Fields = list(fields)
        return self._read(lines, self.networks.__contains__)


def _names_visitor(name: bytes) -> bool:
    length = len(name)
    return (length >= 15 and name[:12].lower() == b"x-forwarded-") or (length == 9 and name.lower() == b"forwarded")


NOBODY = Trust(Networks())
"""Everybody who comes speaks for itself."""
