"""Which coding a visitor is given, by what it says that it takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.coding import CODINGS, acceptable, preferred, refuses_identity

OURS = (b"zstd", b"br", b"gzip")


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        # as browsers and tools say it
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"gzip, deflate, br", b"br"),
        (b"deflate, gzip, br", b"br"),
        (b"gzip", b"gzip"),
        (b"identity", b""),
        (b"", b""),
        (None, b""),
        # RFC 9110 §12.5.3, its examples
        (b"compress, gzip", b"gzip"),
        (b"*", b"zstd"),
        (b"compress;q=0.5, gzip;q=1.0", b"gzip"),
        (b"gzip;q=1.0, identity; q=0.5, *;q=0", b"gzip"),
        # the visitor's weights come before our order
        (b"zstd;q=0.5, br;q=0.8, gzip;q=0.7", b"br"),
        (b"zstd;q=0.001, gzip;q=0.002", b"gzip"),
        (b"br;q=0, *;q=0.1", b"zstd"),
        (b"gzip;q=0.5, *;q=0.6, zstd;q=0", b"br"),
        # none, where that is what it wants most; a coding, where it is one to it
        (b"gzip;q=0.5, identity;q=0.9", b""),
        (b"gzip;q=0.9, identity;q=0.9", b"gzip"),
        (b"identity;q=0", b""),
        (b"identity;q=0, gzip", b"gzip"),
        (b"gzip;q=0", b""),
        (b"*;q=0", b""),
        (b"deflate", b""),
        # spelling
        (b"GZip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"x-gzip;q=0, gzip", b""),
        (b" ,, gzip \t;\t Q=0.5 ,", b"gzip"),
        (b"gzip;q=1., br;q=0.", b"gzip"),
        (b"gzip;q=0.5, gzip;q=0", b""),
        # what is not valid is not there
        (b"gzip;q=2, br;q=0.1", b"br"),
        (b"gzip;q=0.0001, br;q=0.1", b"br"),
        (b"gzip;level=9", b""),
        (b"gzip br", b""),
        (b"gzip;q=-1", b""),
        (b"\xff, gzip", b"gzip"),
        (b", ".join([b"x%d" % number for number in range(200)]) + b", gzip", b"gzip"),
    ],
)
def test_the_coding_of_an_answer(accept: bytes | None, coding: bytes) -> None:
    assert preferred(accept, OURS) == coding


def test_of_what_can_be_given_our_order_decides() -> None:
    assert preferred(b"gzip, br, zstd", (b"gzip", b"zstd", b"br")) == b"gzip"
    assert preferred(b"gzip, br, zstd", (b"br",)) == b"br"
    assert preferred(b"gzip", ()) == b""
    assert CODINGS == OURS


@pytest.mark.parametrize(
    ("accept", "refused"),
    [
        (b"identity;q=0", True),
        (b"gzip, identity;q=0.000", True),
        (b"gzip, *;q=0", True),
        (b"gzip, *;q=0, identity", False),
        (b"gzip", False),
        (b"", False),
        (None, False),
    ],
)
def test_an_answer_without_a_coding_may_be_refused(accept: bytes | None, refused: bool) -> None:
    assert refuses_identity(accept) is refused


@given(st.binary(max_size=300))
def test_whatever_it_says_it_gets_what_there_is_or_nothing(accept: bytes) -> None:
    assert preferred(accept, OURS) in (*OURS, b"")


WEIGHTS = st.integers(0, 1000)


@given(st.dictionaries(st.sampled_from([*OURS, b"identity", b"*", b"deflate"]), WEIGHTS, min_size=1))
def test_nothing_weighs_more_than_what_it_gets(weights: dict[bytes, int]) -> None:
    accept = b", ".join(b"%s;q=%d.%03d" % (name, *divmod(weight, 1000)) for name, weight in weights.items())
    chosen = preferred(accept, OURS)
    of = {coding: weights.get(coding, weights.get(b"*", 0)) for coding in OURS}
    best = max(of.values())
    if chosen:
        assert of[chosen] == best > 0
        assert best >= weights.get(b"identity", 0)
    else:
        assert best == 0 or best < weights.get(b"identity", 0)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (b"gzip, deflate, br, zstd", b"br, deflate, gzip, zstd"),
        (b"zstd,br , x-gzip;q=0.1,deflate;q=0", b"br, gzip, zstd"),
        (b"gzip, made-up-12345", b"gzip"),
        (b"*", b"br, deflate, gzip, zstd"),
        (b"*, gzip;q=0", b"br, deflate, zstd"),
        (b"identity", b"identity"),
        (b"made-up", b"identity"),
        (b"", b"identity"),
    ],
)
def test_what_a_visitor_takes_has_few_forms(accept: bytes, form: bytes) -> None:
    assert acceptable(accept) == form
    assert acceptable(form) == form
