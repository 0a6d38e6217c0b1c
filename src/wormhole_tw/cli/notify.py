"""Telling systemd what a service is doing: the protocol of sd_notify(3), which is a datagram to a Unix socket.

A unit with ``Type=notify`` is started when its process says so, so that what is ordered after an edge finds its ports
open.  Elsewhere there is no such socket, and nothing is told to anybody.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

__all__ = ["READY", "STOPPING", "Notifier"]

READY = "READY=1"
"""It has started."""

STOPPING = "STOPPING=1"
"""It has begun to stop."""


class Notifier:
    """Knows where this process is asked to tell.

    :param environ: the process's environment.  ``NOTIFY_SOCKET`` is taken out of it: a program that this one starts is
        not to speak in its name

    :ivar environment: what was taken, for the one program that is to
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        self.environment = {"NOTIFY_SOCKET": path} if path else {}
        # "@" stands for the NUL of the abstract namespace; what is neither that nor a path, is for a newer protocol
        self._address = "\0" + path[1:] if path.startswith("@") else path if path.startswith("/") else ""

    def name_main_process(self, pid: int) -> None:
        """Another process is the service from now on; this one has nothing more to tell."""
        self.tell(f"MAINPID={pid}")
        self._address = ""

    def tell(self, state: str) -> None:
        """Tell it, at once.  Where nobody takes it, a service goes on all the same."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.connect(self._address)
                sender.send(state.encode())
        except OSError:
            pass
