"""The scenario that finds routes measures all that it says."""

from __future__ import annotations

import json

import pytest
from benchmarks.model import Options
from benchmarks.processes import programs
from benchmarks.scenarios import SCENARIOS
from benchmarks.world import World


@pytest.mark.deadline(60)
def test_it_gives_every_figure() -> None:
    with programs() as running:
        world = World(running, Options())
        command = world.helper_command("routing", {"sites": 20, "rules": 20, "requests": 50})
        values = json.loads(running.run("routing", command, 50))
    assert set(values) | {"added"} == {metric.key for metric in SCENARIOS["routing"].metrics}
    assert all(value > 0 for value in values.values())
