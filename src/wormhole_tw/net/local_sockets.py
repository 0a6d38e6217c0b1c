"""A socket in a folder that processes take over from one another: Unix sockets, of one user alone.

Its path may be as long as paths are: the 107 octets that an address has room for (``unix(7)``) hold the way over the
folder's descriptor, where the system knows that way.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort
    from twisted.internet.protocol import Factory

__all__ = ["connect_local", "is_alive", "listen_local", "owns", "serve_local"]

BACKLOG = 64

_ROOM = 100
"""Octets of a path that every system's addresses have room for (macOS: 103)."""

_BY_DESCRIPTOR = "/proc/self/fd"

_NOBODY = (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """What the system is to be told for a path.

    :raises OSError: the folder is not there, or the path is longer than this system can say
    """
    if len(os.fsencode(path)) <= _ROOM:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        near = f"{_BY_DESCRIPTOR}/{folder}"
        if not os.path.isdir(near):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        yield f"{near}/{path.name}"
    finally:
        os.close(folder)


def listen_local(path: Path) -> socket.socket:
    """A listening socket at ``path``, for its user alone (0600); what had the path before keeps its connections.

    It takes the path in one step, so that nobody ever finds it missing.

    :raises OSError: it cannot be had
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        new = path.with_name(f"{path.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            new.unlink()  # of a process with our number that was killed
        with _address(new) as address:
            listening.bind(address)
        try:
            os.chmod(new, 0o600)
            listening.listen(BACKLOG)
            listening.setblocking(False)
            os.rename(new, path)
        except BaseException:
            new.unlink()
            raise
    except BaseException:
        listening.close()
        raise
    return listening


def serve_local(reactor: Any, listening: socket.socket, factory: Factory) -> IListeningPort:
    """A port on such a socket, which stays the caller's to close; whose path it is, the port does not care."""
    # a command that only asks has no reactor, and starts in half the time without
    from twisted.internet import unix

    from wormhole_tw.net.listening import leave_open

    port: Any = unix.Port._fromListeningDescriptor(reactor, listening.fileno(), factory)
    leave_open(port)  # Twisted would let everybody in, and take the path away at the end
    port.startListening()
    return cast("IListeningPort", port)


def connect_local(path: Path, timeout: float | None) -> socket.socket:
    """A connection to who listens at ``path``.

    :param timeout: seconds for this and for whatever is done with it; 0 for not blocking at all
    :raises OSError: nobody listens, or it may not be asked
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        with _address(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def is_alive(path: Path) -> bool:
    """Whether somebody listens at ``path``, as far as can be seen at once."""
    try:
        connect_local(path, 0).close()
    except OSError as error:
        return error.errno not in _NOBODY
    return True


def owns(path: Path, identity: tuple[int, int]) -> bool:
    """Whether ``path`` is still the socket that it was.

    :param identity: device and number, as ``os.stat`` told when it was made
    """
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == identity
