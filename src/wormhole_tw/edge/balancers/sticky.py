"""Sticky sessions: a visitor's first request goes where power of two choices says, and a cookie leads the next there.

Where that upstream is gone, or out, the visitor gets another one, and another cookie.  The cookie holds a digest of
what tells the upstream from the others: the same after its agent's link broke and at every edge, and of no use to
anybody.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.edge.balancers.p2c import PowerOfTwoChoices
from wormhole_tw.edge.interfaces import IBalancer, IUpstream
from wormhole_tw.edge.keys import cookie_of

if TYPE_CHECKING:
    from wormhole_tw.control.balancing import Balance
    from wormhole_tw.edge.seeker import Seeker

__all__ = ["Sticky", "make"]


@implementer(IBalancer)
class Sticky:
    """See the module."""

    __slots__ = ("_attributes", "_known", "_name", "_otherwise", "_places")

    always = True  # a visitor of one agent stays there when a second comes

    def __init__(self, settings: Balance, random: Random) -> None:
        self._name = settings.cookie.encode("ascii")
        age = b"; Max-Age=%d" % settings.cookie_time if settings.cookie_time else b""
        self._attributes = b"; Path=/%s; HttpOnly; SameSite=Lax" % age
        self._otherwise = PowerOfTwoChoices(random)
        self._known: Sequence[IUpstream] = ()
        self._places: dict[bytes, IUpstream] = {}

    def pick(self, candidates: Sequence[IUpstream], seeker: Seeker | None, now: float) -> IUpstream:
        if candidates is not self._known:
            self._known = candidates
            self._places = {_value(upstream): upstream for upstream in candidates}
        value = None if seeker is None else cookie_of(seeker, self._name)
        if value and (known := self._places.get(value)) is not None:
            return known
        chosen = self._otherwise.pick(candidates, seeker, now)
        if seeker is not None:
            secure = b"; Secure" if seeker.facts.forwarding.scheme == "https" else b""
            seeker.stick(b"%s=%s%s%s" % (self._name, _value(chosen), self._attributes, secure))
        return chosen


def _value(upstream: IUpstream) -> bytes:
    digest = blake2b(upstream.identity, digest_size=12, person=b"wormhole sticky").digest()
    return urlsafe_b64encode(digest)


def make(settings: Balance, random: Random) -> IBalancer:
    """See :mod:`wormhole_tw.edge.balancers`."""
    return Sticky(settings, random)
