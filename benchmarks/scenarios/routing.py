"""What it costs to find a request's route, by how many sites and rules there are."""

from __future__ import annotations

import json

from benchmarks.model import Metric, Reading, Runners, Scenario
from benchmarks.world import World

__all__ = ["SCENARIOS"]

SITES = 10_000
RULES = 1000
REQUESTS = 20_000

SECONDS = 300.0
"""For one round, which takes some eight."""

ADDED = Metric("added", f"{SITES:,} sites add to one", "µs")
ONE = Metric("one", "one site", "µs")
MANY = Metric("many", f"{SITES:,} sites", "µs")
RULED = Metric("ruled", f"a site of {RULES:,} rules", "µs")
LOAD = Metric("load", f"{SITES:,} sites taken in after", "s")


def _prepare(world: World) -> Runners:
    command = world.helper_command("routing", {"sites": SITES, "rules": RULES, "requests": REQUESTS})

    def run() -> Reading:
        values = json.loads(world.running.run("routing", command, SECONDS))
        return Reading({**values, "added": values["many"] - values["one"]})

    return {"ours": run}


SCENARIOS = [
    Scenario("routing", "Finding a request's route (CPU, no network)", (ADDED, ONE, MANY, RULED, LOAD), _prepare)
]
