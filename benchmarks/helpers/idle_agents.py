"""Many links of agents that do nothing but answer PING.


Settings: ``port``, ``token``, ``ca_file``, ``steps``: after each number of links it waits for ``pause`` seconds, and
says ``step N``; it stays until it is ended. They are the links alone, without the rest of an agent: one process holds a
thousand, and what is measured is the edge.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from zope.interface import implementer

from benchmarks.helpers import raise_descriptor_limit, say, settings
from wormhole_tw.net.tls import client_creator
from wormhole_tw.net.turn import turn_end_of
from wormhole_tw.tunnel.carriers.tls import ALPN, tls_link_endpoint
from wormhole_tw.tunnel.interfaces import ILinkOwner
from wormhole_tw.tunnel.protocol import LinkProtocol
from wormhole_tw.tunnel.stream import TunnelStream
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Goaway, Hello, Open, Service, Welcome
from wormhole_tw.wire.session import Side

AT_ONCE = 20
"""Links that are dialled together: fewer than the edge's backlog."""


@implementer(ILinkOwner)
class Owner:
    """Of one link."""

    def __init__(self) -> None:
        self.welcomed_or_lost: Deferred[None] = Deferred()

    def hello_received(self, link: LinkProtocol, hello: Hello) -> None:
        """Agents get none."""

    def welcomed(self, link: LinkProtocol, welcome: Welcome) -> None:
        link.set_status(True)
        self.welcomed_or_lost.callback(None)

    def status_changed(self, link: LinkProtocol, ready: bool, reason: str) -> None:
        """Edges are always ready."""

    def stream_opened(self, link: LinkProtocol, stream: TunnelStream, message: Open) -> None:
        stream.abortConnection()

    def goaway_received(self, link: LinkProtocol, goaway: Goaway) -> None:
        say(f"goaway: {goaway.message}")

    def drained(self, link: LinkProtocol) -> None:
        """Nothing to do."""

    def link_lost(self, link: LinkProtocol, reason: Exception) -> None:
        say(f"lost: {reason}")
        if not self.welcomed_or_lost.called:
            self.welcomed_or_lost.errback(reason)


class Links(Factory):
    """Builds one link each time."""

    noisy = False

    def __init__(self, clock: Any, token: str) -> None:
        self._clock = clock
        self._token = token
        self._config = SessionConfig()

    def buildProtocol(self, addr: IAddress | None) -> LinkProtocol:  # type: ignore[override]
        hello = Hello(
            role="agent",
            versions=[1],
            token=self._token,
            instance=os.urandom(16),
            generation=1,
            host="bench",
            software="benchmarks",
            services=[Service()],
        )
        owner = Owner()
        link = LinkProtocol(
            self._clock, Side.DIALLER, self._config, owner, turn=turn_end_of(self._clock), hello=hello, peer_name="edge"
        )
        self.made.append(owner)
        return link

    made: list[Owner] = []


def main() -> None:
    """Dial, and stay."""
    raise_descriptor_limit()
    wanted = settings()
    running: Any = reactor
    endpoint = tls_link_endpoint(
        running, "127.0.0.1", wanted["port"], client_creator("127.0.0.1", ca_file=wanted["ca_file"], alpn=[ALPN])
    )
    factory = Links(running, wanted["token"])

    async def dial() -> None:
        standing = 0
        for step in wanted["steps"]:
            while standing < step:
                batch = min(AT_ONCE, step - standing)
                await gatherResults([endpoint.connect(factory) for _ in range(batch)])
                await gatherResults([owner.welcomed_or_lost for owner in factory.made])
                factory.made.clear()
                standing += batch
            await deferLater(running, wanted["pause"])
            say(f"step {step}")
            await deferLater(running, wanted["pause"])

    def start() -> None:
        Deferred.fromCoroutine(dial()).addErrback(lambda failure: say(failure.getTraceback()))

    running.callWhenRunning(start)
    running.run()


if __name__ == "__main__":
    main()
