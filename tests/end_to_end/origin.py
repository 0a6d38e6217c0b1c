"""A private service in the test's own process, so that a test sees both ends by one clock."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.end_to_end.threaded import ThreadedService
from wormhole_tw.net import choice

READ = 256 * 1024


class Call(BaseHTTPRequestHandler):
    """One connection of the service; ``routes`` say what a path does."""

    server: Any
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        origin: Origin = self.server.origin
        path = self.path.partition("?")[0]
        with origin.lock:
            origin.calls[path] += 1
        origin.routes.get(path, nothing_here)(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def body(self) -> Iterator[bytes]:
        """The pieces of the request's body as they come."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                left = size
                while left:
                    piece = self.rfile.read1(min(left, READ))
                    if not piece:
                        raise ConnectionError("the request's body ended early")
                    left -= len(piece)
                    yield piece
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left:
            piece = self.rfile.read1(min(left, READ))
            if not piece:
                raise ConnectionError("the request's body ended early")
            left -= len(piece)
            yield piece

    def answer(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer with Content-Length."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, body: bytes, status: int, headers: Mapping[str, str] | None = None) -> None:
        """An answer while the request's body still comes, and the end of the connection behind it.

        A socket that is closed with octets unread resets its connection.  Our transports still hear what was said
        before; Twisted's lose it where their own write fails first (docs/configuration.md says so), so with them the
        service ends as careful ones do: it says that it is done, and takes what comes until the other side is.
        """
        self.close_connection = True
        self.answer(body, status, {"Connection": "close"} | dict(headers or {}))
        if not choice.ours():
            self.connection.settimeout(20)
            self.connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):  # a reset is an end too
                while self.connection.recv(READ):
                    pass

    def begin_chunks(self, headers: Mapping[str, str] | None = None) -> None:
        """The head of an answer in chunks."""
        self.send_response(200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """One chunk; an empty one ends the answer."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def nothing_here(call: Call) -> None:
    call.answer(b"nothing here\n", 404)


class Origin(ThreadedService):
    """An HTTP/1.1 service.

    :param routes: path → what answers it

    :ivar calls: how often each path was asked for
    """

    def __init__(self, routes: Mapping[str, Callable[[Call], None]] | None = None) -> None:
        super().__init__(Call)
        self.routes = dict(routes or {})
        self.calls: Counter[str] = Counter()

    def text(self, path: str, body: bytes) -> None:
        """Let a path answer with ``body``."""
        self.routes[path] = lambda call: call.answer(body)
