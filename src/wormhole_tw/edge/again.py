"""The same request once more on its connection, whose answer is in memory: said again in one step.

A busy page is asked for many times a second, and by proxies, pollers and other edges on kept connections, octet for
octet the same.  The first time everything is looked at (listener, codec, router, cache, exchange); what comes of it
depends on nothing but the request, the catalog, what is kept, and the second that ``Age`` and ``Cache-Status`` tell.
So where a connection asked the same twice within a second, and was answered from memory with nobody asked in between
(no gate, no middleware, no count of requests in flight), the octets of the answer stay at hand until one of these
changes: :meth:`Again.holds` looks at each of them every time.

What is counted and logged of a request is counted and logged of these, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from wormhole_tw.edge.exchange import Exchange
from wormhole_tw.http.forwarding import answer_towards_visitor
from wormhole_tw.http.h1.writer import plain_answer

if TYPE_CHECKING:
    from wormhole_tw.edge.access_lines import Form
    from wormhole_tw.edge.caching.asking import Asked
    from wormhole_tw.edge.caching.caching import Caching, Ready
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.interfaces import IKept
    from wormhole_tw.edge.metrics import Alike
    from wormhole_tw.edge.router import Way
    from wormhole_tw.http.events import RequestHead

__all__ = ["Again", "again"]

log = Logger()

_HIT = 2
"""The first digit of the status: what is given again is a 200 or its kind."""


class Again:
    """A request and its answer.

    :ivar request: the octets of the one
    :ivar octets: those of the other
    :ivar sent: how many of them are body
    :ivar model: an exchange that never ran, as those would be that have this answer
    :ivar alike: where metrics note it, once they have
    """

    __slots__ = (
        "_asked", "_caching", "_catalog", "_clock", "_common", "_counters", "_hits", "_kept", "_ready",
        "_since", "_until", "_voids", "alike", "model", "octets", "request", "sent",
    )  # fmt: skip

    def __init__(
        self, request: bytes, octets: bytes, way: Way, caching: Caching, found: tuple[Asked, IKept, Ready],
        model: Exchange, context: EdgeContext,
    ) -> None:  # fmt: skip
        self.request = request
        self.octets = octets
        self._catalog = way.catalog
        self._caching = caching
        self._asked, self._kept, ready = found
        self._ready = ready
        self._since = ready.second
        self._until = min(ready.second + 1, ready.stored.fresh_until)
        # what was purged and made void when it was last looked at; never looked at yet
        self._clock = self._voids = -1
        self._counters = context.counters
        self._hits = caching.cache.counters
        self._common: Any = None  # what the lines of all of them share, in the log's format
        self.sent = len(ready.body)
        self.model = model
        self.alike: Alike | None = None

    def holds(self, context: EdgeContext, now: float) -> bool:
        """Whether it is still the answer, by all that a request is answered by.

        :param now: seconds since 1970
        """
        if (
            not self._since <= now < self._until
            or self._kept.prepared is not self._ready
            or self._catalog is not context.catalogs.current
        ):
            return False
        cache = self._caching.cache
        clock, voids = cache.purges.clock, cache.voids.added
        if clock == self._clock and voids == self._voids:
            return True
        if cache.is_void(self._asked.place, self._ready.stored):
            return False
        self._clock, self._voids = clock, voids
        return True

    def count(self, context: EdgeContext, now: float) -> None:
        """Take note of one that was answered so.

        :param now: seconds since 1970
        """
        counters = self._counters
        counters.requests += 1
        counters.answers[_HIT] += 1
        self._hits.hit += 1
        if context.on_answered_again is not None:
            try:
                context.on_answered_again(self, context.request_ids(), now)
            except Exception:  # noqa: BLE001 - the visitor has its answer, whatever becomes of the record of it
                log.failure("the hook for answers that were given again failed")

    def common(self, form: Form) -> Any:
        """What the lines of all of them share; worked out once."""
        common = self._common
        if common is None:
            common = self._common = form.common(self.model)
        return common


_new = Exchange.__new__


def again(request: bytes, head: RequestHead, context: EdgeContext, facts: ConnectionFacts) -> Again | None:
    """What answers a request that came before and was just answered; None where it has to be looked at every time.

    :param request: its octets: one head, whole
    :param head: the same, read
    :param facts: of its connection
    """
    way = facts.way
    if way is None or way.head is not head:
        # it has none that lasts: what is remembered is that of another request, maybe of another site
        return None
    if way.caching is None or way.forward is None or way.gates is not None or facts.trusted:
        return None
    limits = way.limits
    if way.answer is not None or limits.requests_per_site or limits.requests_per_address:
        return None
    found = way.caching.given(way.forward)
    if found is None:
        return None
    ready = found[2]
    route = way.route
    model = _new(Exchange)
    model.head = way.head
    model.facts = facts
    model.host = way.host
    model.site = route.site
    model.route = route.label
    model.backend = route.backend
    model.status = ready.head.status
    model.reason = ""
    model.cache = "hit"
    model.upstream = None
    model.attempts = 0
    model.received = 0
    model.sent = len(ready.body)
    model.began = model.first_byte = 0.0
    model.edits = route.response_edits
    model.besides = way.besides
    model.added = way.added
    answer = answer_towards_visitor(ready.head, context.date_line)
    model._complete(answer)
    octets = plain_answer(way.head, answer, ready.body)
    if octets is None or model.status // 100 != _HIT:
        return None
    return Again(request, octets, way, ready.caching, found, model, context)
