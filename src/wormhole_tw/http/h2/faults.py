"""Error codes of HTTP/2 and the two sizes of a fault: one stream's, or the whole connection's (RFC 9113 §5.4, §7)."""

from __future__ import annotations

from enum import IntEnum

from wormhole_tw.errors import PeerError

__all__ = ["ConnectionFault", "ErrorCode", "StreamFault"]


class ErrorCode(IntEnum):
    """RFC 9113 §7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(PeerError):
    """The peer broke a rule that its whole connection stands on: GOAWAY (RFC 9113 §5.4.1)."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StreamFault(PeerError):
    """The peer broke a rule on one stream, a malformed message among them: RST_STREAM (RFC 9113 §5.4.2, §8.1.1)."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
