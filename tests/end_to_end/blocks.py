"""A service that does nothing but send: ``GET /SIZE`` gives so many octets, ``GET /endless`` never ends.  A request
with another method than GET gets no answer: its body is read and thrown away.

It runs as a program of its own, so that it takes no time from the visitors in the test's process.  On standard output:
its port, then a line each time that an endless answer has come to a halt, with the octets that were sent until then.
"""

from __future__ import annotations

import asyncio

BLOCK = bytes(64 * 1024)
HALT = 1.0
"""Seconds without progress after which an endless answer has come to a halt."""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.set_write_buffer_limits(high=len(BLOCK))
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b" ", 2)
            if method != b"GET":
                while await reader.read(len(BLOCK)):
                    pass
                return
            if path == b"/endless":
                await endless(writer)
                return
            left = int(path[1:])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            while left:
                size = min(left, len(BLOCK))
                writer.write(BLOCK[:size])
                left -= size
                await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    sent = 0
    while True:
        writer.write(BLOCK)
        draining = asyncio.ensure_future(writer.drain())
        done, _ = await asyncio.wait([draining], timeout=HALT)
        if not done:
            print(f"halted after {sent} octets", flush=True)
        await draining
        sent += len(BLOCK)


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
