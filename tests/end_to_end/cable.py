"""A cable between an agent and its edge that a test can cut, and make narrow."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress


class Cable:
    """Carries TCP from a port of its own to another, byte for byte.

    :param to: the port of 127.0.0.1 where it leads
    :param width: octets that it may hold in each socket's buffer (the kernel takes twice that), or None

    :ivar port: where it begins
    """

    def __init__(self, to: int, width: int | None = None) -> None:
        self._to = to
        self._width = width
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._cut: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._narrow(self._listener)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)

    def _narrow(self, end: socket.socket) -> None:
        if self._width is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._width)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._width)

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="cable", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket()
            self._narrow(far)
            try:
                far.connect(("127.0.0.1", self._to))
            except OSError:
                near.close()
                far.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(near, far)
            with self._lock:
                self._pairs.append(pair)
            self._run(pair.carry, near, far)
            self._run(pair.carry, far, near)

    def cut(self) -> int:
        """Break every connection at its near end: a reset there, and not a word at the far end, as behind a router
        that forgot.  New connections are carried as before.

        :returns: how many there were
        """
        with self._lock:
            pairs, self._pairs = self._pairs, []
            self._cut += pairs
        for pair in pairs:
            pair.cut = True
            pair.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):
                pair.near.shutdown(socket.SHUT_RD)  # wakes the thread that reads it, which closes it
        return len(pairs)

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            ends = [end for pair in (*self._pairs, *self._cut) for end in (pair.near, pair.far)]
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in ends:
            end.close()


class _Pair:
    """One connection."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.cut = False

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        buffer = memoryview(bytearray(65536))
        try:
            while size := source.recv_into(buffer):
                sink.sendall(buffer[:size])
            if not self.cut:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if self.cut and source is self.near:
            self.near.close()
