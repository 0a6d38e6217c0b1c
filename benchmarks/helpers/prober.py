"""A small request at fixed times, whatever became of the one before; prints each one's milliseconds as JSON.

Settings: ``scheme``, ``port``, ``host``, ``path``, ``every`` seconds, ``seconds``. A request is counted from the time
when it was due, so that what waits behind a slow one is not left out. Each takes a connection that is
free, of those that were made before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import deque
from typing import cast

from benchmarks.helpers import say, settings

CONNECTIONS = 64
"""Made before: at one request every 20 ms, enough for answers that take more than a second. After that a request waits
for a connection, and that counts."""

PATIENCE = 10.0
"""Seconds for the last answers, and for the connections at the beginning."""


class Visitor:
    """Has the connections, and the requests that are due.

    :ivar took: milliseconds from the time when a request was due to its answer
    """

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.took: list[float] = []
        self.failure = ""
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._asked = 0
        self._done = asyncio.Event()

    def ask(self, due: float) -> None:
        """Send a request now, or as soon as a connection is free."""
        self._asked += 1
        self._due.append(due)
        self._go_on()

    def free(self, connection: Connection) -> None:
        """A connection stands, or has got its answer."""
        self._free.append(connection)
        self._go_on()

    def begin(self) -> None:
        """Forget what was before."""
        self.took.clear()
        self._asked = 0

    def answered(self, milliseconds: float) -> None:
        """An answer came."""
        self.took.append(milliseconds)
        if len(self.took) >= self._asked:
            self._done.set()

    def failed(self, why: str) -> None:
        """Nothing of this counts."""
        self.failure = self.failure or why
        self._done.set()

    async def all_answered(self) -> None:
        """Wait until nothing is due, :data:`PATIENCE` at the most; what is late then has taken that."""
        self._done.clear()
        if len(self.took) < self._asked and not self.failure:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), PATIENCE)
        self.took += [PATIENCE * 1e3] * (self._asked - len(self.took))

    def _go_on(self) -> None:
        while self._free and self._due:
            self._free.popleft().ask(self._due.popleft())


class Connection(asyncio.Protocol):
    """One keep-alive connection, with at most one request at a time."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._received = b""
        self._due: float | None = None
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._visitor.free(self)

    def ask(self, due: float) -> None:
        """Send a request, which was due then."""
        self._due = due
        self.transport.write(self._visitor.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._due is None:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._visitor.failed(f"an answer was {head[:60]!r}")
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self._received = b""
            due, self._due = self._due, None
            self._visitor.answered((asyncio.get_running_loop().time() - due) * 1e3)
            self._visitor.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closing:
            self._visitor.failed(f"a connection was lost: {exc or 'closed'}")


async def _run() -> None:
    wanted = settings()
    loop = asyncio.get_running_loop()
    context: ssl.SSLContext | None = None
    if wanted["scheme"] == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    host, port, every = wanted["host"], wanted["port"], wanted["every"]
    visitor = Visitor(f"GET {wanted['path']} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())

    async def connect() -> Connection:
        name = host if context else None
        _, connection = await loop.create_connection(
            lambda: Connection(visitor), "127.0.0.1", port, ssl=context, server_hostname=name
        )
        return connection

    everyone = await asyncio.gather(*(connect() for _ in range(CONNECTIONS)))
    for _ in everyone:
        visitor.ask(loop.time())  # one on each, so that all ways are paved
    await visitor.all_answered()
    visitor.begin()
    begin = loop.time() + every
    for number in range(round(wanted["seconds"] / every)):
        due = begin + number * every
        await asyncio.sleep(max(due - loop.time(), 0))
        visitor.ask(due)
    await visitor.all_answered()
    for connection in everyone:
        connection.closing = True
        connection.transport.abort()
    if visitor.failure:
        raise SystemExit(visitor.failure)
    say(json.dumps(visitor.took))


if __name__ == "__main__":
    try:
        asyncio.run(_run())
    except OSError as error:
        raise SystemExit(f"the small requests: {error}") from None
