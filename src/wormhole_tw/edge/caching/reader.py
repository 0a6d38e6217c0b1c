"""One visitor's request at the cache: to its exchange it is what an upstream's connection is.

It waits for what is looked up or fetched, and hands its octets on at the visitor's own pace: out of a store, or of a
fetch that runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.interfaces import IKept, IUpstreamRequest
from wormhole_tw.errors import CacheFault
from wormhole_tw.http.caching import cache_status
from wormhole_tw.http.events import Body, End, Event, RequestHead

if TYPE_CHECKING:
    from wormhole_tw.edge.caching.asking import Asked
    from wormhole_tw.edge.caching.caching import Caching
    from wormhole_tw.edge.caching.fetch import Fetch
    from wormhole_tw.edge.caching.hearing import Hearing
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.interfaces import IAnswerHandler
    from wormhole_tw.http.caching import Answer, Forwarded
    from wormhole_tw.http.events import Fields, ResponseHead

__all__ = ["PIECE", "WHOLE", "Reader"]

log = Logger()

_T = TypeVar("_T")

PIECE = 64 * 1024
"""Octets of a body that are read and handed over at a time."""

WHOLE = 64 * 1024
"""Octets of a body in memory that are handed over with its head, all at once."""

TURN = 2 * PIECE
"""Octets for one visitor in one turn of the reactor: who takes as much as there is must not keep others waiting."""


@implementer(IUpstreamRequest)
class Reader:
    """See the module.

    :ivar exchange: the visitor's
    :ivar why: why its request went on to the origin, where it did
    :ivar stale: what was selected for it and needs the origin's word; None for nothing
    :ivar collapsed: it waits, or waited, for what another asked for
    :ivar over: nothing more is to be done for it
    :ivar position: octets of the body before which all is handed over, counted as its source does
    """

    reused = False
    writable = True

    __slots__ = (
        "_end",
        "_fetch",
        "_given",
        "_kept",
        "_pumping",
        "_unacked",
        "_waiting",
        "asked",
        "caching",
        "collapsed",
        "exchange",
        "over",
        "position",
        "stale",
        "why",
    )

    def __init__(self, caching: Caching, exchange: Exchange, asked: Asked) -> None:
        self.caching = caching
        self.exchange = exchange
        self.asked = asked
        self.why: Forwarded | None = None
        self.stale: IKept | None = None
        self.collapsed = False
        self.over = False
        self.position = 0
        self._end: int | None = None
        self._fetch: Fetch | None = None
        self._kept: IKept | None = None
        self._waiting: Deferred[Any] | None = None
        self._pumping = False
        self._given = 0  # octets in this turn
        self._unacked = 0  # octets that the visitor has not taken

    # IUpstreamRequest

    def request(
        self, head: RequestHead, handler: IAnswerHandler, *, whole: bool = False, request_id: bytes = b""
    ) -> None:
        """See the interface: what takes requests is the cache."""

    def send(self, event: Event) -> None:
        """See the interface: there is no body."""

    def flush(self) -> None:
        """See the interface: there is nothing to send."""

    def expect_answer(self) -> None:
        """See the interface: the origin's time is the fetch's."""

    def consumed(self, n: int) -> None:
        """See the interface."""
        self._unacked -= n
        if not self._pumping and not self.over and not self._unacked:
            # the visitor has room again
            self.poke()

    def cancel(self) -> None:
        """See the interface."""
        self._close()

    def finish(self) -> None:
        """See the interface: nothing is switched here."""
        self._close()

    # the steps of the walk

    def await_found(self, looking: Deferred[tuple[IKept, ...]]) -> None:
        """The store has to look on its disk."""
        self._wait(looking, self._found)

    def _found(self, found: tuple[IKept, ...]) -> None:
        self.caching.seek(self, found)
        self.exchange.on_turn_end()

    def join(self, fetch: Fetch) -> None:
        """What it waits for."""
        self._fetch = fetch

    def alone(self, detail: str) -> None:
        """The cache can do nothing for it: it goes on by itself, as it came."""
        self._detach()
        self.over = True
        self.say("miss", self._status(detail=detail))
        self.exchange.go_alone()

    def pass_on(self, hearing: Hearing) -> None:
        """The same, and the cache hears of its answer: which may come of nothing that stands in no key."""
        self.exchange.caching = hearing
        self.exchange.forward = self.asked.head
        self._detach()
        self.over = True
        self.say("miss", self._status())
        self.exchange.go_alone()

    def again(self) -> None:
        """What it waited for is not for it: look anew."""
        self._detach()
        self.collapsed = False
        self.caching.look_up(self)

    def fail(self, reason: str, status: int | None, message: str | None, code: int | None = None) -> None:
        """There is no answer, or no end of it."""
        if self.over:
            return
        self._close()
        exchange = self.exchange
        if not exchange.status:
            self.say("miss", self._status(detail=reason))
        exchange.give_up(reason, status=status, message=message, code=code)
        exchange.flush()

    def crash(self, failure: Failure) -> None:
        """A bug, which is this request's alone."""
        log.failure("an exchange failed at the cache", failure)
        self._close()
        self.exchange.crashed()

    def say(self, word: str, line: bytes) -> None:
        """What the cache had to do with it, for the log, the counters and the visitor."""
        outer = self.exchange.outer
        outer.cache = word
        outer.besides = (*outer.besides, (b"Cache-Status", line))
        self.caching.cache.counters.count(word)

    def _status(self, *, kept: bool = False, status: int | None = None, detail: str = "") -> bytes:
        policy = self.caching.settings.policy
        return cache_status(
            policy.name, forwarded=self.why, status=status, kept=kept, collapsed=self.collapsed, detail=detail
        )

    # answers out of a store

    def give_kept(self, kept: IKept, answer: Answer, word: str, line: bytes) -> None:
        """Answer with what is kept.

        :param line: for ``Cache-Status``
        """
        self._detach()
        size = answer.end - answer.start
        exchange = self.exchange
        if not size:
            self.over = True
            self.say(word, line)
            exchange.on_answer(answer.head, b"")
        elif kept.body is not None and size <= WHOLE:
            self.over = True
            self.say(word, line)
            exchange.on_answer(answer.head, kept.body[answer.start : answer.end])
        else:
            self._kept = kept
            self.position, self._end = answer.start, answer.end

            def begin(piece: bytes) -> None:
                self.say(word, line)
                exchange.on_head(answer.head)
                self._read(piece)

            if kept.body is not None:
                begin(kept.body[answer.start : answer.start + PIECE])
            else:
                # nothing is said before it is seen that there is something to say
                self._wait(kept.read(answer.start, min(PIECE, size)), begin)

    # answers of a fetch that runs

    @property
    def line(self) -> bytes:
        """What ``Cache-Status`` says of an answer of the origin's that is kept."""
        return self._status(kept=True)

    def refused(self, head: ResponseHead, detail: str) -> None:
        """The answer cannot be stored, and is this visitor's."""
        self.say("miss", self._status(detail=detail))
        self.begin(head, 0, None)

    def give_whole(self, head: ResponseHead, body: bytes) -> None:
        """The answer is there, with all of its body."""
        self.over = True
        self._fetch = None
        self.exchange.on_answer(head, body)

    def begin(self, head: ResponseHead, start: int, end: int | None) -> None:
        """The head is there; the octets follow as the fetch has them.

        :param end: None for as many as come
        """
        self.position, self._end = start, end
        self.exchange.on_head(head)
        self.pump()

    def end(self, trailers: Fields) -> None:
        """All octets are handed over."""
        self._close()
        exchange = self.exchange
        exchange.on_end(End(trailers))
        exchange.on_turn_end()

    # octets

    def pump(self) -> None:
        """Hand on what is there and the visitor takes."""
        if self._pumping or self.over or self._waiting is not None:
            return
        self._pumping = True
        try:
            self._hand_on()
        finally:
            self._pumping = False

    def _hand_on(self) -> None:
        exchange = self.exchange
        while not self.over and not self._unacked and self._waiting is None:
            if self._end is not None and self.position >= self._end:
                self.end([] if self._fetch is None else self._fetch.trailers_for(self))
                return
            if self._given >= TURN:
                exchange.on_turn_end()
                self.caching.cache.turn.call(self._next_turn)
                return
            most = PIECE if self._end is None else min(PIECE, self._end - self.position)
            piece: bytes | Deferred[bytes] | None
            if self._fetch is not None:
                piece = self._fetch.piece(self.position, most)
                if piece is None:
                    if self._fetch.complete:
                        self._at_its_end(self._fetch)
                    return
            else:
                kept = self._kept
                assert kept is not None
                body = kept.body
                piece = kept.read(self.position, most) if body is None else body[self.position : self.position + most]
            if isinstance(piece, Deferred):
                self._wait(piece, self._read)
            else:
                self._give(piece)

    def _at_its_end(self, fetch: Fetch) -> None:
        if self._end is None:
            self.end(fetch.trailers_for(self))
        else:
            self.fail("cache-fault", None, None)  # there was less than its head says

    def _next_turn(self) -> None:
        self._given = 0
        self.guarded(self.pump)
        if not self.over:
            self.exchange.on_turn_end()

    def _give(self, piece: bytes) -> None:
        size = len(piece)
        self.position += size
        self._given += size
        self._unacked += size
        if self._fetch is not None:
            self._fetch.moved()
        self.exchange.on_body(Body(piece))

    def _read(self, piece: bytes) -> None:
        if not piece:
            raise CacheFault("what is kept ended before its end")
        pumping, self._pumping = self._pumping, True
        try:
            self._give(piece)
        finally:
            self._pumping = pumping
        if not pumping:
            self._given = 0
            self.pump()
            if not self.over:
                self.exchange.on_turn_end()

    # within

    def guarded(self, step: Callable[..., object], *arguments: object) -> None:
        """Do something for this visitor whose failing is no other's."""
        try:
            step(*arguments)
        except Exception:  # noqa: BLE001 - one visitor's bug, and not the others' who read the same
            self.crash(Failure())

    def poke(self) -> None:
        """There is more, or room for more."""
        self._given = 0
        self.guarded(self.pump)
        if not self.over:
            self.exchange.on_turn_end()

    def _wait(self, waiting: Deferred[_T], then: Callable[[_T], object]) -> None:
        self._waiting = waiting

        def told(result: _T) -> None:
            self._waiting = None
            if not self.over:
                then(result)

        waiting.addCallback(told)
        waiting.addErrback(self._unread)

    def _unread(self, failure: Failure) -> None:
        self._waiting = None
        if self.over or failure.check(CancelledError):
            return
        if not failure.check(CacheFault):
            self.crash(failure)
        elif self.exchange.status:
            self.fail("cache-fault", None, None)
        else:
            # nothing was said yet: as if nothing had been there
            self._kept = self.stale = None
            self.guarded(self.again)

    def _detach(self) -> None:
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.left(self)

    def _close(self) -> None:
        self.over = True
        self._kept = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        self._detach()
