"""The admin listener: a port of its own for those who run an edge, never for visitors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import Service
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from wormhole_tw.admin.health import HealthResource, ReadyResource
from wormhole_tw.errors import MisuseError
from wormhole_tw.net.addresses import shown_address
from wormhole_tw.net.inherited import NOTHING, Inherited
from wormhole_tw.net.listening import leave_open, open_port

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress, IListeningPort

    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.edge.service import EdgeService

__all__ = ["AdminService"]

IDLE_SECONDS = 60
"""Seconds that a connection to the admin listener may idle: probes and scrapers come every few."""

log = Logger()


class AdminService(Service):
    """Serves ``/healthz``, ``/readyz`` and ``/metrics`` on ``edge.admin``.

    It does nothing where the configuration names no such listener.

    :param reactor: a reactor
    :param config: the edge's configuration
    :param edge: whose readiness and metrics are shown; without one there is only ``/healthz``
    """

    def __init__(
        self, reactor: Any, config: EdgeConfig, edge: EdgeService | None = None, *, inherited: Inherited = NOTHING
    ) -> None:
        self._inherited = inherited
        self._reactor = reactor
        self._config = config
        self._edge = edge
        self._port: IListeningPort | None = None
        self._connections: WrappingFactory | None = None

    def privilegedStartService(self) -> None:
        """Listen, before rights are dropped.

        :raises ConfigError: the port cannot be opened
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._listen()

    def startService(self) -> None:
        """:raises ConfigError: the port cannot be opened"""
        self._listen()
        super().startService()  # type: ignore[no-untyped-call]

    def _listen(self) -> None:
        config = self._config
        if config.admin is None or self._port is not None:
            return
        root = Resource()
        root.putChild(b"healthz", HealthResource())  # type: ignore[no-untyped-call]
        if self._edge is not None:
            # its library takes a moment to import, and many an edge has no admin listener
            from wormhole_tw.admin.metrics import MetricsResource

            edge = self._edge
            root.putChild(
                b"readyz", ReadyResource(edge.unready, lambda: [*edge.certificate_lines(), *edge.backend_lines()])
            )
            root.putChild(b"metrics", MetricsResource(self._edge))
        site = Site(root, timeout=IDLE_SECONDS, reactor=self._reactor)
        site.noisy = False
        site.log = _no_log  # type: ignore[method-assign]
        self._connections = WrappingFactory(site)
        self._connections.noisy = False
        self._port = open_port(
            self._reactor,
            config.admin,
            cast(Factory, self._connections),
            source=config.source,
            key="$.edge.admin",
            inherited=self._inherited,
        )
        log.info("admin listener on {address}", address=shown_address(self._port.getHost()))

    @property
    def address(self) -> IAddress:
        """Where it listens.

        :raises MisuseError: it does not
        """
        if self._port is None:
            raise MisuseError("the admin listener is not open")
        return self._port.getHost()

    def ports(self) -> list[tuple[str, IListeningPort]]:
        """Its open port, with its endpoint description; none where there is none."""
        return [] if self._port is None or self._config.admin is None else [(self._config.admin, self._port)]

    def hand_over(self) -> None:
        """Another process has the port too, and answers there from now on."""
        for _, port in self.ports():
            leave_open(port)
            port.stopReading()  # type: ignore[attr-defined]

    def stopService(self) -> Deferred[None]:
        """Close the port and every connection; fires when they are closed."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        connections, self._connections = self._connections, None
        # Connections first: each is gone in the next turn, as the port is, and in this order.
        if connections is not None:
            for protocol in list(connections.protocols):
                protocol.transport.abortConnection()
        closing = [maybeDeferred(port.stopListening)] if port is not None else []
        return DeferredList(closing).addCallback(lambda _: None)


def _no_log(request: object) -> None:
    """Probes every few seconds are no news."""
