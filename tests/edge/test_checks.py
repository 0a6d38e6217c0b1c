"""Active checks: what is asked, what counts, and who gets requests meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.edge.house import FakeSession, Stream
from tests.edge.test_dispatch import Home, answer, shares
from wormhole_tw.control.balancing import Balance, HealthCheck, Policy
from wormhole_tw.edge.upstreams.agents import AgentUpstream
from wormhole_tw.errors import StreamReset
from wormhole_tw.wire.codes import ResetCode

CHECK = HealthCheck("/healthz", interval=5.0, timeout=2.0, healthy=2, unhealthy=2)
POLICY = Policy(balance=Balance(method="round_robin"), health=CHECK)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    # as origins are; agents have all that these tests need, on a clock that the test moves
    monkeypatch.setattr(AgentUpstream, "watched", True)
    homes: list[Home] = []

    def make(policy: Policy = POLICY, **settings: Any) -> Home:
        homes.append(Home(policy, **settings))
        return homes[-1]

    yield make
    for each in homes:
        each.close()


def asked(session: FakeSession) -> Stream | None:
    """The stream of a check that waits for its answer."""
    for stream in session.streams:
        if not stream.disconnected and b"health check" in stream.read() + stream.got:
            return stream
    return None


def check(house: Home, *statuses: int | None) -> None:
    """Pass time until each agent was checked, and answer each with its status; None for a connection that breaks."""
    left = dict(zip(house.sessions, statuses, strict=False))
    for _ in range(60):
        for session in list(left):
            stream = asked(session)
            if stream is not None:
                status = left.pop(session)
                if status is None:
                    stream.lose()
                else:
                    stream.deliver(answer(status))
                assert stream.disconnected
        if not left:
            return
        house.clock.advance(0.25)
    raise AssertionError("nobody asked")


def test_it_asks_as_it_is_told_and_closes(home: Any) -> None:
    house = home(replace(POLICY, health=replace(CHECK, host="app.internal")), agents=1)
    house.pass_time(1.25)
    stream = asked(house.sessions[0])
    assert stream is not None
    [(head, body, _)] = stream.requests()
    assert (head.method, head.target, body) == (b"GET", b"/healthz", b"")
    assert dict(head.headers)[b"host"] == b"app.internal"
    assert dict(head.headers)[b"user-agent"] == b"wormhole-tw health check"
    stream.deliver(answer())
    assert stream.disconnected
    house.pass_time(4)
    assert asked(house.sessions[0]) is None
    house.pass_time(2)
    assert asked(house.sessions[0]) is not None


def test_one_that_is_not_well_gets_nothing_until_it_is(home: Any, log_lines: Any) -> None:
    house = home()
    check(house, 200, 500)
    assert set(shares(house, 4)) == {"app-1", "app-2"}
    check(house, 200, 500)
    assert "backend app: agent app-2 is not well: GET /healthz gave 500" in log_lines
    assert set(shares(house, 4)) == {"app-1"}
    check(house, 200, 200)
    assert set(shares(house, 4)) == {"app-1"}
    check(house, 200, 200)
    assert "backend app: agent app-2 is well again" in log_lines
    assert set(shares(house, 4)) == {"app-1", "app-2"}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("break", "closed"),
        ("refuse", "nobody listens"),
        ("silent", "no answer in 2 s"),
        ("slow", "no answer in 2 s"),
        ("nonsense", "is not well"),
    ],
)
def test_what_else_fails(home: Any, log_lines: Any, how: str, why: str) -> None:
    house = home()
    bad = house.sessions[1]
    if how == "refuse":
        bad.refuse = StreamReset(ResetCode.UNREACHABLE, "nobody listens", delivered=False)
    elif how == "slow":
        bad.slow = []
    for _ in range(80):
        stream = asked(house.sessions[0])
        if stream is not None:
            stream.deliver(answer())
        stream = asked(bad)
        if stream is not None and how == "break":
            stream.lose()
        elif stream is not None and how == "nonsense":
            stream.deliver(b"SSH-2.0-OpenSSH\r\n")
        house.clock.advance(0.25)
    assert "backend app: agent app-2 is not well" in log_lines
    assert why in log_lines
    assert set(shares(house, 4)) == {"app-1"}


def test_an_answer_without_an_end_is_enough(home: Any) -> None:
    house = home(agents=1)
    house.pass_time(1.25)
    stream = asked(house.sessions[0])
    assert stream is not None
    stream.deliver(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    assert stream.disconnected
    assert house.group.standings[0].looking.reason == ""


def test_where_nobody_is_well_all_are_asked_or_another_backend(home: Any) -> None:
    house = home()
    for _ in range(2):
        check(house, 503, 503)
    assert set(shares(house, 4)) == {"app-1", "app-2"}
    house.reload(replace(POLICY, failover="docs"))
    house.sessions.append(house.agent("docs"))
    assert set(shares(house, 4)) == {"docs-1"}


def test_a_reload_keeps_what_is_known_where_the_checks_are_the_same(home: Any) -> None:
    house = home()
    for _ in range(2):
        check(house, 200, 500)
    house.reload(replace(POLICY, failover="docs"))
    house.reload(POLICY)
    assert set(shares(house, 4)) == {"app-1"}
    house.reload(replace(POLICY, health=replace(CHECK, path="/other")))
    assert set(shares(house, 4)) == {"app-1"}
    house.reload(replace(POLICY, health=None))
    assert set(shares(house, 4)) == {"app-1", "app-2"}


def test_one_that_goes_is_asked_no_more(home: Any) -> None:
    house = home()
    house.pass_time(1.25)
    house.sessions[1].die()
    house.pass_time(12)
    assert asked(house.sessions[1]) is None


def test_agents_say_for_themselves_how_they_are(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentUpstream, "watched", False)
    house = home()
    house.pass_time(20)
    assert house.streams == []
