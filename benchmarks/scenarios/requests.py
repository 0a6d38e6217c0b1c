"""Requests over HTTPS keep-alive: small and 10 KB answers, bare and with a browser's fields, one agent and fifty."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.load import BROWSER, requests
from benchmarks.model import CPU_A_REQUEST, P50, P99, RATE, Reading, Runners, Scenario
from benchmarks.peers import ours
from benchmarks.peers.registry import NEEDS, PROXIES
from benchmarks.world import Front, World

__all__ = ["SCENARIOS", "before_proxies"]

CONNECTIONS = (1, 32, 128)
AGENTS = 50
_METRICS = (RATE, P50, P99, CPU_A_REQUEST)
_CPU = ("µs a request", 1e6)


def before_proxies(world: World, origin: int) -> dict[str, Front]:
    """Edge and agent, and the TLS reverse proxies that are here, before the same origin."""
    peers = world.choose(*PROXIES, needs=NEEDS)
    return world.fronts(
        {"ours": lambda: ours.edge_and_agent(world, origin)},
        {peer: partial(PROXIES[peer], world, origin) for peer in peers},
    )


def _runners(world: World, fronts: dict[str, Front], load: Callable[[World, Front], Reading]) -> Runners:
    return {name: partial(load, world, front) for name, front in fronts.items()}


def _prepare(path: str, connections: int, fields: str, world: World) -> Runners:
    def load(world: World, front: Front) -> Reading:
        return requests(world, front, path, connections, headers=BROWSER if fields else None, vary=fields == "varied")

    return _runners(world, before_proxies(world, world.origin), load)


def _prepare_agents(world: World) -> Runners:
    origin = world.origin
    fronts = world.fronts(
        {
            "ours": lambda: ours.edge_and_agent(world, origin, name="fifty", agents=AGENTS),
            "one-agent": lambda: ours.edge_and_agent(world, origin),
        },
        {peer: partial(PROXIES[peer], world, origin) for peer in world.choose("nginx", needs=NEEDS)},
    )
    return _runners(world, fronts, lambda world, front: requests(world, front, "small", 32))


def _scenario(path: str, connections: int, fields: str) -> Scenario:
    size = {"small": "100 B", "10k": "10 KB"}[path]
    many = f"{connections} connection{'s' if connections > 1 else ''}"
    title = f"{size} over HTTPS keep-alive, {many}"
    title += {"": "", "headers": ", a browser's 12 fields", "varied": ", 12 fields, no request like another"}[fields]
    name = f"{path}-{connections}-{fields}".strip("-")
    return Scenario(name, title, _METRICS, partial(_prepare, path, connections, fields), tuple(PROXIES), _CPU)


SCENARIOS = [
    *(
        _scenario(path, count, fields)
        for fields in ("", "headers")
        for path in ("small", "10k")
        for count in CONNECTIONS
    ),
    _scenario("small", 32, "varied"),
    Scenario(
        "agents-50",
        f"100 B over HTTPS, 32 connections, {AGENTS} agents of one backend",
        _METRICS,
        _prepare_agents,
        ("one-agent", "nginx"),
        _CPU,
    ),
]
