"""A private service that the test itself is: it takes each connection, and says and hears what the test wants."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

PATIENCE = 30.0
"""Seconds for a peer to send, take or connect: far more than any of it takes."""


class Desk:
    """Listens on a free port of 127.0.0.1 while it is entered."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def probed(self) -> None:
        """Take the connection by which an agent saw that the service is there."""
        with self.accepted() as probe:
            assert probe.recv(1) == b""

    @contextmanager
    def accepted(self) -> Iterator[socket.socket]:
        """The next connection."""
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            yield connection

    def waits(self, seconds: float) -> bool:
        """Nobody comes for so long."""
        self._listener.settimeout(seconds)
        try:
            self._listener.accept()[0].close()
        except TimeoutError:
            return True
        finally:
            self._listener.settimeout(PATIENCE)
        return False


@contextmanager
def dialled(port: int, source: str = "127.0.0.1", *, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A visitor's connection to a port of 127.0.0.1, from an address of this machine."""
    with socket.socket() as visitor:
        visitor.settimeout(PATIENCE)
        if receive_buffer is not None:
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        visitor.bind((source, 0))
        visitor.connect(("127.0.0.1", port))
        yield visitor


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many octets, or fewer where the connection ends before."""
    data = b""
    while len(data) < size and (piece := connection.recv(size - len(data))):
        data += piece
    return data


def everything(connection: socket.socket) -> bytes:
    """All until its end."""
    data = b""
    while piece := connection.recv(1 << 20):
        data += piece
    return data


def is_cut_off(connection: socket.socket) -> bool:
    """It ends, in whatever way, before it says anything."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def breaks(connection: socket.socket) -> None:
    """Close with a RST, as a process does that is killed with data unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
