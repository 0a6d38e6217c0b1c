"""What leaves first, and fair turns between streams."""

from __future__ import annotations

import pytest

from tests.wire.links import HTTP, Link, frames, joined, octets, of
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.events import StreamClosed, StreamOpened, StreamWasReset
from wormhole_tw.wire.frames import END, FrameType, encode_frame
from wormhole_tw.wire.messages import Reset, encode
from wormhole_tw.wire.session import SessionConfig

F = FrameType
BIG = SessionConfig(initial_credit=1 << 20)


def kinds(data: bytes) -> list[tuple[int, int]]:
    return [(kind, stream) for kind, stream, _ in frames(data)]


def test_classes() -> None:
    link = Link(role="edge").greet()
    edge = link.acceptor
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(40000))
    link.settle()
    edge.send(stream_id, b"data")
    one, two = edge.open(HTTP, 0.0), edge.open(HTTP, 0.0)
    edge.send(two, b"2")
    edge.send(one, b"1")
    edge.acknowledge(stream_id, 40000, 0.0)
    edge.receive_data(encode_frame(F.PING, 0, b"pingpong"), 0.0)
    edge.set_status(True)
    assert kinds(joined(edge.data_to_send(1 << 20))) == [
        (F.PING, 0),  # the busy link measures its round trip
        (F.PONG, 0),
        (F.STATUS, 0),
        (F.WINDOW, stream_id),
        (F.OPEN, one),
        (F.OPEN, two),
        (F.DATA, stream_id),
        (F.DATA, two),
        (F.DATA, one),
    ]


def test_a_half_that_has_ended_gets_no_window() -> None:
    link = Link().greet()
    edge = link.acceptor
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(40000))
    link.settle()
    edge.acknowledge(stream_id, 40000, 0.0)
    edge.receive_data(encode_frame(F.DATA | END, stream_id, b"last"), 0.0)
    assert (F.WINDOW, stream_id) not in kinds(joined(edge.data_to_send(1 << 20)))


def test_the_order_holds_however_small_the_limit() -> None:
    def run(limit: int) -> bytes:
        link = Link().greet()
        edge = link.acceptor
        out = b""
        ids = [link.stream() for _ in range(3)]
        for stream_id in ids:
            link.dialler.send(stream_id, bytes(40000))
        link.settle()
        for stream_id in ids:
            edge.acknowledge(stream_id, 40000, 0.0)
            edge.send(stream_id, b"abc")
            edge.open(HTTP, 0.0)
        edge.goaway(GoawayCode.NORMAL, "", 0.0)
        while edge.has_data:
            out += joined(edge.data_to_send(limit))
        return out

    assert run(1) == run(1 << 20)


def test_a_limit_is_passed_by_at_most_one_frame() -> None:
    link = Link(BIG).greet()
    ids = [link.stream() for _ in range(2)]
    for stream_id in ids:
        link.acceptor.send(stream_id, bytes(200000))
    assert 50000 <= len(joined(link.acceptor.data_to_send(50000))) <= 50000 + 16384 + 8


def test_turns_are_slices_where_several_are_ready_and_whole_frames_where_one_is() -> None:
    link = Link(BIG).greet()
    one, two = link.stream(), link.stream()
    link.acceptor.send(one, bytes(70000))
    link.acceptor.send(two, bytes(20000))
    sent: list[tuple[int, int]] = []
    while link.acceptor.has_data:
        sent += [(stream, len(data)) for _, stream, data in frames(joined(link.acceptor.data_to_send(32768)))]
    assert sent == [(one, 16376), (two, 16376), (one, 16376), (two, 3624), (one, 16376), (one, 20872)]
    link.acceptor.send(one, bytes(200000))
    sent = [(stream, len(data)) for _, stream, data in frames(joined(link.acceptor.data_to_send(1 << 20)))]
    assert [size for _, size in sent] == [65528, 65528, 65528, 3416]


@pytest.mark.parametrize(
    ("streams", "limit", "slices"),
    [(2, 262144, 4), (4, 262144, 4), (5, 262144, 3), (8, 262144, 2), (9, 262144, 1), (2, 65536, 2), (2, 16384, 1)],
)
def test_a_turn_is_as_many_slices_as_a_flush_holds_of_each(streams: int, limit: int, slices: int) -> None:
    link = Link(BIG).greet()
    ids = [link.stream() for _ in range(streams)]
    for stream_id in ids:
        link.acceptor.send(stream_id, bytes(1_000_000))
    sent = joined(link.acceptor.data_to_send(limit))
    turns = [(stream, len(data)) for _, stream, data in frames(sent)]
    assert turns[: min(streams, len(turns))] == [(stream, slices * 16384 - 8) for stream in ids][: len(turns)]
    assert len(sent) <= max(limit, 16384), "frames fill records, and the last one passes the limit by nothing"


def test_one_that_has_little_meets_slices_however_much_leaves_together() -> None:
    link = Link(BIG).greet()
    bulk, *small = (link.stream() for _ in range(3))
    link.acceptor.send(bulk, bytes(1_000_000))
    link.acceptor.data_to_send(1)
    for stream_id in small:
        link.acceptor.send(stream_id, bytes(16376))
    sent = [(stream, len(data)) for _, stream, data in frames(joined(link.acceptor.data_to_send(262144)))]
    assert sent[:4] == [(small[0], 16376), (bulk, 16376), (small[1], 16376), (bulk, 65528)]


def test_a_short_flush_takes_a_short_frame_of_a_stream_that_is_alone() -> None:
    """On a slow path a flush is a record, and a frame of four of them would hold up whatever is urgent."""
    link = Link(BIG).greet()
    one = link.stream()
    link.acceptor.send(one, bytes(200000))
    for limit, wanted in ((1, [16376]), (16384, [16376]), (40000, [39992]), (100000, [65528, 34456])):
        sent = frames(joined(link.acceptor.data_to_send(limit)))
        assert [len(data) for _, _, data in sent] == wanted, limit


def test_a_small_answer_does_not_wait_for_every_downloads_turn() -> None:
    link = Link(BIG).greet()
    bulk = [link.stream() for _ in range(3)]
    small = link.stream()
    for stream_id in bulk:
        link.acceptor.send(stream_id, bytes(100000))
    link.acceptor.data_to_send(1)
    link.acceptor.send(small, b"answer")
    sent = [(stream, len(data)) for _, stream, data in frames(joined(link.acceptor.data_to_send(40000)))]
    assert sent == [(small, 6), (bulk[1], 16376), (bulk[2], 16376), (bulk[0], 16376)]


def test_small_answers_leave_half_of_the_link_to_downloads() -> None:
    link = Link(BIG).greet()
    bulk, *small = (link.stream() for _ in range(9))
    link.acceptor.send(bulk, bytes(1_000_000))
    link.acceptor.data_to_send(1)
    for stream_id in small:
        link.acceptor.send(stream_id, bytes(16376))
    order = []
    for _ in range(16):  # the small ones are never done: each has something new as soon as it has sent
        for _, stream, _ in frames(joined(link.acceptor.data_to_send(16384))):
            order.append(stream)
            if stream != bulk:
                link.acceptor.send(stream, bytes(16376))
    assert order == [stream for number in range(8) for stream in (small[number], bulk)]


def test_a_small_answer_that_grows_or_goes_while_it_waits() -> None:
    link = Link(BIG).greet()
    bulk, grown, gone = (link.stream() for _ in range(3))
    link.acceptor.send(bulk, bytes(50000))
    link.acceptor.data_to_send(1)
    for stream_id in (gone, grown):
        link.acceptor.send(stream_id, b"small")
    link.acceptor.send(grown, bytes(30000))
    link.acceptor.reset(gone, ResetCode.CANCELLED, delivered=True, cancel=True)
    reset, *data = frames(joined(link.acceptor.data_to_send(65535)))
    assert reset[:2] == (F.RESET, gone)
    assert [(kind, stream, len(piece)) for kind, stream, piece in data] == [
        (F.DATA, grown, 16376),
        (F.DATA, bulk, 16376),
        (F.DATA, grown, 13629),
        (F.DATA, bulk, 17248),
    ]
    assert not link.acceptor.has_data


def test_turns_go_on_where_the_last_flush_stopped() -> None:
    link = Link(BIG).greet()
    ids = [link.stream() for _ in range(4)]
    for stream_id in ids:
        link.acceptor.send(stream_id, bytes(100000))
    turns = [frames(joined(link.acceptor.data_to_send(1)))[0][1] for _ in range(12)]
    assert turns == ids * 3


def test_many_small_writes_are_one_frame_by_reference() -> None:
    link = Link().greet()
    stream_id = link.stream()
    pieces = [b"a" * 100, b"b" * 200, b"c" * 300]
    for piece in pieces:
        link.acceptor.send(stream_id, piece)
    header, *rest = link.acceptor.data_to_send(1 << 20)
    assert header == b"\x00\x02\x58\x06\x00\x00\x00\x01"
    assert all(sent is piece for sent, piece in zip(rest, pieces, strict=True))


def test_an_early_answer_arrives_whole() -> None:
    """A service answers 413 and hangs up while the upload runs."""
    link = Link().greet()
    stream_id = link.stream()
    link.acceptor.send(stream_id, bytes(60000))
    link.settle()
    link.acceptor.send(stream_id, bytes(60000))  # more than the credit left: waits
    answer = b"413" * 50000
    link.dialler.send(stream_id, answer)
    link.dialler.end(stream_id)
    link.dialler.reset(stream_id, ResetCode.SERVICE_FAILED, delivered=True)
    assert link.dialler.held == 0
    received = b""
    while link.dialler.open_streams:
        _, events = link.settle()
        data = octets(events, stream_id)
        received += data
        link.acceptor.acknowledge(stream_id, len(data), 0.0)
    assert received == answer
    assert [type(event).__name__ for event in events[-3:]] == ["StreamEnded", "StreamWasReset", "StreamClosed"]
    assert link.acceptor.queued(stream_id) == 0
    assert link.acceptor.open_streams == 0


def test_a_cancel_drops_what_is_queued_on_both_sides() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(200000))
    link.settle()
    link.acceptor.send(stream_id, bytes(1000))
    link.acceptor.acknowledge(stream_id, 65536, 0.0)
    link.acceptor.reset(stream_id, ResetCode.CANCELLED, "visitor left", delivered=True, cancel=True)
    assert link.acceptor.take_events() == [StreamClosed(stream_id)]
    sent = joined(link.acceptor.data_to_send(1 << 20))
    reset = encode(Reset(code=0, message="visitor left"))
    assert [frame for frame in frames(sent) if frame[0] != F.PING] == [(F.RESET, stream_id, reset)]
    assert link.dialler.receive_data(sent, 0.0) == [
        StreamWasReset(stream_id, 0, "visitor left", True),
        StreamClosed(stream_id),
    ]
    assert link.dialler.queued(stream_id) == 0


def test_a_cancel_overrides_a_reset_that_waits() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(200000))
    link.dialler.reset(stream_id, ResetCode.SERVICE_FAILED, delivered=True)
    link.settle()
    assert link.dialler.open_streams == 1
    link.dialler.send(stream_id, b"ignored")
    link.dialler.accept(stream_id)
    link.dialler.end(stream_id)
    link.dialler.acknowledge(stream_id, 1, 0.0)
    link.dialler.reset(stream_id, ResetCode.TIMED_OUT, delivered=True, cancel=True)
    _, events = link.settle()
    assert events == [StreamWasReset(stream_id, ResetCode.TIMED_OUT, "", True), StreamClosed(stream_id)]


def test_a_stream_cancelled_before_its_open_left_was_never_there() -> None:
    link = Link().greet()
    first, second = link.acceptor.open(HTTP, 0.0), link.acceptor.open(HTTP, 0.0)
    link.acceptor.send(first, b"x")
    link.acceptor.reset(first, ResetCode.CANCELLED, delivered=False, cancel=True)
    assert link.acceptor.take_events() == [StreamClosed(first)]
    events, _ = link.settle()
    assert events == [StreamOpened(second, HTTP)]


def test_grants_of_one_stream_leave_as_one_window() -> None:
    link = Link(SessionConfig(max_window=65536)).greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(65536))
    link.settle()
    link.acceptor.acknowledge(stream_id, 32768, 0.0)
    link.acceptor.acknowledge(stream_id, 32768, 0.0)
    sent = frames(joined(link.acceptor.data_to_send(1 << 20)))
    assert [frame for frame in sent if frame[0] == F.WINDOW] == [(F.WINDOW, stream_id, (65536).to_bytes(4, "big"))]


def test_no_credit_is_granted_to_a_half_that_ended() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(65536))
    link.dialler.end(stream_id)
    link.settle()
    link.acceptor.acknowledge(stream_id, 65536, 0.0)
    assert not link.acceptor.has_data


def test_an_end_waits_for_credit_behind_its_data() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(65537))
    link.dialler.end(stream_id)
    assert (F.DATA | END, stream_id) not in kinds(joined(link.dialler.data_to_send(1 << 20)))
    link.dialler.receive_data(encode_frame(F.WINDOW, stream_id, b"\0\0\0\1"), 0.0)
    assert kinds(joined(link.dialler.data_to_send(1 << 20))) == [(F.DATA | END, stream_id)]
    assert of(StreamClosed, link.dialler.take_events()) == []


def test_two_resets_behind_data_do_not_wait_for_each_other() -> None:
    link = Link().greet()
    stream_id = link.stream()
    both = (link.dialler, link.acceptor)
    for session in both:
        session.send(stream_id, bytes(300_000))
        if session is link.dialler:
            link.settle()  # some of it is with the application when that resets
        session.reset(stream_id, ResetCode.SERVICE_FAILED, delivered=True)
    link.settle()
    assert [session.open_streams for session in both] == [0, 0]
    assert [session.held for session in both] == [0, 0]


def test_a_reset_that_waits_grants_nothing_to_a_half_that_ended() -> None:
    link = Link().greet()
    stream_id = link.stream()
    link.acceptor.send(stream_id, bytes(65536))
    link.acceptor.end(stream_id)
    link.settle()
    link.dialler.send(stream_id, bytes(65537))
    link.dialler.reset(stream_id, ResetCode.SERVICE_FAILED, delivered=True)
    assert [kind for kind, _ in kinds(joined(link.dialler.data_to_send(1 << 20)))] == [F.DATA, F.DATA]
    link = Link().greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(65537))
    link.dialler.reset(stream_id, ResetCode.SERVICE_FAILED, delivered=True)
    link.dialler.data_to_send(1 << 20)
    link.dialler.receive_data(encode_frame(F.DATA | END, stream_id, bytes(60000)), 0.0)
    assert not link.dialler.has_data


def test_data_over_credit_behind_a_reset_that_waits() -> None:
    link = Link(SessionConfig(initial_credit=1024)).greet()
    stream_id = link.stream()
    link.dialler.send(stream_id, bytes(1025))
    link.dialler.reset(stream_id, ResetCode.SERVICE_FAILED, delivered=True)
    link.dialler.data_to_send(1 << 20)
    events = link.dialler.receive_data(encode_frame(F.DATA, stream_id, bytes(1025)), 0.0)
    assert events == [StreamClosed(stream_id)]
    assert kinds(joined(link.dialler.data_to_send(1 << 20))) == [(F.RESET, stream_id)]


def test_what_stands_in_line_stays_there_through_silence() -> None:
    link = Link(BIG, BIG).greet()
    edge = link.acceptor
    one, two = link.stream(), link.stream()
    edge.send(one, bytes(40000))
    edge.send(two, bytes(40000))
    edge.handle_timer(5.0)  # nothing was heard, and nothing written, for so long
    sent = frames(joined(edge.data_to_send(1 << 20)))
    assert {stream: sum(len(data) for _, at, data in sent if at == stream) for stream in (one, two)} == {
        one: 40000,
        two: 40000,
    }
    edge.handle_timer(10.0)  # now the line is empty
    edge.send(two, bytes(40000))
    assert (F.DATA, two) in kinds(joined(edge.data_to_send(1 << 20)))


def test_a_small_answer_that_grows_where_nothing_ever_stood_in_line() -> None:
    link = Link(BIG, BIG).greet()
    edge, answer = link.acceptor, link.stream()
    edge.handle_timer(5.0)
    edge.send(answer, b"small")
    edge.send(answer, bytes(60000))
    sent = frames(joined(edge.data_to_send(1 << 20)))
    assert b"".join(data for kind, stream, data in sent if (kind, stream) == (F.DATA, answer)) == b"small" + bytes(
        60000
    )
