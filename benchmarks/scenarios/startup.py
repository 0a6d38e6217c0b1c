"""From the start of a program, or of both of them, to the first answer for a visitor."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from benchmarks.model import Metric, ProcessUse, Reading, Runners, Scenario
from benchmarks.peers import ours
from benchmarks.peers.registry import NEEDS, PROXIES, TUNNELS
from benchmarks.usage import cpu_seconds, resident_bytes
from benchmarks.world import Front, World

__all__ = ["SCENARIOS"]

FIRST_ANSWER = Metric("first_answer", "first answer after", "ms")


def _start(world: World, start: Callable[[], Front]) -> Reading:
    begin = time.monotonic()
    front = start()
    try:
        world.await_answer(front)
        took = time.monotonic() - begin
        use = {role: ProcessUse(cpu_seconds(pid), resident_bytes(pid)) for role, pid in front.pids.items()}
        return Reading({"first_answer": took * 1000}, use)
    finally:
        for pid in front.pids.values():
            world.running.stop(pid)


def _prepare(world: World) -> Runners:
    origin = world.origin
    assert world.certificate.exists()
    starts: dict[str, Callable[[], Front]] = {"ours": lambda: ours.edge_and_agent(world, origin)}
    for peer in world.choose(*PROXIES, *TUNNELS, needs=NEEDS):
        starts[peer] = partial({**PROXIES, **TUNNELS}[peer], world, origin)
    return {name: partial(_start, world, start) for name, start in starts.items()}


SCENARIOS = [
    Scenario(
        "startup",
        "From the start to the first answer",
        (FIRST_ANSWER,),
        _prepare,
        (*PROXIES, *TUNNELS),
        ("s until then", 1.0),
    )
]
