"""A coarse timer wheel: thousands of timeouts for one delayed call of the reactor.

A connection's timeouts are started and moved far more often than they fire. A ``callLater`` for each costs a heap
operation and an object; here a restart is one assignment, and the timer is looked at again when its old slot comes up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["DEFAULT_TICK", "REST", "SLICE", "Timer", "TimerWheel"]

log = Logger()

DEFAULT_TICK = 0.25
"""Seconds between slots, and so the most that a timer is late (twice that in a crowd, see :data:`REST`). Limits
are seconds to minutes: nobody sees it."""


SLICE = 0.001
"""Seconds for which timers fire before the reactor has its turn: a thousand connections whose time is over at the same
moment take longer than anybody should wait for whom they are nothing."""

REST = 0.004
"""Seconds for which they rest then, so that a request's way, which takes the reactor several rounds, does not meet a
slice in each of them; but not while the first of them waits for more than a tick already."""


class Timer:
    """One timeout on a `TimerWheel`; made by `TimerWheel.start`."""

    __slots__ = ("_bucket", "_callback", "_deadline", "_not_before", "_now", "_seconds", "_wheel")

    def __init__(self, wheel: TimerWheel, seconds: float, callback: Callable[[], object]) -> None:
        self._wheel = wheel
        self._callback = callback
        self._seconds = seconds
        self._deadline = 0.0
        self._not_before = 0.0  # where the slot begins: an earlier deadline needs another slot
        self._now = wheel._clock.seconds
        self._bucket: dict[Timer, None] | None = None

    @property
    def active(self) -> bool:
        """True until it fires or is cancelled."""
        return self._bucket is not None

    def cancel(self) -> None:
        """Do not fire. May be called at any time, and more than once; `restart` brings it back."""
        if self._bucket is not None:
            self._wheel._remove(self)

    def restart(self, seconds: float | None = None) -> None:
        """Fire ``seconds`` from now (default: as the last time), whether it is running, has fired or was cancelled."""
        if seconds is None:
            seconds = self._seconds
        else:
            self._seconds = seconds
        now = self._now  # what is kept in a slot, and called by a name of its own, is found faster
        self._deadline = deadline = now() + seconds
        # A later deadline is found when the old slot comes up; only an earlier one needs another slot now.
        if self._bucket is None:
            wheel = self._wheel
            wheel._insert(self, ceil(deadline / wheel._tick))
        elif deadline <= self._not_before:
            wheel = self._wheel
            wheel._remove(self)
            wheel._insert(self, ceil(deadline / wheel._tick))


class TimerWheel:
    """Timers that never fire early and at most ``tick`` seconds late (plus what the reactor is busy), or two
    ticks where many are due at once.

    :ivar seconds: ``seconds()`` is the clock's time: :attr:`now` in one call less

    One delayed call stands for all of them, at the next slot that holds any; none while no timer is active.
    """

    __slots__ = (
        "_active",
        "_armed_slot",
        "_call",
        "_clock",
        "_due",
        "_due_since",
        "_heap",
        "_slots",
        "_tick",
        "seconds",
    )

    def __init__(self, clock: IReactorTime, tick: float = DEFAULT_TICK) -> None:
        if tick <= 0:
            raise ValueError("tick is a positive number of seconds")
        self._clock = clock
        self.seconds = clock.seconds
        self._tick = tick
        self._active = 0
        # Slots are sparse: number (deadline / tick, rounded up) → its timers. The heap holds each number once, so it is
        # never longer than the longest timeout divided by the tick.
        self._slots: dict[int, dict[Timer, None]] = {}
        self._heap: list[int] = []
        # Whose slot has come, with the bucket they were in.
        self._due: deque[tuple[dict[Timer, None], Timer]] = deque()
        self._due_since = 0.0
        self._call: IDelayedCall | None = None
        self._armed_slot = 0

    @property
    def clock(self) -> IReactorTime:
        """What it goes by."""
        return self._clock

    @property
    def now(self) -> float:
        """The clock's time in seconds."""
        return self._clock.seconds()

    def __len__(self) -> int:
        """How many timers are active."""
        return self._active

    def start(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback()`` in ``seconds`` unless the timer is cancelled or restarted. What it raises is logged."""
        timer = Timer(self, seconds, callback)
        timer._deadline = deadline = self.seconds() + seconds
        self._insert(timer, ceil(deadline / self._tick))
        return timer

    def stop(self) -> None:
        """Cancel every timer. The wheel may be used again."""
        for bucket in self._slots.values():
            for timer in bucket:
                timer._bucket = None
        for _, timer in self._due:
            timer._bucket = None
        self._active = 0
        self._clear()

    def _insert(self, timer: Timer, slot: int) -> None:
        bucket = self._slots.get(slot)
        if bucket is None:
            bucket = self._slots[slot] = {}
            heappush(self._heap, slot)
        bucket[timer] = None
        timer._bucket = bucket
        timer._not_before = (slot - 1) * self._tick
        self._active += 1
        if self._call is None:
            self._arm()
        elif slot < self._armed_slot:
            self._call.cancel()
            self._arm()

    def _remove(self, timer: Timer) -> None:
        bucket = timer._bucket
        assert bucket is not None
        del bucket[timer]
        timer._bucket = None
        self._active -= 1
        if self._active == 0:
            self._clear()

    def _clear(self) -> None:
        self._slots.clear()
        self._heap.clear()
        self._due.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _arm(self) -> None:
        slot = self._heap[0]
        self._armed_slot = slot
        self._call = self._clock.callLater(max(0.0, slot * self._tick - self._clock.seconds()), self._turn)

    def _turn(self) -> None:
        self._call = None
        seconds = self.seconds
        now = seconds()
        # Rounding may bring us here a hair before the slot's time; it counts as come.
        slot_now = max(int(now / self._tick), self._armed_slot)
        due = self._due
        if not due:
            self._due_since = now
        while self._heap and self._heap[0] <= slot_now:
            bucket = self._slots.pop(heappop(self._heap))
            due.extend((bucket, timer) for timer in bucket)
        while due:
            bucket, timer = due.popleft()
            if timer._bucket is not bucket:
                continue  # cancelled or moved by one that fired before it
            timer._bucket = None
            self._active -= 1
            if timer._deadline > now:
                self._insert(timer, max(ceil(timer._deadline / self._tick), slot_now + 1))
                continue
            try:
                timer._callback()
            except Exception:  # noqa: BLE001 - one connection's bug must not lose the timeouts of the others
                log.failure("a timer's callback failed: {callback!r}", callback=timer._callback)
            if due and seconds() - now > SLICE:
                self._give_way(slot_now, 0.0 if now - self._due_since > self._tick else REST)
                return
        if self._call is None and self._heap and self._active:
            self._arm()

    def _give_way(self, slot: int, seconds: float) -> None:
        """What is due goes on when the reactor has been round, and after so many seconds."""
        if self._call is not None:
            self._call.cancel()
        self._armed_slot = slot
        self._call = self._clock.callLater(seconds, self._turn)
