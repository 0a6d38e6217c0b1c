"""Middleware that does what it should not: it is refused by name, and nobody gets less without a word."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults

from tests.edge.gates import asked
from tests.edge.middleware.house import MiddlewareHouse
from wormhole_tw.edge import gates
from wormhole_tw.edge.middleware.stacks import Prepared
from wormhole_tw.errors import HttpError, MisuseError
from wormhole_tw.middleware import InjectHtml, Next, Request, Response

Through = Callable[..., MiddlewareHouse]

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


async def again(request: Request, next: Next) -> Response:
    response = await next(request)
    return response if response.status != 503 else await next(request)


async def nothing(request: Request, next: Next) -> Response:
    return await next(request)


def refused(house: MiddlewareHouse, visitor: Any, failures: Any, number: int = -1) -> None:
    """The last answer was the 500 of a middleware that did what it must not."""
    (answer, _) = visitor.answers([b"GET"] * len(house.done))[number]
    assert (answer.status_code, dict(answer.headers)[b"x-wormhole-error"]) == (500, b"middleware-failed")
    assert failures.flush(MisuseError)


# bodies that are there once


@pytest.mark.parametrize("where", ["the next one reads it", "nobody reads it"])
def test_a_request_is_never_sent_again_without_its_body(through: Through, logged_failures: Any, where: str) -> None:
    async def reads(request: Request, next: Next) -> Response:
        await request.body.read()
        return await next(request)

    house = through(again, reads if where == "the next one reads it" else nothing)
    visitor = house.visitor()
    visitor.says(POST)
    assert house.stream.requests()[0][1] == b"hi"
    house.stream.deliver(BUSY)
    assert len(house.streams) == 1
    refused(house, visitor, logged_failures)


def test_who_reads_it_first_may_send_it_again_through_others_that_read_it(through: Through) -> None:
    async def keeps(request: Request, next: Next) -> Response:
        await request.body.read()
        return await again(request, next)

    async def reads(request: Request, next: Next) -> Response:
        assert await request.body.read() == b"hi"
        return await next(request)

    house = through(keeps, reads)
    visitor = house.visitor()
    visitor.says(POST)
    house.stream.requests()
    house.stream.deliver(BUSY)
    assert [body for stream in house.streams for _, body, _ in stream.requests()] == [b"hi", b"hi"]
    house.streams[-1].deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"ok"


def test_one_that_answers_without_reading_has_taken_nothing(through: Through) -> None:
    calls: list[int] = []

    async def first_no(request: Request, next: Next) -> Response:
        calls.append(1)
        return Response(503) if len(calls) == 1 else await next(request)

    house = through(again, first_no)
    visitor = house.visitor()
    visitor.says(POST)
    assert house.stream.requests()[0][1] == b"hi"
    house.stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"ok"


@pytest.mark.parametrize("body", [b"hi", b"h"])
def test_reading_a_body_that_went_is_an_error_and_waits_for_nobody(
    through: Through, logged_failures: Any, body: bytes
) -> None:
    async def late(request: Request, next: Next) -> Response:
        response = await next(request)
        response.headers["X-Body"] = (await request.body.read()).decode()
        return response

    house = through(late)
    visitor = house.visitor()
    visitor.says(POST[:-2] + body)
    house.stream.read()
    house.stream.deliver(OK)
    refused(house, visitor, logged_failures)


@pytest.mark.parametrize("together", [True, False])
def test_the_one_who_reads_a_made_body_twice_is_named_and_not_who_makes_it(
    through: Through, logged_failures: Any, log_lines: Any, together: bool
) -> None:
    pause: Deferred[None] = Deferred()

    async def slow(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        await pause
        async for piece in pieces:
            yield piece

    async def makes(request: Request, next: Next) -> Response:
        request.body = slow(request.body)
        return await next(request)

    async def reads(request: Request, next: Next) -> Response:
        if together:
            await gatherResults([Deferred.fromCoroutine(request.body.read()) for _ in range(2)])
        sending = next(request)
        await request.body.read()
        return await sending

    house = through(makes, reads)
    visitor = house.visitor()
    visitor.says(POST)
    pause.callback(None)
    [(answer, _)] = visitor.answers([b"POST"])
    assert answer.status_code == 500
    for failure in logged_failures.flush():
        assert failure.check(MisuseError, FirstError)
    assert "middleware test:1 of site app failed" in log_lines
    assert "test:0" not in log_lines


def test_a_body_in_memory_is_whole_whoever_has_looked_at_it(through: Through) -> None:
    seen: list[bytes] = []

    async def looks(request: Request, next: Next) -> Response:
        response = await next(request)
        seen.extend([piece async for piece in response.body])
        seen.append(await response.body.read())
        return response

    async def answers(request: Request, next: Next) -> Response:
        return Response(200, b"whole")

    house = through(looks, answers)
    visitor = house.visitor()
    visitor.says(GET)
    assert seen == [b"whole", b"whole"]
    assert visitor.answers()[0][1] == b"whole"


@pytest.mark.parametrize("made", [False, True])
def test_an_answer_of_another_request_is_no_empty_one(through: Through, logged_failures: Any, made: bool) -> None:
    kept: list[Response] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"

    async def keeps(request: Request, next: Next) -> Response:
        if not kept:
            kept.append(Response(200, pieces()) if made else await next(request))
        return kept[0]

    house = through(keeps)
    visitor = house.visitor()
    visitor.says(GET)
    if not made:
        house.stream.read()
        house.stream.deliver(OK)
    assert visitor.answers()[0][1] == (b"one" if made else b"ok")
    visitor.says(GET)
    refused(house, visitor, logged_failures)


def test_a_body_of_another_request_is_not_sent(through: Through, logged_failures: Any) -> None:
    kept: list[Request] = []

    async def keeps(request: Request, next: Next) -> Response:
        kept.append(request)
        return await next(kept[0])

    house = through(keeps)
    visitor = house.visitor()
    visitor.says(POST)
    house.stream.deliver(OK)
    visitor.says(POST)
    assert len(house.stream.requests()) == 1
    refused(house, visitor, logged_failures)


def test_a_101_of_another_request_is_none(through: Through, logged_failures: Any) -> None:
    kept: list[Response] = []

    async def keeps(request: Request, next: Next) -> Response:
        if not kept:
            kept.append(await next(request))
        return kept[0]

    house = through(keeps)
    first = house.visitor()
    first.says(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    house.stream.read()
    house.stream.deliver(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert first.hears().startswith(b"HTTP/1.1 101 ")
    second = house.visitor()
    second.says(GET)
    [(answer, _)] = second.answers()
    assert answer.status_code == 500
    assert logged_failures.flush(MisuseError)


# what goes over the wire


def test_a_reason_makes_no_header_line(through: Through, logged_failures: Any) -> None:
    async def injects(request: Request, next: Next) -> Response:
        response = await next(request)
        response.reason = "OK\r\nSet-Cookie: admin=1"
        return response

    house = through(injects)
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.read()
    house.stream.deliver(OK)
    [(answer, _)] = visitor.answers()
    assert answer.status_code == 500
    assert b"set-cookie" not in dict(answer.headers)
    assert logged_failures.flush(ValueError)


def test_a_request_of_its_own_beside_a_websocket_is_an_ordinary_one(through: Through) -> None:
    async def asks(request: Request, next: Next) -> Response:
        allowed = await next(Request("GET", "https://app.test/allowed"))
        return await next(request) if allowed.status == 200 else Response(403)

    house = through(asks)
    visitor = house.visitor()
    visitor.says(b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    [(head, _, _)] = house.stream.requests()
    assert head.target == b"/allowed"
    assert b"upgrade" not in dict(head.headers)
    house.stream.deliver(OK)
    stream = house.streams[-1]
    assert b"Upgrade: websocket" in stream.read()
    stream.deliver(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    assert visitor.hears().endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("ends", ["answers", "raises", "too long"])
@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("together", [True, False])
def test_one_that_has_seen_enough_of_an_answer_ends_it(
    through: Through, ends: str, framing: bytes, together: bool
) -> None:
    async def looks(request: Request, next: Next) -> Response:
        response = await next(request)
        if ends == "too long":
            await response.body.read(1)
        async for _ in response.body:
            if ends == "raises":
                raise HttpError(403, "seen-enough", "No.")
            break
        return Response(200, b"mine")

    house = through(looks)
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.read()
    head = b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % framing
    piece = b"some" if b"Length" in framing else b"4\r\nsome\r\n"
    for part in [head + piece + piece] if together else [head, piece, piece]:
        if not house.done:
            house.stream.deliver(part)
    [(answer, body)] = visitor.answers()
    assert answer.status_code == {"answers": 200, "raises": 403, "too long": 502}[ends]
    assert (body == b"mine") is (ends == "answers")
    assert house.stream.disconnected


# who takes all the time


def test_those_who_make_tiny_pieces_take_turns(through: Through) -> None:
    made: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(10000):
            made.append(number)
            yield b"x"

    async def answers(request: Request, next: Next) -> Response:
        if request.method == "POST":
            request.body = pieces()
            return await next(request)
        return Response(200, pieces())

    house = through(answers)
    visitor = house.visitor(capacity=1 << 20)
    visitor.says(GET)
    assert 0 < len(made) < 1000
    while len(made) < 10000:
        house.clock.advance(0)
    assert len(visitor.answers()[0][1]) == 10000
    made.clear()
    visitor.says(POST)
    assert 0 < len(made) < 1000
    while len(made) < 10000:
        house.clock.advance(0)
    assert len(house.stream.requests()[0][1]) == 10000


def test_a_page_that_says_much_in_little_takes_turns(through: Through) -> None:
    page = gzip.compress(b"<head></head>" + b" " * (32 << 20))
    house = through(InjectHtml(html="<b>"))
    visitor = house.visitor(capacity=1 << 20)
    visitor.says(b"GET / HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: gzip\r\n\r\n")
    house.stream.read()
    house.stream.deliver(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
        % (len(page), page)
    )
    assert not house.done
    while not house.done:
        house.clock.advance(0)
    [(_, body)] = visitor.answers()
    assert len(gzip.decompress(body)) == 13 + 3 + (32 << 20)


# who does not end


def test_a_body_that_does_not_let_go_is_named(through: Through, log_lines: Any) -> None:
    holding: list[Deferred[None]] = []

    async def holds() -> AsyncIterator[bytes]:
        yield b"one"
        while True:
            waits: Deferred[None] = Deferred()
            holding.append(waits)
            try:
                await waits
            except Exception:
                continue
            return

    async def answers(request: Request, next: Next) -> Response:
        return Response(200, holds())

    house = through(answers)
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert len(holding) == 2
    assert "goes on" not in log_lines
    house.pass_time(11)
    assert "middleware test:0 of site app goes on 10 s after its request was over" in log_lines
    holding[-1].callback(None)


def test_one_that_was_called_and_forgotten_ends_with_the_request(through: Through, log_lines: Any) -> None:
    ended: list[str] = []

    async def forgets(request: Request, next: Next) -> Response:
        next(request)
        return Response(200, b"mine")

    async def tidies(request: Request, next: Next) -> Response:
        try:
            return await next(request)
        finally:
            ended.append("inner")

    async def beside(request: Request, next: Next) -> Response:
        async def asks() -> None:
            try:
                await next(request)
            finally:
                ended.append("beside")

        Deferred.fromCoroutine(asks()).addErrback(lambda failure: failure.trap(CancelledError))
        return Response(200, b"mine")

    for middleware in ((forgets, tidies), (beside,)):
        house = through(*middleware)
        visitor = house.visitor()
        visitor.says(GET)
        assert visitor.answers()[0][1] == b"mine"
        house.pass_time(11)
    assert ended == ["inner", "beside"]
    assert "goes on" not in log_lines


@pytest.mark.parametrize("lets_go", [True, False])
def test_a_body_that_tidies_up_for_long_is_waited_for(through: Through, log_lines: Any, lets_go: bool) -> None:
    tidying: Deferred[None] = Deferred()

    async def tidies() -> AsyncIterator[bytes]:
        try:
            yield b"x" * 1_000_000
            yield b"never"
        finally:
            await tidying

    async def answers(request: Request, next: Next) -> Response:
        return Response(200, tidies())

    house = through(answers)
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    if lets_go:
        tidying.callback(None)
    house.pass_time(11)
    assert ("goes on 10 s after" in log_lines) is not lets_go
    if not lets_go:
        tidying.callback(None)


def test_what_waits_at_a_gate_keeps_its_middleware(through: Through, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[int] = []

    class Stops:
        async def __call__(self, request: Request, next: Next) -> Response:
            assert not stopped
            return Response(200, b"mine")

        async def stop(self) -> None:
            stopped.append(1)

    monkeypatch.setattr(gates, "__path__", [*gates.__path__, str(Path(asked.__file__).parent)])
    settings = asked.Asked()
    house = through(Stops())
    house.gated(settings)
    stays, goes = Deferred[None](), Deferred[None]()
    for made in settings.gates:
        made.says = [stays, goes]
    visitor, leaves = house.visitor(), house.visitor()
    visitor.says(GET)
    leaves.says(GET)
    # a reload, by which the middleware goes
    house.context.middleware.take_over(Prepared({}, ()))
    assert not stopped
    leaves.lose()
    assert not stopped
    stays.callback(None)
    assert visitor.answers()[0][1] == b"mine"
    assert stopped == [1]
