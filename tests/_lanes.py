"""The suite in two parts that run at once: ``make test`` gives each a process, and coverage of each what it needs.

Nothing in the first part enters the reactor, so that coverage need not ask at every call which greenlet it is in: that
takes twice the time of the tests themselves.  It is a matter of CPU; the second part mostly waits for programs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import _transports

CHOICES = ("all", "plain", "reactor")

_FOLDER = Path(__file__).parent

_FLOORS = frozenset({"wire", "http", "control", "net", "tunnel", "edge", "agent", "admin", "fuzz"})
"""Folders of which the tests start no programs, or not many; those of them that are no coroutines are plain."""


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lane",
        choices=CHOICES,
        default="all",
        help="plain: the tests outside the reactor that start no programs; reactor: all others",
    )


def in_order(config: pytest.Config, items: list[pytest.Item]) -> list[pytest.Item]:
    """With the end-to-end tests at the end of their part: some hold times, and the other part is over by then."""
    if config.getoption("--lane") != "reactor":
        return items
    return sorted(items, key=lambda item: "end_to_end" in item.path.parts)


def chosen(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether a test is of the part that was asked for."""
    lane = config.getoption("--lane")
    return lane == "all" or (lane == "plain") == is_plain(item)


def is_plain(item: pytest.Item) -> bool:
    """Whether the test runs outside the reactor and starts no programs, as far as its folder and its kind say."""
    if not item.path.is_relative_to(_FOLDER):
        return False
    return item.path.relative_to(_FOLDER).parts[0] in _FLOORS and not _transports.is_coroutine(item)
