"""Why an edge could not be reached, in one sentence for the operator."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
    UnknownHostError,
)
from twisted.python.failure import Failure

from wormhole_tw.errors import TimedOut, WormholeError
from wormhole_tw.net.addresses import format_host_port
from wormhole_tw.net.tls_failure import explain_tls_failure, is_tls_failure
from wormhole_tw.tunnel.ending import ALPN

__all__ = ["explain_edge_failure"]


def explain_edge_failure(failure: Failure, host: str, port: int, *, timeout: float, ca_option: str) -> str:
    """Which of the many: the name, the route, nobody there, TLS and what of it, or no edge.

    :param timeout: the seconds that a dial had
    :param ca_option: how the operator would name a CA file for the edge
    """
    error = failure.value
    peer = format_host_port(host, port)
    if isinstance(error, TimedOut):
        return explain_tls_failure(failure, host, port)
    if isinstance(error, WormholeError):
        sentence = str(error)
        return sentence if peer in sentence else f"{peer}: {sentence}"  # an agent may dial several
    if isinstance(error, SSL.Error) and _no_common_protocol(error):
        return f"TLS at {peer} ends at something that is not an edge"
    if is_tls_failure(failure) or isinstance(error, ConnectionClosed):
        return explain_tls_failure(failure, host, port, ca_option=ca_option, offered=[ALPN])
    if isinstance(error, DNSLookupError | UnknownHostError):
        return f"the host name {host} is not known (DNS)"
    if isinstance(error, ConnectionRefusedError):
        return f"{peer} refuses connections; is an edge running there?"
    if isinstance(error, TimeoutError | TCPTimedOutError):
        return f"{peer} does not answer within {timeout:g} s"
    if isinstance(error, NoRouteError):
        return f"there is no route to {peer}"
    if isinstance(error, ConnectError) and not isinstance(error, ConnectBindError):
        return f"{peer} cannot be reached: {error}"
    return f"no connection to {peer}: {str(error) or type(error).__name__}"


def _no_common_protocol(error: SSL.Error) -> bool:
    """The alert no_application_protocol (RFC 7301): TLS is spoken there, and our ALPN is not."""
    queue = error.args[0] if error.args else None
    return isinstance(queue, list) and any("no application protocol" in str(entry[-1]).lower() for entry in queue)
