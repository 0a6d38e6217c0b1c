"""``Accept-Encoding`` (RFC 9110 §12.5.3): which coding a visitor is given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

__all__ = ["acceptable", "preferred", "refuses_identity"]

_MEMBER = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9a-z]+)(?:[ \t]*;[ \t]*q=(?:(0(?:\.[0-9]{0,3})?)|1(?:\.0{0,3})?))?",
)
"""A coding (or ``*``) and its weight, if it has one (§12.4.2); in lower case."""

_MOST_KEPT = 256
"""Octets of a value whose meaning is kept: browsers send thirty, and each has one of its own."""

_IDENTITY = b"identity"
_ANY = b"*"

COMMON = (b"br", b"deflate", b"gzip", b"zstd")
"""The codings that services have answers in."""

_ALIASES = {b"x-gzip": b"gzip"}
"""§8.4.1.3; the other old name, ``x-compress``, is of a coding that nobody has any more."""


def preferred(accept: bytes | None, codings: Iterable[bytes]) -> bytes:
    """The coding that a visitor gets.

    The visitor's weights decide; among equals the first of ours does, and a coding comes before none.  A member that is
    not valid is passed over, and one that stands there twice has its lower weight.

    :param accept: the value of ``Accept-Encoding``, several lines joined by commas; None where there is none, which
        allows any coding (§12.5.3) and is answered without one: it comes from programs that know of none
    :param codings: those that can be given, in the order in which we would, in lower case
    :returns: one of them; empty for none
    """
    if not accept:
        return b""
    weights = _weights(accept)
    rest = weights.get(_ANY, 0)
    best, found = 0, b""
    for coding in codings:
        weight = weights.get(coding, rest)
        if weight > best:
            best, found = weight, coding
    return found if best >= weights.get(_IDENTITY, 0) else b""


def acceptable(accept: bytes) -> bytes:
    """What a visitor takes, in one of few forms: so many variants of an answer there are at most, however visitors say
    it.

    :param accept: the value of ``Accept-Encoding``, several lines joined by commas
    :returns: another value, that allows nothing which the first does not: those of :data:`COMMON` that it allows, in
        their order, or ``identity``
    """
    weights = _weights(accept)
    rest = weights.get(_ANY, 0)
    return b", ".join([coding for coding in COMMON if weights.get(coding, rest)]) or _IDENTITY


def refuses_identity(accept: bytes | None) -> bool:
    """Whether an answer without a coding is not acceptable: ``identity;q=0``, or ``*;q=0`` and no word of identity."""
    if not accept:
        return False
    weights = _weights(accept)
    return weights.get(_IDENTITY, weights.get(_ANY, 1)) == 0


def _weights(accept: bytes) -> Mapping[bytes, int]:
    """Coding → weight in thousandths."""
    return _common_weights(accept) if len(accept) <= _MOST_KEPT else _read_weights(accept)


def _read_weights(accept: bytes) -> Mapping[bytes, int]:
    weights: dict[bytes, int] = {}
    for member in accept.lower().split(b","):
        match = _MEMBER.fullmatch(member.strip(b" \t"))
        if match is not None:
            coding = _ALIASES.get(match[1], match[1])
            low = match[2]
            # "0.5" is 500: three digits behind the point, whatever of them is left out
            weight = 1000 if low is None else int(low[2:].ljust(3, b"0"))
            weights[coding] = min(weight, weights.get(coding, weight))
    return weights


_common_weights = lru_cache(maxsize=256)(_read_weights)
