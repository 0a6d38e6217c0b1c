from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock

from tests.control._sample import FactsOnly
from wormhole_tw.control.registry import GRACE_AFTER_GOAWAY, GRACE_AFTER_HANDOVER, GRACE_AFTER_START, Outcome, Registry
from wormhole_tw.errors import MisuseError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Registry:
    """One that has stood for a while: the grace after start is over."""
    registry = Registry(clock.seconds)
    clock.advance(GRACE_AFTER_START)
    return registry


def test_an_agent_comes_serves_and_goes(registry: Registry) -> None:
    session = FactsOnly()
    admission = registry.admit(session)
    assert admission.outcome is Outcome.ADDED
    assert admission.admitted
    assert admission.old is None
    assert registry.candidates("app") == registry.sessions("app") == registry.all() == (session,)
    assert registry.candidates("docs") == registry.sessions("docs") == ()
    registry.remove(session)
    assert registry.candidates("app") == registry.sessions("app") == registry.all() == ()


def test_agents_of_a_process_that_was_replaced_are_expected_for_longer(clock: Clock) -> None:
    first, successor = Registry(clock.seconds), Registry(clock.seconds, succeeds=True)
    assert (first.succeeding, successor.succeeding) == (False, True)
    clock.advance(GRACE_AFTER_HANDOVER - 0.01)
    assert (first.expecting("app"), successor.expecting("app")) == (False, True)
    assert successor.succeeding
    clock.advance(0.02)
    assert not successor.expecting("app")
    assert not successor.succeeding


def test_replicas_stand_beside_one_another(registry: Registry) -> None:
    sessions = [FactsOnly(1), FactsOnly(2), FactsOnly(1, slot=1), FactsOnly(1, backend="docs")]
    assert [registry.admit(session).outcome for session in sessions] == [Outcome.ADDED] * 4
    assert registry.candidates("app") == tuple(sessions[:3])
    assert registry.candidates("docs") == (sessions[3],)
    assert registry.all() == tuple(sessions)


@pytest.mark.parametrize("previous_draining", [True, False])
def test_a_higher_generation_takes_the_place_at_once(registry: Registry, previous_draining: bool) -> None:
    old = FactsOnly(generation=1)
    new = FactsOnly(generation=2, previous_draining=previous_draining)
    registry.admit(old)
    admission = registry.admit(new)
    assert admission.outcome is Outcome.TOOK_OVER
    assert admission.admitted
    assert admission.old is old
    assert admission.old_drains is previous_draining
    assert registry.candidates("app") == (new,)
    assert registry.sessions("app") == (old, new)  # the old one is still there, with its streams
    registry.remove(old)
    assert registry.candidates("app") == registry.sessions("app") == (new,)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_lower_or_equal_generation_is_refused(registry: Registry, generation: int) -> None:
    holder = FactsOnly(generation=2)
    registry.admit(holder)
    late = FactsOnly(generation=generation)
    admission = registry.admit(late)
    assert admission.outcome is Outcome.REFUSED
    assert not admission.admitted
    assert admission.old is holder
    assert registry.all() == (holder,)
    registry.remove(late)  # its link ends: nothing of the holder's goes with it
    registry.changed(late)
    assert registry.candidates("app") == (holder,)


def test_the_ghost_that_ends_late_does_not_take_the_place_with_it(registry: Registry) -> None:
    old, new, newer = FactsOnly(generation=1), FactsOnly(generation=2), FactsOnly(generation=3)
    registry.admit(old)
    registry.admit(new)
    registry.remove(old)
    assert registry.admit(FactsOnly(generation=1)).outcome is Outcome.REFUSED
    assert registry.admit(newer).old is new


def test_a_free_place_is_anybodys(registry: Registry) -> None:
    session = FactsOnly(generation=7)
    registry.admit(session)
    registry.remove(session)
    assert registry.admit(FactsOnly(generation=1)).outcome is Outcome.ADDED


def test_only_the_ready_are_candidates(registry: Registry) -> None:
    session = FactsOnly()
    session.ready = False
    registry.admit(session)
    assert registry.candidates("app") == ()
    session.ready = True
    registry.changed(session)
    before = registry.candidates("app")
    assert before == (session,)
    assert registry.candidates("app") is before  # kept, not built anew
    session.draining = True
    registry.changed(session)
    assert registry.candidates("app") == ()
    assert registry.sessions("app") == (session,)


def test_a_session_is_admitted_once(registry: Registry) -> None:
    session = FactsOnly()
    registry.admit(session)
    with pytest.raises(MisuseError):
        registry.admit(session)


def test_everybody_is_expected_after_start(clock: Clock) -> None:
    registry = Registry(clock.seconds)
    assert registry.expecting("app")
    clock.advance(GRACE_AFTER_START - 0.01)
    assert registry.expecting("app")
    clock.advance(0.01)
    assert not registry.expecting("app")


def test_an_agent_that_said_goodbye_is_expected_back(clock: Clock, registry: Registry) -> None:
    session = FactsOnly()
    registry.admit(session)
    assert not registry.expecting("app")
    session.draining = True
    registry.changed(session)
    assert registry.expecting("app")
    assert not registry.expecting("docs")
    clock.advance(GRACE_AFTER_GOAWAY)
    registry.changed(session)  # saying so again does not begin it anew
    assert not registry.expecting("app")
    clock.advance(20)
    registry.remove(session)  # its last stream ended
    assert registry.expecting("app")
    clock.advance(GRACE_AFTER_GOAWAY)
    assert not registry.expecting("app")
    assert not registry.expecting("app")


def test_an_agent_that_was_lost_is_not_expected(registry: Registry) -> None:
    session = FactsOnly()
    registry.admit(session)
    registry.remove(session)
    assert not registry.expecting("app")


def test_the_one_that_takes_over_is_waited_for_until_it_is_ready(clock: Clock, registry: Registry) -> None:
    old, new = FactsOnly(generation=1), FactsOnly(generation=2)
    new.ready = False
    registry.admit(old)
    registry.admit(new)
    assert registry.candidates("app") == ()
    assert registry.expecting("app")
    clock.advance(GRACE_AFTER_GOAWAY)
    old.draining = True
    registry.changed(old)  # it drains because it was replaced: that promises nobody
    registry.remove(old)
    assert not registry.expecting("app")


def test_an_agent_that_comes_draining_has_a_successor(registry: Registry) -> None:
    session = FactsOnly()
    session.draining = True
    registry.admit(session)
    assert registry.candidates("app") == ()
    assert registry.expecting("app")


def test_subscribers_hear_of_every_change(registry: Registry) -> None:
    heard: list[str] = []
    unsubscribe = registry.subscribe(heard.append)
    forget = registry.subscribe(heard.append)
    forget()
    forget()
    session, late = FactsOnly(), FactsOnly()
    registry.admit(session)
    registry.admit(late)  # refused: nothing changed
    registry.changed(late)
    registry.remove(late)
    assert heard == ["app"]
    session.ready = False
    registry.changed(session)
    registry.remove(session)
    registry.remove(session)
    assert heard == ["app"] * 3
    unsubscribe()
    registry.admit(session)
    assert heard == ["app"] * 3


def test_a_subscriber_may_end_its_subscription_when_it_is_called(registry: Registry) -> None:
    heard: list[tuple[str, int]] = []

    def once(backend: str) -> None:
        heard.append((backend, len(registry.candidates(backend))))
        unsubscribe()

    unsubscribe = registry.subscribe(once)
    registry.admit(FactsOnly())
    registry.admit(FactsOnly(2))
    assert heard == [("app", 1)]


class Places(RuleBasedStateMachine):
    """Agents come, turn and go in any order; the rules of DESIGN's places are recomputed from scratch each time."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(Clock().seconds)
        self.here: list[FactsOnly] = []
        self.holders: dict[tuple[str, bytes, int], FactsOnly] = {}

    @rule(
        backend=st.sampled_from(["app", "docs"]),
        instance=st.integers(1, 2),
        slot=st.integers(0, 1),
        generation=st.integers(1, 4),
    )
    def come(self, backend: str, instance: int, slot: int, generation: int) -> None:
        session = FactsOnly(instance, generation, backend=backend, slot=slot)
        holder = self.holders.get(session.facts.place)
        admission = self.registry.admit(session)
        if holder is not None and holder.facts.generation >= generation:
            assert (admission.outcome, admission.old) == (Outcome.REFUSED, holder)
            return
        assert admission.outcome is (Outcome.ADDED if holder is None else Outcome.TOOK_OVER)
        assert admission.old is holder
        self.here.append(session)
        self.holders[session.facts.place] = session

    @rule(data=st.data(), ready=st.booleans(), draining=st.booleans())
    def turn(self, data: st.DataObject, ready: bool, draining: bool) -> None:
        if self.here:
            session = data.draw(st.sampled_from(self.here))
            session.ready, session.draining = ready, session.draining or draining
            self.registry.changed(session)

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        if self.here:
            session = data.draw(st.sampled_from(self.here))
            self.here.remove(session)
            if self.holders.get(session.facts.place) is session:
                del self.holders[session.facts.place]
            self.registry.remove(session)

    @invariant()
    def the_registry_says_the_same(self) -> None:
        for backend in ("app", "docs"):
            here = [session for session in self.here if session.facts.backend == backend]
            assert list(self.registry.sessions(backend)) == here
            assert list(self.registry.candidates(backend)) == [
                session
                for session in here
                if session.ready and not session.draining and self.holders.get(session.facts.place) is session
            ]
        assert set(self.registry.all()) == set(self.here)


TestPlaces = Places.TestCase
