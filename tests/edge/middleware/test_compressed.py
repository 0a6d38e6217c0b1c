"""Answers that middleware made, or changed, and that get a content coding behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.edge.house import building, judged
from tests.edge.middleware.house import MiddlewareHouse
from tests.edge.press import CHUNKED, HEAD, NOISE, PAGE, Hands, chunk, fields, get, judged_chunks, sized
from tests.http.coding.judges import GIVEN, decoded
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.edge.compressing import Compressors
from wormhole_tw.http.coding import CodingRules
from wormhole_tw.middleware import InjectHtml, Next, Request, Response
from wormhole_tw.wire.codes import ResetCode


class Squeezing(MiddlewareHouse):
    """Its site compresses, too."""

    def catalog(self, protocol: str) -> Catalog:
        usual = super().catalog(protocol)
        sites = [
            replace(site, routes=tuple(replace(route, compress=CodingRules()) for route in site.routes))
            for site in usual.sites
        ]
        return Catalog(sites, usual.backends.values(), own_names=["edge.test"])

    def close(self) -> None:
        super().close()
        assert self.context.compressors.running == 0


@pytest.fixture
def squeezed() -> Iterator[Callable[..., Squeezing]]:
    with building(Squeezing) as build:

        def make(*middleware: Any, hands: Hands | None = None, **options: Any) -> Squeezing:
            house = build(*middleware, **options)
            if hands is not None:
                house.context.compressors = Compressors(house.timers, hands)  # type: ignore[arg-type]
            return house

        yield make


async def nothing(request: Request, next: Next) -> Response:
    return await next(request)


@pytest.mark.parametrize("coding", GIVEN)
def test_what_passes_through(squeezed: Any, coding: bytes) -> None:
    house = squeezed(nothing)
    visitor = house.visitor()
    visitor.says(get(coding))
    house.stream.deliver(sized(PAGE))
    [(head, body)] = visitor.answers()
    assert (fields(head)[b"content-encoding"], decoded(coding, body)) == (coding, PAGE)
    visitor.says(get(coding, method=b"HEAD"))
    house.stream.deliver(HEAD + b"Content-Length: 5000\r\n\r\n")
    [(head, _)] = visitor.answers([b"HEAD"])
    assert fields(head)[b"content-encoding"] == coding


def test_what_streams_through(squeezed: Any) -> None:
    house = squeezed(nothing)
    visitor = house.visitor()
    visitor.says(get())
    house.stream.deliver(HEAD + CHUNKED)
    body = judged_chunks(visitor.hears().partition(b"\r\n\r\n")[2])
    for number in range(1, 20):
        house.stream.deliver(chunk(PAGE))
        body += judged_chunks(visitor.hears())
        assert decoded(b"gzip", body, cut=True) == PAGE * number
    house.stream.deliver(b"0\r\nX-Sum: 7\r\n\r\n")
    heard = visitor.hears()
    assert heard.endswith(b"0\r\nX-Sum: 7\r\n\r\n")


def test_what_it_made(squeezed: Any) -> None:
    async def whole(request: Request, next: Next) -> Response:
        return Response(200, PAGE, headers={"Content-Type": "text/html"})

    house = squeezed(whole)
    visitor = house.visitor()
    for method in (b"GET", b"HEAD", b"GET"):
        visitor.says(get(method=method))
        [(head, body)] = visitor.answers([method])
        assert fields(head)[b"content-encoding"] == b"gzip"
        assert decoded(b"gzip", body) == PAGE if method == b"GET" else body == b""


@pytest.mark.parametrize("workers", [False, True])
def test_what_it_makes_piece_by_piece_at_the_visitors_pace(squeezed: Any, workers: bool) -> None:
    made = []

    async def streams(request: Request, next: Next) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(20):
                made.append(number)
                yield NOISE[:50_000]

        return Response(200, pieces(), headers={"Content-Type": "text/html"})

    hands = Hands() if workers else None
    house = squeezed(streams, hands=hands)
    visitor = house.visitor(capacity=60_000)
    visitor.says(get())
    if hands is not None:
        assert len(made) == 1  # the first one is being coded
        hands.work_off()
    assert len(made) < 10
    heard = b""
    for _ in range(200):
        heard += visitor.hears()
        house.clock.advance(0)
        if hands is not None:
            hands.work_off()
    [(_, body)] = judged(heard)
    assert decoded(b"gzip", body) == NOISE[:50_000] * 20


def test_html_is_put_into_what_the_service_sent_as_it_is(squeezed: Any) -> None:
    house = squeezed(InjectHtml(html="<b>new</b>"))
    visitor = house.visitor()
    visitor.says(get(b"gzip"))
    page = b"<html><head></head>" + PAGE
    house.stream.deliver(sized(page, b'ETag: "abc"\r\n'))
    [(head, body)] = judged(visitor.hears())
    assert b"<head><b>new</b></head>" in decoded(b"gzip", body)
    assert fields(head)[b"etag"].startswith(b'W/"abc~i')


@pytest.mark.parametrize("reader", [False, True])
def test_an_answer_that_stops_midway_is_cut(squeezed: Any, reader: bool) -> None:
    async def read(request: Request, next: Next) -> Response:
        response = await next(request)
        body = response.body

        async def same() -> AsyncIterator[bytes]:
            async for piece in body:
                yield piece

        response.body = same()
        return response

    house = squeezed(read if reader else nothing)
    visitor = house.visitor()
    visitor.says(get())
    house.stream.deliver(HEAD + CHUNKED + chunk(PAGE))
    body = judged_chunks(visitor.hears().partition(b"\r\n\r\n")[2])
    assert decoded(b"gzip", body, cut=True) == PAGE
    house.stream.reset(ResetCode.SERVICE_FAILED, delivered=True)
    assert visitor.disconnected
    assert not visitor.hears().endswith(b"0\r\n\r\n")


def test_a_visitor_who_leaves_ends_it(squeezed: Any) -> None:
    hands = Hands()
    house = squeezed(nothing, hands=hands)
    whole, streamed = house.visitor(), house.visitor()
    whole.says(get())
    streamed.says(get())
    first, second = house.streams
    first.deliver(sized(NOISE))
    second.deliver(HEAD + CHUNKED + chunk(NOISE[:60_000]))
    assert len(hands.jobs) == 2
    whole.lose()
    streamed.lose()
    assert [job.done for job in hands.jobs] == [None, None]
    assert house.context.compressors.running == 0


def test_a_switched_connection_passes(squeezed: Any) -> None:
    house = squeezed(nothing)
    visitor = house.visitor()
    visitor.says(get(more=b"Connection: Upgrade\r\nUpgrade: thing\r\n"))
    house.stream.deliver(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: thing\r\n\r\nhello")
    assert visitor.hears().endswith(b"\r\n\r\nhello")
    visitor.says(b"world")
    assert house.stream.read().endswith(b"world")
    house.stream.deliver(b"!")
    assert visitor.hears() == b"!"
