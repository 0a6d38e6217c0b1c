"""Which of the answers stored under one key is for a request: Vary (RFC 9111 §4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from wormhole_tw.http.caching.question import Question
    from wormhole_tw.http.caching.records import Stored

__all__ = ["Kept", "normalised", "select", "selected_by"]


class Kept(Protocol):
    """Whatever has the record of a stored answer with it."""

    @property
    def stored(self) -> Stored: ...


_Kept = TypeVar("_Kept", bound=Kept)


def select(asked: Question, candidates: Iterable[_Kept]) -> _Kept | None:
    """The stored answer for a request: of those whose selecting fields match, the one with the newest ``Date``; of
    equally old ones the last (RFC 9111 §4).  None where none matches.

    :param candidates: what is stored under the request's key
    """
    raise NotImplementedError


def selected_by(asked: Question, stored: Stored) -> bool:
    """Whether every selecting field of a stored answer has the value that the request has (RFC 9111 §4.1)."""
    raise NotImplementedError


def normalised(name: bytes, value: bytes | None) -> bytes | None:
    """The value of a selecting field, so that equal meanings are equal octets (RFC 9111 §4.1).

    White space beside commas goes; the members of ``Accept-Language``, ``Accept-Encoding`` and their kind are
    lower-case and in the order of their weights.

    :param name: lower-case
    """
    raise NotImplementedError
