"""Requests over HTTPS keep-alive: small and 10 KB answers, a browser's fields, one agent and fifty; and over HTTP/2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.load import BROWSER, h2_requests, requests
from benchmarks.model import CPU_A_REQUEST, MEAN, P50, P99, RATE, Reading, Runners, Scenario
from benchmarks.peers import ours, proxies
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


def _prepare_observed(world: World) -> Runners:
    origin = world.origin
    fronts = world.fronts(
        {
            "ours": lambda: ours.edge_and_agent(world, origin),
            "unobserved": lambda: ours.edge_and_agent(world, origin, name="unobserved", observed=False),
        },
        {},
    )
    return _runners(world, fronts, lambda world, front: requests(world, front, "small", 32))


def _prepare_http2(connections: int, streams: int, world: World) -> Runners:
    origin = world.origin
    fronts = world.fronts(
        {"ours": lambda: ours.edge_and_agent(world, origin)},
        {peer: partial(proxies.nginx, world, origin, http2=True) for peer in world.choose("nginx", needs=NEEDS)},
    )
    return _runners(world, fronts, lambda world, front: h2_requests(world, front, "small", connections, streams))


def _http2(connections: int, streams: int) -> Scenario:
    title = f"100 B over HTTP/2, {connections} connections, {streams} at once on each"
    prepare = partial(_prepare_http2, connections, streams)
    return Scenario(f"h2-c{connections}-m{streams}", title, (RATE, MEAN, CPU_A_REQUEST), prepare, ("nginx",), _CPU)


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
    _http2(32, 1),
    _http2(8, 16),
    Scenario(
        "observed",
        "100 B over HTTPS, 32 connections, with an access log and an admin listener beside without",
        _METRICS,
        _prepare_observed,
        ("unobserved",),
        _CPU,
    ),
    Scenario(
        "agents-50",
        f"100 B over HTTPS, 32 connections, {AGENTS} agents of one backend",
        _METRICS,
        _prepare_agents,
        ("one-agent", "nginx"),
        _CPU,
    ),
]
