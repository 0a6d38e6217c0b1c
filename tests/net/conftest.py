"""What moves bytes through TLS is tested over each way to OpenSSL: the fast, pyOpenSSL's public, Twisted's."""

from __future__ import annotations

import pytest

from tests.net.engines import OTHERS, ROLES, VERSIONS, Matrix
from wormhole_tw.net import choice, records

_OVER_TLS = frozenset({"test_tls", "test_tls_client"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in _OVER_TLS and "reactor" in metafunc.fixturenames:
        metafunc.fixturenames.insert(0, "way_through_openssl")
    if "way_through_openssl" in metafunc.fixturenames:
        ours = [] if metafunc.config.getoption("--transports") == "twisted" else ["direct", "public"]
        metafunc.parametrize("way_through_openssl", [*ours, "twisted"], indirect=True)


@pytest.fixture
def way_through_openssl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the three every TLS connection of this test takes."""
    way: str = request.param
    monkeypatch.setenv(choice.VARIABLE, "twisted" if way == "twisted" else "fast")
    monkeypatch.setattr(records, "DIRECT", way == "direct")
    return way


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Of TLS."""
    name: str = request.param
    return name


@pytest.fixture(params=OTHERS)
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
