"""What moves bytes through TLS is tested over both ways through OpenSSL: the fast one, and the public one."""

from __future__ import annotations

import pytest

from wormhole_tw.net import records

_OVER_TLS = frozenset({"test_tls", "test_tls_client"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in _OVER_TLS and "reactor" in metafunc.fixturenames:
        metafunc.fixturenames.insert(0, "way_through_openssl")
        metafunc.parametrize("way_through_openssl", ["direct", "public"], indirect=True)


@pytest.fixture
def way_through_openssl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two every TLS connection of this test takes."""
    way: str = request.param
    monkeypatch.setattr(records, "DIRECT", way == "direct")
    return way
