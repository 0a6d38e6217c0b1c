"""RFC 9111 as the public tests of HTTP caches see it (RELIABILITY 12), through edge and agent, and through peers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cache_peers import CACHE_PEERS, start_cache_peer
from tests.conformance.cache_suite import BOUNDS, CacheTable, Package
from tests.end_to_end.programs import Programs, programs


@pytest.fixture(scope="module")
def package() -> Package:
    installed = Package()
    assert installed.version == BOUNDS["version"], "the figures are of another version of http-cache-tests"
    return installed


@pytest.fixture
def started() -> Iterator[Programs]:
    with programs() as mine:
        yield mine


@pytest.mark.full
@pytest.mark.deadline(300)
@pytest.mark.parametrize("name", CACHE_PEERS)
def test_a_peer(name: str, package: Package, cache_table: CacheTable, started: Programs, tmp_path: Path) -> None:
    """What others reach on the same tests: it is printed beside ours, and shows that the tests can fail."""
    port = start_cache_peer(name, tmp_path / name, started, package.serve(started))
    tally = package.run(f"http://localhost:{port}", port)
    cache_table.add(name, tally)
    lines = tally.lines()
    assert lines["required, passed"] > 80, tally.unmet("required")
    assert lines["required, failed"] > 10, lines
