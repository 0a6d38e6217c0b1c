"""Two peers of role edge that do anything in any order, over a connection that delivers any number of octets."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests._support import sized
from tests.wire.links import HTTP, Link, joined
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.events import (
    DataReceived,
    Drained,
    Event,
    GoawayReceived,
    LinkClosed,
    LinkDead,
    LinkFailed,
    StreamAccepted,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamWasReset,
)
from wormhole_tw.wire.session import Session, SessionConfig, SessionState
from wormhole_tw.wire.streams import StreamState

CONFIG = SessionConfig(initial_credit=2048, max_window=8192, link_budget=10_000, max_streams=5, low_water=500)

sides = st.sampled_from([0, 1])
picks = st.integers(0, 30)


class Half:
    """What one side knows of one stream."""

    def __init__(self) -> None:
        self.sent = b""  # by us, whether it arrived or not
        self.got = b""
        self.backlog = 0
        self.said_end = False
        self.heard_end = False
        self.we_reset = False
        self.last_words = False  # we reset it behind our data
        self.was_reset = False
        self.accepted = False
        self.closed = 0


class Peers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.link = Link(CONFIG, role="edge").greet()
        self.peers: list[Session] = [self.link.dialler, self.link.acceptor]
        self.wires = [bytearray(), bytearray()]  # on the way from side 0, from side 1
        self.halves: list[dict[int, Half]] = [{}, {}]
        self.now = 0.0
        self.last: list[Event | None] = [None, None]
        self.drained = [0, 0]
        self.said_goaway = [False, False]
        self.counter = 0
        self.turns = 0

    # What each side does.

    def handle(self, side: int, events: list[Event]) -> None:
        for event in events:
            assert self.last[side] is None, "nothing comes behind the end of a link"
            if isinstance(event, LinkFailed):
                raise AssertionError(f"an honest peer failed: {event.error}")
            if isinstance(event, LinkClosed | LinkDead):
                assert all(half.closed == 1 for half in self.halves[side].values())
                self.last[side] = event
                continue
            if isinstance(event, Drained):
                self.drained[side] += 1
                assert self.peers[side].open_streams == 0
            if isinstance(event, StreamOpened):
                assert event.stream_id not in self.halves[side]
                self.halves[side][event.stream_id] = Half()
                continue
            stream_id = getattr(event, "stream_id", None)
            if stream_id is None:
                assert isinstance(event, Drained | GoawayReceived)
                continue
            half = self.halves[side][stream_id]
            assert not half.closed, "a stream ends once, and nothing comes behind"
            if isinstance(event, StreamClosed):
                half.closed += 1
                half.backlog = 0
                continue
            if event.__class__.__name__ == "SendReady":
                continue
            assert not half.we_reset, "who reset a stream hears no more of it"
            assert not half.was_reset
            if isinstance(event, StreamAccepted):
                assert not half.accepted
                half.accepted = True
            elif isinstance(event, DataReceived):
                assert not half.heard_end
                assert event.data
                half.got += event.data
                half.backlog += len(event.data)
            elif isinstance(event, StreamEnded):
                assert not half.heard_end
                half.heard_end = True
            elif isinstance(event, StreamWasReset):
                half.was_reset = True
                assert event.code in (ResetCode.CANCELLED, ResetCode.NOT_AVAILABLE, ResetCode.LINK_LOST)
                other = self.halves[1 - side].get(stream_id)
                if not event.delivered and other is not None:
                    assert not other.got, "not delivered, and yet something came"

    def pick(self, side: int, number: int) -> int | None:
        """A stream of this side: mostly one that lives, sometimes one that is gone."""
        halves = self.halves[side]
        known = list(halves) if number > 26 else [n for n, half in halves.items() if not (half.closed or half.we_reset)]
        return known[number % len(known)] if known else None

    @initialize(count=st.integers(0, 4))
    def some_streams_stand(self, count: int) -> None:
        for number in range(count):
            self.open(number % 2)
        self.all_arrives()
        for side in (0, 1):
            for number in range(4):
                self.accept(side, number)

    @rule(side=sides)
    def open(self, side: int) -> None:
        session = self.peers[side]
        parity = side  # the acceptor opens odd ids
        ours = [n for n, half in self.halves[side].items() if n % 2 == parity and not half.closed]
        if session.can_open and len(ours) < CONFIG.max_streams:
            self.halves[side][session.open(HTTP, self.now)] = Half()

    @rule(side=sides, number=picks)
    def accept(self, side: int, number: int) -> None:
        stream_id = self.pick(side, number)
        offered = (StreamState.OFFERED, StreamState.OFFERED_ENDED)
        if stream_id is not None and self.peers[side].stream_state(stream_id) in offered:
            self.peers[side].accept(stream_id)

    @rule(side=sides, number=picks, size=st.sampled_from([1, 700, 2047, 2048, 2049, 3000, 9000]))
    def send(self, side: int, number: int, size: int) -> None:
        stream_id = self.pick(side, number)
        if stream_id is None or self.halves[side][stream_id].said_end:
            return
        half = self.halves[side][stream_id]
        self.counter = (self.counter + 1) % 251
        data = bytes([self.counter]) * size
        before = self.peers[side].queued(stream_id)
        self.peers[side].send(stream_id, data)
        if self.peers[side].queued(stream_id) > before:
            half.sent += data

    @rule(side=sides, number=picks)
    def end(self, side: int, number: int) -> None:
        stream_id = self.pick(side, number)
        if stream_id is not None:
            self.peers[side].end(stream_id)
            self.halves[side][stream_id].said_end = True

    @rule(side=sides, number=picks, cancel=st.booleans())
    def reset(self, side: int, number: int, cancel: bool) -> None:
        stream_id = self.pick(side, number)
        if stream_id is not None:
            half = self.halves[side][stream_id]
            half.last_words = not cancel and (half.last_words or not half.we_reset)
            half.we_reset = True
            half.backlog = 0
            self.peers[side].reset(stream_id, ResetCode.CANCELLED, delivered=True, cancel=cancel)
            self.flush_events(side)

    @rule(side=sides, number=picks, share=st.floats(0, 1))
    def acknowledge(self, side: int, number: int, share: float) -> None:
        stream_id = self.pick(side, number)
        if stream_id is not None:
            half = self.halves[side][stream_id]
            amount = half.backlog if share > 0.5 else int(half.backlog * share)
            half.backlog -= amount
            self.peers[side].acknowledge(stream_id, amount, self.now)

    @precondition(lambda self: self.turns > 12)  # nothing can be opened afterwards
    @rule(side=sides, code=st.sampled_from([GoawayCode.NORMAL, GoawayCode.IDS_EXHAUSTED]))
    def goaway(self, side: int, code: GoawayCode) -> None:
        if not self.said_goaway[side]:
            self.said_goaway[side] = True
            self.peers[side].goaway(code, "leaving", self.now)
            self.flush_events(side)

    # What the connection does.

    def flush_events(self, side: int) -> None:
        self.handle(side, self.peers[side].take_events())

    @rule(side=sides, limit=st.integers(1, 20000))
    def write(self, side: int, limit: int) -> None:
        self.turns += 1
        self.wires[side] += joined(self.peers[side].data_to_send(limit))
        self.flush_events(side)

    @rule(side=sides, share=st.floats(0, 1))
    def deliver(self, side: int, share: float) -> None:
        wire = self.wires[side]
        amount = int(len(wire) * share + 0.5)
        data = bytes(wire[:amount])
        del wire[:amount]
        self.handle(1 - side, self.peers[1 - side].receive_data(data, self.now))

    @rule()
    def all_arrives(self) -> None:
        for side in (0, 1):
            self.write(side, 1 << 20)
            self.deliver(side, 1.0)

    @rule(seconds=st.floats(0.001, 1.9))
    def time_passes(self, seconds: float) -> None:
        """Both are woken in time, and in between everything on the way arrives often enough to be alive."""
        self.now += seconds
        for side in (0, 1):
            due = self.peers[side].next_timer(self.now)
            if due is not None and due <= self.now:
                self.write(side, 1 << 20)
                self.deliver(side, 1.0)
                self.write(1 - side, 1 << 20)
                self.deliver(1 - side, 1.0)
                self.handle(side, self.peers[side].handle_timer(self.now))

    # What always holds.

    @invariant()
    def nothing_is_lost_nor_made(self) -> None:
        for side in (0, 1):
            session = self.peers[side]
            held = 0
            for stream_id, half in self.halves[side].items():
                other = self.halves[1 - side].get(stream_id)
                if other is not None:
                    assert other.sent.startswith(half.got), "octets in order, none twice"
                    if half.heard_end:
                        assert half.got == other.sent, "an end never overtakes its data"
                else:
                    assert not half.got
                if not half.closed and not half.we_reset:
                    held += half.backlog
                assert session.credit(stream_id) >= 0
                assert half.backlog <= CONFIG.max_window
            assert session._table.held == held
            assert 0 <= session._table._budget.used <= CONFIG.link_budget

    @invariant()
    def drained_is_told_once(self) -> None:
        assert max(self.drained) <= 1

    def teardown(self) -> None:
        """Everything is consumed and ended: nothing is left on either side."""
        for _ in range(3000):
            moved = False
            for side in (0, 1):
                for stream_id, half in list(self.halves[side].items()):
                    if not half.closed:
                        self.peers[side].acknowledge(stream_id, half.backlog, self.now)
                        half.backlog = 0
                        self.peers[side].end(stream_id)
                        half.said_end = True
                moved = moved or self.peers[side].has_data or bool(self.wires[side])
                self.write(side, 1 << 16)
                self.deliver(side, 1.0)
            if not moved:
                break
        self.nothing_is_lost_nor_made()
        leaving = any(self.said_goaway)
        for side in (0, 1):
            assert all(half.closed == 1 for half in self.halves[side].values())
            for stream_id, half in self.halves[side].items():
                other = self.halves[1 - side].get(stream_id)
                if other is not None and other.last_words and half.was_reset:
                    assert half.got == other.sent, "a reset never overtakes its data"
                if other is not None and not (half.we_reset or half.was_reset or other.we_reset or other.was_reset):
                    assert half.got == other.sent
                    assert half.heard_end
            assert self.peers[side].open_streams == 0
            assert self.peers[side]._table._budget.used == 0
            assert self.peers[side].state is (SessionState.DRAINING if leaving else SessionState.OPEN)
            assert self.drained[side] == leaving
            self.handle(side, self.peers[side].receive_eof(self.now))
            assert self.last[side] == LinkClosed()


Peers.TestCase.settings = settings(max_examples=sized(40, 1000), stateful_step_count=60, deadline=None)
test_two_peers = Peers.TestCase
