"""Reading one commit out of git's object database: loose, in a pack, or as a difference to another in a pack.

The formats are gitformat-pack(5) and gitrepository-layout(5), for SHA-1 and SHA-256.  Everything is bounded: whoever
wrote the repository does not choose how much memory the agent takes.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MAX_COMMIT", "read_commit"]

MAX_COMMIT = 64 * 1024
"""Octets of a commit object that are unpacked: its head and the first lines of its message."""

MAX_DELTAS = 1024 * 1024
"""Octets of all the differences that lead to one commit: git makes chains of 50, each a part of a commit."""

_COMMIT, _OFFSET_DELTA, _REF_DELTA = 1, 6, 7
"""The types of a pack's entries that lead to a commit."""


def read_commit(objects: Path, revision: str) -> bytes:
    """The text of a commit, without the object's header; cut after :data:`MAX_COMMIT` octets.

    :param objects: the folder of that name
    :raises OSError: it cannot be read
    :raises ValueError: it is not there, or is no commit
    :raises struct.error, zlib.error, IndexError: it is damaged
    """
    for folder in _folders(objects):
        loose = folder / revision[:2] / revision[2:]
        if loose.is_file():
            with loose.open("rb") as file:
                kind, _, body = _inflate(file.read(MAX_COMMIT)).partition(b"\0")
            if not kind.startswith(b"commit "):
                raise ValueError("no commit")
            return body
        found = _find_in_packs(folder, bytes.fromhex(revision))
        if found is not None:
            return _packed_commit(objects, *found, len(revision) // 2)
    raise ValueError("the object is not there")


def _folders(objects: Path) -> Iterator[Path]:
    """The database, and those that it borrows from."""
    yield objects
    try:
        lines = (objects / "info" / "alternates").read_bytes()[:MAX_COMMIT].decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        yield objects / line.strip()


def _find_in_packs(folder: Path, name: bytes) -> tuple[Path, int] | None:
    for index in sorted((folder / "pack").glob("*.idx")):
        offset = _offset_in_pack(index, name)
        if offset is not None:
            return index.with_suffix(".pack"), offset
    return None


def _offset_in_pack(index: Path, name: bytes) -> int | None:
    """Find an object in a pack's index of version 2; None where the pack does not hold it."""
    with index.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as table:
        if table[:8] != b"\xfftOc\0\0\0\2":
            return None
        fanout, width = 8, len(name)
        (count,) = struct.unpack_from(">I", table, fanout + 255 * 4)
        low = struct.unpack_from(">I", table, fanout + (name[0] - 1) * 4)[0] if name[0] else 0
        (high,) = struct.unpack_from(">I", table, fanout + name[0] * 4)
        names = fanout + 256 * 4
        while low < high:
            middle = (low + high) // 2
            found = table[names + middle * width : names + (middle + 1) * width]
            if found == name:
                offsets = names + count * (width + 4)  # behind the names and their CRC-32
                (offset,) = struct.unpack_from(">I", table, offsets + middle * 4)
                if offset & 0x80000000:  # the pack is over 2 GiB: the rest is an index of 8-byte offsets
                    (offset,) = struct.unpack_from(">Q", table, offsets + count * 4 + (offset & 0x7FFFFFFF) * 8)
                return int(offset)
            if found < name:
                low = middle + 1
            else:
                high = middle
    return None


def _packed_commit(objects: Path, pack: Path, offset: int, width: int) -> bytes:
    """A commit of a pack, put together from the differences that lead to one that is stored whole.

    :param width: octets of an object's name
    """
    deltas: list[bytes] = []
    left = MAX_DELTAS
    with pack.open("rb") as file:
        while True:
            file.seek(offset)
            data = file.read(MAX_COMMIT)
            kind = (data[0] >> 4) & 7
            at = 1
            while data[at - 1] & 0x80:  # the rest of the size, which zlib says too
                at += 1
            if kind == _COMMIT:
                body = _inflate(memoryview(data)[at:])
                break
            if kind not in (_OFFSET_DELTA, _REF_DELTA):
                raise ValueError("no commit")
            if kind == _REF_DELTA:
                name, at = data[at : at + width], at + width
            else:
                back, at = _back(data, at)
            deltas.append(_inflate(memoryview(data)[at:]))
            left -= len(deltas[-1]) + 1024  # an empty one counts too, or a circle of them takes its time
            if left < 0:
                raise ValueError("more differences than a commit has")
            if kind == _OFFSET_DELTA:
                offset -= back
                if back <= 0 or offset <= 0:
                    raise ValueError("a difference to nothing")
                continue
            inside = _offset_in_pack(pack.with_suffix(".idx"), name)
            if inside is None:
                raise ValueError("a difference to another pack's object")
            offset = inside
    for delta in reversed(deltas):
        body = _apply(body, delta)
    return body


def _back(data: bytes, at: int) -> tuple[int, int]:
    """How far back the base of a difference stands, and where that number ends."""
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = ((value + 1) << 7) | (data[at] & 0x7F)
    return value, at + 1


def _apply(base: bytes, delta: bytes) -> bytes:
    """What a difference makes of its base."""
    size, at = _size(delta, 0)
    if size != len(base):
        raise ValueError("the base is another, or longer than we read")
    size, at = _size(delta, at)
    if size > MAX_COMMIT:
        raise ValueError("longer than we read")
    out = bytearray()
    while at < len(delta):
        command = delta[at]
        at += 1
        if command & 0x80:
            start = length = 0
            for bit in range(4):
                if command & 1 << bit:
                    start |= delta[at] << 8 * bit
                    at += 1
            for bit in range(3):
                if command & 0x10 << bit:
                    length |= delta[at] << 8 * bit
                    at += 1
            out += base[start : start + (length or 0x10000)]
        elif command:
            out += delta[at : at + command]
            at += command
        else:
            raise ValueError("a command that there is not")
        if len(out) > size:
            raise ValueError("more than it says")
    if len(out) != size:
        raise ValueError("less than it says")
    return bytes(out)


def _size(delta: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = delta[at]
        at += 1
        value |= (octet & 0x7F) << shift
        shift += 7
        if not octet & 0x80:
            return value, at


def _inflate(data: bytes | memoryview) -> bytes:
    return zlib.decompressobj().decompress(data, MAX_COMMIT)
