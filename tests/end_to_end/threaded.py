"""A service in the test's own process, one thread a connection."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from typing import Any, Self

PATIENCE = 60.0
"""Seconds for a peer to send or take something, far more than any test waits."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
    origin: Any

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(PATIENCE)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        # A connection that is cut is what some tests are about.
        if error is not None and not isinstance(error, OSError):
            self.origin.errors.append(error)


class ThreadedService:
    """A service on a free port of 127.0.0.1 while it is entered; leaving fails with what its threads raised.

    :param handler: makes what serves a connection, whose ``server.origin`` is this

    :ivar errors: what was raised, lost connections aside
    :ivar lock: for what the threads share
    """

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        self.errors: list[BaseException] = []
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.origin = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="origin", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        assert not self.errors, self.errors
