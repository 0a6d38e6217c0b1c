"""Whether a stored answer may be served for a request without asking the origin (RFC 9111 §4.2, §5.2.1; RFC 5861)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.caching.records import Stored, Verdict

if TYPE_CHECKING:
    from wormhole_tw.http.caching.policy import CachePolicy
    from wormhole_tw.http.caching.question import Question

__all__ = ["judge", "usable_on_error"]


def judge(asked: Question, stored: Stored, policy: CachePolicy, now: float) -> Verdict:
    """What may be done with the selected answer.

    ``only-if-cached`` with nothing selected is the caller's to see (``b"only-if-cached" in asked.directives``).

    :param now: epoch seconds
    """
    raise NotImplementedError


def usable_on_error(asked: Question, stored: Stored, now: float) -> bool:
    """Whether a stale answer may be served because the origin cannot be reached or answers 500, 502, 503 or 504
    (``stale-if-error``, RFC 5861 §4; a request may say it too).

    Never where ``no-cache``, ``must-revalidate``, ``proxy-revalidate`` or ``s-maxage`` forbid it (RFC 9111 §4.2.4).

    :param now: epoch seconds
    """
    raise NotImplementedError
