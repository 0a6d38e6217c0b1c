"""Many agents of one backend in one process, and what becomes of them when their edge goes and comes back.

Prints ``serving N`` when all of them serve, with the seconds from the first of these links to the last, and the share
of them that came in the busiest quarter of a second.  While they have no edge, ``tried K`` says that each has tried K
times.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import Any

from twisted.internet import reactor as installed

from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.events import AgentEvent, Connected, Failed, NotReady, Ready
from wormhole_tw.agent.service import AgentService

WINDOW = 0.25


class Crowd:
    def __init__(self, reactor: Any, count: int, config: AgentConfig) -> None:
        self._agents = [AgentService(reactor, config) for _ in range(count)]
        self._links: list[float] = []
        self._serving: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._told = 0
        for number, agent in enumerate(self._agents):
            agent.on_event(lambda event, number=number: self._heard(number, event))
            agent.startService()

    def _heard(self, number: int, event: AgentEvent) -> None:
        if isinstance(event, Connected):
            self._links.append(time.monotonic())
        elif isinstance(event, NotReady):
            self._serving.discard(number)
        elif isinstance(event, Failed):
            self._tries[number] += 1
            least = min(self._tries[one] for one in range(len(self._agents)))
            if least > self._told:
                self._told = least
                print(f"tried {least}", flush=True)
        elif isinstance(event, Ready):
            self._serving.add(number)
            if len(self._serving) == len(self._agents):
                self._tell()

    def _tell(self) -> None:
        links, self._links = sorted(self._links), []
        self._tries.clear()
        self._told = 0
        busiest = max(sum(1 for other in links if one <= other < one + WINDOW) for one in links)
        print(f"serving {len(links)} in {links[-1] - links[0]:.3f} s, share {busiest / len(links):.3f}", flush=True)


def main() -> None:
    reactor: Any = installed
    config = AgentConfig.from_environment(os.environ, {}, folder=None)
    crowd = Crowd(reactor, int(sys.argv[1]), config)
    reactor.run()
    del crowd


if __name__ == "__main__":
    main()
