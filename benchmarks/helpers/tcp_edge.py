"""An edge with a plain TCP port more: each connection to it becomes a stream of kind ``tcp`` to an agent.

Settings: ``config`` (``edge.toml``), ``port``. This is what embedding the edge is for; it measures the tunnel alone.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory, Protocol

from benchmarks.helpers import say, settings
from wormhole_tw.cli.process import settle
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.edge.service import EdgeService
from wormhole_tw.net.listening import open_port
from wormhole_tw.net.relay import Relay
from wormhole_tw.net.transport import tune
from wormhole_tw.tunnel.stream import TunnelStream
from wormhole_tw.wire.messages import Open

_TCP = Open(kind="tcp")


class Visitors(Factory):
    """Joins each connection to a stream of the first agent that is there."""

    noisy = False

    def __init__(self, edge: EdgeService) -> None:
        self._edge = edge

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        registry = self._edge.registry
        sessions = registry.candidates("app") if registry is not None else ()
        if not sessions:
            return None
        relay = Relay(_break)
        sessions[0].dial(_TCP).connect(_Once(relay)).addErrback(lambda _: relay.abort())
        return relay.near


class _Once(Factory):
    noisy = False

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        tune(self._relay.near.transport)
        return self._relay.far


def _break(lost: Any, reason: object) -> None:
    transport = lost.other.transport
    if isinstance(transport, TunnelStream):
        transport.abortConnection()
    else:
        transport.loseConnection()


def main() -> None:
    """Serve until SIGTERM."""
    wanted = settings()
    running: Any = reactor
    edge = EdgeService(running, EdgeConfig.load(wanted["config"]))
    edge.startService()
    open_port(running, f"tcp:{wanted['port']}:interface=127.0.0.1", Visitors(edge), source="settings", key="port")
    running.addSystemEventTrigger("before", "shutdown", edge.stopService)
    settle(running)
    running.callWhenRunning(say, "ready")
    running.run()


if __name__ == "__main__":
    main()
