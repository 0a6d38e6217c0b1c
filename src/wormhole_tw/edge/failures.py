"""What an upstream's failure means: the answer it becomes, and whether the request may be sent again."""

from __future__ import annotations

from twisted.internet.error import ConnectError as ConnectFailed
from twisted.internet.error import ConnectionRefusedError, TimeoutError

from wormhole_tw.errors import HttpError, LinkLost, NoUpstream, StreamReset, TimedOut
from wormhole_tw.wire.codes import ResetCode

__all__ = ["expects_successor", "reason_of", "undelivered"]

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
    if isinstance(error, HttpError):
        return "bad-answer"
    if isinstance(error, TimedOut | TimeoutError):
        return "service-timeout"
    if isinstance(error, ConnectionRefusedError | ConnectFailed):
        return "service-refused"
    if isinstance(error, NoUpstream):
        return "no-agent"
    if isinstance(error, LinkLost):
        return "agent-lost"
    return "service-failed"


def undelivered(error: BaseException) -> bool:
    """Whether no octet of the request reached the service, so that it may be sent again whatever its method."""
    return isinstance(error, StreamReset) and not error.delivered


def expects_successor(error: BaseException) -> bool:
    """Whether another session may be about to stand in for the one that failed: worth a wait, unlike a refusal."""
    return isinstance(error, NoUpstream | LinkLost) or (
        isinstance(error, StreamReset) and error.code in (ResetCode.LINK_LOST, ResetCode.NOT_AVAILABLE)
    )
