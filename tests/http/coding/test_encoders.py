"""What is coded says what went in, to decoders of others."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.coding.judges import GIVEN, decoded
from wormhole_tw.http.coding import AVAILABLE, CODINGS, ZLIB, encoded, encoder, encoders, zlib_encoder

PIECES = st.lists(st.tuples(st.binary(max_size=2000), st.booleans()), max_size=12)


@pytest.mark.parametrize("coding", GIVEN)
@given(PIECES)
def test_any_pieces_with_any_flushes(coding: bytes, pieces: list[tuple[bytes, bool]]) -> None:
    inner = encoder(coding)
    out, said = b"", b""
    for piece, flush in pieces:
        out += inner.encode(piece)
        said += piece
        if flush:
            out += inner.flush()
            if said:
                # all of it can be read already
                assert decoded(coding, out, cut=True) == said
    assert decoded(coding, out + inner.finish()) == said


@pytest.mark.parametrize("coding", GIVEN)
@pytest.mark.parametrize("size", [0, 1, 1023, 65536, 65537, 1_500_000])
def test_whole_bodies(coding: bytes, size: int) -> None:
    for data in (Random(size).randbytes(size), (b'{"id": 7, "name": "seven"}, ' * (size // 28 + 1))[:size]):
        assert decoded(coding, encoded(coding, data)) == data
    assert len(encoded(coding, b"so much " * 10_000)) < 1000


def test_the_other_frame_of_zlib() -> None:
    inner = zlib_encoder(ZLIB)
    out = inner.encode(b"hello ") + inner.flush() + inner.encode(b"world") + inner.finish()
    assert zlib.decompress(out) == b"hello world"


def test_what_has_no_package_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {b"gzip"} <= AVAILABLE <= set(CODINGS)
    assert encoders._module("wormhole_tw_no_such_module", "zlib") is zlib
    assert encoders._module("wormhole_tw_no_such_module") is None
