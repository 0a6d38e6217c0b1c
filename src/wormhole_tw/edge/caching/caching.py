"""The cache of one route: the place in a request's walk between middleware and dispatch.

A request is taken, or it passes.  What is there and fresh is answered at once, without an object of its own; whatever
has to wait (for a disk, for the origin, for another's fetch) has a :class:`~wormhole_tw.edge.caching.reader.Reader`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from wormhole_tw.control.access import BasicRule, SignInRule, TokenRule
from wormhole_tw.edge.caching.asking import Asked, ask
from wormhole_tw.edge.caching.fetch import Fetch
from wormhole_tw.edge.caching.hearing import Hearing
from wormhole_tw.edge.caching.reader import WHOLE, Reader
from wormhole_tw.http.caching import (
    Forwarded,
    Verdict,
    cache_status,
    completing,
    conditional,
    confirmed,
    freshen,
    judge,
    may_ask,
    select,
    selected_by,
    serve,
    usable_on_error,
)
from wormhole_tw.http.caching.keying import brings_cookie
from wormhole_tw.http.events import ResponseHead
from wormhole_tw.http.memo import remember

if TYPE_CHECKING:
    from wormhole_tw.control.caching import CacheSettings
    from wormhole_tw.control.model import Route
    from wormhole_tw.edge.caching.cache import EdgeCache
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.interfaces import IKept
    from wormhole_tw.http.caching import Answer, Question, Stored
    from wormhole_tw.http.events import RequestHead

__all__ = ["Caching", "Ready"]

FROM_THE_BEGINNING = 1024 * 1024
"""Octets before which a range has to begin so that the whole is fetched for it: who wants the middle of a film must not
wait for its first half, nor who wants the last octets of an archive for all the others."""

_RANGE = re.compile(rb"bytes=(?:([0-9]{1,18})-[0-9]*|-[0-9]+)")

_FAILURES = frozenset({500, 502, 503, 504})
"""What counts as the origin's failing (RFC 5861 §4)."""

_NOT_KEPT = "Nothing that could be served is kept, and nobody was to be asked (only-if-cached)."


class Ready:
    """An answer as it is given again within one second."""

    __slots__ = ("body", "caching", "head", "second", "stored")

    def __init__(self, caching: Caching, stored: Stored, second: int, head: ResponseHead, body: bytes) -> None:
        self.caching = caching
        self.stored = stored
        self.second = second
        self.head = head
        self.body = body


class Caching:
    """See the module.

    :ivar cache: what it shares with the others
    :ivar settings: its route's
    """

    __slots__ = ("_hearing", "_known", "_personal", "_rewritten", "cache", "settings")

    def __init__(self, cache: EdgeCache, route: Route, settings: CacheSettings) -> None:
        self.cache = cache
        self.settings = settings
        self._rewritten = route.rewrite is not None
        # whoever comes in by one of these is known, whatever of it the service is told
        self._personal = any(isinstance(gate, BasicRule | TokenRule | SignInRule) for gate in route.gates or ())
        self._known: dict[int, Asked] = {}
        self._hearing = Hearing(self)

    def take(self, exchange: Exchange) -> bool:
        """Whether a request is this cache's to answer; it may be answered when this returns."""
        forward = exchange.forward
        assert forward is not None
        asked = self._known.get(id(forward)) if forward.common else None
        if asked is None or asked.forward is not forward:
            asked = self._look(exchange, forward)
            if asked is None:
                return False
        exchange.caching = None
        cache = self.cache
        found = cache.store.find(asked.key)
        if not isinstance(found, Deferred):
            if len(found) == 1:
                kept = found[0]
                ready = kept.prepared
                now = cache.wall()
                if type(ready) is Ready and ready.caching is self and ready.second == int(now):
                    stored = kept.stored
                    question = asked.question
                    if (
                        question.plain
                        and not question.head
                        and now < stored.fresh_until
                        and (not stored.vary or selected_by(question, stored))
                        and (
                            (stored.born >= cache.purges.clock and not cache.voids)
                            or not cache.is_void(asked.place, stored)
                        )
                    ):
                        # as most come: what is popular is asked for again within the second
                        ready.head.common = True
                        cache.counters.hit += 1
                        exchange.outer.cache = "hit"
                        exchange.answer_kept(ready.head, ready.body)
                        return True
            if found and self._answer(exchange, asked, found):
                return True
        reader = Reader(self, exchange, asked)
        exchange.hand_to(reader)
        if not isinstance(found, Deferred):
            self.seek(reader, found)
        else:
            reader.await_found(found)
        return True

    def given(self, forward: RequestHead) -> tuple[Asked, IKept, Ready] | None:
        """What answers this request once more within the second; None where it has to be looked at.

        It does so for as long as ``prepared`` of the second is the third, and :meth:`is_void` denies it.

        :param forward: a request of this route that came before
        """
        asked = self._known.get(id(forward))
        if asked is None or asked.forward is not forward or not asked.question.plain or asked.question.head:
            return None
        found = self.cache.store.find(asked.key)
        if isinstance(found, Deferred):
            found.addErrback(lambda _: None)  # it left memory this moment
            return None
        if len(found) != 1:
            return None
        kept = found[0]
        ready, stored = kept.prepared, kept.stored
        if type(ready) is not Ready or ready.caching is not self or ready.stored is not stored:
            return None
        return (asked, kept, ready) if not stored.vary or selected_by(asked.question, stored) else None

    def hear(self, exchange: Exchange, head: ResponseHead) -> None:
        """An answer to HEAD that was fetched."""
        self._hearing.heard(exchange, head)

    def heard(self, exchange: Exchange, head: ResponseHead) -> None:
        """An answer of middleware: what it comes of was heard where the service gave it."""

    def _look(self, exchange: Exchange, forward: RequestHead) -> Asked | None:
        """Look at a request; None where the cache has no part in it."""
        outer = exchange.outer
        settings = self.settings
        why = Forwarded.BYPASS
        if forward.method != b"GET" and forward.method != b"HEAD":
            why = Forwarded.METHOD
            exchange.caching = self._hearing
        else:
            exchange.caching = None
            seen = outer.head
            assert seen is not None
            if settings.bypass_cookies is None or not brings_cookie(seen.fields, settings.bypass_cookies):
                asked = ask(exchange, settings, personal=self._personal, rewritten=self._rewritten)
                if asked is not None and may_ask(asked.head, asked.question, settings.policy):
                    if forward.common:
                        remember(self._known, id(forward), asked)
                    return asked
        self._pass(outer, why)
        return None

    def _pass(self, outer: Exchange, why: Forwarded) -> None:
        outer.cache = "bypass"
        outer.besides = (*outer.besides, (b"Cache-Status", cache_status(self.settings.policy.name, forwarded=why)))
        self.cache.counters.bypass += 1

    def key_of(self, exchange: Exchange) -> Asked | None:
        """What the answer to a request would be kept under."""
        return ask(exchange, self.settings, personal=self._personal, rewritten=self._rewritten)

    # what is there

    def _answer(self, exchange: Exchange, asked: Asked, found: tuple[IKept, ...]) -> bool:
        """Answer at once with what is fresh, not long and in memory; False where it is not so."""
        cache, question = self.cache, asked.question
        now = cache.wall()
        kept = found[0] if len(found) == 1 else select(question, found)
        if kept is None or kept.body is None:
            return False
        stored = kept.stored
        if cache.is_void(asked.place, stored) or not selected_by(question, stored):
            return False
        if judge(question, stored, self.settings.policy, now) is not Verdict.FRESH:
            return False
        answer = serve(question, stored, kept.size, now)
        if answer is None or answer.end - answer.start > WHOLE:
            return False
        body = kept.body[answer.start : answer.end]
        given = answer.head
        line = cache_status(self.settings.policy.name, hit=True, stored=stored, now=now)
        fields = [*given.fields, (b"Cache-Status", line)]
        head = ResponseHead(given.status, given.reason, fields, given.version, given.framing, given.length)
        if question.plain and not question.head:
            kept.prepared = Ready(self, stored, int(now), head, body)
        cache.counters.hit += 1
        exchange.outer.cache = "hit"
        exchange.answer_kept(head, body)
        return True

    def look_up(self, reader: Reader) -> None:
        """Look for what a request may be answered with."""
        found = self.cache.store.find(reader.asked.key)
        if not isinstance(found, Deferred):
            self.seek(reader, found)
        else:
            reader.await_found(found)

    def seek(self, reader: Reader, found: tuple[IKept, ...]) -> None:
        """Go on with what was found."""
        cache, asked, policy = self.cache, reader.asked, self.settings.policy
        question = asked.question
        now = cache.wall()
        live = []
        for one in found:
            if cache.is_void(asked.place, one.stored):
                cache.store.remove(one)
            else:
                live.append(one)
        kept = select(question, live) if live else None
        reader.stale, after = None, None
        if kept is None:
            reader.why = Forwarded.VARY_MISS if live else Forwarded.URI_MISS
        else:
            stored = kept.stored
            verdict = judge(question, stored, policy, now)
            if verdict is Verdict.UNAVAILABLE:
                reader.why = Forwarded.STALE
                reader.fail("not-cached", 504, _NOT_KEPT)
                return
            given = self._of_spans(reader, kept, live, now)
            if verdict is Verdict.REVALIDATE:
                reader.why = Forwarded.STALE if now >= stored.fresh_until else Forwarded.REQUEST
                # of a part that is not what is wanted the origin's word would be of no use
                reader.stale = None if given is None else given[0]
            else:
                if given is not None:
                    stored = given[0].stored
                    line = cache_status(policy.name, hit=True, stored=stored, now=now)
                    reader.give_kept(*given, "hit" if now < stored.fresh_until else "stale", line)
                    if verdict is Verdict.STALE_SERVE:
                        self._revalidate_behind(reader, kept)
                    return
                reader.why, after = Forwarded.PARTIAL, self._beginning(question, kept, live)
        if question.only_if_cached(policy):
            reader.fail("not-cached", 504, _NOT_KEPT)
        elif question.head:
            # an answer to HEAD is not stored, but it may tell of what is
            if reader.stale is not None and usable_on_error(question, reader.stale.stored, policy, now):
                Fetch(self, asked, reader.exchange, asked.head, reader, shared=False).begin()
            else:
                reader.pass_on(self._hearing)
        else:
            self._fetch(reader, after)

    def _of_spans(self, reader: Reader, kept: IKept, live: list[IKept], now: float) -> tuple[IKept, Answer] | None:
        """An answer of what is selected; or of another span of the same, where that has the octets."""
        question = reader.asked.question
        for one in (kept, *live):
            stored = one.stored
            if one is kept or (stored.etag and stored.etag == kept.stored.etag and selected_by(question, stored)):
                answer = serve(question, stored, one.size, now)
                if answer is not None:
                    return one, answer
        return None

    def _beginning(self, question: Question, kept: IKept, live: list[IKept]) -> IKept:
        """The longest span of what is selected that begins where it does: what is missing can be put behind that."""
        etag = kept.stored.etag
        spans = [
            one
            for one in live
            if not one.stored.first and etag and one.stored.etag == etag and selected_by(question, one.stored)
        ]
        return max(spans, key=lambda one: one.size, default=kept)

    # the origin

    def _fetch(self, reader: Reader, after: IKept | None) -> None:
        cache, asked = self.cache, reader.asked
        running = cache.running(asked)
        if running is not None:
            reader.collapsed = True
            running.add(reader)
            return
        stale, head = reader.stale, asked.head
        if stale is None and asked.group in cache.unstorable:
            reader.alone("unstorable")
            return
        asked_about: tuple[IKept, ...] = ()
        shared = True
        fields = None
        if after is not None and b"range" not in asked.question.fields and not after.stored.first:
            fields = completing(head.fields, after.stored, after.size)
        if fields is None:
            after = None
            if stale is None and self._begins_far(asked):
                # the visitor's own question: nobody else's answer comes of it
                shared, fields = False, head.fields
            else:
                if stale is not None and stale.stored.validated:
                    asked_about = (stale,)
                fields = conditional(head.fields, [kept.stored for kept in asked_about])
        forward = replace(head, fields=fields, common=False)
        fetch = Fetch(self, asked, reader.exchange, forward, reader, stale=asked_about, after=after, shared=shared)
        fetch.begin()

    def _begins_far(self, asked: Asked) -> bool:
        wanted = asked.question.fields.get(b"range")
        match = None if wanted is None else _RANGE.fullmatch(wanted)
        return match is not None and (match[1] is None or int(match[1]) >= FROM_THE_BEGINNING)

    def _revalidate_behind(self, reader: Reader, kept: IKept) -> None:
        """RFC 5861 §3: ask the origin, for those who come next."""
        asked, cache = reader.asked, self.cache
        if asked.question.head or asked.group in cache.unstorable or cache.running(asked) is not None:
            return
        asked_about = (kept,) if kept.stored.validated else ()
        fields = conditional(asked.head.fields, [one.stored for one in asked_about])
        forward = replace(asked.head, fields=fields, common=False)
        Fetch(self, asked, reader.exchange, forward, None, stale=asked_about).begin()

    def ask_plainly(self, fetch: Fetch, readers: list[Reader]) -> None:
        """The origin spoke of something that is not kept: ask it once more, without conditions."""
        head = fetch.asked.head
        forward = replace(head, fields=conditional(head.fields, ()), common=False)
        first = readers[0] if readers else None
        again = Fetch(self, fetch.asked, fetch.outer, forward, first)
        for reader in readers[1:]:
            again.add(reader)
        again.begin()

    def confirm(self, fetch: Fetch, head: ResponseHead, readers: list[Reader]) -> None:
        """The origin says that what is kept is still right."""
        cache, policy = self.cache, self.settings.policy
        stored = confirmed(head.fields, [kept.stored for kept in fetch.stale])
        kept = next((one for one in fetch.stale if one.stored is stored), None)
        if kept is None:
            self.ask_plainly(fetch, readers)
            return
        now = cache.wall()
        fresh = freshen(kept.stored, head, fetch.asked.question, policy, fetch.requested, now)
        if fresh is None:
            cache.store.remove(kept)
            self.ask_plainly(fetch, readers)
            return
        renewed = fresh is not stored
        if renewed:
            cache.store.refresh(kept, fresh)
        for reader in readers:
            reader.guarded(self._give_confirmed, reader, kept, fresh, renewed)

    def _give_confirmed(self, reader: Reader, kept: IKept, stored: Stored, renewed: bool) -> None:
        now = self.cache.wall()
        question = reader.asked.question
        answer = serve(question, stored, kept.size, now) if selected_by(question, stored) else None
        if answer is None:
            reader.again()
            return
        line = cache_status(
            self.settings.policy.name,
            forwarded=reader.why,
            status=304,
            stored=stored,
            now=now,
            kept=renewed,
            collapsed=reader.collapsed,
        )
        reader.give_kept(kept, answer, "revalidated", line)

    def give_stale(self, reader: Reader, reason: str, status: int | None = None) -> bool:
        """The origin has failed: answer with what is stale, where that may be (RFC 5861 §4).

        :param status: of its answer; without any it counts as not asked (RFC 9211 §2.1)
        """
        kept = reader.stale
        if kept is None:
            return False
        now = self.cache.wall()
        question = reader.asked.question
        if not usable_on_error(question, kept.stored, self.settings.policy, now):
            return False
        answer = serve(question, kept.stored, kept.size, now)
        if answer is None:
            return False
        line = cache_status(
            self.settings.policy.name,
            hit=status is None,
            forwarded=None if status is None else reader.why,
            status=status,
            stored=kept.stored,
            now=now,
            detail=reason if status is None else "",
        )
        reader.give_kept(kept, answer, "stale", line)
        return True

    def failing(self, head: ResponseHead) -> bool:
        """Whether an answer counts as the origin's failing."""
        return head.status in _FAILURES
