"""Where a head ends, in bytes that arrive cut anywhere."""

from __future__ import annotations

import re

from wormhole_tw.errors import HttpError
from wormhole_tw.http.h1.limits import H1Limits

__all__ = ["BREACH", "HeadBuffer"]

BREACH = re.compile(rb"(?<!\r)\n|\r(?!\n)(?!\Z)|\0")
"""A bare LF, a bare CR (unless more may come) or NUL: no head has it, so there is no need to wait for its end."""

_LINE_OVERHEAD = 64
"""What a request line has beside its target: with a longer one it is the target that is too long."""


class HeadBuffer:
    """Finds the end of a head in arriving bytes, within a size, looking at every byte once.

    :ivar held: what has come of a head, or behind one
    :ivar skipped: the blank line before it has come
    """

    __slots__ = ("_limit", "_scanned", "_target_limit", "held", "skipped")

    def __init__(self, limits: H1Limits) -> None:
        self.held = bytearray()
        self._limit = limits.head
        self._target_limit = limits.target
        self._scanned = 0
        self.skipped = False

    def split(self, data: bytes) -> tuple[bytes, bytes] | None:
        """A head that is whole in ``data``, with nothing of it held, and what follows it; None where :meth:`take` must
        look closer."""
        end = data.find(b"\r\n\r\n", 0, self._limit) + 4
        if end > 4 and data[0] > 0x20 and not self.held:
            self.skipped = False
            return data[:end], data[end:]
        return None

    def take(self, data: bytes, *, skip_blank: bool) -> bytes | None:
        """Add bytes; give the head when it is whole.  What follows it stays in :attr:`held`.

        :param skip_blank: skip one blank line before it (RFC 9112 §2.2: some old clients send one)
        :raises HttpError: 400 for bytes that no head has; 414 or 431 past the size
        """
        held = self.held
        if not held:
            end = data.find(b"\r\n\r\n", 0, self._limit) + 4
            if end > 4 and data[0] > 0x20:
                self.skipped = False
                if end == len(data):
                    return data
                held += data[end:]
                return data[:end]
        held += data
        if skip_blank and not self.skipped and held[:2] == b"\r\n":
            del held[:2]
            self.skipped = True
        if held[:1] == b"\n" or held[:2] == b"\r\n":
            raise HttpError(400, "bad-request", "The message begins with blank lines.")
        end = held.find(b"\r\n\r\n", self._scanned, self._limit)
        if end < 0:
            window = held if len(held) <= self._limit else held[: self._limit]
            if BREACH.search(window, max(self._scanned - 1, 0)):
                raise HttpError(400, "bad-request", "The head has a bare CR, a bare LF or a NUL.")
            if len(held) >= self._limit:
                if held.find(b" ", 0, self._limit) < 0:
                    raise HttpError(400, "bad-request", "The request line is not valid HTTP.")
                line = held.find(b"\r\n", 0, self._limit)
                if line < 0 or line > self._target_limit + _LINE_OVERHEAD:
                    raise HttpError(414, "target-too-long", "The request target is too long.")
                raise HttpError(431, "head-too-large", "The head is too large.")
            self._scanned = max(len(held) - 3, 0)
            return None
        head = bytes(held[: end + 4])
        del held[: end + 4]
        self._scanned = 0
        self.skipped = False
        return head
