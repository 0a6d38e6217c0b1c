"""``rate_limit``: so many requests in so long for each visitor, or whatever tells requests apart."""

from __future__ import annotations

from hashlib import blake2b
from math import ceil
from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.control.model import LocalAnswer
from wormhole_tw.control.rates import RateLimiter
from wormhole_tw.edge.interfaces import IGate
from wormhole_tw.edge.keys import key_of
from wormhole_tw.http.targets import normalise_target
from wormhole_tw.net.networks import counted_address

if TYPE_CHECKING:
    from wormhole_tw.control.access import RateRule
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.net.timers import TimerWheel

__all__ = ["RateGate", "make"]

_LONG = 64
"""Octets of a key that is kept as it is; of a longer one, its hash."""


@implementer(IGate)
class RateGate:
    """See the module."""

    __slots__ = ("_by", "_limiter", "_timers")

    def __init__(self, rule: RateRule, timers: TimerWheel) -> None:
        self._by = rule.by
        self._limiter = RateLimiter(rule.requests, rule.seconds, rule.burst)
        self._timers = timers

    def check(self, exchange: Exchange) -> LocalAnswer | None:
        """See IGate."""
        wait = self._limiter.take(self._key(exchange), self._timers.seconds())
        if not wait:
            return None
        seconds = b"%d" % ceil(wait)
        return LocalAnswer(
            429,
            ((b"Retry-After", seconds),),
            reason="rate-limited",
            message="Too many requests in a short time; wait a little.",
        )

    def _key(self, exchange: Exchange) -> str:
        """Who has no such header or cookie is told apart by its address, so that leaving it out is no way round."""
        by = self._by
        if by.kind != "address":
            key = key_of(by, exchange)
            if key and by.kind == "path":
                key = normalise_target(key)[0]  # as it was routed: no spelling of it is another limit
            if key:
                return blake2b(key, digest_size=16).hexdigest() if len(key) > _LONG else f"={key.decode('latin-1')}"
        return counted_address(exchange.facts.address)

    def close(self) -> None:
        """See IGate."""


def make(settings: RateRule, context: EdgeContext) -> RateGate:
    """See :mod:`wormhole_tw.edge.gates`."""
    return RateGate(settings, context.timers)
