"""Fixtures of houses whose site has middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.edge.house import building
from tests.edge.middleware.house import MiddlewareHouse


@pytest.fixture
def through() -> Iterator[Callable[..., MiddlewareHouse]]:
    """Builds houses whose requests go through these middlewares, and closes them after the test."""
    with building(MiddlewareHouse) as build:
        yield build
