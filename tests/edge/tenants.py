"""Agents made of nothing but the dialling side of a link, for tests of an edge over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from zope.interface import implementer

from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.control.tokens import digest_line
from wormhole_tw.edge.service import EdgeService
from wormhole_tw.net.tls import client_creator
from wormhole_tw.net.turn import turn_end_of
from wormhole_tw.tunnel.carriers.tls import ALPN, tls_link_endpoint
from wormhole_tw.tunnel.interfaces import ILinkOwner
from wormhole_tw.tunnel.protocol import LinkProtocol, Side
from wormhole_tw.tunnel.stream import TunnelStream
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Goaway, Hello, Open, Welcome

TOKEN = "wh_the-token-of-this-test"
OTHER = "wh_the-other-token-of-this-test"

TOML = f"""
[edge]
name = "edge-1"
names = ["localhost", "127.0.0.1"]
https = ["tcp:0:interface=127.0.0.1"]
[[backends]]
name = "app"
tokens = ["{digest_line(TOKEN)}"]
[[backends]]
name = "other"
tokens = ["{digest_line(OTHER)}"]
[[sites]]
name = "app"
hostnames = ["app.example.test"]
routes = [{{ path = "/", backend = "app" }}]
[limits]
drain = 0.3
failed_authentications = 3
"""


async def until(reactor: Any, condition: Any) -> None:
    """Wait until something is so. The test's deadline is the limit."""
    while not condition():
        await deferLater(reactor, 0.005)


class Premises:
    """A folder with an ``edge.toml``, and the edge that it describes."""

    def __init__(self, reactor: Any, folder: Path, text: str = TOML) -> None:
        self.reactor = reactor
        self.file = folder / "edge.toml"
        self.write(text)
        self.edge = EdgeService(reactor, EdgeConfig.load(self.file), FileStore(self.file))
        self.tenants: list[Tenant] = []

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def tenant(self, **hello: Any) -> Tenant:
        """Dial as an agent that says this."""
        tenant = Tenant(self, **hello)
        self.tenants.append(tenant)
        return tenant

    async def ready(self, **hello: Any) -> Tenant:
        """One that is welcomed and ready for requests."""
        tenant = self.tenant(**hello)
        await tenant.welcomed_
        tenant.link.set_status(True)
        registry = self.edge.registry
        assert registry is not None
        await until(self.reactor, lambda: tenant.session in [s.facts.session_id for s in registry.candidates("app")])
        return tenant

    async def close(self) -> None:
        for tenant in self.tenants:
            tenant.link.abort()
        await self.edge.stopService()
        for tenant in self.tenants:
            await tenant.link.when_lost()


@implementer(ILinkOwner)
class Tenant:
    """One link.

    :ivar welcomed_: fires with WELCOME, fails with why the link was lost before it
    """

    def __init__(self, premises: Premises, **hello: Any) -> None:
        self.welcome: Welcome | None = None
        self.goaway: Goaway | None = None
        self.lost: Exception | None = None
        self.streams: list[TunnelStream] = []
        self.statuses: list[tuple[bool, str]] = []
        self.welcomed_: Deferred[Welcome] = Deferred()
        self.welcomed_.addErrback(lambda failure: failure)
        said: dict[str, Any] = {
            "role": "agent",
            "versions": [1],
            "token": TOKEN,
            "instance": b"i" * 16,
            "slot": 0,
            "generation": 1,
            "previous": "gone",
            "host": "a-host",
            "software": "a test",
        }
        self.link = LinkProtocol(
            premises.reactor,
            Side.DIALLER,
            SessionConfig(),
            self,
            turn=turn_end_of(premises.reactor),
            hello=Hello(**{**said, **hello}),
        )
        port: Any = premises.edge.addresses[0]
        creator = client_creator("localhost", ca_file=premises.edge.ca_file, alpn=[ALPN])
        factory = Factory.forProtocol(lambda: self.link)  # type: ignore[arg-type]
        factory.noisy = False
        endpoint = tls_link_endpoint(premises.reactor, "127.0.0.1", port.port, creator, timeout=5)
        self.dialled = endpoint.connect(factory)

    @property
    def session(self) -> str:
        assert self.welcome is not None
        return self.welcome.session

    async def refusal(self) -> Goaway:
        """The GOAWAY that it got, when the link is over."""
        self.welcomed_.addErrback(lambda _: None)
        await self.welcomed_
        await self.link.when_lost()
        assert self.goaway is not None
        return self.goaway

    def hello_received(self, link: LinkProtocol, hello: Hello) -> None:
        raise AssertionError("an agent says HELLO")

    def welcomed(self, link: LinkProtocol, welcome: Welcome) -> None:
        self.welcome = welcome
        self.welcomed_.callback(welcome)

    def status_changed(self, link: LinkProtocol, ready: bool, reason: str) -> None:
        self.statuses.append((ready, reason))

    def stream_opened(self, link: LinkProtocol, stream: TunnelStream, message: Open) -> None:
        self.streams.append(stream)

    def goaway_received(self, link: LinkProtocol, goaway: Goaway) -> None:
        self.goaway = goaway

    def drained(self, link: LinkProtocol) -> None:
        """The edge closes."""

    def link_lost(self, link: LinkProtocol, reason: Exception) -> None:
        self.lost = reason
        if self.welcome is None:
            self.welcomed_.errback(reason)
