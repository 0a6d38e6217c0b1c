"""What a store holds, for metrics and for people."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies in one place.

    :ivar place: ``"memory"`` or ``"disk"``
    :ivar entries: answers that are found there (each variant is one)
    :ivar octets: what they take, with everything that is kept about them and what comes in now
    :ivar limit: what they may take
    :ivar evicted: answers that had to make room for others since the process started
    :ivar faults: answers that were found damaged, and reads and writes that failed, since the process started
    """

    place: str
    entries: int
    octets: int
    limit: int
    evicted: int = 0
    faults: int = 0
