"""A slow link: carries TCP connections with a bandwidth and a delay, each way.

Settings: ``listen`` and ``to`` (ports of 127.0.0.1), ``megabits`` a second, ``round_trip`` seconds, ``queue`` octets
(default: what the link carries in a round trip, at least 16 packets).

All connections share the bandwidth. What waits to be sent is bounded, as the buffer in front of a real link is, and
kept short in the kernel too: whoever sends more is held up (a real link would drop; TCP would then send slower, to the
same effect). Octets in flight are not in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import Any, cast

from benchmarks.helpers import say, settings

__all__ = ["Lane", "SlowLink"]

PACKET = 1448
"""Octets that are sent, and arrive, together: a segment of TCP on Ethernet."""

RECEIVE_BUFFER = 8 * 1024
"""Asked of the kernel, which doubles it: what hides from our queue in front of it."""


class Lane:
    """One direction of the link.

    :param rate: octets a second
    :param delay: seconds from the end of a packet's sending to its arrival
    :param queue: octets that may wait
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: float, delay: float, queue: int) -> None:
        self._loop = loop
        self._rate = rate
        self._delay = delay
        self._queue = queue
        self._free_at = 0.0
        self._flight: deque[tuple[float, End, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._held: dict[End, None] = {}
        self.most_waiting = 0.0

    @property
    def waiting(self) -> float:
        """Octets that were given and not yet sent."""
        return max(0.0, self._free_at - self._loop.time()) * self._rate

    def send(self, source: End, sink: End, data: bytes) -> None:
        """Carry ``data`` (empty: the end of the stream) from one end to another."""
        now = self._loop.time()
        view = memoryview(data)
        for begin in range(0, max(len(data), 1), PACKET):
            packet = bytes(view[begin : begin + PACKET])
            self._free_at = max(self._free_at, now) + len(packet) / self._rate
            self._flight.append((self._free_at + self._delay, sink, packet))
        self.most_waiting = max(self.most_waiting, self.waiting)
        if self.waiting > self._queue:
            source.hold(self)
            self._held[source] = None
        self._arm()

    def _arm(self) -> None:
        if not self._flight:
            return
        due = self._flight[0][0]
        if self._held:
            due = min(due, self._free_at - self._queue / self._rate)
        if self._timer is not None:
            if due >= self._timer.when():
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = self._loop.time()
        flight = self._flight
        while flight and flight[0][0] <= now:
            _, sink, packet = flight.popleft()
            sink.deliver(packet)
        if self._held and self.waiting <= self._queue:
            held, self._held = self._held, {}
            for source in held:
                source.release(self)
        self._arm()


class End(asyncio.Protocol):
    """One of the two connections that are carried together."""

    transport: asyncio.Transport

    def __init__(self, link: SlowLink, lane: Lane) -> None:
        self.link = link
        self.lane = lane
        self.other: End | None = None
        self._holders: dict[object, None] = {}
        self._early: list[bytes] = []
        self._lost = False
        self._read_ended = False
        self._write_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.other is None:
            self.link.dial(self)

    def joined(self, other: End) -> None:
        """The other connection stands."""
        self.other = other
        early, self._early = self._early, []
        for data in early:
            self.lane.send(self, other, data)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self.lane.send(self, self.other, data)

    def eof_received(self) -> bool:
        self._read_ended = True
        self.data_received(b"")
        return not self._write_ended

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        other = self.other
        if other is None or other._lost:
            return
        if exc is not None:
            other.transport.abort()
        elif not self._read_ended:
            self.lane.send(self, other, b"")

    def deliver(self, packet: bytes) -> None:
        """A packet has arrived; an empty one is the end."""
        if self._lost or self._write_ended:
            return
        if packet:
            self.transport.write(packet)
            return
        self._write_ended = True
        if self._read_ended or self.other is None or self.other._lost:
            self.transport.close()
        else:
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    # Whoever takes slowly holds up whoever sends.

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.hold(self)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.release(self)

    def hold(self, holder: object) -> None:
        """Read no more until ``holder`` releases."""
        if not self._holders and not self._lost:
            self.transport.pause_reading()
        self._holders[holder] = None

    def release(self, holder: object) -> None:
        """``holder`` is content."""
        self._holders.pop(holder, None)
        if not self._holders and not self._lost and not self.transport.is_closing():
            self.transport.resume_reading()


class SlowLink:
    """Listens, and carries what comes to another port."""

    def __init__(self, *, listen: int, to: int, megabits: float, round_trip: float, queue: int = 0) -> None:
        self._listen = listen
        self._to = to
        self._rate = megabits * 1e6 / 8
        self._delay = round_trip / 2
        self._queue = queue or max(int(self._rate * round_trip), 16 * PACKET)
        self._dials: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; give the port."""
        loop = asyncio.get_running_loop()
        self.out = Lane(loop, self._rate, self._delay, self._queue)
        self.back = Lane(loop, self._rate, self._delay, self._queue)
        sock = _socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self._listen))
        self._server = await loop.create_server(lambda: End(self, self.out), sock=sock)
        port: int = sock.getsockname()[1]
        return port

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    def dial(self, near: End) -> None:
        """Connect the far side of a connection that came."""
        task = asyncio.get_running_loop().create_task(self._dial(near))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, near: End) -> None:
        loop = asyncio.get_running_loop()
        far = End(self, self.back)
        far.other = near
        sock = _socket()
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, ("127.0.0.1", self._to))
            await loop.create_connection(cast(Any, lambda: far), sock=sock)
        except OSError:
            sock.close()
            near.transport.abort()
            return
        near.joined(far)


def _socket() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock


async def _run() -> None:
    link = SlowLink(**settings())
    await link.start()
    say("ready")
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run())
