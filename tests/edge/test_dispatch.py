"""Who of a backend's upstreams gets a request, and what happens when some are slow, fail, are full or are not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.edge.house import FakeSession, House, Stream, Visitor
from wormhole_tw.control.balancing import Balance, BreakerTable, Ejection, Policy, QueueTable, RetriesTable
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import Release, Selection
from wormhole_tw.errors import StreamReset
from wormhole_tw.wire.codes import ResetCode

GET = b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nab"


def answer(status: int = 200, body: bytes = b"ok") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


class Home(House):
    """A house whose backend ``app`` has a policy, and whose agents answer as the test says."""

    def __init__(self, policy: Policy | None = None, *, agents: int = 2, **limits: Any) -> None:
        self.policy = policy or Policy()
        super().__init__(agents=agents, **limits)

    def catalog(self, protocol: str) -> Catalog:
        usual = super().catalog(protocol)
        backends = [
            replace(backend, policy=self.policy, protocol=protocol) if backend.name == "app" else backend
            for backend in usual.backends.values()
        ]
        return Catalog(usual.sites, backends, own_names=["edge.test"])

    def reload(self, policy: Policy) -> None:
        self.policy = policy
        self.catalogs.swap(self.catalog("http/1.1"))

    @property
    def group(self) -> Any:
        return self.context.dispatch.group("app")

    def busy(self) -> list[tuple[FakeSession, Stream]]:
        """The streams with a request that waits for its answer."""
        return [
            (session, stream)
            for session in self.sessions
            for stream in session.streams
            if not stream.disconnected and stream.protocol is not None and stream.protocol._handler is not None
        ]

    def ask(self, visitor: Visitor | None = None, request: bytes = GET) -> tuple[Visitor, FakeSession, Stream]:
        """A visitor asks; gives who has it."""
        visitor = visitor or self.visitor()
        before = [stream for _, stream in self.busy()]
        visitor.says(request)
        [(session, stream)] = [(s, stream) for s, stream in self.busy() if stream not in before]
        return visitor, session, stream

    def serve(self, *, status: int = 200, seconds: float = 0.0, request: bytes = GET) -> FakeSession:
        """A visitor asks and is answered by whoever has it, after so long."""
        visitor, session, stream = self.ask(request=request)
        if seconds:
            self.clock.advance(seconds)
        stream.deliver(answer(status))
        assert visitor.hears().startswith(b"HTTP/1.1 %d" % status)
        visitor.lose()
        return session

    def fail(self, session: FakeSession) -> None:
        """One request is answered by this agent with 503."""
        while True:
            visitor, who, stream = self.ask()
            stream.deliver(answer(503 if who is session else 200))
            visitor.lose()
            if who is session:
                return


@pytest.fixture
def home() -> Iterator[Any]:
    homes: list[Home] = []

    def make(policy: Policy | None = None, **settings: Any) -> Home:
        homes.append(Home(policy, **settings))
        return homes[-1]

    yield make
    for each in homes:
        each.close()


def shares(home: Home, count: int, **how: Any) -> Counter[str]:
    return Counter(home.serve(**how).facts.session_id for _ in range(count))


class TestOne:
    def test_alone_with_the_usual_policy_it_is_remembered_nothing_of(self, home: Any) -> None:
        house = home(agents=1)
        house.serve()
        assert house.group.sole is not None
        assert house.group.standings == []

    def test_when_another_comes_both_are_remembered_and_when_it_goes_nothing_is(self, home: Any) -> None:
        house = home(agents=1)
        visitor, _, stream = house.ask()
        second = house.agent(instance=2)
        house.sessions.append(second)
        assert house.group.sole is None
        stream.deliver(answer())
        assert visitor.hears()
        assert set(shares(house, 20)) == {"app-1", "app-2"}
        visitor, session, stream = house.ask()
        other = second if session is house.sessions[0] else house.sessions[0]
        other.die()
        assert house.group.sole is not None
        stream.deliver(answer())
        assert visitor.hears()
        house.serve()


class TestLatency:
    def test_the_faster_one_gets_more(self, home: Any) -> None:
        house = home()
        slow = house.sessions[0]
        for _ in range(200):
            visitor, session, stream = house.ask()
            house.clock.advance(0.5 if session is slow else 0.005)
            stream.deliver(answer())
            visitor.lose()
        assert shares(house, 50)["app-2"] >= 45

    def test_one_that_does_not_answer_gets_nothing_more(self, home: Any) -> None:
        house = home()
        shares(house, 20, seconds=0.01)
        stuck = house.sessions[0]
        waiting = []
        while not waiting or waiting[-1][1] is not stuck:
            waiting.append(house.ask())
        house.pass_time(2)
        assert shares(house, 30, seconds=0.01) == {"app-2": 30}
        for visitor, _, stream in waiting:
            stream.deliver(answer())
            visitor.lose()

    def test_an_upload_may_take_its_time(self, home: Any) -> None:
        house = home()
        shares(house, 20, seconds=0.01)
        upload = POST.replace(b"\r\n\r\nab", b"\r\n\r\na")
        visitor, session, stream = house.ask(request=upload)
        house.pass_time(6)
        seen = shares(house, 60, seconds=0.01)
        assert seen[session.facts.session_id] > 5
        visitor.says(b"b")
        stream.deliver(answer())
        assert visitor.answers()

    def test_fast_errors_do_not_attract(self, home: Any) -> None:
        house = home()
        failing = house.sessions[0]
        seen = Counter[bool]()
        for _ in range(100):
            visitor, session, stream = house.ask()
            bad = session is failing
            seen[bad] += 1
            house.clock.advance(0.001 if bad else 0.05)
            stream.deliver(answer(500 if bad else 200))
            visitor.lose()
        assert seen[True] < 15

    def test_what_visitors_leave_is_given_back(self, home: Any) -> None:
        house = home()
        for _ in range(10):
            visitor, _, _ = house.ask()
            visitor.lose()
        assert [(member.active, member.waiting) for member in house.group.standings] == [(0, 0), (0, 0)]

    def test_where_visitors_give_up_the_next_ones_go_elsewhere(self, home: Any) -> None:
        house = home()
        shares(house, 20, seconds=0.01)
        stuck, asked = house.sessions[0], 0
        for _ in range(30):
            visitor, session, stream = house.ask()
            if session is stuck:
                asked += 1
                house.pass_time(3)  # longer than anybody waits
            else:
                house.clock.advance(0.01)
                stream.deliver(answer())
            visitor.lose()
        assert 1 <= asked <= 3

    def test_a_request_whose_whole_time_is_over_was_failed_by_who_had_it(self, home: Any) -> None:
        house = home(whole=2.0)
        visitor, session, _ = house.ask()
        house.pass_time(2.5)
        assert visitor.answers()[0][0].status_code == 504
        failing = {member.upstream.key: member.failing > 0 for member in house.group.standings}
        assert failing[session.facts.session_id]

    def test_one_that_takes_no_more_is_not_blamed(self, home: Any) -> None:
        house = home()
        visitor, _, stream = house.ask()
        stream.reset(ResetCode.OVER_LIMIT, delivered=False)
        house.busy()[0][1].deliver(answer())
        assert visitor.answers()
        assert [member.failing for member in house.group.standings] == [0.0, 0.0]


class TestBranches:
    def agents(self, house: Home, *branches: str) -> None:
        for number, branch in enumerate(branches, 1):
            house.sessions.append(house.agent(instance=number, release=Release(branch=branch)))

    def test_a_selection_gets_its_own_and_others_the_rest(self, home: Any) -> None:
        house = home(agents=0)
        self.agents(house, "main", "canary", "main")
        pick = house.context.dispatch.pick
        canary, rest = Selection("canary"), Selection(apart=frozenset({"canary"}))
        assert {pick("app", (), canary).key for _ in range(30)} == {"app-2"}
        assert {pick("app", (), rest).key for _ in range(60)} == {"app-1", "app-3"}
        assert house.context.dispatch.offers("app", "canary")
        house.sessions[1].leave()
        assert pick("app", (), canary) is None
        assert house.context.dispatch.why("app", canary) is None
        assert not house.context.dispatch.offers("app", "canary")

    def test_weights_go_by_branch(self, home: Any) -> None:
        house = home(Policy(balance=Balance(weights=(("canary", 0.1),))), agents=0)
        self.agents(house, "main", "canary")
        seen = shares(house, 300)
        assert 5 <= seen["app-2"] <= 60


class TestRegions:
    def agents(self, house: Home, *regions: str) -> None:
        for number, region in enumerate(regions, 1):
            house.sessions.append(house.agent(instance=number, region=region))

    def test_the_first_that_has_anybody_gets_all(self, home: Any) -> None:
        house = home(Policy(balance=Balance(prefer_region=("eu", "us"))), agents=0)
        self.agents(house, "us", "eu", "asia", "eu")
        assert set(shares(house, 40)) == {"app-2", "app-4"}
        house.sessions[1].die()
        house.sessions[3].die()
        assert set(shares(house, 20)) == {"app-1"}
        house.sessions[0].die()
        assert set(shares(house, 5)) == {"app-3"}

    def test_own_is_the_edges(self, home: Any) -> None:
        house = home(Policy(balance=Balance(prefer_region=("own",))), agents=0)
        house.context.dispatch._region = "here"
        self.agents(house, "there", "here")
        assert set(shares(house, 20)) == {"app-2"}


class TestSticky:
    def cookie(self, visitor: Visitor) -> bytes:
        text = visitor.hears()
        assert text.lower().count(b"set-cookie: wormhole_agent=") == 1
        return text.lower().partition(b"set-cookie: ")[2].partition(b";")[0]

    def test_a_visitor_comes_back_to_the_same_one(self, home: Any) -> None:
        house = home(Policy(balance=Balance(method="sticky")), agents=1)
        visitor, _, stream = house.ask()
        stream.deliver(answer())
        text = visitor.hears()
        pair = text.partition(b"Set-Cookie: ")[2].partition(b";")[0]
        visitor.lose()
        house.sessions += [house.agent(instance=number) for number in (2, 3)]
        for _ in range(20):
            visitor, session, stream = house.ask(
                request=b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\n\r\n" % pair
            )
            stream.deliver(answer())
            assert session is house.sessions[0]
            assert b"Set-Cookie" not in visitor.hears()
            visitor.lose()
        house.sessions[0].die()
        visitor, _, stream = house.ask(request=b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\n\r\n" % pair)
        stream.deliver(answer())
        assert pair.lower() != self.cookie(visitor)

    def test_a_request_that_goes_elsewhere_in_the_end_names_that_one(self, home: Any) -> None:
        house = home(Policy(balance=Balance(method="sticky")))
        visitor, session, stream = house.ask()
        other = house.sessions[1 - house.sessions.index(session)]
        stream.reset(ResetCode.REFUSED, delivered=False)
        [(who, stream)] = house.busy()
        assert who is other
        stream.deliver(answer())
        text = visitor.hears()
        assert text.count(b"Set-Cookie: ") == 1
        pair = text.partition(b"Set-Cookie: ")[2].partition(b";")[0]
        again = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\n\r\n" % pair
        assert house.ask(request=again)[1] is other
        house.busy()[0][1].deliver(answer())


class TestEjection:
    policy = Policy(balance=Balance(method="round_robin"), ejection=Ejection(failures=3, seconds=10.0, longest=40.0))

    def test_who_fails_three_times_in_a_row_is_out_and_comes_back_by_a_trial(self, home: Any, log_lines: Any) -> None:
        house = home(self.policy)
        bad = house.sessions[0]
        for _ in range(3):
            house.fail(bad)
        assert "backend app: agent app-1 gets no requests for 10 s: 3 failures in a row" in log_lines
        assert shares(house, 10) == {"app-2": 10}
        house.pass_time(10.5)
        seen = shares(house, 10)
        assert seen["app-1"] > 1
        assert "backend app: agent app-1 takes requests again" in log_lines

    def test_who_fails_its_trial_is_out_for_longer(self, home: Any, log_lines: Any) -> None:
        house = home(self.policy)
        bad = house.sessions[0]
        for _ in range(3):
            house.fail(bad)
        house.pass_time(10.5)
        house.fail(bad)
        assert "gets no requests for 20 s: it failed again" in log_lines
        assert shares(house, 5) == {"app-2": 5}
        house.pass_time(10.5)
        assert shares(house, 5) == {"app-2": 5}
        house.pass_time(10)
        assert shares(house, 5)["app-1"] >= 1

    def test_one_request_at_a_time_tries(self, home: Any) -> None:
        house = home(self.policy)
        for _ in range(3):
            house.fail(house.sessions[0])
        house.pass_time(10.5)
        trial = house.ask()
        assert trial[1] is house.sessions[0]
        assert shares(house, 4) == {"app-2": 4}
        trial[0].lose()  # its visitor leaves, and nobody knows
        assert house.ask()[1] is house.sessions[0]
        house.busy()[0][1].deliver(answer())
        assert shares(house, 4)["app-1"] == 2

    def test_a_post_does_not_try_unless_nothing_else_comes(self, home: Any) -> None:
        house = home(self.policy)
        for _ in range(3):
            house.fail(house.sessions[0])
        house.pass_time(10.5)
        assert shares(house, 4, request=POST) == {"app-2": 4}
        house.pass_time(5)
        assert house.serve(request=POST) is house.sessions[0]

    def test_a_failure_without_an_answer_counts_and_the_link_that_broke_does_not(self, home: Any) -> None:
        house = home(self.policy)
        bad = house.sessions[0]
        for _ in range(3):
            while True:
                visitor, session, stream = house.ask()
                if session is bad:
                    break
                stream.deliver(answer())
                visitor.lose()
            stream.reset(ResetCode.REFUSED, delivered=False)
            house.busy()[0][1].deliver(answer())
            visitor.lose()
        assert shares(house, 6) == {"app-2": 6}

    def test_the_last_one_stays(self, home: Any) -> None:
        house = home(self.policy)
        shares(house, 20, status=503)
        assert sum(member.place.value == "in" for member in house.group.standings) == 1
        house.serve()

    def test_where_those_that_were_left_go_the_ejected_one_serves(self, home: Any) -> None:
        house = home(self.policy)
        for _ in range(3):
            house.fail(house.sessions[0])
        house.sessions[1].leave()
        assert house.serve() is house.sessions[0]

    def test_an_agent_that_goes_takes_its_ejection_with_it(self, home: Any) -> None:
        house = home(self.policy, agents=3)
        for _ in range(3):
            house.fail(house.sessions[0])
        house.pass_time(10.5)
        assert len(house.group.trials) == 1
        house.sessions[0].die()
        assert house.group.trials == []
        shares(house, 4)

    def test_a_trial_that_ends_when_its_agent_has_left_is_of_no_concern(self, home: Any) -> None:
        house = home(self.policy, agents=3)
        for _ in range(3):
            house.fail(house.sessions[0])
        house.pass_time(10.5)
        visitor, session, stream = house.ask()
        assert session is house.sessions[0]
        session.leave()
        stream.deliver(answer(503))
        assert visitor.answers()[0][0].status_code == 503
        shares(house, 4)

    def test_a_share_of_failures_ejects_too(self, home: Any, log_lines: Any) -> None:
        share = Ejection(failures=0, share=0.4, requests=10)
        house = home(Policy(balance=Balance(method="round_robin"), ejection=share))
        for number in range(40):
            visitor, session, stream = house.ask()
            bad = session is house.sessions[0] and number % 4 < 2
            stream.deliver(answer(502 if bad else 200))
            visitor.lose()
            house.clock.advance(0.01)
        assert "too many of its answers are failures" in log_lines

    def test_ordinary_errors_of_an_application_eject_nobody(self, home: Any) -> None:
        house = home(self.policy)
        shares(house, 20, status=500)
        assert {member.place.value for member in house.group.standings} == {"in"}

    def test_its_statuses_are_those_that_are_named(self, home: Any) -> None:
        named = Ejection(failures=2, statuses=((429, 429), (500, 500)))
        house = home(Policy(balance=Balance(method="round_robin"), ejection=named))
        shares(house, 12, status=503)
        assert {member.place.value for member in house.group.standings} == {"in"}
        shares(house, 4, status=429)
        assert {member.place.value for member in house.group.standings} == {"in", "out"}

    def test_it_stays_over_a_reload(self, home: Any) -> None:
        house = home(self.policy)
        for _ in range(3):
            house.fail(house.sessions[0])
        house.reload(replace(self.policy, failover="docs"))
        house.reload(self.policy)
        assert shares(house, 5) == {"app-2": 5}


class TestBreaker:
    policy = Policy(breaker=BreakerTable(requests=4, seconds=10.0, trials=2))

    def test_a_backend_that_fails_is_left_alone_for_a_while(self, home: Any, log_lines: Any) -> None:
        house = home(self.policy, agents=1)
        for _ in range(4):
            house.serve(status=503)
        assert "backend app: its circuit is open for 10 s: too many of its answers are failures" in log_lines
        visitor = house.visitor()
        visitor.says(GET)
        [(head, body)] = visitor.answers()
        assert head.status_code == 503
        assert dict(head.headers)[b"x-wormhole-error"] == b"circuit-open"
        assert b"left alone" in body
        house.pass_time(10.25)
        house.serve()
        house.serve()
        assert "backend app: its circuit is closed again" in log_lines
        shares(house, 5)

    def test_a_trial_of_an_agent_waits_until_the_circuit_lets_it(self, home: Any) -> None:
        ejection = Ejection(failures=2, seconds=1.0)
        house = home(
            Policy(Balance(method="round_robin"), ejection=ejection, breaker=BreakerTable(requests=6, trials=1))
        )
        shares(house, 6, status=503)
        house.pass_time(2)
        assert house.context.dispatch.pick("app", (), None, house.done[-1]) is None
        house.pass_time(9)
        shares(house, 6)
        assert [member.place.value for member in house.group.standings] == ["in", "in"]

    def test_it_stays_open_over_a_reload_with_the_same_settings(self, home: Any) -> None:
        house = home(self.policy, agents=1)
        for _ in range(4):
            house.serve(status=503)
        house.reload(replace(self.policy, queue=QueueTable()))
        assert house.context.dispatch.pick("app") is None
        house.reload(Policy(breaker=BreakerTable(requests=5)))
        assert house.context.dispatch.pick("app") is not None


class TestRetries:
    def test_attempts_are_as_many_as_it_says(self, home: Any) -> None:
        house = home(Policy(retries=RetriesTable(attempts=1)))
        visitor, _, stream = house.ask()
        stream.reset(ResetCode.REFUSED, delivered=False)
        [(head, _)] = visitor.answers()
        assert head.status_code == 502

    def test_beyond_the_budget_a_failure_is_the_answer(self, home: Any) -> None:
        house = home(Policy(retries=RetriesTable(budget=0.0, least=2)))
        for session in house.sessions:
            session.refuse = StreamReset(ResetCode.UNREACHABLE, "refused", delivered=False)
        for _ in range(3):
            visitor = house.visitor()
            visitor.says(GET)
            [(head, _)] = visitor.answers()
            assert head.status_code == 502
            visitor.lose()
        assert house.context.counters.retries == 2
        assert house.group.budget.refused >= 2

    def test_what_was_lost_with_its_agent_needs_none(self, home: Any) -> None:
        house = home(Policy(retries=RetriesTable(budget=0.0, least=0)))
        visitor, session, _ = house.ask()
        session.die()
        [(other, stream)] = house.busy()
        assert other is not session
        stream.deliver(answer())
        assert visitor.answers()

    def test_a_post_is_never_sent_twice_but_where_nobody_had_it(self, home: Any) -> None:
        house = home()
        visitor, _, stream = house.ask(request=POST)
        stream.reset(ResetCode.SERVICE_FAILED, delivered=True)
        [(head, _)] = visitor.answers()
        assert head.status_code == 502
        assert house.busy() == []
        visitor, session, stream = house.ask(request=POST)
        stream.reset(ResetCode.UNREACHABLE, delivered=False)
        [(other, stream)] = house.busy()
        assert other is not session
        stream.deliver(answer())
        assert visitor.answers()[0][0].status_code == 200


class TestFailover:
    policy = Policy(failover="docs")

    def test_another_backend_takes_what_nobody_is_there_for(self, home: Any) -> None:
        house = home(self.policy, agents=0)
        house.sessions.append(house.agent("docs"))
        assert house.serve().facts.backend == "docs"
        house.sessions.append(house.agent("app", instance=2))
        assert house.serve().facts.backend == "app"
        assert house.group.counts["failover"] == 1

    def test_and_what_the_last_one_failed(self, home: Any) -> None:
        house = home(self.policy, agents=1)
        house.sessions.append(house.agent("docs"))
        visitor, session, stream = house.ask()
        assert session.facts.backend == "app"
        stream.reset(ResetCode.UNREACHABLE, delivered=False)
        [(session, stream)] = house.busy()
        assert session.facts.backend == "docs"
        stream.deliver(answer())
        assert visitor.answers()[0][0].status_code == 200

    def test_and_what_an_open_circuit_keeps_away(self, home: Any) -> None:
        house = home(replace(self.policy, breaker=BreakerTable(requests=2)), agents=1)
        house.sessions.append(house.agent("docs"))
        for _ in range(2):
            house.serve(status=503)
        assert house.serve().facts.backend == "docs"


class TestQueue:
    policy = Policy(balance=Balance(max_requests=1), queue=QueueTable(requests=2, seconds=3.0))

    def test_requests_wait_until_one_ends(self, home: Any) -> None:
        house = home(self.policy, agents=1)
        running = house.ask()
        waiting = [house.visitor() for _ in range(2)]
        for visitor in waiting:
            visitor.says(GET)
        assert house.context.dispatch.waiting("app") == 2
        late = house.visitor()
        late.says(GET)
        [(head, _)] = late.answers()
        assert dict(head.headers)[b"x-wormhole-error"] == b"overloaded"
        running[2].deliver(answer())
        assert running[0].answers()
        for visitor in waiting:
            assert visitor.hears() == b""
            house.busy()[0][1].deliver(answer())
            assert visitor.answers()
        assert house.context.dispatch.waiting("app") == 0

    def test_who_waits_for_too_long_is_told(self, home: Any) -> None:
        house = home(self.policy, agents=1)
        running = house.ask()
        visitor = house.visitor()
        visitor.says(GET)
        house.pass_time(3.5)
        [(head, _)] = visitor.answers()
        assert head.status_code == 503
        assert dict(head.headers)[b"x-wormhole-error"] == b"overloaded"
        assert house.group.counts["queue_expired"] == 1
        running[2].deliver(answer())

    def test_who_was_refused_by_one_waits_for_the_other(self, home: Any) -> None:
        house = home(self.policy)
        running = house.ask()
        other = house.sessions[1 - house.sessions.index(running[1])]
        other.refuse = StreamReset(ResetCode.UNREACHABLE, "refused", delivered=False)
        visitor = house.visitor()
        visitor.says(GET)
        assert house.context.dispatch.waiting("app") == 1
        running[2].deliver(answer())
        [(session, stream)] = house.busy()
        assert session is running[1]
        stream.deliver(answer())
        assert visitor.answers()[0][0].status_code == 200

    def test_a_visitor_who_leaves_makes_room(self, home: Any) -> None:
        house = home(self.policy, agents=1)
        running = house.ask()
        visitor = house.visitor()
        visitor.says(GET)
        running[0].lose()
        house.busy()[0][1].deliver(answer())
        assert visitor.answers()

    def test_many_that_wait_and_fail_at_once_do_not_pile_up(self, home: Any) -> None:
        house = home(replace(self.policy, queue=QueueTable(requests=2000)), agents=1)
        running = house.ask()
        visitors = [house.visitor() for _ in range(1500)]
        for visitor in visitors:
            visitor.says(GET)
        house.sessions[0].refuse = StreamReset(ResetCode.UNREACHABLE, "refused", delivered=False)
        running[2].reset(ResetCode.SERVICE_FAILED, delivered=True)
        assert all(visitor.answers()[0][0].status_code == 502 for visitor in visitors)

    def test_they_wait_for_an_agent_that_nobody_expects(self, home: Any) -> None:
        house = home(self.policy, agents=0)
        visitor = house.visitor()
        visitor.says(GET)
        assert house.context.dispatch.waiting("app") == 1
        house.sessions.append(house.agent())
        house.busy()[0][1].deliver(answer())
        assert visitor.answers()

    def test_without_a_queue_who_finds_all_busy_is_told_at_once(self, home: Any) -> None:
        house = home(Policy(balance=Balance(max_requests=1)), agents=1)
        running = house.ask()
        visitor = house.visitor()
        visitor.says(GET)
        assert dict(visitor.answers()[0][0].headers)[b"x-wormhole-error"] == b"overloaded"
        running[2].deliver(answer())

    def test_a_bigger_bound_after_a_reload_lets_them_go(self, home: Any) -> None:
        house = home(self.policy, agents=1)
        house.ask()
        visitor = house.visitor()
        visitor.says(GET)
        house.reload(replace(self.policy, balance=Balance(max_requests=2)))
        for _, stream in house.busy():
            stream.deliver(answer())
        assert visitor.answers()


def test_a_backend_that_leaves_the_file_is_forgotten(home: Any) -> None:
    house = home(agents=0)
    assert house.context.dispatch.pick("nobody") is None
    house.reload(Policy())
    assert "nobody" not in {group.name for group in house.context.dispatch}
