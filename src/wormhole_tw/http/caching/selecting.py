"""Which of the answers stored under one key is for a request: Vary (RFC 9111 §4.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, TypeVar

from wormhole_tw.http.caching.directives import members
from wormhole_tw.http.grammar import is_token

if TYPE_CHECKING:
    from wormhole_tw.http.caching.question import Question
    from wormhole_tw.http.caching.records import Stored

__all__ = ["Kept", "normalised", "select", "selected_by", "selecting_fields", "selecting_values"]

MAX_SELECTING = 16
"""Fields that an answer may vary by: one that names more is hardly ever asked for again in the same way."""

_WEIGHTED = frozenset({b"accept-charset", b"accept-encoding", b"accept-language"})
"""Lists whose members are told apart by their weights and not by their order, in any case (RFC 9110 §12.5)."""

_EXACT = frozenset({b"authorization", b"cookie", b"origin", b"referer", b"user-agent"})
"""What is no list: a comma in it is its own."""

_COMMAS = re.compile(rb"[ \t]*,[ \t]*")
_WEIGHT = re.compile(rb"q[ \t]*=[ \t]*([01](?:\.[0-9]{0,3})?)")

_LONGEST_LEARNED = 256
"""Octets of a value whose normal form is remembered."""


class Kept(Protocol):
    """Whatever has the record of a stored answer with it."""

    @property
    def stored(self) -> Stored: ...


_Kept = TypeVar("_Kept", bound=Kept)


def select(asked: Question, candidates: Iterable[_Kept]) -> _Kept | None:
    """The stored answer for a request: of those whose selecting fields match, the one with the newest ``Date``; of
    equally old ones the last that was received (RFC 9111 §4).  None where none matches.

    :param candidates: what is stored under the request's key
    """
    best: _Kept | None = None
    for candidate in candidates:
        stored = candidate.stored
        if stored.vary and not selected_by(asked, stored):
            continue
        if best is None or (stored.date, stored.received) >= (best.stored.date, best.stored.received):
            best = candidate
    return best


def selected_by(asked: Question, stored: Stored) -> bool:
    """Whether every selecting field of a stored answer has the value that the request has (RFC 9111 §4.1)."""
    fields = asked.fields
    for name, value in stored.vary:
        given = fields.get(name)
        if given != value and normalised(name, given) != value:
            return False
    return True


def selecting_fields(values: Sequence[bytes]) -> tuple[bytes, ...] | None:
    """The names, lower-case, that ``Vary`` lists; None where no request can be known to select the answer (``*``,
    RFC 9111 §4.1, or what is no name), or there are too many.

    :param values: of the lines of ``Vary``
    """
    if not values:
        return ()
    line = b",".join(values)
    return _learned_names(line) if len(line) <= _LONGEST_LEARNED else _names(line)


def _names(line: bytes) -> tuple[bytes, ...] | None:
    names = tuple(dict.fromkeys(name.lower() for name in members(line)))
    if b"*" in names or len(names) > MAX_SELECTING or not all(is_token(name) for name in names):
        return None
    return names


_learned_names = lru_cache(maxsize=256)(_names)


def selecting_values(asked: Question, names: Iterable[bytes]) -> tuple[tuple[bytes, bytes | None], ...]:
    """The selecting fields and what a request has in them, normalised: :attr:`.Stored.vary`."""
    return tuple((name, normalised(name, asked.fields.get(name))) for name in names)


def normalised(name: bytes, value: bytes | None) -> bytes | None:
    """The value of a selecting field, so that equal meanings are equal octets (RFC 9111 §4.1).

    White space beside commas goes, but in what is no list (``Cookie``, ``User-Agent`` …) or has quotation marks; the
    members of ``Accept-Language``, ``Accept-Encoding`` and ``Accept-Charset`` are lower-case, in the order of their
    weights, with a weight of 1 left out.

    :param name: lower-case
    """
    if value is None:
        return None
    if name in _WEIGHTED:
        return _weighted(value) if len(value) <= _LONGEST_LEARNED else _weighted.__wrapped__(value)
    if name in _EXACT or b'"' in value:
        return value
    return _COMMAS.sub(b",", value).strip(b" \t")


@lru_cache(maxsize=1024)
def _weighted(value: bytes) -> bytes:
    found: list[tuple[float, bytes]] = []
    for member in members(value.lower()):
        name, *parameters = [part.strip(b" \t") for part in member.split(b";")]
        weight = 1.0
        for parameter in parameters:
            match = _WEIGHT.fullmatch(parameter)
            if match is None:
                # not of this grammar: it means what it means, octet for octet
                return value
            weight = min(float(match[1]), 1.0)
        found.append((-weight, name))
    return b",".join(name if weight == -1.0 else b"%s;q=%g" % (name, -weight) for weight, name in sorted(set(found)))
