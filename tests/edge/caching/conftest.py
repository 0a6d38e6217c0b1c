"""Fixtures of houses with a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.edge.caching.house import CachingHouse
from tests.edge.house import building


@pytest.fixture
def keep() -> Iterator[Callable[..., CachingHouse]]:
    """Builds houses with a cache, and closes them after the test: nothing may be left in any."""
    with building(CachingHouse) as build:
        yield build


@pytest.fixture
def cached(keep: Callable[..., CachingHouse]) -> CachingHouse:
    """One with the usual policy."""
    return keep()
