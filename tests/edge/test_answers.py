"""The answers of the edge's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate

import pytest

from wormhole_tw.edge.answers import ANSWERS, HttpDate, error_answer, head_timeout, plain_http_on_tls_port


@pytest.mark.parametrize("reason", ANSWERS)
def test_every_reason_makes_a_whole_answer(reason: str) -> None:
    head, body = error_answer(reason, b"now")
    fields = dict(head.fields)
    assert head.status == ANSWERS[reason].status
    assert head.length == len(body)
    assert head.keep_alive
    assert fields[b"X-Wormhole-Error"].decode() == reason
    assert head.reason
    assert (b"Retry-After" in fields) == (head.status in (429, 503))


def test_a_reason_from_elsewhere() -> None:
    head, body = error_answer("odd", b"now", status=499, message="Odd.", close=True)
    assert (head.status, head.reason, head.keep_alive) == (499, b"Error", False)
    assert b"Odd." in body


def test_dates_are_those_of_the_standard_library() -> None:
    date = HttpDate()
    for moment in (0.0, 951_782_400.5, time.time()):
        assert date.at(moment).decode() == formatdate(int(moment), usegmt=True)
        assert date.at(moment) is date.at(moment)


@pytest.mark.parametrize("answer", [plain_http_on_tls_port, head_timeout])
def test_answers_without_a_codec_are_whole(answer: Callable[[bytes], bytes]) -> None:
    head, _, body = answer(b"now").partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert b"Connection: close" in head
