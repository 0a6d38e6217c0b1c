"""HPACK by the ``hpack`` library, with a memory for the blocks that say the same again.

A block that neither adds to the dynamic table nor changes its size means the same, octet for octet, until something
else does: a client's second request of a kind is a handful of indexes, and so is an answer to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hpack import Decoder, Encoder, HeaderTuple
from hpack.hpack import encode_integer
from hpack.table import HeaderTable

__all__ = ["MAX_BLOCKS", "RememberingDecoder", "RememberingEncoder", "literal"]

MAX_BLOCKS = 32
"""Blocks remembered a connection and direction, of at most :data:`MAX_BLOCK` octets each."""

MAX_HUFFMAN = 512
"""Octets of a name or value that are written in Huffman's code: the library's time for it grows with their square, and
32 KB (a visitor's cookies) would hold everybody up for 0.2 s.  It would save a fifth of them."""

MAX_BLOCK = 256
"""Longer ones hold literals, which do not come again."""


def _state(table: HeaderTable) -> tuple[int, int, object]:
    """What changes with every change of a dynamic table: an entry is added in front as an object of its own."""
    entries = table.dynamic_entries
    return table.maxsize, len(entries), entries[0] if entries else None


def _same(one: tuple[int, int, object], other: tuple[int, int, object]) -> bool:
    return one[0] == other[0] and one[1] == other[1] and one[2] is other[2]


def literal(name: bytes, value: bytes) -> bytes:
    """A field as a block of its own that touches no table (RFC 7541 §6.2.3): for what is never the same twice."""
    return b"\x10%s%s%s%s" % (_length(name), name, _length(value), value)


def _length(text: bytes) -> bytes:
    size = len(text)
    return bytes((size,)) if size < 127 else bytes(encode_integer(size, 7))


class RememberingDecoder(Decoder):
    """A decoder whose :meth:`decode` gives the same list for the same block."""

    def __init__(self, max_header_list_size: int) -> None:
        super().__init__(max_header_list_size)
        self._known: dict[bytes, Iterable[HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """See the base class."""
        known = self._known.get(data)
        if known is not None:
            return known
        before = _state(self.header_table)
        fields = super().decode(data, raw)
        if not _same(before, _state(self.header_table)):
            self._known.clear()
        elif len(data) <= MAX_BLOCK:
            if len(self._known) >= MAX_BLOCKS:
                self._known.clear()
            self._known[data] = fields
        return fields


class RememberingEncoder(Encoder):
    """An encoder that looks up what it would write again."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[Any, ...], bytes] = {}

    @property
    def header_table_size(self) -> int:
        """The size of the table; the library forgets a change that is made twice before it is told, and we do not."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        if value != self.header_table.maxsize:
            self.header_table.maxsize = value
            self.table_size_changes.append(value)

    def add(self, to_add: Any, sensitive: bool, huffman: bool = False) -> bytes:
        """See the base class."""
        return super().add(to_add, sensitive, huffman and len(to_add[1]) <= MAX_HUFFMAN >= len(to_add[0]))

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        """See the base class; ``headers`` is a list of HeaderTuple."""
        key = tuple(headers)
        known = self._known.get(key)
        if known is not None and not self.table_size_changes:
            return known
        before = _state(self.header_table)
        changes = bool(self.table_size_changes)
        block = super().encode(headers, huffman)
        if changes or not _same(before, _state(self.header_table)):
            self._known.clear()
        elif len(block) <= MAX_BLOCK:
            if len(self._known) >= MAX_BLOCKS:
                self._known.clear()
            self._known[key] = block
        return block
