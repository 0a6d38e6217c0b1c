"""New TLS connections as fast as they come, from a few threads; prints count, seconds and resumed ones as JSON.

Settings: ``port``, ``host``, ``seconds``, ``threads``, ``resume``. A connection is: TCP, handshake, an end of both
sides; no request. With ``resume`` every one offers the session of a connection that had a request before.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from contextlib import suppress

from benchmarks.helpers import say, settings

PATIENCE = 5.0
"""Seconds for whatever one connection waits for."""


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Visitor:
    """Connects again and again."""

    def __init__(self, port: int, host: str, resume: bool) -> None:
        self._address = ("127.0.0.1", port)
        self._host = host
        self._context = _context()
        self._session: ssl.SSLSession | None = None
        self.count = 0
        self.resumed = 0
        self.error: Exception | None = None
        if resume:
            self._session = self._request()

    def _connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(self._address, PATIENCE)
        return self._context.wrap_socket(raw, server_hostname=self._host, session=self._session)

    def _request(self) -> ssl.SSLSession:
        with self._connect() as connection:
            connection.sendall(f"GET /small HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n".encode())
            while connection.recv(65536):
                pass
            session = connection.session
            if session is None or not session.has_ticket:
                raise ConnectionError("the server gave no ticket to resume a session with")
            return session

    def run(self, seconds: float) -> None:
        """Connect for so long."""
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                connection = self._connect()
                self.resumed += bool(connection.session_reused)
                self.count += 1
                # Its end, and ours: tickets that came are read, so that nothing is answered by a reset.
                with suppress(OSError):
                    raw = connection.unwrap()
                    raw.close()
                connection.close()
        except Exception as error:
            self.error = error


def main() -> None:
    """Count."""
    wanted = settings()
    visitors = [Visitor(wanted["port"], wanted["host"], wanted["resume"]) for _ in range(wanted["threads"])]
    threads = [threading.Thread(target=visitor.run, args=(wanted["seconds"],)) for visitor in visitors]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    for visitor in visitors:
        if visitor.error is not None:
            raise SystemExit(f"{type(visitor.error).__name__}: {visitor.error}")
    count = sum(visitor.count for visitor in visitors)
    say(json.dumps({"count": count, "seconds": took, "resumed": sum(visitor.resumed for visitor in visitors)}))


if __name__ == "__main__":
    main()
