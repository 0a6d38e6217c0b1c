"""The slow link: no faster than it says, no shorter than it says, in order, bounded, and closed as TCP is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest
from benchmarks.helpers.link import PACKET, SlowLink

MEGABIT = 125_000
"""Octets a second."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class Ends:
    """A service, and a link to it; ``connect()`` goes through the link."""

    def __init__(self, handler: Handler, *, megabits: float = 100.0, round_trip: float = 0.0, queue: int = 0) -> None:
        self._handler = handler
        self._megabits = megabits
        self._round_trip = round_trip
        self._queue = queue

    async def __aenter__(self) -> Ends:
        self._server = await asyncio.start_server(self._handler, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.link = SlowLink(listen=0, to=port, megabits=self._megabits, round_trip=self._round_trip, queue=self._queue)
        self._port = await self.link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.link.stop()
        self._server.close()
        await self._server.wait_closed()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


def run(conversation: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(conversation(), 20))


async def read_or_reset(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def test_what_comes_is_what_was_sent() -> None:
    async def conversation() -> None:
        async with Ends(echo) as ends:
            reader, writer = await ends.connect()
            sent = os.urandom(500_000)
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == sent
            await closed(writer)

    run(conversation)


def test_an_answer_takes_a_round_trip() -> None:
    async def conversation() -> None:
        async with Ends(echo, round_trip=0.1) as ends:
            loop = asyncio.get_running_loop()
            reader, writer = await ends.connect()
            begin = loop.time()
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            assert loop.time() - begin >= 0.099
            await closed(writer)

    run(conversation)


def test_all_connections_share_the_bandwidth() -> None:
    async def conversation() -> None:
        async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(65536):
                pass
            writer.close()

        async with Ends(drop, megabits=8) as ends:
            loop = asyncio.get_running_loop()
            begin = loop.time()

            async def send() -> None:
                reader, writer = await ends.connect()
                writer.write(bytes(100_000))
                writer.write_eof()
                assert await reader.read() == b""
                await closed(writer)

            await asyncio.gather(send(), send(), send())
            assert loop.time() - begin >= 300_000 / (8 * MEGABIT) * 0.99

    run(conversation)


def test_little_waits_in_the_link() -> None:
    async def conversation() -> None:
        async with Ends(echo, megabits=40, queue=20_000) as ends:
            reader, writer = await ends.connect()
            writer.write(bytes(400_000))
            writer.write_eof()
            assert len(await reader.read()) == 400_000
            # one read more than the queue: the kernel's buffer, which it makes twice what was asked for, and some
            assert 10_000 < ends.link.out.most_waiting < 20_000 + 64 * 1024
            await closed(writer)

    run(conversation)


def test_who_does_not_read_holds_up_who_sends() -> None:
    async def conversation() -> None:
        go_on = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go_on.wait()
            await echo(reader, writer)

        async with Ends(wait, megabits=1000) as ends:
            _, writer = await ends.connect()
            writer.transport.set_write_buffer_limits(high=0)
            size = 64_000_000  # far more than the kernel's buffers
            writer.write(bytes(size))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.3)
            assert not writer.transport.is_closing()
            go_on.set()
            await closed_early(writer)

    async def closed_early(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        with pytest.raises(ConnectionError):
            await writer.drain()

    run(conversation)


def test_an_end_in_one_direction_leaves_the_other_open() -> None:
    async def conversation() -> None:
        async def after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = await reader.read()
            writer.write(b"answer to " + asked)
            writer.close()

        async with Ends(after_the_end, round_trip=0.02) as ends:
            reader, writer = await ends.connect()
            writer.write(b"question")
            writer.write_eof()
            assert await reader.read() == b"answer to question"
            await closed(writer)

    run(conversation)


def test_a_service_that_is_not_there() -> None:
    async def conversation() -> None:
        async with Ends(echo) as ends:
            ends._server.close()
            await ends._server.wait_closed()
            reader, writer = await ends.connect()
            assert await read_or_reset(reader) == b""
            await closed(writer)

    run(conversation)


def test_a_packet_is_small() -> None:
    assert PACKET < 1500
