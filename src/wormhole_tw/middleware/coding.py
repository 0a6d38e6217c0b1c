"""Content codings (RFC 9110 §8.4): what of ``Accept-Encoding`` a middleware that reads answers lets pass, and such
answers decoded and coded again, piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from wormhole_tw.http import coding as codings
from wormhole_tw.http.coding import BROTLI, GZIP, ZLIB, ZSTD, zlib_encoder

__all__ = ["CODINGS", "Decoder", "Encoder", "decoder", "encoder", "narrowed"]

_BROTLI = BROTLI is not None and hasattr(BROTLI.Decompressor, "can_accept_more_data")
"""Older ones give all that a piece says at once, which may be a thousand times as much."""

CODINGS = (
    "gzip",
    "x-gzip",
    "deflate",
    *(("br",) if _BROTLI else ()),
    *(("zstd",) if ZSTD is not None else ()),
)
"""Those that are read here; services are asked for no other where an answer has to be read.  Brotli and zstd are no
part of Python that every edge has."""

STEP = 64 * 1024
"""Octets that are decoded at once: a small piece of an answer may say a great deal."""


_ZSTD_WINDOW = 8 << 20
"""RFC 9659 §3: of content on the web no window is larger."""

_ZSTD_SLICE = 64
"""Octets that are decoded at once, as the package bounds no output: four say 128 KB at most (RFC 8878 §3.1.1.2.3)."""

_CUT = "the answer ended before the end of its content coding"


class Decoder(Protocol):
    """From a coding."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """What a piece says, in steps.

        :raises ValueError: it is not of this coding
        """

    def finish(self) -> None:
        """That was all.

        :raises ValueError: it was cut
        """


class Encoder(Protocol):
    """Into a coding."""

    def encode(self, data: bytes) -> bytes:
        """A piece, complete enough to be shown."""

    def finish(self) -> bytes:
        """The end."""


def narrowed(accept: str | None) -> str:
    """An ``Accept-Encoding`` (None: there is none) that asks for what is read here and nothing else."""
    kept = []
    for member in (accept or "").split(","):
        name = member.partition(";")[0].strip().lower()
        if name in CODINGS or name == "identity":
            kept.append(member.strip())
    return ", ".join(kept) or "identity"


def decoder(coding: str) -> Decoder | None:
    """A decoder for the value of ``Content-Encoding``; None where it is not read here."""
    name = coding.strip().lower()
    if name in ("gzip", "x-gzip"):
        return _Zlib(gzip=True)
    if name not in CODINGS:
        return None
    if name == "br":
        return _Brotli()
    return _Zstd() if name == "zstd" else _Zlib(gzip=False)


def encoder(coding: str) -> Encoder:
    """An encoder for a coding that has a decoder."""
    name = coding.strip().lower()
    if name in ("br", "zstd"):
        return _Shown(codings.encoder(name.encode()))
    return _Shown(zlib_encoder(GZIP if name != "deflate" else ZLIB))


class _Zlib:
    """gzip, of one member or several; or deflate, with zlib's frame as it should be or bare as some send it."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._inner = zlib.decompressobj(GZIP if gzip else ZLIB)
        self._begun = False
        self._first = b""
        self._chosen = gzip

    def decode(self, data: bytes) -> Iterator[bytes]:
        if not self._chosen:
            # zlib's frame begins with two octets that a bare stream all but never begins with (RFC 1950 §2.2)
            data = self._first = self._first + data
            if len(data) < 2:
                return
            self._chosen = True
            if data[0] & 0x0F != 8 or (data[0] << 8 | data[1]) % 31:
                self._inner = zlib.decompressobj(-ZLIB)
        while data:
            if self._inner.eof:
                if not self._gzip or not data.startswith(b"\x1f"):
                    return  # what stands behind the end belongs to nobody
                self._inner = zlib.decompressobj(GZIP)
            try:
                out = self._inner.decompress(data, STEP)
            except zlib.error as error:
                raise ValueError(f"the answer is not of its content coding: {error}") from None
            self._begun = True
            if out:
                yield out
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
            if not data and not self._inner.eof and len(out) == STEP:
                # what is left stands inside the decoder
                yield from self._rest()

    def _rest(self) -> Iterator[bytes]:
        try:
            while rest := self._inner.decompress(b"", STEP):
                yield rest
        except zlib.error as error:
            raise ValueError(f"the answer is not of its content coding: {error}") from None

    def finish(self) -> None:
        if (self._begun or self._first) and not self._inner.eof:
            raise ValueError(_CUT)


class _Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        assert BROTLI is not None
        self._inner = BROTLI.Decompressor()
        self._error: type[Exception] = BROTLI.error
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        while not self._inner.is_finished():  # what stands behind the end belongs to nobody
            try:
                out = self._inner.process(data, output_buffer_limit=STEP)
            except self._error as error:
                raise ValueError(f"the answer is not of its content coding: {error}") from None
            for start in range(0, len(out), STEP):
                yield out[start : start + STEP]
            if not out and self._inner.can_accept_more_data():
                return
            data = b""  # some may stand inside the decoder

    def finish(self) -> None:
        if self._begun and not self._inner.is_finished():
            raise ValueError(_CUT)


class _Zstd:
    """RFC 8878: frames, one behind the other."""

    def __init__(self) -> None:
        assert ZSTD is not None
        self._decompressor = ZSTD.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._error: type[Exception] = ZSTD.ZstdError
        self._inner = self._decompressor.decompressobj()
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        for start in range(0, len(data), _ZSTD_SLICE):
            part = data[start : start + _ZSTD_SLICE]
            while part:
                if self._inner.eof:
                    self._inner = self._decompressor.decompressobj()
                try:
                    out = self._inner.decompress(part)
                except self._error as error:
                    raise ValueError(f"the answer is not of its content coding: {error}") from None
                for at in range(0, len(out), STEP):
                    yield out[at : at + STEP]
                part = self._inner.unused_data if self._inner.eof else b""

    def finish(self) -> None:
        if self._begun and not self._inner.eof:
            raise ValueError(_CUT)


class _Shown:
    def __init__(self, inner: codings.Encoder) -> None:
        self._inner = inner

    def encode(self, data: bytes) -> bytes:
        return self._inner.encode(data) + self._inner.flush()

    def finish(self) -> bytes:
        return self._inner.finish()
