"""How an edge goes: visitors and agents finish what runs, and where another process takes over, they notice nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

if TYPE_CHECKING:
    from wormhole_tw.edge.agents import Agents
    from wormhole_tw.edge.context import EdgeContext

__all__ = ["LINGER", "RETRY_AFTER_SHUTDOWN", "leave"]

LINGER = 5.0
"""Seconds for which a process that was replaced serves what comes on the connections that it has: time for a visitor to
ask once more, and to be told that it was the last time, and for agents to reach the new process."""

RETRY_AFTER_SHUTDOWN = 0.5
"""Seconds that agents are told to wait when the edge stops: a restart takes about that, and they back off further."""


async def leave(reactor: Any, context: EdgeContext, agents: Agents, drain: float, *, succeeded: bool) -> None:
    """Come to the end of every connection.  The ports are closed.

    :param drain: seconds for what runs
    :param succeeded: another process has the same ports, and takes agents and visitors
    """
    until = reactor.seconds() + drain
    if succeeded:
        agents.move()
        context.linger()
        await deferLater(reactor, min(LINGER, drain))
    # Visitors first: what runs needs its agents' streams, and a drained agent takes no new ones.
    context.drain()
    late = reactor.callLater(max(until - reactor.seconds(), 0.0), context.abort)
    try:
        await context.connections.when_empty()
    finally:
        if late.active():
            late.cancel()
    context.abort()
    await DeferredList(agents.drain(max(until - reactor.seconds(), 0.0), RETRY_AFTER_SHUTDOWN))
    await context.connections.when_empty()
