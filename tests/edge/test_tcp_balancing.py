"""Connections of TCP services among several agents: spread, kept from who fails, waiting where all are full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.edge.house import Visitor
from tests.edge.test_dispatch import Home
from tests.edge.test_tcp import Port
from wormhole_tw.control.balancing import Balance, Ejection, Policy, QueueTable
from wormhole_tw.errors import StreamReset
from wormhole_tw.wire.codes import ResetCode


@pytest.fixture
def home() -> Iterator[Any]:
    homes: list[Home] = []

    def make(policy: Policy) -> Home:
        homes.append(Home(policy))
        return homes[-1]

    yield make
    for each in homes:
        each.close()


def taken(house: Home) -> list[int]:
    """Connections of each agent."""
    return [sum(not stream.disconnected for stream in session.streams) for session in house.sessions]


def end(house: Home, visitor: Visitor) -> None:
    """The visitor closes, and so does the service."""
    visitor.lose()
    for stream in house.streams:
        if stream.disconnecting:
            stream.lose()


def test_they_are_spread_and_given_back(home: Any) -> None:
    house = home(Policy())
    port = Port(house)
    visitors = [port.connect() for _ in range(20)]
    assert taken(house) == [10, 10]
    assert [member.active for member in house.group.standings] == [10, 10]
    # a connection that stands for hours says nothing of how slow its agent is
    house.pass_time(20)
    assert [member.estimate(house.clock.seconds()) for member in house.group.standings] == [0.0, 0.0]
    for visitor in visitors:
        end(house, visitor)
    assert [member.active for member in house.group.standings] == [0, 0]


def test_who_does_not_reach_its_service_gets_none_for_a_while(home: Any, log_lines: Any) -> None:
    house = home(Policy(Balance(method="round_robin"), ejection=Ejection(failures=2, seconds=10.0)))
    port = Port(house)
    house.sessions[0].refuse = StreamReset(ResetCode.UNREACHABLE, "refused", delivered=False)
    visitors = [port.connect() for _ in range(6)]
    assert taken(house) == [0, 6]
    assert "agent app-1 gets no requests for 10 s: 2 failures in a row" in log_lines
    house.sessions[0].refuse = None
    house.pass_time(10.5)
    visitors += [port.connect() for _ in range(4)]
    assert taken(house)[0] >= 2
    assert "agent app-1 takes requests again" in log_lines
    for visitor in visitors:
        end(house, visitor)


def test_they_wait_where_all_are_full(home: Any) -> None:
    house = home(Policy(Balance(max_requests=1), queue=QueueTable(requests=1, seconds=5.0)))
    port = Port(house)
    first, second, waiting = (port.connect() for _ in range(3))
    assert taken(house) == [1, 1]
    late = port.connect()
    assert late.disconnected
    assert port.reasons == ["overloaded"]
    end(house, first)
    assert taken(house) == [1, 1]
    assert house.context.dispatch.waiting("app") == 0
    for visitor in (second, waiting):
        end(house, visitor)
    assert Counter(port.reasons) == {"overloaded": 1, "closed": 3}
