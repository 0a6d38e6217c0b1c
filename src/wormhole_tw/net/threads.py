"""Calls that block, in threads that the end of the process does not wait for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

__all__ = ["Job", "Turns", "Workers", "call_in_thread"]

log = Logger()

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


class Job:
    """A call that :class:`Workers` have."""

    __slots__ = ("call", "done")

    def __init__(self, call: Callable[[], object], done: Callable[[Any], object]) -> None:
        self.call = call
        self.done: Callable[[Any], object] | None = done

    def cancel(self) -> None:
        """Nobody waits for it: it is not begun any more, or what comes of it is thrown away."""
        self.done = None


class Workers:
    """A few threads for what only computes, each call a few milliseconds; calls wait for a free one in their order.

    The threads are made when they are wanted, and the end of the process does not wait for them.

    :param most: threads at the same time
    """

    def __init__(self, reactor: IReactorFromThreads, most: int) -> None:
        self._reactor = reactor
        self._most = most
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting = 0  # calls that are not done
        self._threads: list[Thread] = []
        self._closed = False

    def run(self, call: Callable[[], T], done: Callable[[T | Failure], object]) -> Job:
        """Run ``call`` in one of the threads, and then ``done`` in the reactor's, unless the job is cancelled.  After
        :meth:`close` neither is run: whoever asks then is about to end, too."""
        job = Job(call, done)
        if self._closed:
            return job
        self._waiting += 1
        if self._waiting > len(self._threads) < self._most:
            thread = Thread(target=self._work, name="wormhole-tw worker", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has none left
                if not self._threads:
                    # late is better than never, and it is milliseconds
                    self._reactor.callFromThread(self._do, job)
                    return job
            else:
                self._threads.append(thread)
        self._jobs.put(job)
        return job

    def close(self) -> None:
        """The threads end with what they are at; nobody hears of that.  Safe to call twice."""
        self._closed = True
        while not self._jobs.empty():
            self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        self._threads = []

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job)

    def _do(self, job: Job) -> None:
        result: object = None
        if job.done is not None:
            try:
                result = job.call()
            except BaseException:  # noqa: BLE001 - whoever waits gets it
                result = Failure()
        self._reactor.callFromThread(self._done, job, result)

    def _done(self, job: Job, result: object) -> None:
        self._waiting -= 1
        done = job.done
        if done is None or self._closed:
            return
        try:
            done(result)
        except Exception:  # noqa: BLE001 - one job's bug, and no other's
            log.failure("what came of a call in a thread was not taken")
