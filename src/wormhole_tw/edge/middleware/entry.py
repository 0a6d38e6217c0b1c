"""One middleware that was loaded: its object, what is known of it, and what the log says of it."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from wormhole_tw.errors import MisuseError

if TYPE_CHECKING:
    from wormhole_tw.control.middleware import MiddlewareSettings
    from wormhole_tw.middleware import Middleware
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["BLOCKED", "QUIET", "Entry", "Meter", "driven"]

log = Logger()

QUIET = 60.0
"""Seconds between two lines of one kind for one middleware: what fails for one visitor fails for all."""

BLOCKED = 0.1
"""Seconds of one step, without an await, that are worth a warning: for so long nobody else was served."""


class Folded:
    """At most one line in :data:`QUIET` seconds; the next one says how many were left out."""

    __slots__ = ("_left_out", "_seconds", "_until")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._until = float("-inf")
        self._left_out = 0

    def more(self) -> str | None:
        """What to put behind the line; None where it is not to be written now."""
        now = self._seconds()
        if now < self._until:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        self._until = now + QUIET
        return f" ({left_out} more since the last such line)" if left_out else ""


class Entry:
    """A middleware of a site.

    :ivar settings: what was asked for
    :ivar site: the name of its site
    :ivar source: the text of its module when it was loaded; None where that is not known
    :ivar users: requests that have it
    :ivar lingering: who looks after what goes on although its request is over
    """

    __slots__ = (
        "_blocked",
        "_failed",
        "_late",
        "_retired",
        "_stays",
        "_stopped",
        "_timers",
        "lingering",
        "object",
        "settings",
        "site",
        "source",
        "users",
    )

    def __init__(
        self, object: Middleware, settings: MiddlewareSettings, site: str, source: bytes | None, timers: TimerWheel
    ) -> None:
        self.object = object
        self.settings = settings
        self.site = site
        self.source = source
        self.users = 0
        self.lingering: set[Timer] = set()
        self._timers = timers
        self._retired = False
        self._stopped: Deferred[None] | None = None
        self._failed = Folded(timers.seconds)
        self._late = Folded(timers.seconds)
        self._stays = Folded(timers.seconds)
        self._blocked = Folded(timers.seconds)

    # what the log says

    def failed(self, failure: Failure) -> None:
        """It raised."""
        more = self._failed.more()
        if more is not None:
            log.error(
                "middleware {name} of site {site} failed: {kind}: {error}{more}",
                name=self.settings.shown,
                site=self.site,
                kind=failure.value.__class__.__name__,
                error=failure.getErrorMessage(),
                more=more,
                log_failure=failure,
            )

    def timed_out(self) -> None:
        """It took longer than it may."""
        self._say(self._late, "took longer than its timeout of {seconds} s")

    def stays(self) -> None:
        """It goes on after its visitor has left, which it was told."""
        self._say(self._stays, "goes on {seconds} s after its request was over: it must let CancelledError pass")

    def _say(self, folded: Folded, what: str) -> None:
        more = folded.more()
        if more is not None:
            log.warn(
                "middleware {name} of site {site} " + what + "{more}",
                name=self.settings.shown,
                site=self.site,
                seconds=f"{self.settings.timeout:g}",
                more=more,
            )

    def blocked(self, seconds: float) -> None:
        """It held the reactor up."""
        more = self._blocked.more()
        if more is not None:
            log.warn(
                "middleware {name} of site {site} held everybody up for {seconds:.2f} s: what takes long belongs into "
                "a thread (deferToThread){more}",
                name=self.settings.shown,
                site=self.site,
                seconds=seconds,
                more=more,
            )

    # its life

    def enter(self) -> None:
        """A request has it."""
        self.users += 1

    def leave(self) -> None:
        """That request is over."""
        self.users -= 1
        if self._retired and not self.users:
            self._stop()

    def retire(self) -> Deferred[None]:
        """No new request gets it: when the last one is over its ``stop`` is called, where it has one.

        :returns: fires when that is done, and never fails
        """
        if self._stopped is None:
            self._stopped = Deferred()
        self._retired = True
        if not self.users:
            self._stop()
        return self._stopped

    def when_stopped(self) -> Deferred[None]:
        """A Deferred of the caller's own that fires when it is let go of altogether."""
        waiter: Deferred[None] = Deferred()
        self.retire().addCallback(lambda _: waiter.callback(None))
        return waiter

    def _stop(self) -> None:
        stopped = self._stopped
        if stopped is None or stopped.called:
            return
        stop = getattr(self.object, "stop", None)
        done: Deferred[Any] = succeed(None) if stop is None else Deferred.fromCoroutine(_awaited(stop))
        timer = self._timers.start(self.settings.timeout, done.cancel)

        def over(result: object) -> None:
            timer.cancel()
            if isinstance(result, Failure):
                self.failed(result)
            stopped.callback(None)

        done.addBoth(over)


async def _awaited(call: Callable[[], Any]) -> None:
    result = call()
    if isinstance(result, Awaitable):
        await result


class Meter:
    """Measures the time that a middleware takes itself: not that of who it waits for.

    :param seconds: the clock
    """

    __slots__ = ("_began", "_limit", "_running", "_seconds", "_used")

    def __init__(self, seconds: Callable[[], float], limit: float) -> None:
        self._seconds = seconds
        self._limit = limit
        self._running = 0
        self._began = 0.0
        self._used = 0.0

    def go(self) -> None:
        """It is at work."""
        if not self._running:
            self._began = self._seconds()
        self._running += 1

    def rest(self) -> None:
        """It waits for a visitor, a service, or another middleware."""
        self._running -= 1
        if not self._running:
            self._used += self._seconds() - self._began

    def fresh(self) -> None:
        """It has brought something: its time begins anew."""
        self._used = 0.0
        self._began = self._seconds()

    @property
    def left(self) -> float:
        """Seconds of its time that are left."""
        running = self._seconds() - self._began if self._running > 0 else 0.0
        return self._limit - self._used - running


class Watcher(Protocol):
    """Who looks on while a middleware's code runs."""

    def step_begins(self) -> None:
        """It is resumed."""

    def step_ends(self) -> None:
        """It waits again, or is over."""

    def blocked(self, seconds: float) -> None:
        """A step took long."""


class _Nested:
    """Seconds that steps inside the present one took: a middleware's step may resume another's."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


_nested = _Nested()


@types.coroutine
def driven(awaitable: Awaitable[Any], watcher: Watcher) -> Generator[Any, Any, Any]:
    """Await a middleware's code, and look how long each step of it holds the reactor up.

    :raises MisuseError: in that code, where it awaits what is no Deferred
    """
    steps: Coroutine[Any, Any, Any] | Generator[Any, Any, Any] = _steps_of(awaitable)
    sent: Any = None
    raised: BaseException | None = None
    while True:
        outer, _nested.seconds = _nested.seconds, 0.0
        began = perf_counter()
        watcher.step_begins()
        try:
            if raised is None:
                waits_for = steps.send(sent)
            else:
                error, raised = raised, None
                waits_for = steps.throw(error)
        except StopIteration as stop:
            return stop.value
        finally:
            took = perf_counter() - began
            own = took - _nested.seconds
            _nested.seconds = outer + took
            if own > BLOCKED:
                watcher.blocked(own)
            watcher.step_ends()
        if not isinstance(waits_for, Deferred):
            raised = MisuseError(
                f"a middleware awaits Deferreds and coroutines of Twisted, not {type(waits_for).__name__}: "
                "there is no asyncio loop here"
            )
            continue
        try:
            sent = yield waits_for
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it belongs to who awaits
            sent, raised = None, error


def _steps_of(awaitable: Awaitable[Any]) -> Any:
    if type(awaitable) is types.CoroutineType:
        return awaitable
    steps = awaitable.__await__()
    # an asynchronous generator's step is an iterator with these; others are wrapped
    return steps if hasattr(steps, "throw") and hasattr(steps, "send") else _wrapped(steps)


def _wrapped(steps: Any) -> Generator[Any, Any, Any]:
    return (yield from steps)
