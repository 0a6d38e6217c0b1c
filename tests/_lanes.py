"""The suite in four parts: ``make test`` runs plain and reactor in turn, beside programs and end_to_end.

The last two mostly wait for programs; the others are a matter of CPU, and fill that time.  So that all end at about the
same time, some files of ``end_to_end`` run with the programs.  Nothing in the plain part
enters the reactor, so that coverage need not ask at every call which greenlet it is in: that takes twice the time of
the tests themselves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import _transports

CHOICES = ("all", "plain", "reactor", "programs", "end_to_end")

_FOLDER = Path(__file__).parent

_FLOORS = frozenset({"wire", "http", "control", "net", "tunnel", "edge", "agent", "admin", "fuzz"})
"""Folders of which the tests start no programs, or not many."""

_BESIDE = frozenset({"test_configuration.py", "test_sign_in.py", "test_tcp.py", "test_trust.py"})
"""Of ``end_to_end``: a fifth of its time."""


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lane",
        choices=CHOICES,
        default="all",
        help="plain: tests outside the reactor; reactor: tests in it; programs, end_to_end: those that start programs",
    )


def chosen(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether a test is of the part that was asked for."""
    return config.getoption("--lane") in ("all", lane_of(item))


def lane_of(item: pytest.Item) -> str:
    """The part that a test is of, as far as its folder and its kind say."""
    room = item.path.relative_to(_FOLDER).parts[0] if item.path.is_relative_to(_FOLDER) else ""
    if room == "end_to_end":
        return "programs" if item.path.name in _BESIDE else room
    if room not in _FLOORS:
        return "programs"
    return "reactor" if _transports.is_coroutine(item) else "plain"
