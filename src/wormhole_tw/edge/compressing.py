"""Content codings for answers on their way: between an exchange and its upstream connection.

To the exchange it is its upstream request, to the connection its answer's handler.  What one read brings is coded as
one piece, and flushed at its end, so that an event or a line of a log is with the visitor as soon as it was before.
Large pieces are coded in threads, one of a body at a time; whatever comes meanwhile waits behind it, unacknowledged, so
that the service is held back as by a visitor who does not read.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.interfaces import IAnswerHandler, IUpstreamRequest
from wormhole_tw.http.coding import Encoder, Wanted, coded_head, coded_trailers, encoded, encoder, wanted_coding
from wormhole_tw.http.events import Body, End, Framing
from wormhole_tw.net.threads import Workers

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.http.coding import CodingRules
    from wormhole_tw.http.events import Event, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead
    from wormhole_tw.net.threads import Job
    from wormhole_tw.net.timers import TimerWheel

__all__ = ["INLINE", "MOST", "OWN_MOST", "Compressing", "Compressors", "own_answer"]

log = Logger()

INLINE = 16 * 1024
"""Octets that are coded in the reactor's own thread: of a body that is said to be longer, nothing; of one that does not
say, so much at once and so much a second.  16 KB of text take 0.10 ms (zstd), 0.33 ms (br) or 0.36 ms (gzip).  The way
to a thread and back is 0.04 ms, half of it the reactor's; but while the reactor is busy it gives Python's lock away
every 5 ms alone, twice on that way: smaller answers would wait for longer than others are held up.  And a stream of
events, however long, is not sent round by threads."""

MOST = 256
"""Bodies that are coded at a time, piece after piece: an encoder holds up to 0.2 MB (gzip), 0.5 MB (zstd) or 0.9 MB
(br), all of them 230 MB.  More answers than that at once go as they are."""

THREADS = 4
"""Encoders let go of Python's lock while they work: as many cores can be busy, and one is the reactor's."""

OWN_MOST = 64 * 1024
"""Octets of an answer of the edge's own that is coded: once, and kept."""

_NO_BODY = Framing.NONE
_NOTHING = Wanted(b"", False)


class Compressors:
    """What the bodies of an edge share.

    :param workers: threads; None where all is done in the reactor's
    :ivar running: bodies that are coded just now, a piece after the other
    """

    __slots__ = ("running", "timers", "workers")

    def __init__(self, timers: TimerWheel, workers: Workers | None = None) -> None:
        self.timers = timers
        self.workers = workers
        self.running = 0

    @classmethod
    def of(cls, reactor: Any, timers: TimerWheel) -> Compressors:
        """With threads of their own."""
        return cls(timers, Workers(IReactorFromThreads(reactor), THREADS))

    def close(self) -> None:
        """No answer is wanted any more."""
        if self.workers is not None:
            self.workers.close()


@implementer(IUpstreamRequest, IAnswerHandler)
class Compressing:
    """One answer.

    :param rules: what its route says
    :ivar coding: what its body gets; empty while that is not known, and for nothing
    """

    __slots__ = (
        "_allowance",
        "_connection",
        "_encoder",
        "_ended",
        "_exchange",
        "_failed",
        "_finished",
        "_flush",
        "_given",
        "_handler",
        "_job",
        "_live",
        "_method",
        "_refilled",
        "_request",
        "_rules",
        "_shared",
        "_taken",
        "_waiting",
        "_waiting_size",
        "_wanted",
        "coding",
    )

    def __init__(self, exchange: Exchange, connection: IUpstreamRequest, rules: CodingRules) -> None:
        self._exchange = exchange
        self._connection = connection
        self._rules = rules
        self._shared: Compressors = exchange._context.compressors
        self._handler: IAnswerHandler = exchange
        self._request: RequestHead | None = None
        self._method = b""
        self._wanted = _NOTHING
        self._live = True  # the connection is this one's
        self._encoder: Encoder | None = None
        self._waiting: list[bytes] = []  # what is not coded yet
        self._waiting_size = 0
        self._taken = 0  # octets that are coded, and not acknowledged
        self._given = 0  # octets that came of them, which the exchange has not done with
        self._flush = False  # what the encoder has is to leave
        self._ended: End | None = None
        self._finished = False  # the encoder has been told of that
        self._failed: tuple[Exception, bool] | None = None
        self._job: Job | None = None
        self._allowance = INLINE
        self._refilled = 0.0
        self.coding = b""

    # IUpstreamRequest

    @property
    def reused(self) -> bool:
        """See the interface."""
        return self._connection.reused

    @property
    def writable(self) -> bool:
        """See the interface."""
        return self._connection.writable

    def request(
        self, head: RequestHead, handler: IAnswerHandler, *, whole: bool = False, request_id: bytes = b""
    ) -> None:
        """See the interface."""
        asked = self._exchange.head or head
        self._handler = handler
        self._request = head
        self._method = head.method
        # the visitor's own word: what the service is told of codings may have been changed
        self._wanted = wanted_coding(asked, self._rules)
        self._connection.request(head, self, whole=whole, request_id=request_id)

    def send(self, event: Event) -> None:
        """See the interface."""
        self._connection.send(event)

    def flush(self) -> None:
        """See the interface."""
        if self._live:
            self._connection.flush()

    def expect_answer(self) -> None:
        """See the interface."""
        self._connection.expect_answer()

    def consumed(self, n: int) -> None:
        """See the interface: octets as the exchange has them, which are others than the connection's."""
        if self._encoder is None and not self._given:
            if self._live:
                self._connection.consumed(n)
            return
        self._given -= n
        if not self._given:
            self._acknowledge()

    def cancel(self) -> None:
        """See the interface."""
        self._stop()
        if self._live:
            self._live = False
            self._connection.cancel()

    def finish(self) -> None:
        """See the interface."""
        self._stop()
        if self._live:
            self._live = False
            self._connection.finish()

    def run_by(self, connection: IUpstreamRequest) -> None:
        """Of two upstreams that were asked, this one answers."""
        self._connection = connection

    # IAnswerHandler

    @property
    def limits(self) -> Limits:
        """See IAnswerHandler."""
        return self._handler.limits

    def on_informational(self, head: InformationalHead) -> None:
        """See IAnswerHandler."""
        self._handler.on_informational(head)

    def on_head(self, head: ResponseHead) -> None:
        """See IAnswerHandler."""
        length = head.length
        head, given = self._judged(head, room=self._shared.running < MOST)
        if given and head.framing is not _NO_BODY and self._method != b"HEAD":
            self._encoder = encoder(self.coding)
            self._shared.running += 1
            self._refilled = self._shared.timers.seconds()
            if length is not None and length > INLINE:
                self._allowance = -1
        self._handler.on_head(head)

    def on_body(self, event: Body) -> None:
        """See IAnswerHandler."""
        if self._encoder is None:
            self._handler.on_body(event)
            return
        self._waiting.append(event.data)
        self._waiting_size += len(event.data)

    def on_end(self, event: End) -> None:
        """See IAnswerHandler."""
        self._live = False
        if self._encoder is None:
            self._handler.on_end(event)
            return
        self._ended = End(coded_trailers(event.trailers)) if event.trailers else event
        self._go_on()

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """See IAnswerHandler."""
        self._live = False
        head, given = self._judged(head, room=True)
        if not given or not body:
            self._handler.on_answer(head, body)
            return
        workers = self._shared.workers
        if workers is None or len(body) <= INLINE:
            self._answer(head, encoded(self.coding, body))
        else:
            self._job = workers.run(partial(encoded, self.coding, body), partial(self._answered, head))

    def on_raw(self, event: Raw) -> None:
        """See IAnswerHandler."""
        self._handler.on_raw(event)

    def on_raw_end(self, event: RawEnd) -> None:
        """See IAnswerHandler."""
        self._handler.on_raw_end(event)

    def on_failure(self, error: Exception, begun: bool) -> None:
        """See IAnswerHandler: what came before it still goes out."""
        self._live = False
        if self._encoder is None:
            self._handler.on_failure(error, begun)
            return
        self._flush = True
        self._failed = (error, begun)
        self._go_on()

    def on_pause(self) -> None:
        """See IAnswerHandler."""
        self._handler.on_pause()

    def on_resume(self) -> None:
        """See IAnswerHandler."""
        self._handler.on_resume()

    def on_turn_end(self) -> None:
        """See IAnswerHandler: nothing of what came stays here."""
        if self._encoder is not None:
            self._flush = self._flush or bool(self._waiting)
            self._go_on()
        self._handler.on_turn_end()

    def crashed(self) -> None:
        """See IAnswerHandler."""
        self._handler.crashed()

    # within

    def _judged(self, head: ResponseHead, *, room: bool) -> tuple[ResponseHead, bool]:
        assert self._request is not None
        wanted = self._wanted if room else _NOTHING
        head, given = coded_head(head, self._request, wanted, self._rules)
        if given:
            self.coding = wanted.coding
        return head, given

    def _go_on(self) -> None:
        """Code what waits, unless some of it is being coded."""
        inner = self._encoder
        if inner is None or self._job is not None:
            return
        size, ended, flush = self._waiting_size, self._ended is not None, self._flush
        if not self._finished and (size or ended or flush):
            pieces, self._waiting, self._waiting_size, self._flush = self._waiting, [], 0, False
            self._finished = ended
            workers = self._shared.workers
            if workers is not None and not self._affords(size):
                self._job = workers.run(partial(_code, inner, pieces, flush, ended), partial(self._coded, size))
                return
            self._give(size, _code(inner, pieces, flush, ended))
        self._look_for_end()

    def _affords(self, size: int) -> bool:
        """Whether so many octets may be coded in the reactor's thread."""
        left = self._allowance
        if left < 0:
            return False
        if size > left:
            now = self._shared.timers.seconds()
            left = min(INLINE, left + int((now - self._refilled) * INLINE))
            self._refilled = now
            if size > left:
                self._allowance = left
                return False
        self._allowance = left - size
        return True

    def _coded(self, size: int, result: bytes | Failure) -> None:
        """A thread is done."""
        self._job = None
        handler = self._handler
        try:
            if isinstance(result, Failure):
                result.raiseException()
            self._give(size, result)
            self._look_for_end()
            self._go_on()
        except Exception:  # noqa: BLE001 - one exchange fails, others go on
            log.failure("an answer could not be given its content coding")
            self._stop()
            handler.crashed()
        handler.on_turn_end()

    def _give(self, size: int, data: bytes) -> None:
        self._taken += size
        if data:
            self._given += len(data)
            self._handler.on_body(Body(data))
        if not self._given:
            self._acknowledge()

    def _acknowledge(self) -> None:
        taken, self._taken = self._taken, 0
        if taken and self._live:
            self._connection.consumed(taken)

    def _look_for_end(self) -> None:
        """The body is with the exchange; its end, or its failure, follows."""
        if self._waiting or self._flush or self._job is not None or self._encoder is None:
            return
        ended, failed = self._ended, self._failed
        if ended is not None:
            if self._finished:
                self._stop()
                self._handler.on_end(ended)
        elif failed is not None:
            self._stop()
            self._handler.on_failure(*failed)

    def _answer(self, head: ResponseHead, body: bytes) -> None:
        head.framing, head.length = Framing.LENGTH, len(body)
        self._handler.on_answer(head, body)

    def _answered(self, head: ResponseHead, result: bytes | Failure) -> None:
        self._job = None
        handler = self._handler
        try:
            if isinstance(result, Failure):
                result.raiseException()
            self._answer(head, result)
        except Exception:  # noqa: BLE001 - one exchange fails, others go on
            log.failure("an answer could not be given its content coding")
            handler.crashed()

    def _stop(self) -> None:
        """Nothing is coded any more."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
        self._waiting, self._waiting_size = [], 0
        if self._encoder is not None:
            self._encoder = None
            self._shared.running -= 1


def _code(inner: Encoder, pieces: list[bytes], flush: bool, ended: bool) -> bytes:
    data = b"".join(pieces) if len(pieces) != 1 else pieces[0]
    out = inner.encode(data) if data else b""
    if ended:
        return out + inner.finish()
    return out + inner.flush() if flush else out


def own_answer(rules: CodingRules, asked: RequestHead, head: ResponseHead, body: bytes) -> tuple[ResponseHead, bytes]:
    """An answer of the edge's own, in a coding where its visitor takes one."""
    if not body or len(body) > OWN_MOST:
        return head, body
    wanted = wanted_coding(asked, rules)
    told, given = coded_head(head, asked, wanted, rules)
    if given:
        body = _kept(wanted.coding, body)
        told.framing, told.length = Framing.LENGTH, len(body)
    return told, body


_kept = lru_cache(maxsize=64)(encoded)
"""Pages and answers of the configuration, which are few; 4 MB at most."""
