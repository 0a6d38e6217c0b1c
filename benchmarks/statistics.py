"""Medians, percentiles, and ratios of what was measured in the same round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

__all__ = ["median", "percentile", "ratios"]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` percent of all do not exceed (nearest rank).

    :raises ValueError: there are none
    """
    if not values:
        raise ValueError("there are no values")
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * share / 100) - 1, 0)]


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Ours for one of the other's, round by round; a round in which the other was 0 has none."""
    return [mine / other for mine, other in zip(ours, others, strict=True) if other]
