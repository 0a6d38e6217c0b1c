"""What is heard of answers to requests that passed the cache: what they make void, or say of what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from wormhole_tw.errors import HttpError
from wormhole_tw.http.caching import freshen, invalidates, select
from wormhole_tw.http.targets import normalise_target

if TYPE_CHECKING:
    from collections.abc import Collection

    from wormhole_tw.edge.caching.asking import Asked
    from wormhole_tw.edge.caching.cache import EdgeCache
    from wormhole_tw.edge.caching.caching import Caching, Ready
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.interfaces import IKept
    from wormhole_tw.http.caching.keying import IgnoredQuery
    from wormhole_tw.http.events import RequestHead, ResponseHead

__all__ = ["Beside", "Hearing"]


class Hearing:
    """In the place of a cache, for a request that it let pass."""

    __slots__ = ("_caching",)

    def __init__(self, caching: Caching) -> None:
        self._caching = caching

    def take(self, exchange: Exchange) -> bool:
        """It passes."""
        return False

    def heard(self, exchange: Exchange, head: ResponseHead) -> None:
        """The origin's answer has begun."""
        forward = exchange.forward
        assert forward is not None
        if forward.method == b"HEAD":
            self._of_head(exchange, head)
        elif head.status < 400:
            self._void(exchange, head)

    def _void(self, exchange: Exchange, head: ResponseHead) -> None:
        """RFC 9111 §4.4."""
        if not _make_void(self._caching.cache, exchange, head, (self._caching.settings.ignore_query,)):
            return
        # what is looked up is removed when it is seen; what nobody looks up in this run must not come back in the next
        key = self._caching.key_of(exchange)
        if key is not None:
            found = self._caching.cache.store.find(key.key)
            if isinstance(found, Deferred):
                found.addCallback(self._remove)
            else:
                self._remove(found)

    def _remove(self, found: tuple[IKept, ...]) -> None:
        for kept in found:
            self._caching.cache.store.remove(kept)

    def _of_head(self, exchange: Exchange, head: ResponseHead) -> None:
        """RFC 9111 §4.3.5: the answer to HEAD speaks for the one to GET; but a 304 speaks of what its visitor has."""
        if head.status == 304:
            return
        caching = self._caching
        cache = caching.cache
        asked = caching.key_of(exchange)
        found = () if asked is None else cache.store.find(asked.key)
        if asked is None or isinstance(found, Deferred):
            return
        kept = select(asked.question, found)
        if kept is None or cache.is_void(asked.place, kept.stored) or head.status >= 500:
            return
        now = cache.wall()
        requested = now - (cache.context.timers.seconds() - exchange.began)
        fresh = freshen(kept.stored, head, asked.question, caching.settings.policy, requested, now)
        if fresh is None:
            cache.store.remove(kept)
        else:
            cache.store.refresh(kept, fresh)


class Beside:
    """In the place of a cache, on a route without one whose site keeps answers of others: an unsafe request that takes
    it changes what is kept of its URL all the same (RFC 9111 §4.4).

    :param ignored: what the others ignore of queries
    """

    __slots__ = ("_cache", "_ignored")

    def __init__(self, cache: EdgeCache, ignored: Collection[IgnoredQuery | None]) -> None:
        self._cache = cache
        self._ignored = ignored

    def take(self, exchange: Exchange) -> bool:
        """It passes."""
        return False

    def given(self, forward: RequestHead) -> tuple[Asked, IKept, Ready] | None:
        """Nothing is answered from here."""
        return None

    def heard(self, exchange: Exchange, head: ResponseHead) -> None:
        """The origin's answer has begun."""
        if head.status < 400:
            _make_void(self._cache, exchange, head, self._ignored)


def _make_void(
    cache: EdgeCache, exchange: Exchange, head: ResponseHead, ignored: Collection[IgnoredQuery | None]
) -> bool:
    """Note what an unsafe request has changed; whether there is anything."""
    asked, forward = exchange.outer.head, exchange.forward
    assert asked is not None
    assert forward is not None
    if asked.method != forward.method:
        # middleware made another request of it
        asked = replace(asked, method=forward.method)
    targets = invalidates(asked, head, exchange.facts.forwarding.scheme.encode())
    now = cache.wall()
    for target in targets:
        try:
            path, query = normalise_target(target.target)
        except HttpError:
            continue  # a Location that is no path: nothing is kept under it
        for each in ignored:
            left = query if each is None else each.of(query)
            cache.voids.add(exchange.site, exchange.host, path if left is None else b"%s?%s" % (path, left), now)
    return bool(targets)
