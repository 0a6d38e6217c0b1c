"""Listening sockets that a process was given when it started: by systemd, or by the process that it replaces.

systemd's protocol is that of sd_listen_fds(3).  Ours is a Unix socket whose number stands in :data:`SUCCESSOR`: first
four octets with the length of a JSON array, which has the endpoint description of each socket, then the sockets, in
that order, with an octet for each :data:`BATCH` of them.  The new process says :data:`SERVES` there when it serves.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from wormhole_tw.errors import WormholeError

__all__ = ["BATCH", "NOTHING", "SERVES", "SUCCESSOR", "Inherited", "Predecessor", "hand_on", "inherit"]

SUCCESSOR = "WORMHOLE_SUCCESSOR"
"""The variable that tells a process which of its descriptors leads to the one that it replaces."""

SERVES = b"serves\n"

BATCH = 64
"""Descriptors in one message; Linux takes 253."""

PATIENCE = 10.0
"""Seconds for the predecessor's sockets: it sent them before we were started."""

_FIRST = 3  # SD_LISTEN_FDS_START
_ANY = frozenset({"", "0.0.0.0", "::"})


@dataclass(slots=True)
class _Handed:
    """:ivar description: the endpoint that it was opened for, or empty: then only its address tells"""

    socket: socket.socket
    description: str


class Inherited:
    """Sockets that wait to be taken by the endpoints that they are for.

    :ivar succeeds: they are of a process that this one replaces, whose agents are all told to come
    """

    def __init__(self, handed: Iterable[tuple[socket.socket, str]] = (), *, succeeds: bool = False) -> None:
        self.succeeds = succeeds
        self._handed = [_Handed(own, description) for own, description in handed]

    def take(self, description: str, endpoint: Any) -> socket.socket | None:
        """The socket for an endpoint, which is the caller's from now on; None where there is none.

        :param description: of the endpoint; a socket that was opened for the same is the one
        :param endpoint: what Twisted made of it: else its address tells
        """
        for fits in (lambda one: one.description == description, lambda one: _listens_at(one.socket, endpoint)):
            for one in self._handed:
                if fits(one):
                    self._handed.remove(one)
                    return one.socket
        return None

    def close(self) -> list[str]:
        """Close those that nobody took; gives where they listened."""
        handed, self._handed = self._handed, []
        names = [one.description or _shown(one.socket) for one in handed]
        for one in handed:
            one.socket.close()
        return names


NOTHING = Inherited()
"""No process before, and no systemd."""


def _listens_at(own: socket.socket, endpoint: Any) -> bool:
    if getattr(endpoint, "fileno", None) == own.fileno():
        return True  # systemd:domain=INET:name=… means this one
    try:
        name = own.getsockname()
    except OSError:
        return False
    if own.family == socket.AF_UNIX:
        return isinstance(path := getattr(endpoint, "_address", None), str) and os.fsencode(path) == os.fsencode(name)
    port, host = getattr(endpoint, "_port", 0), getattr(endpoint, "_interface", None)
    if own.family not in (socket.AF_INET, socket.AF_INET6) or not port or port != name[1] or host is None:
        return False
    if host in _ANY or name[0] in _ANY:
        # [::] takes IPv4 too, and is what systemd makes of a bare port
        return host in _ANY and name[0] in _ANY
    try:
        return ip_address(host) == ip_address(name[0])
    except ValueError:
        return False


def _shown(own: socket.socket) -> str:
    name = own.getsockname()
    return name if isinstance(name, str) else f"{name[0]} port {name[1]}"


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The process that this one replaces."""

    link: socket.socket

    def tell(self) -> None:
        """We serve: it may go."""
        try:
            self.link.sendall(SERVES)
        except OSError:
            pass  # it is gone already
        self.link.close()


def inherit(environ: MutableMapping[str, str]) -> tuple[Inherited, Predecessor | None]:
    """What this process was given.  The variables that say so are taken out: they are for nobody else.

    :raises WormholeError: what was to come did not
    """
    number = environ.pop(SUCCESSOR, "")
    listening = _listen_fds(environ)
    if number.isdecimal():
        return _from_predecessor(int(number))
    return (Inherited(_from_systemd(listening)), None) if listening else (NOTHING, None)


def _listen_fds(environ: MutableMapping[str, str]) -> int:
    """How many sockets systemd gave to this very process."""
    told = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if not told["LISTEN_PID"] and environ is os.environ:
        # Twisted has taken two of them out as soon as its endpoints were imported, for those that name a socket by its
        # number. The kernel still knows them.
        with suppress(OSError):
            first = Path("/proc/self/environ").read_bytes().split(b"\0")
            told |= dict(line.decode(errors="replace").split("=", 1) for line in first if line.startswith(b"LISTEN_"))
    count = told["LISTEN_FDS"]
    return int(count) if told["LISTEN_PID"] == str(os.getpid()) and count.isdecimal() else 0


def _from_systemd(count: int) -> list[tuple[socket.socket, str]]:
    handed = []
    for number in range(_FIRST, _FIRST + count):
        try:
            os.set_inheritable(number, False)
            own = socket.socket(fileno=number)
            listening = own.type == socket.SOCK_STREAM and own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise WormholeError(f"systemd handed over descriptor {number}, which is no socket") from error
        if not listening:
            raise WormholeError(f"systemd handed over descriptor {number}, which is no listening stream socket")
        handed.append((_readied(own), ""))
    return handed


def _readied(own: socket.socket) -> socket.socket:
    own.setblocking(False)
    own.set_inheritable(False)
    return own


def _from_predecessor(number: int) -> tuple[Inherited, Predecessor]:
    try:
        link = socket.socket(fileno=number)
        link.set_inheritable(False)
        link.settimeout(PATIENCE)
        descriptions = json.loads(_read(link, int.from_bytes(_read(link, 4))))
        if not isinstance(descriptions, list):
            raise ValueError("no array of descriptions")
        descriptors: list[int] = []
        while len(descriptors) < len(descriptions):
            data, more, _, _ = socket.recv_fds(link, 1, BATCH)
            descriptors += more
            if not data:
                raise ConnectionError("it ended early")
        handed = [
            (_readied(socket.socket(fileno=descriptor)), str(description))
            for descriptor, description in zip(descriptors, descriptions, strict=True)
        ]
    except (OSError, OverflowError, ValueError) as error:
        raise WormholeError(f"the process that this one replaces gave no sockets: {error}") from error
    return Inherited(handed, succeeds=True), Predecessor(link)


def _read(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = link.recv(size - len(data))
        if not piece:
            raise ConnectionError("it ended early")
        data += piece
    return data


def hand_on(link: socket.socket, sockets: Sequence[tuple[str, int]]) -> None:
    """Send the descriptions and descriptors of listening sockets, which stay open here, to a process that will start.

    :param link: our end of a stream socket pair; what is sent waits in it, for nobody reads it yet
    :raises OSError: there are more than it holds
    """
    link.setblocking(False)  # where it is full nobody would ever make room
    text = json.dumps([description for description, _ in sockets]).encode()
    link.sendall(len(text).to_bytes(4) + text)
    descriptors = [descriptor for _, descriptor in sockets]
    for first in range(0, len(descriptors), BATCH):
        socket.send_fds(link, [b"+"], descriptors[first : first + BATCH])
