"""Bulk: over HTTPS beside reverse proxies, and through the bare tunnel beside other tunnels."""

from __future__ import annotations

from functools import partial

from benchmarks.load import download, requests, upload
from benchmarks.model import CPU_A_GB, CPU_A_REQUEST, DOWNLOAD, P50, P99, RATE, Runners, Scenario
from benchmarks.peers import ours
from benchmarks.peers.registry import NEEDS, TUNNELS
from benchmarks.world import Front, World

from .requests import before_proxies

__all__ = ["SCENARIOS", "before_tunnels"]

_LOADS = {"download": download, "upload": upload}
_METRICS = (DOWNLOAD, CPU_A_GB)
_CPU = ("s a GB", 1.0)


def _prepare(way: str, streams: int, world: World) -> Runners:
    origin = world.sink if way == "upload" else world.origin
    fronts = before_proxies(world, origin)
    return {name: partial(_LOADS[way], world, front, streams) for name, front in fronts.items()}


def before_tunnels(world: World, origin: int, *, link: bool = False, first: str = "bare") -> dict[str, Front]:
    """The bare tunnel, edge and agent with visitors over HTTPS, and the other tunnels that are here.

    :param first: which of our two is ``ours``, that ratios are of: ``bare`` or ``https``; the other goes by that name
    """
    starts = {
        "bare": lambda: ours.bare_tunnel(world, origin, link=link),
        "https": lambda: ours.edge_and_agent(world, origin, link=link),
    }
    own = {"ours": starts.pop(first), **starts}
    peers = world.choose(*TUNNELS, needs=NEEDS)
    return world.fronts(own, {peer: partial(TUNNELS[peer], world, origin, link=link) for peer in peers})


def _prepare_tunnel(way: str, streams: int, world: World) -> Runners:
    origin = world.sink if way == "upload" else world.origin
    return {name: partial(_LOADS[way], world, front, streams) for name, front in before_tunnels(world, origin).items()}


def _prepare_tunnel_requests(world: World) -> Runners:
    fronts = before_tunnels(world, world.origin)
    return {name: partial(requests, world, front, "small", 32) for name, front in fronts.items()}


def _streams(count: int) -> str:
    return "one stream" if count == 1 else f"{count} streams"


SCENARIOS = [
    *(
        Scenario(
            f"{way}-{streams}",
            f"HTTPS {way}, {_streams(streams)}",
            _METRICS,
            partial(_prepare, way, streams),
            ("nginx", "haproxy"),
            _CPU,
        )
        for way in _LOADS
        for streams in (1, 8)
    ),
    *(
        Scenario(
            f"tunnel-{way}-{streams}",
            f"Tunnel alone, TCP, {way}, {_streams(streams)}",
            _METRICS,
            partial(_prepare_tunnel, way, streams),
            ("https", *TUNNELS),
            _CPU,
        )
        for way, streams in (("download", 1), ("download", 8), ("upload", 1))
    ),
    Scenario(
        "tunnel-small-32",
        "Tunnel alone, TCP, 100 B, 32 connections",
        (RATE, P50, P99, CPU_A_REQUEST),
        _prepare_tunnel_requests,
        ("https", *TUNNELS),
        ("µs a request", 1e6),
    ),
]
