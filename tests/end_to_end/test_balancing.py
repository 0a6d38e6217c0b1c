"""Agents and origins that are slow, fail, are full or are not there, with real programs and many visitors at once."""

from __future__ import annotations

import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.end_to_end.house import House
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import free_port

VISITORS = 6


class Slow:
    """A route that takes its time.

    :ivar seconds: how long
    :ivar status: what it answers
    """

    def __init__(self, name: bytes, seconds: float = 0.0) -> None:
        self.name = name
        self.seconds = seconds
        self.status = 200

    def __call__(self, call: Call) -> None:
        if self.seconds:
            time.sleep(self.seconds)
        call.answer(self.name, self.status)


@contextmanager
def services(*names: bytes) -> Iterator[list[tuple[Origin, Slow]]]:
    """Services that answer with their names, as fast as their routes say."""
    with ExitStack() as stack:
        found = []
        for name in names:
            origin, route = stack.enter_context(Origin()), Slow(name)
            origin.routes["/"] = route
            found.append((origin, route))
        yield found


class Crowd:
    """Visitors that ask again and again, each on its connection.

    :ivar answers: (when it came, status, body) of each answer
    """

    def __init__(self, house: House) -> None:
        self.answers: list[tuple[float, int, bytes]] = []
        self._house = house
        self._over = threading.Event()

    def visit(self) -> None:
        with self._house.visitor() as visitor:
            while not self._over.is_set():
                answer = visitor.ask("GET")
                self.answers.append((time.monotonic(), answer.status, answer.body))
                time.sleep(0.005)

    def share(self, name: bytes, last: float) -> float:
        """Of the answers of the last seconds, how many were from whom."""
        after = time.monotonic() - last
        seen = Counter(body for at, _, body in list(self.answers) if at > after)
        return seen[name] / max(1, seen.total())

    @contextmanager
    def at_work(self) -> Iterator[Crowd]:
        with ThreadPoolExecutor(VISITORS) as pool:
            running = [pool.submit(self.visit) for _ in range(VISITORS)]
            try:
                yield self
            finally:
                self._over.set()
        for each in running:
            each.result()


def wait_until(seconds: float, so: Callable[[], bool]) -> float:
    """The seconds that it took; asking costs nothing."""
    began = time.monotonic()
    while not so():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - began


def backend(house: House, **tables: Any) -> None:
    """Say more of the backend ``app``."""
    house.config["backends"][0].update(tables)
    house.write()


@pytest.mark.deadline(90)
def test_a_backend_that_slows_down_loses_its_traffic_within_seconds(house: House) -> None:
    house.start_edge()
    with services(b"one", b"other") as [(one, slow), (other, _)]:
        house.agent("one", one.port)
        house.agent("other", other.port)
        with Crowd(house).at_work() as crowd:
            # both have their part while both are well
            wait_until(20, lambda: len(crowd.answers) > 200 and 0.2 < crowd.share(b"one", 1.0) < 0.8)
            slow.seconds = 1.0
            # the second that is looked at holds nothing from before
            time.sleep(1.2)
            took = wait_until(15, lambda: crowd.share(b"one", 1.0) < 0.05)
        assert took < 10
        assert {status for _, status, _ in crowd.answers} == {200}


def verbose(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz?verbose", timeout=10) as answer:
        return str(answer.read(), "utf-8")


@pytest.mark.deadline(90)
def test_one_that_fails_gets_nothing_for_a_while_also_over_a_reload(house: House) -> None:
    admin = free_port()
    house.config["edge"]["admin"] = f"tcp:{admin}:interface=127.0.0.1"
    backend(house, balance={"method": "round_robin"}, ejection={"failures": 3, "seconds": 5})
    edge = house.start_edge()
    with services(b"bad", b"good") as [(bad, route), (good, _)]:
        house.agent("good", good.port)
        session = house.wait_ready(house.launch_agent("bad", bad.port))
        route.status = 503
        statuses = Counter(house.get("/").status for _ in range(8))
        assert statuses == {503: 3, 200: 5}
        edge.wait_for(f"backend app: agent {session} gets no requests for 5 s: 3 failures in a row")
        assert f"backend app: agent {session} gets no requests for" in verbose(admin)
        mark = edge.mark()
        edge.send(signal.SIGHUP)
        edge.wait_for("configuration reloaded", after=mark)
        assert {house.get("/").body for _ in range(4)} == {b"good"}
        route.status = 200
        wait_until(15, lambda: house.get("/").body == b"bad")
        edge.wait_for(f"backend app: agent {session} takes requests again")
        assert f"agent {session}" not in verbose(admin)


def origins(house: House, *services: Origin, **tables: Any) -> None:
    """The backend ``app`` has these origins, and no agents."""
    urls = [{"url": f"http://127.0.0.1:{origin.port}"} for origin in services]
    app = {"name": "app", "origins": urls, "allow_networks": ["127.0.0.1"], **tables}
    house.config["backends"][0] = app
    house.write()


@pytest.mark.deadline(90)
def test_an_origin_that_is_not_well_gets_nothing(house: House) -> None:
    with services(b"one", b"other") as [(one, _), (other, _)]:
        health = Slow(b"")
        one.routes["/healthz"] = health
        other.routes["/healthz"] = Slow(b"")
        checks = {"path": "/healthz", "interval": 0.3, "timeout": 2, "healthy": 2, "unhealthy": 2}
        origins(house, one, other, health=checks, balance={"method": "round_robin"})
        edge = house.start_edge()
        assert {house.get("/").body for _ in range(4)} == {b"one", b"other"}
        health.status = 500
        edge.wait_for(f"backend app: origin http://127.0.0.1:{one.port} is not well: GET /healthz gave 500")
        assert {house.get("/").body for _ in range(4)} == {b"other"}
        health.status = 204
        edge.wait_for(f"backend app: origin http://127.0.0.1:{one.port} is well again")
        assert {house.get("/").body for _ in range(4)} == {b"one", b"other"}


@pytest.mark.deadline(60)
def test_a_slow_answer_is_hedged(house: House) -> None:
    with services(b"one", b"other") as [(one, stuck), (other, also)]:
        # chance says who is asked first, so that both have to be the slow one once
        origins(house, one, other, balance={"method": "round_robin"}, retries={"hedge_after": 0.2, "hedge_budget": 1})
        house.start_edge()
        assert {house.get("/").body for _ in range(2)} == {b"one", b"other"}
        for slow, quick in ((stuck, b"other"), (also, b"one")):
            slow.seconds = 3.0
            began = time.monotonic()
            assert {house.get("/").body for _ in range(2)} == {quick}
            assert time.monotonic() - began < 3.0
            slow.seconds = 0.0


@pytest.mark.deadline(60)
def test_requests_wait_for_room_and_the_rest_go_elsewhere(house: House) -> None:
    with services(b"narrow", b"spare") as [(narrow, route), (spare, _)]:
        route.seconds = 0.7
        origins(house, narrow, balance={"max_requests": 1}, queue={"requests": 2, "seconds": 10})
        house.start_edge()
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: house.get("/", timeout=20), range(6)))
        assert sorted(answer.status for answer in answers) == [200, 200, 200, 503, 503, 503]
        assert {answer.reason for answer in answers if answer.status == 503} == {"overloaded"}
        house.config["backends"].append(
            {"name": "spare", "origin": f"http://127.0.0.1:{spare.port}", "allow_networks": ["127.0.0.1"]}
        )
        origins(house, narrow, balance={"max_requests": 1}, failover="spare")
        mark = house.edge.mark()
        house.edge.send(signal.SIGHUP)
        house.edge.wait_for("configuration reloaded", after=mark)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: house.get("/", timeout=20), range(6)))
        assert Counter(answer.body for answer in answers) == {b"narrow": 1, b"spare": 5}


@pytest.mark.deadline(60)
def test_a_circuit_breaks_and_mends(house: House) -> None:
    with services(b"app") as [(app, route)]:
        breaker = {"requests": 4, "seconds": 1.5, "trials": 2}
        origins(house, app, breaker=breaker)
        edge = house.start_edge()
        route.status = 503
        answers = [house.get("/") for _ in range(6)]
        assert [answer.reason for answer in answers] == [""] * 4 + ["circuit-open"] * 2
        asked = app.calls["/"]
        assert asked == 4
        route.status = 200
        wait_until(10, lambda: house.get("/").status == 200)
        assert house.get("/").status == 200
        edge.wait_for("backend app: its circuit is closed again")
