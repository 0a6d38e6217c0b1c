"""Fixtures of houses whose site has middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.edge.middleware.house import MiddlewareHouse


@pytest.fixture
def through() -> Iterator[Callable[..., MiddlewareHouse]]:
    """Builds houses whose requests go through these middlewares, and closes them after the test."""
    houses: list[MiddlewareHouse] = []

    def make(*middleware: Any, **options: Any) -> MiddlewareHouse:
        house = MiddlewareHouse(*middleware, **options)
        houses.append(house)
        return house

    yield make
    for house in houses:
        house.close()
