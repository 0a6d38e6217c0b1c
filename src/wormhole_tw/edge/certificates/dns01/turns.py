"""Blocking calls in threads, one after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorThreads

__all__ = ["Turns"]

T = TypeVar("T")


class Turns:
    """Takes calls and runs one at a time, so that a removal never overtakes the addition that it undoes."""

    def __init__(self, reactor: IReactorThreads) -> None:
        self._reactor = reactor
        self._lock = DeferredLock()

    def take(self, call: Callable[[], T], stop: Callable[[], None] | None = None) -> Deferred[T]:
        """Run ``call`` in a thread when those before it have ended.

        Cancelling the Deferred before that takes the call back.  Later it calls ``stop``, which has to make the thread
        end soon; the next call still waits for that.
        """

        async def take() -> T:
            await self._lock.acquire()
            working: Deferred[T] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call)
            waiting: Deferred[T] = Deferred((lambda _: stop()) if stop is not None else None)
            working.addBoth(partial(self._done, waiting))
            return await waiting

        return Deferred.fromCoroutine(take())

    def _done(self, waiting: Deferred[T], result: T | Failure) -> None:
        if not waiting.called:
            waiting.callback(result)
        self._lock.release()
