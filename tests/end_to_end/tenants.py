"""Many private services in one program, each a tenant with a name: ``python -m tests.end_to_end.tenants 50``.

What is asked carries a nonce in its path, in ``X-Nonce`` and, again and again, in its body; the nonce decides how it is
answered (:func:`manner`), so that both ends know.
"""

from __future__ import annotations

import asyncio
import sys

BODY = 24
"""Nonces in the body of an ordinary POST."""

LARGE = 3000
"""Nonces in a large answer: 96 KB, more than a stream's first window."""

ORDINARY, CHUNKED, LATE, LARGE_ONE, ENLARGED, BROKEN = "ordinary", "chunked", "late", "large", "in pieces", "broken off"


def manner(nonce: bytes) -> str:
    """How the answer to this nonce is given."""
    number = int(nonce[:2], 16)
    for share, name in ((8, CHUNKED), (8, LATE), (4, LARGE_ONE), (2, ENLARGED), (2, BROKEN)):
        if number < share:
            return name
        number -= share
    return ORDINARY


def host_of(tenant: bytes) -> bytes:
    """Where visitors find a tenant."""
    return tenant + b".example.test"


def text(tenant: bytes, nonce: bytes, body: bytes) -> bytes:
    """What answers a request."""
    data = b"%s %s %s" % (tenant, nonce, body)
    return data + nonce * LARGE if manner(nonce) in (LARGE_ONE, ENLARGED) else data


class Tenant(asyncio.Protocol):
    """One connection to one tenant."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._waiting = b""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        self._go()

    def _go(self) -> None:
        while not self._busy and (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            lines = self._waiting[:end].split(b"\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
            whole = end + 4 + int(fields.get(b"content-length", b"0"))
            if len(self._waiting) < whole:
                return
            body, self._waiting = self._waiting[end + 4 : whole], self._waiting[whole:]
            self._answer(lines[0], fields, body)

    def _answer(self, line: bytes, fields: dict[bytes, bytes], body: bytes) -> None:
        nonce = line.split(b" ")[1][1:]
        host = fields[b"host"].partition(b":")[0]
        wrong = host != host_of(self._name) or fields.get(b"x-nonce") != nonce or body != nonce * (len(body) // 32)
        data = b"this is not one request of %s" % self._name if wrong else text(self._name, nonce, body)
        head = b"HTTP/1.1 %s\r\nX-Tenant: %s\r\nX-Nonce: %s\r\nContent-Type: text/plain\r\n" % (
            b"409 Conflict" if wrong else b"200 OK",
            self._name,
            fields.get(b"x-nonce", b"none"),
        )
        match manner(nonce):
            case "chunked":
                head += b"Transfer-Encoding: chunked\r\n\r\n"
                data = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (10, data[:10], len(data) - 10, data[10:])
                self._transport.write(head + data)
            case "late":
                self._later(0.02, head + b"Content-Length: %d\r\n\r\n" % len(data) + data)
            case "in pieces":
                self._transport.write(head + b"Content-Length: %d\r\n\r\n" % len(data) + data[:10_000])
                self._later(0.01, data[10_000:])
            case "broken off":
                self._transport.write(head + b"Content-Length: %d\r\n\r\n" % len(data) + data[:10])
                self._busy = True
                asyncio.get_running_loop().call_later(0.01, self._transport.abort)
            case _:
                self._transport.write(head + b"Content-Length: %d\r\n\r\n" % len(data) + data)

    def _later(self, seconds: float, data: bytes) -> None:
        def go_on() -> None:
            self._transport.write(data)
            self._busy = False
            self._go()

        self._busy = True
        asyncio.get_running_loop().call_later(seconds, go_on)


async def serve(count: int) -> None:
    """Serve so many tenants, each on a port of its own, for good."""
    loop = asyncio.get_running_loop()
    ports = []
    for number in range(count):
        name = b"tenant-%d" % number
        server = await loop.create_server(lambda name=name: Tenant(name), "127.0.0.1", 0, backlog=1024)
        ports.append(server.sockets[0].getsockname()[1])
    print("ports", *ports, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
