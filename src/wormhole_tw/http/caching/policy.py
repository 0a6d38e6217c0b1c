"""What a site or route changes of the rules.  The defaults are the standards, and change nothing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HEURISTIC_STATUSES", "CachePolicy"]

HEURISTIC_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""What may be stored where nobody said for how long (RFC 9110 §15.1); a 206 is a part of a 200."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Durations are whole seconds, 0 or more; None where the policy says nothing.

    :ivar ttl: how long an answer is fresh that says nothing of it (neither ``max-age`` nor ``s-maxage`` nor
        ``Expires``), in place of heuristics; only for ``statuses``
    :ivar override_ttl: how long answers are fresh, whatever they say; only for ``statuses``.  What may not be stored
        (``no-store``, ``private``, ``Set-Cookie``, ``Authorization``) is not stored by it, unless ``ignore`` says so
    :ivar max_ttl: no answer is fresh for longer
    :ivar browser_ttl: how long visitors are told that they may keep it, from when they get it; the cache's own
        freshness is not changed by it
    :ivar stale_while_revalidate: RFC 5861 §3, where the answer says nothing of it
    :ivar stale_if_error: RFC 5861 §4, where the answer says nothing of it
    :ivar heuristic: an answer that says nothing, but has ``Last-Modified``, is fresh a tenth of the time since then,
        at most a day (RFC 9111 §4.2.2); never where the request had ``Cookie`` or ``Authorization``
    :ivar statuses: the status codes that ``ttl``, ``override_ttl`` and ``heuristic`` are for
    :ivar strip: fields (lower-case) that are dropped from answers before they are judged and stored: with
        ``set-cookie`` among them such answers are stored, without it
    :ivar ignore: directives of answers (lower-case: ``no-store``, ``private``, ``no-cache``, ``must-revalidate`` …)
        that count as not said
    :ivar ignore_request: directives of requests (lower-case: ``no-cache``, ``no-store``, ``max-age``,
        ``only-if-cached`` …) that count as not said: visitors cannot send a request past the cache then
    :ivar targets: targeted fields (lower-case) that are ours, the first that an answer has wins over ``Cache-Control``
        and ``Expires`` (RFC 9213 §2.2)
    :ivar tag_header: the field (lower-case) of an answer that lists what it can be purged by, separated by spaces or
        commas
    :ivar name: what ``Cache-Status`` calls this cache: a token (RFC 9211 §2)
    """

    ttl: int | None = None
    override_ttl: int | None = None
    max_ttl: int | None = None
    browser_ttl: int | None = None
    stale_while_revalidate: int = 0
    stale_if_error: int = 0
    heuristic: bool = True
    statuses: frozenset[int] = HEURISTIC_STATUSES
    strip: frozenset[bytes] = frozenset()
    ignore: frozenset[bytes] = frozenset()
    ignore_request: frozenset[bytes] = frozenset()
    targets: tuple[bytes, ...] = (b"cdn-cache-control",)
    tag_header: bytes = b"surrogate-key"
    name: bytes = b"wormhole"
