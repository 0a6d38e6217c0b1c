"""What is remembered of one upstream, and what follows: how dear another request there is, and whether it is out.

Latency is a mean that forgets: each answer's time counts, and what lies :data:`MEMORY` seconds back counts for a third.
Between answers the estimate sinks slowly, so that one that was slow is asked again some day; while somebody waits for
an answer and none comes, it rises with the wait, so that a stuck one is not the cheapest because nobody is told how
slow it is.  Time is an argument everywhere: seconds on a clock that does not go back.
"""

from __future__ import annotations

from enum import Enum
from math import exp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .balancing import Ejection

__all__ = ["FORGET", "MEMORY", "Place", "Standing"]

MEMORY = 5.0
"""Seconds after which an answer's time counts for a third of what it did: a service that became slow is known as slow
within seconds, and one slow answer among fast ones does not move the mean much."""

FORGET = 10.0
"""Seconds in which an estimate sinks to a third while no answer comes: what was a hundred times slower than its peers
is tried again after three quarters of a minute, and what was twice as slow after seven seconds."""

AT_ONCE = 0.1
"""Seconds after an answer in which nothing of it is forgotten: it would be one part in a hundred."""

FLOOR = 0.001
"""Seconds added to every estimate: differences of less than a millisecond say more of the moment than of a service."""

PENALTY = 100.0
"""How many times dearer one is that answers nothing but failures.  It goes by the square of their share, so that one
that fails now and then, as all do, is hardly dearer than its peers."""

ERROR = 0.1
"""Seconds that a failure is taken for, besides, where nothing but failures come: who never answered well has no latency
to be a hundred times dearer than."""

_STEP = 0.1
"""How far one answer moves the share of failures: five failures in a row make it four tenths."""

FIRST_SHARE = 0.1
"""Of its weight, what an upstream begins with where it starts slowly: enough to get warm, and far from all."""


class Place(Enum):
    """Where an upstream stands."""

    __hash__ = object.__hash__

    IN = "in"
    """it takes requests"""
    OUT = "out"
    """it was ejected"""
    TRIAL = "trial"
    """its time is over: one request at a time shows whether it is well"""


class Standing:
    """One upstream's.

    :param weight: its share beside the others, above 0
    :param latency: seconds to begin with, the mean of the others' where they have one: who is new is neither the
        fastest nor the slowest
    :param now: when it came
    :param slow_start: seconds in which it grows to its weight; 0 for at once

    :ivar weight: its share beside the others once it has grown to it
    :ivar grown_at: when it has
    :ivar active: requests on it, from the moment it was chosen to their end
    :ivar waiting: those of them that are timed and have had no answer
    :ivar since: since when there is no answer, where somebody waits for one
    :ivar latency: the mean, in seconds; 0 where nothing is known
    :ivar failing: the share of failures among the latest answers, 0 to 1
    :ivar well: whether its active checks pass; true where there are none
    :ivar place: whether it was ejected
    :ivar row: failures one after the other, as who counts them says
    :ivar ejections: times that it was ejected, for the length of the next
    :ivar until: when the ejection ends
    :ivar tried: a request is on its way that shows whether it is well again
    """

    __slots__ = (
        "_slow_start",
        "active",
        "at",
        "ejections",
        "failing",
        "grown_at",
        "latency",
        "place",
        "returned",
        "row",
        "since",
        "tried",
        "until",
        "waiting",
        "weight",
        "well",
    )

    def __init__(self, *, weight: float = 1.0, latency: float = 0.0, now: float, slow_start: float = 0.0) -> None:
        self.active = 0
        self.waiting = 0
        self.since = now
        self.at = now
        self.latency = latency
        self.failing = 0.0
        self.well = True
        self.place = Place.IN
        self.row = 0
        self.ejections = 0
        self.until = 0.0
        self.returned = now
        self.tried = False
        self.weight = weight
        self._slow_start = slow_start
        self.grown_at = now + slow_start

    # what happens on it

    def begin(self, now: float, timed: bool) -> None:
        """A request was given to it; :meth:`end` has to follow, and :meth:`answered` may come before.

        :param timed: how long its answer takes says something of the upstream: not so where its visitor has a body to
            send, in his own time
        """
        self.active += 1
        if timed:
            if not self.waiting:
                self.since = now
            self.waiting += 1

    def answered(self, now: float, seconds: float, failed: bool) -> None:
        """An answer's head has come, or the request has failed without one.

        :param seconds: since the request was given to it; below 0 where that is not timed
        :param failed: the service failed; how soon is no merit
        """
        self.since = now
        if seconds >= 0.0:
            self.waiting -= 1
            old = self.latency
            if not failed or seconds > old:
                if old:
                    kept = exp(min(0.0, self.at - now) / MEMORY)  # a clock that was set back must not overflow it
                    self.latency = old * kept + seconds * (1.0 - kept)
                else:
                    self.latency = seconds
                self.at = now
        if failed:
            self.at = now
            self.failing += (1.0 - self.failing) * _STEP
        elif self.failing:
            self.failing *= 1.0 - _STEP

    def unanswered(self, timed: bool) -> None:
        """A request is over that had no answer, for no fault of the upstream's: its visitor left."""
        if timed:
            self.waiting -= 1

    def end(self) -> None:
        """A request that was given to it is over."""
        self.active -= 1

    # what follows

    def grown(self, now: float) -> float:
        """How far it has grown to its share since it came, up to 1."""
        if now >= self.grown_at or not self._slow_start:  # what was added and taken off may leave a trace
            return 1.0
        return max(FIRST_SHARE, 1.0 - (self.grown_at - now) / self._slow_start)

    def estimate(self, now: float) -> float:
        """Seconds that an answer would take."""
        seconds = self.latency * exp(min(0.0, self.at - now) / FORGET)
        if self.waiting and now - self.since > seconds:
            return now - self.since
        return seconds

    def cost(self, now: float, load: int) -> float:
        """What another request there costs, to compare with others'; more where work waits, and answers are slow.

        :param load: requests in flight there
        """
        # estimate(), without the call: this runs twice a request
        seconds = self.latency
        elapsed = now - self.at
        kept = exp(-elapsed / FORGET) if elapsed > AT_ONCE else 1.0
        seconds *= kept
        if self.waiting and now - self.since > seconds:
            seconds = now - self.since
        if self.failing:
            bad = self.failing * kept
            bad *= bad
            return (load / self.weight + 1) * (seconds + FLOOR + ERROR * bad) * (1.0 + PENALTY * bad)
        return (load / self.weight + 1) * (seconds + FLOOR)

    # ejection

    def eject(self, now: float, settings: Ejection) -> float:
        """It is out, each time for twice as long; gives for how many seconds.

        What it did long ago counts no more: who was in for ``longest`` begins anew.
        """
        if self.place is Place.IN and now - self.returned > settings.longest:
            self.ejections = 0
        seconds = min(settings.seconds * 2.0 ** min(self.ejections, 32), settings.longest)
        self.ejections += 1
        self.place = Place.OUT
        self.until = now + seconds
        self.row = 0
        self.tried = False
        return seconds

    def let_try(self) -> None:
        """Its time is over."""
        self.place = Place.TRIAL
        self.tried = False

    def take_back(self, now: float) -> None:
        """It is well: it takes requests again, and grows to its share as a new one does."""
        self.place = Place.IN
        self.row = 0
        self.failing = 0.0
        self.tried = False
        self.returned = now
        self.grown_at = now + self._slow_start

    def configure(self, weight: float, slow_start: float) -> None:
        """Take over what the configuration says now."""
        self.weight = weight
        if slow_start != self._slow_start:
            self.grown_at += slow_start - self._slow_start
            self._slow_start = slow_start
