"""Choosing a connection's context by the server name that its client sent, or refusing that name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.logger import Logger

__all__ = ["choose_by_name"]

_TAKEN, _REFUSED, _UNRECOGNIZED_NAME = 0, 2, 112
"""SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_ALERT_FATAL, SSL_AD_UNRECOGNIZED_NAME."""

log = Logger()


def choose_by_name(context: SSL.Context, choose: Callable[[SSL.Connection], bool]) -> None:
    """Call ``choose`` when OpenSSL has read the server name of a ClientHello, or that there is none.

    :param context: one that has no certificate of its own
    :param choose: gives the connection its context; False refuses the name, with the alert that says so
        (``unrecognized_name``, RFC 6066 section 3). pyOpenSSL's own way has no way to refuse one; where its inside is
        not what we know, such a name meets the context without a certificate, which is the alert ``handshake_failure``
    """
    context.set_tlsext_servername_callback(choose)
    lib: Any = getattr(SSL, "_lib", None)
    ffi: Any = getattr(SSL, "_ffi", None)
    connections: Any = getattr(SSL.Connection, "_reverse_mapping", None)
    inside: Any = getattr(context, "_context", None)
    set_callback = getattr(lib, "SSL_CTX_set_tlsext_servername_callback", None)
    if ffi is None or connections is None or inside is None or set_callback is None:
        return

    def by_name(ssl: Any, alert: Any, _argument: Any) -> int:
        try:
            if choose(connections[ssl]):
                return _TAKEN
            alert[0] = _UNRECOGNIZED_NAME
        except Exception:  # noqa: BLE001 - OpenSSL calls this; a bug here is one visitor's, and told
            log.failure("no certificate could be chosen")
        return _REFUSED

    callback = ffi.callback("int (*)(SSL *, int *, void *)", by_name)
    set_callback(inside, callback)
    # What OpenSSL calls lives as long as the context, and no longer: it stands where pyOpenSSL keeps its own.
    cast(Any, context)._tlsext_servername_callback = callback
