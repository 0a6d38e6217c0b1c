"""Headers, their limits, and bytes that come in any pieces."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.frames import (
    END,
    HEADER_SIZE,
    LONG,
    MAX_DATA,
    PREFACE,
    FrameParser,
    FrameType,
    encode_frame,
    encode_window,
    pack_header,
)
from wormhole_tw.wire.messages import MAX_MESSAGE


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(at)]


some_frames = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([6, 6 | END]), st.integers(0, 2**32 - 1), st.binary(max_size=3000)),
        st.tuples(st.sampled_from([1, 4, 4 | END, 8, 11, 99]), st.integers(0, 9), st.binary(max_size=700)),
        st.tuples(st.just(7), st.integers(1, 9), st.binary(min_size=4, max_size=4)),
        st.tuples(st.sampled_from([9, 10]), st.just(0), st.binary(min_size=8, max_size=8)),
    ),
    max_size=8,
)


@given(some_frames, st.lists(st.integers(0, 10**6), max_size=40), st.booleans(), st.booleans())
def test_any_chopping_gives_the_same_frames(
    frames: list[tuple[int, int, bytes]], cuts: list[int], preface: bool, views: bool
) -> None:
    data = b"".join(encode_frame(*frame) for frame in frames)
    parser = FrameParser(expect_preface=preface)
    found = []
    for piece in chop((PREFACE if preface else b"") + data, cuts):
        found += parser.feed(memoryview(piece) if views else piece)
    assert found == frames
    assert parser.error is None
    assert parser.held == 0
    assert not parser.in_preface or not data


@given(some_frames, st.integers(1, 5))
def test_an_unfinished_frame_is_all_that_is_held(frames: list[tuple[int, int, bytes]], step: int) -> None:
    data = b"".join(encode_frame(*frame) for frame in frames)
    parser = FrameParser(expect_preface=False)
    given_out = 0
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        for _, _, payload in parser.feed(piece):
            given_out += 8 + len(payload)
        taken = start + len(piece)
        assert parser.held <= taken - given_out <= parser.held + 8


def test_two_octets_at_a_time_cost_no_object_each() -> None:
    parser = FrameParser(expect_preface=False)
    parser.feed(pack_header(FrameType.DATA, 1, MAX_DATA))
    for _ in range(MAX_DATA // 2 - 1):
        parser.feed(b"ab")
    pieces = parser._pieces
    assert sys.getsizeof(pieces) + sum(map(sys.getsizeof, pieces)) < 2 * MAX_DATA
    parser.feed(b"x" * 1000)
    assert parser.held <= 2


def test_a_large_piece_is_kept_as_it_came() -> None:
    parser = FrameParser(expect_preface=False)
    big = b"y" * 1024
    parser.feed(pack_header(FrameType.DATA, 1, 3000) + b"x")
    parser.feed(big)
    parser.feed(b"z")
    assert any(piece is big for piece in parser._pieces)
    assert parser.feed(bytes(3000 - 1026)) == [(6, 1, b"x" + big + b"z" + bytes(3000 - 1026))]


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (FrameType.DATA, MAX_DATA + 1),
        (FrameType.DATAGRAM, MAX_DATA + 1),
        (FrameType.HELLO, MAX_MESSAGE + 1),
        (FrameType.GOAWAY, MAX_MESSAGE + 1),
        (77, MAX_MESSAGE + 1),
        (FrameType.WINDOW, 3),
        (FrameType.WINDOW, 5),
        (FrameType.PING, 7),
        (FrameType.PONG, 9),
        (FrameType.PING | END, 8),
        (FrameType.HELLO | END, 1),
        (77 | END, 1),
        (0 | END, 0),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_header_is_judged_alone(kind: int, length: int, whole: bool) -> None:
    parser = FrameParser(expect_preface=False)
    good = encode_frame(FrameType.PING, 0, b"12345678")
    header = pack_header(kind, 1, length)
    found = parser.feed(good + header[: 8 if whole else 5])
    found += parser.feed(header[8 if whole else 5 :])
    assert found == [(9, 0, b"12345678")]
    assert parser.error is not None
    assert parser.error.code == GoawayCode.PROTOCOL_ERROR
    assert parser.held == 0
    assert parser.feed(good) == []


@pytest.mark.parametrize(
    ("kind", "length"),
    [(FrameType.DATA | END, MAX_DATA), (FrameType.OPEN | END, MAX_MESSAGE), (FrameType.DATAGRAM, MAX_DATA), (77, 0)],
)
def test_the_largest_legal_frames(kind: int, length: int) -> None:
    parser = FrameParser(expect_preface=False)
    assert parser.feed(encode_frame(kind, 5, bytes(length))) == [(kind, 5, bytes(length))]


def test_long_data_of_one_stream_that_came_together_is_one() -> None:
    def frame(stream: int, data: bytes, kind: int = FrameType.DATA) -> bytes:
        return pack_header(kind, stream, len(data)) + data

    long = [bytes([number]) * (LONG + number) for number in range(8)]
    whole = [
        frame(1, long[0]),
        frame(1, long[1]),
        frame(1, long[2]),
        frame(2, long[3]),  # another stream's
        frame(2, b"short"),
        frame(2, long[4]),
        frame(2, long[5], FrameType.DATA | END),
        frame(3, long[6]),
        encode_window(3, 1),
        frame(3, long[6]),
        frame(3, long[7]),
    ]
    expected = [
        (FrameType.DATA, 1, long[0] + long[1] + long[2]),
        (FrameType.DATA, 2, long[3]),
        (FrameType.DATA, 2, b"short"),
        (FrameType.DATA, 2, long[4]),
        (FrameType.DATA | END, 2, long[5]),
        (FrameType.DATA, 3, long[6]),
        (FrameType.WINDOW, 3, (1).to_bytes(4, "big")),
        (FrameType.DATA, 3, long[6] + long[7]),
    ]
    assert FrameParser(expect_preface=False, joined=True).feed(b"".join(whole)) == expected
    assert FrameParser(expect_preface=False, joined=True).feed(memoryview(b"".join(whole))) == expected
    assert len(FrameParser(expect_preface=False).feed(b"".join(whole))) == len(whole)


@pytest.mark.parametrize("cut", [1, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 1, HEADER_SIZE + LONG - 1])
def test_a_long_frame_that_is_not_all_there_is_not_waited_for(cut: int) -> None:
    parser = FrameParser(expect_preface=False, joined=True)
    one = pack_header(FrameType.DATA, 1, LONG) + bytes(LONG)
    assert parser.feed(one + one + one[:cut]) == [(FrameType.DATA, 1, bytes(2 * LONG))]
    assert parser.feed(one[cut:]) == [(FrameType.DATA, 1, bytes(LONG))]


def test_a_frame_too_long_behind_others_is_an_error() -> None:
    parser = FrameParser(expect_preface=False, joined=True)
    one = pack_header(FrameType.DATA, 1, LONG) + bytes(LONG)
    more = pack_header(FrameType.DATA, 1, MAX_DATA + 1) + bytes(MAX_DATA + 1)
    assert parser.feed(one + one + more) == [(FrameType.DATA, 1, bytes(2 * LONG))]
    assert parser.error is not None


@pytest.mark.parametrize("cut", range(len(PREFACE)))
def test_the_preface_in_two_pieces(cut: int) -> None:
    parser = FrameParser(expect_preface=True)
    assert parser.feed(PREFACE[:cut]) == []
    assert parser.in_preface
    assert parser.held == cut
    assert parser.feed(PREFACE[cut:] + encode_frame(99, 0, b"x")) == [(99, 0, b"x")]
    assert not parser.in_preface


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n", GoawayCode.PROTOCOL_ERROR),
        (b"WORMHOLE/2\r\n", GoawayCode.VERSION),
        (b"WORMHOLE/1\n", GoawayCode.VERSION),
        (b"\x16\x03\x01", GoawayCode.PROTOCOL_ERROR),
        (b"WORMH0", GoawayCode.PROTOCOL_ERROR),
    ],
)
def test_what_is_no_preface(data: bytes, code: GoawayCode) -> None:
    for piece in (len(data), 1):
        parser = FrameParser(expect_preface=True)
        for start in range(0, len(data), piece):
            parser.feed(data[start : start + piece])
        assert parser.error is not None
        # octet by octet, a wrong digit is judged when it comes, and then nothing more is taken
        assert parser.error.code == code
        assert parser.in_preface


def test_window_frames_are_twelve_octets() -> None:
    assert encode_window(7, 2**31 - 1) == encode_frame(FrameType.WINDOW, 7, b"\x7f\xff\xff\xff")
