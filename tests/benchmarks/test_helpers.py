"""Our own programs that take part: the service that drops what it gets, and the visitor that asks on time."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest
from benchmarks.helpers.prober import Visitor
from benchmarks.model import Options
from benchmarks.processes import Failed, programs
from benchmarks.world import Front, World, ask

pytestmark = pytest.mark.deadline(60)


@pytest.fixture
def world() -> Iterator[World]:
    with programs() as running:
        yield World(running, Options())


def say(port: int, *parts: bytes) -> bytes:
    """What a service answers to these parts, one after the other, until it is told that there is no more."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while received := connection.recv(65536):
            answer += received
        return answer


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n"],
        [b"PUT / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", bytes(99_999), b"x"],
        [b"PUT / HTTP/1.1\r\nContent-Len", b"gth: 3\r\n\r", b"\nabc"],
    ],
    ids=["no body", "length", "split head"],
)
def test_the_sink_answers_once_for_each_request(parts: list[bytes], world: World) -> None:
    assert say(world.sink, *parts, *parts).count(b"HTTP/1.1 200 OK\r\n") == 2


@pytest.mark.parametrize("body", [b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"], ids=["empty", "a chunk"])
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_the_sink_takes_chunks(body: bytes, cut: int, world: World) -> None:
    parts = [b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body[:cut], body[cut:]]
    assert say(world.sink, *parts).count(b"HTTP/1.1 200 OK\r\n") == 1


def test_the_sink_is_a_service_like_others_to_who_waits_for_it(world: World) -> None:
    front = Front("http", world.sink, {}, "the sink")
    world.await_answer(front, 5.0)
    assert ask(front, "small").startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_sink_says_go_on(world: World) -> None:
    head = b"PUT / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    assert say(world.sink, head, b"abc").startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_the_prober_asks_as_often_as_it_should(world: World) -> None:
    settings = {"scheme": "http", "port": world.sink, "host": "a", "path": "/", "every": 0.01, "seconds": 0.2}
    took = json.loads(world.running.run("prober", world.helper_command("prober", settings), 30))
    assert len(took) == 20
    assert min(took) > 0


def test_the_prober_says_what_failed(world: World) -> None:
    settings = {"scheme": "http", "port": 1, "host": "a", "path": "/", "every": 0.01, "seconds": 0.1}
    with pytest.raises(Failed, match=r"status 1:\nthe small requests: .*Connect call failed"):
        world.running.run("prober", world.helper_command("prober", settings), 30)


def test_what_waits_for_a_connection_has_waited_since_it_was_due() -> None:
    class Slow:
        """A connection that keeps what it is asked."""

        def __init__(self) -> None:
            self.due: list[float] = []

        def ask(self, due: float) -> None:
            self.due.append(due)

    async def conversation() -> None:
        visitor, connection = Visitor(b""), Slow()
        visitor.free(connection)  # type: ignore[arg-type]
        for due in (1.0, 2.0, 3.0):
            visitor.ask(due)
        assert connection.due == [1.0]
        visitor.answered(100.0)
        visitor.free(connection)  # type: ignore[arg-type]
        assert connection.due == [1.0, 2.0]

    asyncio.run(conversation())
