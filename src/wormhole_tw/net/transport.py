"""What is set on every connection, and the way from any transport down to its socket.

The seam for faster transports: whoever accepts or dials calls `tune` once, and asks for nothing of the socket itself.
"""

from __future__ import annotations

import socket
import sys
from array import array
from contextlib import suppress
from typing import Any

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = [
    "BULK_READ",
    "NOTSENT_LOWAT",
    "NOTSENT_LOWAT_SLOW",
    "READ_SIZE",
    "limit_unsent",
    "not_sent",
    "socket_of",
    "transport_below",
    "tune",
    "unsent",
]

NOTSENT_LOWAT = 64 * 1024
"""Bytes that the kernel may hold unsent before it stops saying "writable". Enough to keep any path busy between two
reactor turns, and little enough that what is urgent waits behind a few milliseconds and not behind megabytes."""

NOTSENT_LOWAT_SLOW = 16 * 1024
"""The same where the path takes milliseconds for that: the kernel says "writable" at half of it, which is still sent
when the process comes."""

READ_SIZE = 64 * 1024 - 8
"""Bytes read from a socket at a time, and beyond which a transport's own buffer pauses its producer. With a frame's
header of 8 bytes one read fills four TLS records; 8 bytes more would make a second frame, a fifth record and a second
write of every read. Also less than the 128 KiB from which on malloc maps and unmaps blocks one by one."""

BULK_READ = 4 * READ_SIZE
"""Bytes read at a time from a socket that has just filled a whole read: there is a lot, and a system call, a trip
through the reactor and a wake-up of the other side for each 64 KiB of it cost more than the bytes."""

_TCP_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)
_SIOCOUTQNSD = 0x894B
"""Linux's ioctl for bytes that the kernel has not sent yet, sent ones that wait for their ACK not counted."""

KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 15
KEEPALIVE_PROBES = 4
"""Seconds of silence, seconds between probes, probes: a peer that vanished is noticed after two minutes, not two hours.
Tunnels have their own PING; this is for visitors and services that are silent for long, which NATs forget."""

_DEPTH = 16  # wrappers round a transport; more is a circle


def transport_below(transport: object) -> Any:
    """The transport at the bottom of any wrappers (TLS, PROXY header, first bytes): the one that has the descriptor."""
    current: Any = transport
    for _ in range(_DEPTH):
        below = vars(current).get("transport") if hasattr(current, "__dict__") else None
        if below is None or below is current:
            break
        current = below
    return getattr(current, "_connection", current)  # Twisted's startTLS puts one more wrapper there


def socket_of(transport: object) -> socket.socket | None:
    """The socket under a transport, or None (closed, a test's fake, something without a socket)."""
    found = getattr(transport_below(transport), "socket", None)
    return found if isinstance(found, socket.socket) else None


def unsent(transport: object) -> int:
    """Bytes that were written and have not reached the peer, as far as can be known.

    Those in a transport's buffer are Twisted's to say, those in the kernel Linux's; elsewhere they count as sent.
    """
    below = transport_below(transport)
    # of a tcp.Connection; TLS holds what was written in this turn
    waiting = len(getattr(below, "dataBuffer", b"")) - getattr(below, "offset", 0) + getattr(below, "_tempDataLen", 0)
    if transport is not below:
        waiting += getattr(transport, "_unsent_size", 0)
    found = socket_of(below)
    if found is not None and sys.platform == "linux":
        queued = array("i", [0])
        try:
            fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, queued)
        except (OSError, ValueError):
            return int(waiting)  # closed already
        waiting += queued[0]
    return int(waiting)


def not_sent(connection: socket.socket) -> int:
    """Bytes that the kernel holds and has not sent; 0 where it does not say (no Linux, no TCP)."""
    queued = array("i", [0])
    if sys.platform == "linux":
        try:
            fcntl.ioctl(connection.fileno(), _SIOCOUTQNSD, queued)
        except (OSError, ValueError):
            return 0
    return queued[0]


def limit_unsent(transport: object, octets: int) -> None:
    """How much the kernel may hold unsent of this connection from now on, in place of :data:`NOTSENT_LOWAT`; nothing
    where there is no TCP, or the system has no such limit."""
    below = transport_below(transport)
    found = socket_of(below)
    if found is None or _TCP_NOTSENT_LOWAT is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    if hasattr(below, "unsent_limit"):
        below.unsent_limit = octets
    with suppress(OSError):  # the peer is gone already
        found.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, octets)


def tune(transport: object) -> None:
    """Set what every connection of ours has; does nothing to what is no socket, and never fails.

    No Nagle delay (frames and requests are collected before they are written), keepalive, and little unsent data in the
    kernel, so that what is urgent passes what is bulky.
    """
    below = transport_below(transport)
    if not getattr(below, "tuned", False):
        found = socket_of(below)
        if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
            return
        _tune_socket(found)
    if getattr(below, "bufferSize", READ_SIZE) != READ_SIZE:
        below.bufferSize = READ_SIZE


def _tune_socket(found: socket.socket) -> None:
    for level, name, value in (
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEPALIVE_IDLE),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", NOTSENT_LOWAT),
    ):
        option = getattr(socket, name, _TCP_NOTSENT_LOWAT if name == "TCP_NOTSENT_LOWAT" else None)
        if option is None:
            continue
        try:
            found.setsockopt(level, option, value)
        except OSError:
            continue  # the peer is gone already, or a kernel that knows the name and not the option
