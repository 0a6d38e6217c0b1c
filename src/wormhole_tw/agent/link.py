"""One link of an agent, from the dial to its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.agent.bridge import Bridge
from wormhole_tw.agent.events import AgentSession
from wormhole_tw.net.turn import turn_end_of
from wormhole_tw.tunnel.interfaces import ILinkOwner
from wormhole_tw.tunnel.protocol import LinkProtocol
from wormhole_tw.tunnel.stream import TunnelStream
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Goaway, Hello, Open, Welcome
from wormhole_tw.wire.session import Side

__all__ = ["AgentLink", "LinkFactory", "LinkWatcher"]

_log = Logger()


class LinkWatcher(Protocol):
    """Who looks after links: the connector."""

    def link_made(self, link: AgentLink) -> None:
        """The connection to the edge stands; HELLO is on its way."""

    def link_moving(self, link: AgentLink, reason: str) -> None:
        """The edge says that it takes nothing new on this link soon, and everything until then."""

    def link_leaving(self, link: AgentLink, goaway: Goaway) -> None:
        """The edge said GOAWAY on a link that stood."""

    def link_lost(self, link: AgentLink, reason: Exception) -> None:
        """The connection is gone. Once for each link made."""


@implementer(ILinkOwner)
class AgentLink:
    """The owner of one :class:`~wormhole_tw.tunnel.protocol.LinkProtocol` on the dialling side.

    :ivar protocol: the link
    :ivar session: what WELCOME said, None before
    :ivar generation: its number among the links of its place
    """

    def __init__(
        self,
        watcher: LinkWatcher,
        bridge: Bridge,
        clock: Any,
        config: SessionConfig,
        hello: Hello,
        address: str,
        carrier: str = "tls",
    ) -> None:
        self._watcher = watcher
        self._bridge = bridge
        self._address = address
        self._carrier = carrier
        self.generation = hello.generation
        self.session: AgentSession | None = None
        self._welcome: Deferred[AgentSession] | None = None
        self._reason: Exception | None = None
        self.protocol = LinkProtocol(
            clock, Side.DIALLER, config, self, turn=turn_end_of(clock), hello=hello, peer_name=address
        )

    def when_welcomed(self) -> Deferred[AgentSession]:
        """Fires at WELCOME; fails where the link is lost before, with the reason of ``link_lost``. For one caller.

        Cancelling it drops the connection.
        """
        welcome: Deferred[AgentSession] = Deferred(lambda _: self.protocol.abort())
        if self.session is not None:
            welcome.callback(self.session)
        elif self._reason is not None:
            welcome.errback(self._reason)
        else:
            self._welcome = welcome
        return welcome

    # ILinkOwner

    def hello_received(self, link: LinkProtocol, hello: Hello) -> None:
        """Never on the dialling side: the session refuses it before."""

    def welcomed(self, link: LinkProtocol, welcome: Welcome) -> None:
        self.session = AgentSession(
            session_id=welcome.session,
            edge=welcome.edge,
            region=welcome.region,
            urls=tuple(welcome.urls),
            address=self._address,
            granted=tuple(welcome.granted),
            carrier=self._carrier,
        )
        waiting, self._welcome = self._welcome, None
        if waiting is not None and not waiting.called:
            waiting.callback(self.session)

    def status_changed(self, link: LinkProtocol, ready: bool, reason: str) -> None:
        """An edge takes no streams from an agent; that it is not ready says that there is a successor to be dialled."""
        if not ready and self.session is not None:
            self._watcher.link_moving(self, reason)

    def stream_opened(self, link: LinkProtocol, stream: TunnelStream, message: Open) -> None:
        self._bridge.stream_opened(stream, message)

    def goaway_received(self, link: LinkProtocol, goaway: Goaway) -> None:
        if self.session is not None:
            self._watcher.link_leaving(self, goaway)

    def drained(self, link: LinkProtocol) -> None:
        """The link closes by itself: it was told to, when GOAWAY came or went."""

    def link_lost(self, link: LinkProtocol, reason: Exception) -> None:
        self._reason = reason
        waiting, self._welcome = self._welcome, None
        if waiting is not None and not waiting.called:
            waiting.errback(reason)
        self._watcher.link_lost(self, reason)


class LinkFactory(Factory):
    """Builds the link of one dial.

    :param make: makes the owner, when the connection stands
    """

    noisy = False

    def __init__(self, watcher: LinkWatcher, make: Callable[[], AgentLink]) -> None:
        self._watcher = watcher
        self._make = make
        self.link: AgentLink | None = None

    def buildProtocol(self, addr: IAddress) -> IProtocol:  # type: ignore[override]
        link = self.link = self._make()
        self._watcher.link_made(link)
        return link.protocol
