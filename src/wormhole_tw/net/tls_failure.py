"""Why a TLS connection did not come about, in one sentence for the operator."""

from __future__ import annotations

from collections.abc import Sequence

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.error import ConnectionAborted, ConnectionClosed, TimeoutError
from twisted.python.failure import Failure

from wormhole_tw.errors import TimedOut
from wormhole_tw.net.addresses import format_host_port

__all__ = ["CertificateRejected", "explain_refused_visitor", "explain_tls_failure", "is_tls_failure"]

# OpenSSL's X509_V_ERR_… (include/openssl/x509_vfy.h); pyOpenSSL has no names for them.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = 18
_UNKNOWN_CA = frozenset({2, _SELF_SIGNED, 19, 20, 21})
_REVOKED = 23
_WRONG_PURPOSE = 26
CERT_REJECTED = 28
"""What a verify callback says that does not like a certificate which is good in itself: alert ``bad_certificate``."""

_NOT_TLS = ("wrong version number", "http request", "unknown protocol", "packet length too long", "record too small")

_ALERTS = {
    "no application protocol": "{peer} speaks TLS, but none of the protocols offered ({offered})",
    "handshake failure": "{peer} refused the TLS handshake: no common ciphers, or it wants a client certificate",
    "certificate required": "{peer} wants a client certificate",
    "did not return a certificate": "{peer} gave no client certificate",
    "bad certificate": "{peer} refused the client certificate",
    "unrecognized name": "{peer} has no certificate for the name {host}",
    "unknown ca": "{peer} does not know the CA of the client certificate",
    "protocol version": "{peer} and this program have no TLS version in common (1.2 and 1.3 are spoken here)",
    "unsupported protocol": "{peer} and this program have no TLS version in common (1.2 and 1.3 are spoken here)",
    "internal error": "{peer} had an internal error during the TLS handshake",
}


class CertificateRejected(SSL.Error):
    """The peer's certificate was not accepted.

    :ivar code: OpenSSL's reason, one of ``X509_V_ERR_…``
    """

    def __init__(self, queue: object, code: int) -> None:
        super().__init__(queue)
        self.code = code


def _exception(error: BaseException | Failure) -> BaseException | None:
    return error.value if isinstance(error, Failure) else error


def is_tls_failure(error: BaseException | Failure) -> bool:
    """Whether TLS itself failed (a certificate, the handshake), and not the connection under it."""
    exception = _exception(error)
    return isinstance(exception, SSL.Error | VerificationError | CertificateError)


def explain_tls_failure(
    error: BaseException | Failure,
    host: str,
    port: int,
    *,
    ca_option: str = "--ca-file",
    offered: Sequence[bytes] = (),
) -> str:
    """One sentence: which peer, what is wrong, and what to do where anything can be done.

    :param error: what a dial failed with, or the reason given to ``connectionLost``
    :param ca_option: the option or variable that adds a CA, for the sentence
    :param offered: the ALPN protocols that were offered
    """
    exception = _exception(error)
    peer = format_host_port(host, port)
    if isinstance(exception, CertificateRejected):
        return _explain_certificate(exception.code, peer, ca_option)
    if isinstance(exception, VerificationError | CertificateError):
        return f"the certificate of {peer} is not for the name {host}: a wrong host name, or another server answered"
    if isinstance(exception, SSL.SysCallError):
        return f"{peer} closed the connection during the TLS handshake"
    if isinstance(exception, SSL.Error):
        return _explain_openssl(exception, peer, host, offered)
    if isinstance(exception, TimeoutError | TimedOut):
        return f"{peer} did not finish the TLS handshake in time"
    if isinstance(exception, ConnectionAborted):
        return f"the TLS connection to {peer} was given up"
    if isinstance(exception, ConnectionClosed):
        return f"{peer} closed the connection during the TLS handshake"
    return f"no TLS connection to {peer}: {exception or type(exception).__name__}"


_NOT_LISTED = "its certificate is none of those that are listed (client_fingerprints)"
_VISITORS = {
    1: _NOT_LISTED,  # X509_V_ERR_UNSPECIFIED, where nobody could say CERT_REJECTED
    CERT_REJECTED: _NOT_LISTED,
    _NOT_YET_VALID: "its certificate is not valid yet",
    _EXPIRED: "its certificate has expired",
    _WRONG_PURPOSE: "its certificate is not one for clients",
    **dict.fromkeys(_UNKNOWN_CA, "its certificate is not signed by a CA that the site knows (client_ca)"),
}


def explain_refused_visitor(error: BaseException | Failure) -> str:
    """Why a visitor's handshake failed, for the operator whose site asked it for a certificate."""
    exception = _exception(error)
    if isinstance(exception, CertificateRejected):
        return _VISITORS.get(
            exception.code, f"its certificate is not accepted (OpenSSL's verify error {exception.code})"
        )
    text = str(exception)
    return "it showed no certificate" if "did not return a certificate" in text else text


def _explain_certificate(code: int, peer: str, ca_option: str) -> str:
    if code == _EXPIRED:
        return f"the certificate of {peer} has expired (or this machine's clock is wrong)"
    if code == _NOT_YET_VALID:
        return f"the certificate of {peer} is not valid yet (is this machine's clock right?)"
    if code in _UNKNOWN_CA:
        return f"the certificate of {peer} is not signed by a CA that is trusted here; give its CA with {ca_option}"
    if code == _REVOKED:
        return f"the certificate of {peer} is revoked"
    if code == _WRONG_PURPOSE:
        return f"the certificate of {peer} is not one for servers"
    return f"the certificate of {peer} is not accepted (OpenSSL's verify error {code})"


def _explain_openssl(error: SSL.Error, peer: str, host: str, offered: Sequence[bytes]) -> str:
    queue = error.args[0] if error.args else None
    if not queue or not isinstance(queue, list):
        return f"{peer} closed the connection during the TLS handshake"
    text = str(queue[-1][-1]).lower()
    if text.startswith("unexpected eof"):
        return f"{peer} closed the connection during the TLS handshake"
    if any(mark in text for mark in _NOT_TLS):
        return f"{peer} does not speak TLS"
    if "certificate verify failed" in text:
        return f"the certificate of {peer} is not accepted (unknown CA, expired, or not for the name {host})"
    for mark, sentence in _ALERTS.items():
        if mark in text:
            names = ", ".join(name.decode("ascii", "replace") for name in offered) or "none"
            return sentence.format(peer=peer, host=host, offered=names)
    return f"the TLS handshake with {peer} failed: {text}"
