"""Calls that block, in threads that the end of the process does not wait for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

__all__ = ["Turns", "call_in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


def call_in_thread(
    reactor: IReactorFromThreads, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Deferred[T]:
    """Run ``call`` in a thread of its own.

    For what waits on the network: a thread of the reactor's pool that waits for a silent server holds up everybody who
    wants one, and the end of the process besides.  Nothing may be left half done where the process ends meanwhile.
    """
    return _start(reactor, partial(call, *args, **kwargs), daemon=True)


def _start(reactor: IReactorFromThreads, call: Callable[[], T], *, daemon: bool) -> Deferred[T]:
    result: Deferred[T] = Deferred()

    def finish(value: T | Failure) -> None:
        if not result.called:  # else it was given up
            result.callback(value)

    def work() -> None:
        value: T | Failure
        try:
            value = call()
        except BaseException:  # noqa: BLE001 - whoever waits gets it
            value = Failure()
        reactor.callFromThread(finish, value)

    try:
        Thread(target=work, name="wormhole-tw call", daemon=daemon).start()
    except RuntimeError:  # the system has none left
        result.errback()
    return result


class Turns:
    """Takes calls and runs one at a time, also where one is given up: a thread cannot be stopped from outside, and what
    comes next must not overtake it.

    :param finished: the end of the process waits for calls that have begun: for what must not be left half done, and
        ends soon
    """

    def __init__(self, reactor: IReactorFromThreads, *, finished: bool = False) -> None:
        self._reactor = reactor
        self._finished = finished
        self._lock = DeferredLock()

    def take(self, call: Callable[[], T], stop: Callable[[], None] | None = None) -> Deferred[T]:
        """Run ``call`` in a thread when those before it have ended.

        Cancelling the Deferred before that takes the call back.  Later it calls ``stop``, which has to make the thread
        end soon; the next call still waits for that, and so does the end of the process: what ``stop`` sets off is
        done.
        """

        async def take() -> T:
            await self._lock.acquire()
            waiting: Deferred[T] = Deferred((lambda _: stop()) if stop is not None else None)
            _start(self._reactor, call, daemon=stop is None and not self._finished).addBoth(
                partial(self._done, waiting)
            )
            return await waiting

        return Deferred.fromCoroutine(take())

    def _done(self, waiting: Deferred[T], result: T | Failure) -> None:
        if not waiting.called:
            waiting.callback(result)
        self._lock.release()
