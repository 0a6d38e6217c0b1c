"""Who has come: the facts of a connection, from its socket, the PROXY protocol's header before it, and its TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address

from wormhole_tw.edge.complaints import host_of
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.trust import NOBODY
from wormhole_tw.wire.messages import TlsFacts

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from wormhole_tw.edge.trust import Trust
    from wormhole_tw.net.proxy_protocol import ProxyHeader
    from wormhole_tw.net.tls import ServedTls

__all__ = ["connection_facts", "named_by"]


def named_by(header: ProxyHeader) -> IAddress | None:
    """Whom a header names; None where the proxy speaks for itself."""
    if header.source is None:
        return None
    kind = IPv6Address if ":" in header.source[0] else IPv4Address
    return kind("TCP", *header.source)


def connection_facts(
    transport: Any,
    address: IAddress,
    header: ProxyHeader | None,
    trust: Trust,
    *,
    public_port: int,
    served: ServedTls | None = None,
    redirect: bool = False,
    tunnels: bool | None = None,
) -> ConnectionFacts:
    """The facts of a visitor's connection.

    :param address: who it is: the peer, or whom its header names
    :param header: what the PROXY protocol says of it, or None
    :param trust: whose forwarding fields are believed on this port
    :param served: what TLS agreed on here, or None
    :param redirect: plain HTTP is to be redirected on this port
    :param tunnels: whether agents' tunnels are taken on this port
    """
    host = transport.getHost()
    local = (host_of(host), getattr(host, "port", 0))
    outer = None
    if header is not None:
        local = header.destination or local
        if header.source is None:
            # whoever it is: nobody who may say that it is somebody else
            trust = NOBODY
        if header.secure:
            outer = TlsFacts(
                version=header.tls_version,
                cipher=header.cipher,
                sni=header.authority or None,
                alpn=header.alpn.decode("ascii") or None,
            )
    return ConnectionFacts(
        address=host_of(address),
        port=getattr(address, "port", 0),
        local_address=local[0],
        local_port=local[1],
        public_port=public_port,
        served=served,
        tls=outer,
        redirect=redirect,
        tunnels=tunnels,
        trust=trust,
    )
