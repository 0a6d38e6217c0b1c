"""What an upstream's failure means: the answer it becomes, and whether the request may be sent again."""

from __future__ import annotations

from twisted.internet.error import ConnectError as ConnectFailed
from twisted.internet.error import ConnectionRefusedError, TimeoutError

from wormhole_tw.edge.answers import ANSWERS
from wormhole_tw.errors import AddressRefused, HttpError, LinkLost, NoUpstream, RequestReset, StreamReset, TimedOut
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.net.dns_question import LookupFailed
from wormhole_tw.net.tls_failure import is_tls_failure
from wormhole_tw.wire.codes import ResetCode

__all__ = ["blames", "code_of", "expects_successor", "reason_of", "undelivered"]

_REASONS: dict[int, str] = {
    ResetCode.REFUSED: "service-refused",
    ResetCode.NO_SUCH_SERVICE: "service-refused",
    ResetCode.UNSUPPORTED_KIND: "service-refused",
    ResetCode.UNREACHABLE: "service-refused",
    ResetCode.TLS_FAILED: "service-refused",
    ResetCode.TIMED_OUT: "service-timeout",
    ResetCode.OVER_LIMIT: "overloaded",
    ResetCode.NOT_AVAILABLE: "no-agent",
    ResetCode.LINK_LOST: "agent-lost",
}


def reason_of(error: BaseException) -> str:
    """The key of :data:`~wormhole_tw.edge.answers.ANSWERS` for a request that failed with this."""
    if isinstance(error, StreamReset):
        return _REASONS.get(error.code, "service-failed")
    if isinstance(error, RequestReset):
        calm = error.code in (ErrorCode.REFUSED_STREAM, ErrorCode.ENHANCE_YOUR_CALM)
        return "overloaded" if calm else "service-failed"
    if isinstance(error, HttpError):
        return error.reason if error.reason in ANSWERS else "bad-answer"
    if isinstance(error, TimedOut | TimeoutError):
        return "service-timeout"
    if isinstance(error, ConnectionRefusedError | ConnectFailed):
        return "service-refused"
    if isinstance(error, LookupFailed):
        return "service-unknown"
    if isinstance(error, AddressRefused):
        return "service-forbidden"
    if is_tls_failure(error):
        return "service-untrusted"
    if isinstance(error, NoUpstream):
        return "no-agent"
    if isinstance(error, LinkLost):
        return "agent-lost"
    return "service-failed"


def undelivered(error: BaseException) -> bool:
    """Whether the service has done nothing with the request, so that it may be sent again whatever its method."""
    if isinstance(error, RequestReset):
        return not error.processed
    return isinstance(error, ConnectFailed) or (isinstance(error, StreamReset) and not error.delivered)


_ONWARDS = (ErrorCode.CANCEL, ErrorCode.ENHANCE_YOUR_CALM)
"""What a service may tell a visitor through us.  Others speak of its own connection (PROTOCOL_ERROR …), or they
mislead: NO_ERROR makes a cut answer look whole to some, REFUSED_STREAM would be taken for leave to ask again."""


def code_of(error: BaseException) -> int | None:
    """The HTTP/2 error code that a visitor is told, where its answer ends midway, or None."""
    return error.code if isinstance(error, RequestReset) and error.code in _ONWARDS else None


def blames(error: BaseException) -> bool:
    """Whether a failure tells that the upstream is not well: not that it leaves, or has as much to do as it takes."""
    return not (
        expects_successor(error)
        or (isinstance(error, StreamReset) and error.code == ResetCode.OVER_LIMIT)
        or (isinstance(error, RequestReset) and not error.processed)
    )


def expects_successor(error: BaseException) -> bool:
    """Whether another session may be about to stand in for the one that failed: worth a wait, unlike a refusal."""
    return isinstance(error, NoUpstream | LinkLost) or (
        isinstance(error, StreamReset) and error.code in (ResetCode.LINK_LOST, ResetCode.NOT_AVAILABLE)
    )
