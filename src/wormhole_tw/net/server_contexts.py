"""OpenSSL's contexts of a server's certificates, each made when the first visitor needs it.

A context takes most of a millisecond to make and more than 20 KB; an edge with a certificate for each of ten thousand
sites would start ten seconds later for what nobody may ever ask for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, cast
from weakref import WeakKeyDictionary

from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.pem import KeyMaterial
from wormhole_tw.net.tls_policy import TlsPolicy
from wormhole_tw.net.visitor_certificates import VisitorPolicy

__all__ = ["SESSION_CONTEXT", "ServerContexts", "material_of"]

SESSION_CONTEXT = b"wormhole-tw"
"""Sessions may be resumed on any of a server's contexts. Twisted gives each context a random one, and a session that
was begun under a certificate chosen by SNI would never be resumed: it is judged before SNI picks the context. Sessions
of visitors who were asked for a certificate have others."""

_material_of: WeakKeyDictionary[SSL.Context, KeyMaterial] = WeakKeyDictionary()
"""The certificate that a context was made for, as long as a connection or a server holds the context."""


def material_of(context: SSL.Context) -> KeyMaterial | None:
    """The certificate that a context was made for; None for one that was not made here."""
    return _material_of.get(context)


class ServerContexts:
    """The contexts of certificates, for one way to speak TLS.

    :param alpn: protocols in the order of preference
    :param tls: versions, ciphers and groups
    """

    __slots__ = ("_alpn", "_good", "_made", "_tls")

    def __init__(self, alpn: tuple[bytes, ...], tls: TlsPolicy) -> None:
        self._alpn = alpn
        self._tls = tls
        self._good: frozenset[KeyMaterial] = frozenset()
        self._made: dict[tuple[KeyMaterial, VisitorPolicy | None], SSL.Context] = {}

    def keep(self, materials: Iterable[KeyMaterial], policies: Collection[VisitorPolicy]) -> None:
        """These are served from now on, and what was made for others is forgotten.

        :param policies: of visitors who are asked for a certificate
        :raises ConfigError: OpenSSL refuses one of them; nothing has changed then
        """
        good = frozenset(materials)
        _try_out(good - self._good)
        self._good = good
        self._made = {
            (material, policy): context
            for (material, policy), context in self._made.items()
            if material in good and (policy is None or policy in policies)
        }

    def of(self, material: KeyMaterial, visitors: VisitorPolicy | None = None) -> SSL.Context:
        """The context of a certificate.

        :param visitors: for those who are asked for a certificate of theirs: by which policy
        :raises ConfigError: OpenSSL refuses it
        """
        context = self._made.get((material, visitors))
        if context is None:
            context = self._made[material, visitors] = self._make(material, visitors)
        return context

    def _make(self, material: KeyMaterial, visitors: VisitorPolicy | None) -> SSL.Context:
        try:
            options = CertificateOptions(
                # Twisted's annotations still say pyOpenSSL's own classes, whose use pyOpenSSL deprecates.
                privateKey=cast(Any, material.key),
                certificate=cast(Any, material.certificate),
                extraCertChain=cast(Any, list(material.chain)),
                acceptableProtocols=list(self._alpn),
                **self._tls.options(),
            )
            context = options.getContext()
        except _REFUSED as error:
            raise _refusal(material, error) from None
        context.set_session_id(SESSION_CONTEXT if visitors is None else visitors.session_context)
        self._tls.adjust(context, self._alpn)
        if visitors is not None:
            visitors.trust(context)
        _material_of[context] = material
        return context


_REFUSED = (SSL.Error, crypto.Error, TypeError, ValueError)


def _try_out(materials: Iterable[KeyMaterial]) -> None:
    """Have OpenSSL take each certificate and its key, all on one context, which is a quarter of the work.

    :raises ConfigError: OpenSSL refuses one of them
    """
    context: Any = SSL.Context(SSL.TLS_SERVER_METHOD)
    for material in materials:
        try:
            if cast(Any, material.certificate.public_key()) != material.key.public_key():
                # OpenSSL would compare it with the last certificate of the key's kind
                raise ValueError("the key is not the certificate's")
            context.use_certificate(material.certificate)
            context.use_privatekey(material.key)
        except _REFUSED as error:
            raise _refusal(material, error) from None


def _refusal(material: KeyMaterial, error: Exception) -> ConfigError:
    return ConfigError(material.source, "", f"TLS cannot use this certificate or key: {_openssl_text(error)}")


def _openssl_text(error: Exception) -> str:
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue and isinstance(queue[-1], tuple):
        return str(queue[-1][-1])
    return str(error) or type(error).__name__
