"""Sizes as people write them."""

from __future__ import annotations

import pytest

from wormhole_tw.control.sizes import parse_size, show_size


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("12 B", 12),
        ("12 octets", 12),
        ("1 KiB", 1024),
        ("1.5 GiB", 3 << 29),
        (" 256mib ", 256 << 20),
        ("2 TiB", 2 << 40),
        ("500 MB", 500_000_000),
        ("1KB", 1000),
    ],
)
def test_a_size(written: int | str, octets: int) -> None:
    assert parse_size(written) == octets


@pytest.mark.parametrize("written", ["", "MiB", "256 M", "256 megs", "-1", "1e9", "1,5 GiB", "1 GiB 2", "٣ MiB", "inf"])
def test_what_is_none(written: str) -> None:
    with pytest.raises(ValueError, match='as "256 MiB"'):
        parse_size(written)


def test_less_than_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="no less than 0"):
        parse_size(-1)


@pytest.mark.parametrize(
    ("octets", "shown"),
    [(0, "0 octets"), (1023, "1023 octets"), (1536, "1.5 KiB"), (256 << 20, "256.0 MiB"), (3 << 50, "3072.0 TiB")],
)
def test_how_it_is_shown(octets: int, shown: str) -> None:
    assert show_size(octets) == shown
