"""Nothing crosses from tenant to tenant (RELIABILITY 13): every answer is held against its request, among troubles."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests._support import sized
from tests.end_to_end.cable import Cable
from tests.end_to_end.house import House, open_house, with_tests
from tests.end_to_end.nonces import REASONS, Tally, Visitors
from tests.end_to_end.programs import Program
from tests.end_to_end.tenants import host_of

REQUESTS = sized(8_000, 1_000_000)
AGENTS = sized(8, 50)
TENANTS = AGENTS // 2
"""Two agents each: what one that is killed has not begun, the other may take."""

CABLES = sized(2, 5)
"""Agents whose connection is cut now and then; the others are killed."""

VISITORS = sized(8, 24)
"""At once, over each HTTP version; one over HTTP/2 has a dozen requests at once."""

REST = sized(0.2, 1.0)
"""Seconds from the time that all agents are there again till the next trouble."""


class Troubles(threading.Thread):
    """Kills agents and starts them anew, and cuts cables."""

    def __init__(self, house: House, ports: list[int], cables: list[Cable]) -> None:
        super().__init__(name="troubles", daemon=True)
        self._house = house
        self._ports = ports
        self._cables = cables
        self._dice = random.Random(13)
        self._over = threading.Event()
        self.agents = [self._launch(number) for number in range(AGENTS)]
        self.kills = self.cuts = 0
        self.error: BaseException | None = None

    def _launch(self, number: int) -> Program:
        tenant = number % TENANTS
        port = self._cables[number].port if number < len(self._cables) else self._house.port
        env = {"FLY_REMOTE_ENDPOINT": f"localhost:{port}"}
        return self._house.launch_agent(f"agent-{number}", self._ports[tenant], env=env, backend=f"tenant-{tenant}")

    def run(self) -> None:
        try:
            while not self._over.wait(REST):
                if (self.kills + self.cuts) % 3 == 2:
                    self.cuts += self._dice.choice(self._cables).cut()
                else:
                    number = self._dice.randrange(len(self._cables), AGENTS)
                    self.agents[number].stop(signal.SIGKILL)
                    self.kills += 1
                    self.agents[number] = self._launch(number)
                    self._house.wait_ready(self.agents[number])
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self._over.set()
        self.join(30)
        assert self.error is None


@pytest.mark.deadline(sized(120, 7200))
def test_nothing_crosses(tmp_path: Path) -> None:
    hosts = {host_of(b"tenant-%d" % number).decode(): f"tenant-{number}" for number in range(TENANTS)}
    tally = Tally(REQUESTS)
    with open_house(tmp_path, hosts=hosts) as house, ExitStack() as stack:
        house.start_edge()
        services = house.programs.python("tenants", "-m", "tests.end_to_end.tenants", str(TENANTS), env=with_tests())
        ports = [int(word) for word in services.wait_for(r"^ports (.*)")[1].split()]
        cables = [stack.enter_context(Cable(house.port)) for _ in range(CABLES)]
        troubles = Troubles(house, ports, cables)
        for agent in troubles.agents:
            house.wait_ready(agent, deadline=60)
        troubles.start()
        try:
            asyncio.run(Visitors(house.port, str(house.ca_file), TENANTS, tally).run(VISITORS))
        finally:
            troubles.end()
        assert "Traceback" not in house.edge.output
    print(f"{tally}, {troubles.kills} agents killed, {troubles.cuts} connections of agents cut")
    assert tally.crossed == []
    assert sum(tally.answered.values()) >= REQUESTS
    # the troubles were there, and what failed says why
    assert troubles.kills > 2
    assert troubles.cuts > 0
    for version in ("HTTP/1.1", "HTTP/2"):
        assert tally.left[version] > REQUESTS / 200
        assert tally.broken[version] > REQUESTS / 500
    assert {failure.split(" ")[1] for failure in tally.failed} <= REASONS
    assert sum(tally.failed.values()) < REQUESTS / 20
