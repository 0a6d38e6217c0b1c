"""The upstreams of one backend, and what is remembered of them: who takes requests, who was ejected, who waits.

What changes seldom is decided when it changes: the candidates stand ready as a tuple, and where there is nothing to
choose and nothing to remember, the one upstream stands ready by itself.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from twisted.logger import Logger

from wormhole_tw.control.balancing import USUAL, Policy
from wormhole_tw.control.standing import Place
from wormhole_tw.control.windows import Breaker, BreakerState, RetryBudget
from wormhole_tw.edge.balancers import balancer
from wormhole_tw.edge.checks import Looking
from wormhole_tw.edge.members import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Sequence

    from wormhole_tw.control.model import Selection
    from wormhole_tw.edge.checks import Checks
    from wormhole_tw.edge.interfaces import IBalancer, IUpstream, IWaiter
    from wormhole_tw.edge.seeker import Seeker
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["CIRCUIT_OPEN", "Group"]

log = Logger()

CIRCUIT_OPEN = "circuit-open"
"""Why a request has no upstream though there are some: the key of its answer."""

PATIENCE = 5.0
"""Seconds for which a trial waits for a request that could be sent again; then any request will do, or a backend that
gets nothing but POST would never have its upstream back."""


class Group:
    """One backend's.

    :ivar policy: what the configuration says of it
    :ivar members: its upstreams, as they were last told
    :ivar sole: the only one, where there is nothing to choose and nothing to remember; else None
    :ivar requests: how many were given an upstream
    :ivar breaker: None where there is none
    :ivar budget: of retries
    :ivar hedge_after: seconds after which a request is sent to another one too; 0 for never, or where there is none
    :ivar hedges: the budget of hedged requests
    :ivar queue: who waits, in the order they came
    :ivar trials: those that want a request to show that they are well
    :ivar ejected: how often one was ejected
    :ivar counts: other things that happened, by name, for the metrics
    """

    __slots__ = (
        "_balancer",
        "_checks",
        "_listening",
        "_own_region",
        "_random",
        "_sets",
        "_standings",
        "_timers",
        "_wake",
        "_waking",
        "breaker",
        "budget",
        "counts",
        "ejected",
        "hedge_after",
        "hedges",
        "members",
        "name",
        "policy",
        "queue",
        "requests",
        "sole",
        "trials",
    )

    def __init__(
        self,
        name: str,
        checks: Checks,
        timers: TimerWheel,
        random: Random,
        own_region: str,
        wake: Callable[[Group], None],
    ) -> None:
        """
        :param checks: who looks whether origins are well
        :param wake: called where one of those who wait may find an upstream now
        """
        self.name = name
        self.policy = USUAL
        self.members: Sequence[IUpstream] = ()
        self.sole: IUpstream | None = None
        self.requests = 0
        self.breaker: Breaker | None = None
        now = timers.seconds()
        self.budget = RetryBudget(USUAL.retries.budget, USUAL.retries.least, now)
        self.hedge_after = 0.0
        self.hedges = RetryBudget(USUAL.retries.hedge_budget, 1, now)
        self.queue: dict[IWaiter, Timer] = {}
        self.trials: list[Member] = []
        self.ejected = 0
        self.counts = {"failover": 0, "hedge": 0, "hedge_won": 0, "queued": 0, "queue_expired": 0, "retry": 0}
        self._checks = checks
        self._balancer: IBalancer = balancer(USUAL.balance, random)
        self._own_region = own_region
        self._random = random
        self._sets: dict[Selection | None, tuple[IUpstream, ...]] = {}
        self._standings: dict[Hashable, Member] = {}
        self._timers = timers
        self._wake = wake
        self._waking = False

    # what it is made of

    def configure(self, policy: Policy) -> None:
        """Take a policy over; what is remembered stays where its part of it is the same."""
        old, self.policy = self.policy, policy
        if policy.balance != old.balance:
            self._balancer = balancer(policy.balance, self._random)
        if policy.breaker != old.breaker:
            settings = policy.breaker
            self.breaker = (
                None
                if settings is None
                else Breaker(settings.share, settings.requests, settings.window, settings.seconds, settings.trials)
            )
        if policy.retries != old.retries:
            now = self._timers.seconds()
            self.budget = RetryBudget(policy.retries.budget, policy.retries.least, now, self.requests)
            self.hedges = RetryBudget(policy.retries.hedge_budget, 1, now, self.requests)
        if policy != old:
            for member in self._standings.values():
                member.look_again()

    def take_over(self, members: Sequence[IUpstream]) -> None:
        """These are the upstreams now."""
        now = self._timers.seconds()
        self.members = members
        remembers = self._remembers()
        self.hedge_after = self.policy.retries.hedge_after if len(members) > 1 else 0.0
        known = self._standings
        self._standings = {}
        weights = dict(self.policy.balance.weights)
        slow_start = self.policy.balance.slow_start
        latencies = [member.estimate(now) for member in known.values() if member.latency]
        usual = sum(latencies) / len(latencies) if latencies else 0.0
        for upstream in members:
            if not remembers:
                upstream.standing = None
                continue
            weight = upstream.weight * weights.get(upstream.branch, 1.0)
            member = known.pop(upstream.key, None)
            if member is None:
                member = Member(self, upstream, weight=weight, latency=usual, now=now)
            else:
                member.configure(weight, slow_start)
            self._standings[upstream.key] = upstream.standing = member
            self._look_after(member)
        for member in known.values():
            member.stop()
            if member.upstream.standing is member:
                member.upstream.standing = None  # what still runs there tells it alone
            if member in self.trials:
                self.trials.remove(member)
        self.sort()

    def _look_after(self, member: Member) -> None:
        settings = self.policy.health if member.upstream.watched else None
        if member.looking is not None:
            if member.looking.settings == settings:
                return
            member.looking.stop()
            member.looking = None
        if settings is None:
            member.well = True
        else:
            member.looking = Looking(self._checks, member, settings)

    def _remembers(self) -> bool:
        policy = self.policy
        return (
            len(self.members) > 1
            or self._balancer.always
            or policy.breaker is not None
            or policy.health is not None
            or bool(policy.balance.max_requests)
        )

    def sort(self) -> None:
        """Who takes requests has changed."""
        self._sets.clear()
        members = self.members
        self.sole = members[0] if len(members) == 1 and members[0].standing is None else None
        if self.queue:
            self.room()

    def stop(self) -> None:
        """Nothing of it is left on the clock."""
        for member in self._standings.values():
            member.stop()

    @property
    def standings(self) -> list[Member]:
        """What is remembered of each of its upstreams; empty where there is nothing to remember."""
        return list(self._standings.values())

    # choosing

    def candidates(self, selection: Selection | None) -> tuple[IUpstream, ...]:
        """Those that take the requests of a route: well, in, and of the best region that has any; those that are left
        where nobody is well, for then it may be the checks that are not."""
        found = self._sets.get(selection)
        if found is None:
            found = self._sets[selection] = self._find(selection)
        return found

    def _find(self, selection: Selection | None) -> tuple[IUpstream, ...]:
        every = [member for member in self.members if selection is None or selection.takes(member.branch)]
        well = [upstream for upstream in every if _well(upstream)]
        if not well:
            return () if self.policy.failover is not None else tuple(every)
        for region in self.policy.balance.prefer_region:
            name = self._own_region if region == "own" else region
            if near := [upstream for upstream in well if upstream.region == name]:
                return tuple(near)
        return tuple(well)

    def pick(self, avoid: Collection[Hashable], selection: Selection | None, seeker: Seeker | None) -> IUpstream | None:
        """An upstream for a request now, or None."""
        candidates = self._sets.get(selection)
        if candidates is None:
            candidates = self.candidates(selection)
        now = self._timers.seconds()
        trial = self._trial(avoid, selection, seeker, now) if self.trials else None
        if trial is not None:
            upstream: IUpstream | None = trial.upstream
        else:
            if avoid:
                candidates = tuple(upstream for upstream in candidates if upstream.key not in avoid)
                candidates = candidates or self._last_resort(avoid, selection)
            upstream = self._choose(candidates, seeker, now)
            most = self.policy.balance.max_requests
            if most and upstream is not None and _full(upstream, most):
                left = tuple(upstream for upstream in candidates if not _full(upstream, most))
                upstream = self._choose(left, seeker, now)
        if upstream is None or (self.breaker is not None and not self.breaker.allows(now)):
            return None
        self.requests += 1
        if trial is not None:
            trial.tried = True
        return upstream

    def _last_resort(self, avoid: Collection[Hashable], selection: Selection | None) -> tuple[IUpstream, ...]:
        """Who is left for a request that has failed at every candidate: well ones of other regions; then, unless there
        is a failover, those that were not well, for they may be by now, and an error is all it has to lose."""
        left = [
            member
            for member in self.members
            if member.key not in avoid and (selection is None or selection.takes(member.branch))
        ]
        well = [upstream for upstream in left if _well(upstream)]
        return tuple(well or (left if self.policy.failover is None else ()))

    def _choose(self, candidates: Sequence[IUpstream], seeker: Seeker | None, now: float) -> IUpstream | None:
        if not candidates:
            return None
        if len(candidates) == 1 and not self._balancer.always:
            return candidates[0]
        return self._balancer.pick(candidates, seeker, now)

    def _trial(
        self, avoid: Collection[Hashable], selection: Selection | None, seeker: Seeker | None, now: float
    ) -> Member | None:
        for member in self.trials:
            upstream = member.upstream
            if member.tried or not member.well or upstream.key in avoid:
                continue
            if selection is not None and not selection.takes(upstream.branch):
                continue
            if seeker is not None and (seeker.repeats or now > member.until + PATIENCE):
                return member
        return None

    def why(self, selection: Selection | None) -> str | None:
        """Why :meth:`pick` had none though there are some: the key of an answer; None where there are none."""
        if self.breaker is not None and self.breaker.state is not BreakerState.CLOSED:
            return CIRCUIT_OPEN
        return "overloaded" if self.candidates(selection) else None

    def busy(self, avoid: Collection[Hashable], selection: Selection | None) -> bool:
        """Whether there is one that would take a request, had it not as many as it may have."""
        most = self.policy.balance.max_requests
        return most > 0 and any(
            upstream.key not in avoid and _full(upstream, most) for upstream in self.candidates(selection)
        )

    def room(self) -> None:
        """One of those who wait may find an upstream now."""
        if self._waking:
            return  # who is looked at now looks at all of them
        self._waking = True
        try:
            self._wake(self)
        finally:
            self._waking = False

    def may_hedge(self, now: float) -> bool:
        """Whether a request may be sent to another one too; then it is counted."""
        return self.hedges.take(now, self.requests)

    @property
    def now(self) -> float:
        """The wheel's clock."""
        return self._timers.seconds()

    # what is told of it

    def states(self) -> dict[str, int]:
        """How many of its upstreams take requests, were ejected, are on trial, or are not well."""
        states = {"in": 0, "out": 0, "trial": 0, "unwell": 0}
        for upstream in self.members:
            member = upstream.standing
            states["in" if member is None else "unwell" if not member.well else member.place.value] += 1
        return states

    def estimates(self) -> list[float]:
        """The latencies of its upstreams, in seconds, where they are measured."""
        now = self._timers.seconds()
        return [member.estimate(now) for member in self._standings.values() if member.latency]

    def lines(self) -> list[str]:
        """What is not as it should be, a line each, for people."""
        now = self._timers.seconds()
        lines = []
        if self.breaker is not None and self.breaker.state is not BreakerState.CLOSED:
            left = self.breaker.left(now)
            how = f"open for {left:.0f} s more" if left else "half-open: a few requests try"
            lines.append(f"backend {self.name}: its circuit is {how}")
        for member in self._standings.values():
            name = f"backend {self.name}: {member.upstream.shown}"
            if not member.well:
                why = "" if member.looking is None or not member.looking.reason else f": {member.looking.reason}"
                lines.append(f"{name} is not well{why}")
            elif member.place is Place.OUT:
                lines.append(f"{name} gets no requests for {max(0.0, member.until - now):.0f} s more")
            elif member.place is Place.TRIAL:
                lines.append(f"{name} waits for a request that shows whether it is well")
        if self.queue:
            lines.append(f"backend {self.name}: requests that wait: {len(self.queue)}")
        return lines

    # how requests fare

    def fared(self, member: Member, now: float, bad: bool) -> None:
        """A request on this one went well or failed, where that changes anything."""
        breaker = self.breaker
        if breaker is not None and breaker.note(now, bad):
            self._say_breaker(breaker)
        if member.upstream.standing is not member:
            return  # it is gone
        if member.place is Place.TRIAL:
            self.trials.remove(member)
            if bad:
                self._eject(member, now, "it failed again")
            else:
                member.take_back(now)
                log.info(
                    "backend {name}: {upstream} takes requests again", name=self.name, upstream=member.upstream.shown
                )
                self.sort()
        elif bad and member.place is Place.IN:
            failures = self.policy.ejection.failures
            if failures and member.row >= failures:
                self._consider(member, now, f"{member.row} failures in a row")
            elif member.fails_often(now):
                self._consider(member, now, "too many of its answers are failures")

    def _consider(self, member: Member, now: float, why: str) -> None:
        """Eject it, unless too few would be left: where all fail, it is no one's fault, and some answers are better
        than none."""
        count = len(self.members)
        out = sum(not other.well or other.place is not Place.IN for other in self._standings.values())
        if out + 1 <= int(self.policy.ejection.most * count) and out + 1 < count and member.well:
            self._eject(member, now, why)

    def _eject(self, member: Member, now: float, why: str) -> None:
        seconds = member.eject(now, self.policy.ejection)
        self.ejected += 1
        log.warn(
            "backend {name}: {upstream} gets no requests for {seconds:g} s: {why}",
            name=self.name,
            upstream=member.upstream.shown,
            seconds=seconds,
            why=why,
        )
        if member.timer is None:
            member.timer = self._timers.start(seconds, lambda: self._end_ejection(member))
        else:
            member.timer.restart(seconds)
        self.sort()

    def _end_ejection(self, member: Member) -> None:
        member.let_try()
        self.trials.append(member)
        if self.queue:
            self.room()

    def _say_breaker(self, breaker: Breaker) -> None:
        if breaker.state is BreakerState.OPEN:
            log.warn(
                "backend {name}: its circuit is open for {seconds:g} s: too many of its answers are failures",
                name=self.name,
                seconds=breaker.seconds,
            )
        else:
            log.info("backend {name}: its circuit is closed again", name=self.name)

    def checked(self, member: Member, well: bool, why: str) -> None:
        """Its active checks say otherwise than before."""
        member.well = well
        if well:
            log.info("backend {name}: {upstream} is well again", name=self.name, upstream=member.upstream.shown)
        else:
            log.warn(
                "backend {name}: {upstream} is not well: {why}", name=self.name, upstream=member.upstream.shown, why=why
            )
        self.sort()


def _well(upstream: IUpstream) -> bool:
    member = upstream.standing
    return member is None or (member.well and member.place is Place.IN)


def _full(upstream: IUpstream, most: int) -> bool:
    return upstream.standing is not None and upstream.standing.active >= most
