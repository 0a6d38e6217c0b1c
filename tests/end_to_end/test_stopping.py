"""SIGTERM: what runs finishes, then status 0; with nothing to do at once; a second one ends without waiting."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.house import Answer, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import Program

IDLE = 2.0
"""Seconds in which a process with nothing to do ends."""


class Gate:
    """A request that is under way until the test lets it end."""

    def __init__(self, origin: Origin) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        origin.routes["/slow"] = self._slow
        origin.routes["/begun"] = self._begun
        origin.text("/", b"served")

    def _slow(self, call: Call) -> None:
        body = b"".join(call.body())
        self.entered.release()
        self.open.wait(60)
        call.answer(b"finished " + body)

    def _begun(self, call: Call) -> None:
        call.begin_chunks()
        call.chunk(b"first ")
        self.entered.release()
        self.open.wait(60)
        call.chunk(b"last")
        call.chunk(b"")


@contextmanager
def asking(house: House, *paths: str) -> Iterator[list[Answer | Exception]]:
    """Requests under way on threads of their own; their answers are there when the block has ended."""
    answers: list[Answer | Exception] = []

    def ask(path: str) -> None:
        try:
            with house.visitor() as visitor:
                answers.append(
                    visitor.ask("POST" if path == "/slow" else "GET", path, b"x" if path == "/slow" else None)
                )
        except Exception as error:
            answers.append(error)

    threads = [threading.Thread(target=ask, args=(path,), daemon=True) for path in paths]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def the_one(house: House, agent: Program, who: str) -> Program:
    return agent if who == "agent" else house.edge


def until_refused(house: House) -> None:
    """Ask until nobody listens any more; what came at the last moment is cut off and not answered."""
    for _ in range(100):
        try:
            house.get("/")
        except ConnectionRefusedError:
            return
        except OSError:
            continue
        raise AssertionError("an edge that stops has taken a new visitor in")
    raise AssertionError("the port of an edge that stops is still there")


@pytest.mark.parametrize("who", ["agent", "edge"])
def test_sigterm_lets_running_requests_finish(house: House, origin: Origin, who: str) -> None:
    gate = Gate(origin)
    house.config["limits"]["waiting_time"] = 0.5  # a visitor that comes late does not wait long for a successor
    house.write()
    edge = house.start_edge()
    agent = house.agent("agent", origin.port)
    stopping = the_one(house, agent, who)
    with asking(house, "/slow", "/slow", "/begun") as answers, house.visitor() as idle:
        assert idle.ask("GET", "/").body == b"served"
        for _ in range(3):
            assert gate.entered.acquire(timeout=10)
        stopping.send(signal.SIGTERM)
        stopping.wait_for("finishing what runs")
        if who == "agent":
            # The edge gives it nothing new; the requests that run go on.
            edge.wait_for("leaves when what runs has finished")
            answer = house.get("/", timeout=15)
            assert (answer.status, answer.reason) == (503, "no-agent")
        else:
            # The idle connection ends, and there is no new one.
            idle.sock.settimeout(5)
            assert idle.sock.recv(1) == b""
            until_refused(house)
        assert stopping.running
        assert not answers
        gate.open.set()
    assert sorted(answer.body for answer in answers) == [b"finished x", b"finished x", b"first last"]
    assert stopping.wait(5) == 0
    assert "Traceback" not in edge.output + agent.output


@pytest.mark.parametrize("who", ["agent", "edge"])
def test_idle_sigterm_ends_within_two_seconds(house: House, origin: Origin, who: str) -> None:
    """Idle keep-alive connections, of visitors and to the service, are no reason to wait."""
    origin.text("/", b"served")
    house.start_edge()
    agent = house.agent("agent", origin.port)
    with house.visitor() as idle:
        assert idle.ask("GET", "/").body == b"served"
        stopping = the_one(house, agent, who)
        began = time.monotonic()
        assert stopping.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began <= IDLE
    if who == "edge":
        # The agent was told, says so, and goes on trying; it ends as fast without an edge.
        began = time.monotonic()
        assert agent.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began <= IDLE


@pytest.mark.parametrize("who", ["agent", "edge"])
def test_a_second_sigterm_ends_at_once(house: House, origin: Origin, who: str) -> None:
    gate = Gate(origin)
    house.start_edge()
    agent = house.agent("agent", origin.port)
    stopping = the_one(house, agent, who)
    with asking(house, "/slow") as answers:
        assert gate.entered.acquire(timeout=10)
        stopping.send(signal.SIGTERM)
        stopping.wait_for("finishing what runs")
        assert stopping.running
        began = time.monotonic()
        assert stopping.stop(signal.SIGTERM) != 0
        assert time.monotonic() - began <= 1.0
    assert len(answers) == 1
    # The visitor of the agent that died gets an answer of the edge; one of a dead edge an end without any.
    if who == "agent":
        assert isinstance(answers[0], Answer)
        assert (answers[0].status, answers[0].reason) == (502, "agent-lost")
    else:
        assert isinstance(answers[0], Exception)
    gate.open.set()


@pytest.mark.parametrize("who", ["agent", "edge"])
def test_the_deadline_is_the_operators(tmp_path: Path, origin: Origin, who: str) -> None:
    """What does not finish within ``limits.drain`` (the agent: ``--drain``) is cut off, and the status is still 0."""
    gate = Gate(origin)
    with open_house(tmp_path, limits={"drain": 1.5}) as house:
        house.start_edge()
        agent = house.launch_agent("agent", origin.port, "--drain", "1.5")
        house.wait_ready(agent)
        stopping = the_one(house, agent, who)
        with asking(house, "/slow"):
            assert gate.entered.acquire(timeout=10)
            began = time.monotonic()
            assert stopping.stop(signal.SIGTERM, deadline=10) == 0
            assert 1.0 <= time.monotonic() - began <= 4.0
            gate.open.set()
