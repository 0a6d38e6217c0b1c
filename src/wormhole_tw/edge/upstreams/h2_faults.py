"""What a service says over HTTP/2 and what it does not take, in the words of the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.errors import HttpError, RequestReset
from wormhole_tw.http.h2.faults import ErrorCode

if TYPE_CHECKING:
    from wormhole_tw.http.events import RequestHead
    from wormhole_tw.http.interfaces import ManyStreamsClientCodec

__all__ = ["complaint", "refused_upgrade", "reset_error"]

_WEBSOCKET = b"websocket"


def reset_error(code: int) -> Exception:
    """A service's RST_STREAM, or what its GOAWAY leaves behind, for the exchange."""
    if code == ErrorCode.HTTP_1_1_REQUIRED:
        return HttpError(502, "http1-required", "The service wants HTTP/1.1 for this request.")
    return RequestReset(code, "the service reset the request", code != ErrorCode.REFUSED_STREAM)


def refused_upgrade(head: RequestHead, codec: ManyStreamsClientCodec) -> Exception | None:
    """Why a request with ``upgrade`` cannot go to a service that has said what it takes; None where it can."""
    assert head.upgrade is not None
    if not codec.settled:
        return HttpError(502, "not-http2", "The service does not speak HTTP/2 with prior knowledge.")
    if head.upgrade.lower() != _WEBSOCKET or not codec.connects:
        return HttpError(501, "upgrade-not-supported", "The service takes no upgrade over HTTP/2.")
    if not any(name.lower() == b"sec-websocket-key" for name, _ in head.fields):
        return HttpError(400, "bad-request", "The WebSocket's handshake has no key.")
    if not codec.reusable:
        return RequestReset(ErrorCode.REFUSED_STREAM, "the connection takes no further request", False)
    return None


def complaint(codec: ManyStreamsClientCodec) -> str | None:
    """What an operator should know of a service, or None."""
    if codec.fault is not None:
        if codec.settled:
            return f"its service broke HTTP/2 ({codec.fault})"
        return (
            "its service does not speak HTTP/2 with prior knowledge: let it, or take "
            'protocol = "h2c" away from the backend'
        )
    if codec.left is not None and codec.left[0]:
        code, why = codec.left
        return f"its service ended an HTTP/2 connection with error code {code} {why!r}"
    return None
