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

from typing import TYPE_CHECKING

from twisted.logger import Logger

from wormhole_tw.edge.exchange import Exchange
from wormhole_tw.http.forwarding import answer_towards_visitor
from wormhole_tw.http.h1.writer import plain_answer

if TYPE_CHECKING:
    from wormhole_tw.edge.caching.asking import Asked
    from wormhole_tw.edge.caching.caching import Caching, Ready
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
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
    """

    __slots__ = ("_asked", "_caching", "_catalog", "_length", "_model", "_ready", "octets", "request")

    def __init__(
        self, request: bytes, octets: bytes, length: int, way: Way, caching: Caching, asked: Asked, ready: Ready,
        model: Exchange,
    ) -> None:  # fmt: skip
        self.request = request
        self.octets = octets
        self._length = length
        self._catalog = way.catalog
        self._caching = caching
        self._asked = asked
        self._ready = ready
        self._model = model

    def holds(self, context: EdgeContext) -> bool:
        """Whether it is still the answer, now."""
        return self._catalog is context.catalogs.current and self._caching.gives_again(self._asked, self._ready)

    def count(self, context: EdgeContext) -> None:
        """Take note of one that was answered so."""
        counters = context.counters
        counters.requests += 1
        counters.answers[_HIT] += 1
        self._caching.cache.counters.hit += 1
        done = context.on_exchange_done
        if done is None:
            return
        model = self._model
        made = _new(Exchange)
        made.head = model.head
        made.facts = model.facts
        made.host = model.host
        made.site = model.site
        made.route = model.route
        made.backend = model.backend
        made.status = model.status
        made.reason = ""
        made.cache = "hit"
        made.upstream = None
        made.attempts = 0
        made.received = 0
        made.sent = self._length
        made.request_id = context.request_ids()
        made.began = made.first_byte = context.timers.seconds()
        try:
            done(made)
        except Exception:  # noqa: BLE001 - the visitor has its answer, whatever becomes of the record of it
            log.failure("the hook for finished exchanges failed")


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
    asked, ready = found
    route = way.route
    model = _new(Exchange)
    model.head = way.head
    model.facts = facts
    model.host = way.host
    model.site = route.site
    model.route = route.label
    model.backend = route.backend
    model.status = ready.head.status
    model.edits = route.response_edits
    model.besides = way.besides
    model.added = way.added
    answer = answer_towards_visitor(ready.head, context.date_line)
    model._complete(answer)
    octets = plain_answer(way.head, answer, ready.body)
    if octets is None or model.status // 100 != _HIT:
        return None
    return Again(request, octets, len(ready.body), way, way.caching, asked, ready, model)
