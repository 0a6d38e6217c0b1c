"""What was noted while this machine's clock was far ahead holds up nothing once it is right."""

from __future__ import annotations

from wormhole_tw.edge.certificates.plan import Pace, make_plan
from wormhole_tw.edge.certificates.store import CaRecord, NameRecord, StatusRecord

NOW = 1_800_000_000.0
YEAR = 365 * 86400.0
NAMES = ["a.example.com", "b.example.com"]


def ordered(status: StatusRecord) -> list[tuple[str, ...]]:
    return [batch.names for batch in make_plan([NAMES], {}, status, frozenset(), NOW, Pace()).batches]


def test_a_name() -> None:
    ahead = NameRecord(failures=3, error="no", error_at=NOW + YEAR, next_try=NOW + YEAR + 600)
    before = NameRecord(failures=3, error="no", error_at=NOW - 1, next_try=NOW + 600)
    assert ordered(StatusRecord(names={"a.example.com": ahead})) == [("a.example.com",), ("b.example.com",)]
    assert ordered(StatusRecord(names={"a.example.com": before})) == [("b.example.com",)]


def test_the_ca() -> None:
    assert ordered(StatusRecord(ca=CaRecord(1, "down", NOW + YEAR, NOW + YEAR + 15))) == [tuple(NAMES)]
    assert ordered(StatusRecord(ca=CaRecord(1, "down", NOW - 1, NOW + 15))) == []
