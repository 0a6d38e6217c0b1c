"""Many agents of one backend in one process, and what becomes of them when their edge goes and comes back.

Prints ``serving N`` when all of them serve, with the seconds from the first of the dials that led there to the last,
and the share of them in the busiest quarter of a second.  While they have no edge, ``tried K`` says that each has tried
K times.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import Any

from twisted.internet import reactor as installed

from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.events import AgentEvent, Failed, NotReady, Ready
from wormhole_tw.agent.service import AgentService

WINDOW = 0.25

BATCH = 25


class Crowd:
    def __init__(self, reactor: Any, count: int, config: AgentConfig) -> None:
        self._agents = [AgentService(reactor, config) for _ in range(count)]
        self._dials: dict[int, float] = {}
        self._serving: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._told = 0
        self._started = 0
        for number, agent in enumerate(self._agents):
            agent.on_event(lambda event, number=number: self._heard(number, event))
        reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        """The next ones: each reads its certificates first, which keeps all the others waiting."""
        first, self._started = self._started, self._started + BATCH
        for agent in self._agents[first : self._started]:
            agent.startService()

    def _heard(self, number: int, event: AgentEvent) -> None:
        if isinstance(event, NotReady):
            self._serving.discard(number)
        elif isinstance(event, Failed):
            self._dials[number] = time.monotonic() + event.retry_in
            self._tries[number] += 1
            if len(self._tries) < len(self._agents):
                return
            least = min(self._tries.values())
            if least > self._told:
                self._told = least
                print(f"tried {least}", flush=True)
        elif isinstance(event, Ready):
            self._serving.add(number)
            if len(self._serving) == len(self._agents):
                self._tell()
            elif len(self._serving) == self._started:
                self._start()

    def _tell(self) -> None:
        dials, self._dials = sorted(self._dials.values()) or [0.0], {}
        self._tries.clear()
        self._told = 0
        busiest = max(sum(1 for other in dials if one <= other < one + WINDOW) for one in dials) / len(dials)
        print(f"serving {len(self._serving)}, {dials[-1] - dials[0]:.3f} s, {busiest:.3f}", flush=True)


def main() -> None:
    reactor: Any = installed
    config = AgentConfig.from_environment(os.environ, {}, folder=None)
    crowd = Crowd(reactor, int(sys.argv[1]), config)
    reactor.run()
    del crowd


if __name__ == "__main__":
    main()
