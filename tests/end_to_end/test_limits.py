"""Limits of what is in flight, on a running edge: for an address, and for a site that has one of its own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.end_to_end.house import OTHER, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.test_http2 import Client


class Slow:
    """A service that answers when it is let; ``came`` says that a request is there."""

    def __init__(self, origin: Origin) -> None:
        self.came = threading.Semaphore(0)
        self.go = threading.Event()
        origin.routes["/slow"] = self.answer
        origin.text("/", b"quick")

    def answer(self, call: Call) -> None:
        self.came.release()
        self.go.wait(30)
        call.answer(b"slow")


def test_requests_of_an_address_over_both_versions(tmp_path: Path, origin: Origin) -> None:
    slow = Slow(origin)
    with open_house(tmp_path, limits={"requests_per_address": 2}) as house:
        house.start_edge()
        house.agent("agent", origin.port)
        with house.visitor() as first, Client(house) as client:
            first.request("GET", "/slow")
            stream = client.ask("/slow")
            client.flush()
            for _ in range(2):
                assert slow.came.acquire(timeout=20)
            answer = house.get()
            assert (answer.status, answer.reason, answer.headers["Retry-After"]) == (429, "too-many-requests", "1")
            assert client.status(client.ask("/")) == 429
            slow.go.set()
            assert first.getresponse().read() == b"slow"
            assert (client.status(stream), client.body(stream)) == (200, b"slow")
            assert house.get().body == b"quick"


def test_a_sites_own_limits_and_nobody_elses(house: House, origin: Origin) -> None:
    slow = Slow(origin)
    house.config["sites"][0]["limits"] = {"requests_per_site": 1, "body_bytes": 10}
    house.write()
    house.start_edge()
    house.agent("agent", origin.port)
    house.agent("other agent", origin.port, backend="other")
    with house.visitor() as first:
        first.request("GET", "/slow")
        assert slow.came.acquire(timeout=20)
        assert house.get().reason == "site-busy"
        assert house.get(host=OTHER).body == b"quick"
        slow.go.set()
        assert first.getresponse().read() == b"slow"
    with house.visitor() as visitor:
        assert visitor.ask("POST", "/", b"more than ten").status == 413
    with house.visitor(OTHER) as visitor:
        assert visitor.ask("POST", "/", b"more than ten").body == b"quick"


def test_connections_of_an_address_and_an_agent_behind_it(tmp_path: Path, origin: Origin) -> None:
    origin.text("/", b"quick")
    with open_house(tmp_path, limits={"connections_per_address": 2}) as house:
        house.start_edge()
        with house.visitor() as first, house.visitor() as second:
            for visitor in (first, second):
                assert visitor.ask("GET", "/").reason == "no-agent"
            with pytest.raises(OSError):
                house.get()
            # it stands behind the same address, and gets in
            house.agent("agent", origin.port)
            assert first.ask("GET", "/").body == b"quick"
            second.close()
            until_served(house)


def until_served(house: House) -> None:
    """The edge has to hear of the close first."""
    for _ in range(100):
        try:
            assert house.get().body == b"quick"
        except OSError:
            continue
        return
    raise AssertionError("there is room, and nobody is let in")
