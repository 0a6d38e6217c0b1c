"""The order in which frames leave, and fair turns (docs/protocol.md, "Order and fairness").

First the session's own frames (HELLO, WELCOME, STATUS, PING, PONG, GOAWAY) and WINDOW; then OPEN, OPENED and those
RESETs that wait for nothing, in the order in which they were asked for; then the ready streams in turn, a bounded slice
each, or several where as many of each leave together.  A stream that had nothing and now has no more than a slice goes
before those that have more: a small answer does not wait for every download's turn.  They are never more than a slice
ahead, so that they hold up nobody.
An END or RESET by the sender of data stands behind that data in the stream's own queue, so it cannot overtake it.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Protocol

from wormhole_tw.wire.events import Event, SendReady
from wormhole_tw.wire.frames import END, HEADER_SIZE, MAX_DATA, FrameType, encode_frame, encode_window, pack_words
from wormhole_tw.wire.streams import Stream

__all__ = ["FULL_FRAME", "Outbox", "OutboxOwner"]

FULL_FRAME = MAX_DATA - HEADER_SIZE
"""Octets of DATA in the longest frame that is sent: with its header it fills four TLS records exactly. Eight more would
cost a record of their own."""

_DATA = int(FrameType.DATA)
_WINDOW_SIZE = 12


class OutboxOwner(Protocol):
    """Who wants to know that an END or a RESET left."""

    def end_left(self, stream: Stream) -> None: ...
    def reset_left(self, stream: Stream) -> None: ...


class Outbox:
    """Everything that is to be sent on one link.

    :ivar slice: octets of DATA a turn, where more than one stream is ready, and a flush holds no more of each
    :ivar max_data: octets of DATA a frame, where one stream is alone
    :ivar waiting_heads: frames of the second class that wait; who fills it bounds it
    """

    __slots__ = (
        "_ahead",
        "_control",
        "_events",
        "_fresh",
        "_heads",
        "_low_water",
        "_owner",
        "_ready",
        "_windows",
        "max_data",
        "slice",
    )

    def __init__(self, owner: OutboxOwner, events: list[Event], *, slice_size: int, low_water: int) -> None:
        self._owner = owner
        self._events = events
        self.slice = slice_size
        self.max_data = FULL_FRAME
        self._low_water = low_water
        # lists, for they are short and mostly empty, and an empty deque has 600 octets; one is made when it is needed
        self._control: list[bytes] = []
        self._windows: dict[int, int] = {}
        self._heads: list[bytes | Stream] = []
        self._fresh: list[Stream] = []
        self._ahead = 0  # octets by which those were served before the others
        self._ready: deque[Stream] | None = None

    @property
    def has_data(self) -> bool:
        """Whether :meth:`take` would give anything."""
        return bool(self._ready or self._fresh or self._control or self._windows or self._heads)

    @property
    def waiting_heads(self) -> int:
        return len(self._heads)

    @property
    def waiting_control(self) -> int:
        """Frames of the session that wait."""
        return len(self._control)

    def control(self, frame: bytes) -> None:
        """A frame of the session itself."""
        self._control.append(frame)

    def grant(self, stream_id: int, increment: int) -> None:
        """A WINDOW; several for one stream leave as one."""
        self._windows[stream_id] = self._windows.get(stream_id, 0) + increment

    def drop_grant(self, stream_id: int) -> None:
        """Its peer has ended its half: a WINDOW that waits is of no use to it."""
        self._windows.pop(stream_id, None)

    def head(self, frame: bytes | Stream) -> None:
        """OPENED, a RESET that waits for nothing, or the OPEN that the stream carries."""
        self._heads.append(frame)

    def ready(self, stream: Stream) -> None:
        """Give the stream a place in the ring if it has something that may leave. Its OPEN comes before, by class."""
        if not stream.in_ready and stream.sendable:
            self.place(stream)

    def place(self, stream: Stream) -> None:
        """:meth:`ready` for a stream of which that is known."""
        stream.in_ready = True
        if stream.queued <= self.slice:
            self._fresh.append(stream)
        else:
            self._line().append(stream)

    def _line(self) -> deque[Stream]:
        if self._ready is None:
            self._ready = deque()
        return self._ready

    def _unready(self, stream: Stream) -> None:
        stream.in_ready = False
        if stream in self._fresh:
            self._fresh.remove(stream)
        else:
            self._line().remove(stream)

    def rest(self) -> None:
        """Nothing has passed for a while: keep no room for what may come."""
        if not self._ready:
            self._ready = None

    def forget(self, stream: Stream) -> None:
        """Drop all that the stream has queued, its OPEN too."""
        self._windows.pop(stream.id, None)
        if stream.open_payload is not None:
            stream.open_payload = None
            self._heads.remove(stream)
        if stream.in_ready:
            self._unready(stream)
        stream.queue = None
        stream.queued = 0
        stream.end_pending = False
        stream.reset_payload = None

    def drop_streams(self) -> None:
        """Forget all but the session's own frames: the link ends."""
        self._windows.clear()
        for head in self._heads:
            if isinstance(head, Stream):
                head.open_payload = None
        self._heads.clear()
        for stream in (*self._fresh, *self._line()):
            stream.in_ready = False
        self._fresh.clear()
        self._line().clear()

    def clear(self) -> None:
        """Forget everything."""
        self.drop_streams()
        self._control.clear()

    def take(self, limit: int) -> list[bytes | memoryview]:
        """What leaves next, about ``limit`` octets: the last frame may pass it by a slice."""
        out: list[bytes | memoryview] = []
        room = limit
        while self._control and room > 0:
            frame = self._control.pop(0)
            out.append(frame)
            room -= len(frame)
        if self._windows and room > 0:
            room -= self._take_windows(out, room)
        while self._heads and room > 0:
            head = self._heads.pop(0)
            if isinstance(head, Stream):
                head = self._open_frame(head)
            out.append(head)
            room -= len(head)
        ring = self._ready
        fresh = self._fresh
        while room > 0 and (ring or fresh):
            sooner = bool(fresh) and (not ring or self._ahead < self.slice)
            stream = fresh.pop(0) if sooner else ring.popleft()  # type: ignore[union-attr]  # ready, or fresh
            stream.in_ready = False
            if sooner or fresh:
                most = self.slice
            elif ring:
                most = max(self.slice, min(room - HEADER_SIZE, self._share(limit, len(ring))))
            else:
                most = max(self.slice, min(room - HEADER_SIZE, self.max_data))
            amount = stream.queued
            if amount > stream.credit:
                amount = stream.credit
            if amount > most:
                amount = most
            size = self._take_stream(stream, amount, out)
            room -= size
            if not sooner:
                self._ahead = max(0, self._ahead - size)
            elif ring:
                self._ahead += size
            if stream.queued and stream.sendable:  # an END or RESET has left with the last octet
                stream.in_ready = True
                if ring is None:
                    ring = self._line()
                ring.append(stream)
        return out

    def _share(self, limit: int, others: int) -> int:
        """Octets of one frame of a stream that is not alone: as many slices as ``limit`` octets hold of each stream.

        They leave in one write, in whatever order: frames of one slice would cost both sides four times as many steps.
        """
        size = self.slice + HEADER_SIZE
        return min(self.max_data, max(1, limit // (size * (others + 1))) * size - HEADER_SIZE)

    def _take_windows(self, out: list[bytes | memoryview], room: int) -> int:
        ids = list(islice(self._windows, room // _WINDOW_SIZE + 1))
        out.extend(encode_window(stream_id, self._windows.pop(stream_id)) for stream_id in ids)
        return len(ids) * _WINDOW_SIZE

    def _open_frame(self, stream: Stream) -> bytes:
        payload = stream.open_payload
        assert payload is not None, "an OPEN leaves once"
        stream.open_payload = None
        if not stream.end_pending or stream.queued:
            return encode_frame(FrameType.OPEN, stream.id, payload)
        stream.end_pending = False
        self._unready(stream)  # its END stood there
        self._owner.end_left(stream)
        self.ready(stream)
        return encode_frame(FrameType.OPEN | END, stream.id, payload)

    def _take_stream(self, stream: Stream, amount: int, out: list[bytes | memoryview]) -> int:
        """One frame of DATA of ``amount`` octets, with END if that was all, and the RESET behind it."""
        before = stream.queued
        after = before - amount
        end = after == 0 and stream.end_pending
        size = 0
        if amount or end:
            size = 8 + amount
            out.append(pack_words(amount << 8 | (_DATA | END if end else _DATA), stream.id))
        if amount:
            stream.credit -= amount
            stream.queued = after
            stream.touched = True
            queue = stream.queue
            assert queue is not None
            if isinstance(queue, deque):
                while amount:
                    piece = queue.popleft()
                    length = len(piece)
                    if length > amount:
                        view = memoryview(piece)
                        out.append(view[:amount])
                        queue.appendleft(view[amount:])
                        break
                    out.append(piece)
                    amount -= length
            elif after:
                view = memoryview(queue)
                out.append(view[:amount])
                stream.queue = view[amount:]
            else:
                out.append(queue)
            if not after:
                stream.queue = None
            if after <= self._low_water < before:
                self._events.append(SendReady(stream.id))
        if end:
            stream.end_pending = False
            self._owner.end_left(stream)
        if not after and stream.reset_payload is not None:
            frame = encode_frame(FrameType.RESET, stream.id, stream.reset_payload)
            out.append(frame)
            size += len(frame)
            stream.reset_payload = None
            self._owner.reset_left(stream)
        return size
