"""The life of a link: start, liveness, GOAWAY, drain, and what its owner is told when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from tests.fakes import BoundedTransport
from tests.tunnel.links import HTTP, Echo, HalfReader, Owner, Pair, hello
from wormhole_tw.errors import LinkLost, LinkRefused, MisuseError, NotAnEdge, StreamReset, TunnelProtocolError
from wormhole_tw.net.turn import TurnEnd
from wormhole_tw.tunnel.ending import CLOSE_TIMEOUT
from wormhole_tw.tunnel.protocol import LinkProtocol
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.frames import PREFACE, FrameType, encode_frame
from wormhole_tw.wire.messages import Goaway, Welcome, encode
from wormhole_tw.wire.session import Side


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


class Alone:
    """One link, with the test as its peer."""

    def __init__(self, side: Side = Side.DIALLER, name: str = "edge.test:443") -> None:
        self.clock: Any = Clock()
        self.owner = Owner()
        self.link = LinkProtocol(
            self.clock,
            side,
            SessionConfig(),
            self.owner,
            turn=TurnEnd(self.clock),
            hello=hello() if side is Side.DIALLER else None,
            peer_name=name,
        )
        self.end = BoundedTransport(self.link)
        self.link.makeConnection(self.end)  # type: ignore[arg-type]
        self.clock.advance(0)

    def close(self) -> None:
        self.link.abort()
        self.clock.advance(0)
        assert not self.clock.getDelayedCalls()


def test_hello_and_welcome(pair: Pair) -> None:
    assert pair.near_owner.said == ["hello"]
    assert pair.far_owner.said == ["welcomed"]
    assert pair.near.session_id == pair.far.session_id == "s-1"
    assert pair.near.hello_message is None, "the token is its owner's alone"
    assert pair.far.welcome_message is not None
    assert pair.far.welcome_message.edge == "edge-1"
    assert pair.near.can_open
    assert not pair.far.can_open, "an agent opens nothing"
    assert not pair.near.draining
    assert pair.near.peer_address is not None


def test_a_hello_belongs_to_the_dialling_side() -> None:
    clock: Any = Clock()
    with pytest.raises(MisuseError):
        LinkProtocol(clock, Side.DIALLER, SessionConfig(), Owner(), turn=TurnEnd(clock))
    with pytest.raises(MisuseError):
        LinkProtocol(clock, Side.ACCEPTOR, SessionConfig(), Owner(), turn=TurnEnd(clock), hello=hello())


def test_welcome_may_take_its_time() -> None:
    pair = Pair(connected=False)
    pair.near_owner.on_hello = lambda link, hello: None
    pair.run()
    assert pair.near_owner.said == ["hello"]
    assert not pair.near.standing
    pair.pass_time(5)
    pair.near.welcome(Welcome(session="later"))
    pair.far.set_status(True)
    pair.run()
    assert pair.far.session_id == "later"
    assert pair.near_owner.ready == (True, "")
    assert pair.near.peer_ready
    pair.close()


def test_status(pair: Pair) -> None:
    assert not pair.near.peer_ready
    pair.far.set_status(False, "the service does not answer")
    pair.run()
    assert pair.near_owner.ready == (False, "the service does not answer")
    pair.far.set_status(True)
    pair.run()
    assert pair.near.peer_ready


def test_a_refusal() -> None:
    pair = Pair(connected=False)
    pair.near_owner.on_hello = lambda link, hello: link.fail(
        GoawayCode.UNAUTHORIZED, "the edge does not know this token", retry_after=30.0
    )
    pair.run()
    reason = pair.far_owner.reason
    assert isinstance(reason, LinkRefused)
    assert (reason.code, reason.message, reason.retry_after) == (
        GoawayCode.UNAUTHORIZED,
        "the edge does not know this token",
        30.0,
    )
    assert isinstance(pair.near_owner.reason, LinkLost)
    assert not pair.clock.getDelayedCalls()


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"<html>", b"220 mail\r\n", b"\x00" * 64],
)
@pytest.mark.parametrize("piece", [1, 1000])
def test_not_an_edge(answer: bytes, piece: int) -> None:
    alone = Alone()
    for start in range(0, len(answer), piece):
        alone.end.deliver(answer[start : start + piece])
    alone.end.lose()
    alone.clock.advance(0)
    assert isinstance(alone.owner.reason, NotAnEdge)
    assert "edge.test:443" in str(alone.owner.reason)
    assert not alone.clock.getDelayedCalls()


def test_an_edge_that_closes_without_a_word() -> None:
    alone = Alone()
    alone.end.lose()
    assert type(alone.owner.reason) is LinkLost
    assert "before it said WELCOME" in str(alone.owner.reason)
    broken = Alone()
    broken.end.lose(ConnectionLost("cable cut"))
    assert type(broken.owner.reason) is LinkLost
    assert isinstance(broken.owner.reason.__cause__, ConnectionLost)
    assert not broken.clock.getDelayedCalls()


def test_an_edge_that_says_nothing() -> None:
    alone = Alone()
    alone.clock.advance(SessionConfig().hello_timeout)
    alone.clock.advance(0)
    alone.end.take_all()
    alone.clock.advance(CLOSE_TIMEOUT)
    assert isinstance(alone.owner.reason, TunnelProtocolError)
    assert alone.owner.reason.code == GoawayCode.TIMED_OUT
    assert not alone.clock.getDelayedCalls()


def test_a_peer_that_breaks_the_protocol() -> None:
    alone = Alone(Side.ACCEPTOR)
    alone.end.deliver(PREFACE + encode_frame(FrameType.PING, 0, bytes(8)))
    alone.clock.advance(0)
    said = alone.end.take_all()
    assert said[3] == FrameType.GOAWAY
    assert isinstance(alone.owner.reason, TunnelProtocolError)
    assert not alone.clock.getDelayedCalls()


def test_a_visitor_at_the_tunnels_door() -> None:
    alone = Alone(Side.ACCEPTOR)
    alone.end.deliver(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    alone.clock.advance(0)
    alone.end.take_all()
    assert isinstance(alone.owner.reason, TunnelProtocolError)
    assert not alone.clock.getDelayedCalls()


def test_a_peer_that_does_not_read_our_goaway_is_aborted() -> None:
    alone = Alone(Side.ACCEPTOR)
    alone.link.fail(GoawayCode.OVER_LIMIT, "too much")
    alone.link.fail(GoawayCode.OVER_LIMIT, "too much")
    alone.clock.advance(0)
    assert alone.end.queued
    alone.clock.advance(CLOSE_TIMEOUT - 0.1)
    assert not alone.end.disconnected
    alone.clock.advance(0.2)
    assert alone.end.disconnected
    assert not alone.clock.getDelayedCalls()


def test_liveness_of_a_quiet_link(pair: Pair) -> None:
    pair.pass_time(60)
    assert pair.near.standing
    assert pair.far.standing
    assert pair.near.rtt is not None


def test_a_silent_peer_is_dead_in_time(pair: Pair) -> None:
    _near, far = pair.open_both()
    pair.near_end.take_all()
    start = pair.clock.seconds()
    while not pair.far_end.disconnected:
        pair.clock.advance(0.25)
        pair.far_end.take_all()
    assert 11.5 <= pair.clock.seconds() - start <= 12.5
    assert far.error.code == ResetCode.LINK_LOST
    assert isinstance(pair.far_owner.reason, LinkLost)
    assert "silent" in str(pair.far_owner.reason)


def test_the_loss_of_a_link_ends_its_streams(pair: Pair) -> None:
    near, far = pair.open_both()
    near.transport.write(b"x")
    pair.run()
    lost = pair.near.when_lost()
    cancelled = pair.near.when_lost()
    cancelled.addErrback(lambda _: None)
    cancelled.cancel()
    fresh = pair.near.open(HTTP)
    waiting = HalfReader()
    fresh.attach(waiting)
    pair.near_end.lose()
    assert lost.called
    assert pair.near.when_lost().called
    assert pair.near_owner.said[-1] == "lost"
    assert near.error.delivered is True
    assert waiting.error.delivered is False, "its OPEN never left"
    assert far.said == []
    pair.run()
    assert far.error.code == ResetCode.LINK_LOST
    assert fresh.protocol is None
    with pytest.raises(MisuseError):
        pair.near.open(HTTP)
    pair.near_end.deliver(b"late")
    pair.near.dataReceived(b"late")
    pair.near.connectionLost()
    assert pair.near_owner.said.count("lost") == 1
    assert pair.near.drain(1).called
    pair.near.fail(GoawayCode.NORMAL, "")


def test_drain_lets_streams_end(pair: Pair) -> None:
    near, far = pair.open_both()
    drained = pair.near.drain(30, message="moving", retry_after=1.0)
    again = pair.near.drain(40)
    forgotten = pair.near.drain(50)
    forgotten.addErrback(lambda _: None)
    forgotten.cancel()
    assert pair.near.draining
    assert not pair.near.can_open
    pair.run()
    assert pair.far_owner.goaway is not None
    assert (pair.far_owner.goaway.message, pair.far_owner.goaway.retry_after) == ("moving", 1.0)
    assert pair.far.draining
    assert pair.far.standing
    pair.pass_time(10)
    assert not drained.called
    far.transport.write(b"done")
    far.transport.loseConnection()
    near.transport.loseConnection()
    pair.run()
    assert drained.called
    assert again.called
    assert pair.near_end.disconnected
    assert pair.far_end.disconnected
    assert pair.near_owner.said == ["hello", "drained", "lost"]
    assert pair.far_owner.said == ["welcomed", "goaway", "drained", "lost"]
    assert type(pair.far_owner.reason) is LinkLost
    assert not pair.clock.getDelayedCalls()


def test_drain_ends_at_its_deadline(pair: Pair) -> None:
    near, far = pair.open_both()
    drained = pair.far.drain(30)
    earlier = pair.far.drain(3)
    pair.run()
    pair.pass_time(2.5)
    assert not drained.called
    pair.pass_time(1)
    assert drained.called
    assert earlier.called
    assert near.error.code == ResetCode.LINK_LOST
    assert far.error.code == ResetCode.LINK_LOST
    assert pair.near_end.disconnected
    assert not pair.clock.getDelayedCalls()


def test_drain_of_an_idle_link_closes_it_at_once(pair: Pair) -> None:
    drained = pair.far.drain(30)
    pair.run()
    assert drained.called
    assert pair.far_end.disconnected
    assert not pair.clock.getDelayedCalls()


def test_drain_before_welcome_closes() -> None:
    pair = Pair(connected=False)
    drained = pair.far.drain(30)
    pair.run()
    assert drained.called
    assert pair.far_end.disconnected
    assert not pair.clock.getDelayedCalls()


def test_a_peer_that_says_goaway_and_stays_is_left() -> None:
    alone = Alone()
    alone.end.deliver(encode_frame(FrameType.WELCOME, 0, encode(Welcome(session="s"))))
    alone.end.deliver(encode_frame(FrameType.GOAWAY, 0, encode(Goaway(code=GoawayCode.NORMAL, message="bye"))))
    alone.clock.advance(0)
    assert alone.owner.said == ["welcomed", "goaway", "drained"]
    alone.end.take_all()
    alone.clock.advance(CLOSE_TIMEOUT)
    alone.clock.advance(0)
    alone.end.take_all()
    assert alone.owner.said[-1] == "lost"
    assert str(alone.owner.reason) == "bye"
    assert not alone.clock.getDelayedCalls()


def test_replaced_is_a_reason_not_to_come_back(pair: Pair) -> None:
    pair.near.drain(30, GoawayCode.REPLACED, "a newer link took the place")
    pair.run()
    assert isinstance(pair.far_owner.reason, LinkRefused)
    assert pair.far_owner.reason.code == GoawayCode.REPLACED


def test_a_stream_that_crosses_goaway_was_not_delivered(pair: Pair) -> None:
    blocker, _ = pair.open_both()
    pair.far.drain(30)
    _, crossing = pair.open()
    crossing.transport.write(b"request")
    pair.run()
    assert isinstance(crossing.error, StreamReset)
    assert crossing.error.delivered is False
    assert blocker.said == []


def test_revoked_ends_streams_at_once(pair: Pair) -> None:
    near, far = pair.open_both()
    pair.near.fail(GoawayCode.TOKEN_REVOKED, "the token was taken away")
    assert near.said == []
    pair.run()
    assert near.error.code == far.error.code == ResetCode.LINK_LOST
    assert isinstance(pair.far_owner.reason, LinkRefused)
    assert pair.far_owner.reason.code == GoawayCode.TOKEN_REVOKED
    assert pair.near_end.disconnected


def test_ids_that_come_to_their_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wormhole_tw.wire.table.IDS_LOW", 2**32 - 1)
    near, far = pair.open_both()
    assert pair.near_owner.goaway is not None
    assert pair.near_owner.goaway.code == GoawayCode.IDS_EXHAUSTED
    assert pair.far_owner.goaway is not None
    assert pair.far_owner.goaway.code == GoawayCode.IDS_EXHAUSTED
    near.transport.write(b"the open one lives on")
    pair.pass_time(60)
    assert far.data == b"the open one lives on"
    far.transport.loseConnection()
    near.transport.loseConnection()
    pair.run()
    assert pair.near_end.disconnected
    assert not pair.clock.getDelayedCalls()


class Bug(Exception):
    pass


def test_a_bug_of_the_owner_ends_the_link(pair: Pair, logged_failures: Any) -> None:
    def fail(_stream: object) -> None:
        raise Bug

    pair.far_owner.on_stream = fail
    _, near = pair.open()
    pair.run()
    assert logged_failures.flush(Bug)
    assert near.error.code == ResetCode.LINK_LOST
    assert isinstance(pair.near_owner.reason, LinkRefused)
    assert pair.near_owner.reason.code == GoawayCode.INTERNAL


def test_nothing_that_the_transport_paused_for_is_lost(pair: Pair) -> None:
    """A transport of 1 KiB: order and bytes hold through thousands of pauses."""
    pair.near_end.capacity = pair.far_end.capacity = 1024
    ends = [pair.open_both(far=Echo())[0] for _ in range(5)]
    for number, near in enumerate(ends):
        near.transport.write(bytes([number]) * 300_000)
        near.transport.loseWriteConnection()
    pair.run()
    for number, near in enumerate(ends):
        assert near.data == bytes([number]) * 300_000


def test_an_abort_before_the_connection_is_nothing() -> None:
    clock: Any = Clock()
    link = LinkProtocol(clock, Side.ACCEPTOR, SessionConfig(), Owner(), turn=TurnEnd(clock))
    link.abort()
    assert link.peer_address is None
