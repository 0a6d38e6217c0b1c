"""One range of octets (RFC 9110 §14)."""

from __future__ import annotations

import re

__all__ = ["OTHER", "UNSATISFIABLE", "resolved_range"]

_ONE = re.compile(rb"bytes[ \t]*=[ \t,]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t,]*", re.IGNORECASE)
"""A set of one range, empty members beside it allowed (RFC 9110 §5.6.1)."""

OTHER = (-1, -1)
"""The field is ignored: another unit, several ranges, or no range at all (RFC 9110 §14.2)."""

UNSATISFIABLE = (-1, -2)
"""No octet of the representation is in it (RFC 9110 §15.5.17)."""


def resolved_range(value: bytes, length: int) -> tuple[int, int]:
    """The octets of a representation that ``Range`` asks for, as (start, end), end excluded; OTHER or UNSATISFIABLE.

    Several ranges are answered by the whole: whoever merges them can cut them out of it, and who asks for thousands
    gets no more than that.

    :param length: octets of the representation
    """
    match = _ONE.fullmatch(value)
    if match is None:
        return OTHER
    first, last, suffix = match[1], match[2], match[3]
    if suffix is not None:
        octets = int(suffix)
        return (max(0, length - octets), length) if octets and length else UNSATISFIABLE
    start = int(first)
    end = int(last) + 1 if last else length
    if end <= start and last:
        return OTHER
    return (start, min(end, length)) if start < length else UNSATISFIABLE
