"""Fixtures of the edge's data path."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.edge.house import House, building
from tests.edge.press import Press
from wormhole_tw.control.model import H2C


@pytest.fixture
def build() -> Iterator[Callable[..., House]]:
    """Builds houses, and closes them after the test: nothing may be left in any."""
    with building(House) as build:
        yield build


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    """One with a single agent for backend ``app``."""
    return build()


@pytest.fixture
def spoken(build: Callable[..., House]) -> House:
    """The same, with a service that speaks HTTP/2."""
    return build(protocol=H2C)


@pytest.fixture
def press() -> Iterator[Callable[..., Press]]:
    """Builds houses whose routes compress."""
    with building(Press) as build:
        yield build
