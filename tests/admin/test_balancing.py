"""What a scraper, and a person who asks /readyz?verbose, see of backends that have trouble."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.edge.test_dispatch import GET, Home, answer, shares
from wormhole_tw.admin.balancing import balancing_metrics
from wormhole_tw.control.balancing import Balance, BreakerTable, Ejection, Policy, QueueTable


@pytest.fixture
def home() -> Iterator[Any]:
    homes: list[Home] = []

    def make(policy: Policy, **settings: Any) -> Home:
        homes.append(Home(policy, **settings))
        return homes[-1]

    yield make
    for each in homes:
        each.close()


def samples(house: Home) -> dict[str, float]:
    return {
        ",".join([sample.name, *(value for name, value in sample.labels.items() if name != "backend")]): sample.value
        for family in balancing_metrics(house.context.dispatch)
        for sample in family.samples
        if sample.labels["backend"] == "app"
    }


def test_one_that_was_ejected(home: Any) -> None:
    house = home(Policy(balance=Balance(method="round_robin"), ejection=Ejection(failures=2)))
    shares(house, 4, seconds=0.25)
    assert house.context.dispatch.lines() == []
    for _ in range(2):
        house.fail(house.sessions[0])
    seen = samples(house)
    assert seen["wormhole_upstream_ejections_total"] == 1
    assert {name: value for name, value in seen.items() if "upstreams" in name} == {
        "wormhole_upstreams,in": 1,
        "wormhole_upstreams,out": 1,
        "wormhole_upstreams,trial": 0,
        "wormhole_upstreams,unwell": 0,
    }
    assert 0.1 < seen["wormhole_upstream_latency_seconds,fastest"] < 0.3
    assert house.context.dispatch.lines() == ["backend app: agent app-1 gets no requests for 10 s more"]
    house.pass_time(10.5)
    assert house.context.dispatch.lines() == [
        "backend app: agent app-1 waits for a request that shows whether it is well"
    ]
    assert samples(house)["wormhole_upstreams,trial"] == 1


def test_one_alone_of_which_nothing_is_remembered(home: Any) -> None:
    house = home(Policy(), agents=1)
    house.serve()
    seen = samples(house)
    assert seen["wormhole_upstreams,in"] == 1
    assert "wormhole_upstream_latency_seconds,fastest" not in seen
    assert "wormhole_backend_circuit" not in seen


def test_a_circuit(home: Any) -> None:
    policy = Policy(breaker=BreakerTable(requests=2), queue=QueueTable())
    house = home(policy, agents=1)
    assert house.context.dispatch.lines() == []
    house.serve()
    assert samples(house)["wormhole_backend_circuit"] == 0
    house.serve(status=503)
    assert house.context.dispatch.lines() == ["backend app: its circuit is open for 10 s more"]
    seen = samples(house)
    assert seen["wormhole_backend_circuit"] == 2
    assert seen["wormhole_backend_circuit_opened_total"] == 1
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.answers()  # at once: nobody waits for an open circuit
    house.pass_time(10.25)
    trial = house.ask()
    assert house.context.dispatch.lines() == ["backend app: its circuit is half-open: a few requests try"]
    trial[2].deliver(answer())
    house.reload(replace(policy, breaker=None))
    assert "wormhole_backend_circuit" not in samples(house)


def test_a_queue(home: Any) -> None:
    house = home(Policy(balance=Balance(max_requests=1), queue=QueueTable()), agents=1)
    running = house.ask()
    visitor = house.visitor()
    visitor.says(GET)
    assert house.context.dispatch.lines() == ["backend app: requests that wait: 1"]
    seen = samples(house)
    assert (seen["wormhole_backend_waiting"], seen["wormhole_backend_queued_total"]) == (1, 1)
    house.pass_time(5.5)
    assert samples(house)["wormhole_backend_queue_expired_total"] == 1
    running[2].deliver(answer())
