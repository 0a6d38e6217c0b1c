"""One request to the origin for everybody who waits for its answer, and the answer on its way into the store.

The service's part is an exchange of its own (:class:`~wormhole_tw.edge.inner.InnerExchange`), whose visitor is the
fetch, so that balancing, retries and health are as for any request.  The answer is read as fast as the store takes it;
those who wait read what has come, each at its own pace: the last of it here, what is older from the store.  An answer
that cannot be stored is the first one's alone, at that one's pace; the others go on by themselves.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.inner import InnerExchange
from wormhole_tw.edge.interfaces import IKeeping, IKept, IVisitor
from wormhole_tw.edge.states import State
from wormhole_tw.errors import NextFailed
from wormhole_tw.http.caching import Refusal, Stored, continues, selected_by, serve, storable, told, wanted
from wormhole_tw.http.events import Body, End, Event, Framing, InformationalHead, RequestHead, ResponseHead
from wormhole_tw.structs import replace

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

    from wormhole_tw.edge.caching.asking import Asked
    from wormhole_tw.edge.caching.caching import Caching
    from wormhole_tw.edge.caching.reader import Reader
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.http.events import Fields
    from wormhole_tw.net.timers import Timer

__all__ = ["BEHIND", "LITTLE", "TAIL", "Fetch"]

log = Logger()

TAIL = 256 * 1024
"""Octets of an answer that are held here: what the fastest wait for; and where nothing is stored, all that is ahead of
the slowest."""

BEHIND = 1024 * 1024
"""Octets that may wait for the disk before no more is read from the origin."""

LITTLE = 1024 * 1024
"""Octets of an answer that are still to come for which a fetch goes on though nobody waits any more."""

ABANDONED = 60.0
"""Seconds that a fetch may take when nobody waits for it."""


@implementer(IVisitor)
class Fetch:
    """See the module.

    :ivar facts: see IVisitor
    :ivar outer: the exchange that it began for, whose facts it has
    :ivar asked: the request that it began for
    :ivar forward: what is sent to the origin
    :ivar born: the purge clock when it began
    :ivar requested: epoch seconds when it began
    :ivar first: the reader that it began for, whose answer it is where it cannot be stored; None where that has left
    :ivar shared: others may wait for it, too
    :ivar stored: the record of its answer, once that has begun and is stored
    :ivar complete: all has come
    """

    hands_over = False

    __slots__ = (
        "_after",
        "_cache",
        "_caching",
        "_catching_up",
        "_head",
        "_held_up",
        "_inner",
        "_keeping",
        "_outgrown",
        "_over",
        "_readers",
        "_settled",
        "_size",
        "_tail",
        "_tail_start",
        "_timer",
        "_total",
        "_trailers",
        "asked",
        "born",
        "complete",
        "facts",
        "first",
        "forward",
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
        self._caching = caching
        self._cache = cache
        self.asked = asked
        self.outer = outer
        self.facts = outer.facts
        self.forward = forward
        self.first = first
        self.shared = shared
        self.stale = stale
        self.born = cache.purges.clock
        self.requested = cache.wall()
        self.stored: Stored | None = None
        self.complete = False
        self._inner: InnerExchange | None = None
        self._readers: list[Reader] = [] if first is None else [first]
        self._head: ResponseHead | None = None
        self._after = after
        self._keeping: IKeeping | None = None
        self._outgrown = False  # no more of it is kept
        self._total = 0  # octets before which all has come
        self._tail: deque[bytes] = deque()
        self._tail_start = 0
        self._size = 0  # of the tail
        self._held_up = False  # the origin has to wait for us
        self._catching_up = False
        self._trailers: Fields = []
        self._over = False
        self._settled = False  # what came in was committed, or abandoned
        self._timer: Timer | None = None
        if first is not None:
            first.join(self)

    # what the cache calls

    def begin(self) -> None:
        """Ask the origin; there may be an answer when this returns."""
        self._cache.began(self)
        inner = self._inner = InnerExchange(self._cache.context, self, self, self.outer, self.forward)
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
            self._begin_for(reader)

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

    # its end without anybody

    def _alone(self) -> None:
        """Nobody waits: let it end by itself where that is soon."""
        stored = self.stored
        if stored is not None and self._keeping is not None and not self._outgrown and stored.length is not None:
            left = stored.length - stored.first - self._total
            if left <= LITTLE:
                self._watch()
                return
        self._finish(part=True)

    def _watch(self) -> None:
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
        self._cache.ended(self)
        inner = self._inner
        if end and inner is not None and inner.state is not State.DONE:
            inner.visitor_gone()
        if not self.complete:
            self._settle(keep=part)

    def _settle(self, *, keep: bool) -> None:
        """What came in stays, or goes."""
        keeping = self._keeping
        if keeping is None or self._settled:
            return
        self._settled = True
        if not keep or self._outgrown or self._is_void():
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

    @property
    def writable(self) -> bool:
        """See IVisitor."""
        keeping = self._keeping
        if keeping is not None and not self._outgrown:
            room = keeping.behind < BEHIND
            if not room and not self._catching_up:
                self._catching_up = True
                keeping.caught_up().addCallback(self._caught_up)
        else:
            room = self._size < TAIL
        if not room:
            self._held_up = True
        return room

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

    def answer(self, head: ResponseHead, body: bytes) -> None:
        """See IVisitor."""
        if self._over:
            return
        self._begun(head, body)
        if self._over:
            return
        if self.stored is None:
            if body:
                self._more(body)
            self._whole()
            return
        self._total = len(body)
        keeping = self._keeping
        assert keeping is not None
        keeping.write(body)
        self.complete = True
        self._settle(keep=True)
        self._finish(part=False)
        readers, self._readers = self._readers, []
        for reader in readers:
            reader.guarded(lambda reader=reader: self._give_whole(reader, body))

    def flush(self) -> None:
        """See IVisitor."""
        for reader in list(self._readers):
            reader.poke()

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

    def _begun(self, head: ResponseHead, body: bytes | None) -> None:
        cache, caching = self._cache, self._caching
        self._head = head
        self._note()
        if head.status == 304 and self.stale:
            readers, self._readers = self._readers, []
            self._finish(part=False, end=False)
            caching.confirm(self, head, readers)
            return
        if caching.failing(head) and self._is_over_by(head):
            return
        if self._after is not None and not self._goes_on(head):
            return
        received = cache.wall()
        verdict = storable(self.asked.question, head, caching.settings.policy, self.requested, received, self.born)
        if isinstance(verdict, Refusal):
            self._refused(verdict, head)
            return
        cache.unstorable.discard(self.asked.group)
        if body is not None and verdict.length is None:
            verdict = replace(verdict, length=verdict.first + len(body))
        self.stored = verdict
        expected = len(body) if body is not None else head.length if head.framing is Framing.LENGTH else None
        if head.framing is Framing.NONE:
            expected = 0
        keeping = self._keeping = cache.store.begin(self.asked.key, verdict, expected, self._after)
        if keeping is not None and self._after is not None:
            self.stored = replace(verdict, first=self._after.stored.first)
            self._total = self._tail_start = keeping.size
        if keeping is None:
            self._refused(Refusal("size"), head)
            return
        for reader in list(self._readers):
            if reader is not self.first and not selected_by(reader.asked.question, verdict):
                self._readers.remove(reader)
                reader.again()
        if body is None:
            for reader in list(self._readers):
                reader.guarded(lambda reader=reader: self._begin_for(reader))

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
                if not self._caching.give_stale(reader, "status-%d" % head.status):
                    self._readers.append(reader)
        if self._readers:
            return False
        self._cache.unstorable.add(self.asked.group)
        self._finish(part=False, end=head.length is None or head.length > TAIL)
        return True

    def _goes_on(self, head: ResponseHead) -> bool:
        """Whether there is something to keep: the rest of the span that was asked for, or a whole answer."""
        after = self._after
        assert after is not None
        if continues(after.stored, after.size, head.status, head.fields):
            return True
        self._after = None
        if head.status not in (206, 416):
            return True
        self._cache.store.remove(after)
        readers, self._readers = self._readers, []
        self._finish(part=False)
        self._caching.ask_plainly(self, readers)
        return False

    def _refused(self, refusal: Refusal, head: ResponseHead) -> None:
        """It is the first one's alone."""
        self._cache.unstorable.add(self.asked.group)
        self._cache.closed(self)
        self.stored, self.shared = None, False
        first = self.first
        others = [reader for reader in self._readers if reader is not first]
        self._readers = [] if first is None else [first]
        if first is None:
            self._finish(part=False)
        else:
            first.refused(head, refusal.reason)
        for reader in others:
            reader.alone(refusal.reason)

    def _begin_for(self, reader: Reader) -> None:
        """Its answer has begun for one who waits."""
        stored = self.stored
        assert stored is not None
        question = reader.asked.question
        reader.say("collapsed" if reader.collapsed else "miss", reader.line)
        if (head := self._own_head(reader)) is not None:
            reader.begin(head, 0, None)
            return
        size = None if stored.length is None else stored.length - stored.first
        if size is None and wanted(question, stored) == (0, 0):
            size = 0
        answer = None if size is None else serve(question, stored, size, self._cache.wall())
        if answer is not None:
            reader.begin(answer.head, answer.start, answer.end)
        elif size is None:
            # nobody knows how long it will be: the whole, whatever part was asked for
            reader.begin(_head_of(stored), 0, None)
        else:
            reader.alone("partial")

    def _give_whole(self, reader: Reader, body: bytes) -> None:
        """Its answer is there, all of it."""
        stored = self.stored
        assert stored is not None
        reader.say("collapsed" if reader.collapsed else "miss", reader.line)
        if (head := self._own_head(reader)) is not None:
            reader.give_whole(head, body)
            return
        answer = serve(reader.asked.question, stored, len(body), self._cache.wall())
        if answer is None:
            reader.alone("partial")
        else:
            reader.give_whole(answer.head, body[answer.start : answer.end])

    def _own_head(self, reader: Reader) -> ResponseHead | None:
        """The head as it came, for the first one: there may be more in it than others get."""
        question = reader.asked.question
        head = self._head
        assert head is not None
        if reader is self.first and self._after is None and not question.head and (question.plain or not self.shared):
            return told(head, self._caching.settings.policy)
        return None

    # its octets

    def _more(self, data: bytes) -> None:
        keeping = self._keeping
        self._total += len(data)
        self._tail.append(data)
        self._size += len(data)
        if keeping is not None and not self._outgrown:
            if keeping.size + len(data) > self._cache.store.largest:
                # those who are behind still read from there what came before
                self._outgrown = True
                self._cache.closed(self)
            else:
                keeping.write(data)
                if keeping.lost:
                    self._lose()
        self._trim()

    def _lose(self) -> None:
        """The store has given it up: from now on those who wait have to keep up with one another."""
        self._keeping = None
        self._cache.closed(self)
        for reader in [reader for reader in self._readers if reader.position < self._tail_start]:
            reader.fail("cache-fault", None, None)

    def _trim(self) -> None:
        """Let go of what can be read elsewhere, or was read by all."""
        keeping, tail = self._keeping, self._tail
        if keeping is not None and not self._outgrown:
            while self._size > TAIL and len(tail) > 1:
                self._drop_oldest()
            return
        kept = 0 if keeping is None else keeping.size
        slowest = min([reader.position for reader in self._readers], default=self._total)
        while tail:
            end = self._tail_start + len(tail[0])
            if end > slowest and end > kept:
                break
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        size = len(self._tail.popleft())
        self._size -= size
        self._tail_start += size

    def piece(self, position: int, most: int) -> bytes | Deferred[bytes] | None:
        """At most so many octets from there on; None where they have not come yet."""
        if position >= self._total:
            return None
        start = self._tail_start
        if position >= start:
            for data in self._tail:
                end = start + len(data)
                if position < end:
                    return data if position == start and len(data) <= most else data[position - start :][:most]
                start = end
        keeping = self._keeping
        assert keeping is not None
        return keeping.read(position, min(most, self._total - position))

    def moved(self) -> None:
        """A reader has gone on, or left: there may be room for more."""
        if self._held_up and not self._over:
            self._trim()
            self._go_on()

    def _caught_up(self, _: None) -> None:
        self._catching_up = False
        if not self._over:
            self._go_on()

    def _go_on(self) -> None:
        if self._held_up and self.writable:
            self._held_up = False
            if self._inner is not None:
                self._inner.visitor_resumed()

    def trailers_for(self, reader: Reader) -> Fields:
        """What stands behind the body: for the first one alone, for nothing of it is stored."""
        return self._trailers if reader is self.first else []

    # its end

    def _whole(self) -> None:
        self.complete = True
        if not self._readers or not (self._outgrown or self._is_void()):
            # what is void may still be read by those who asked before it was
            self._settle(keep=True)
        self._finish(part=False)


def _head_of(stored: Stored) -> ResponseHead:
    """The head of an answer whose length nobody knows yet."""
    return ResponseHead(stored.status, stored.reason, list(stored.fields), framing=Framing.CHUNKED)
