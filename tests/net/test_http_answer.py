"""The head of an answer, in pieces and past its limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.net.http_answer import MAX_ANSWER, AnswerHead, AnswerReader

WHOLE = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 a\r\nVIA:1.1 b \r\nX-Empty:\r\n\r\n"


@given(st.lists(st.integers(1, len(WHOLE)), max_size=6))
def test_it_may_come_in_pieces(cuts: list[int]) -> None:
    reader = AnswerReader()
    data = WHOLE + b"what comes then"
    head = None
    begin = 0
    for end in [*sorted(cuts), len(data)]:
        if head is None:
            head = reader.feed(data[begin:end])
            if head is not None:
                rest = reader.rest + data[end:]
        begin = end
    assert head == AnswerHead(200, "Connection established", {"via": "1.1 a, 1.1 b", "x-empty": ""})
    assert rest == b"what comes then"


def test_interim_answers_are_passed_over() -> None:
    reader = AnswerReader()
    assert reader.feed(b"HTTP/1.1 100 Continue\r\n\r\n") is None
    assert reader.feed(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 403\n") is None
    head = reader.feed(b"\nrest")
    assert head is not None
    assert (head.status, str(head), reader.rest) == (403, "403", b"rest")


def test_a_switch_is_final() -> None:
    head = AnswerReader().feed(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert head is not None
    assert head.status == 101


def test_what_is_shown_of_it_fits_a_log() -> None:
    reason = b"No\x1b[31m \xff way " + b"x" * 300
    head = AnswerReader().feed(b"HTTP/1.1 403 " + reason + b"\r\n\r\n")
    assert head is not None
    assert str(head).startswith("403 No[31m  way xxx")
    assert len(str(head)) <= 104


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SSH-2.0-x\r\n", "it is not HTTP/1"),
        (b"\x16\x03\x01", "it is not HTTP/1"),
        (b"HTTP/2 200\r\n\r\n", "it is not HTTP/1"),
        (b"HTTP/1.1 OK\r\n\r\n", "its status line"),
        (b"HTTP/1.1 2000\r\n\r\n", "its status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "a header field"),
        (b"HTTP/1.1 200 OK\r\nna me: x\r\n\r\n", "a header field"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_ANSWER, "longer than 16384 octets"),
        (b"HTTP/1.1 100 C\r\n\r\n" * 1000, "longer than 16384 octets"),
    ],
)
def test_what_is_none(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AnswerReader().feed(data)
