"""The same request once more on its connection: answered in one step while nothing has changed, else looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.edge.caching.house import CachingHouse
from tests.edge.house import Visitor
from wormhole_tw.control.access import AddressRule
from wormhole_tw.control.config import AccessLogConfig
from wormhole_tw.edge.access_lines import LINES
from wormhole_tw.edge.access_log import AccessLog
from wormhole_tw.edge.metrics import EdgeMetrics
from wormhole_tw.edge.observer import Observer

FRESH = ("Cache-Control: max-age=60", "X-Kept: yes")
REQUEST = b"GET /page HTTP/1.1\r\nHost: app.test\r\nUser-Agent: one\r\n\r\n"


class Repeating:
    """A visitor who asks the same again and again.

    :ivar house: where
    :ivar told: what it heard last
    """

    def __init__(self, house: CachingHouse, **facts: Any) -> None:
        self.house = house
        self.visitor: Visitor = house.visitor(**facts)
        self.told = b""

    @property
    def known(self) -> Any:
        """What answers the request once more; None where it is looked at."""
        return self.visitor.protocol._again

    def ask(self, request: bytes = REQUEST) -> bytes:
        self.visitor.says(request)
        self.told = self.visitor.hears()
        return self.told

    def asks_again(self) -> bool:
        """Whether one more is answered without being looked at."""
        before = self.known
        self.ask()
        return before is not None and self.known is before

    def settle(self) -> None:
        """Ask until it is."""
        for _ in range(3):
            self.ask()
        assert self.asks_again()


@pytest.fixture
def house(keep: Callable[..., CachingHouse]) -> CachingHouse:
    """One that counts nobody's requests in flight, as an edge does that was not told to; a page is kept."""
    made = keep(requests_per_site=0, requests_per_address=0)
    made.get("/page", reply=FRESH)
    return made


@pytest.fixture
def poller(house: CachingHouse) -> Iterator[Repeating]:
    poller = Repeating(house)
    poller.settle()
    yield poller
    assert not poller.visitor.disconnected


def test_it_is_the_same_answer(house: CachingHouse) -> None:
    poller = Repeating(house)
    answers = [poller.ask() for _ in range(3)]
    assert poller.asks_again()
    assert {*answers, poller.told} == {answers[0]}
    assert b"\r\nCache-Status: wormhole; hit; ttl=60\r\n" in answers[0]
    assert b"\r\nAge: 0\r\n" in answers[0].title() or b"\r\nage: 0\r\n" in answers[0]
    assert house.asked == 1


def test_it_is_counted_like_any_other(house: CachingHouse) -> None:
    poller = Repeating(house)
    metrics = EdgeMetrics()
    house.context.on_exchange_done = lambda exchange: metrics.record(exchange, house.timers.seconds())
    observer = an_observer(house, metrics)
    counters = house.context.counters
    for count in range(1, 6):
        before = counters.requests, counters.answers[2], house.counters.hit
        poller.ask()
        assert (counters.requests, counters.answers[2], house.counters.hit) == tuple(n + 1 for n in before)
        traffic = metrics.traffic["app", "app"]
        assert (traffic.requests, traffic.sent) == ({("GET", 2): count}, count * len(b"hello"))
        assert sum(traffic.duration.counts) == sum(traffic.first_byte.counts) == count
        assert metrics.cache == {("app", "hit"): count}
    assert poller.known is not None
    assert observer.access_log is None


@pytest.mark.parametrize("form", LINES)
def test_it_is_logged_like_any_other(house: CachingHouse, form: str, tmp_path: Path) -> None:
    poller = Repeating(house)
    file = tmp_path / "access.log"
    observer = an_observer(house, None)
    # a thread of its own is not needed here
    journal = AccessLog(
        AccessLogConfig(str(file), "combined" if form == "combined" else "json"),
        house.timers,
        house.clock.seconds,
        maybeDeferred,
    )
    journal.open()
    observer.access_log = journal
    for _ in range(6):
        poller.ask()
    assert poller.known is not None
    journal.close()
    lines = file.read_bytes().splitlines()
    assert len(lines) == 6
    assert len({re.sub(rb'"request_id":"[^"]*"', b"", line) for line in lines}) == 1
    if form == "json":
        assert len({json.loads(line)["request_id"] for line in lines}) == 6
        assert json.loads(lines[-1])["cache"] == "hit"


def an_observer(house: CachingHouse, metrics: EdgeMetrics | None) -> Observer:
    """What an edge has that keeps this of requests."""
    observer = Observer.__new__(Observer)
    observer._timers = house.timers
    observer.metrics, observer.access_log = metrics, None
    house.context.on_answered_again = observer.answered_again
    if metrics is None:
        house.context.on_exchange_done = observer.exchange_done
    return observer


def test_a_hook_that_fails_takes_no_answer_away(poller: Repeating, logged_failures: Any) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    poller.house.context.on_answered_again = fail
    assert poller.asks_again()
    assert poller.told.endswith(b"hello")
    [failure] = logged_failures.flush(RuntimeError)
    assert failure.value.args == ("a bug",)


def test_a_purge(poller: Repeating) -> None:
    house = poller.house
    house.context.cache.purges.add("url", "app", b"/page", house.clock.seconds())
    house.get("/page", "User-Agent: one", reply=FRESH, body=b"new", visitor=poller.visitor)
    poller.ask()
    assert poller.told.endswith(b"new")


def test_an_unsafe_request(poller: Repeating) -> None:
    house = poller.house
    house.clock.advance(1)
    poller.settle()
    house.get("/page", "Content-Length: 0", method="POST", reply=())
    house.get("/page", "User-Agent: one", reply=FRESH, body=b"new", visitor=poller.visitor)


def test_what_is_purged_beside_it(poller: Repeating) -> None:
    house = poller.house
    house.context.cache.purges.add("url", "app", b"/other", house.clock.seconds())
    assert poller.asks_again()
    assert poller.asks_again()
    house.context.cache.purges.add("tag", "other", b"news", house.clock.seconds())
    assert poller.asks_again()
    house.context.cache.purges.add("site", "app", b"", house.clock.seconds())
    house.get("/page", "User-Agent: one", reply=FRESH, body=b"new", visitor=poller.visitor)


def test_an_unsafe_request_to_another_page(poller: Repeating) -> None:
    poller.house.get("/other", "Content-Length: 0", method="POST", reply=())
    assert poller.asks_again()
    poller.house.get("/page", "Content-Length: 0", method="POST", reply=())
    poller.house.get("/page", "User-Agent: one", reply=FRESH, body=b"new", visitor=poller.visitor)


@pytest.mark.parametrize("how", ["removed", "swept"])
def test_what_the_store_lets_go_of(poller: Repeating, how: str) -> None:
    house = poller.house
    store = house.context.cache.store
    if how == "removed":
        [(kept,)] = store._kept.values()
        store.remove(kept)
    else:
        store.sweep(lambda key, stored: True)
        house.clock.advance(0)
    house.get("/page", "User-Agent: one", reply=FRESH, body=b"new", visitor=poller.visitor)


def test_a_clock_that_was_set_back(poller: Repeating) -> None:
    poller.house.clock.rightNow -= 2
    assert not poller.asks_again()
    assert poller.told.endswith(b"hello")
    poller.house.clock.rightNow += 2


def test_it_stays_for_as_long_as_it_is_asked_for(keep: Callable[..., CachingHouse]) -> None:
    """Not each answer in one step is told to the store, which lets go of what nobody asks for."""
    house = keep(requests_per_site=0, requests_per_address=0, memory=256 * 1024)
    house.get("/page", reply=FRESH)
    poller = Repeating(house)
    for second in range(5):
        poller.settle()
        for number in range(20):
            house.get(f"/{second}-{number}", reply=FRESH, body=bytes(20_000))
            assert poller.asks_again()
        house.clock.advance(1)
    assert house.context.cache.store.usage()[0].evicted > 80


def test_a_reload(poller: Repeating) -> None:
    house = poller.house
    house.catalogs.swap(house.catalog("http/1.1"))
    assert not poller.asks_again()
    assert poller.told.endswith(b"hello")
    poller.settle()


def test_another_second(poller: Repeating) -> None:
    poller.house.clock.advance(1)
    assert not poller.asks_again()
    assert b"ttl=59\r\n" in poller.told
    poller.settle()
    assert b"ttl=59\r\n" in poller.told


def test_the_end_of_its_time(keep: Callable[..., CachingHouse]) -> None:
    house = keep(requests_per_site=0, requests_per_address=0)
    house.clock.advance(0.25)
    house.get("/page", reply=("Cache-Control: max-age=1",))
    house.clock.advance(0.75)
    poller = Repeating(house)
    poller.settle()
    house.clock.advance(0.25)  # the second is the same
    house.get("/page", "User-Agent: one", reply=FRESH, body=b"new", visitor=poller.visitor)


def test_another_answer_in_its_place(poller: Repeating) -> None:
    house = poller.house
    house.get("/page", "Cache-Control: no-cache", reply=FRESH, body=b"newer")
    assert not poller.asks_again()
    assert poller.told.endswith(b"newer")


def test_who_falls_silent_keeps_no_answer(poller: Repeating) -> None:
    """Ten thousand connections that were told something once would each have it for as long as they stay."""
    house = poller.house
    house.pass_time(house.context.idle_look + 1)
    assert poller.known is None
    assert poller.visitor.protocol._last == b""
    before = poller.told.partition(b"\r\n\r\n")[2]
    for _ in range(3):
        assert poller.ask().endswith(before)
    assert poller.asks_again()


def test_what_it_varies_by(keep: Callable[..., CachingHouse]) -> None:
    house = keep(requests_per_site=0, requests_per_address=0)
    vary = (*FRESH, "Vary: User-Agent")
    house.get("/page", "User-Agent: one", reply=vary, body=b"for one")
    poller = Repeating(house)
    poller.settle()
    assert poller.told.endswith(b"for one")
    house.get("/page", "User-Agent: two", reply=vary, body=b"for two")
    poller.ask()
    assert poller.told.endswith(b"for one")
    poller.ask(REQUEST.replace(b"one", b"two"))
    assert poller.told.endswith(b"for two")
    poller.ask()
    assert poller.told.endswith(b"for one")


def test_another_request_in_between(poller: Repeating) -> None:
    house = poller.house
    house.get("/other", reply=FRESH, body=b"other", visitor=poller.visitor)
    poller.ask()
    assert poller.told.endswith(b"hello")
    poller.settle()


@pytest.mark.parametrize("split", [1, 20, len(REQUEST) - 1])
def test_one_that_comes_in_two_reads(poller: Repeating, split: int) -> None:
    """The second read of one request may be octet for octet what was a whole one, which it is not here."""
    poller.visitor.says(REQUEST[:split])
    assert poller.visitor.hears() == b""
    assert poller.ask(REQUEST[split:]).endswith(b"hello")
    poller.settle()


def test_two_at_once(poller: Repeating) -> None:
    poller.visitor.says(REQUEST + REQUEST)
    assert [body for _, body in poller.visitor.answers()] == [b"hello", b"hello"]


def test_the_body_of_a_request_that_looks_like_one(house: CachingHouse, poller: Repeating) -> None:
    house.ask("/form", f"Content-Length: {len(REQUEST)}", method="POST", visitor=poller.visitor)
    stream = house.stream
    poller.visitor.says(REQUEST)
    assert poller.visitor.hears() == b""
    assert stream.read().endswith(REQUEST)
    house.answer(stream=stream)
    assert len(poller.visitor.answers([b"POST"])) == 1


def test_the_last_request_of_a_connection(keep: Callable[..., CachingHouse]) -> None:
    house = keep(requests_per_site=0, requests_per_address=0, requests_per_connection=6)
    house.get("/page", reply=FRESH)
    poller = Repeating(house)
    told = [poller.ask() for _ in range(6)]
    assert [b"Connection: close" in answer for answer in told] == [False] * 5 + [True]
    assert poller.visitor.write_closed


def test_an_edge_that_drains(house: CachingHouse) -> None:
    poller = Repeating(house)
    poller.settle()
    house.context.linger()
    assert b"Connection: close" in poller.ask()


def test_a_visitor_that_does_not_read(house: CachingHouse) -> None:
    """It is not read from either, until it has taken what waits for it."""
    poller = Repeating(house, capacity=2000)
    poller.settle()
    count = 0
    while not poller.visitor.paused:
        assert count < 100
        poller.visitor.says(REQUEST)
        count += 1
    assert poller.known is not None
    assert len(poller.visitor.answers()) == count
    assert not poller.visitor.paused
    poller.settle()


def test_who_has_to_be_looked_at_every_time(keep: Callable[..., CachingHouse]) -> None:
    counting = keep()  # it has limits of what is in flight
    counting.get("/page", reply=FRESH)
    poller = Repeating(counting)
    for _ in range(5):
        assert poller.ask().endswith(b"hello")
    assert poller.known is None


def test_a_route_with_a_rule(keep: Callable[..., CachingHouse]) -> None:
    house = keep(requests_per_site=0, requests_per_address=0, gates=(AddressRule(),))
    house.get("/page", reply=FRESH)
    poller = Repeating(house)
    for _ in range(5):
        assert poller.ask().endswith(b"hello")
    assert poller.known is None


@pytest.mark.parametrize(
    "request_", [REQUEST.replace(b"GET", b"HEAD"), REQUEST.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-1\r\n\r\n")]
)
def test_what_is_looked_at_every_time(house: CachingHouse, request_: bytes) -> None:
    poller = Repeating(house)
    told = {poller.ask(request_) for _ in range(5)}
    assert len(told) == 1
    assert poller.known is None


def test_a_status_that_is_no_200(house: CachingHouse) -> None:
    house.get("/gone", reply=FRESH, status="404 Not Found", body=b"gone")
    poller = Repeating(house)
    request = REQUEST.replace(b"/page", b"/gone")
    for _ in range(5):
        assert poller.ask(request).startswith(b"HTTP/1.1 404 ")
    assert poller.known is None
    assert house.context.counters.answers[4] >= 5
