"""What a shared cache may do, without doing it: RFC 9111, 9211, 5861, 8246 and 9213 as pure functions.

Time is an argument (epoch seconds), bodies are numbers of octets, and nothing here knows where anything is kept.  A
walk asks in this order::

    asked = question(head)                              # once a request
    may_ask(head, asked, policy)                        # else the request passes
    kept = select(asked, store.find(key))               # Vary
    judge(asked, kept.stored, policy, now)              # fresh, stale, to be revalidated …
    serve(asked, kept.stored, kept.size, now)           # 200, 206, 304, 416, Age
    conditional(fields, [kept.stored])                  # or else: ask the origin
    storable(asked, answer, policy, requested, received, born)
    freshen(kept.stored, answer, asked, policy, requested, received)    # 304, or 200 to HEAD
    invalidates(head, answer, scheme)                   # after POST, PUT, DELETE …
    cache_status(policy.name, …)
"""

from __future__ import annotations

from wormhole_tw.http.caching.invalidating import invalidates
from wormhole_tw.http.caching.judging import judge, usable_on_error
from wormhole_tw.http.caching.policy import HEURISTIC_STATUSES, CachePolicy
from wormhole_tw.http.caching.question import Question, may_ask, question
from wormhole_tw.http.caching.records import (
    IMMUTABLE,
    MUST_REVALIDATE,
    NEVER_STALE,
    NO_CACHE,
    PERSONAL,
    Answer,
    Refusal,
    Stored,
    Target,
    Verdict,
)
from wormhole_tw.http.caching.selecting import normalised, select, selected_by
from wormhole_tw.http.caching.serving import begun, serve, wanted
from wormhole_tw.http.caching.storing import freshen, storable, told
from wormhole_tw.http.caching.telling import Forwarded, cache_status
from wormhole_tw.http.caching.validating import completing, conditional, confirmed, continues

__all__ = [
    "HEURISTIC_STATUSES",
    "IMMUTABLE",
    "MUST_REVALIDATE",
    "NEVER_STALE",
    "NO_CACHE",
    "PERSONAL",
    "Answer",
    "CachePolicy",
    "Forwarded",
    "Question",
    "Refusal",
    "Stored",
    "Target",
    "Verdict",
    "begun",
    "cache_status",
    "completing",
    "conditional",
    "confirmed",
    "continues",
    "freshen",
    "invalidates",
    "judge",
    "may_ask",
    "normalised",
    "question",
    "select",
    "selected_by",
    "serve",
    "storable",
    "told",
    "usable_on_error",
    "wanted",
]
