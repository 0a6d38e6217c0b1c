"""One house for all of the folder: an edge and an agent as processes, the judging origin behind them, one table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.cache_suite import CacheTable
from tests.conformance.origin import JudgingOrigin
from tests.conformance.table import Table
from tests.conformance.visitors import Dial, dialler
from tests.end_to_end.house import APP, House, open_house

TABLE = Table()
CACHE_TABLE = CacheTable()

SHORT = {"head": 1.0, "body": 1.0, "keep_alive": 1.0}
"""Seconds: what is not whole ends soon, so that every conversation comes to its end by itself."""


@pytest.fixture(scope="session")
def table() -> Table:
    """What is printed at the end."""
    return TABLE


@pytest.fixture(scope="session")
def cache_table() -> CacheTable:
    """What is printed at the end, of caches."""
    return CACHE_TABLE


@pytest.fixture(scope="session")
def origin() -> Iterator[JudgingOrigin]:
    """The judge behind the edge."""
    with JudgingOrigin() as judge:
        yield judge


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, origin: JudgingOrigin) -> Iterator[House]:
    """The edge and its agent."""
    with open_house(tmp_path_factory.mktemp("conformance"), limits=SHORT) as mine:
        mine.start_edge()
        mine.agent("agent", origin.port)
        yield mine


@pytest.fixture(scope="session")
def dial(house: House) -> Dial:
    """Connections of visitors to the edge, from any loopback address."""
    return dialler(house.port, house.context, APP)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = TABLE.rendered()
    for title, told in (("HTTP/1.1 conformance", lines if len(lines) > 1 else []), ("caching", CACHE_TABLE.rendered())):
        if told:
            terminalreporter.section(title)
        for line in told:
            terminalreporter.write_line(line)
