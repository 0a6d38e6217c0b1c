"""How one edge is dialled: by which carrier, and through which proxy."""

from __future__ import annotations

from typing import Any

from service_identity import CertificateError, VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    UnknownHostError,
)
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.errors import LinkRefused, ProxyRefused
from wormhole_tw.net.proxied import ProxiedEndpoint
from wormhole_tw.net.tls import CertificateRejected, client_creator
from wormhole_tw.tunnel.carriers import tls, websocket

__all__ = ["TLS", "TRY_TLS_AGAIN", "WEBSOCKET", "CarrierEndpoint", "Ways"]

TLS = "tls"
WEBSOCKET = "websocket"

TRY_TLS_AGAIN = 600.0
"""Seconds after which ``auto`` looks whether TLS works again where it did not: a laptop that has left its hotel is back
within ten minutes, and a network that drops what it does not know sees six tries an hour."""

_NOT_THE_CARRIERS = (
    *(LinkRefused, ProxyRefused),
    *(DNSLookupError, UnknownHostError, ConnectionRefusedError, NoRouteError),
    *(CertificateRejected, VerificationError, CertificateError),
    *(CancelledError, ConnectingCancelledError),
)
"""Failures that another carrier to the same place would have too: an edge has answered, or nobody, or a stranger; or it
was given up, as at a stop."""


@implementer(IStreamClientEndpoint)
class CarrierEndpoint:
    """Dials one edge by one carrier; usable once the CA file was read.

    :ivar carrier: its name
    """

    def __init__(self, reactor: Any, config: AgentConfig, host: str, port: int, carrier: str) -> None:
        self.carrier = carrier
        self._reactor = reactor
        self._config = config
        self._host = host
        self._port = port
        self._dialled: IStreamClientEndpoint | None = None

    def read_ca_file(self) -> None:
        """Trust what the file holds now, beside the system's CAs.

        :raises ConfigError: it is missing, unreadable or no PEM
        """
        config, host, port = self._config, self._host, self._port
        trusted: dict[str, Any] = {"ca_file": config.ca_file, "source": config.source("ca_file")}
        below = None
        proxy = config.proxies.for_host(host, port)
        if proxy is not None:
            creator = None
            if proxy.scheme == "https":
                creator = client_creator(proxy.host, alpn=[websocket.ALPN], **trusted)
            below = ProxiedEndpoint(self._reactor, proxy, host, port, creator=creator, timeout=config.edge_timeout)
        dial = tls.tls_link_endpoint
        alpn = tls.ALPN
        if self.carrier == WEBSOCKET:
            dial, alpn = websocket.websocket_link_endpoint, websocket.ALPN
        creator = client_creator(host, alpn=[alpn], **trusted)
        self._dialled = dial(self._reactor, host, port, creator, timeout=config.edge_timeout, below=below)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        assert self._dialled is not None, "the service reads the CA file before it dials"
        return self._dialled.connect(protocolFactory)


class Ways:
    """The carriers to one edge, and which of them is tried first: by what came of the tries before.

    :param endpoints: by carrier, best first
    """

    def __init__(self, endpoints: list[CarrierEndpoint]) -> None:
        self._endpoints = endpoints
        self._fell_at: float | None = None

    @classmethod
    def of(cls, reactor: Any, config: AgentConfig, host: str, port: int) -> Ways:
        """Those that the configuration has for an edge."""
        names = [TLS, WEBSOCKET] if config.carrier == "auto" else [config.carrier]
        return cls([CarrierEndpoint(reactor, config, host, port, name) for name in names])

    def read_ca_file(self) -> None:
        """See :meth:`CarrierEndpoint.read_ca_file`.

        :raises ConfigError: the file is missing, unreadable or no PEM
        """
        for endpoint in self._endpoints:
            endpoint.read_ca_file()

    def in_order(self, now: float) -> list[CarrierEndpoint]:
        """What to try, one after the other: TLS first, unless it has just been seen not to work where another did."""
        if self._fell_at is not None and now - self._fell_at < TRY_TLS_AGAIN:
            return self._endpoints[::-1]
        return self._endpoints

    @property
    def best(self) -> CarrierEndpoint:
        """What is wanted where it works."""
        return self._endpoints[0]

    def worked(self, endpoint: CarrierEndpoint, now: float, *, best_failed: bool) -> None:
        """A link stands by this one.

        :param best_failed: the best was tried just before, and did not work
        """
        if endpoint is self._endpoints[0]:
            self._fell_at = None
        elif best_failed:
            self._fell_at = now

    def still_bad(self, now: float) -> None:
        """The best was tried again beside a link that stands, and did not work."""
        self._fell_at = now

    @staticmethod
    def may_try_another(error: Exception) -> bool:
        """Whether another carrier may come through where one failed so."""
        return not isinstance(error, _NOT_THE_CARRIERS)
