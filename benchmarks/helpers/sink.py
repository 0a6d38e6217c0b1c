"""An HTTP service that drops what is sent to it and says 200; it closes where it is asked to. Settings: ``port``."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import cast

from benchmarks.helpers import say, settings

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_MAX_HEAD = 65536


class Sink(asyncio.BufferedProtocol):
    """Takes heads whole and bodies into one buffer that stays. Bodies are of a stated length or chunked; nothing may be
    sent behind a chunked one before its answer."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(256 * 1024))
        self._head = b""
        self._left = 0
        self._chunked_tail: bytes | None = None
        self._last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._left > nbytes:
            self._left -= nbytes
            return
        data = self._buffer[:nbytes]
        if self._left:
            data = data[self._left :]
            self._left = 0
            self._answer()
        self._take(bytes(data))

    def _take(self, data: bytes) -> None:
        if self._chunked_tail is not None:
            tail = (self._chunked_tail + data)[-7:]
            if not tail.endswith(b"\r\n0\r\n\r\n"):
                self._chunked_tail = tail
                return
            self._chunked_tail = None
            self._answer()
            return
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, rest = self._head.split(b"\r\n\r\n", 1)
            self._head = b""
            self._last = b"\r\nconnection: close" in head.lower()
            if b"\r\nexpect: 100-continue" in head.lower():
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if b"\r\ntransfer-encoding:" in head.lower():
                self._chunked_tail = b"\r\n"
                if rest:
                    self._take(rest)
                return
            found = re.search(rb"\r\ncontent-length: *(\d+)", head.lower())
            left = int(found[1]) - len(rest) if found else -len(rest)
            if left > 0:
                self._left = left
                return
            self._answer()
            if self._last:
                return
            self._head = rest[len(rest) + left :] if left < 0 else b""
        if len(self._head) > _MAX_HEAD:
            self._transport.abort()

    def _answer(self) -> None:
        self._transport.write(_ANSWER)
        if self._last:
            self._transport.close()


async def _run() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", settings()["port"])
    say("ready")
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run())
