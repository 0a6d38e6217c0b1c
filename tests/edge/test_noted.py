"""What is noted of a request for those like it: the record of each is what it would be without."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.edge.house import House, Visitor
from wormhole_tw.control.config import AccessLogConfig
from wormhole_tw.edge.access_log import AccessLog
from wormhole_tw.edge.exchange import Exchange
from wormhole_tw.edge.metrics import MAX_UNSORTED, EdgeMetrics
from wormhole_tw.edge.noted import MOST
from wormhole_tw.edge.observer import Observer
from wormhole_tw.edge.trust import Trust
from wormhole_tw.net.networks import Networks

GET = "GET /a?token=secret HTTP/1.1\r\nHost: app.test\r\nUser-Agent: curl/8\r\n\r\n"
HI = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Twice:
    """A house whose requests are recorded as an edge does, and each of them again by itself.

    :ivar exchanges: all that are over
    """

    def __init__(self, folder: Path, form: Any, *, instances: int = 1) -> None:
        self.house = house = House(agents=instances)
        self.metrics, self.each = EdgeMetrics(), EdgeMetrics()
        self.files = folder / "noted.log", folder / "each.log"
        self.logs = [
            AccessLog(AccessLogConfig(str(file), form), house.timers, house.clock.seconds, maybeDeferred)
            for file in self.files
        ]
        for log in self.logs:
            log.open()
        self.observer = Observer.__new__(Observer)
        self.observer._timers = house.timers
        self.observer.metrics, self.observer.access_log = self.metrics, self.logs[0]
        self.exchanges: list[Exchange] = []
        house.context.on_exchange_done = self._done

    def _done(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.observer.exchange_done(exchange)
        now = self.house.timers.seconds()
        self.each.record(exchange, now)
        self.logs[1].record(exchange, now)

    def answer(self, answer: bytes) -> None:
        """By whichever agent was asked."""
        for stream in self.house.streams:
            if stream.read():
                stream.deliver(answer)

    def ask(self, visitor: Visitor, answer: bytes = HI, request: str = GET, *, after: float = 0.002) -> None:
        visitor.says(request)
        self.house.clock.advance(after)
        self.answer(answer)
        visitor.take()

    @property
    def noted(self) -> int:
        """How many answers are noted on the way of the last request."""
        answered = self.exchanges[-1].answered
        return 0 if answered is None or answered.noted is None else len(answered.noted)

    def close(self) -> None:
        self.house.context.abort()
        for log in self.logs:
            log.close()
        self.house.close()

    def judge(self) -> list[bytes]:
        """Both are the same, to the octet; gives the lines."""
        self.close()
        noted, each = (file.read_bytes().splitlines() for file in self.files)
        assert noted == each
        assert len(noted) == len(self.exchanges)
        assert self.metrics.reasons == self.each.reasons
        assert self.metrics.traffic.keys() == self.each.traffic.keys()
        for place, traffic in self.metrics.traffic.items():
            other = self.each.traffic[place]
            assert (traffic.requests, traffic.sent, traffic.received) == (other.requests, other.sent, other.received)
            for ours, theirs in ((traffic.duration, other.duration), (traffic.first_byte, other.first_byte)):
                assert ours.counts == theirs.counts
                assert ours.total == pytest.approx(theirs.total)
        return noted


@pytest.fixture(params=["json", "combined"])
def twice(tmp_path: Path, request: pytest.FixtureRequest) -> Twice:
    return Twice(tmp_path, request.param)


def test_who_asks_the_same_again(twice: Twice) -> None:
    visitor = twice.house.visitor()
    for number in range(8):
        twice.ask(visitor, after=0.001 * number)
    assert twice.noted == 1
    assert len(twice.judge()) == 8


def test_answers_of_any_length_and_any_status(twice: Twice) -> None:
    visitor = twice.house.visitor()
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    missing = b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"
    unchanged = b"HTTP/1.1 304 Not Modified\r\n\r\n"
    odd = b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n"
    for answer in (HI, HI, HI, long, long, HI, missing, missing, HI, HI, unchanged, unchanged, HI, odd, odd, HI, HI):
        twice.ask(visitor, answer)
    assert twice.noted == 1
    twice.judge()


def test_an_answer_in_pieces_and_one_that_is_cut(twice: Twice) -> None:
    visitor = twice.house.visitor()
    for _ in range(4):
        twice.ask(visitor)
    visitor.says(GET)
    for piece in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", b"\r\n", b"h", b"i"):
        twice.house.clock.advance(0.004)
        twice.answer(piece) if piece.startswith(b"HTTP") else twice.house.stream.deliver(piece)
    twice.ask(visitor)
    visitor.says(GET)
    twice.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
    twice.house.stream.lose()
    lines = twice.judge()
    assert len(lines) == 7
    assert twice.exchanges[-1].reason


def test_a_visitor_who_leaves_and_an_agent_that_refuses(twice: Twice) -> None:
    visitor = twice.house.visitor()
    for _ in range(4):
        twice.ask(visitor)
    visitor.says("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
    visitor.take()
    for _ in range(3):
        twice.ask(visitor)
    visitor.says(GET)
    visitor.lose()
    assert [exchange.reason for exchange in twice.exchanges[-1:]] == ["visitor-gone"]
    twice.judge()


def test_methods_and_bodies_among_them(twice: Twice) -> None:
    visitor = twice.house.visitor()
    post = "POST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi"
    head = "HEAD /a HTTP/1.1\r\nHost: app.test\r\n\r\n"
    nothing = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    for _ in range(4):
        twice.ask(visitor)
        twice.ask(visitor, request=post)
        twice.ask(visitor, nothing, request=head)
    twice.judge()


def test_each_agent_is_named(tmp_path: Path) -> None:
    twice = Twice(tmp_path, "json", instances=3)
    visitor = twice.house.visitor()
    for _ in range(60):
        twice.ask(visitor)
    assert twice.noted == 3
    lines = twice.judge()
    for key in ("app-1", "app-2", "app-3"):
        assert sum(b'"session":"%s"' % key.encode() in line for line in lines) > 3


def test_the_notes_of_a_way_are_bounded(tmp_path: Path) -> None:
    twice = Twice(tmp_path, "json", instances=2 * MOST)
    visitor = twice.house.visitor()
    for _ in range(40 * MOST):
        twice.ask(visitor)
    assert len({exchange.upstream.key for exchange in twice.exchanges if exchange.upstream is not None}) > MOST
    assert 0 < twice.noted <= MOST
    twice.judge()


def test_two_visitors_are_not_taken_for_one_another(twice: Twice) -> None:
    one, other = twice.house.visitor(), twice.house.visitor(address="198.51.100.9")
    for _ in range(5):
        twice.ask(one)
        twice.ask(other)
    lines = twice.judge()
    assert [line.count(b"198.51.100.9") for line in lines] == [0, 1] * 5


def test_visitors_behind_a_trusted_proxy(twice: Twice) -> None:
    proxy = twice.house.visitor(trust=Trust(Networks([ip_network("192.0.2.0/24")])))
    for _ in range(4):
        for address in ("198.51.100.7", "198.51.100.9"):
            twice.ask(proxy, request=GET.replace("User-Agent", f"X-Forwarded-For: {address}\r\nUser-Agent"))
        assert twice.noted == 0  # each has a way of its own, which is over
    lines = twice.judge()
    assert [line.count(b"198.51.100.9") for line in lines] == [0, 1] * 4


def test_a_clock_that_was_set_back(twice: Twice) -> None:
    visitor = twice.house.visitor()
    for _ in range(4):
        twice.ask(visitor)
    visitor.says(GET)
    twice.house.clock.rightNow -= 100.0
    twice.answer(HI)
    for _ in range(2):
        twice.ask(visitor)
    twice.judge()


def test_more_than_are_sorted_at_a_time(twice: Twice) -> None:
    visitor = twice.house.visitor()
    random = Random(7)
    for _ in range(MAX_UNSORTED + 40):
        twice.ask(visitor, after=random.expovariate(200.0))
    histogram = twice.metrics.traffic["app", "app"].duration
    assert sum(histogram.counts) == MAX_UNSORTED + 40
    assert not histogram.waiting
    twice.judge()
