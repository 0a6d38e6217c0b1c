"""A private service in the test's own process, so that a test sees both ends by one clock."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler

READ = 256 * 1024


class Call(BaseHTTPRequestHandler):
    """One connection of the service; ``routes`` say what a path does."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def handle_any(self) -> None:
        origin = self.server.origin
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


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
    origin: Origin

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        # A connection that is cut is what some tests are about.
        if error is not None and not isinstance(error, OSError):
            self.origin.errors.append(error)


class Origin:
    """An HTTP/1.1 service on a free port of 127.0.0.1, one thread a connection.

    :param routes: path → what answers it

    :ivar calls: how often each path was asked for
    :ivar errors: what its routes raised, lost connections aside
    """

    def __init__(self, routes: Mapping[str, Callable[[Call], None]] | None = None) -> None:
        self.routes = dict(routes or {})
        self.calls: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), Call)
        self._server.origin = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="origin", daemon=True)

    def text(self, path: str, body: bytes) -> None:
        """Let a path answer with ``body``."""
        self.routes[path] = lambda call: call.answer(body)

    def __enter__(self) -> Origin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        assert not self.errors, self.errors
