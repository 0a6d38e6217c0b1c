"""Something on the web that is wanted again and again: metadata and keys of an issuer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from wormhole_tw.errors import IssuerUnavailable

__all__ = ["AGAIN", "FRESH", "Fetched"]

log = Logger()

T = TypeVar("T")

FRESH = 3600.0
"""Seconds for which what was fetched is not asked for again: issuers announce new keys a day before."""

AGAIN = 10.0
"""Seconds between two tries, whoever wants it: a flood of tokens with made-up keys must not make a flood of ours."""


class Fetched(Generic[T]):
    """One asks; all who want it meanwhile wait for that. What was had stays good while nothing newer can be had.

    :ivar value: the last one; None while there was none
    """

    def __init__(self, what: str, fetch: Callable[[], Awaitable[T]], seconds: Callable[[], float]) -> None:
        """
        :param what: for the log
        :param fetch: fails with :class:`~wormhole_tw.errors.IssuerUnavailable`
        :param seconds: a clock that does not go back
        """
        self.value: T | None = None
        self._what = what
        self._fetch = fetch
        self._seconds = seconds
        self._had_at = self._tried_at = float("-inf")
        self._stopped = False
        self._failed: IssuerUnavailable | None = None
        self._fetching: Deferred[None] | None = None
        self._waiting: list[Deferred[T]] = []

    @property
    def fresh(self) -> bool:
        """What is here need not be asked for again."""
        return self.value is not None and self._seconds() - self._had_at < FRESH

    def at_hand(self) -> T | None:
        """What need not be waited for: what is fresh; or what is older, while nothing newer can be had, which is tried
        again meanwhile."""
        if not self.fresh and self.value is not None:
            if self._failed is None:
                return None
            if self._may_ask:
                self._ask()
        return self.value

    @property
    def _may_ask(self) -> bool:
        return self._fetching is None and not self._stopped and self._seconds() - self._tried_at >= AGAIN

    def newest(self, *, anew: bool = False) -> Deferred[T]:
        """What there is to be had; whoever cancels it stops waiting, and nothing else.

        :param anew: what is here is not enough
        :returns: fails with :class:`~wormhole_tw.errors.IssuerUnavailable` where there never was one
        """
        at_hand = None if anew else self.at_hand()
        if at_hand is not None:
            return succeed(at_hand)
        if self._fetching is None:
            if not self._may_ask:
                if self.value is not None:
                    return succeed(self.value)
                return fail(self._failed or IssuerUnavailable(f"{self._what} was asked for a moment ago"))
            self._ask()
        waiting: Deferred[T] = Deferred(self._gone)
        if self._fetching is None:  # it was quick
            return self.newest()
        self._waiting.append(waiting)
        return waiting

    def stop(self) -> None:
        """Nobody wants it any more."""
        self._stopped = True
        fetching, self._fetching = self._fetching, None
        waiting, self._waiting = self._waiting, []
        if fetching is not None:
            fetching.cancel()
        for one in waiting:
            one.errback(IssuerUnavailable(f"{self._what} is not wanted any more"))

    def _gone(self, waiting: Deferred[T]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _ask(self) -> None:
        self._tried_at = self._seconds()
        asking = Deferred.fromCoroutine(self._once())
        if not asking.called:
            self._fetching = asking
        asking.addCallbacks(self._had, self._not_had)

    async def _once(self) -> None:
        self.value = await self._fetch()

    def _had(self, _: None) -> None:
        self._fetching = None
        self._had_at = self._seconds()
        self._failed = None
        value = self.value
        assert value is not None
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(value)

    def _not_had(self, failure: Failure) -> None:
        self._fetching = None
        if self._stopped:
            return
        error = failure.value
        if not isinstance(error, IssuerUnavailable):
            log.failure("{what} cannot be had", failure, what=self._what)
            error = IssuerUnavailable(f"{self._what}: {type(error).__name__}")
        else:
            log.warn("{what} cannot be had: {error}", what=self._what, error=error)
        self._failed = error
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if self.value is not None:
                one.callback(self.value)
            else:
                one.errback(error)
