"""Hedging: a GET that has no answer after a while goes to another upstream too, and the first answer wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.edge.h2_service import Service
from tests.edge.house import FakeSession, Stream, Visitor
from tests.edge.test_dispatch import GET, POST, Home, answer
from wormhole_tw.control.balancing import Balance, BreakerTable, Policy, RetriesTable
from wormhole_tw.control.model import H2C
from wormhole_tw.errors import StreamReset
from wormhole_tw.wire.codes import ResetCode

POLICY = Policy(
    balance=Balance(method="round_robin"), retries=RetriesTable(hedge_after=0.2, hedge_budget=1.0, attempts=3)
)


@pytest.fixture
def home() -> Iterator[Any]:
    homes: list[Home] = []

    def make(policy: Policy = POLICY, **settings: Any) -> Home:
        homes.append(Home(policy, **settings))
        return homes[-1]

    yield make
    for each in homes:
        each.close()
        assert len(each.context.dispatch.fine) == 0


Place = tuple[FakeSession, Stream]


def hedged(house: Home) -> tuple[Visitor, Place, Place]:
    """A request that waits at two agents."""
    visitor, session, stream = house.ask()
    house.clock.advance(0.1)
    assert len(house.busy()) == 1
    house.clock.advance(0.15)
    [second] = [place for place in house.busy() if place[1] is not stream]
    assert second[0] is not session
    return visitor, (session, stream), second


def settled(house: Home) -> None:
    """Nothing is counted that is not there."""
    assert [(member.active, member.waiting) for member in house.group.standings] == [(0, 0)] * len(house.sessions)


def test_an_answer_in_time_is_asked_for_once(home: Any) -> None:
    house = home()
    visitor, _, stream = house.ask()
    house.clock.advance(0.15)
    stream.deliver(answer())
    assert visitor.answers()
    house.clock.advance(1)
    assert house.group.counts["hedge"] == 0
    settled(house)


def test_the_second_may_win(home: Any) -> None:
    house = home()
    visitor, first, second = hedged(house)
    second[1].deliver(answer(body=b"second"))
    assert [body for _, body in visitor.answers()] == [b"second"]
    assert first[1].aborted
    assert house.done[-1].upstream.key == second[0].facts.session_id
    assert house.done[-1].attempts == 2
    assert house.group.counts["hedge_won"] == 1
    settled(house)
    # and the one that lost is known to be the slower one
    estimates = {member.upstream.key: member.estimate(house.clock.seconds()) for member in house.group.standings}
    assert estimates[first[0].facts.session_id] > estimates[second[0].facts.session_id]


def test_the_first_may_win_all_the_same(home: Any) -> None:
    house = home()
    visitor, first, second = hedged(house)
    first[1].deliver(answer(body=b"first"))
    assert [body for _, body in visitor.answers()] == [b"first"]
    assert second[1].aborted
    assert house.group.counts["hedge_won"] == 0
    settled(house)


def test_a_long_answer_comes_whole_from_who_began_it(home: Any) -> None:
    house = home()
    visitor, first, second = hedged(house)
    second[1].deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    assert first[1].aborted
    second[1].deliver(b"67890")
    assert [body for _, body in visitor.answers()] == [b"1234567890"]
    settled(house)
    # its connection is good for the next one
    assert not second[1].disconnected


def test_an_answer_that_stops_midway_is_cut_off_and_not_asked_for_again(home: Any) -> None:
    house = home()
    visitor, _, second = hedged(house)
    second[1].deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    assert b"12345" in visitor.hears()
    second[1].reset(ResetCode.SERVICE_FAILED, delivered=True)
    assert visitor.disconnected
    assert house.busy() == []
    settled(house)


@pytest.mark.parametrize("which", [1, 2])
def test_where_one_fails_the_other_goes_on(home: Any, which: int) -> None:
    house = home()
    visitor, *places = hedged(house)
    bad, good = places[which - 1], places[2 - which]
    bad[1].reset(ResetCode.SERVICE_FAILED, delivered=True)
    assert visitor.hears() == b""
    good[1].deliver(answer(body=b"good"))
    assert [body for _, body in visitor.answers()] == [b"good"]
    failing = {member.upstream.key: member.failing for member in house.group.standings}
    assert failing[bad[0].facts.session_id] > 0 == failing[good[0].facts.session_id]
    settled(house)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_where_both_fail_it_is_tried_elsewhere(home: Any, order: tuple[int, int]) -> None:
    house = home(agents=3)
    visitor, *places = hedged(house)
    for index in order:
        places[index][1].reset(ResetCode.SERVICE_FAILED, delivered=True)
    [(_, stream)] = house.busy()
    stream.deliver(answer(body=b"third"))
    assert [body for _, body in visitor.answers()] == [b"third"]
    settled(house)


def test_a_link_that_breaks_is_no_failure(home: Any) -> None:
    house = home(agents=3)
    visitor, first, second = hedged(house)
    second[0].die()
    house.sessions.remove(second[0])
    first[1].deliver(answer())
    assert visitor.answers()
    settled(house)


def test_a_visitor_who_leaves_ends_both(home: Any) -> None:
    house = home()
    visitor, first, second = hedged(house)
    visitor.lose()
    assert first[1].aborted
    assert second[1].aborted
    settled(house)


def test_what_is_not_final_is_dropped_while_two_run(home: Any) -> None:
    house = home()
    visitor, _, stream = house.ask()
    stream.deliver(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert visitor.hears().startswith(b"HTTP/1.1 103")
    house.clock.advance(0.25)
    stream.deliver(b"HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n")
    assert visitor.hears() == b""
    stream.deliver(answer())
    assert visitor.answers()
    settled(house)


@pytest.mark.parametrize("winner", [0, 1])
def test_a_cookie_leads_to_who_answered(home: Any, winner: int) -> None:
    house = home(replace(POLICY, balance=Balance(method="sticky")))
    visitor, *both = hedged(house)
    both[winner][1].deliver(answer())
    text = visitor.hears()
    assert text.count(b"Set-Cookie: ") == 1
    pair = text.partition(b"Set-Cookie: ")[2].partition(b";")[0]
    known = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\n\r\n" % pair
    visitor.lose()
    visitor, session, first = house.ask(request=known)
    assert session is both[winner][0]
    # a visitor of one, who is hedged, stays there or gets the other's
    house.clock.advance(0.25)
    [second] = [stream for _, stream in house.busy() if stream is not first]
    (first if winner else second).deliver(answer())
    assert visitor.hears().count(b"Set-Cookie: ") == 1 - winner


def test_a_post_is_sent_once(home: Any) -> None:
    house = home()
    visitor, _, stream = house.ask(request=POST)
    house.clock.advance(5)
    assert len(house.busy()) == 1
    stream.deliver(answer())
    assert visitor.answers()
    settled(house)


def test_a_budget_bounds_them(home: Any) -> None:
    house = home(replace(POLICY, retries=replace_retries(hedge_budget=0.0)))
    first = hedged(house)
    _, _, stream = house.ask()
    house.clock.advance(1)
    assert len(house.busy()) == 3
    assert house.group.hedges.refused == 1
    for _, busy in house.busy():
        if not busy.disconnected:
            busy.deliver(answer())
    assert first[0].answers()
    assert stream
    settled(house)


def replace_retries(**changes: Any) -> RetriesTable:
    return RetriesTable(**{"hedge_after": 0.2, "hedge_budget": 1.0, **changes})


def test_the_second_connection_may_take_its_time(home: Any) -> None:
    house = home()
    visitor, session, stream = house.ask()
    other = house.sessions[1 - house.sessions.index(session)]
    other.slow = []
    house.clock.advance(0.25)
    assert len(other.slow) == 1
    stream.deliver(answer(body=b"first"))
    assert [body for _, body in visitor.answers()] == [b"first"]
    settled(house)


def test_and_win_when_it_stands(home: Any) -> None:
    house = home()
    visitor, session, stream = house.ask()
    other = house.sessions[1 - house.sessions.index(session)]
    other.slow = []
    house.clock.advance(0.25)
    other.slow[0].callback(None)
    other.streams[-1].deliver(answer(body=b"second"))
    assert [body for _, body in visitor.answers()] == [b"second"]
    assert stream.aborted
    settled(house)


def test_where_the_first_fails_meanwhile_it_goes_on_alone(home: Any) -> None:
    house = home()
    visitor, session, stream = house.ask()
    other = house.sessions[1 - house.sessions.index(session)]
    other.slow = []
    house.clock.advance(0.25)
    stream.reset(ResetCode.SERVICE_FAILED, delivered=True)
    assert visitor.hears() == b""
    other.slow[0].callback(None)
    other.streams[-1].deliver(answer(body=b"second"))
    assert [body for _, body in visitor.answers()] == [b"second"]
    settled(house)


@pytest.mark.parametrize("how", ["refused", "late"])
def test_a_second_connection_that_does_not_come_about_changes_nothing(home: Any, how: str) -> None:
    house = home(connect=2.0)
    visitor, session, stream = house.ask()
    other = house.sessions[1 - house.sessions.index(session)]
    if how == "refused":
        other.refuse = StreamReset(ResetCode.UNREACHABLE, "refused", delivered=False)
    else:
        other.slow = []
    house.clock.advance(0.25)
    house.pass_time(3)
    stream.deliver(answer())
    assert [head.status_code for head, _ in visitor.answers()] == [200]
    assert {member.upstream.key: member.failing > 0 for member in house.group.standings} == {
        session.facts.session_id: False,
        other.facts.session_id: True,
    }
    settled(house)


def test_one_alone_is_not_hedged(home: Any) -> None:
    house = home(agents=1)
    visitor, _, stream = house.ask()
    house.clock.advance(1)
    assert len(house.busy()) == 1
    stream.deliver(answer())
    assert visitor.answers()


def test_a_breaker_hears_of_both(home: Any) -> None:
    house = home(replace(POLICY, breaker=BreakerTable(requests=2)))
    visitor, first, second = hedged(house)
    for _, stream in (first, second):
        stream.deliver(answer(503)) if not stream.disconnected else None
    assert [head.status_code for head, _ in visitor.answers()] == [503]
    settled(house)


def test_requests_on_shared_connections_are_hedged_too(home: Any) -> None:
    house = home()
    house.catalogs.swap(house.catalog(H2C))
    visitor = house.visitor()
    visitor.says(GET)
    [stream] = house.streams
    house.clock.advance(0.25)
    [other] = [each for each in house.streams if each is not stream]
    first, second = Service(stream), Service(other)
    second.answer(1, b"second")
    assert [body for _, body in visitor.answers()] == [b"second"]
    first.hear()
    assert first[1].reset is not None
    assert not stream.disconnected  # others may be on it
    settled(house)
