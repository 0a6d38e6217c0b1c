"""The suite in lanes, which ``python -m tests`` (``make test``) runs beside each other.

Those that start programs mostly wait for them; the others are a matter of CPU, and fill that time.

What has to be covered whole is covered by the tests of its own folders: ``covered`` is the one lane that is traced,
which takes twice the time of the tests themselves.  Nothing in it enters the reactor, or coverage would have to ask at
every call which greenlet it is in.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import _transports

LANES = {"end_to_end": 600, "programs": 450, "floors": 300, "covered": 150}
"""Seconds that they take, about, three at once on two cores: nobody shall wait for a long one that was begun last."""

SOCKETS = {"end_to_end": 220, "floors": 110, "programs": 100}
"""The same of those with tests that have sockets, over Twisted's transports."""

_FOLDER = Path(__file__).parent

_COVERED = frozenset({"wire", "http", "control"})
"""Folders without IO."""

_WAITING = frozenset({"control/feeds", "control/stores"})
"""Of those, the ones with tests that wait in the reactor: these tests are of ``floors``."""

_FLOORS = frozenset({"net", "tunnel", "edge", "agent", "admin", "fuzz"})
"""Folders of which the tests start no programs, or not many."""

_BESIDE = frozenset({"test_configuration.py", "test_sign_in.py", "test_tcp.py", "test_trust.py"})
"""Of ``end_to_end``: a fifth of its time, in the lane of the programs, so that both end at about the same time."""


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lane",
        choices=("all", *LANES),
        default="all",
        help="covered: tests of wire, http and control outside the reactor; floors: those of the other floors; "
        "programs, end_to_end: those that start programs",
    )


def passes_by(config: pytest.Config, path: Path) -> bool:
    """Whether a folder or file has no test of the lane that was asked for: importing them all takes long."""
    lane = config.getoption("--lane")
    if lane == "all" or path == _FOLDER or not path.is_relative_to(_FOLDER):
        return False
    if path.is_dir() and any(room.startswith(f"{path.relative_to(_FOLDER)}/") for room in _WAITING):
        return lane not in ("covered", "floors")
    if path == _FOLDER / "end_to_end":
        return lane not in ("end_to_end", "programs")
    return lane not in _lanes_of(path)


def chosen(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether a test is of the lane that was asked for."""
    return config.getoption("--lane") in ("all", lane_of(item))


def lane_of(item: pytest.Item) -> str:
    """The lane that a test is of, as far as its folder and its kind say."""
    lane, *others = _lanes_of(item.path)
    if not _transports.is_coroutine(item):
        return lane
    if lane == "covered" and not others:
        raise pytest.UsageError(f"{item.nodeid} waits in the reactor: its folder is to be named in tests/_lanes.py")
    return others[0] if others else lane


def _lanes_of(path: Path) -> tuple[str, ...]:
    """The lane of a file's tests, and that of those in the reactor where it is another."""
    relative = path.relative_to(_FOLDER) if path.is_relative_to(_FOLDER) else path
    room = relative.parts[0]
    if room == "end_to_end":
        return ("programs" if path.name in _BESIDE else room,)
    if room in _COVERED:
        waiting = any(relative.is_relative_to(folder) for folder in _WAITING)
        return ("covered", "floors") if waiting else ("covered",)
    return ("floors" if room in _FLOORS else "programs",)
