"""Frames: the header, its limits, and a parser for bytes that come in any pieces (docs/protocol.md, "Frames").

A frame is eight bytes of header, big-endian (length of the payload 24 bits, type 8 bits, stream 32 bits), and the
payload.  The top bit of the type is :data:`END`.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from wormhole_tw.errors import TunnelProtocolError
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.messages import MAX_MESSAGE

__all__ = [
    "END",
    "HEADER_SIZE",
    "LONG",
    "MAX_DATA",
    "PREFACE",
    "PREFACE_NAME",
    "Frame",
    "FrameParser",
    "FrameType",
    "encode_frame",
    "encode_window",
    "pack_header",
    "pack_words",
]

PREFACE = b"WORMHOLE/1\r\n"
"""What the dialling side sends before its first frame; the digit is the version of the framing."""

PREFACE_NAME = b"WORMHOLE/"
"""What every version of the framing begins with; no method of HTTP has a slash."""

END = 0x80
"""The top bit of the type: this side sends nothing more on the stream. Legal on OPEN and DATA."""

HEADER_SIZE = 8

MAX_DATA = 64 * 1024
"""Octets of a DATA payload: big enough that headers cost nothing, small enough to give others their turn."""

SMALL_PIECE = 512
"""Pieces of a frame below this size are gathered in one bytearray: a peer that sends two bytes at a time must not
make us hold an object of fifty for each. Larger ones are kept as they came and joined once."""


LONG = 8 * 1024
"""Octets of DATA from which on frames of one stream that came behind one another are given out as one: whoever takes
them does the same for each, whatever its length. Shorter ones, empty ones among them, are counted one by one."""


class FrameType(IntEnum):
    """The types of version 1. Others are skipped."""

    HELLO = 1
    WELCOME = 2
    STATUS = 3
    OPEN = 4
    OPENED = 5
    DATA = 6
    WINDOW = 7
    RESET = 8
    PING = 9
    PONG = 10
    GOAWAY = 11
    DATAGRAM = 12
    """reserved: boundaries kept, droppable, no credit"""


_MAX_LENGTH = [MAX_MESSAGE] * 128
_MIN_LENGTH = [0] * 128
for _type, _size in ((FrameType.WINDOW, 4), (FrameType.PING, 8), (FrameType.PONG, 8)):
    _MAX_LENGTH[_type] = _MIN_LENGTH[_type] = _size
_MAX_LENGTH[FrameType.DATA] = _MAX_LENGTH[FrameType.DATAGRAM] = MAX_DATA

_TAKES_END = (FrameType.DATA, FrameType.OPEN)

# the same by the byte that says the type: with END no length is legal where END is not
_MOST = (*_MAX_LENGTH, *(_MAX_LENGTH[kind] if kind in _TAKES_END else -1 for kind in range(128)))
_LEAST = (*_MIN_LENGTH, *_MIN_LENGTH)

_HEADER = Struct(">II")
pack_words = _HEADER.pack
"""The header of a frame from its two words: length and type (with :data:`END`) as ``length << 8 | type``, stream."""

_DATA = int(FrameType.DATA)
_unpack_from = _HEADER.unpack_from
_WINDOW_FRAME = Struct(">III")
_WINDOW_HEAD = 4 << 8 | FrameType.WINDOW

Frame = tuple[int, int, bytes]
"""Type (with END), stream, payload."""


def pack_header(kind: int, stream_id: int, length: int) -> bytes:
    """Eight bytes of header. ``kind`` is a :class:`FrameType`, with :data:`END` or without."""
    return pack_words(length << 8 | kind, stream_id)


def encode_frame(kind: int, stream_id: int, payload: bytes) -> bytes:
    """A whole frame in one piece, for everything but DATA (whose payload is never copied into a frame)."""
    return pack_words(len(payload) << 8 | kind, stream_id) + payload


def encode_window(stream_id: int, increment: int) -> bytes:
    """A WINDOW frame: four bytes of unsigned increment."""
    return _WINDOW_FRAME.pack(_WINDOW_HEAD, stream_id, increment)


class FrameParser:
    """Bytes in any pieces, frames out; at most one unfinished frame is held.

    A header is judged as soon as its eight bytes are there, so nothing is gathered for a frame that is refused.
    After an error the parser takes nothing more.

    :param expect_preface: the bytes begin with the preface
    :param joined: give out long DATA of one stream that came without another frame between as one

    :ivar error: why the bytes are no protocol of ours; the frames before it were given out
    :ivar in_preface: True until the preface came whole, where one is expected
    """

    __slots__ = ("_have", "_head", "_kind", "_long", "_need", "_pieces", "_preface", "_stream", "error", "in_preface")

    def __init__(self, *, expect_preface: bool, joined: bool = False) -> None:
        self._long = LONG if joined else MAX_DATA + 1
        self.error: TunnelProtocolError | None = None
        self.in_preface = expect_preface
        self._preface = b""
        self._head = b""
        self._need = -1  # payload octets of the unfinished frame; -1 while its header is unfinished
        self._have = 0
        self._kind = 0
        self._stream = 0
        self._pieces: list[bytes | bytearray] = []

    @property
    def held(self) -> int:
        """Octets of an unfinished frame or preface."""
        return len(self._preface) + len(self._head) + self._have

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """Take some bytes and give the frames that they finish, in order. Never raises: look at ``error``."""
        frames: list[Frame] = []
        if self.error is not None:
            return frames
        position = 0
        size = len(data)
        if self.in_preface:
            position = self._feed_preface(data)
        if self._head or self._need >= 0:
            position = self._finish(data, position, frames)
        end = size - HEADER_SIZE
        while position <= end and self.error is None:
            word, stream_id = _unpack_from(data, position)
            kind = word & 0xFF
            length = word >> 8
            position += HEADER_SIZE
            if length > _MOST[kind] or length < _LEAST[kind]:
                self._refuse(kind, length)
                break
            if position + length > size:
                self._begin(kind, stream_id, length, data[position:])
                return frames
            if length >= self._long and kind == _DATA and position + length <= end:
                position = self._take_run(data, position, length, stream_id, frames)
                continue
            frames.append((kind, stream_id, bytes(data[position : position + length])))
            position += length
        if position < size and self.error is None:
            self._head = bytes(data[position:])
        return frames

    def _take_run(
        self, data: bytes | memoryview, position: int, length: int, stream_id: int, frames: list[Frame]
    ) -> int:
        """A long DATA, whose payload stands at ``position``, and those behind it that go on with the same stream."""
        view = memoryview(data)
        end = len(view) - HEADER_SIZE
        pieces = []
        while True:
            pieces.append(view[position : position + length])
            position += length
            if position > end:
                break
            word, other_id = _unpack_from(view, position)
            length = word >> 8
            same = word & 0xFF == _DATA and other_id == stream_id and LONG <= length <= MAX_DATA
            if not same or position + HEADER_SIZE + length > len(view):
                break
            position += HEADER_SIZE
        frames.append((_DATA, stream_id, b"".join(pieces)))
        return position

    def _refuse(self, kind: int, length: int) -> None:
        number = kind & 0x7F
        if length > _MAX_LENGTH[number] or length < _MIN_LENGTH[number]:
            self._fail(GoawayCode.PROTOCOL_ERROR, f"a frame of type {number} cannot be {length} bytes long")
        else:
            self._fail(GoawayCode.PROTOCOL_ERROR, f"END is not legal on type {number}")

    def _fail(self, code: GoawayCode, message: str) -> None:
        self.error = TunnelProtocolError(code, message)
        self._pieces.clear()
        self._head = b""
        self._preface = b""
        self._have = 0

    def _feed_preface(self, data: bytes | memoryview) -> int:
        taken = min(len(data), len(PREFACE) - len(self._preface))
        seen = self._preface + bytes(data[:taken])
        if seen == PREFACE:
            self.in_preface = False
            self._preface = b""
        elif PREFACE.startswith(seen):
            self._preface = seen
        elif seen.startswith(PREFACE_NAME):
            self._fail(GoawayCode.VERSION, "this side speaks version 1 of the framing")
        else:
            self._fail(GoawayCode.PROTOCOL_ERROR, "the connection does not start with the preface")
        return taken

    def _finish(self, data: bytes | memoryview, position: int, frames: list[Frame]) -> int:
        """Go on with the frame that the last bytes left unfinished; gives the position behind what it took."""
        if self._need < 0:
            wanted = HEADER_SIZE - len(self._head)
            self._head += bytes(data[position : position + wanted])
            position = min(position + wanted, len(data))
            if len(self._head) < HEADER_SIZE:
                return position
            word, stream_id = _unpack_from(self._head)
            kind = word & 0xFF
            length = word >> 8
            if length > _MOST[kind] or length < _LEAST[kind]:
                self._refuse(kind, length)
                return position
            self._head = b""
            self._begin(kind, stream_id, length, b"")
        rest = data[position : position + self._need - self._have]
        self._keep(rest)
        if self._have == self._need:
            frames.append((self._kind, self._stream, b"".join(self._pieces)))
            self._pieces.clear()
            self._need = -1
            self._have = 0
        return position + len(rest)

    def _begin(self, kind: int, stream_id: int, length: int, data: bytes | memoryview) -> None:
        self._kind = kind
        self._stream = stream_id
        self._need = length
        self._keep(data)

    def _keep(self, data: bytes | memoryview) -> None:
        size = len(data)
        if not size:
            return
        self._have += size
        if size >= SMALL_PIECE:
            self._pieces.append(bytes(data))
            return
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray):
            last += data
        else:
            self._pieces.append(bytearray(data))
