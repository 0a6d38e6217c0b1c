"""The suite in three parts, of which ``make test`` runs two at once: plain and reactor in turn, beside programs.

The tests of programs mostly wait for them; the others are a matter of CPU, and fill that time.  Nothing in the plain
part enters the reactor, so that coverage need not ask at every call which greenlet it is in: that takes twice the time
of the tests themselves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import _transports

CHOICES = ("all", "plain", "reactor", "programs")

_FOLDER = Path(__file__).parent

_FLOORS = frozenset({"wire", "http", "control", "net", "tunnel", "edge", "agent", "admin", "fuzz"})
"""Folders of which the tests start no programs, or not many."""


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lane",
        choices=CHOICES,
        default="all",
        help="plain: tests outside the reactor; reactor: tests in it; programs: those that start programs",
    )


def in_order(config: pytest.Config, items: list[pytest.Item]) -> list[pytest.Item]:
    """With the end-to-end tests at the end of their part: some hold times, and the other parts are over sooner."""
    if config.getoption("--lane") != "programs":
        return items
    return sorted(items, key=lambda item: "end_to_end" in item.path.parts)


def chosen(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether a test is of the part that was asked for."""
    return config.getoption("--lane") in ("all", lane_of(item))


def lane_of(item: pytest.Item) -> str:
    """The part that a test is of, as far as its folder and its kind say."""
    if not item.path.is_relative_to(_FOLDER) or item.path.relative_to(_FOLDER).parts[0] not in _FLOORS:
        return "programs"
    return "reactor" if _transports.is_coroutine(item) else "plain"
