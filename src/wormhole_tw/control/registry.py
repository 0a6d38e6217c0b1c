"""Who is here: the sessions of agents by backend and by place.

A **place** is (backend, instance, slot). A higher generation takes its place at once for new streams; a lower or equal
one is refused; another instance stands beside it as a replica. So a restart never finds its name taken by its own
ghost. The registry decides; whoever called carries it out (ends or drains the session that lost its place).

Reads are synchronous and cheap: ``candidates`` is a dict lookup. Time comes as a function that gives the seconds of
any clock that does not go back (``reactor.seconds``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from wormhole_tw.errors import MisuseError

from .interfaces import IAgentSession

__all__ = ["GRACE_AFTER_GOAWAY", "GRACE_AFTER_HANDOVER", "GRACE_AFTER_START", "Admission", "Outcome", "Registry"]

#: Seconds after the edge's start in which an agent may still be on its way: agents come back with a backoff of at
#: most 5 s, and a request that waits is better than a 503 for a service that was there all the time.
GRACE_AFTER_START = 5.0

#: The same for an edge that takes over from another one, whose agents are all told at once: a thousand come within
#: three, and the last one's visitors have not waited for longer than each of them may.
GRACE_AFTER_HANDOVER = 15.0

#: Seconds after a session said that it goes (or its place was taken) in which its successor may still be on its way.
GRACE_AFTER_GOAWAY = 5.0


class Outcome(Enum):
    """What became of a session that asked for a place."""

    ADDED = "added"
    TOOK_OVER = "took over"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Admission:
    """The registry's decision about a session.

    :ivar old: TOOK_OVER: the one that lost its place, which the caller drains or ends; REFUSED: the one that holds it
    :ivar old_drains: TOOK_OVER: ``old`` may end its streams in peace; otherwise they end now (its far side is gone)
    """

    outcome: Outcome
    old: IAgentSession | None = None
    old_drains: bool = False

    @property
    def admitted(self) -> bool:
        """The session is in the registry."""
        return self.outcome is not Outcome.REFUSED


class Registry:
    """The sessions that this edge knows.

    :param seconds: the clock
    :param succeeds: another process's agents are all told to come here
    """

    def __init__(self, seconds: Callable[[], float], *, succeeds: bool = False) -> None:
        self._seconds = seconds
        self._succeeds = succeeds
        self._grace = GRACE_AFTER_HANDOVER if succeeds else GRACE_AFTER_START
        self._places: dict[tuple[str, bytes, int], IAgentSession] = {}
        self._backends: dict[str, dict[IAgentSession, None]] = {}  # in the order they came
        self._candidates: dict[str, tuple[IAgentSession, ...]] = {}
        self._started = seconds()
        self._grace_until: dict[str, float] = {}
        self._draining: set[IAgentSession] = set()
        self._subscribers: dict[object, Callable[[str], None]] = {}

    def admit(self, session: IAgentSession) -> Admission:
        """Give a session its place, or refuse it.

        :raises MisuseError: the session is in the registry already
        """
        facts = session.facts
        sessions = self._backends.setdefault(facts.backend, {})
        if session in sessions:
            raise MisuseError("the session is in the registry already")
        old = self._places.get(facts.place)
        if old is not None and facts.generation <= old.facts.generation:
            return Admission(Outcome.REFUSED, old)
        self._places[facts.place] = session
        sessions[session] = None
        if old is None:
            admission = Admission(Outcome.ADDED)
        else:
            # The new link says in a moment (STATUS) that it is ready; until then requests wait and get no 503.
            self._expect(facts.backend)
            admission = Admission(Outcome.TOOK_OVER, old, facts.previous_draining)
        self._note_draining(session)
        self._rebuild(facts.backend)
        return admission

    def remove(self, session: IAgentSession) -> None:
        """Forget a session that is over; one that is not here is ignored.

        Where it left by GOAWAY (it was draining) and nobody took its place, its backend is expected back for a while.
        """
        backend = session.facts.backend
        sessions = self._backends.get(backend, {})
        if session not in sessions:
            return
        del sessions[session]
        if not sessions:
            del self._backends[backend]
        place = session.facts.place
        if self._places.get(place) is session:
            del self._places[place]
            if session.draining:
                self._expect(backend)
        self._draining.discard(session)
        self._rebuild(backend)

    def changed(self, session: IAgentSession) -> None:
        """Take note that ``ready``, ``draining`` or the facts of a session changed; one that is not here is ignored."""
        backend = session.facts.backend
        if session in self._backends.get(backend, ()):
            self._note_draining(session)
            self._rebuild(backend)

    def candidates(self, backend: str) -> tuple[IAgentSession, ...]:
        """The sessions that may take a new request now: ready, not draining, and not replaced."""
        return self._candidates.get(backend, ())

    def sessions(self, backend: str) -> tuple[IAgentSession, ...]:
        """Every session of a backend, those that are leaving or not ready included, in the order they came."""
        return tuple(self._backends.get(backend, ()))

    def all(self) -> tuple[IAgentSession, ...]:
        """Every session."""
        return tuple(session for sessions in self._backends.values() for session in sessions)

    def expecting(self, backend: str) -> bool:
        """Say whether an agent of this backend is probably on its way, so that a request waits instead of failing.

        True for 5 s after start, after a session said that it goes, after it went, and after its place was taken. An
        agent that was just lost is not expected: then 503 comes at once.
        """
        now = self._seconds()
        if now - self._started < self._grace:
            return True
        until = self._grace_until.get(backend)
        if until is None:
            return False
        if now < until:
            return True
        del self._grace_until[backend]
        return False

    @property
    def succeeding(self) -> bool:
        """Another process's agents are on their way here, and its visitors with them: more may wait than else.

        For 15 s after the start of an edge that takes over.
        """
        return self._succeeds and self._seconds() - self._started < self._grace

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call ``callback(backend)`` after each change of a backend's sessions or candidates; it must not raise.

        :return: a function that ends the subscription; calling it twice does no harm
        """
        key = object()
        self._subscribers[key] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    def _expect(self, backend: str) -> None:
        self._grace_until[backend] = self._seconds() + GRACE_AFTER_GOAWAY

    def _note_draining(self, session: IAgentSession) -> None:
        """The first time that a session which holds its place is seen draining, expect its successor."""
        if session.draining and session not in self._draining:
            self._draining.add(session)
            if self._places.get(session.facts.place) is session:
                self._expect(session.facts.backend)

    def _rebuild(self, backend: str) -> None:
        places = self._places
        candidates = tuple(
            session
            for session in self._backends.get(backend, ())
            if session.ready and not session.draining and places.get(session.facts.place) is session
        )
        if candidates:
            self._candidates[backend] = candidates
        else:
            self._candidates.pop(backend, None)
        for callback in tuple(self._subscribers.values()):
            callback(backend)
