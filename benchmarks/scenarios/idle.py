"""What waits costs: memory of idle agents, visitors and streams, and the CPU of an edge with many idle agents."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from benchmarks.model import Metric, ProcessUse, Reading, Runners, Scenario
from benchmarks.peers import ours
from benchmarks.peers.registry import NEEDS, PROXIES
from benchmarks.processes import Failed
from benchmarks.usage import cpu_seconds, private_bytes, resident_bytes
from benchmarks.world import HOST, Front, World

__all__ = ["SCENARIOS"]

WARM = 50
"""Connections before counting begins: what is made once, for the first of them, is no cost of each."""

PAUSE = 1.0
"""Seconds before and after each look, while nothing changes."""

STEP_SECONDS = 120.0
"""For all connections of one step to stand."""

IDLE_CPU = Metric("idle_cpu", "CPU while idle", "% of a core")


def _each(key: str, what: str, unit: str = "KB") -> Metric:
    return Metric(key, f"memory {what}", unit)


def _growth(
    world: World, helper: str, settings: dict[str, object], pid: int, count: int, then: Callable[[], None]
) -> float:
    """Private octets that a process grows by for each of ``count`` connections of a helper.

    :param then: called while all of them stand
    """
    steps = [WARM, WARM + count]
    sizes = []
    started = world.running.start(helper, world.helper_command(helper, {**settings, "steps": steps, "pause": PAUSE}))
    try:
        for step in steps:
            until = time.monotonic() + STEP_SECONDS
            while f"step {step}\n" not in world.running.log(helper):
                if not world.running.runs(started) or time.monotonic() > until:
                    raise Failed(f"{helper} did not reach {step}:\n{world.running.log(helper)}")
                time.sleep(0.02)
            sizes.append(private_bytes(pid))
        then()
        lines = world.running.log(helper).splitlines()
        if not world.running.runs(started) or len(lines) != len(steps):
            raise Failed(f"some of them were lost:\n{world.running.log(helper)[-2000:]}")
    finally:
        world.running.stop(started)
    return (sizes[1] - sizes[0]) / count


def _agents(world: World) -> Reading:
    pid, port, token = ours.edge(world)
    found: dict[str, float] = {}
    use = ProcessUse(0.0, 0)

    def idle() -> None:
        nonlocal use
        seconds = max(world.options.seconds * 2, 1.0)
        before = cpu_seconds(pid)
        time.sleep(seconds)
        found["idle_cpu"] = (cpu_seconds(pid) - before) / seconds * 100
        use = ProcessUse(found["idle_cpu"] / 100, resident_bytes(pid))

    try:
        settings: dict[str, object] = {"port": port, "token": token, "ca_file": str(world.certificate)}
        octets = _growth(world, "idle_agents", settings, pid, world.options.agents, idle)
    finally:
        world.running.stop(pid)
    return Reading({"agent": octets / 1000, **found}, {"edge": use})


def _visitors(world: World, start: Callable[[], Front]) -> Reading:
    front = start()  # anew each time: what was freed stays with a process, and the next growth would be less
    try:
        world.await_answer(front)
        pid = front.pids[front.compared]
        settings: dict[str, object] = {"port": front.port, "host": HOST}
        octets = _growth(world, "idle_visitors", settings, pid, world.options.visitors, lambda: None)
        return Reading({"visitor": octets / 1000}, {front.compared: ProcessUse(0.0, resident_bytes(pid))})
    finally:
        for started in front.pids.values():
            world.running.stop(started)


def _streams(world: World) -> Reading:
    found = {}
    for key, trace in (("stream", True), ("pages", False)):
        settings = {"streams": world.options.streams, "warm": 500, "trace": trace}
        command = world.helper_command("idle_streams", settings)
        output = world.running.run("idle_streams", command, STEP_SECONDS)
        found[key] = 0.0
        with suppress(ValueError):
            found[key] = json.loads(output)["octets"] / 1000
        if not found[key]:
            raise Failed(f"idle streams were not counted:\n{output}")
    return Reading(found)


def _prepare_agents(world: World) -> Runners:
    return {"ours": partial(_agents, world)}


def _prepare_visitors(world: World) -> Runners:
    origin = world.origin
    starts: dict[str, Callable[[], Front]] = {"ours": lambda: ours.edge_and_agent(world, origin)}
    for peer in world.choose(*PROXIES, needs=NEEDS):
        starts[peer] = partial(PROXIES[peer], world, origin)
    return {name: partial(_visitors, world, start) for name, start in starts.items()}


def _prepare_streams(world: World) -> Runners:
    return {"ours": partial(_streams, world)}


SCENARIOS = [
    Scenario(
        "idle-agents",
        "Idle agents: the edge's memory for each, and its CPU",
        (_each("agent", "an agent"), IDLE_CPU),
        _prepare_agents,
        (),
        ("% of a core", 100.0),
    ),
    Scenario(
        "idle-visitors",
        "Idle visitors: memory for each, after one request",
        (_each("visitor", "a visitor"),),
        _prepare_visitors,
        ("nginx", "haproxy"),
    ),
    Scenario(
        "idle-streams",
        "Idle streams: tunnel objects at the edge, for each",
        (_each("stream", "a stream's objects"), _each("pages", "a stream, by pages")),
        _prepare_streams,
    ),
]
