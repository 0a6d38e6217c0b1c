"""One request to the origin for everybody who waits for its answer, and the answer on its way into the store.

The service's part is an exchange of its own (:class:`~wormhole_tw.edge.inner.InnerExchange`), whose visitor is the
fetch, so that balancing, retries and health are as for any request.  The answer is read as fast as the store takes it;
those who wait read what has come, each at its own pace: the last of it here, what is older from the store.  An answer
that cannot be stored is the first one's alone, at that one's pace; the others go on by themselves.
"""

from __future__ import annotations

from dataclasses import replace as copied
from typing import TYPE_CHECKING

from zope.interface import implementer

from wormhole_tw.edge.caching.coming import TAIL, Coming
from wormhole_tw.edge.caching.crowd import Crowd
from wormhole_tw.edge.caching.delivering import begin_for, give_whole
from wormhole_tw.edge.inner import InnerExchange
from wormhole_tw.edge.interfaces import IKept, IVisitor
from wormhole_tw.edge.states import State
from wormhole_tw.errors import NextFailed
from wormhole_tw.http.caching import Refusal, Stored, continues, selected_by, storable
from wormhole_tw.http.coding import asking_for
from wormhole_tw.http.events import Body, End, Event, Framing, InformationalHead, RequestHead, ResponseHead
from wormhole_tw.structs import replace

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

    from wormhole_tw.edge.caching.asking import Asked
    from wormhole_tw.edge.caching.caching import Caching
    from wormhole_tw.edge.caching.reader import Reader
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.net.timers import Timer

__all__ = ["ABANDONED", "LITTLE", "Fetch"]

LITTLE = 1024 * 1024
"""Octets of an answer that are still to come for which a fetch goes on though nobody waits any more."""

ABANDONED = 60.0
"""Seconds that a fetch may take when nobody waits for it."""


@implementer(IVisitor)
class Fetch(Crowd):
    """See the module.

    :ivar facts: see IVisitor
    :ivar outer: the exchange that it began for, whose facts it has
    :ivar asked: the request that it began for
    :ivar forward: what is sent to the origin
    :ivar born: the purge clock when it began
    :ivar requested: epoch seconds when it began
    :ivar shared: others may wait for it, too
    :ivar after: a span of it that is kept already
    :ivar head: of its answer, as it came; None before
    :ivar stored: the record of its answer, once that has begun and is stored
    :ivar complete: all has come
    """

    hands_over = False

    __slots__ = (
        "_caching",
        "_settled",
        "_timer",
        "after",
        "asked",
        "born",
        "complete",
        "facts",
        "forward",
        "head",
        "outer",
        "requested",
        "shared",
        "stale",
        "stored",
    )

    def __init__(
        self,
        caching: Caching,
        asked: Asked,
        outer: Exchange,
        forward: RequestHead,
        first: Reader | None,
        *,
        stale: tuple[IKept, ...] = (),
        after: IKept | None = None,
        shared: bool = True,
    ) -> None:
        """
        :param outer: the exchange of a visitor for whom it is
        :param stale: what the origin is asked about
        :param after: a span that the answer is to be put behind
        :param shared: others may wait for it
        """
        cache = caching.cache
        super().__init__(cache, first)
        self._caching = caching
        self.asked = asked
        self.outer = outer
        self.facts = outer.facts
        self.forward = forward
        self.shared = shared
        self.stale = stale
        self.born = cache.purges.clock
        self.requested = cache.wall()
        self.stored: Stored | None = None
        self.complete = False
        self.head: ResponseHead | None = None
        self.after = after
        self._settled = False  # what came in was committed, or abandoned
        self._timer: Timer | None = None
        if first is not None:
            first.join(self)

    # what the cache calls

    def begin(self) -> None:
        """Ask the origin; there may be an answer when this returns."""
        self._cache.began(self)
        inner = self._inner = InnerExchange(self._cache.context, self, self, self.outer, self.forward)
        inner.facts = self.outer.facts.apart()
        accept, seen = self.asked.accept, self.outer.head
        if accept is not None and seen is not None:
            # what is kept has its coding already
            inner.compress = self.outer.compress
            inner.head = copied(seen, fields=asking_for(seen.fields, accept), common=False)
        if self.first is None:
            self._watch()
        inner.proceed()

    def takes(self, asked: Asked) -> bool:
        """Whether a request may wait for its answer, as far as that is known."""
        if not self.shared or self._over or self._is_void():
            return False
        stored = self.stored
        return stored is None or selected_by(asked.question, stored)

    def add(self, reader: Reader) -> None:
        """One more waits for it."""
        reader.join(self)
        self._readers.append(reader)
        if self.stored is not None:
            begin_for(self, reader)

    def left(self, reader: Reader) -> None:
        """One has what it wanted, or wants nothing any more."""
        if reader in self._readers:
            self._readers.remove(reader)
            if reader is self.first:
                self.first = None
            if not self._over and not self._readers:
                self._alone()
            elif self._over and not self._readers:
                self._settle(keep=False)
            else:
                self.moved()

    def stop(self) -> None:
        """End it now."""
        if not self._over:
            self._finish(part=True)
            for reader in list(self._readers):
                reader.fail("agent-lost", None, None)

    def _lost_store(self) -> None:
        self._cache.closed(self)

    # its end without anybody

    def _alone(self) -> None:
        """Nobody waits: let it end by itself where that is soon."""
        stored = self.stored
        if stored is not None and self._coming.stores and stored.length is not None:
            left = stored.length - stored.first - self._coming.total
            if left <= LITTLE:
                self._watch()
                return
        self._finish(part=True)

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._cache.context.timers.start(ABANDONED, self._give_up)

    def _give_up(self) -> None:
        if not self._readers and not self._over:
            self._finish(part=True)

    def _finish(self, *, part: bool, end: bool = True) -> None:
        """Nothing more comes, or is of use.

        :param part: keep what came
        :param end: end the request, too; else what still comes of it is read and thrown away
        """
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._leave_slow()
        self._cache.ended(self)
        inner = self._inner
        if end and inner is not None and inner.state is not State.DONE:
            inner.visitor_gone()
        if not self.complete:
            self._settle(keep=part)

    def _settle(self, *, keep: bool) -> None:
        """What came in stays, or goes."""
        keeping = self._coming.keeping
        if keeping is None or self._settled:
            return
        self._settled = True
        if not keep or not self._coming.stores or self._is_void():
            keeping.abandon()
        elif self.complete:
            keeping.commit()
        else:
            keeping.commit_part()

    def _is_void(self) -> bool:
        place = self.asked.place
        stored = self.stored
        if stored is None:
            # its tags are not known yet: whatever was purged might be it
            return self.born != self._cache.purges.clock or self._cache.voided(place, self.requested)
        return self._cache.is_void(place, stored)

    # Asker

    def failed(self, error: NextFailed) -> None:
        """See Asker."""
        if self._over:
            return
        self._note()
        self._cache.unstorable.add(self.asked.group)
        self._finish(part=False)
        for reader in list(self._readers):
            if not self._caching.give_stale(reader, error.reason):
                reader.fail(error.reason, error.status, error.message)

    # IVisitor

    def hears(self, head: ResponseHead) -> bool:
        """See IVisitor."""
        return True

    def send(self, event: Event) -> None:
        """See IVisitor."""
        if self._over:
            return
        if type(event) is Body:
            self._more(event.data)
        elif type(event) is ResponseHead:
            self._begun(event, None)
        elif type(event) is End:
            self._trailers = event.trailers
            self._whole()
        elif type(event) is InformationalHead and self.first is not None:
            self.first.exchange.on_informational(event)

    def answer(self, head: ResponseHead, body: bytes) -> bool:
        """See IVisitor."""
        if self._over:
            return True
        if self.after is not None:
            # the rest of something: who waits reads what was kept before it, too
            for event in (head, Body(body), End()) if body else (head, End()):
                self.send(event)
            self.flush()
            return True
        if not self._begun(head, body):
            return True
        if not self._coming.stores:
            if body:
                self._more(body)
            self._whole()
            return True
        self._coming.add(body)
        self.complete = True
        self._settle(keep=True)
        self._finish(part=False)
        readers, self._readers = self._readers, []
        for reader in readers:
            reader.guarded(give_whole, self, reader, body)
        return True

    def consumed(self, n: int) -> None:
        """See IVisitor: there is no request's body."""

    def exchange_done(self) -> None:
        """See IVisitor."""

    def hand_over(self, protocol: IProtocol) -> None:
        """See IVisitor."""
        raise AssertionError("a fetch has no connection")

    def truncate(self, code: int | None = None) -> None:
        """See IVisitor: the origin left midway."""
        if self._over:
            return
        inner = self._inner
        assert inner is not None
        reason = inner.reason
        self._finish(part=True)
        for reader in list(self._readers):
            reader.fail(reason, None, None, code)

    # the answer's head

    def _begun(self, head: ResponseHead, body: bytes | None) -> bool:
        """Decide what becomes of the answer; whether its octets are of use to anybody.

        :param body: all of it, where it is there already
        """
        cache, caching = self._cache, self._caching
        self.head = head
        self._note()
        if head.status == 304 and self.stale:
            readers, self._readers = self._readers, []
            self._finish(part=False, end=False)
            caching.confirm(self, head, readers)
            return False
        if (caching.failing(head) and self._is_over_by(head)) or (self.after is not None and not self._goes_on(head)):
            return False
        if self.asked.question.head:
            caching.hear(self.outer, head)
        policy, received = caching.settings.policy, cache.wall()
        verdict = storable(self.asked.question, head, policy, self.requested, received, self.born)
        if isinstance(verdict, Refusal):
            return self._refused(verdict, head)
        cache.unstorable.discard(self.asked.group)
        if body is not None and verdict.length is None:
            verdict = replace(verdict, length=verdict.first + len(body))
        expected = head.length if head.framing is Framing.LENGTH else 0 if head.framing is Framing.NONE else None
        if body is not None:
            expected = len(body)
        keeping = cache.store.begin(self.asked.key, verdict, expected, self.after)
        if keeping is None:
            return self._refused(Refusal("size"), head)
        self._coming = Coming(keeping, cache.store.largest)
        self.stored = verdict if self.after is None else replace(verdict, first=self.after.stored.first)
        for reader in list(self._readers):
            if reader is not self.first and not selected_by(reader.asked.question, verdict):
                self._readers.remove(reader)
                reader.guarded(reader.again)
            elif body is None:
                reader.guarded(begin_for, self, reader)
        return True

    def _note(self) -> None:
        """What the log says of where the request went."""
        inner, first = self._inner, self.first
        if inner is not None and first is not None:
            exchange = first.exchange
            exchange.upstream = inner.upstream or exchange.upstream
            exchange.attempts += inner.attempts

    def _is_over_by(self, head: ResponseHead) -> bool:
        """The origin fails: who may have what is stale gets it; whether there is nobody left."""
        for reader in list(self._readers):
            if reader.stale is not None:
                self._readers.remove(reader)
                if not self._caching.give_stale(reader, "", head.status):
                    self._readers.append(reader)
                elif reader is self.first:
                    self.first = None  # it has an answer, and this one is none of its
        if self._readers:
            return False
        self._cache.unstorable.add(self.asked.group)
        self._finish(part=False, end=head.length is None or head.length > TAIL)
        return True

    def _goes_on(self, head: ResponseHead) -> bool:
        """Whether there is something to keep: the rest of the span that was asked for, or a whole answer."""
        after = self.after
        assert after is not None
        if continues(after.stored, after.size, head.status, head.fields):
            return True
        self.after = None
        if head.status not in (206, 416):
            return True
        self._cache.store.remove(after)
        readers, self._readers = self._readers, []
        self._finish(part=False)
        self._caching.ask_plainly(self, readers)
        return False

    def _refused(self, refusal: Refusal, head: ResponseHead) -> bool:
        """It is the first one's alone; nobody's, where it is the rest of what is kept, for nobody asked for that."""
        if self.shared:
            self._cache.unstorable.add(self.asked.group)
        self._cache.closed(self)
        self.shared = False
        first = self.first if self.after is None else None
        others = [reader for reader in self._readers if reader is not first]
        self._readers = [] if first is None else [first]
        if first is None:
            self._finish(part=False)
        else:
            first.refused(head, "" if self.asked.question.head else refusal.reason)
        for reader in others:
            reader.guarded(reader.alone, refusal.reason)
        return first is not None

    # its end

    def _whole(self) -> None:
        self.complete = True
        if not self._readers or (self._coming.stores and not self._is_void()):
            # what is void may still be read by those who asked before it was
            self._settle(keep=True)
        self._finish(part=False)
