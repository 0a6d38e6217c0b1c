"""Budgets, and windows that grow while they are what holds a stream back."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import MisuseError
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.windows import RTT_FLOOR, Budget, ReceiveWindow

KIB = 1024
WHOLE = Budget(2**40)


def test_a_budget_inside_another() -> None:
    process = Budget(100)
    one, two = Budget(80, process), Budget(80, process)
    assert one.take(80)
    assert not one.take(1)
    assert not two.take(21)
    assert two.used == 0
    assert two.take(20)
    one.release(80)
    assert (process.used, one.used, two.used) == (20, 0, 20)
    with pytest.raises(MisuseError):
        two.release(21)


def test_grants_come_in_halves() -> None:
    window = ReceiveWindow(64 * KIB, 0.0)
    assert window.received(64 * KIB, 0.0)
    assert window.consumed(32 * KIB - 1, 9.0, 1.0, WHOLE, 64 * KIB) == 0
    assert window.consumed(1, 9.0, 1.0, WHOLE, 64 * KIB) == 32 * KIB
    assert window.available == window.unacknowledged == 32 * KIB


def test_more_than_was_granted() -> None:
    window = ReceiveWindow(10, 0.0)
    assert window.received(10, 0.0)
    assert not window.received(1, 0.0)


@pytest.mark.parametrize("amount", [-1, 6])
def test_only_what_came_can_be_acknowledged(amount: int) -> None:
    window = ReceiveWindow(10, 0.0)
    window.received(5, 0.0)
    with pytest.raises(MisuseError):
        window.consumed(amount, 0.0, None, WHOLE, 10)


@pytest.mark.parametrize(
    ("took", "rtt", "left", "grows"),
    [
        (0.0039, 0.004, 0, True),  # half a window in a round trip
        (0.0041, 0.004, 0, False),
        (0.0039, 0.004, 16 * KIB, True),
        (0.0, None, 0, False),  # nothing measured yet
        (RTT_FLOOR * 0.9, 0.0, 0, True),  # a turn of the reactor is a round trip
        (RTT_FLOOR * 1.1, 0.0, 0, False),
    ],
)
def test_busy(took: float, rtt: float | None, left: int, grows: bool) -> None:
    window = ReceiveWindow(64 * KIB, -100.0)
    window.received(32 * KIB + left, 0.0)
    budget = Budget(64 * KIB)
    grant = window.consumed(32 * KIB, took, rtt, budget, 1024 * KIB)
    assert grant == (96 * KIB if grows else 32 * KIB)
    assert window.extra == budget.used == (64 * KIB if grows else 0)


def test_growth_ends_at_the_limit_and_with_the_budget() -> None:
    budget = Budget(300 * KIB)
    window = ReceiveWindow(64 * KIB, 0.0)
    sizes = []
    for _ in range(6):
        window.received(window.available, 0.0)
        window.consumed(window.unacknowledged, 0.0, 0.0, budget, 200 * KIB)
        sizes.append(window.size // KIB)
    assert sizes == [128, 200, 200, 200, 200, 200]
    other = ReceiveWindow(256 * KIB, 0.0)
    other.received(256 * KIB, 0.0)
    assert other.consumed(256 * KIB, 0.0, 0.0, budget, 4096 * KIB) == 256 * KIB
    assert other.extra == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5000), st.floats(0, 1)), max_size=60))
def test_credit_is_neither_lost_nor_made(steps: list[tuple[bool, int, float]]) -> None:
    budget = Budget(20000)
    window = ReceiveWindow(2048, 0.0)
    now = 0.0
    credit = 2048
    for arrives, amount, seconds in steps:
        now += seconds
        if arrives:
            amount = min(amount, credit)
            assert window.received(amount, now)
            credit -= amount
        else:
            credit += window.consumed(min(amount, window.unacknowledged), now, 0.01, budget, 16384)
        assert credit == window.available
        assert window.size == window.available + window.unacknowledged + window.pending == 2048 + window.extra
        assert window.extra == budget.used
        assert window.pending < window.due <= window.size


@dataclass
class Path:
    """A path with a bandwidth and a delay, and a stream over it whose sender always has more, in time of its own.

    :ivar rate: octets a second
    :ivar round_trip: seconds, while nothing waits; ``shortest`` is the one that was measured
    :ivar stops: a second, in which the receiver stands still, ``stop`` seconds each
    :ivar waited: seconds that each packet of :meth:`run` waited before the path
    """

    rate: float
    round_trip: float
    shortest: float = 0.0
    stops: float = 0.0
    stop: float = 0.0
    budget: Budget = field(default_factory=lambda: Budget(64 * 1024 * KIB))
    limit: int = 4096 * KIB
    packet: int = 1448
    now: float = 0.0
    waited: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window = ReceiveWindow(64 * KIB, 0.0)
        self._credit = 64 * KIB
        self._free = 0.0
        self._awake = 0.0
        self._chance = Random(1)
        self._due: list[tuple[float, int, str, int]] = []
        self._number = 0
        self._send()

    def _later(self, when: float, what: str, octets: int) -> None:
        self._number += 1
        heappush(self._due, (when, self._number, what, octets))

    def _send(self) -> None:
        while self._credit:
            packet = min(self.packet, self._credit)
            self._credit -= packet
            self._free = max(self._free, self.now) + packet / self.rate
            self.waited.append(self._free - self.now)
            self._later(self._free + self.round_trip / 2, "packet", packet)

    def run(self, seconds: float) -> float:
        """Gives what part of what the path could carry came."""
        self.waited.clear()
        end, came = self.now + seconds, 0
        while self._due[0][0] <= end:
            self.now, _, what, octets = heappop(self._due)
            if what == "grant":
                self._credit += octets
                self._send()
                continue
            if self.stops and self._awake <= self.now and self._chance.random() < self.stops * self.packet / self.rate:
                self._awake = self.now + self.stop
            if self.now < self._awake:
                self._later(self._awake, "packet", octets)
                continue
            assert self.window.received(octets, self.now)
            came += octets
            shortest = self.shortest or self.round_trip
            if grant := self.window.consumed(octets, self.now, shortest, self.budget, self.limit):
                self._later(self.now + self.round_trip / 2, "grant", grant)
            assert self.window.extra == self.budget.used == self.window.size - 64 * KIB
        self.now = end
        return came / seconds / self.rate

    @property
    def carries(self) -> float:
        """Octets in one round trip."""
        return self.rate * self.round_trip

    @property
    def wait(self) -> float:
        """What 99 of 100 packets waited at most, in round trips."""
        return sorted(self.waited)[len(self.waited) * 99 // 100] / self.round_trip


@pytest.mark.parametrize(
    ("rate", "round_trip"), [(2.5e6, 0.04), (12.5e6, 0.1), (50e6, 0.02), (12.5e6, 0.006), (1.8e6, 0.05)]
)
def test_a_far_window_fills_its_path_and_not_the_queue_before_it(rate: float, round_trip: float) -> None:
    path = Path(rate, round_trip)
    path.run(20 * round_trip)
    assert path.run(20 * round_trip) > 0.97
    assert 1.2 * path.carries < path.window.size < 2.1 * path.carries
    assert path.wait < 1.0
    assert min(path.waited) < 0.8 * round_trip


@pytest.mark.parametrize("rate", [2.5e6, 12.5e6])
def test_a_receiver_that_stands_still_now_and_then_does_not_make_it_another_path(rate: float) -> None:
    path = Path(rate, 0.04, stops=8.0, stop=0.03)
    path.run(2.0)
    assert path.run(20.0) > 0.85
    assert path.window.size < 2.5 * path.carries


def test_a_path_that_is_longer_than_was_measured_once_is_used_all_the_same() -> None:
    path = Path(12.5e6, 0.1, shortest=0.05)  # others' queues, or radio
    path.run(4.0)
    assert path.run(4.0) > 0.6


def test_a_path_that_becomes_wider_is_noticed_and_one_try_is_no_growth() -> None:
    path = Path(2.5e6, 0.04, shortest=0.02, packet=8 * KIB)
    path.run(10.0)
    narrow = path.window.size
    path.rate = 12.5e6
    path.run(40.0)  # it is tried again now and then
    assert path.window.size >= 2 * narrow
    before = path.window.size
    path.run(40.0)
    assert path.window.size <= 2 * before, "what a try took is given back where it gave nothing"


def test_a_window_that_may_not_grow_is_not_made_smaller() -> None:
    for path in (
        Path(50e6, 0.1, limit=200 * KIB, packet=4 * KIB),
        Path(50e6, 0.1, budget=Budget(136 * KIB), packet=4 * KIB),
    ):
        path.run(20.0)
        assert path.window.size >= 128 * KIB
        size = path.window.size
        path.run(60.0)
        assert path.window.size == size


def test_a_stream_that_rests_is_measured_anew() -> None:
    path = Path(25e6, 0.04)
    window, now = ReceiveWindow(64 * KIB, 0.0), 0.0
    for _ in range(50):  # answers of 64 KiB, a second apart
        for _ in range(8):
            window.received(8 * KIB, now)
            window.consumed(8 * KIB, now, 0.04, path.budget, path.limit)
            now += 0.001
        now += 1.0
    assert window.size == 64 * KIB


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial_credit": 1023},
        {"initial_credit": 4096, "max_window": 4095},
        {"max_window": 2**31},
        {"ping_after": 0.0},
        {"ping_after": 12.0},
        {"slice": 0},
        {"max_streams": 0},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(MisuseError):
        SessionConfig(**wrong)  # type: ignore[arg-type]
