"""A small request at fixed times, whatever became of the one before; prints each one's milliseconds as JSON.

Settings: ``scheme``, ``port``, ``host``, ``path``, ``every`` seconds, ``seconds``. A request is counted from the time
when it was due, so that what waits behind a slow one is not left out. Each takes a connection that is free; there are
enough of them, made before.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from functools import partial
from typing import cast

from benchmarks.helpers import say, settings

CONNECTIONS = 32
"""Made before: at one request every 20 ms, enough for answers that take 640 ms."""

PATIENCE = 10.0
"""Seconds for the last answers."""


class Connection(asyncio.Protocol):
    """One keep-alive connection, with at most one request at a time."""

    def __init__(self, free: deque[Connection]) -> None:
        self._free = free
        self._received = b""
        self._answer: asyncio.Future[None] | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[None]:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(f"an answer was {head[:60]!r}")
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self._received = b""
            answer, self._answer = self._answer, None
            answer.set_result(None)
            self._free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._fail(f"a connection was lost: {exc or 'closed'}")

    def _fail(self, why: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(ConnectionError(why))


async def _run() -> None:
    wanted = settings()
    loop = asyncio.get_running_loop()
    context: ssl.SSLContext | None = None
    if wanted["scheme"] == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    host = wanted["host"]
    request = f"GET {wanted['path']} HTTP/1.1\r\nHost: {host}:{wanted['port']}\r\n\r\n".encode()
    free: deque[Connection] = deque()
    everyone: list[Connection] = []
    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(
            lambda: Connection(free),
            "127.0.0.1",
            wanted["port"],
            ssl=context,
            server_hostname=host if context else None,
        )
        everyone.append(connection)
        await connection.ask(request)
    took: list[float] = []
    asked: set[asyncio.Future[None]] = set()

    def note(due: float, _: object) -> None:
        took.append((loop.time() - due) * 1e3)

    begin = loop.time() + wanted["every"]
    for number in range(int(wanted["seconds"] / wanted["every"])):
        due = begin + number * wanted["every"]
        await asyncio.sleep(max(due - loop.time(), 0))
        while free and free[0].lost:  # idle for too long in somebody's eyes
            free.popleft()
        if not free:
            took.append(PATIENCE * 1e3)  # none of them has answered yet
            continue
        answer = free.popleft().ask(request)
        answer.add_done_callback(partial(note, due))
        asked.add(answer)
    done, late = await asyncio.wait(asked, timeout=PATIENCE)
    for answer in done:
        answer.result()
    took += [PATIENCE * 1e3] * len(late)
    for connection in everyone:
        connection.transport.abort()
    say(json.dumps(took))


if __name__ == "__main__":
    asyncio.run(_run())
