"""Into a coding, piece by piece.

Brotli and zstd come from packages with C in them; where one is not there its coding is not given, and nothing else
suffers.

Measured on one core, in MB/s and in octets left of 1,000, for documentation in Markdown and for an API's JSON, in
pieces of 64 KB: gzip 5 40 (362) and 154 (131); gzip 6 26 (359) and 130 (131); br 4 57 (369) and 176 (80); br 5 37 (349)
and 93 (70); zstd 3 181 (376) and 612 (70).  What is above is several times slower for a few per cent.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

__all__ = ["AVAILABLE", "BROTLI", "GZIP", "ZLIB", "ZSTD", "Encoder", "encoded", "encoder", "zlib_encoder"]

GZIP = 16 + zlib.MAX_WBITS
ZLIB = zlib.MAX_WBITS
"""What zlib calls the frame of gzip, and that of ``deflate``."""

_ZLIB_LEVEL = 5
_BROTLI_QUALITY = 4
_BROTLI_WINDOW = 18
"""256 KB, and a page is seldom longer: an encoder holds 0.9 MB at most then."""

_ZSTD_LEVEL = 3
_ZSTD_WINDOW = 17
_ZSTD_TABLES = 15
"""A window of 128 KB and tables of 32,768 entries: an encoder holds 0.5 MB, not the 1 MB of this level's own tables,
and what comes of it is larger by less than a hundredth."""


class Encoder(Protocol):
    """One body's."""

    def encode(self, data: bytes) -> bytes:
        """Take a piece; what comes of it may wait for more."""

    def flush(self) -> bytes:
        """Everything that was taken, complete enough to be read."""

    def finish(self) -> bytes:
        """The end, with what still waited."""


class _Zlib:
    __slots__ = ("_inner", "encode", "finish")

    def __init__(self, bits: int) -> None:
        self._inner = inner = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, bits)
        self.encode = inner.compress
        self.finish = inner.flush

    def flush(self) -> bytes:
        return self._inner.flush(zlib.Z_SYNC_FLUSH)


def zlib_encoder(bits: int) -> Encoder:
    """gzip or deflate, as zlib frames them.

    :param bits: :data:`GZIP` or :data:`ZLIB`
    """
    return _Zlib(bits)


class _Zstd:
    __slots__ = ("_block", "_inner", "encode", "finish")

    def __init__(self, module: Any) -> None:
        parameters = module.ZstdCompressionParameters.from_level(
            _ZSTD_LEVEL, window_log=_ZSTD_WINDOW, hash_log=_ZSTD_TABLES, chain_log=_ZSTD_TABLES
        )
        self._inner = inner = module.ZstdCompressor(compression_params=parameters).compressobj()
        self._block = module.COMPRESSOBJ_FLUSH_BLOCK
        self.encode = inner.compress
        self.finish = inner.flush

    def flush(self) -> bytes:
        found: bytes = self._inner.flush(self._block)
        return found


class _Brotli:
    __slots__ = ("encode", "finish", "flush")

    def __init__(self, module: Any) -> None:
        inner = module.Compressor(quality=_BROTLI_QUALITY, lgwin=_BROTLI_WINDOW)
        self.encode = inner.process
        self.flush = inner.flush
        self.finish = inner.finish


def _module(*names: str) -> ModuleType | None:
    """The first of these that is there."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


BROTLI = _module("brotli", "brotlicffi")
ZSTD = _module("zstandard")
"""The packages, where they are there."""

AVAILABLE = frozenset(
    coding for coding, module in ((b"gzip", zlib), (b"br", BROTLI), (b"zstd", ZSTD)) if module is not None
)
"""The codings that there are encoders for."""


def encoder(coding: bytes) -> Encoder:
    """An encoder for one of :data:`AVAILABLE`.  It is one thread's at a time."""
    if coding == b"zstd":
        return _Zstd(ZSTD)
    if coding == b"br":
        return _Brotli(BROTLI)
    return _Zlib(GZIP)


def encoded(coding: bytes, data: bytes) -> bytes:
    """A whole body in one of :data:`AVAILABLE`."""
    inner = encoder(coding)
    return inner.encode(data) + inner.finish()
