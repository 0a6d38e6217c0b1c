"""What a server agrees to in TLS, as Mozilla recommends it (https://wiki.mozilla.org/Security/Server_Side_TLS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from OpenSSL import SSL
from twisted.internet.ssl import AcceptableCiphers, TLSVersion

__all__ = ["INTERMEDIATE", "MODERN", "POLICIES", "PolicyName", "TlsPolicy", "refuse_renegotiation"]

TLS12_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""Mozilla's "intermediate" list without DHE, which costs the server much and serves no client that lacks ECDHE."""

TLS13_CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""All of TLS 1.3's, in Mozilla's order: OpenSSL puts AES-256 first, which costs a fifth more a byte for no safety."""

GROUPS = (b"?X25519MLKEM768:X25519:P-256:P-384", b"X25519:P-256:P-384")
"""Mozilla's curves ("intermediate" and "modern" have the same), and before them the hybrid that no quantum computer
opens, where OpenSSL has it; one older than 3.5 does not know the question mark. OpenSSL's own list has X448 and P-521
besides, which cost a visitor's first message more of our time and are asked for by nobody."""

_NO_RENEGOTIATION: int = getattr(SSL, "OP_NO_RENEGOTIATION", 0)
"""A peer that asks for a second handshake (up to TLS 1.2) is told no: it costs us more than it, and has been a hole."""

PolicyName = Literal["intermediate", "modern"]


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What a server agrees to.

    :ivar minimum: the oldest version that is spoken
    """

    name: PolicyName
    minimum: Any  # a TLSVersion, for which Twisted's constants have no type

    def options(self) -> dict[str, Any]:
        """The arguments of ``CertificateOptions`` for a server."""
        return {
            "raiseMinimumTo": self.minimum,
            "acceptableCiphers": AcceptableCiphers.fromOpenSSLCipherString(TLS12_CIPHERS),
            # Tickets only: nothing is kept here for a visitor that may come back.
            "enableSessionTickets": True,
            "enableSessions": False,
        }

    def adjust(self, context: SSL.Context, alpn: Sequence[bytes]) -> None:
        """What ``CertificateOptions`` has no parameter for.

        :param alpn: protocols in the order of preference; whoever offers others alone is refused
        """
        context.set_options(_NO_RENEGOTIATION)
        set_tls13_ciphersuites = getattr(context, "set_tls13_ciphersuites", None)
        if set_tls13_ciphersuites is not None:
            set_tls13_ciphersuites(TLS13_CIPHERS)
        _limit_groups(context)

        def select(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
            for protocol in alpn:
                if protocol in offered:
                    return protocol
            # Twisted's own callback answers with an empty name, which OpenSSL turns into the alert internal_error; an
            # exception becomes no_application_protocol.
            raise SSL.Error([("SSL routines", "", "no application protocol")])

        if alpn:
            context.set_alpn_select_callback(select)


INTERMEDIATE = TlsPolicy("intermediate", TLSVersion.TLSv1_2)
"""Whatever was made in the last ten years."""

MODERN = TlsPolicy("modern", TLSVersion.TLSv1_3)
"""TLS 1.3 alone: browsers since 2018."""

POLICIES = {policy.name: policy for policy in (INTERMEDIATE, MODERN)}


def _limit_groups(context: SSL.Context) -> None:
    """Agree on no group but :data:`GROUPS`. pyOpenSSL names one curve at most; without its inside, OpenSSL's stay."""
    lib: Any = getattr(SSL, "_lib", None)
    inside: Any = getattr(context, "_context", None)
    set_list = getattr(lib, "SSL_CTX_set1_curves_list", None)
    if set_list is not None and inside is not None and not any(set_list(inside, groups) == 1 for groups in GROUPS):
        raise SSL.Error([("SSL routines", "", "none of the groups for key exchange are known")])  # pragma: no cover
    if lib is not None:
        lib.ERR_clear_error()  # of the list that was refused


def refuse_renegotiation(connection: SSL.Connection) -> None:
    """Nothing of ours renegotiates; TLS 1.2's invites attacks (CVE-2009-3555)."""
    if hasattr(connection, "set_options"):
        connection.set_options(_NO_RENEGOTIATION)
    else:  # before pyOpenSSL 26
        connection.get_context().set_options(_NO_RENEGOTIATION)
