"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.house import House, open_house
from tests.end_to_end.origin import Origin


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house of this test alone, nothing started."""
    with open_house(tmp_path) as mine:
        yield mine


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A private service of this test alone."""
    with Origin() as mine:
        yield mine
