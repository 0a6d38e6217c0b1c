"""What the objects of idle streams take, on the side that opens them (an edge's); prints octets a stream as JSON.

Settings: ``streams``, ``warm`` (streams opened before counting begins), ``trace`` (count by tracemalloc what Python
allocates, instead of the process's pages).

Two processes with one link over a socket, without TLS. On each stream 100 octets went each way; then nothing.
What reads the streams is one object for all of them, so that only the tunnel's own are counted.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from benchmarks.helpers import say, settings
from benchmarks.helpers.idle_agents import Owner
from benchmarks.usage import private_bytes
from wormhole_tw.net.turn import turn_end_of
from wormhole_tw.tunnel.protocol import LinkProtocol
from wormhole_tw.tunnel.stream import TunnelStream
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Hello, Open, Service, Welcome
from wormhole_tw.wire.session import Side

try:
    import tracemalloc
except ImportError:
    sys.exit("what objects take is counted by tracemalloc, which this Python (PyPy) does not have")

OCTETS = b"x" * 100


class Accepting(Owner):
    """The edge's side."""

    def hello_received(self, link: LinkProtocol, hello: Hello) -> None:
        link.welcome(Welcome(session="s", edge="bench"))

    def status_changed(self, link: LinkProtocol, ready: bool, reason: str) -> None:
        if not self.welcomed_or_lost.called:
            self.welcomed_or_lost.callback(None)

    def link_lost(self, link: LinkProtocol, reason: Exception) -> None:
        """The child was ended, after the count."""


class Dialling(Owner):
    """The agent's side: sends back what comes."""

    def stream_opened(self, link: LinkProtocol, stream: TunnelStream, message: Open) -> None:
        stream.attach(Echo())
        stream.accept()

    def link_lost(self, link: LinkProtocol, reason: Exception) -> None:
        running: Any = reactor
        running.stop()


class Echo(Protocol):
    """Sends back what comes."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


@implementer(IProtocol)
class Everyone:
    """The one reader of all streams."""

    factory = None
    received = 0

    def makeConnection(self, transport: Any) -> None:
        """Many times."""

    def connectionMade(self) -> None:
        """Not called."""

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)

    def connectionLost(self, reason: Any) -> None:
        """At the end."""


class Once(Factory):
    """Builds the one link that there is."""

    noisy = False

    def __init__(self, side: Side, owner: Owner, streams: int) -> None:
        running: Any = reactor
        hello = Hello(role="agent", versions=[1], token="t", instance=bytes(16), generation=1, services=[Service()])
        self.link = LinkProtocol(
            running,
            side,
            SessionConfig(max_streams=streams + 64),
            owner,
            turn=turn_end_of(running),
            hello=hello if side is Side.DIALLER else None,
        )

    def buildProtocol(self, addr: IAddress | None) -> LinkProtocol:  # type: ignore[override]
        return self.link


async def _count(link: LinkProtocol, owner: Owner, wanted: dict[str, Any]) -> dict[str, float]:
    running: Any = reactor
    await owner.welcomed_or_lost
    reader: Any = Everyone()
    message = Open(kind="http")

    async def open_until(total: int) -> None:
        while link.load < total:
            for _ in range(min(100, total - link.load)):
                stream = link.open(message)
                stream.attach(reader)
                stream.write(OCTETS)
            while reader.received < link.load * len(OCTETS):
                await deferLater(running, 0.01)
        await deferLater(running, 0.2)
        gc.collect()

    await open_until(wanted["warm"])
    if wanted["trace"]:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if wanted["trace"] else private_bytes(os.getpid())
    await open_until(wanted["warm"] + wanted["streams"])
    after = tracemalloc.get_traced_memory()[0] if wanted["trace"] else private_bytes(os.getpid())
    return {"octets": (after - before) / wanted["streams"]}


def _dial(port: int, streams: int) -> None:
    """The child: an agent's side, until the link is lost."""
    running: Any = reactor
    TCP4ClientEndpoint(running, "127.0.0.1", port).connect(Once(Side.DIALLER, Dialling(), streams))
    running.run()


def _measure(wanted: dict[str, Any]) -> None:
    running: Any = reactor
    total = wanted["warm"] + wanted["streams"]
    owner = Accepting()
    factory = Once(Side.ACCEPTOR, owner, total)

    async def measure() -> None:
        port = await TCP4ServerEndpoint(running, 0, interface="127.0.0.1").listen(factory)
        told = json.dumps({"dial": port.getHost().port, "streams": total})
        with subprocess.Popen([sys.executable, "-m", "benchmarks.helpers.idle_streams", told]) as child:
            try:
                found = await _count(factory.link, owner, wanted)
            finally:
                child.kill()
        say(json.dumps(found))

    def start() -> None:
        measuring = Deferred.fromCoroutine(measure())
        measuring.addErrback(lambda failure: say(failure.getTraceback()))
        measuring.addBoth(lambda _: running.stop())

    running.callWhenRunning(start)
    running.run()


def main() -> None:
    """Count, in a process with a child for the other side."""
    wanted = settings()
    if "dial" in wanted:
        _dial(wanted["dial"], wanted["streams"])
    else:
        _measure(wanted)


if __name__ == "__main__":
    main()
