"""Agents and origins that are slow, fail, are full or are not there, with real programs and many visitors at once."""

from __future__ import annotations

import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from tests.end_to_end.house import Answer, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import free_port, wait_until

VISITORS = 6


class Slow:
    """A route that takes its time.

    :ivar seconds: how long
    :ivar open: it answers while this is set
    :ivar status: what it answers
    """

    def __init__(self, name: bytes, seconds: float = 0.0) -> None:
        self.name = name
        self.seconds = seconds
        self.open = threading.Event()
        self.open.set()
        self.status = 200

    def __call__(self, call: Call) -> None:
        if self.seconds:
            time.sleep(self.seconds)
        self.open.wait(60)
        with suppress(ConnectionError):  # nobody may want it any more
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
            wait_until(lambda: len(crowd.answers) > 200 and 0.2 < crowd.share(b"one", 1.0) < 0.8, 20)
            slow.seconds = 1.0
            # the second that is looked at holds nothing from before
            time.sleep(1.2)
            took = wait_until(lambda: crowd.share(b"one", 1.0) < 0.05, 15)
        assert took < 10
        assert {status for _, status, _ in crowd.answers} == {200}


def verbose(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz?verbose", timeout=10) as answer:
        return str(answer.read(), "utf-8")


@pytest.mark.deadline(90)
def test_one_that_fails_gets_nothing_for_a_while_also_over_a_reload(house: House) -> None:
    admin = free_port()
    house.config["edge"]["admin"] = f"tcp:{admin}:interface=127.0.0.1"
    backend(house, balance={"method": "round_robin"}, ejection={"failures": 3, "seconds": 300})
    edge = house.start_edge()
    with services(b"bad", b"good") as [(bad, route), (good, _)]:
        house.agent("good", good.port)
        session = house.wait_ready(house.launch_agent("bad", bad.port))
        route.status = 503
        statuses = Counter(house.get("/").status for _ in range(8))
        assert statuses == {503: 3, 200: 5}
        edge.wait_for(f"backend app: agent {session} gets no requests for 300 s: 3 failures in a row")
        assert f"backend app: agent {session} gets no requests for" in verbose(admin)
        mark = edge.mark()
        edge.send(signal.SIGHUP)
        edge.wait_for("configuration reloaded", after=mark)
        assert {house.get("/").body for _ in range(4)} == {b"good"}
        assert bad.calls["/"] == 3


HOSTS = {f"{name}.example.test": name for name in ("checked", "hedged", "narrow", "fragile")}
"""One edge has them all: each test has its own."""


class Town:
    """An edge, and its backends' services by their names."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.services: dict[str, Origin] = {}
        self.routes: dict[str, Slow] = {}
        house.config["backends"] = []

    def backend(self, name: str, *services: Origin, **tables: Any) -> None:
        """A backend with these services as origins."""
        urls = [{"url": f"http://127.0.0.1:{origin.port}"} for origin in services]
        self.house.config["backends"].append({"name": name, "origins": urls, "allow_networks": ["127.0.0.1"], **tables})

    def get(self, name: str) -> Answer:
        return self.house.get("/", host=f"{name}.example.test", timeout=20)

    def bodies(self, name: str, count: int) -> set[bytes]:
        return {self.get(name).body for _ in range(count)}

    @contextmanager
    def held_up(self, name: str, service: str, early: int) -> Iterator[list[Answer]]:
        """Six visitors at once of a service that answers nobody; gives the answers that come all the same, and
        afterwards the others, too.

        :param early: how many come all the same
        """
        self.routes[service].open.clear()
        answers: list[Answer] = []
        with ThreadPoolExecutor(6) as pool:
            try:
                asking = [pool.submit(self.get, name) for _ in range(6)]
                coming = as_completed(asking)
                answers += [next(coming).result() for _ in range(early)]
                yield answers
            finally:
                self.routes[service].open.set()
            answers += [each.result() for each in coming]

    def reload(self) -> None:
        self.house.write()
        mark = self.house.edge.mark()
        self.house.edge.send(signal.SIGHUP)
        self.house.edge.wait_for("configuration reloaded", after=mark)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with open_house(tmp_path_factory.mktemp("town"), hosts=HOSTS) as house, ExitStack() as stack:
        town = Town(house)
        for name in ("one", "other", "first", "second", "narrow", "spare", "fragile"):
            town.services[name] = origin = stack.enter_context(Origin())
            town.routes[name] = origin.routes["/"] = Slow(name.encode())
        of, in_turn = town.services, {"method": "round_robin"}
        town.routes["health"] = of["one"].routes["/healthz"] = Slow(b"")
        of["other"].routes["/healthz"] = Slow(b"")
        checks = {"path": "/healthz", "interval": 0.3, "timeout": 5, "healthy": 2, "unhealthy": 2}
        town.backend("checked", of["one"], of["other"], health=checks, balance=in_turn)
        hedges = {"hedge_after": 0.2, "hedge_budget": 1}
        town.backend("hedged", of["first"], of["second"], balance=in_turn, retries=hedges)
        town.backend("narrow", of["narrow"], balance={"max_requests": 1}, queue={"requests": 2, "seconds": 10})
        town.backend("spare", of["spare"])
        town.backend("fragile", of["fragile"], breaker={"requests": 4, "seconds": 4, "trials": 2})
        house.write()
        house.start_edge()
        yield town


@pytest.mark.deadline(90)
def test_an_origin_that_is_not_well_gets_nothing(town: Town) -> None:
    edge, name = town.house.edge, f"backend checked: origin http://127.0.0.1:{town.services['one'].port}"
    assert town.bodies("checked", 4) == {b"one", b"other"}
    town.routes["health"].status = 500
    edge.wait_for(f"{name} is not well: GET /healthz gave 500")
    assert town.bodies("checked", 4) == {b"other"}
    town.routes["health"].status = 204
    edge.wait_for(f"{name} is well again")
    assert town.bodies("checked", 4) == {b"one", b"other"}


@pytest.mark.deadline(60)
def test_a_slow_answer_is_hedged(town: Town) -> None:
    assert town.bodies("hedged", 2) == {b"first", b"second"}
    # the balancer's turn says who is asked first, so that each has to be the slow one once
    for slow, quick in (("first", b"second"), ("second", b"first")):
        town.routes[slow].open.clear()
        assert town.bodies("hedged", 2) == {quick}
        town.routes[slow].open.set()


@pytest.mark.deadline(60)
def test_requests_wait_for_room_and_the_rest_go_elsewhere(town: Town) -> None:
    with town.held_up("narrow", "narrow", early=3) as answers:
        assert [(answer.status, answer.reason) for answer in answers] == [(503, "overloaded")] * 3
    assert [answer.status for answer in answers[3:]] == [200, 200, 200]
    [narrow] = [backend for backend in town.house.config["backends"] if backend["name"] == "narrow"]
    del narrow["queue"]
    narrow["failover"] = "spare"
    town.reload()
    with town.held_up("narrow", "narrow", early=5) as answers:
        assert {answer.body for answer in answers} == {b"spare"}
    assert [answer.body for answer in answers[5:]] == [b"narrow"]


@pytest.mark.deadline(60)
def test_a_circuit_breaks_and_mends(town: Town) -> None:
    town.routes["fragile"].status = 503
    answers = [town.get("fragile") for _ in range(5)]
    assert [answer.reason for answer in answers] == [""] * 4 + ["circuit-open"]
    assert town.services["fragile"].calls["/"] == 4
    town.routes["fragile"].status = 200
    wait_until(lambda: town.get("fragile").status == 200)
    assert town.get("fragile").status == 200
    town.house.edge.wait_for("backend fragile: its circuit is closed again")
