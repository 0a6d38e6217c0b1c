"""``edge.watch``: an edge reloads by itself, and nothing of what lives is touched by that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted

from tests._harness import LogLines
from tests.edge.tenants import TOML, Premises

WATCHING = TOML.replace("[edge]", "[edge]\nwatch = true")

MORE = """
[[sites]]
name = "more"
hostnames = ["more.example.test"]
routes = [{ path = "/", backend = "other" }]
"""


@pytest_twisted.async_yield_fixture
async def premises(reactor: Any, tmp_path: Path) -> AsyncIterator[Premises]:
    premises = Premises(reactor, tmp_path, WATCHING)
    yield premises
    await premises.close()


async def test_a_change_is_taken_over_and_a_broken_file_is_not(premises: Premises, log_lines: LogLines) -> None:
    edge = premises.edge
    edge.startService()
    agent = await premises.ready()
    premises.write(WATCHING + MORE)
    await log_lines.wait_for("configuration reloaded: 2 sites")
    assert "edge.toml changed: reloading" in log_lines

    premises.write(WATCHING + MORE.replace('"other"', '"nobody"'))
    await log_lines.wait_for("the configuration was not reloaded, the old one stays")
    assert "edge.toml: $.sites[1].routes[0].backend: there is no backend 'nobody'" in log_lines
    assert len(edge.config.sites) == 2

    premises.write(WATCHING)
    await log_lines.wait_for("configuration reloaded: 1 sites")
    # the agent has noticed nothing
    assert agent.lost is None
    assert edge.context.registry.candidates("app")


async def test_a_file_that_was_missing_appears(premises: Premises, log_lines: LogLines) -> None:
    premises.edge.startService()
    premises.write(WATCHING + MORE + 'error_pages = { 404 = "404.html" }\n')
    await log_lines.wait_for("the configuration was not reloaded")
    (premises.file.parent / "404.html").write_text("<p>not here</p>")
    await log_lines.wait_for("404.html changed: reloading")
    await log_lines.wait_for("configuration reloaded: 2 sites")


async def test_a_reload_switches_it_off_and_on(premises: Premises, log_lines: LogLines) -> None:
    edge = premises.edge
    edge.startService()
    premises.write(TOML)
    await log_lines.wait_for("configuration reloaded")
    premises.write(WATCHING + MORE)
    log_lines.clear()
    await edge.reload()  # nobody else does it
    assert "changed: reloading" not in log_lines
    premises.write(WATCHING)
    await log_lines.wait_for("configuration reloaded: 1 sites")
    assert "edge.toml changed: reloading" in log_lines
