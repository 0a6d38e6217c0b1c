"""What moves bytes through TLS is tested over each way to OpenSSL: the fast, pyOpenSSL's public, Twisted's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests._support import FULL
from tests.net.engines import OTHERS, ROLES, VERSIONS, Matrix
from tests.net.pairs import Pair
from tests.net.services import Service
from wormhole_tw.net import choice, records
from wormhole_tw.net.dev_ca import DevCa

_OVER_TLS = frozenset({"test_tls", "test_tls_client", "test_tls_client_endings"})

_SAID = frozenset({("public", "engine"), ("public", "twisted"), ("twisted", "engine")})
"""Ways and far ends that show nothing which the others do not: an engine talks to itself, Twisted's to Twisted's.

Beside the way that is taken wherever it can be, an ordinary run has one row for each of the two others: against the
standard library, in the version that is spoken. A full one has them all.
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = metafunc.fixturenames
    if metafunc.module.__name__.rpartition(".")[2] in _OVER_TLS and "reactor" in names:
        names.insert(0, "way_through_openssl")
    marked = [marker.args[0] for marker in metafunc.definition.iter_markers("parametrize")]
    ours = [name for name in ("way_through_openssl", "other", "version") if name in names and name not in marked]
    ways = ("twisted",) if metafunc.config.getoption("--transports") == "twisted" else ("direct", "public", "twisted")
    rows = [
        (way, other, version)
        for way in ways
        for other in OTHERS
        for version in VERSIONS
        if "other" not in ours or (way, other) not in _SAID
    ]
    if len(ours) == 3 and not FULL:
        rows = [row for row in rows if row[0] == "direct" or row[1:] == ("ssl", "TLSv1.3")]
    if ours:
        columns = [("way_through_openssl", "other", "version").index(name) for name in ours]
        chosen = dict.fromkeys(tuple(row[column] for column in columns) for row in rows)
        metafunc.parametrize(ours, list(chosen), indirect=True)


@pytest.fixture
def way_through_openssl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the three every TLS connection of this test takes."""
    way: str = request.param
    monkeypatch.setenv(choice.VARIABLE, "twisted" if way == "twisted" else "fast")
    monkeypatch.setattr(records, "DIRECT", way == "direct")
    return way


@pytest.fixture(params=["fast", "twisted"])
def transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose: both are held to the same."""
    monkeypatch.setenv(choice.VARIABLE, request.param)
    name: str = request.param
    return name


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest, reactor: Any, tmp_path: Path, transports: str) -> Pair:
    return Pair(reactor, request.param, tmp_path, transports == "fast")


@pytest.fixture
def authority(tmp_path: Path) -> DevCa:
    """A CA of the test's own."""
    return DevCa(tmp_path / "dev")


@pytest_twisted.async_yield_fixture
async def service(reactor: Any) -> AsyncIterator[Service]:
    """Something to dial."""
    made = Service(reactor)
    yield made
    await made.stop()


@pytest.fixture
def version(request: pytest.FixtureRequest) -> str:
    """Of TLS."""
    name: str = request.param
    return name


@pytest.fixture
def other(request: pytest.FixtureRequest) -> str:
    """Who is at the far end."""
    name: str = request.param
    return name


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    """Of the engine under test."""
    name: str = request.param
    return name


@pytest.fixture
def matrix(role: str, other: str, version: str) -> Matrix:
    """All of them together."""
    return role, other, version
