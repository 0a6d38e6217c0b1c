"""Certificates of visitors: which ones a server asks for, by the name that it is asked by, and what it learnt of one.

A policy is told to OpenSSL, so that who has no certificate to show never gets a word of HTTP across.  The sessions of
each policy are sealed with keys of their own (:mod:`.tickets`): a session that was begun under one can be resumed
under no other.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from cryptography import x509
from OpenSSL import SSL, crypto

from wormhole_tw.net.pem import normal_name
from wormhole_tw.net.tls_failure import CERT_REJECTED

__all__ = ["NOBODY_ASKED", "VisitorCertificate", "VisitorPolicies", "VisitorPolicy"]

MAX_KNOWN = 1024
"""Visitors whose chain is remembered for a policy, so that it is told after a resumption too: a ticket holds the
visitor's own certificate alone.  Some 5 KiB each."""

MAX_DEPTH = 8
"""CAs between a visitor's certificate and one that is trusted. Nobody has more than three, and each costs us."""


MAX_NAMES = 16 * 1024
"""Octets of authorities' names that a visitor is sent, to find the certificate that is wanted. TLS takes 64 KiB, some
clients less; where there are more none is sent, which leaves the choice to the visitor (RFC 8446 section 4.2.4)."""


@dataclass(frozen=True, slots=True, eq=False)
class VisitorCertificate:
    """A visitor's certificate that was found good.

    :ivar fingerprint: its SHA-256, 64 hex digits in lower case
    :ivar subject: its subject as RFC 4514 writes it; may be empty
    :ivar field: it as RFC 9440's ``Client-Cert``
    :ivar chain_field: the CAs between it and the one that is trusted here, as ``Client-Cert-Chain``; empty for none
    :ivar not_after: the end of its validity, UTC
    """

    fingerprint: str
    subject: str
    field: bytes
    chain_field: bytes
    not_after: datetime.datetime

    @classmethod
    def of(cls, certificate: crypto.X509, between: Sequence[crypto.X509] = ()) -> VisitorCertificate:
        """
        :param certificate: as OpenSSL read it, which takes more than ``cryptography`` does (an encoded default, a
            version that does not exist): what was found good is good
        :param between: the CAs, the one that signed it first
        """
        encoded = _der(certificate)
        try:
            subject = x509.load_der_x509_certificate(encoded).subject.rfc4514_string()
        except (ValueError, x509.InvalidVersion):
            subject = ""
        ends = (certificate.get_notAfter() or b"").decode("ascii")
        return cls(
            hashlib.sha256(encoded).hexdigest(),
            subject,
            _byte_sequence(encoded),
            b", ".join([_byte_sequence(_der(one)) for one in between]),
            datetime.datetime.strptime(ends, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC),
        )


def _der(certificate: crypto.X509) -> bytes:
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


def _byte_sequence(data: bytes) -> bytes:
    """RFC 8941 section 3.3.5."""
    return b":%s:" % b64encode(data)


class VisitorPolicy:
    """Whose certificates are good, and whether one is needed.

    Two are the same only where they are one object: keep it for as long as nothing of it changes.

    :param authorities: certificates are good that one of these signed, directly or through others; or is
    :param required: without one there is no connection; otherwise who has none is served too
    :param fingerprints: SHA-256 (32 bytes each); if there are any, one certificate of the chain has to be among them,
        the visitor's own or any above it up to the authority
    :param owner: what the caller made it of
    :raises ValueError: OpenSSL cannot read one of the authorities

    :ivar session_context: which sessions are its own; the keys of their tickets say the same
    """

    __slots__ = ("_known", "_named", "_trusted", "authorities", "fingerprints", "owner", "required", "session_context")

    def __init__(
        self,
        authorities: Sequence[x509.Certificate],
        *,
        required: bool = True,
        fingerprints: frozenset[bytes] = frozenset(),
        owner: Any = None,
    ) -> None:
        self.authorities = tuple(authorities)
        self.required = required
        self.fingerprints = fingerprints
        self.owner = owner
        self.session_context = secrets.token_bytes(32)
        self._known: dict[str, VisitorCertificate] = {}
        names = {authority.subject.public_bytes(): authority for authority in self.authorities}
        short = sum(len(name) + 2 for name in names) <= MAX_NAMES
        self._named = tuple(names.values()) if short else ()
        try:
            self._trusted = tuple(crypto.X509.from_cryptography(authority) for authority in self.authorities)
        except crypto.Error:
            raise ValueError("OpenSSL cannot read one of these certificates") from None

    def ask(self, context: SSL.Context) -> None:
        """Let the connections that begin on a context ask for a certificate."""
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if self.required else 0)
        context.set_verify(mode, self._judge if self.fingerprints else None)
        if self.fingerprints:
            _say_why(context, mode)
        context.set_verify_depth(MAX_DEPTH)

    def trust(self, context: SSL.Context) -> None:
        """Let a context know the authorities, to tell visitors and to verify by."""
        store = context.get_cert_store()
        assert store is not None
        for trusted in self._trusted:
            store.add_cert(trusted)
        for authority in self._named:
            context.add_client_ca(authority)
        # What stands in the file is trusted whether it is a root or not.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)

    def _judge(self, connection: SSL.Connection, certificate: crypto.X509, _code: int, depth: int, good: int) -> bool:
        """Called for each certificate of a chain that is good, from the authority down to the visitor's own."""
        if not good:
            return False
        found = connection.get_app_data() is self
        if not found:
            found = hashlib.sha256(_der(certificate)).digest() in self.fingerprints
            if found:
                connection.set_app_data(self)
        return found or depth > 0

    def seen(self, connection: SSL.Connection) -> VisitorCertificate | None:
        """The certificate of a connection whose handshake is done under this policy; None where it has none."""
        certificate = connection.get_peer_certificate()
        if certificate is None:
            return None
        key = hashlib.sha256(_der(certificate)).hexdigest()
        chain = connection.get_verified_chain()
        known = self._known.pop(key, None)
        if known is None:
            known = VisitorCertificate.of(certificate, chain[1:-1] if chain else ())
            if not chain:
                return known  # a resumption, so long after that its chain is forgotten
            while len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
        self._known[key] = known
        return known


def _say_why(context: SSL.Context, mode: int) -> None:
    """Let who is refused by a callback be told that it is for its certificate (the alert ``bad_certificate``).

    pyOpenSSL's own way leaves it open why, and OpenSSL makes ``internal_error`` of that.  Where its inside is not what
    we know, it stays so.
    """
    lib: Any = getattr(SSL, "_lib", None)
    ffi: Any = getattr(SSL, "_ffi", None)
    inside: Any = getattr(context, "_context", None)
    judge: Any = getattr(context, "_verify_callback", None)
    set_error: Any = getattr(lib, "X509_STORE_CTX_set_error", None)
    set_callback: Any = getattr(lib, "SSL_CTX_set_verify", None)
    if None in (ffi, inside, judge, set_error, set_callback):
        return

    def verify(good: int, store: Any) -> int:
        verdict: int = judge(good, store)
        if good and not verdict:
            set_error(store, CERT_REJECTED)
        return verdict

    callback = ffi.callback("int (*)(int, X509_STORE_CTX *)", verify)
    set_callback(inside, mode, callback)
    # What OpenSSL calls lives as long as the context, and no longer: it stands where pyOpenSSL keeps its own, which it
    # holds.
    cast(Any, context)._verify_callback = callback


class VisitorPolicies:
    """Which policy holds for which server name; immutable.

    An exact name wins over a wildcard (one left-most label), also one that asks for nothing.

    :param named: host name (lower case) or ``*.parent`` → its policy, or None where nothing is asked for
    """

    __slots__ = ("_exact", "_wildcard", "every")

    def __init__(self, named: Mapping[str, VisitorPolicy | None]) -> None:
        exact = {normal_name(name): policy for name, policy in named.items() if not name.startswith("*.")}
        wildcard = {normal_name(name[2:]): policy for name, policy in named.items() if name.startswith("*.")}
        self._exact: Mapping[str, VisitorPolicy | None] = MappingProxyType(exact)
        self._wildcard: Mapping[str, VisitorPolicy | None] = MappingProxyType(wildcard)
        self.every = frozenset(policy for policy in named.values() if policy is not None)

    def __bool__(self) -> bool:
        return bool(self.every)

    def find(self, name: str | None) -> VisitorPolicy | None:
        """The policy for a server name (lower case, no trailing dot), or None."""
        if name is None:
            return None
        if name in self._exact:
            return self._exact[name]
        label, _, parent = name.partition(".")
        return self._wildcard.get(parent) if label else None


NOBODY_ASKED = VisitorPolicies({})
