"""Who judges what is coded: decoders that none of ours has a part in."""

from __future__ import annotations

import gzip
from importlib import import_module

import pytest

from tests._support import IN_CI
from wormhole_tw.http.coding import AVAILABLE, CODINGS

GIVEN = [
    pytest.param(
        coding,
        id=coding.decode(),
        marks=pytest.mark.skipif(coding not in AVAILABLE and not IN_CI, reason=f"no package for {coding.decode()}"),
    )
    for coding in CODINGS
]
"""Every coding, for parametrize."""


def decoded(coding: bytes, data: bytes, *, cut: bool = False) -> bytes:
    """What it says; it must be whole and nothing more, or it is cut and says so much."""
    if coding == b"br":
        inner = import_module("brotli").Decompressor()
        found = inner.process(data)
        assert cut or inner.is_finished()
        return bytes(found)
    if coding == b"zstd":
        unzstd = import_module("zstandard").ZstdDecompressor().decompressobj()
        found = unzstd.decompress(data)
        assert cut or (unzstd.eof and not unzstd.unused_data)
        return bytes(found)
    if coding == b"gzip":
        if cut:
            return import_module("zlib").decompressobj(31).decompress(data)  # type: ignore[no-any-return]
        return gzip.decompress(data)
    assert coding == b""
    return data
