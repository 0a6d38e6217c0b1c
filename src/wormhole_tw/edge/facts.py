"""What is known of a visitor's connection, made once a connection, and of the visitor of a request.

The two are one object, unless the connection is a trusted proxy's: then each request has facts of its own, made by
:meth:`ConnectionFacts.of_request` from what the proxy tells, and ``exchange.facts`` is these.  So
``exchange.facts.address`` is *the visitor's address of this request*, for limits, logs and whoever else asks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from wormhole_tw.edge.trust import NOBODY
from wormhole_tw.http.forwarding import VisitorFacts
from wormhole_tw.http.visitors import NOTHING
from wormhole_tw.wire.messages import TlsFacts, Visitor, clip

if TYPE_CHECKING:
    from wormhole_tw.control.catalog import Catalog
    from wormhole_tw.control.model import ClientCertificates
    from wormhole_tw.edge.router import Way
    from wormhole_tw.edge.trust import Trust
    from wormhole_tw.http.events import RequestHead
    from wormhole_tw.net.tls import ServedTls

__all__ = ["ConnectionFacts"]


_forwarding = lru_cache(maxsize=1024)(VisitorFacts)
"""One object for all that tell the same, so that what was derived from it is found by its identity."""

_HTTP = 80

_SOMEWHERE = TlsFacts()
"""TLS that ended in front of the edge, of which nothing else is known."""


class ConnectionFacts:
    """Facts of one visitor connection, or of the visitor of one request that a trusted proxy passed on.

    :ivar address: the visitor's IP address as text; empty where there is none (a Unix socket)
    :ivar port: the visitor's port, 0 where it is not known
    :ivar local_address: the address of ours that was reached, empty where there is none
    :ivar local_port: the port of ours that was reached
    :ivar judged_host: the last host name that TLS here was found good for; the router's
    :ivar judged_in: the catalog by which it was; the router's
    :ivar served: what TLS agreed on here, or None on a plain connection
    :ivar visitors: what the visitor was asked to show in TLS, and did; None where it was not asked
    :ivar tls: what the service is told of the visitor's TLS; None where there was none
    :ivar takes_tunnels: an agent may bring its tunnel here by WebSocket
    :ivar redirect: requests here are answered with a redirect to https and nothing else
    :ivar trusted: the peer is a proxy of ours, whose forwarding fields and request ids are believed
    :ivar exclusive: no other visitor's requests come on the same connection
    :ivar noted: what the access log says of this connection, once it has said something
    :ivar forwarding: the same facts as the forwarding fields tell them
    :ivar way: that of the last request which came before, octet for octet; the exchange's
    """

    __slots__ = (
        "_public_port",
        "_trust",
        "address",
        "exclusive",
        "forwarding",
        "judged_host",
        "judged_in",
        "local_address",
        "local_port",
        "noted",
        "port",
        "redirect",
        "served",
        "takes_tunnels",
        "tls",
        "trusted",
        "visitors",
        "way",
    )

    def __init__(
        self,
        *,
        address: str = "",
        port: int = 0,
        local_address: str = "",
        local_port: int = 0,
        public_port: int = 443,
        served: ServedTls | None = None,
        tls: TlsFacts | None = None,
        redirect: bool = False,
        tunnels: bool | None = None,
        trust: Trust = NOBODY,
    ) -> None:
        """
        :param public_port: what visitors reach with https
        :param tls: what is known of TLS that ended in front of the edge
        :param tunnels: whether agents bring tunnels here by WebSocket; None: by TLS, or passed on by a trusted proxy
        :param trust: whose forwarding fields are believed here, should the peer be one of them
        """
        self.address = address
        self.port = port
        self.local_address = local_address
        self.local_port = local_port
        self.served = served
        self.tls = tls if served is None else _told_of(served)
        self.visitors: ClientCertificates | None = served.visitors.owner if served and served.visitors else None
        self.judged_host = ""
        self.judged_in: Catalog | None = None
        self.redirect = redirect and tls is None
        self.trusted = trust.believes(address)
        self.takes_tunnels = tunnels if tunnels is not None else self.tls is not None or self.trusted
        self.exclusive = True
        self.noted: bytes | None = None
        self.way: Way | None = None
        self._trust = trust
        self._public_port = public_port
        secure = self.tls is not None
        self.forwarding = _forwarding(
            # RFC 7239 §6: who has no address is "unknown"
            address=address or "unknown",
            scheme="https" if secure else "http",
            port=public_port if secure else local_port or _HTTP,
            trusted=self.trusted and trust.passes_family,
            certificate=_fields_of(served),
        )

    @property
    def secure(self) -> bool:
        """TLS ended here."""
        return self.served is not None

    def of_request(self, head: RequestHead) -> ConnectionFacts:
        """The facts of a request's visitor, where the peer of this connection is trusted; these where it tells nothing.

        TLS, and with it the verdict whether a request is misdirected, is that of this connection.
        """
        told = self._trust.told(head)
        if told is NOTHING:
            return self
        facts = ConnectionFacts.__new__(ConnectionFacts)
        own = self.forwarding
        if told.address:
            facts.address, facts.port, hops = told.address, told.port, (*told.hops, own.address)
        else:
            facts.address, facts.port, hops = self.address, self.port, ()
        facts.local_address = self.local_address
        facts.local_port = self.local_port
        facts.served = self.served
        facts.visitors = self.visitors
        facts.judged_host = self.judged_host
        facts.judged_in = self.judged_in
        scheme = told.scheme or own.scheme
        facts.tls = None if scheme == "http" else self.tls if told.scheme is None else _SOMEWHERE
        facts.redirect = self.redirect and scheme == "http"
        facts.trusted = True
        facts.takes_tunnels = self.takes_tunnels
        facts.exclusive = False
        facts.noted = None
        facts.way = None
        facts._trust = self._trust
        facts._public_port = self._public_port
        port = own.port if scheme == own.scheme else self._public_port if scheme == "https" else _HTTP
        facts.forwarding = _forwarding(
            address=facts.address or "unknown",
            scheme=scheme,
            port=told.public_port or port,
            trusted=own.trusted,
            hops=hops,
            host=told.host,
            certificate=own.certificate,
        )
        return facts

    def apart(self) -> ConnectionFacts:
        """The same facts for a request that outlives this connection: what is dialled for it is nobody's afterwards."""
        facts = ConnectionFacts.__new__(ConnectionFacts)
        for name in ConnectionFacts.__slots__:
            setattr(facts, name, getattr(self, name))
        facts.exclusive = False
        facts.way = None
        return facts

    def visitor(self, host: str) -> Visitor:
        """The facts as OPEN of a dedicated stream carries them.

        :param host: the host name that the visitor asked for
        """
        return Visitor(
            address=self.address,
            port=self.port,
            server_name=host,
            local_address=self.local_address,
            local_port=self.local_port,
            tls=self.tls,
        )


def _fields_of(served: ServedTls | None) -> tuple[tuple[bytes, bytes], ...]:
    """The visitor's certificate as RFC 9440 tells it."""
    certificate = served.certificate if served is not None else None
    if certificate is None:
        return ()
    own = (b"Client-Cert", certificate.field)
    return (own, (b"Client-Cert-Chain", certificate.chain_field)) if certificate.chain_field else (own,)


def _told_of(served: ServedTls) -> TlsFacts:
    certificate = served.certificate
    return TlsFacts(
        version=served.version,
        cipher=served.cipher,
        sni=served.server_name,
        alpn=served.alpn.decode("latin-1") if served.alpn else None,
        client_fingerprint=None if certificate is None else certificate.fingerprint,
        client_subject=None if certificate is None else clip(certificate.subject, 255),
    )
