"""The one thread that a disk's store has: everything that may wait for the disk is done there.

Two queues lead to it.  *Urgent* calls are reads that visitors wait for; they overtake.  *Ordered* ones are writes, and
reads that have to see the writes before them; they run in turn, many at once between a ``begin`` and a ``commit``, so
that a thousand small answers are not a thousand transactions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from wormhole_tw.errors import CacheFault

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

__all__ = ["Work", "Worker"]

T = TypeVar("T")

TOGETHER = 128
"""Ordered calls between a begin and a commit at most: some milliseconds."""

IDLE = 1.0
"""Seconds without a call after which the work is told that it may tidy up."""


class Work(Protocol):
    """What the thread does beside the calls; all in the thread."""

    def commit(self) -> None:
        """What the ordered calls did, holds."""

    def rollback(self) -> None:
        """One of them failed, or their commit: none of them did anything."""

    def idle(self) -> bool:
        """There is time for a bit of tidying up, some milliseconds; whether more of it is left."""

    def failed(self, error: Exception) -> None:
        """A call failed with something else than :class:`~wormhole_tw.errors.CacheFault`."""

    def close(self) -> None:
        """The last call was made."""


class _Call:
    __slots__ = ("call", "done")

    def __init__(self, call: Callable[[], Any], done: Deferred[Any]) -> None:
        self.call = call
        self.done = done


class Worker:
    """See the module.

    :param reactor: where the results go
    """

    def __init__(self, reactor: IReactorFromThreads, work: Work) -> None:
        self._reactor = reactor
        self._work = work
        self._condition = Condition()
        self._urgent: deque[_Call] = deque()
        self._ordered: deque[_Call] = deque()
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._posted = False
        self._spoilt: Exception | None = None
        self._ended: Deferred[None] | None = None
        self._started = False
        self._over = False

    def ask(self, call: Callable[[], T], *, urgent: bool = False) -> Deferred[T]:
        """Make a call in the thread, which the first one starts; its Deferred fires in the reactor's.

        It fails with :class:`~wormhole_tw.errors.CacheFault` where the thread has ended.
        """
        done: Deferred[T] = Deferred(_ignore)
        if not self._started:
            self._started = True
            # a disk that never answers must not keep the process from ending: what is half done is so after a kill, too
            Thread(target=self._run, name="wormhole-tw cache", daemon=True).start()
        with self._condition:
            if self._over:
                return fail(CacheFault("the store is closed"))
            (self._urgent if urgent else self._ordered).append(_Call(call, done))
            self._condition.notify()
        return done

    def close(self) -> Deferred[None]:
        """End, when all that was asked is done."""
        if not self._started or self._over:
            return succeed(None)
        ended: Deferred[None] = Deferred(_ignore)
        with self._condition:
            self._ended = ended
            self._condition.notify()
        return ended

    # in the thread

    def _run(self) -> None:
        wait: float | None = None
        while True:
            with self._condition:
                if not (self._urgent or self._ordered or self._ended):
                    self._condition.wait(wait)
            if self._urgent or self._ordered:
                while self._urgent:
                    self._make(self._urgent.popleft())
                self._in_order()
                wait = IDLE
            elif self._ended is not None:
                with self._condition:
                    if self._urgent or self._ordered:
                        continue
                    self._over = True
                try:
                    self._work.close()
                finally:
                    self._deliver_later(self._ended, None)
                return
            else:
                wait = 0.0 if self._tidy() else None

    def _make(self, call: _Call) -> None:
        try:
            self._deliver_later(call.done, call.call())
        except CacheFault:
            self._deliver_later(call.done, Failure())
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self._deliver_later(call.done, Failure())
            self._spoilt = error

    def _in_order(self) -> None:
        results: list[tuple[Deferred[Any], Any]] = []
        calls: list[_Call] = []
        try:
            while self._ordered and len(calls) < TOGETHER:
                call = self._ordered.popleft()
                calls.append(call)
                try:
                    results.append((call.done, call.call()))
                except CacheFault:
                    results.append((call.done, Failure()))
                while self._urgent:
                    self._make(self._urgent.popleft())
            if self._spoilt is not None:
                raise self._spoilt
            self._work.commit()
        except Exception as error:  # noqa: BLE001 - as above
            failure = Failure()
            self._spoilt = None
            self._work.rollback()
            self._work.failed(error)
            results = [(call.done, failure) for call in calls]
        for done, result in results:
            self._deliver_later(done, result)

    def _tidy(self) -> bool:
        try:
            left = self._work.idle()
            self._work.commit()
            return left
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            self._work.rollback()
            self._work.failed(error)
            return False

    def _deliver_later(self, done: Deferred[Any], result: Any) -> None:
        self._results.append((done, result))
        if not self._posted:
            self._posted = True
            self._reactor.callFromThread(self._deliver)

    # in the reactor's

    def _deliver(self) -> None:
        self._posted = False
        while self._results:
            done, result = self._results.popleft()
            if not done.called:  # else nobody waits any more
                done.callback(result)


def _ignore(_done: Deferred[Any]) -> None:
    """Whoever waits may go: the call is made all the same."""
