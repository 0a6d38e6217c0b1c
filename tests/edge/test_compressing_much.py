"""Long answers that get a content coding on their way: threads, backpressure, and what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.house import judged
from tests.edge.press import CHUNKED, HEAD, LARGE, NOISE, PAGE, Hands, chunk, fields, judged_chunks, sized
from tests.http.coding.judges import decoded
from wormhole_tw.edge import compressing
from wormhole_tw.edge.compressing import INLINE
from wormhole_tw.wire.codes import ResetCode

# much of it


def test_a_whole_large_answer_is_as_long_as_it_says(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    for _ in range(2):  # the second one is known octet for octet
        visitor = house.ask(capacity=10**7)
        house.stream.deliver(sized(LARGE))
        assert house.done == []
        assert visitor.hears() == b""
        hands.work()
        [(head, body)] = visitor.answers()
        assert fields(head)[b"content-length"] == b"%d" % len(body)
        assert decoded(b"gzip", body) == LARGE
        house.done.clear()


def test_pieces_keep_their_order_behind_a_thread(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    stream = house.stream
    stream.deliver(HEAD + CHUNKED)
    stream.deliver(chunk(LARGE[:40_000]))  # too much for the reactor
    stream.deliver(chunk(LARGE[40_000:40_010]))  # little, but behind it
    assert len(hands.jobs) == 1
    stream.deliver(b"0\r\nX-Sum: 7\r\n\r\n")
    assert len(hands.jobs) == 1
    assert b"X-Sum" not in visitor.hears()
    hands.work_off()
    heard = visitor.hears()
    assert heard.endswith(b"0\r\nX-Sum: 7\r\n\r\n")
    assert decoded(b"gzip", judged_chunks(heard.removesuffix(b"0\r\nX-Sum: 7\r\n\r\n"))) == LARGE[:40_010]


def test_the_end_may_come_while_the_last_piece_is_in_a_thread(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    house.stream.deliver(HEAD + CHUNKED + chunk(LARGE[:40_000]))
    house.stream.deliver(b"0\r\n\r\n")
    hands.work_off()
    assert decoded(b"gzip", visitor.answers()[0][1]) == LARGE[:40_000]
    # and the connection is free for the next one meanwhile
    assert not house.stream.disconnected


def test_the_service_is_held_back_while_a_thread_is_at_it(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    stream = house.stream
    stream.deliver(HEAD + CHUNKED)
    given = 0
    while not stream.paused:
        stream.deliver(chunk(NOISE[:30_000]))
        given += 30_000
        assert given < 300_000
    assert len(hands.jobs) == 1
    hands.work_off()
    assert not stream.paused
    assert visitor.hears()


def test_a_visitor_who_does_not_read_holds_the_service_back(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=20_000)
    stream = house.stream
    stream.deliver(HEAD + CHUNKED)
    given = 0
    while not stream.paused:
        stream.deliver(chunk(NOISE[:30_000]))  # which no coding makes shorter
        hands.work_off()
        given += 30_000
        assert given < 300_000
    body = b""
    while stream.paused:
        heard = visitor.hears()
        assert heard
        body += heard
        hands.work_off()
    stream.deliver(b"0\r\n\r\n")
    for _ in range(20):
        body += visitor.hears()
        hands.work_off()
    assert decoded(b"gzip", judged(body)[0][1]) == NOISE[:30_000] * (given // 30_000)


def test_a_visitor_who_leaves_ends_it(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor, whole = house.ask(capacity=10**7), house.ask(capacity=10**7)
    first, second = house.streams
    first.deliver(HEAD + CHUNKED + chunk(LARGE[:40_000]))
    second.deliver(sized(LARGE))
    assert [job.done is None for job in hands.jobs] == [False, False]
    visitor.lose()
    whole.lose()
    assert [job.done is None for job in hands.jobs] == [True, True]
    assert house.context.compressors.running == 0
    assert first.aborted
    assert not second.disconnected  # its answer was whole: the next one may have it
    assert [exchange.reason for exchange in house.done] == ["visitor-gone"] * 2
    hands.work_off()
    assert hands.done == 0


def test_of_a_body_that_is_said_to_be_long_nothing_is_coded_between_other_things(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    house.stream.deliver(HEAD + b"Content-Length: %d\r\n\r\n" % (INLINE + 2))
    for piece in (b"a", b"b" * INLINE, b"c"):
        house.stream.deliver(piece)
        assert len(hands.jobs) == 1
        hands.work()
    assert hands.done == 3
    hands.work_off()
    assert decoded(b"gzip", visitor.answers()[0][1]) == b"a" + b"b" * INLINE + b"c"


def test_a_stream_may_say_much_in_the_end(press: Any) -> None:
    """What is little at a time is coded at once; what is much at a time in threads, whatever it was before."""
    hands = Hands()
    house = press(hands=hands)
    house.ask(capacity=10**7)
    house.stream.deliver(HEAD + CHUNKED)
    for _ in range(INLINE // 1000):
        house.stream.deliver(chunk(LARGE[:1000]))
    assert not hands.jobs
    house.stream.deliver(chunk(LARGE[:1000]))
    assert hands.jobs
    hands.work_off()
    house.pass_time(10)
    house.stream.deliver(chunk(LARGE[:1000]))
    assert not hands.jobs
    house.stream.deliver(chunk(LARGE[: INLINE + 1]))
    assert hands.jobs
    hands.work_off()


def test_more_than_there_is_room_for_go_as_they_are(press: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressing, "MOST", 2)
    house = press()
    visitors = [house.ask() for _ in range(3)]
    for stream in house.streams:
        stream.deliver(HEAD + CHUNKED + chunk(PAGE))
    heard = [visitor.hears() for visitor in visitors]
    assert [b"Content-Encoding" in each for each in heard] == [True, True, False]
    assert all(b"Vary: Accept-Encoding" in each for each in heard)
    # what is whole takes no room
    visitor = house.ask()
    house.stream.deliver(sized(PAGE))
    assert b"Content-Encoding" in visitor.hears()
    house.streams[0].deliver(b"0\r\n\r\n")
    visitor = house.ask()
    house.streams[0].deliver(sized(PAGE))
    assert b"Content-Encoding" in visitor.hears()


# what goes wrong


@pytest.mark.parametrize("workers", [False, True])
def test_what_came_before_a_failure_is_heard_and_the_answer_is_cut(press: Any, workers: bool) -> None:
    hands = Hands() if workers else None
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    heard = b""
    abort = visitor.abortConnection

    def cut() -> None:
        nonlocal heard
        heard = visitor.dataBuffer  # all that was written: nobody has read yet, and now nobody will
        abort()

    visitor.abortConnection = cut
    house.stream.deliver(HEAD + CHUNKED + chunk(LARGE[:40_000]))
    house.stream.reset(ResetCode.SERVICE_FAILED, delivered=True)
    if hands is not None:
        assert not visitor.disconnected
        hands.work_off()
    assert visitor.disconnected
    assert not heard.endswith(b"0\r\n\r\n")
    body = judged_chunks(heard.partition(b"\r\n\r\n")[2])
    assert decoded(b"gzip", body, cut=True) == LARGE[:40_000]
    assert house.done[0].reason == "service-failed"


def test_a_failure_before_the_answer_is_tried_again(press: Any) -> None:
    house = press(agents=2)
    visitor = house.ask()
    house.streams[0].reset(ResetCode.LINK_LOST, delivered=True)
    [*_, stream] = [each for each in house.streams if not each.disconnected]
    stream.deliver(sized(PAGE))
    assert decoded(b"gzip", visitor.answers()[0][1]) == PAGE


@pytest.mark.parametrize("whole", [True, False])
def test_an_encoder_that_fails(press: Any, whole: bool, logged_failures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(compressing, "encoded" if whole else "_code", broken)
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    house.stream.deliver(sized(LARGE) if whole else HEAD + CHUNKED + chunk(LARGE[:40_000]))
    hands.work_off()
    assert len(logged_failures.flush(MemoryError)) == 1
    if whole:
        assert visitor.answers()[0][0].status_code == 500
    else:
        assert visitor.disconnected
    assert house.context.compressors.running == 0
