"""Streams as transports, over two links in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport, ITransport
from twisted.internet.protocol import Protocol
from zope.interface.verify import verifyObject

from tests.tunnel.links import HTTP, TCP, VISITED, Echo, HalfReader, Pair, PushProducer, Reader
from wormhole_tw.errors import MisuseError, StreamReset
from wormhole_tw.tunnel.addresses import WormholeAddress
from wormhole_tw.tunnel.stream import LINGER, STREAM_BUFFER
from wormhole_tw.wire.codes import ResetCode
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Open, Visitor


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def test_it_is_what_it_says(pair: Pair) -> None:
    stream, _ = pair.open()
    for interface in (ITransport, ITCPTransport, IConsumer, IPushProducer):
        assert verifyObject(interface, stream)
    assert stream.getTcpNoDelay() is True
    assert stream.getTcpKeepAlive() is True
    stream.setTcpNoDelay(False)
    stream.setTcpKeepAlive(False)
    assert "open" in repr(stream)
    with pytest.raises(TypeError):
        stream.write("text")  # type: ignore[arg-type]


def test_bytes_go_both_ways(pair: Pair) -> None:
    near, _ = pair.open_both(far=(far := HalfReader()))
    near.transport.write(b"question ")
    near.transport.writeSequence([b"of ", b"", b"mine"])
    pair.run()
    assert far.data == b"question of mine"
    far.transport.write(b"answer")
    pair.run()
    assert near.data == b"answer"
    assert near.said == far.said == []


def test_an_echo_of_a_megabyte_through_small_windows(pair: Pair) -> None:
    near, _ = pair.open_both(far=Echo())
    sent = bytes(range(256)) * 4096
    near.transport.write(sent)
    pair.run()
    assert near.data == sent


def test_half_close_by_the_opener_first(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.write(b"all of it")
    near.transport.loseWriteConnection()
    near.transport.write(b"too late")
    pair.run()
    assert far.data == b"all of it"
    assert far.said == ["read ended"]
    assert near.said == ["write ended"]
    far.transport.write(b"and the answer")
    far.transport.loseConnection()
    pair.run()
    assert near.data == b"and the answer"
    assert near.said == ["write ended", "read ended", "lost"]
    assert far.said == ["read ended", "lost"]
    assert type(near.error) is type(far.error) is ConnectionDone
    assert pair.near.load == pair.far.load == 0


def test_half_close_by_the_other_side_first(pair: Pair) -> None:
    near, far = pair.open_both()
    far.transport.write(b"hello")
    far.transport.loseWriteConnection()
    pair.run()
    assert near.data == b"hello"
    assert near.said == ["read ended"]
    near.transport.write(b"still here")
    near.transport.loseWriteConnection()
    pair.run()
    assert far.data == b"still here"
    assert far.said == ["write ended", "read ended", "lost"]


def test_the_end_closes_a_protocol_that_knows_no_half_close(pair: Pair) -> None:
    near, far = pair.open_both(far=Reader(), near=HalfReader())
    far.transport.write(b"x" * 100_000)
    near.transport.loseWriteConnection()
    pair.run()
    assert len(near.data) == 100_000
    assert type(far.error) is ConnectionDone
    assert near.said == ["write ended", "read ended", "lost"]


def test_lose_connection_sends_what_was_written(pair: Pair) -> None:
    near, far = pair.open_both(far=Reader())
    near.transport.write(b"y" * 300_000)
    near.transport.loseConnection()
    near.transport.loseConnection()
    assert near.said == []
    pair.run()
    assert len(far.data) == 300_000
    assert type(near.error) is type(far.error) is ConnectionDone


def test_what_comes_after_lose_connection_is_dropped_and_then_refused(pair: Pair) -> None:
    """An early answer arrives whole, and the upload that it answers is stopped."""
    near, far = pair.open_both()
    upload = PushProducer(near.transport)
    upload.start()
    for _ in range(20):
        pair.step()
    far.transport.write(b"413")
    far.transport.loseConnection()
    pair.run()
    assert near.data == b"413"
    assert near.said == ["read ended", "lost"]
    assert isinstance(near.error, StreamReset)
    assert near.error.code == ResetCode.CANCELLED
    assert upload.stopped
    assert far.said == ["lost"]
    assert type(far.error) is ConnectionDone
    assert pair.near.load == pair.far.load == 0


def test_a_peer_that_does_not_end_is_reset_after_a_while(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.loseConnection()
    pair.run()
    assert far.said == ["read ended"]
    pair.pass_time(LINGER - 1)
    assert near.said == []
    pair.pass_time(2)
    assert type(near.error) is ConnectionDone
    assert far.error.code == ResetCode.CANCELLED


def test_lingering_waits_while_our_own_data_leaves(pair: Pair) -> None:
    near, far = pair.open_both()
    far.transport.pauseProducing()
    near.transport.write(b"z" * 500_000)
    near.transport.loseConnection()
    pair.pass_time(3 * LINGER)
    assert near.said == []
    far.transport.resumeProducing()
    pair.run()
    assert len(far.data) == 500_000
    pair.pass_time(2 * LINGER)
    assert near.said == ["lost"]
    assert far.said == ["read ended", "lost"]


def test_lose_connection_after_half_close_lingers_too(pair: Pair) -> None:
    near, _ = pair.open_both()
    near.transport.loseWriteConnection()
    pair.run()
    near.transport.loseConnection()
    pair.pass_time(LINGER + 1)
    assert type(near.error) is ConnectionDone


def test_abort(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.write(b"never seen")
    near.transport.abortConnection()
    near.transport.abortConnection()
    assert near.said == [], "not from inside the call"
    pair.run()
    assert type(near.error) is ConnectionAborted
    assert far.data == b""
    assert far.error.code == ResetCode.CANCELLED
    near.transport.write(b"nothing")
    near.transport.loseConnection()
    near.transport.abortConnection()
    pair.run()


def test_reset_keeps_its_place_behind_the_data(pair: Pair) -> None:
    near, far = pair.open_both()
    far.transport.write(b"a" * 200_000)
    far.transport.reset(ResetCode.SERVICE_FAILED, "it broke", delivered=True)
    pair.run()
    assert len(near.data) == 200_000
    assert (near.error.code, near.error.message, near.error.delivered) == (ResetCode.SERVICE_FAILED, "it broke", True)
    assert far.error.code == ResetCode.SERVICE_FAILED


def test_reset_before_accept_is_undelivered(pair: Pair) -> None:
    pair.far_owner.on_stream = lambda stream: stream.reset(ResetCode.REFUSED, "no service", delivered=False)
    _, near = pair.open()
    near.transport.write(b"request")
    pair.run()
    assert near.error.code == ResetCode.REFUSED
    assert near.error.delivered is False


def test_a_paused_reader_gets_all_before_the_reset(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.pauseProducing()
    far.transport.write(b"b" * 30_000)
    pair.run()
    far.transport.reset(ResetCode.SERVICE_FAILED, delivered=True)
    pair.run()
    assert near.received == []
    assert near.said == []
    near.transport.write(b"into the void")
    near.transport.resumeProducing()
    assert near.received == [], "not from inside the call"
    pair.run()
    assert len(near.data) == 30_000
    assert near.error.code == ResetCode.SERVICE_FAILED


def test_a_paused_reader_gets_all_before_the_end_of_the_link(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.pauseProducing()
    far.transport.write(b"c" * 30_000)
    pair.run()
    pair.far.abort()
    pair.run()
    assert near.said == []
    near.transport.resumeProducing()
    pair.run()
    assert len(near.data) == 30_000
    assert near.error.code == ResetCode.LINK_LOST


def test_a_paused_reader_hears_of_a_cancel_at_once(pair: Pair) -> None:
    near, far = pair.open_both()
    far.transport.pauseProducing()
    near.transport.write(b"upload")
    pair.run()
    near.transport.abortConnection()
    pair.run()
    assert far.data == b""
    assert far.error.code == ResetCode.CANCELLED


def test_a_stream_not_accepted_hears_of_any_end_at_once(pair: Pair) -> None:
    far = HalfReader()
    pair.far_owner.on_stream = lambda stream: (stream.attach(far), stream.pauseProducing())
    _, near = pair.open()
    near.transport.write(b"request")
    pair.run()
    pair.near.abort()
    pair.run()
    assert far.data == b""
    assert far.error.code == ResetCode.LINK_LOST


def test_an_answer_cut_off_by_its_reader_arrives_as_far_as_its_end(pair: Pair) -> None:
    """END, then RESET(cancelled): a paused reader still gets the data and the END."""
    near, far = pair.open_both()
    upload = PushProducer(near.transport)
    near.transport.pauseProducing()
    far.transport.write(b"413")
    far.transport.loseConnection()
    upload.start()
    pair.run()
    assert near.said == []
    near.transport.resumeProducing()
    pair.run()
    assert near.data == b"413"
    assert near.said == ["read ended", "lost"]


def test_pausing_holds_back_one_window_and_no_other_stream(pair: Pair) -> None:
    slow, far_slow = pair.open_both()
    near, far = pair.open_both()
    slow.transport.pauseProducing()
    producer = PushProducer(far_slow.transport)
    producer.start()
    pair.run()
    window = SessionConfig().initial_credit
    assert producer.written <= window + STREAM_BUFFER + 2 * 16384
    assert pair.near.session.held <= window
    far.transport.write(b"d" * 1_000_000)
    pair.run()
    assert len(near.data) == 1_000_000
    assert slow.received == []
    slow.transport.resumeProducing()
    for _ in range(200):
        pair.step()
    assert len(slow.data) > window
    producer.stopProducing()


def test_pausing_in_the_middle_of_what_was_held(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.pauseProducing()
    for letter in b"abcdef":
        far.transport.write(bytes([letter]) * 1000)
        pair.run()
    far.transport.loseConnection()
    pair.run()

    def one_at_a_time(data: bytes) -> None:
        near.received.append(data)
        near.transport.pauseProducing()

    near.on_data = one_at_a_time
    for count in range(1, 7):
        assert near.said == []
        near.transport.resumeProducing()
        pair.run()
        assert len(near.received) == count
    assert near.said == [], "the end waits for the reader too"
    near.transport.resumeProducing()
    pair.run()
    assert near.said == ["read ended"]


def test_a_window_of_tiny_frames_is_held_in_few_pieces(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.pauseProducing()
    sent = b""
    for number in range(2000):
        piece = number.to_bytes(2, "big")
        sent += piece
        far.transport.write(piece)
        pair.run()
    near.transport.resumeProducing()
    pair.run()
    assert near.data == sent
    assert len(near.received) < 20


def test_lose_connection_while_paused_drops_what_is_held(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.pauseProducing()
    far.transport.write(b"e" * 65536)
    far.transport.loseWriteConnection()
    pair.run()
    near.transport.loseConnection()
    near.transport.resumeProducing()
    pair.run()
    assert near.received == []
    assert type(near.error) is ConnectionDone
    assert far.said == ["write ended", "read ended", "lost"]
    assert pair.near.session.held == 0


def test_abort_with_an_end_that_waits_for_the_reader(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.pauseProducing()
    far.transport.write(b"f" * 100)
    far.transport.reset(ResetCode.TIMED_OUT, delivered=True)
    pair.run()
    near.transport.abortConnection()
    pair.run()
    assert near.received == []
    assert near.error.code == ResetCode.TIMED_OUT


def test_lose_connection_with_an_end_that_waits_for_the_reader(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.pauseProducing()
    far.transport.write(b"f" * 100)
    far.transport.reset(ResetCode.TIMED_OUT, delivered=True)
    pair.run()
    near.transport.loseConnection()
    assert near.said == []
    pair.run()
    assert near.said == ["lost"]


def test_push_producer(pair: Pair) -> None:
    near, far = pair.open_both()
    far.transport.pauseProducing()
    producer = PushProducer(near.transport, total=2_000_000)
    producer.start()
    with pytest.raises(RuntimeError):
        near.transport.registerProducer(producer, True)
    pair.run()
    assert producer.pauses
    assert producer.written < 65536 + STREAM_BUFFER + 2 * 16384
    near.transport.loseConnection()
    assert not producer.stopped, "it may finish first"
    far.transport.resumeProducing()
    pair.run()
    assert len(far.data) == 2_000_000
    assert far.said == ["read ended"]


class Pull:
    """A pull producer: one piece a call."""

    def __init__(self, consumer: Any, pieces: int, size: int) -> None:
        self.consumer, self.pieces, self.size = consumer, pieces, size
        self.stopped = False

    def resumeProducing(self) -> None:
        assert self.pieces > 0
        self.pieces -= 1
        self.consumer.write(b"p" * self.size)
        if not self.pieces:
            self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped = True


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_pull_producer(pair: Pair, size: int) -> None:
    near, far = pair.open_both()
    far.transport.pauseProducing()
    pull = Pull(near.transport, 20, size)
    near.transport.registerProducer(pull, False)
    near.transport.loseWriteConnection()
    pair.run()
    assert (20 - pull.pieces) * size <= 65536 + STREAM_BUFFER + 2 * size
    far.transport.resumeProducing()
    pair.run()
    assert len(far.data) == 20 * size
    assert far.said == ["read ended"]


def test_a_producer_is_stopped_when_nothing_can_be_written(pair: Pair) -> None:
    near, far = pair.open_both()
    producer = PushProducer(near.transport)
    producer.start()
    far.transport.abortConnection()
    pair.run()
    assert producer.stopped
    late = PushProducer(near.transport)
    near.transport.registerProducer(late, True)
    assert late.stopped
    half, _ = pair.open_both()
    half.transport.loseWriteConnection()
    later = PushProducer(half.transport)
    half.transport.registerProducer(later, True)
    assert later.stopped


def test_stop_producing_closes(pair: Pair) -> None:
    near, far = pair.open_both(far=Reader())
    near.transport.stopProducing()
    pair.run()
    assert type(near.error) is type(far.error) is ConnectionDone


def test_data_before_a_protocol_is_attached(pair: Pair) -> None:
    _, near = pair.open()
    near.transport.write(b"early")
    near.transport.loseWriteConnection()
    pair.run()
    (stream,) = pair.far_owner.streams
    far = HalfReader()
    stream.attach(far)
    with pytest.raises(MisuseError):
        stream.attach(far)
    assert far.received == []
    pair.run()
    assert far.data == b"early"
    assert far.said == ["read ended"]


def test_attach_to_a_stream_that_has_ended(pair: Pair) -> None:
    _, near = pair.open()
    near.transport.write(b"early")
    pair.run()
    near.transport.abortConnection()
    pair.run()
    (stream,) = pair.far_owner.streams
    far = HalfReader()
    stream.attach(far)
    assert far.said == []
    pair.run()
    assert far.error.code == ResetCode.CANCELLED


def test_accept_may_come_at_any_time(pair: Pair) -> None:
    _, near = pair.open(TCP)
    pair.run()
    (stream,) = pair.far_owner.streams
    far = HalfReader()
    stream.attach(far)
    stream.write(b"writing says it too")
    stream.accept()
    stream.accept()
    pair.run()
    assert near.data == b"writing says it too"
    assert near.transport.accepted
    near.transport.accept()
    near.transport.abortConnection()
    pair.run()
    stream.accept()


class Bug(Exception):
    pass


def test_a_bug_of_the_application_ends_its_own_stream(pair: Pair, logged_failures: Any) -> None:
    near, far = pair.open_both()
    other, other_far = pair.open_both()

    def fail(data: bytes) -> None:
        raise Bug

    far.on_data = fail
    near.transport.write(b"1")
    near.transport.write(b"2")
    other.transport.write(b"3")
    pair.run()
    assert len(logged_failures.flush(Bug)) == 1
    assert isinstance(far.error, Bug)
    assert near.error.code == ResetCode.INTERNAL
    assert other_far.data == b"3"


class Clumsy(HalfReader):
    def readConnectionLost(self) -> None:
        raise Bug

    def writeConnectionLost(self) -> None:
        raise Bug

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        raise Bug


class ClumsyProducer:
    def stopProducing(self) -> None:
        raise Bug


def test_bugs_at_the_ends_are_logged(pair: Pair, logged_failures: Any) -> None:
    near, far = pair.open_both(far=Clumsy())
    far.transport.registerProducer(ClumsyProducer(), True)
    near.transport.loseWriteConnection()
    pair.run()
    assert len(logged_failures.flush(Bug)) == 3
    near, far = pair.open_both(near=Clumsy())
    near.transport.loseWriteConnection()
    pair.run()
    assert len(logged_failures.flush(Bug)) == 2
    assert far.error.code == ResetCode.INTERNAL


def test_addresses(pair: Pair) -> None:
    pair.far_owner.on_stream = lambda stream: stream.attach(HalfReader())
    shared, _ = pair.open()
    dedicated, _ = pair.open(VISITED)
    six, _ = pair.open(Open(kind="tcp", dedicated=True, visitor=Visitor(address="2001:db8::7", port=1)))
    pair.run()
    assert shared.getPeer() == WormholeAddress("s-1", shared.stream_id)
    assert dedicated.getPeer() == dedicated.getHost() == WormholeAddress("s-1", dedicated.stream_id)
    far_shared, far_dedicated, far_six = pair.far_owner.streams
    assert far_shared.getPeer() == far_shared.getHost() == WormholeAddress("s-1", shared.stream_id)
    assert far_dedicated.getPeer() == IPv4Address("TCP", "192.0.2.44", 5555)
    assert far_dedicated.getHost() == HostnameAddress(b"app.test", 443)
    assert far_six.getPeer() == IPv6Address("TCP", "2001:db8::7", 1)
    assert far_six.getHost() == WormholeAddress("s-1", six.stream_id)
    assert shared.open_message == HTTP


def test_one_flush_a_turn(pair: Pair) -> None:
    """Whatever many streams write in a turn leaves in one write."""
    protocols = [pair.open_both(far=Protocol())[0] for _ in range(50)]
    writes: list[int] = []
    write = pair.near_end.write

    def counted(data: bytes) -> None:
        writes.append(len(data))
        write(data)

    pair.near_end.write = counted  # type: ignore[method-assign]
    for protocol in protocols:
        protocol.transport.write(b"g" * 20)
        protocol.transport.write(b"h" * 20)
    assert writes == []
    pair.clock.advance(0)
    assert len(writes) == 1


def test_a_transport_gets_no_more_than_keeps_it_busy(pair: Pair) -> None:
    for _ in range(40):
        near, _far = pair.open_both()
        near.transport.write(b"i" * 60_000)
    pair.run()
    assert pair.near_end.most <= 2 * 65536 + 16384
    near, _far = pair.open_both()
    unbounded = pair.near_end
    unbounded.capacity = 10**9
    unbounded.most = 0
    for _ in range(40):
        near, _far = pair.open_both()
        near.transport.write(b"i" * 60_000)
    pair.clock.advance(0)
    assert unbounded.most <= 128 * 1024 + 65536


def test_256_streams_and_one_that_is_never_read() -> None:
    pair = Pair(capacity=65536)
    ends = [pair.open_both() for _ in range(256)]
    never = ends[100][0]
    never.transport.pauseProducing()
    for _, far in ends:
        far.transport.write(b"j" * 200_000)
    pair.run()
    for near, _ in ends:
        assert len(near.data) == (0 if near is never else 200_000)
    assert pair.near.session.held <= 65536
    never.transport.resumeProducing()
    pair.run()
    assert len(never.data) == 200_000
    pair.close()
