"""A small request every 20 ms while a download goes on: who has to wait for whom."""

from __future__ import annotations

from functools import partial

from benchmarks.load import probe
from benchmarks.model import P50, P99, Runners, Scenario
from benchmarks.peers.registry import TUNNELS
from benchmarks.world import World

from .transfers import before_tunnels

__all__ = ["SCENARIOS"]


def _prepare(link: bool, world: World) -> Runners:
    fronts = before_tunnels(world, world.origin, link=link, first="https")
    return {name: partial(probe, world, front, warm=2.0 if link else 0.5) for name, front in fronts.items()}


SCENARIOS = [
    Scenario(
        "interactive",
        "A small request every 20 ms during a download, loopback",
        (P99, P50),
        partial(_prepare, False),
        ("bare", *TUNNELS),
        ("% of a core", 100.0),
    ),
    Scenario(
        "interactive-slow",
        "The same, tunnel over 20 Mbit/s and 40 ms there and back",
        (P99, P50),
        partial(_prepare, True),
        ("bare", *TUNNELS),
        ("% of a core", 100.0),
    ),
]
