"""Running something on the reactor for a person at a terminal: what is said, how it is ended, the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogBeginner
from zope.interface import implementer

from wormhole_tw.cli.logs import log_observer, sentence
from wormhole_tw.cli.names import look_names_up_aside
from wormhole_tw.cli.process import handle_signals

__all__ = ["Stop", "Stopped", "run", "say"]

T = TypeVar("T")

_TOLD = "wormhole_tw.agent.connector"
"""What this part of the agent logs is said from the agent's events, which say more."""


def say(line: str) -> None:
    """One line on standard output, at once.  Where nobody reads any more, what runs goes on."""
    try:
        print(line, flush=True)
    except OSError:
        # Python would try the rest once more when it ends, and complain.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it lives as long as the process


class Stopped(Exception):
    """Somebody asked for the end while something was waited for."""


class Stop:
    """Whether the end was asked for (Ctrl-C, SIGTERM)."""

    def __init__(self) -> None:
        self.asked = False
        self._waiters: list[Deferred[None]] = []

    def ask(self) -> None:
        """Ask for it."""
        self.asked = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def wait(self) -> Deferred[None]:
        """Fires when it is asked for.  A Deferred of the caller's own."""
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        if self.asked:
            waiter.callback(None)
        else:
            self._waiters.append(waiter)
        return waiter

    async def unless(self, wanted: Deferred[T]) -> T:
        """The result of ``wanted``, which is cancelled when the end is asked for first.

        :raises Stopped: it was
        """
        stopped = self.wait()
        try:
            # What a cancelled one says is of no interest.
            both: list[Deferred[Any]] = [wanted, stopped]
            result, first = await DeferredList(both, fireOnOneCallback=True, fireOnOneErrback=True, consumeErrors=True)
        except FirstError as error:
            raise cast(Exception, error.subFailure.value) from None
        finally:
            for deferred in (wanted, stopped):
                if not deferred.called:
                    deferred.cancel()
        if first == 1:
            raise Stopped
        return cast(T, result)


def run(main: Callable[[Any, Stop], Awaitable[int]]) -> int:
    """Run ``main(reactor, stop)`` until it is done; gives the exit status that it gave, or 0 where it was stopped.

    What it raises is raised again after the reactor's end.  Warnings and errors of the services are said as a
    sentence; only a bug has its traceback, on standard error.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    look_names_up_aside(reactor)
    globalLogBeginner.beginLoggingTo([_Notes()], redirectStandardIO=False)
    stop = Stop()
    status = 0
    error: Exception | None = None

    async def whole() -> None:
        nonlocal status, error
        try:
            status = await main(reactor, stop)
        except Stopped:
            status = 0
        except Exception as failure:  # noqa: BLE001 - told after the reactor's end, to whoever runs us
            error = failure
        with suppress(ReactorNotRunning):
            reactor.stop()

    running: list[Deferred[None]] = []
    reactor.callWhenRunning(lambda: running.append(Deferred.fromCoroutine(whole())))
    handle_signals(_Stopper(reactor, stop), say=say)
    reactor.run(installSignalHandlers=False)
    if error is not None:
        raise error
    return status


class _Stopper:
    """Lets a signal end what runs in its own order, before the reactor stops."""

    def __init__(self, reactor: Any, stop: Stop) -> None:
        self._reactor = reactor
        self._stop = stop

    def callWhenRunning(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> object:
        return self._reactor.callWhenRunning(callable, *args, **kwargs)

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._reactor.callFromThread(callable, *args, **kwargs)

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> object:
        return self._reactor.addSystemEventTrigger(phase, eventType, callable, *args, **kwargs)

    def stop(self) -> None:
        self._stop.ask()


@implementer(ILogObserver)
class _Notes:
    """The log of the services, for somebody who looks at a terminal."""

    def __init__(self) -> None:
        self._bugs = log_observer(sys.stderr, "error")

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            self._bugs(event)
        elif event["log_level"] >= LogLevel.warn and event.get("log_namespace") != _TOLD:
            say(sentence(event))
