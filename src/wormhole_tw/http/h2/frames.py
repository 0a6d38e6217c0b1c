"""Bytes into frames, one at a time, judged as far as that needs no knowledge of streams (RFC 9113 §3.4, §4, §6).

Header blocks come out whole: HEADERS with what its CONTINUATION frames added, without padding and priority.  The
frames of unknown types come out without their payload.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from wormhole_tw.http.h2.faults import ConnectionFault, ErrorCode
from wormhole_tw.http.h2.limits import CONTINUATIONS, MAX_FRAME, H2Limits

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "DEPENDS_ON_ITSELF",
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "PADDED",
    "PING",
    "PREFACE",
    "PRIORITY",
    "PRIORITY_FLAG",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS_FRAME",
    "WINDOW_UPDATE",
    "Frame",
    "FrameCutter",
    "frame_header",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS_FRAME = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20
DEPENDS_ON_ITSELF = 0x100
"""Not on the wire: a HEADERS frame whose priority names its own stream."""

_HEADER = struct.Struct(">HBBBI")
_STREAM = 0x7FFFFFFF

_ON_STREAMS = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION})
_ON_CONNECTION = frozenset({SETTINGS_FRAME, PING, GOAWAY})
_LENGTHS = {RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


class Frame(NamedTuple):
    """A frame, or a whole header block.

    :ivar payload: of DATA without padding, of HEADERS the block; empty for unknown types
    :ivar flow: octets that count for flow control (DATA)
    """

    kind: int
    flags: int
    stream: int
    payload: bytes
    flow: int = 0


def frame_header(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine octets in front of a payload."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def _fault(code: ErrorCode, message: str) -> ConnectionFault:
    return ConnectionFault(code, message)


class FrameCutter:
    """Cuts what a peer sends.  Holds one frame at the most, and one header block.

    :param preface: what has to come in front of the first frame: a client's, or nothing
    :ivar in_head: a header block, or the first octets of the connection, have begun and are not whole
    """

    __slots__ = ("_block", "_block_flags", "_block_size", "_block_stream", "_data", "_limit", "_preface", "_settled")

    def __init__(self, limits: H2Limits, preface: bytes = PREFACE) -> None:
        self._data = bytearray()
        self._preface = preface
        self._settled = False
        self._limit = limits.block
        self._block: list[bytes] = []
        self._block_size = 0
        self._block_stream = 0
        self._block_flags = 0

    @property
    def in_head(self) -> bool:
        data = self._data
        return bool(self._preface or self._block_stream or (len(data) > 3 and data[3] == HEADERS))

    def cut(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now.

        :raises ConnectionFault: at the frame that breaks a rule, after those before it
        """
        if self._preface:
            data = self._take_preface(data)
        held = self._data
        if held:
            held += data
            data = bytes(held)
            held.clear()
        pos, size = 0, len(data)
        while size - pos >= 9:
            high, low, kind, flags, stream = _HEADER.unpack_from(data, pos)
            length = high << 8 | low
            stream &= _STREAM
            self._judge_header(length, kind, flags, stream)
            end = pos + 9 + length
            if end > size:
                break
            frame = self._frame(kind, flags, stream, data[pos + 9 : end])
            pos = end
            if frame is not None:
                yield frame
        if pos < size:
            held += data[pos:]

    def _take_preface(self, data: bytes) -> bytes:
        expected = self._preface
        given = data[: len(expected)]
        if not expected.startswith(given):
            raise _fault(ErrorCode.PROTOCOL_ERROR, "the connection preface is not HTTP/2's")
        self._preface = expected[len(given) :]
        return data[len(given) :]

    def _judge_header(self, length: int, kind: int, flags: int, stream: int) -> None:
        if not self._settled:
            if kind != SETTINGS_FRAME or flags & ACK:
                raise _fault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._settled = True
        if length > MAX_FRAME:
            raise _fault(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than SETTINGS_MAX_FRAME_SIZE")
        if self._block_stream:
            if kind != CONTINUATION or stream != self._block_stream:
                raise _fault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        elif kind == CONTINUATION:
            raise _fault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block")
        if kind == PUSH_PROMISE:
            # no client may, and no server after our SETTINGS_ENABLE_PUSH of 0
            raise _fault(ErrorCode.PROTOCOL_ERROR, "nobody pushes here")
        if stream == 0:
            if kind in _ON_STREAMS:
                raise _fault(ErrorCode.PROTOCOL_ERROR, "a frame of a stream stands on stream 0")
        elif kind in _ON_CONNECTION:
            raise _fault(ErrorCode.PROTOCOL_ERROR, "a frame of the connection stands on a stream")
        expected = _LENGTHS.get(kind)
        if expected is not None and length != expected:
            raise _fault(ErrorCode.FRAME_SIZE_ERROR, "a frame is not of its fixed length")
        if kind == SETTINGS_FRAME and (length % 6 or (flags & ACK and length)):
            raise _fault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS is not of whole settings")
        if kind == GOAWAY and length < 8:
            raise _fault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> Frame | None:
        if kind == DATA:
            flow = len(payload)
            return Frame(kind, flags, stream, _without_padding(payload) if flags & PADDED else payload, flow)
        if kind == HEADERS:
            if flags & PADDED:
                payload = _without_padding(payload)
            if flags & PRIORITY_FLAG:
                if len(payload) < 5:
                    raise _fault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
                if int.from_bytes(payload[:4], "big") & _STREAM == stream:
                    flags |= DEPENDS_ON_ITSELF
                payload = payload[5:]
            if flags & END_HEADERS:
                return Frame(kind, flags, stream, payload)
            self._block = [payload]
            self._block_size = len(payload)
            self._block_stream = stream
            self._block_flags = flags
            return None
        if kind == CONTINUATION:
            return self._continue(flags, payload)
        return Frame(kind, flags, stream, payload if kind < CONTINUATION else b"")

    def _continue(self, flags: int, payload: bytes) -> Frame | None:
        block = self._block
        block.append(payload)
        self._block_size += len(payload)
        if len(block) > CONTINUATIONS or self._block_size > self._limit:
            raise _fault(ErrorCode.ENHANCE_YOUR_CALM, "a header block does not end")
        if not flags & END_HEADERS:
            return None
        frame = Frame(HEADERS, self._block_flags, self._block_stream, b"".join(block))
        self._block_stream = 0
        self._block = []
        return frame


def _without_padding(payload: bytes) -> bytes:
    # RFC 9113 §6.1: padding as long as the payload or longer is an error of the connection
    if not payload or payload[0] >= len(payload):
        raise _fault(ErrorCode.PROTOCOL_ERROR, "the padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
