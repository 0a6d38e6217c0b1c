"""TLS contexts: the server's, chosen by SNI from certificates that can be swapped whole, and the client's.

Every context is made by Twisted's ``CertificateOptions`` or ``optionsForClientTLS``; verification is theirs, but for
the name of a server.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet._sslverify import IOpenSSLTrustRoot  # what trustRoot= adapts to has no public name
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.addresses import is_ip_address
from wormhole_tw.net.certificate_map import CertificateMap
from wormhole_tw.net.client_hello import read_client_hello
from wormhole_tw.net.pem import KeyMaterial, load_ca_certificates, normal_name, parse_certificates
from wormhole_tw.net.server_contexts import SESSION_CONTEXT, ServerContexts, material_of
from wormhole_tw.net.sni import choose_by_name
from wormhole_tw.net.tickets import TICKET_LIFETIME, Front, OwnConnection
from wormhole_tw.net.tls_dialling import wrap_client_tls
from wormhole_tw.net.tls_failure import CertificateRejected, explain_tls_failure
from wormhole_tw.net.tls_policy import INTERMEDIATE, TlsPolicy, refuse_renegotiation
from wormhole_tw.net.tls_transport import TlsAcceptor, TlsTransport, tls_connection_of
from wormhole_tw.net.visitor_certificates import NOBODY_ASKED, VisitorCertificate, VisitorPolicies, VisitorPolicy

__all__ = [
    "CertificateMap",
    "CertificateRejected",
    "ServedTls",
    "ServerTls",
    "TlsAcceptor",
    "TlsTransport",
    "client_creator",
    "explain_tls_failure",
    "wrap_client_tls",
]

MAX_CHOSEN = 1024
"""Server names of which is kept what they led to; each is as long as a visitor likes, up to 255 octets."""


@dataclass(frozen=True, slots=True)
class ServedTls:
    """What was agreed with one visitor, from its handshake.

    :ivar server_name: the SNI that the visitor sent, in lower case, or None
    :ivar material: the certificate that it was shown
    :ivar version: ``TLSv1.3``
    :ivar cipher: OpenSSL's name
    :ivar alpn: the protocol agreed on, or None
    :ivar visitors: the policy by which the visitor was judged: asked for a certificate, it showed a good one or, where
        the policy leaves it the choice, none. None where it was not asked
    :ivar certificate: the visitor's, or None
    """

    server_name: str | None
    material: KeyMaterial
    version: str
    cipher: str
    alpn: bytes | None
    visitors: VisitorPolicy | None = None
    certificate: VisitorCertificate | None = None

    def covers(self, host: str) -> bool:
        """Whether the certificate that was served is good for ``host`` (no port)."""
        return self.material.covers(normal_name(host))

    def misdirected(self, host: str) -> bool:
        """Whether a request for ``host`` came on a connection that cannot be for it: 421 (RFC 9110 section 15.5.20).

        Only where SNI was sent: without it the visitor could not say what it wanted.
        """
        return self.server_name is not None and not self.covers(host)


class _AskedConnection(SSL.Connection):
    """The server's side of a connection that is asked for a certificate.

    :ivar visitors: whose certificates are good here
    :ivar server_name: the name by which this was found, before OpenSSL heard it
    """

    visitors: VisitorPolicy
    server_name: str | None


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """The server side of TLS: one per listener, made of a certificate map that can be swapped while it serves.

    :param certificates: what to serve
    :param alpn: protocols in the order of preference. A client that offers ALPN and none of these gets the alert
        ``no_application_protocol`` (RFC 7301); one without ALPN is served
    :param tls: versions, ciphers and groups
    :param visitors: which visitors are asked for a certificate of theirs, by server name
    :raises ConfigError: OpenSSL refuses a certificate or key
    """

    def __init__(
        self,
        certificates: CertificateMap,
        alpn: Sequence[bytes],
        *,
        tls: TlsPolicy = INTERMEDIATE,
        visitors: VisitorPolicies = NOBODY_ASKED,
    ) -> None:
        self._alpn = tuple(alpn)
        self._tls = tls
        self._visitors = visitors
        self._contexts = ServerContexts(self._alpn, tls)
        # Tickets are sealed with the keys of the context that a connection begins on. These have no certificate and
        # stay, so that sessions live through a reload.
        self._front = Front(self._make_front)
        self._fronts: dict[VisitorPolicy, Front] = {}
        self.swap(certificates, tls=tls, visitors=visitors)

    @property
    def certificates(self) -> CertificateMap:
        """The map that new connections get."""
        return self._certificates

    def swap(
        self, certificates: CertificateMap, *, tls: TlsPolicy | None = None, visitors: VisitorPolicies | None = None
    ) -> None:
        """Serve these from the next handshake on; connections that stand keep what they have.

        Sessions can still be resumed, but for those of a policy that has changed.

        :param tls: None for what there is, as with ``visitors``
        :raises ConfigError: OpenSSL refuses one of them; the old map goes on serving
        """
        tls = tls or self._tls
        same = tls == self._tls
        policies = self._visitors if visitors is None else visitors
        contexts = self._contexts if same else ServerContexts(self._alpn, tls)
        contexts.keep(certificates.materials, policies.every)
        self._tls = tls
        self._contexts = contexts
        self._certificates = certificates
        self._chosen: dict[bytes | None, SSL.Context] = {}
        self._visitors = policies
        self._asks = bool(policies)
        if not same:
            self._front = Front(self._make_front)
            self._fronts = {}
        self._fronts = {policy: front for policy, front in self._fronts.items() if policy in policies.every}

    def rotate_tickets(self) -> None:
        """Seal new session tickets with new keys; those sealed since the last time can still be resumed.

        Call it every :data:`~wormhole_tw.net.tickets.TICKET_PERIOD`.
        """
        if not self._front.rotate():
            self._front = Front(self._make_front)
        self._fronts = {policy: front for policy, front in self._fronts.items() if front.rotate()}

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        # as CertificateOptions does, but for the ALPN names, which a client's connection offers and a server's does not
        hello: bytes = getattr(protocol, "hello", b"")
        if hello:
            protocol.hello = b""  # it is of no use to anybody any more
        if self._asks:
            server_name = _asked(hello)
            visitors = self._visitors.find(server_name)
            if visitors is not None:
                asked = _AskedConnection(self._front_of(visitors).context_for(hello), None)
                asked.visitors = visitors
                asked.server_name = server_name
                protocol.lingers = True
                return asked
        return SSL.Connection(self._front.context_for(hello), None)

    def _front_of(self, visitors: VisitorPolicy) -> Front:
        front = self._fronts.get(visitors)
        if front is None:
            front = self._fronts[visitors] = Front(lambda: self._make_front(visitors))
        return front

    def _make_front(self, visitors: VisitorPolicy | None = None) -> SSL.Context:
        options = CertificateOptions(acceptableProtocols=list(self._alpn), **self._tls.options())
        context = options.getContext()
        context.set_session_id(SESSION_CONTEXT if visitors is None else visitors.session_context)
        context.set_timeout(TICKET_LIFETIME)
        self._tls.adjust(context, self._alpn)
        choose_by_name(context, self._choose)
        if visitors is not None:
            visitors.ask(context)
        return context

    def _choose(self, connection: SSL.Connection) -> bool:
        """OpenSSL has read the server name, or that there is none; False where that name is to be refused."""
        asked_for = connection.get_servername()
        plain = type(connection) is SSL.Connection
        if plain:
            known = self._chosen.get(asked_for)
            if known is not None:
                connection.set_context(known)
                return True
        material = self._certificates.choose(_text(asked_for))
        if material is None and isinstance(connection, OwnConnection):
            material = next(iter(self._certificates.materials), None)
        if material is None:
            return False
        if not isinstance(connection, _AskedConnection):
            chosen = self._contexts.of(material)
            if plain:
                if len(self._chosen) >= MAX_CHOSEN:
                    self._chosen.clear()
                self._chosen[asked_for] = chosen
            connection.set_context(chosen)
            return True
        connection.set_context(self._contexts.of(material, connection.visitors))
        return True

    @staticmethod
    def served(transport: object) -> ServedTls | None:
        """What was agreed on the TLS transport of a connection; None before its handshake's end, or without TLS."""
        connection = tls_connection_of(transport)
        if connection is None:
            return None
        material = material_of(connection.get_context())
        cipher = connection.get_cipher_name()
        if material is None or cipher is None:
            return None
        server_name = _text(connection.get_servername())
        policy, certificate = _shown(connection, server_name)
        return ServedTls(
            server_name=server_name,
            material=material,
            version=connection.get_protocol_version_name(),
            cipher=cipher,
            alpn=connection.get_alpn_proto_negotiated() or None,
            visitors=policy,
            certificate=certificate,
        )


def _shown(
    connection: SSL.Connection, server_name: str | None
) -> tuple[VisitorPolicy | None, VisitorCertificate | None]:
    """By which policy the visitor was judged, and the certificate that it showed."""
    if not isinstance(connection, _AskedConnection) or server_name != connection.server_name:
        return None, None
    policy = connection.visitors
    certificate = policy.seen(connection)
    if certificate is None:
        return (None if policy.required else policy), None
    if certificate.not_after < datetime.datetime.now(datetime.UTC):
        return None, None  # it was good when the session began that is resumed here
    return policy, certificate


def _asked(hello: bytes) -> str | None:
    """The server name that OpenSSL will find in a ClientHello; None also where OpenSSL will refuse it."""
    try:
        found = read_client_hello(hello) if hello else None
    except ValueError:
        return None
    return None if found is None else _text(found.server_name)


@lru_cache(maxsize=512)
def _text(server_name: bytes | None) -> str | None:
    """The SNI as we compare names; none where it is an address (wrk sends it), which RFC 6066 section 3 forbids."""
    if not server_name:
        return None
    name = normal_name(server_name.decode("ascii", "replace"))
    return None if is_ip_address(name) else name


@implementer(IOpenSSLTrustRoot)
class _SystemAndOwn:
    """Trust the system's CAs and these.

    A certificate given here is trusted whether it is a root or not, as Go's pools do: people put the certificate of the
    service itself, or an intermediate one, into such a file.
    """

    def __init__(self, own: Sequence[x509.Certificate]) -> None:
        self._own = trustRootFromCertificates(
            [Certificate(crypto.X509.from_cryptography(certificate)) for certificate in own]
        )

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        platformTrust()._addCACertsToContext(context)
        self._own._addCACertsToContext(context)
        store = context.get_cert_store()
        if store is not None:
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)


def client_creator(
    host: str,
    *,
    ca_file: str | os.PathLike[str] | None = None,
    ca_pem: bytes | None = None,
    alpn: Sequence[bytes] = (),
    verify: bool = True,
    source: str = "--ca-file",
    key: str = "",
) -> IOpenSSLClientConnectionCreator:
    """What makes client connections to ``host``, verified against the system's CAs and those given here.

    Reading the system's CAs takes some ten milliseconds and the context keeps them: make one for a host and keep it.

    :param host: a DNS name or an IP address (verified against the certificate's IP addresses; no SNI is sent for it)
    :param ca_file: a PEM file of CA certificates to trust beside the system's
    :param ca_pem: the same as bytes
    :param alpn: protocols to offer, best first
    :param verify: False accepts any certificate: only where the operator said so in as many words
    :param source: where ``ca_file`` was named (an option, a variable, a file), and the ``key`` there, for errors
    :raises ConfigError: the file is missing, unreadable or no PEM
    """
    own: list[x509.Certificate] = []
    if ca_file is not None:
        own += load_ca_certificates(ca_file, source=source, key=key)
    if ca_pem is not None:
        try:
            own += parse_certificates(ca_pem)
        except ValueError:
            raise ConfigError(source, key, "the CA certificates are not PEM") from None
    if not verify:
        return _UnverifiedClient(host, alpn)
    options = optionsForClientTLS(
        host,
        trustRoot=_trust_root(own),
        acceptableProtocols=list(alpn) or None,
        extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
    )
    return _VerifiedClient(host, options)


def _trust_root(own: Sequence[x509.Certificate]) -> Any:
    return _SystemAndOwn(own) if own else platformTrust()


@implementer(IOpenSSLClientConnectionCreator)
class _VerifiedClient:
    """Twisted's, with a check of the name that refuses whatever it cannot read.

    Twisted's own hears service-identity's ``VerificationError`` alone. A certificate without any subjectAltName, or
    with one that is malformed, is another error there, which it logs with its traceback, and takes the certificate for
    good: any certificate of a trusted CA that names nobody would be good for every name.
    """

    def __init__(self, host: str, options: IOpenSSLClientConnectionCreator) -> None:
        self._identity = IPAddress_ID(host) if is_ip_address(host) else DNS_ID(host)
        self._options = options

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection: SSL.Connection = self._options.clientConnectionForTLS(protocol)
        refuse_renegotiation(connection)
        told = [protocol]  # emptied when it is judged, or connection and protocol would hold each other for good

        def judge(_connection: SSL.Connection, certificate: crypto.X509, _code: int, depth: int, good: bool) -> bool:
            if depth or not good:  # a CA's, and only the server's own has its name; or the chain's fault comes first
                return good
            transport = told.pop()
            refuse = getattr(transport, "refuse_peer", None) or transport.failVerification
            try:
                verify_service_identity(extract_patterns(certificate), [self._identity], [])
            except (VerificationError, CertificateError):
                refuse(Failure())
            except Exception as error:  # noqa: BLE001 - whatever stands there, it is not the name
                refuse(Failure(CertificateError(f"its names cannot be read: {error}")))
            else:
                return good
            return False

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, judge)
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class _UnverifiedClient:
    """Encrypts and verifies nothing."""

    def __init__(self, host: str, alpn: Sequence[bytes]) -> None:
        self._server_name = None if is_ip_address(host) else host.encode("ascii")
        self._options = CertificateOptions(acceptableProtocols=list(alpn) or None, raiseMinimumTo=TLSVersion.TLSv1_2)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection: SSL.Connection = self._options.clientConnectionForTLS(protocol)
        refuse_renegotiation(connection)
        if self._server_name is not None:
            connection.set_tlsext_host_name(self._server_name)
        return connection
