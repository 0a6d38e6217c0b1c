"""A memory that is never wrong: it says what the hpack library alone says, block for block."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, HeaderTuple, HPACKError, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.h2.headers import MAX_BLOCKS, MAX_HUFFMAN, RememberingDecoder, RememberingEncoder

LINE = st.tuples(
    st.sampled_from([b":method", b"x", b"cookie", b"y-long-name", b"set-cookie"]),
    st.sampled_from([b"GET", b"", b"1", b"2", b"v" * 120]),
    st.booleans(),
)
LISTS = st.lists(st.one_of(st.lists(LINE, max_size=5), st.sampled_from([0, 60, 200, 4096])), max_size=12)


@given(LISTS)
def test_both_say_what_the_library_says(steps: list[object]) -> None:
    plain, remembering = Encoder(), RememberingEncoder()
    reader, other = Decoder(), RememberingDecoder(65536)
    for step in steps:
        if isinstance(step, int):
            remembering.header_table_size = step
            if step != plain.header_table_size:
                plain.header_table_size = step
            continue
        assert isinstance(step, list)
        fields = [
            NeverIndexedHeaderTuple(name, value) if name == b"set-cookie" else HeaderTuple(name, value)
            for name, value, _ in step
        ]
        block = remembering.encode(fields)
        assert block == plain.encode(fields)
        expected = [(name, value) for name, value, _ in step]
        assert list(other.decode(block, raw=True)) == list(reader.decode(block, raw=True)) == expected


@pytest.mark.parametrize(("size", "coded"), [(MAX_HUFFMAN, True), (MAX_HUFFMAN + 1, False), (100_000, False)])
def test_long_fields_go_as_they_are(size: int, coded: bool) -> None:
    for line in ((b"cookie", b"a" * size), (b"x" * size, b"a")):
        block = RememberingEncoder().encode([HeaderTuple(*line)])
        assert (len(block) < size) is coded
        assert list(Decoder(1 << 20).decode(block, raw=True)) == [line]


BLOCKS = [
    b"\x82",
    b"\xbe",
    b"\xbf",
    b"\x40\x01a\x01b",
    b"\x40\x01c\x01d",
    b"\x00\x01e\x01f\xbe",
    # sizes of the table: 32 and a field, 0, 4096
    b"\x3f\x01\x82",
    b"\x20",
    b"\x3f\xe1\x1f",
]


@given(st.lists(st.sampled_from(BLOCKS), max_size=20))
def test_any_sequence_of_blocks_is_read_as_the_library_reads_it(blocks: list[bytes]) -> None:
    plain, remembering = Decoder(), RememberingDecoder(65536)
    for block in blocks:
        try:
            expected = list(plain.decode(block, raw=True))
        except HPACKError:
            with pytest.raises(HPACKError):
                remembering.decode(block, raw=True)
            return
        assert list(remembering.decode(block, raw=True)) == expected


def test_what_says_the_same_is_looked_up() -> None:
    encoder, decoder = RememberingEncoder(), RememberingDecoder(65536)
    fields = [HeaderTuple(b":method", b"GET"), HeaderTuple(b"x", b"y")]
    blocks = [encoder.encode(fields) for _ in range(4)]
    lists = [decoder.decode(block, raw=True) for block in blocks]
    assert blocks[0] != blocks[1]
    assert blocks[2] is blocks[1]
    assert lists[3] is lists[1]
    # and no longer, once the table has changed
    encoder.encode([HeaderTuple(b"z", b"1")])
    assert encoder.encode(fields) != blocks[1]


def test_a_size_that_is_set_twice_is_told() -> None:
    encoder, decoder = RememberingEncoder(), Decoder()
    for size in (0, 0, 60, 60):
        encoder.header_table_size = size
    fields = [HeaderTuple(b"x", b"y")] * 3
    assert encoder.header_table_size == 60
    assert list(decoder.decode(encoder.encode(fields), raw=True)) == fields


def test_it_is_bounded() -> None:
    encoder, decoder = RememberingEncoder(), RememberingDecoder(65536)
    for number in range(3 * MAX_BLOCKS + 5):
        block = encoder.encode([NeverIndexedHeaderTuple(b"set-cookie", b"%d" % number)])
        decoder.decode(block, raw=True)
        assert len(encoder._known) <= MAX_BLOCKS
        assert len(decoder._known) <= MAX_BLOCKS
    for codec, argument in ((encoder, [NeverIndexedHeaderTuple(b"set-cookie", b"\xff" * 300)]),):
        long = codec.encode(argument)
        decoder.decode(long, raw=True)
        assert long not in decoder._known
        assert tuple(argument) not in encoder._known
