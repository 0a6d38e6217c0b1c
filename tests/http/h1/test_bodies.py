"""Where a body ends, and what of its coding is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import HttpError
from wormhole_tw.http.h1.bodies import COALESCE_BELOW, ChunkedReader, CloseReader, LengthReader
from wormhole_tw.http.h1.limits import H1Limits

LIMITS = H1Limits()


def read(reader, data):
    out = []
    end = reader.feed(data, out)
    return b"".join(out), end


def test_a_length_is_counted():
    reader = LengthReader(5)
    assert read(reader, b"ab") == (b"ab", -1)
    assert reader.minimum_left() == 3
    assert read(reader, b"cdeGET /") == (b"cde", 3)
    assert reader.minimum_left() == 0


def test_a_body_of_a_length_is_not_copied():
    data = b"x" * 100000
    out = []
    LengthReader(200000).feed(data, out)
    assert out[0] is data
    out = []
    assert LengthReader(100000).feed(data, out) == 100000
    assert out[0] is data


def test_until_close():
    reader = CloseReader()
    assert read(reader, b"abc") == (b"abc", -1)
    assert reader.minimum_left() == 0


@pytest.mark.parametrize(
    ("data", "body", "trailers"),
    [
        (b"0\r\n\r\n", b"", []),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", []),
        (b"000005\r\nhello\r\n000\r\n\r\n", b"hello", []),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789", []),
        (b"5;a\r\nhello\r\n0\r\n\r\n", b"hello", []),
        (b'5 ; a = b ;c="d;\\"e" \t; f\r\nhello\r\n0;x\r\n\r\n', b"hello", []),
        (b"5\r\nhello\r\n0\r\nX: y\r\nZ:  z \r\n\r\n", b"hello", [(b"X", b"y"), (b"Z", b"z")]),
        (b"0\r\nCookie: x\r\nConnection: close\r\nX: y\r\n\r\n", b"", [(b"X", b"y")]),
    ],
)
def test_chunks(data, body, trailers):
    for rest in (b"", b"GET / HTTP/1.1\r\n"):
        reader = ChunkedReader(LIMITS)
        assert read(reader, data + rest) == (body, len(data))
        assert reader.trailers == trailers
    reader = ChunkedReader(LIMITS)
    seen = b""
    for index in range(len(data)):
        piece, end = read(reader, data[index : index + 1])
        seen += piece
        assert end == (1 if index == len(data) - 1 else -1)
    assert (seen, reader.trailers) == (body, trailers)


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"\r\n", 400, "bad-chunk"),
        (b"g\r\n", 400, "bad-chunk"),
        (b"0x5\r\n", 400, "bad-chunk"),
        (b"+5\r\n", 400, "bad-chunk"),
        (b"-1\r\n", 400, "bad-chunk"),
        (b"1_0\r\n", 400, "bad-chunk"),
        (b" 5\r\n", 400, "bad-chunk"),
        (b"5 \r\n", 400, "bad-chunk"),
        (b"5\n", 400, "bad-chunk"),
        (b"5\r\r\n", 400, "bad-chunk"),
        (b"5;\r\n", 400, "bad-chunk"),
        (b"5;a=\r\n", 400, "bad-chunk"),
        (b"5;a\rb\r\n", 400, "bad-chunk"),
        (b"5;a\0\r\n", 400, "bad-chunk"),
        (b'5;a="b\r\n', 400, "bad-chunk"),
        (b"5,a\r\n", 400, "bad-chunk"),
        (b"00000000000000005\r\n", 400, "bad-chunk"),
        (b"5;" + b"a" * 300, 400, "bad-chunk"),
        (b"1;" + b"a" * 200 + b"\r\nx\r\n", 400, "bad-chunk"),
        (b"5\r\nhello!\r\n", 400, "bad-chunk"),
        (b"5\r\nhello\n", 400, "bad-chunk"),
        (b"5\r\nhello\rX", 400, "bad-chunk"),
        (b"0\r\nX\r\n\r\n", 400, "bad-trailers"),
        (b"0\r\nX : y\r\n\r\n", 400, "bad-trailers"),
        (b"0\r\n X: y\r\n\r\n", 400, "bad-trailers"),
        (b"0\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "bad-trailers"),
        (b"0\r\nX: y\r\n" + b"\n" * 200 + b"\r\n\r\n", 400, "bad-trailers"),
        (b"0\r\nX: y\n\n", 400, "bad-trailers"),
        (b"0\r\n\n", 400, "bad-trailers"),
        (b"0\r\nContent-Length: 5\r\n\r\n", 400, "bad-trailers"),
        (b"0\r\nX: y\r\ntransfer-encoding: chunked\r\n\r\n", 400, "bad-trailers"),
        (b"0\r\nHost: b.test\r\n\r\n", 400, "bad-trailers"),
        (b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "too-many-fields"),
        (b"0\r\nX: " + b"y" * 9000, 431, "trailers-too-large"),
    ],
)
def test_codings_that_are_refused(data, status, reason):
    repeated = data * 25 if data.startswith(b"1;") else data
    with pytest.raises(HttpError) as caught:
        ChunkedReader(LIMITS).feed(repeated, [])
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_good_pieces_before_a_fault_are_given_out():
    out = []
    with pytest.raises(HttpError):
        ChunkedReader(LIMITS).feed(b"5\r\nhello\r\nzz\r\n", out)
    assert out == [b"hello"]


def test_small_chunks_are_joined_and_large_ones_are_not():
    out = []
    large = b"y" * COALESCE_BELOW
    size = b"%x\r\n" % COALESCE_BELOW
    data = b"1\r\nx\r\n" * 3 + size + large + b"\r\n" + size + large + b"\r\n" + b"1\r\nx\r\n" * 2 + b"0\r\n\r\n"
    assert ChunkedReader(LIMITS).feed(data, out) == len(data)
    assert out == [b"xxx", large, large, b"xx"]


def test_minimum_left_of_chunks():
    reader = ChunkedReader(LIMITS)
    assert reader.minimum_left() == 0
    reader.feed(b"ff\r\nabc", [])
    assert reader.minimum_left() == 252


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.data())
def test_any_cutting_reads_the_same(chunks, data):
    coded = b"".join(b"%x;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nX: y\r\n\r\n"
    reader = ChunkedReader(LIMITS)
    seen = []
    rest = coded + b"next"
    end = -1
    while end < 0:
        size = data.draw(st.integers(1, len(rest)))
        end = reader.feed(rest[:size], seen)
        rest = rest[size if end < 0 else end :]
    assert rest[:4] in (b"next", b"nex", b"ne", b"n", b"")
    assert b"".join(seen) == b"".join(chunks)
    assert reader.trailers == [(b"X", b"y")]
