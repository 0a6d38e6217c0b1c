"""Middlewares, visitors and services that do anything in any order: nothing crashes, and nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from tests._support import sized
from tests.edge.h2_visitor import GET, POST, H2Visitor
from tests.edge.middleware.house import MiddlewareHouse
from wormhole_tw.errors import MisuseError, NextFailed
from wormhole_tw.middleware import Next, Request, Response

HOST = b" / HTTP/1.1\r\nHost: app.test\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\npart",
    b"HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
    b"no answer at all\r\n\r\n",
)
MORE = (b"4\r\nmore\r\n", b"0\r\nX-Sum: 1\r\n\r\n", b"x" * 36)

EACH_SEEDS = 20


class Anything:
    """A middleware that does one of the things that one may do."""

    def __init__(self, random: Random, waiting: list[Deferred[None]]) -> None:
        self.random = random
        self.waiting = waiting

    def wait(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting

    async def upper(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if self.random.random() < 0.2:
                await self.wait()
            yield piece.upper()

    async def cut(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece
            raise ValueError("as it is meant to")

    async def __call__(self, request: Request, next: Next) -> Response:
        does = self.random.choice(
            [
                "nothing",
                "read",
                "change",
                "change both",
                "answer",
                "fail",
                "wait",
                "catch",
                "twice",
                "read both",
                "drop",
                "forget",
                "peek",
                "peek and drop",
                "peek at the request",
                "ask besides",
                "both at once",
                "cut",
                "read late",
            ]
        )
        if does == "answer":
            return Response(200, b"mine")
        if does == "fail":
            raise ValueError("as it is meant to")
        if does == "wait":
            await self.wait()
        if does in ("read", "read both", "twice"):
            await request.body.read()
        if does == "peek at the request":
            await anext(request.body, b"")
        if does == "forget":
            next(request)
            return Response(200, b"mine")
        if does == "ask besides":
            await next(Request("HEAD", "https://app.test/besides"))
        if does == "both at once":
            next(Request("GET", "https://app.test/besides"))
        if does == "change both":
            request.body = self.upper(request.body)
        if does == "twice":
            await next(request)
        try:
            response = await next(request)
        except NextFailed:
            if does == "catch":
                return Response(299, b"caught")
            raise
        if does.startswith("peek") and does != "peek at the request":
            await anext(response.body, b"")
        if does in ("drop", "peek and drop"):
            return Response(200, b"another")
        if does == "read late":
            await request.body.read()
        if response.status != 101 and not response.bodiless:
            if does.startswith("change"):
                response.body = self.upper(response.body)
            elif does == "cut":
                response.body = self.cut(response.body)
            elif does == "read both":
                await response.body.read()
        return response


def visitor_acts(random: Random, visitor: Any, begun: dict[Any, str]) -> None:
    under_way = begun.get(visitor, "")
    if under_way == "length":
        visitor.says(b"def")
        begun[visitor] = ""
    elif under_way == "chunks":
        more = random.random() < 0.5
        visitor.says(b"3\r\nabc\r\n" if more else b"0\r\n\r\n")
        begun[visitor] = "chunks" if more else ""
    elif under_way == "upgrade":
        visitor.says(b"octets")
    else:
        kind = begun[visitor] = random.choice(["", "head", "length", "chunks", "upgrade"])
        says = {
            "": b"GET" + HOST + b"\r\n",
            "head": b"HEAD" + HOST + b"\r\n",
            "length": b"POST" + HOST + b"Content-Length: 6\r\n\r\nabc",
            "chunks": b"POST" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
            "upgrade": b"GET" + HOST + UPGRADE,
        }
        visitor.says(says[kind])


def service_acts(random: Random, stream: Any) -> None:
    asked = stream.read()
    if b"Upgrade: websocket" in asked:
        stream.deliver(b"HTTP/1.1 101 Switching\r\n" + UPGRADE + b"octets")
    elif asked.startswith(b"HEAD"):
        stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    elif b" HTTP/1.1\r\n" in asked:
        stream.deliver(random.choice(ANSWERS))
    elif random.random() < 0.5:
        stream.deliver(random.choice(MORE))


def h2_acts(random: Random, visitor: H2Visitor, open_streams: list[int]) -> None:
    act = random.random()
    if act < 0.5 or not open_streams:
        ends = random.random() < 0.5
        stream = visitor.ask(random.choice([GET, POST]) if ends else POST, end=ends)
        if not ends:
            open_streams.append(stream)
        return
    stream = random.choice(open_streams)
    if visitor[stream].reset is not None or visitor[stream].ended:
        open_streams.remove(stream)
    elif act < 0.7:
        visitor.data(stream, b"abc")
    elif act < 0.9:
        open_streams.remove(stream)
        visitor.data(stream, b"", end=True)
    else:
        open_streams.remove(stream)
        visitor.client.reset_stream(stream)
        visitor.say()


def converse_by_http2(seed: int) -> None:
    random = Random(seed)
    waiting: list[Deferred[None]] = []
    house = MiddlewareHouse(*[Anything(random, waiting) for _ in range(random.randint(1, 3))], agents=2, timeout=3)
    visitor = H2Visitor(house, greedy=random.random() < 0.5).hello()
    open_streams: list[int] = []
    for _ in range(60):
        act = random.random()
        if visitor.disconnected:
            break
        if act < 0.4:
            h2_acts(random, visitor, open_streams)
        elif act < 0.7:
            for stream in [one for one in house.streams if not one.disconnected and random.random() < 0.6]:
                service_acts(random, stream)
        elif act < 0.85:
            for one in [one for one in waiting if not one.called]:
                one.callback(None)
        elif act < 0.95:
            house.pass_time(random.choice([0.25, 4]))
        visitor.hear()
    house.close()


def converse(seed: int) -> None:
    random = Random(seed)
    waiting: list[Deferred[None]] = []
    stack = [Anything(random, waiting) for _ in range(random.randint(1, 3))]
    house = MiddlewareHouse(*stack, agents=random.randint(0, 2), timeout=3)
    visitors = [house.visitor(capacity=random.choice([1000, 65536])) for _ in range(2)]
    begun: dict[Any, str] = {}
    for _ in range(40):
        act, visitor = random.random(), random.choice(visitors)
        streams = [stream for stream in house.streams if not stream.disconnected]
        if visitor.disconnected:
            continue
        if act < 0.3:
            visitor_acts(random, visitor, begun)
        elif act < 0.6:
            for stream in streams:
                if random.random() < 0.6 and not stream.disconnected:
                    service_acts(random, stream)
        elif act < 0.7:
            for one in list(waiting):
                if not one.called and random.random() < 0.7:
                    one.callback(None)
        elif act < 0.75:
            visitor.lose()
        elif act < 0.8 and streams:
            random.choice(streams).lose()
        elif act < 0.85:
            house.pass_time(random.choice([0.5, 4]))
        else:
            visitor.take(random.choice([100, 100_000]))
            house.clock.advance(0)
    house.close()


@pytest.mark.parametrize("first", range(0, sized(100, 4000), EACH_SEEDS))
def test_nothing_crashes_and_nothing_is_left(first: int, logged_failures: Any, log_lines: Any) -> None:
    for seed in range(first, first + EACH_SEEDS):
        converse(seed)
        converse_by_http2(seed)
        assert all(failure.check(ValueError, MisuseError) for failure in logged_failures.flush()), seed
        assert not [event for event in log_lines.events if event["log_level"] is LogLevel.critical], seed
        assert "after its request was over" not in log_lines, seed
