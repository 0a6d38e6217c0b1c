"""Entity tags (RFC 9110 §8.8.3), also as some services write them: without quotation marks, or with a small ``w/``."""

from __future__ import annotations

import re

__all__ = ["is_strong", "listed", "weakly_equal"]

_MEMBER = re.compile(rb'[^",]*(?:"[^"]*(?:"|\Z)[^",]*)*')
"""A member of a list of entity tags: a comma in quotes is of the tag, and a backslash is nothing but itself."""


def is_strong(tag: bytes) -> bool:
    """Whether two answers with this tag are the same octet for octet (RFC 9110 §8.8.1); one that is not well-formed is
    not relied on."""
    return len(tag) > 1 and tag[:1] == tag[-1:] == b'"'


def weakly_equal(one: bytes, other: bytes) -> bool:
    """The weak comparison (RFC 9110 §8.8.3.2): the same but for ``W/``, and for quotation marks that were left out."""
    return one == other or (bool(one) and _opaque(one) == _opaque(other))


def _opaque(tag: bytes) -> bytes:
    if tag[:2] in (b"W/", b"w/"):
        tag = tag[2:]
    if is_strong(tag):
        tag = tag[1:-1]
    return tag


def listed(value: bytes) -> list[bytes]:
    """The members of ``If-None-Match``, or ``[b"*"]``."""
    return [tag for match in _MEMBER.finditer(value) if (tag := match[0].strip(b" \t"))]
