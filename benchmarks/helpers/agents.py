"""Many agents of one backend in one process; prints ``ready`` when all serve.

Settings: ``FLY_TOKEN``, ``FLY_LOCAL_ENDPOINT``, ``FLY_REMOTE_ENDPOINT``, ``FLY_TLS_CERT_FILE``, ``count``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from benchmarks.helpers import say, settings
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.service import AgentService
from wormhole_tw.cli.process import settle


def main() -> None:
    """Serve until SIGTERM."""
    wanted = settings()
    count = wanted.pop("count")
    running: Any = reactor
    config = AgentConfig.from_environment(wanted, folder=None)
    agents = [AgentService(running, config) for _ in range(count)]

    async def serve() -> None:
        for agent in agents:
            agent.startService()
        await gatherResults([agent.when_ready() for agent in agents])
        say("ready")

    def start() -> None:
        Deferred.fromCoroutine(serve()).addErrback(lambda failure: say(failure.getTraceback()))

    running.callWhenRunning(start)
    running.addSystemEventTrigger(
        "before", "shutdown", lambda: gatherResults([agent.stopService() for agent in agents])
    )
    settle(running)
    running.run()


if __name__ == "__main__":
    main()
