"""Upstreams that balancers choose among: they have a load, and a standing that remembers."""

from __future__ import annotations

from typing import Any, cast

from wormhole_tw.control.balancing import Balance, Policy
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.members import Member
from wormhole_tw.edge.seeker import UNTOLD, Seeker
from wormhole_tw.http.events import RequestHead
from wormhole_tw.wire.messages import TlsFacts


class Group:
    """What a member needs of its group."""

    breaker = None
    queue: tuple[()] = ()

    def __init__(self, slow_start: float = 0.0) -> None:
        self.policy = Policy(balance=Balance(slow_start=slow_start))

    def fared(self, member: Member, now: float, bad: bool) -> None:
        """Nobody is ejected."""


class Upstream:
    """One with a load."""

    def __init__(self, key: int, load: int = 0) -> None:
        self.key = key
        self.load = load
        self.identity = b"upstream-%d" % key
        self.standing: Any = None


def upstreams(
    *loads: int,
    weights: tuple[float, ...] | None = None,
    latencies: tuple[float, ...] | None = None,
    group: Group | None = None,
    now: float = 0.0,
) -> tuple[Any, ...]:
    found = []
    for key, load in enumerate(loads):
        upstream = Upstream(key, load)
        upstream.standing = Member(
            cast(Any, group or Group()),
            cast(Any, upstream),
            weight=1.0 if weights is None else weights[key],
            latency=0.0 if latencies is None else latencies[key],
            now=now,
        )
        found.append(upstream)
    return tuple(found)


class Request(Seeker):
    """One that looks for an upstream.

    :ivar cookie: what its visitor is to remember
    """

    def __init__(
        self,
        *,
        address: str = "192.0.2.7",
        target: bytes = b"/",
        fields: list[tuple[bytes, bytes]] | None = None,
        secure: bool = True,
        head: bool = True,
    ) -> None:
        facts: dict[str, Any] = {"address": address, "port": 4000}
        if secure:
            facts["tls"] = TlsFacts()
        self.facts = ConnectionFacts(**facts)
        self.head = RequestHead(b"GET", target, b"app.test", (1, 1), fields or []) if head else None
        self.standing = None
        self.asked = UNTOLD
        self.cookie: bytes | None = None

    def stick(self, cookie: bytes) -> None:
        self.cookie = cookie
