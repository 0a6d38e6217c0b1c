"""New TLS connections with an ECDSA P-256 certificate, full and resumed."""

from __future__ import annotations

from functools import partial

from benchmarks.load import handshakes
from benchmarks.model import CPU_A_HANDSHAKE, RESUMED, Metric, Runners, Scenario
from benchmarks.peers.registry import PROXIES
from benchmarks.world import World

from .requests import before_proxies

__all__ = ["SCENARIOS"]

_METRICS = (
    Metric("rate", "connections", "a second", more_is_better=True),
    CPU_A_HANDSHAKE,
    RESUMED,
)


def _prepare(resume: bool, world: World) -> Runners:
    fronts = before_proxies(world, world.origin)
    return {name: partial(handshakes, world, front, resume=resume) for name, front in fronts.items()}


SCENARIOS = [
    Scenario(
        f"handshakes-{kind}",
        f"New TLS connections, ECDSA P-256, {kind}",
        _METRICS,
        partial(_prepare, kind == "resumed"),
        tuple(PROXIES),
        ("µs a handshake", 1e6),
    )
    for kind in ("full", "resumed")
]
