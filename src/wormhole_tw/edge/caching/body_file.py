"""A large body on disk: a file, in pieces that have a checksum each.

Written and read in the store's thread alone.  The checksums stand in the index, not in the file, and a row of the index
says how much of the file counts; so that a file may be longer than what was committed of it, and a body can go on where
a part of it ends, in the same file.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from pathlib import Path
from zlib import crc32

from wormhole_tw.errors import CacheFault

__all__ = ["PIECE", "BodyFile", "Descriptors", "new_file"]

PIECE = 64 * 1024
"""Octets that one checksum is of: what has to be read, at least, to give out an octet."""


def new_file(path: Path) -> int:
    """A descriptor of a file that is not there yet.

    :raises OSError: it cannot be made
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:  # the first one there, or the disk did not take its folder before
        path.parent.mkdir(mode=0o700)
        return os.open(path, flags, 0o600)


class Descriptors:
    """Where descriptors go that nobody needs any more: the store's thread closes them, since closing the last one of a
    file that was removed frees its blocks, which takes time."""

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()
        self._ended = False

    def put(self, fd: int) -> None:
        """One more; called in any thread, at any point of it."""
        self._waiting.append(fd)
        if self._ended:
            self.close_all()

    def close_all(self) -> None:
        """Close those that wait."""
        while self._waiting:
            try:
                os.close(self._waiting.popleft())
            except IndexError:
                return  # another thread was faster

    def end(self) -> None:
        """The thread ends: what comes now is closed at once."""
        self._ended = True
        self.close_all()


class BodyFile:
    """One file.

    :param fd: its descriptor, which is this object's from now on; -1 for one that is opened for each read
    :param folder: where it lies
    :param name: its path below that
    :param size: octets that count
    :param checks: the checksum of each piece
    :ivar reserved: octets of room that were set aside for what still comes; its user's to write
    :param closing: where the descriptor goes when nobody has this object any more
    """

    __slots__ = ("__weakref__", "_closing", "_folder", "_last", "checks", "fd", "name", "reserved", "size")

    def __init__(self, fd: int, folder: Path, name: str, size: int, checks: bytes, closing: Descriptors) -> None:
        self.fd = fd
        self._folder = folder
        self.name = name
        self.size = size
        self.checks = array("I", checks)
        self.reserved = 0
        self._closing = closing
        self._last = 0

    def __del__(self) -> None:
        if self.fd >= 0:
            self._closing.put(self.fd)

    def open(self) -> None:
        """Hold it, so that it can be read on when it was removed.

        :raises OSError: it is not there
        """
        self.fd = os.open(self._folder / self.name, os.O_RDONLY | os.O_CLOEXEC)

    def to_grow(self) -> BodyFile:
        """The same, for a writer who adds to it; what is behind the octets that count is overwritten.

        :raises OSError: it cannot be written
        :raises CacheFault: its last piece is damaged
        """
        fd = os.open(self._folder / self.name, os.O_RDWR | os.O_CLOEXEC)
        grown = BodyFile(fd, self._folder, self.name, self.size, self.checks.tobytes(), self._closing)
        if self.size % PIECE:
            grown.read(self.size - self.size % PIECE, PIECE)
            grown._last = grown.checks.pop()
        return grown

    def write(self, data: bytes) -> None:
        """Add octets at the end.

        :raises OSError: the disk does not take them
        """
        view = memoryview(data)
        while view:
            room = PIECE - self.size % PIECE
            piece = view[:room]
            written = 0
            while written < len(piece):
                written += os.pwrite(self.fd, piece[written:], self.size + written)
            # a piece in another's place is found as well
            self._last = crc32(piece, self._last if self.size % PIECE else self.size // PIECE)
            self.size += len(piece)
            if not self.size % PIECE:
                self.checks.append(self._last)
            view = view[room:]

    def end(self) -> bytes:
        """The checksums of all of it."""
        checks = self.checks[:]
        if self.size % PIECE:
            checks.append(self._last)
        self.checks = checks
        return checks.tobytes()

    def read(self, start: int, size: int, *, checked: bool = True) -> bytes:
        """Octets that count.

        :param checked: not where it is still written: its last piece has no checksum yet
        :raises CacheFault: they are not what was written
        :raises OSError: the disk does not give them
        """
        end = min(start + size, self.size)
        if start >= end:
            return b""
        first = start - start % PIECE
        last = min(end + -end % PIECE, self.size)
        if not checked:
            first, last = start, end
        fd = self.fd if self.fd >= 0 else os.open(self._folder / self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            whole = self._read(fd, first, last, checked=checked)
        finally:
            if fd != self.fd:
                os.close(fd)
        return whole[start - first : end - first] if (first, last) != (start, end) else whole

    def _read(self, fd: int, first: int, last: int, *, checked: bool) -> bytes:
        pieces = []
        at = first
        while at < last:
            piece = os.pread(fd, min(PIECE, last - at), at)
            if len(piece) != min(PIECE, last - at):
                raise CacheFault(f"{self.name} ends too soon")
            if checked and crc32(piece, at // PIECE) != self.checks[at // PIECE]:
                raise CacheFault(f"{self.name} is damaged at {at}")
            pieces.append(piece)
            at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
