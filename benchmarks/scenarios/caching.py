"""Answers from the edge's memory, beside the same ones through the tunnel and those of nginx's ``proxy_cache``."""

from __future__ import annotations

import re
from functools import partial

from benchmarks.load import requests
from benchmarks.model import CPU_A_REQUEST, P50, P99, RATE, Runners, Scenario
from benchmarks.peers import ours, proxies
from benchmarks.peers.registry import NEEDS
from benchmarks.processes import Failed
from benchmarks.world import KEPT, Front, World, ask

__all__ = ["SCENARIOS"]

CONNECTIONS = 32
_HIT = re.compile(rb"\r\ncache-status: [^\r\n]*\bhit\b", re.IGNORECASE)


def _prepare(path: str, world: World) -> Runners:
    origin = world.origin
    fronts = world.fronts(
        {
            "ours": lambda: ours.edge_and_agent(world, origin, name="caching", route="cache = true"),
            "proxied": lambda: ours.edge_and_agent(world, origin),
        },
        {peer: partial(proxies.nginx, world, origin, cache=True) for peer in world.choose("nginx", needs=NEEDS)},
    )
    for name, front in fronts.items():
        if name != "proxied":
            _fill(front, path)
    return {name: partial(requests, world, front, path, CONNECTIONS) for name, front in fronts.items()}


def _fill(front: Front, path: str) -> None:
    """Have the answer kept.

    :raises Failed: it comes from the origin again and again, so that the run would measure something else
    """
    for _ in range(5):
        head = ask(front, path)
        if _HIT.search(head):
            return
    raise Failed(f"{front.compared} keeps no {path}:\n{head.decode('latin-1')}")


def _scenario(name: str, path: str, size: str) -> Scenario:
    title = f"{size} from a cache in memory over HTTPS keep-alive, {CONNECTIONS} connections"
    metrics = (RATE, P50, P99, CPU_A_REQUEST)
    prepare = partial(_prepare, f"{KEPT}/{path}")
    return Scenario(name, title, metrics, prepare, ("proxied", "nginx"), ("µs a request", 1e6))


SCENARIOS = [_scenario("cache-100", "small", "100 B"), _scenario("cache-10k", "10k", "10 KB")]
