"""Cache-Control and its like, taken apart (RFC 9111 §5.2, RFC 9213).

What is malformed is never taken for permission: a number that is none makes an answer stale (RFC 9111 §4.2.1), a
directive with a fault beside its name counts as said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["MAX_DELTA", "delta_seconds", "field_names", "members", "read_directives"]

MAX_DELTA = 2147483648
"""What longer durations are taken for: 2³¹ seconds (RFC 9111 §1.2.2)."""

_NAMING = (b"no-cache", b"private")
"""Directives that restrict more without a value than with one."""

_LONGEST = 10
"""Digits of ``MAX_DELTA``: a number of more is not worked out."""

_LONGEST_LEARNED = 256
"""Octets of a line that is remembered as it was read: visitors write some of them."""

_MEMBER = re.compile(rb"""[^",]*(?:"(?:[^"\\]|\\.)*(?:"|\\?\Z)[^",]*)*""", re.DOTALL)
"""One member of a list, whose commas in quotes do not end it; a quote that is not closed reaches to the end."""

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_DIGITS = re.compile(rb"[0-9]+")


def read_directives(values: Iterable[bytes]) -> dict[bytes, bytes | None]:
    """Lower-case name → value (quotes taken off), None for none.

    Of several directives of one name the first counts (RFC 9111 §4.2.1); of several ``private`` and ``no-cache``, all
    names, or no names where one has none.  White space at the ``=`` is not allowed (RFC
    9111 §5.2): the name counts, and its value is kept with a space before it, so that it is no number.

    :param values: of the lines of the field, in order
    """
    line = b",".join(values)
    return dict(_learned(line) if len(line) <= _LONGEST_LEARNED else _directives(line))


def members(line: bytes) -> list[bytes]:
    """The members of a list, as they are written; empty ones are left out (RFC 9110 §5.6.1)."""
    return [member for match in _MEMBER.finditer(line) if (member := match[0].strip(b" \t"))]


def _directives(line: bytes) -> tuple[tuple[bytes, bytes | None], ...]:
    found: dict[bytes, bytes | None] = {}
    for member in members(line):
        name, mark, value = member.partition(b"=")
        lower = name.rstrip(b" \t").lower()
        if lower in _NAMING and lower in found:
            earlier = found[lower]
            found[lower] = earlier + b"," + _unquoted(value) if earlier and value else None
            continue
        if not lower or lower in found:
            continue
        if not mark:
            found[lower] = None
        elif name[-1:] in b" \t" or value[:1] in (b" ", b"\t"):
            found[lower] = b" " + _unquoted(value.strip(b" \t"))
        else:
            found[lower] = _unquoted(value)
    return tuple(found.items())


_learned = lru_cache(maxsize=512)(_directives)


def _unquoted(value: bytes) -> bytes:
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        return _ESCAPED.sub(rb"\1", value[1:-1])
    return value


def delta_seconds(value: bytes) -> int | None:
    """RFC 9111 §1.2.2: seconds, at most 2³¹; None where it is no number of digits alone."""
    if not _DIGITS.fullmatch(value):
        return None
    digits = value.lstrip(b"0")
    return MAX_DELTA if len(digits) > _LONGEST else min(int(digits or b"0"), MAX_DELTA)


def field_names(value: bytes) -> frozenset[bytes]:
    """The field names, lower-case, that ``no-cache`` or ``private`` lists (RFC 9111 §5.2.2.4, §5.2.2.7)."""
    return frozenset([name for part in value.lower().split(b",") if (name := part.strip(b' \t"'))])
