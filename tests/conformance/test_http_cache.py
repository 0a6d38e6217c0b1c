"""RFC 9111 as the public tests of HTTP caches see it (RELIABILITY 12), through edge and agent, and through peers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests._support import ROOT
from tests.conformance.cache_peers import CACHE_PEERS, start_cache_peer
from tests.conformance.cache_suite import BOUNDS, CacheTable, Package, complaints
from tests.end_to_end.house import APP, open_house
from tests.end_to_end.programs import Programs, programs

AGAIN = 3
"""So often what did not pass is asked again: much of it is about whole seconds, of which a busy machine takes some."""


@pytest.fixture(scope="module")
def package() -> Package:
    installed = Package()
    assert installed.version == BOUNDS["version"], "the figures are of another version of http-cache-tests"
    return installed


@pytest.fixture
def started() -> Iterator[Programs]:
    with programs() as mine:
        yield mine


@pytest.mark.deadline(300)
def test_the_edge(package: Package, cache_table: CacheTable, tmp_path: Path) -> None:
    with open_house(tmp_path) as house:
        house.config["sites"][0]["cache"] = True
        house.write()
        house.start_edge()
        house.agent("agent", package.serve(house.programs))
        url = f"https://{APP}:{house.port}"
        tally = package.run(url, house.port, ca_file=house.ca_file)
        for attempt in range(AGAIN):
            if not complaints(tally):
                break
            raw = tmp_path / f"{attempt}.json"
            raw.write_text(json.dumps(tally.raw))
            tally = package.run(url, house.port, ca_file=house.ca_file, again=raw)
    cache_table.add("edge", tally, ours=True)
    assert complaints(tally) == []


def test_the_document_tells_the_figures() -> None:
    page = (ROOT / "docs" / "caching.md").read_text()
    figures = BOUNDS["figures"]
    assert (
        f"| required | {figures['required']} | {figures['required, passed']} | {figures['required, failed']} |" in page
    )
    assert f"| optimal | {figures['optimal']} | {figures['optimal, passed']} | |" in page
    for kind in ("required", "optimal"):
        for name, why in BOUNDS[kind].items():
            assert f"`{name}`" in page, why


@pytest.mark.full
@pytest.mark.deadline(300)
@pytest.mark.parametrize("name", CACHE_PEERS)
def test_a_peer(name: str, package: Package, cache_table: CacheTable, started: Programs, tmp_path: Path) -> None:
    """What others reach on the same tests: it is printed beside ours, and shows that the tests can fail."""
    port = start_cache_peer(name, tmp_path / name, started, package.serve(started))
    tally = package.run(f"http://localhost:{port}", port)
    cache_table.add(name, tally)
    lines = tally.lines()
    assert lines["required, passed"] > 80, tally.unmet()
    assert lines["required, failed"] > 10, lines
