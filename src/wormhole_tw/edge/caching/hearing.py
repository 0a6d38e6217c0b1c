"""What is heard of answers to requests that passed the cache: what they make void, or say of what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from wormhole_tw.errors import HttpError
from wormhole_tw.http.caching import freshen, invalidates, select
from wormhole_tw.http.targets import normalise_target

if TYPE_CHECKING:
    from wormhole_tw.edge.caching.caching import Caching
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.interfaces import IKept
    from wormhole_tw.http.events import ResponseHead

__all__ = ["Hearing"]


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
        cache = self._caching.cache
        asked, forward = exchange.outer.head, exchange.forward
        assert asked is not None
        assert forward is not None
        if asked.method != forward.method:
            # middleware made another request of it
            asked = replace(asked, method=forward.method)
        targets = invalidates(asked, head, exchange.facts.forwarding.scheme.encode())
        if not targets:
            return
        now = cache.wall()
        ignored = self._caching.settings.ignore_query
        for target in targets:
            try:
                path, query = normalise_target(target.target)
            except HttpError:
                continue  # a Location that is no path: nothing is kept under it
            if ignored is not None:
                query = ignored.of(query)
            cache.voids.add(exchange.site, exchange.host, path if query is None else b"%s?%s" % (path, query), now)
        # what is looked up is removed when it is seen; what nobody looks up in this run must not come back in the next
        key = self._caching.key_of(exchange)
        if key is not None:
            found = cache.store.find(key.key)
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
