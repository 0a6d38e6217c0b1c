"""Readers of bodies: each is told bytes and says where in them its message ended.

Why they are ours and not httptools': ``docs/decisions/0002-http1-framing.md``.
"""

from __future__ import annotations

import re
from typing import Protocol

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Fields
from wormhole_tw.http.grammar import TOKEN
from wormhole_tw.http.h1.fields import parse_trailers
from wormhole_tw.http.h1.framer import BREACH
from wormhole_tw.http.h1.limits import H1Limits

__all__ = ["BodyReader", "ChunkedReader", "CloseReader", "LengthReader"]

COALESCE_BELOW = 4096
"""Pieces shorter than this are joined with their neighbours of the same read, so that a body of one-octet chunks costs
no object a chunk; longer ones are passed on without a second copy."""

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*"
    + TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + TOKEN
    + rb"|"
    + _QUOTED
    + rb"))?)*)\r\n"
)
"""RFC 9112 §7.1, §7.1.1; CRLF only, no white space round the size itself."""

_LINE_OVERHEAD = 18
"""Sixteen digits and CRLF."""


class BodyReader(Protocol):
    """:ivar trailers: fields after the body, once it has ended"""

    trailers: Fields

    def feed(self, data: bytes, out: list[bytes]) -> int:
        """Append the pieces of body in ``data`` to ``out``.

        :returns: how many octets of ``data`` belong to the message where it ended in them, else -1
        :raises HttpError: 400 for a broken coding; what was appended before it is good
        """

    def minimum_left(self) -> int:
        """Octets that are still to come, at the least."""


class LengthReader:
    """Content-Length (RFC 9112 §6.3, case 6); never built for a length of 0."""

    __slots__ = ("left", "trailers")

    def __init__(self, length: int) -> None:
        self.left = length
        self.trailers: Fields = []

    def feed(self, data: bytes, out: list[bytes]) -> int:
        size = len(data)
        left = self.left
        if size < left:
            self.left = left - size
            out.append(data)
            return -1
        self.left = 0
        out.append(data if size == left else data[:left])
        return left

    def minimum_left(self) -> int:
        return self.left


class CloseReader:
    """Until the end of the connection (RFC 9112 §6.3, case 8)."""

    __slots__ = ("trailers",)

    def __init__(self) -> None:
        self.trailers: Fields = []

    def feed(self, data: bytes, out: list[bytes]) -> int:
        out.append(data)
        return -1

    def minimum_left(self) -> int:
        return 0


_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


class ChunkedReader:
    """The chunked coding (RFC 9112 §7.1), strict."""

    __slots__ = ("_extensions", "_left", "_limits", "_line", "_state", "trailers")

    def __init__(self, limits: H1Limits) -> None:
        self.trailers: Fields = []
        self._limits = limits
        self._state = _SIZE
        self._left = 0
        self._line = bytearray()
        self._extensions = 0

    def minimum_left(self) -> int:
        return self._left

    def feed(self, data: bytes, out: list[bytes]) -> int:
        pos = 0
        size = len(data)
        small: bytearray | None = None
        try:
            while pos < size:
                state = self._state
                if state == _DATA:
                    stop = pos + self._left
                    if stop > size:
                        stop = size
                    self._left -= stop - pos
                    if stop - pos < COALESCE_BELOW:
                        if small is None:
                            small = bytearray()
                        small += data[pos:stop]
                    else:
                        if small:
                            out.append(bytes(small))
                            small = None
                        out.append(data[pos:stop])
                    pos = stop
                    if not self._left:
                        self._state = _DATA_END
                elif state == _SIZE:
                    pos = self._read_size(data, pos)
                elif state == _DATA_END:
                    pos = self._read_data_end(data, pos)
                else:
                    end = self._read_trailers(data, pos)
                    if end >= 0:
                        return end
                    break
            return -1
        finally:
            if small:
                out.append(bytes(small))

    def _read_size(self, data: bytes, pos: int) -> int:
        line = self._line
        end = data.find(b"\n", pos)
        stop = len(data) if end < 0 else end + 1
        limit = self._limits.chunk_line + _LINE_OVERHEAD
        if len(line) + stop - pos > limit:
            raise HttpError(400, "bad-chunk", "A chunk's size line is too long.")
        line += data[pos:stop]
        if end >= 0:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise HttpError(400, "bad-chunk", "A chunk's size line is not valid.")
            self._extensions += len(match[2])
            if self._extensions > self._limits.chunk_extensions:
                raise HttpError(400, "bad-chunk", "The chunk extensions are too long.")
            self._left = int(match[1], 16)
            line.clear()
            self._state = _DATA if self._left else _TRAILERS
        return stop

    def _read_data_end(self, data: bytes, pos: int) -> int:
        line = self._line
        before = len(line)
        line += data[pos : pos + 2 - before]
        if not b"\r\n".startswith(line):
            raise HttpError(400, "bad-chunk", "A chunk is longer than its size says.")
        pos += len(line) - before
        if len(line) == 2:
            line.clear()
            self._state = _SIZE
        return pos

    def _read_trailers(self, data: bytes, pos: int) -> int:
        line = self._line
        before = len(line)
        line += data[pos:]
        limit = self._limits.trailers
        if line.startswith(b"\r\n"):
            end = 2
        else:
            end = line.find(b"\r\n\r\n", max(before - 3, 0), limit) + 4
            if end < 4:
                if BREACH.search(line, max(before - 1, 0), limit):
                    raise HttpError(400, "bad-trailers", "The trailer section has a bare CR, a bare LF or a NUL.")
                if len(line) >= limit:
                    raise HttpError(431, "trailers-too-large", "The trailer section is too large.")
                return -1
            self.trailers = parse_trailers(bytes(line[:end]), self._limits)
        return pos + end - before
