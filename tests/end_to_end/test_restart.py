"""Restarts without a failed request: SIGUSR2 puts a new process in the place of an edge, or of an agent."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests._support import require_program, sized
from tests.end_to_end.crowd import Echo, busy
from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Origin
from tests.end_to_end.programs import Program
from tests.end_to_end.test_stopping import Answer, Gate, asking

RESTARTS = sized(1, 50)

FULL_TIME = sized(60, 600)


class Line:
    """A program, and those that take its place: all write where it wrote.

    :ivar pid: of the newest
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._all = [os.pidfd_open(program.pid)]
        self.pid = program.pid

    def renew(self) -> None:
        """SIGUSR2, and wait until the new one serves."""
        mark = self._program.mark()
        os.kill(self.pid, signal.SIGUSR2)
        match = self._program.wait_for(r"process (\d+) (has taken over|did not take over)", after=mark, deadline=60)
        assert match[2] == "has taken over", self._program.output
        self.pid = int(match[1])
        self._all.append(os.pidfd_open(self.pid))

    def old_ones_end(self, seconds: float) -> None:
        """All but the newest end within so many seconds."""
        for descriptor in self._all[:-1]:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            assert poll.poll(seconds * 1000), "a process that was replaced is still there"

    def end_newest(self) -> None:
        """SIGTERM, and wait until it is gone."""
        os.kill(self.pid, signal.SIGTERM)
        self._all.append(self._all[0])
        self.old_ones_end(30)
        self._all.pop()

    def end(self) -> None:
        """Whatever has happened, none is left."""
        for descriptor in self._all:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            for number in (signal.SIGTERM, signal.SIGKILL):
                if not poll.poll(0):
                    signal.pidfd_send_signal(descriptor, number)
                    poll.poll(5000)
            os.close(descriptor)


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """Lines of programs that end with the test."""
    mine: list[Line] = []
    yield mine
    for line in mine:
        line.end()


@pytest.mark.deadline(FULL_TIME)
def test_an_edge_is_replaced_under_load(house: House, lines: list[Line]) -> None:
    """Its admin listener and its TCP services go along; the agent serves on both until the old one has finished."""
    house.config["limits"]["drain"] = sized(4, 30)
    house.config["edge"]["admin"] = "tcp:0:interface=127.0.0.1"
    house.config["tcp"] = [{"listen": "tcp:0:interface=127.0.0.1", "backend": "app"}]
    house.write()
    with Origin() as origin:
        gate = Gate(origin)
        echo = Echo(origin)
        edge = house.start_edge()
        lines.append(Line(edge))
        house.agent("agent", origin.port)
        admin = edge.wait_for(r"admin listener on (\S+)")[1]
        tcp = edge.wait_for(r"passes TCP service \S+ to backend app on (\S+)")[1]
        with busy(house, echo) as crowd:
            for _ in range(RESTARTS):
                mark = edge.mark()
                with asking(house, "/slow", "/begun") as answers:
                    for _ in range(2):
                        assert gate.entered.acquire(timeout=20)
                    lines[0].renew()
                    gate.open.set()
                bodies = [answer.body for answer in answers if isinstance(answer, Answer)]
                assert sorted(bodies) == [b"finished x", b"first last"]
                gate.open.clear()
                assert edge.wait_for(r"admin listener on (\S+)", after=mark)[1] == admin
                assert edge.wait_for(r"TCP service \S+ .* on (\S+)", after=mark)[1] == tcp
                crowd.go_on()
        lines[0].old_ones_end(30)
        assert "Traceback" not in edge.output


@pytest.mark.deadline(FULL_TIME)
def test_an_agent_is_replaced_and_stopped_and_started_under_load(house: House, lines: list[Line]) -> None:
    """The only one of its backend. While none is there, as when systemd restarts it, requests wait at the edge: for
    five seconds without a word of the configuration, and longer than any machine starts an agent with one."""
    house.config["backends"][0]["queue"] = {"requests": 1000, "seconds": 25}
    house.write()
    with Origin() as origin:
        echo = Echo(origin)
        house.start_edge()
        agent = house.agent("agent", origin.port)
        lines.append(Line(agent))
        with busy(house, echo) as crowd:
            for _ in range(sized(1, 50)):
                lines[0].renew()
                crowd.go_on()
            lines[0].old_ones_end(30)
            lines[0].end_newest()
            for _ in range(sized(1, 50)):
                agent = house.agent("agent", origin.port)
                crowd.go_on()
                assert agent.stop(signal.SIGTERM) == 0
            house.agent("agent", origin.port)
            crowd.go_on()
        assert "Traceback" not in agent.output


def test_the_new_process_has_the_new_configuration(house: House, origin: Origin, lines: list[Line]) -> None:
    """One that cannot start changes nothing.  A port that is not named any more is closed, and a Unix socket keeps its
    path and its mode."""
    path = house.folder / "edge.sock"
    listener = {"endpoint": f"unix:{path}:mode=600:lockfile=0", "tls": False, "on_plain": "serve"}
    house.config["edge"]["listeners"] = [listener]
    house.config["limits"]["drain"] = 1  # the time for visitors to leave is a part of it
    house.write()
    origin.text("/", b"served")
    edge = house.start_edge()
    lines.append(Line(edge))
    agent = house.agent("agent", origin.port)

    house.write(house.config_file.read_text().replace('backend = "app"', 'backend = "ap"'))
    with house.visitor() as visitor:
        assert visitor.ask("GET", "/").body == b"served"
        edge.send(signal.SIGUSR2)
        edge.wait_for("there is no backend 'ap'; did you mean app?")
        edge.wait_for("did not take over: it ended with status 1; this one goes on")
        assert visitor.ask("GET", "/").body == b"served"
    assert house.get("/").body == b"served"

    house.config["edge"]["http"] = []
    house.write()
    lines[0].renew()
    edge.wait_for(f"nobody listens any more on tcp:{house.http_port}:interface=127.0.0.1")
    lines[0].old_ones_end(20)
    assert house.get("/").body == b"served"
    # the agent has noticed nothing but a new link
    assert agent.count("lost|refuses") == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", house.http_port))
    assert house.curl("--unix-socket", str(path), f"http://{APP}/").stdout == b"served"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.requires_program("systemd-socket-activate", "curl")
def test_systemd_keeps_the_sockets(tmp_path: Path, origin: Origin) -> None:
    """Socket activation: edge.toml says the same as without it."""
    origin.text("/", b"served")
    with open_house(tmp_path) as house:
        activate = require_program("systemd-socket-activate")
        ports = [f"--listen=127.0.0.1:{port}" for port in (house.port, house.http_port)]
        passed = [f"--setenv={name}" for name in ("PATH", "HOME", "PYTHONPATH", "PYTHONUNBUFFERED")]
        edge = house.launch_edge(activate, *ports, *passed)
        edge.wait_for("Listening on 127.0.0.1")
        # the first visitor starts it, and is served
        first = subprocess.run(
            [
                require_program("curl"),
                "-sS",
                "-H",
                f"Host: {APP}",
                "-w",
                "%{http_code}",
                f"http://127.0.0.1:{house.http_port}/",
            ],
            capture_output=True,
            timeout=20,
            check=True,
        )
        assert first.stdout.endswith(b"308")
        edge.wait_for("serves https on")
        house.agent("agent", origin.port)
        assert house.get("/").body == b"served"
