"""The ordinary carrier: TLS over TCP, straight to the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import HostnameEndpoint

from wormhole_tw.net.immediate import immediate_reactor
from wormhole_tw.net.tls_dialling import wrap_client_tls
from wormhole_tw.tunnel.ending import ALPN

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint

__all__ = ["ALPN", "CONNECT_TIMEOUT", "tls_link_endpoint"]

CONNECT_TIMEOUT = 10.0
"""Seconds for the name and the TCP connections to its addresses, and as many again for the handshake. A SYN that is
lost is sent again after 1, 3 and 7 s: three tries fit."""


def tls_link_endpoint(
    reactor: Any,
    host: str,
    port: int,
    creator: IOpenSSLClientConnectionCreator,
    *,
    timeout: float = CONNECT_TIMEOUT,
    below: IStreamClientEndpoint | None = None,
) -> IStreamClientEndpoint:
    """Where a link is dialled: each ``connect()`` looks the name up anew, and tries its addresses as in RFC 8305.

    It fires when the handshake is done and the edge verified, and fails with what
    :func:`wormhole_tw.net.tls_failure.explain_tls_failure` explains.

    :param creator: ``net.tls.client_creator(host, alpn=[ALPN], …)``; make it once and keep it
    :param timeout: seconds, see :data:`CONNECT_TIMEOUT`
    :param below: another way to ``host:port``, through a proxy
    """
    if below is None:
        below = HostnameEndpoint(immediate_reactor(reactor), host, port, timeout=timeout)
    return wrap_client_tls(reactor, creator, below, timeout=timeout)
