"""Fixtures of houses with a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.edge.caching.house import CachingHouse


@pytest.fixture
def keep() -> Iterator[Callable[..., CachingHouse]]:
    """Builds houses with a cache, and closes them after the test: nothing may be left in any."""
    houses: list[CachingHouse] = []

    def make(**options: Any) -> CachingHouse:
        house = CachingHouse(**options)
        houses.append(house)
        return house

    yield make
    for house in houses:
        house.close()


@pytest.fixture
def cached(keep: Callable[..., CachingHouse]) -> CachingHouse:
    """One with the usual policy."""
    return keep()
