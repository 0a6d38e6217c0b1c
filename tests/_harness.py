"""What every test is held to: it ends within its deadline, and leaves nothing behind.

``tests/conftest.py`` offers what stands here as fixtures and hooks; ``tests/test_harness.py`` shows that it catches
what it should.
"""

from __future__ import annotations

import functools
import gc
import inspect
import signal
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import _signals, tcp, udp
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

DEFAULT_DEADLINE = 30.0
"""Seconds a test may take unless it carries ``@pytest.mark.deadline(seconds)``."""

SETTLE_SECONDS = 0.5
"""How long sockets closed by a test may take to be gone: both ends of a loopback connection need turns to notice."""

NEAR_SECONDS = 0.02
"""A delayed call due sooner than this at the end of a test is part of closing down (``callLater(0)``), not a leak."""

BLOCKED_GRACE = 5.0
"""Seconds past the deadline after which a test that blocks the reactor is interrupted by SIGALRM."""


class DeadlinePassed(BaseException):
    """A test took longer than it may.  Not an Exception, so that no ``except Exception`` under test swallows it."""


# deadlines


def _where(awaitable: object) -> str:
    """The innermost line that a coroutine waits at, as ``file:line in function``."""
    place = "unknown place"
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "ag_frame", None)
        if frame is not None:
            place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "ag_await", None)
    return place


def with_deadline(coroutine: Coroutine[Deferred[Any], Any, Any], seconds: float, reactor: Any) -> Deferred[Any]:
    """Run a coroutine; at the deadline cancel it, and fail whether or not it heeds the cancellation."""
    outcome: Deferred[Any] = Deferred()

    def pass_on(result: Any) -> None:
        if timer.active():
            timer.cancel()
        if not outcome.called:
            outcome.callback(result)

    def passed() -> None:
        place = _where(coroutine)
        failure = Failure(DeadlinePassed(f"the deadline of {seconds:g} s passed, waiting at {place}"))
        if not outcome.called:
            outcome.errback(failure)
        running.cancel()

    timer = reactor.callLater(seconds, passed)
    running = Deferred.fromCoroutine(coroutine)
    # What a cancelled test raises on its way out was answered by the deadline already, and ends in pass_on.
    running.addBoth(pass_on)
    return outcome


class _GeneratorWithDeadline:
    """An async generator fixture of which each step has the deadline."""

    def __init__(self, generator: AsyncGenerator[Any, None], seconds: float, reactor: Any) -> None:
        self._generator = generator
        self._seconds = seconds
        self._reactor = reactor

    async def _step(self) -> Any:
        return await self._generator.__anext__()

    def __anext__(self) -> Deferred[Any]:
        return with_deadline(self._step(), self._seconds, self._reactor)


def deadlined(function: Callable[..., Any], seconds: float, reactor: Any) -> Callable[..., Any]:
    """A coroutine function (or async generator function) made into one that respects the deadline."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        if inspect.isasyncgen(made):
            return _GeneratorWithDeadline(made, seconds, reactor)
        return with_deadline(made, seconds, reactor)

    return run


def deadline_of(item: pytest.Item) -> float:
    """Seconds that a test may take."""
    marker = item.get_closest_marker("deadline")
    return float(marker.args[0]) if marker is not None else DEFAULT_DEADLINE


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise DeadlinePassed in code that never returns to the reactor (a loop, a blocking call)."""

    def ring(signum: int, frame: object) -> None:
        raise DeadlinePassed(f"blocked for {seconds:g} s without returning to the reactor")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def run_test_function(item: pytest.Function, reactor: Any) -> bool | None:
    """The body of ``pytest_pyfunc_call``: True where the test was run here, None where pytest-twisted shall run it.

    Plain functions run as under plain pytest, outside the reactor: hypothesis makes hundreds of calls to each, and a
    reactor turn for every one would be most of the time.
    """
    seconds = deadline_of(item)
    function = item.obj
    handle = getattr(function, "hypothesis", None)
    inner = handle.inner_test if handle is not None else function
    if not inspect.iscoroutinefunction(inner):
        arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        with interrupted_after(seconds):
            result = function(**arguments)
        if isinstance(result, Deferred):
            pytest.fail("a plain test function returned a Deferred: make it an async def and await it", pytrace=False)
        return True
    if handle is None:
        arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        with interrupted_after(seconds + BLOCKED_GRACE):
            pytest_twisted.blockon(_in_reactor(deadlined(function, seconds, reactor), arguments, reactor))
        return True

    # Hypothesis runs a plain function for every example; each example is a coroutine with the deadline.
    def example(*args: Any, **kwargs: Any) -> None:
        pytest_twisted.blockon(
            _in_reactor(functools.partial(deadlined(inner, seconds, reactor), *args), kwargs, reactor)
        )

    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    handle.inner_test = functools.wraps(inner)(example)
    try:
        function(**arguments)
    finally:
        handle.inner_test = inner
    return True


def _in_reactor(function: Callable[..., Any], arguments: dict[str, Any], reactor: Any) -> Deferred[Any]:
    """Call in the reactor's own turn, as everything is called in a real program."""
    return deferLater(reactor, 0, function, **arguments)


# logs


def is_failure_event(event: LogEvent) -> bool:
    """Whether a log event says that something went wrong inside: critical, or a failure at level error."""
    level = event.get("log_level")
    if level is LogLevel.critical or event.get("isError"):
        return True
    return event.get("log_failure") is not None and level is LogLevel.error


def _describe(event: LogEvent) -> str:
    failure = event.get("log_failure")
    text = formatEvent(event) or "(no text)"
    where = event.get("log_namespace", "-")
    if failure is None:
        return f"{where}: {text}"
    return f"{where}: {text}\n{failure.getTraceback()}"


class LogLines:
    """Everything logged through ``twisted.logger`` since the test began, as ``namespace level text`` lines.

    ``"text" in log_lines`` looks for a substring of any line; ``await log_lines.wait_for("text")`` gives the first
    event whose line holds it, past or coming.
    """

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self._waiters: list[tuple[str, Deferred[LogEvent]]] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)
        if self._waiters:
            line = self.line(event)
            for waiter in [waiter for waiter in self._waiters if waiter[0] in line]:
                self._waiters.remove(waiter)
                waiter[1].callback(event)

    @staticmethod
    def line(event: LogEvent) -> str:
        level = event.get("log_level")
        return f"{event.get('log_namespace', '-')} {level.name if level else '-'} {formatEvent(event)}"

    @property
    def lines(self) -> list[str]:
        return [self.line(event) for event in self.events]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.events)

    def __contains__(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def matching(self, text: str) -> list[LogEvent]:
        return [event for event in self.events if text in self.line(event)]

    def clear(self) -> None:
        self.events.clear()

    def wait_for(self, text: str) -> Deferred[LogEvent]:
        for event in self.events:
            if text in self.line(event):
                found: Deferred[LogEvent] = Deferred()
                found.callback(event)
                return found
        waiter: Deferred[LogEvent] = Deferred(lambda d: self._waiters.remove((text, d)))
        self._waiters.append((text, waiter))
        return waiter


class LoggedFailures:
    """The critical and failure events of a test.  What is not flushed by its end fails it."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if is_failure_event(event):
            self.events.append(event)

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take the logged failures of these exception types (of any, without arguments), unhandled Deferreds' included.

        Critical events without a failure are taken too where no type is named; they are not in the answer.
        """
        gc.collect()
        taken: list[Failure] = []
        kept: list[LogEvent] = []
        for event in self.events:
            failure = event.get("log_failure")
            if types and (failure is None or failure.check(*types) is None):
                kept.append(event)
            elif failure is not None:
                taken.append(failure)
        self.events[:] = kept
        return taken


# leaks


def spin(reactor: Any, seconds: float = 0.0) -> None:
    """Let the reactor turn, from plain (not reactor) code."""
    pytest_twisted.blockon(deferLater(reactor, seconds))


def _kinds(*classes: type) -> set[type]:
    """These classes and all under them: asking for an exact type is cheap where thousands of objects are looked at."""
    found = set(classes)
    for kind in classes:
        found |= _kinds(*kind.__subclasses__())
    return found


def _selectables(reactor: Any) -> set[Any]:
    """Sockets, ports and pipes the reactor watches, and open ones that are paused and so watched by nobody."""
    found = set(reactor.getReaders()) | set(reactor.getWriters())
    kinds = _kinds(tcp.Connection, tcp.Port, udp.Port)
    for thing in [thing for thing in gc.get_objects() if type(thing) in kinds]:
        alive = not thing.disconnected if isinstance(thing, tcp.Connection) else thing.connected
        if alive and thing.fileno() >= 0:
            found.add(thing)
    return {thing for thing in found if type(thing).__module__ != _signals.__name__}


class LeakCheck:
    """What the reactor held before a test, to be compared with what it holds after it."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        spin(reactor)
        # Weak, so that the check itself keeps nothing alive; their ids are safe from reuse while they are in the set.
        self._selectables: weakref.WeakSet[Any] = weakref.WeakSet(_selectables(reactor))
        self._calls = set(reactor.getDelayedCalls())

    def _new_selectables(self) -> list[Any]:
        return [thing for thing in _selectables(self._reactor) if thing not in self._selectables]

    def _far_calls(self) -> list[Any]:
        now = self._reactor.seconds()
        return [
            call
            for call in self._reactor.getDelayedCalls()
            if call not in self._calls and call.getTime() - now > NEAR_SECONDS
        ]

    def leftovers(self) -> list[str]:
        """What was left behind, a line each; waits until closing sockets are gone."""
        spin(self._reactor)
        spin(self._reactor)
        suspects = dict.fromkeys(self._far_calls())
        began = self._reactor.seconds()
        left = self._new_selectables()
        while (left or self._far_calls()) and self._reactor.seconds() - began < SETTLE_SECONDS:
            spin(self._reactor, 0.005)
            suspects.update(dict.fromkeys(self._far_calls()))
            left = self._new_selectables()
        lines = [f"left in the reactor: {thing!r}" for thing in left]
        # One cancelled while the sockets closed had an owner; one that ran, or still waits, had none.
        lines += [f"left a delayed call: {call}" for call in suspects if not call.cancelled]
        for call in suspects:
            if call.active():
                call.cancel()
        for thing in left:
            _discard(thing, self._reactor)
        spin(self._reactor)
        return lines


def _discard(thing: Any, reactor: Any) -> None:
    """Close what a test left, so that only this test fails for it."""
    reactor.removeReader(thing)
    reactor.removeWriter(thing)
    closing = getattr(thing, "abortConnection", None) or getattr(thing, "stopListening", None)
    if closing is not None:
        try:
            closing()
        except Exception:
            return


@contextmanager
def observed(*observers: Callable[[LogEvent], None]) -> Iterator[None]:
    """Hand log events to these observers meanwhile."""
    for observer in observers:
        globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        for observer in observers:
            globalLogPublisher.removeObserver(observer)


def failure_report(failures: LoggedFailures) -> list[str]:
    """The failures nobody expected, a paragraph each."""
    return [f"logged a failure: {_describe(event)}" for event in failures.events]
