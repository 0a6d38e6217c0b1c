"""What is counted of requests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.house import START, House
from wormhole_tw.edge.metrics import MAX_REASONS, SECONDS, EdgeMetrics, Histogram


@pytest.fixture
def counted() -> Any:
    house = House()
    metrics = EdgeMetrics()
    house.context.on_exchange_done = lambda exchange: metrics.record(exchange, house.timers.now)
    return house, metrics


def test_a_histogram() -> None:
    histogram = Histogram()
    for value in (-1.0, 0.0, 0.001, 0.0011, 60.0, 61.0):
        histogram.observe(value)
    assert sum(histogram.counts) == 6
    assert histogram.counts[0] == 3
    assert histogram.counts[1] == 1
    assert histogram.counts[SECONDS.index(60.0)] == 1
    assert histogram.counts[-1] == 1
    assert histogram.total == pytest.approx(121.0021)


def test_requests_and_their_times(counted: tuple[House, EdgeMetrics]) -> None:
    house, metrics = counted
    visitor = house.visitor()
    visitor.says("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello")
    house.clock.advance(0.2)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    house.clock.advance(0.2)
    house.stream.deliver(b"hi")
    visitor.says("BREW /x HTTP/1.1\r\nHost: app.test\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 418 I am\r\nContent-Length: 0\r\n\r\n")
    visitor.says("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
    traffic = metrics.traffic["app", "app"]
    assert traffic.requests == {("POST", 2): 1, ("other", 4): 1}
    assert (traffic.received, traffic.sent) == (5, 2)
    assert traffic.first_byte.total == pytest.approx(0.2)
    assert traffic.duration.total == pytest.approx(0.4)
    assert metrics.traffic["", ""].requests == {("GET", 4): 1}
    assert metrics.reasons == {"unknown-host": 1}
    house.close()


def test_a_visitor_who_leaves(counted: tuple[House, EdgeMetrics]) -> None:
    house, metrics = counted
    visitor = house.visitor()
    visitor.says("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    visitor.lose()
    traffic = metrics.traffic["app", "app"]
    assert traffic.requests == {("GET", 0): 1}
    assert sum(traffic.first_byte.counts) == 0
    assert metrics.reasons == {"visitor-gone": 1}
    house.close()


def test_a_status_that_a_service_made_up(counted: tuple[House, EdgeMetrics]) -> None:
    house, metrics = counted
    visitor = house.visitor()
    visitor.says("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n")
    assert metrics.traffic["app", "app"].requests == {("GET", 5): 1}
    house.close()


def test_an_upgraded_connection_is_no_slow_request(counted: tuple[House, EdgeMetrics]) -> None:
    house, metrics = counted
    visitor = house.visitor()
    visitor.says("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    house.stream.read()
    house.stream.deliver(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    house.clock.advance(100)
    visitor.lose()
    traffic = metrics.traffic["app", "app"]
    assert traffic.requests == {("GET", 1): 1}
    assert sum(traffic.duration.counts) == 0
    assert sum(traffic.first_byte.counts) == 1
    house.close()


def test_a_clock_that_was_set_back(counted: tuple[House, EdgeMetrics]) -> None:
    house, metrics = counted
    visitor = house.visitor()
    visitor.says("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    house.clock.rightNow = START - 100
    house.stream.deliver(b"HTTP/1.1 204 X\r\n\r\n")
    assert metrics.traffic["app", "app"].duration.total == 0
    house.clock.rightNow = START + 100
    house.close()


def test_what_is_all_alike_is_counted_when_it_is_asked_for(counted: tuple[House, EdgeMetrics]) -> None:
    house, metrics = counted
    over: list[Any] = []
    house.context.on_exchange_done = over.append
    visitor = house.visitor()
    visitor.says("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    [model] = over
    metrics.record(model, house.timers.now)
    model.cache = "hit"
    alike = metrics.alike(model, instant=True)
    assert metrics.alike(model, instant=True) is alike
    for _ in range(2):
        before = metrics.traffic["app", "app"].requests["GET", 2]
        alike.times += 3
        alike.sent += 6
        for _ in range(2):  # nothing twice
            traffic = metrics.traffic["app", "app"]
            assert traffic.requests == {("GET", 2): before + 3}
            assert traffic.sent == 2 * (before + 3)
            assert sum(traffic.duration.counts) == sum(traffic.first_byte.counts) == before + 3
    assert metrics.cache == {("app", "hit"): 6}
    assert traffic.duration.counts[0] >= 6
    house.close()


def test_reasons_are_bounded() -> None:
    metrics = EdgeMetrics()
    for number in range(MAX_REASONS + 5):
        metrics.refused(f"reason-{number}")
    assert len(metrics.reasons) == MAX_REASONS + 1
    assert metrics.reasons["other"] == 5
