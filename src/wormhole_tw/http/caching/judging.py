"""Whether a stored answer may be served for a request without asking the origin (RFC 9111 §4.2, §5.2.1; RFC 5861).

**Requests** (§5.2.1): ``no-cache``, ``max-age``, ``min-fresh``, ``max-stale``, ``only-if-cached`` and
``stale-if-error`` count where the policy does not ignore them; a value that is no number counts as not said.
``Pragma`` is not looked at (§5.4): what sends it sends ``Cache-Control`` too.  A fresh ``immutable`` answer is not
revalidated for ``max-age=0``, which browsers send at a reload, only for ``no-cache`` (RFC 8246 §2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.caching.records import IMMUTABLE, NEVER_STALE, NO_CACHE, Stored, Verdict

if TYPE_CHECKING:
    from wormhole_tw.http.caching.policy import CachePolicy
    from wormhole_tw.http.caching.question import Question

__all__ = ["judge", "usable_on_error"]

_FRESH = Verdict.FRESH
_STALE = Verdict.STALE
_STALE_SERVE = Verdict.STALE_SERVE
_REVALIDATE = Verdict.REVALIDATE
_UNAVAILABLE = Verdict.UNAVAILABLE


def judge(asked: Question, stored: Stored, policy: CachePolicy, now: float) -> Verdict:
    """What may be done with the selected answer.

    ``only-if-cached`` with nothing selected is the caller's to see (``asked.only_if_cached(policy)``).

    :param now: epoch seconds
    """
    if asked.directives:
        verdict = _judge_directives(asked, stored, policy, now)
        if verdict is _REVALIDATE and asked.only_if_cached(policy):
            return _UNAVAILABLE
        return verdict
    if stored.flags & NO_CACHE:
        return _REVALIDATE
    if now < stored.fresh_until:
        return _FRESH
    return _STALE_SERVE if now < stored.behind_until else _REVALIDATE


def _judge_directives(asked: Question, stored: Stored, policy: CachePolicy, now: float) -> Verdict:
    ignored = policy.ignore_request
    if stored.flags & NO_CACHE or (b"no-cache" in asked.directives and b"no-cache" not in ignored):
        return _REVALIDATE
    left = stored.fresh_until - now
    oldest = asked.delta(b"max-age") if b"max-age" not in ignored else None
    if oldest is not None and now - stored.zero > oldest and not (stored.flags & IMMUTABLE and left > 0):
        return _REVALIDATE
    freshest = asked.delta(b"min-fresh") if b"min-fresh" not in ignored else None
    if freshest is not None and left < freshest:
        return _REVALIDATE
    if left > 0:
        return _FRESH
    if b"max-stale" in asked.directives and b"max-stale" not in ignored and not stored.flags & NEVER_STALE:
        stalest = asked.delta(b"max-stale")
        if -left <= stalest if stalest is not None else asked.directives[b"max-stale"] is None:
            return _STALE
    if oldest is None and now < stored.behind_until:
        return _STALE_SERVE
    return _REVALIDATE


def usable_on_error(asked: Question, stored: Stored, policy: CachePolicy, now: float) -> bool:
    """Whether a stale answer may be served because the origin cannot be reached or answers 500, 502, 503 or 504
    (``stale-if-error``, RFC 5861 §4; a request may say it too).

    Never where ``no-cache``, ``must-revalidate`` or ``proxy-revalidate`` forbid it (RFC 9111 §4.2.4); with
    ``s-maxage`` only where the answer says ``stale-if-error`` itself.  A fresh answer that was asked for anew because
    the visitor wanted that (``no-cache``, ``max-age=0``) may be served then, too.

    :param now: epoch seconds
    """
    if stored.flags & NO_CACHE:
        return False
    if now < stored.error_until:
        return True
    if stored.flags & NEVER_STALE or b"stale-if-error" in policy.ignore_request:
        return False
    seconds = asked.delta(b"stale-if-error")
    return seconds is not None and now < stored.fresh_until + seconds
