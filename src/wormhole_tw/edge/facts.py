"""What is known of a visitor's connection: made once a connection, read by every exchange on it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from wormhole_tw.http.forwarding import VisitorFacts
from wormhole_tw.wire.messages import TlsFacts, Visitor

if TYPE_CHECKING:
    from wormhole_tw.net.tls import ServedTls

__all__ = ["ConnectionFacts"]


_forwarding = lru_cache(maxsize=1024)(VisitorFacts)
"""One object for all connections that tell the same, so that what was derived from it is found by its identity."""


class ConnectionFacts:
    """Facts of one visitor connection.

    :ivar address: the visitor's IP address as text; empty where there is none (a Unix socket)
    :ivar port: the visitor's port, 0 where there is none
    :ivar local_port: the port of ours that was reached
    :ivar judged_host: the last host name that the certificate served here was found good for; the router's
    :ivar served: what TLS agreed on, or None on a plain connection
    :ivar redirect: requests here are answered with a redirect to https and nothing else
    :ivar trusted: the peer is a proxy of ours, whose forwarding fields and request ids are believed
    :ivar noted: what the access log says of this connection, once it has said something
    :ivar forwarding: the same facts as the forwarding fields tell them
    """

    __slots__ = ("address", "forwarding", "judged_host", "local_port", "noted", "port", "redirect", "served", "trusted")

    def __init__(
        self,
        *,
        address: str = "",
        port: int = 0,
        local_port: int = 0,
        public_port: int = 443,
        served: ServedTls | None = None,
        redirect: bool = False,
        trusted: bool = False,
    ) -> None:
        self.address = address
        self.port = port
        self.local_port = local_port
        self.served = served
        self.judged_host = ""
        self.redirect = redirect
        self.trusted = trusted
        self.noted: bytes | None = None
        self.forwarding = _forwarding(
            # RFC 7239 §6: who has no address is "unknown"
            address=address or "unknown",
            scheme="http" if served is None else "https",
            port=public_port,
            trusted=trusted,
            server_name=served.server_name if served is not None else None,
        )

    @property
    def secure(self) -> bool:
        """TLS ended here."""
        return self.served is not None

    def visitor(self, host: str) -> Visitor:
        """The facts as OPEN of a dedicated stream carries them.

        :param host: the host name that the visitor asked for
        """
        served = self.served
        tls = None
        if served is not None:
            tls = TlsFacts(
                version=served.version,
                cipher=served.cipher,
                sni=served.server_name,
                alpn=served.alpn.decode("latin-1") if served.alpn else None,
            )
        return Visitor(address=self.address, port=self.port, server_name=host, local_port=self.local_port, tls=tls)
