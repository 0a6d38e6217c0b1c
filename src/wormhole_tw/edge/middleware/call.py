"""One middleware at work on one request."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from wormhole_tw.edge.answers import ANSWERS
from wormhole_tw.edge.middleware.entry import Meter, driven
from wormhole_tw.errors import HttpError, MisuseError, NextFailed
from wormhole_tw.middleware import Request, Response
from wormhole_tw.middleware.body import Body as ReadableBody
from wormhole_tw.middleware.body import Given, Pieces, Source, again
from wormhole_tw.middleware.body import Meter as AnyMeter

if TYPE_CHECKING:
    from wormhole_tw.edge.middleware.chain import Chain
    from wormhole_tw.edge.middleware.entry import Entry
    from wormhole_tw.net.timers import Timer

__all__ = ["MAX_CALLS", "Call", "failed"]

MAX_CALLS = 16
"""How often one middleware may call ``next`` for one request: each is a request to the service, and more is a loop."""

_LATE = ANSWERS["middleware-timeout"].message


def failed() -> NextFailed:
    """What others hear of a middleware that raised."""
    return NextFailed(500, "middleware-failed", ANSWERS["middleware-failed"].message)


class Call:
    """One middleware at work on one request."""

    __slots__ = ("_calls", "_chain", "_given", "_index", "_made", "_over", "_timer", "deferred", "entry", "meter")

    def __init__(self, chain: Chain, index: int) -> None:
        self._chain = chain
        self._index = index
        self._calls = 0
        self._over = False
        self._given = Given()
        self._made: list[Pieces] = []  # bodies that it makes
        self.entry: Entry = chain.stack[index]
        timers = chain.context.timers
        timeout = self.entry.settings.timeout
        self.meter: AnyMeter = Meter(timers.seconds, timeout)
        self.deferred: Deferred[Response] | None = None
        self._timer: Timer = timers.start(timeout, self._look)
        self.entry.enter()

    def begin(self, request: Request) -> Deferred[Response]:
        """Call it.

        :returns: fails with :class:`NextFailed`, or with what it was cancelled by
        """
        request = request.copy()
        request.body = ReadableBody(again(request.body._source), self.meter)
        self.meter.go()
        # what it is cancelled by is this one: what is added below is told of its end first
        running = self.deferred = Deferred.fromCoroutine(driven(self._run(request), self))
        return running.addBoth(self._ended)

    async def _run(self, request: Request) -> Response:
        response = await self.entry.object(request, self.next)
        if not isinstance(response, Response):
            raise TypeError(f"it returned {type(response).__name__} and no Response")
        if response.status == 101 and not self._chain.switched(response):
            raise MisuseError("a 101 is the answer of the request that switched protocols, and of no other")
        self._look_at(response.body._source)
        return response

    def _look_at(self, source: Source) -> None:
        """What is read as it comes has one life."""
        if source.home is not None and source.home is not self._chain:
            raise MisuseError(
                "this body belongs to another request: read it whole there (await response.body.read()) to keep it"
            )

    def next(self, request: Request) -> Deferred[Response]:
        """What the middleware gets as ``next``."""
        try:
            if self._chain.over:
                raise CancelledError()
            if not isinstance(request, Request):
                raise TypeError(f"next takes a Request, not {type(request).__name__}")
            self._calls += 1
            if self._calls > MAX_CALLS:
                raise MisuseError(f"next was called {self._calls} times for one request: is there a loop?")
            source = request.body._source
            self._look_at(source)
            self._given.check(source)
            if isinstance(source, Pieces):
                self.make(source)
            waiting = self._chain.go_on(self._index + 1, request)
            self._given.add(source, waiting)
        except Exception:  # noqa: BLE001 - it belongs to who called
            failed: Deferred[Response] = Deferred()
            failed.errback(Failure())
            return self._chain.watch(failed)
        self.meter.rest()
        return self._chain.watch(waiting.addBoth(self._back))

    def _back(self, result: Response | Failure) -> Response | Failure:
        self.meter.go()
        if isinstance(result, Response):
            result = result.copy()
            if result.status != 101:
                body = result.body
                result.body = ReadableBody(again(body._source), self.meter, answer=True)
        return result

    def make(self, source: Pieces) -> None:
        """A body that it makes runs in its name, and in its time."""
        if source.own(self):
            source.home = self._chain
            self._made.append(source)
            self._chain.made.append(source)

    def drive(self, step: Awaitable[bytes]) -> Awaitable[bytes]:
        """See Owner."""
        return driven(step, self)

    def turn_end(self) -> Awaitable[None]:
        """See Owner."""
        return self._chain.turn_end()

    def blamed(self, error: Exception) -> Exception:
        """See Owner."""
        if not self._chain.over:
            self.entry.failed(Failure(error))
        return failed()

    def step_begins(self) -> None:
        """See Watcher."""
        self._chain.steps += 1

    def step_ends(self) -> None:
        """See Watcher."""
        self._chain.steps -= 1

    def blocked(self, seconds: float) -> None:
        """See Watcher."""
        self.entry.blocked(seconds)

    def _ended(self, result: Response | Failure) -> Response | Failure:
        self.meter.rest()
        self._over = True
        if self._chain.over:
            self._timer.cancel()
            self.entry.lingering.discard(self._timer)
        if isinstance(result, Response):
            source = result.body._source
            if isinstance(source, Pieces):
                self.make(source)
        if not self._made:
            # nothing of it runs any more: an answer that streams for a day needs no clock of it
            self._timer.cancel()
        if isinstance(result, Response):
            return result
        error = result.value
        if self._chain.over:
            if not isinstance(error, CancelledError | NextFailed | HttpError):
                # what went wrong while it tidied up is worth a line, though nobody gets an answer of it
                self.entry.failed(result)
            return Failure(CancelledError())
        if isinstance(error, NextFailed | HttpError):
            return Failure(_as_answer(error))
        self.entry.failed(result)
        return Failure(failed())

    def end(self) -> None:
        """The request is over."""
        self.entry.leave()
        if not self._runs:
            self._timer.cancel()
        else:
            # who does not let go is looked for once
            self._timer.restart(self.entry.settings.timeout)
            self.entry.lingering.add(self._timer)

    @property
    def _runs(self) -> bool:
        """Some code of it has not come to its end."""
        return not self._over or any(pieces.running for pieces in self._made)

    def _look(self) -> None:
        if self._chain.over:
            self.entry.lingering.discard(self._timer)
            if self._runs:
                self.entry.stays()
            return
        left = self.meter.left
        if left > 0:
            self._timer.restart(left)
            return
        self.entry.timed_out()
        self._chain.fail(NextFailed(504, "middleware-timeout", _LATE))


def _as_answer(error: HttpError | NextFailed) -> NextFailed:
    """What the visitor gets, whatever a middleware has put into it."""
    reason = error.reason if _TOKEN.fullmatch(error.reason) else "middleware"
    status = error.status if 400 <= error.status <= 599 else 500
    return NextFailed(status, reason, error.message)


_TOKEN = re.compile(r"[a-z0-9-]{1,64}")
