"""What is measured: every scenario, in the order of the report."""

from __future__ import annotations

from benchmarks.model import Scenario

from . import caching, handshakes, idle, interactive, requests, routing, startup, transfers

__all__ = ["SCENARIOS"]

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for module in (requests, caching, transfers, interactive, handshakes, idle, startup, routing)
    for scenario in module.SCENARIOS
}
"""By name."""
