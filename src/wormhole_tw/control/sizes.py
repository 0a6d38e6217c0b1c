"""Sizes as people write them: ``"256 MiB"``."""

from __future__ import annotations

import re

__all__ = ["parse_size", "show_size"]

_SIZE = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,6})?) ?(?:(k|m|g|t)(i?)b|b|octets|bytes)?", re.ASCII | re.IGNORECASE)
_POWERS = {None: 0, "k": 1, "m": 2, "g": 3, "t": 4}
_UNITS = ("octets", "KiB", "MiB", "GiB", "TiB")


def parse_size(size: int | str) -> int:
    """Give the octets of ``"1.5 GiB"``, ``"500 MB"`` (thousands) or 1048576.

    :raises ValueError: it is none; one sentence
    """
    if isinstance(size, int):
        if size < 0:
            raise ValueError("a size is no less than 0")
        return size
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise ValueError(
            f'{size!r} is no size: write octets, as 1048576, or a number with its unit, as "256 MiB" '
            "(KiB, MiB, GiB, TiB; KB, MB, GB and TB go by thousands)"
        )
    unit = match[2] and match[2].lower()
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[unit])


def show_size(octets: int) -> str:
    """As a person reads it: ``"1.5 MiB"``."""
    size, unit = float(octets), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{octets} octets" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
