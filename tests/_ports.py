"""Ports for the programs that tests start, which nobody else has before they listen.

A port that was free a moment ago is anybody's until then: the system gives those of its own range to any connection,
and another run of the tests beside this one looks for free ones too.  These are outside that range, and each process
has a block of them to itself: a socket bound to the first port of a block keeps it for as long as the process runs.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

__all__ = ["BLOCK", "Ports", "free_port", "outside_of_connections"]

BLOCK = 128
"""Ports of a process.  They are given in turn, so that one comes again long after its test is over."""

_FIRST = 10240
"""Below stand the ports of what runs on people's machines."""

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL = "32768 60999"


def outside_of_connections() -> range:
    """The ports that the system gives to no connection: those below its range, or above it where there are more."""
    try:
        low, high = map(int, _RANGE.read_text().split())
    except (OSError, ValueError):
        low, high = map(int, _USUAL.split())
    found = max(range(_FIRST, low), range(max(_FIRST, high + 1), 65536), key=len)
    # a system that gives all of them away leaves no better
    return found if len(found) >= 4 * BLOCK else range(_FIRST, 65536)


class Ports:
    """One process's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._kept: socket.socket | None = None
        self._first = 0
        self._last = 0

    def free(self) -> int:
        """A port of 127.0.0.1 on which nobody listens, neither by TCP nor by UDP."""
        with self._lock:
            if self._owner != os.getpid():  # a fork has none of its parent's
                self._take_a_block()
            for _ in range(BLOCK - 1):
                self._last = self._last % (BLOCK - 1) + 1
                if _is_free(self._first + self._last):
                    return self._first + self._last
        raise AssertionError(f"all ports from {self._first} to {self._first + BLOCK - 1} are taken")

    def _take_a_block(self) -> None:
        ports = outside_of_connections()
        blocks = len(ports) // BLOCK
        for number in range(blocks):
            first = ports.start + (os.getpid() + number) % blocks * BLOCK
            kept = socket.socket()
            try:
                kept.bind(("127.0.0.1", first))
            except OSError:
                kept.close()
                continue
            self._owner, self._kept, self._first, self._last = os.getpid(), kept, first, 0
            return
        raise AssertionError(f"no block of ports is free from {ports.start} to {ports.stop - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        # as servers do: what a connection has left behind there harms nobody
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stream.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


free_port = Ports().free
"""A TCP and UDP port of 127.0.0.1 for a program that this process starts."""
