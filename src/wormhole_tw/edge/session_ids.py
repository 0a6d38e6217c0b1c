"""Names of sessions: short, sortable by time, unique."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["session_id"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letter that is read as another; it keeps the order of the numbers."""

_RANDOM_BYTES = 4
"""With the millisecond before them: two edges that make a thousand sessions a second meet once in decades."""


def session_id(now: float, random: Callable[[int], bytes]) -> str:
    """Sixteen characters: 48 bits of milliseconds since the epoch, then 32 random bits.

    :param now: seconds since the epoch
    :param random: gives that many random bytes (``os.urandom``)
    """
    number = (int(now * 1000) & ((1 << 48) - 1)) << (8 * _RANDOM_BYTES) | int.from_bytes(random(_RANDOM_BYTES))
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(75, -1, -5))
