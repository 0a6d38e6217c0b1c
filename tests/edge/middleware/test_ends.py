"""How requests through middleware end: left, late, cut, too long, tried again; and by HTTP/2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from tests.edge.gates import asked
from tests.edge.h2_service import service_of
from tests.edge.h2_visitor import GET as H2_GET
from tests.edge.h2_visitor import POST as H2_POST
from tests.edge.h2_visitor import WEBSOCKET, H2Visitor
from tests.edge.middleware.house import MiddlewareHouse
from wormhole_tw.control.model import H2C
from wormhole_tw.edge import gates
from wormhole_tw.errors import HttpError, NextFailed, StreamReset
from wormhole_tw.middleware import Next, Request, Response
from wormhole_tw.wire.codes import ResetCode

Through = Callable[..., MiddlewareHouse]

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def nothing(request: Request, next: Next) -> Response:
    return await next(request)


async def upper(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece.upper()


async def loud(request: Request, next: Next) -> Response:
    request.body = upper(request.body)
    response = await next(request)
    response.body = upper(response.body)
    return response


def h2_visitor(house: MiddlewareHouse, **options: Any) -> H2Visitor:
    return H2Visitor(house, **options).hello()


# HTTP/2


@pytest.mark.parametrize("middleware", [(), (nothing,), (nothing, nothing)])
def test_requests_of_one_connection_run_beside_each_other(through: Through, middleware: tuple[Any, ...]) -> None:
    house = through(*middleware)
    visitor = h2_visitor(house)
    asked = [visitor.ask([*H2_GET[:2], (":path", f"/{number}"), H2_GET[3]]) for number in range(10)]
    assert len(house.streams) == 10
    for stream in reversed(house.streams):
        [(head, _, _)] = stream.requests()
        stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(head.target), head.target))
    for number, stream in enumerate(asked):
        assert visitor[stream].body == b"/%d" % number
        assert visitor[stream].ended
    assert len(house.done) == 10


def test_bodies_stream_both_ways_with_trailers(through: Through) -> None:
    house = through(loud)
    visitor = h2_visitor(house)
    stream = visitor.ask(H2_POST, end=False)
    visitor.data(stream, b"hello")
    assert b"HELLO" in house.stream.read()
    visitor.data(stream, b"world", end=True)
    assert house.stream.requests()[0][1] == b"HELLOWORLD"
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    assert visitor[stream].body == b"ONE"
    house.stream.deliver(b"0\r\nX-Sum: 1\r\n\r\n")
    assert visitor[stream].ended
    assert visitor[stream].trailers == [("x-sum", "1")]


def test_a_slow_stream_holds_up_its_service_and_no_other(through: Through) -> None:
    house = through(loud)
    visitor = h2_visitor(house, greedy=False)
    slow, quick = visitor.ask(), visitor.ask()
    first, second = house.streams
    first.read()
    second.read()
    first.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
    sent = 0
    while not first.paused:
        first.deliver(b"x" * 10000)
        sent += 10000
        assert sent < 1000000
    assert len(visitor[slow].body) <= 65535
    visitor.client.increment_flow_control_window(1000)
    visitor.say()
    second.deliver(OK)
    assert visitor[quick].body == b"OK"


def test_a_stream_that_is_reset_cancels_its_middleware_alone(through: Through) -> None:
    cancelled: list[object] = []

    async def slow(request: Request, next: Next) -> Response:
        if request.path == "/slow":
            await Deferred(cancelled.append)
        return await next(request)

    house = through(nothing, slow)
    visitor = h2_visitor(house)
    gone = visitor.ask([*H2_GET[:2], (":path", "/slow"), H2_GET[3]])
    stays = visitor.ask()
    visitor.client.reset_stream(gone)
    visitor.say()
    assert len(cancelled) == 1
    house.stream.deliver(OK)
    assert visitor[stays].body == b"ok"
    assert [done.reason for done in house.done] == ["visitor-gone", ""]


def test_a_websocket_over_http2_passes(through: Through) -> None:
    house = through(nothing)
    visitor = h2_visitor(house)
    stream = visitor.ask(WEBSOCKET, ("sec-websocket-version", "13"), end=False)
    request = house.stream.read()
    key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    from tests.edge.test_h2_listener import accept_of

    house.stream.deliver(
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\nfirst"
        % accept_of(key)
    )
    assert (visitor[stream].status, visitor[stream].body) == (200, b"first")
    visitor.data(stream, b"second")
    assert house.stream.read() == b"second"


# the service


def test_what_was_not_delivered_is_sent_again(through: Through) -> None:
    house = through(nothing, agents=2)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi")
    [stream] = house.streams
    stream.reset(ResetCode.REFUSED, delivered=False)
    again = next(other for other in house.streams if other is not stream)
    assert again.requests()[0][1] == b"hi"
    again.deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"ok"
    assert house.done[0].attempts == 2
    assert house.context.counters.retries == 1


def test_a_request_waits_for_an_agent(through: Through) -> None:
    house = through(nothing, agents=0, settled=False)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.hears() == b""
    house.sessions.append(house.agent())
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_service_that_is_slow_is_504_as_without(through: Through) -> None:
    house = through(nothing, first_byte=5)
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.read()
    house.pass_time(6)
    [(answer, _)] = visitor.answers()
    assert (answer.status_code, dict(answer.headers)[b"x-wormhole-error"]) == (504, b"service-timeout")


def test_an_early_refusal_of_an_upload_arrives(through: Through) -> None:
    for middleware in ((), (nothing,), (loud,)):
        house = through(*middleware)
        visitor = house.visitor()
        visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000)
        house.stream.read()
        house.stream.deliver(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
        [(answer, body)] = visitor.answers([b"POST"])
        assert (answer.status_code, body.lower()) == (413, b"large")
        assert (b"connection", b"close") in answer.headers


def test_a_body_past_the_sites_limit_is_413_while_it_is_read(through: Through) -> None:
    async def read(request: Request, next: Next) -> Response:
        async for _ in request.body:
            pass
        return Response()

    house = through(nothing, read, body_bytes=1000)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    visitor.says(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
    visitor.says(b"1\r\nx\r\n")
    assert visitor.answers([b"POST"])[0][0].status_code == 413


def test_one_request_may_become_two_at_once(through: Through) -> None:
    async def both(request: Request, next: Next) -> Response:
        one, two = await gatherResults([next(request), next(request)])
        return Response(200, await one.body.read() + await two.body.read())

    house = through(both)
    visitor = house.visitor()
    visitor.says(GET)
    first, second = house.streams
    second.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")
    first.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
    assert visitor.answers()[0][1] == b"onetwo"


def test_what_is_not_awaited_ends_with_the_request(through: Through) -> None:
    async def careless(request: Request, next: Next) -> Response:
        next(request)
        return Response(200, b"mine")

    house = through(careless)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.answers()[0][1] == b"mine"
    assert house.stream.aborted


def test_an_answer_that_is_not_used_ends_with_the_request(through: Through) -> None:
    async def other(request: Request, next: Next) -> Response:
        await next(request)
        return Response(200, b"mine")

    house = through(other)
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.read()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
    assert visitor.answers()[0][1] == b"mine"
    assert house.stream.aborted


def test_too_many_calls_are_a_loop(through: Through, logged_failures: Any) -> None:
    async def loop(request: Request, next: Next) -> Response:
        while True:
            try:
                await next(request)
            except StreamReset:
                pass

    house = through(loop)
    visitor = house.visitor()
    visitor.says(GET)
    for _ in range(16):
        house.stream.read()
        house.stream.deliver(OK)
    assert visitor.answers()[0][0].status_code == 500
    assert "is there a loop?" in str(logged_failures.flush()[0].value)


# bodies that a middleware makes


def test_a_body_that_hangs_is_cut_and_its_code_ends(through: Through, log_lines: Any) -> None:
    ended: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            for _ in range(3):
                yield b"x"
                await gates.pop(0)
        finally:
            ended.append("finally")

    async def hangs(request: Request, next: Next) -> Response:
        return Response(200, pieces())

    gates: list[Deferred[None]] = [Deferred(), Deferred()]
    first, second = gates
    house = through(hangs, timeout=3)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.hears().endswith(b"1\r\nx\r\n")
    house.pass_time(2)
    first.callback(None)
    assert visitor.hears() == b"1\r\nx\r\n"
    house.pass_time(2)
    assert not visitor.disconnected
    house.pass_time(2)
    assert visitor.disconnected
    assert ended == ["finally"]
    assert house.done[0].reason == "middleware-timeout"
    assert "longer than its timeout of 3 s" in log_lines.text
    assert second.called


def test_a_visitor_who_leaves_ends_a_body_that_is_made(through: Through) -> None:
    ended: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10000
        finally:
            ended.append("finally")

    async def endless(request: Request, next: Next) -> Response:
        return Response(200, pieces())

    house = through(nothing, endless)
    visitor = house.visitor()
    visitor.says(GET)
    heard = 0
    for _ in range(100):
        heard += len(visitor.take(8192))
        house.clock.advance(0)
    assert heard > 500_000
    visitor.lose()
    assert ended == ["finally"]
    assert house.done[0].sent < 10_000_000


@pytest.mark.parametrize("of_request", [False, True])
def test_a_body_that_brings_nothing_for_ever_leaves_the_others_their_turn(
    through: Through, log_lines: Any, of_request: bool
) -> None:
    """As of a file that is read on beyond its end."""
    steps: list[None] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"all there is"
        while True:
            steps.append(None)
            assert len(steps) < 100_000, "nobody else ever has a turn"
            yield b""

    async def beyond(request: Request, next: Next) -> Response:
        if not of_request:
            return Response(200, pieces())
        request.method, request.body = "POST", pieces()
        return await next(request)

    house = through(nothing, beyond, timeout=3)
    visitor = house.visitor()
    visitor.says(GET)
    for _ in range(8):
        before = len(steps)
        house.pass_time(0.25)
        assert len(steps) > before
    house.pass_time(2)
    assert house.done[0].reason == "middleware-timeout"
    assert "longer than its timeout of 3 s" in log_lines.text


@pytest.mark.parametrize("wrong", ["text", None, 7])
def test_a_body_of_no_octets_is_named(through: Through, logged_failures: Any, wrong: object) -> None:
    async def pieces() -> AsyncIterator[Any]:
        yield b"first"
        yield wrong

    async def makes(request: Request, next: Next) -> Response:
        return Response(200, pieces())

    house = through(makes)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.disconnected
    assert "a body is made of bytes" in str(logged_failures.flush(TypeError)[0].value)


def test_a_request_body_that_fails_is_500(through: Through, logged_failures: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        raise ValueError("no more")

    async def makes(request: Request, next: Next) -> Response:
        request.body = pieces()
        return await next(request)

    house = through(nothing, makes)
    visitor = house.visitor()
    visitor.says(GET)
    [(answer, _)] = visitor.answers()
    assert (answer.status_code, dict(answer.headers)[b"x-wormhole-error"]) == (500, b"middleware-failed")
    assert house.stream.aborted
    assert len(logged_failures.flush(ValueError)) == 1


def test_a_request_body_that_is_made_goes_as_the_service_takes_it(through: Through) -> None:
    made: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            made.append(number)
            yield b"x" * 10000

    async def makes(request: Request, next: Next) -> Response:
        request.method = "POST"
        request.body = pieces()
        return await next(request)

    house = through(makes)
    house.sessions[0].capacity = 30000
    visitor = house.visitor()
    visitor.says(GET)
    assert len(made) < 20
    total = 0
    for _ in range(400):
        total += len(house.stream.take(4096))
    total += len(house.stream.read())
    assert len(made) == 100
    assert total > 1_000_000
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_204_with_a_body_is_a_mistake(through: Through, logged_failures: Any) -> None:
    async def wrong(request: Request, next: Next) -> Response:
        return Response(204, b"body")

    house = through(wrong)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.answers()[0][0].status_code == 500
    assert "status 204 has no body" in str(logged_failures.flush(ValueError)[0].value)


def test_a_head_is_not_asked_for_the_body(through: Through) -> None:
    async def as_get(request: Request, next: Next) -> Response:
        request.method = "GET"
        return await next(request)

    house = through(as_get)
    visitor = house.visitor()
    visitor.says(b"HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    house.stream.read()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
    [(answer, body)] = visitor.answers([b"HEAD"])
    assert (dict(answer.headers)[b"content-length"], body) == (b"1000", b"")


def test_a_get_that_became_a_head_has_an_empty_body(through: Through) -> None:
    async def as_head(request: Request, next: Next) -> Response:
        request.method = "HEAD"
        return await next(request)

    house = through(as_head)
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.read()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    [(answer, body)] = visitor.answers()
    assert (dict(answer.headers)[b"content-length"], body) == (b"0", b"")


def test_a_constant_answer_serves_everybody(through: Through) -> None:
    constant = Response.text(403, "no")

    async def refuse(request: Request, next: Next) -> Response:
        return constant

    async def mark(request: Request, next: Next) -> Response:
        response = await next(request)
        response.headers.add("X-Mark", "1")
        response.body = await response.body.read() + b"!"
        return response

    house = through(mark, refuse)
    visitor = house.visitor()
    visitor.says(GET * 3)
    answers = visitor.answers()
    assert [body for _, body in answers] == [b"no!"] * 3
    assert all([value for name, value in answer.headers if name == b"x-mark"] == [b"1"] for answer, _ in answers)
    assert len(constant.headers) == 1


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (HttpError(404, "not-here", "No."), 404, b"not-here"),
        (HttpError(200, "fine", "No."), 500, b"fine"),
        (HttpError(404, "Not\r\nHere: 1", "No."), 404, b"middleware"),
        (NextFailed(502, "\u20ac", "No."), 502, b"middleware"),
    ],
)
def test_what_it_raises_for_the_visitor_is_an_answer(
    through: Through, error: Exception, status: int, reason: bytes
) -> None:
    async def refuse(request: Request, next: Next) -> Response:
        raise error

    house = through(nothing, refuse)
    visitor = house.visitor()
    visitor.says(GET)
    [(answer, body)] = visitor.answers()
    assert (answer.status_code, dict(answer.headers)[b"x-wormhole-error"]) == (status, reason)
    assert b"No." in body


@pytest.mark.parametrize("middleware", [(nothing,), (loud,)])
def test_an_answer_may_begin_before_the_request_has_ended(through: Through, middleware: tuple[Any, ...]) -> None:
    house = through(*middleware)
    visitor = h2_visitor(house)
    stream = visitor.ask(H2_POST, end=False)
    visitor.data(stream, b"ping")
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n")
    assert visitor[stream].body.lower() == b"pong"
    visitor.data(stream, b"more")
    assert house.stream.read().lower().count(b"more") == 1
    house.stream.deliver(b"4\r\npong\r\n")
    assert visitor[stream].body.lower() == b"pongpong"
    visitor.data(stream, b"", end=True)
    house.stream.deliver(b"0\r\nX-Sum: 2\r\n\r\n")
    assert visitor[stream].trailers == [("x-sum", "2")]
    assert house.done[0].received == 8


def test_an_octet_outside_ascii_in_the_query_goes_on(through: Through) -> None:
    house = through(nothing)
    visitor = house.visitor()
    visitor.says(b"GET /a?\xfc HTTP/1.1\r\nHost: app.test\r\n\r\n")
    heard = house.stream.read() if house.streams else visitor.hears()
    assert heard.startswith((b"GET /a?\xfc HTTP/1.1\r\n", b"HTTP/1.1 400 "))


def test_messages_of_grpc_pass_both_ways(through: Through) -> None:
    house = through(nothing, loud, protocol=H2C)
    visitor = h2_visitor(house)
    stream = visitor.ask(H2_POST, ("content-type", "application/grpc"), ("te", "trailers"), end=False)
    visitor.data(stream, b"ping")
    service = service_of(house)
    assert (service[1].fields["te"], service[1].body) == ("trailers", b"PING")
    service.head(1, ("content-type", "application/grpc"))
    service.data(1, b"pong")
    assert visitor[stream].body == b"PONG"
    visitor.data(stream, b"bye", end=True)
    assert service[1].body == b"PINGBYE"
    assert service[1].ended
    service.server.send_headers(1, [("grpc-status", "0")], end_stream=True)
    service.say()
    assert visitor[stream].trailers == [("grpc-status", "0")]


def test_gates_stand_before_it_and_may_wait(through: Through, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "__path__", [*gates.__path__, str(Path(asked.__file__).parent)])
    gate: Deferred[None] = Deferred()
    settings = asked.Asked()
    house = through(nothing, loud)
    house.gated(settings)
    for made in settings.gates:
        made.says = [gate]
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhello")
    assert not house.streams
    gate.callback(None)
    assert b"HELLO" in house.stream.read()
    visitor.says(b"world")
    assert house.stream.requests()[0][1] == b"HELLOWORLD"
    house.stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"OK"


def test_an_answer_that_streams_for_long_keeps_no_clock(through: Through) -> None:
    house = through(nothing, nothing)
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.read()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    before = len(house.timers)
    house.pass_time(30)
    assert len(house.timers) <= before
    house.stream.deliver(b"0\r\n\r\n")
    assert visitor.hears().endswith(b"0\r\n\r\n")


def test_who_is_late_and_who_stays_are_told_apart(through: Through, log_lines: Any) -> None:
    ready: list[int] = []

    async def stubborn(request: Request, next: Next) -> Response:
        while not ready:
            try:
                await Deferred()
            except BaseException:
                if ready:
                    raise
        return Response()

    house = through(stubborn, timeout=2)
    visitor = house.visitor()
    visitor.says(GET)
    house.pass_time(3)
    assert visitor.answers()[0][0].status_code == 504
    house.pass_time(3)
    ready.append(1)
    assert "took longer than its timeout of 2 s" in log_lines.text
    assert "goes on 2 s after its request was over" in log_lines.text


def test_what_goes_wrong_in_tidying_up_is_said(through: Through, logged_failures: Any) -> None:
    async def untidy(request: Request, next: Next) -> Response:
        try:
            return await next(request)
        finally:
            raise ValueError("while tidying up")

    house = through(nothing, untidy)
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert house.done[0].reason == "visitor-gone"
    assert len(logged_failures.flush(ValueError)) == 1


def test_what_goes_wrong_in_ending_a_body_is_said(through: Through, logged_failures: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            raise ValueError("while tidying up")

    async def untidy(request: Request, next: Next) -> Response:
        return Response(200, pieces())

    house = through(untidy)
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert house.done[0].reason == "visitor-gone"
    assert len(logged_failures.flush(ValueError)) == 1


def test_a_limit_that_is_met_while_its_own_code_runs_ends_it(through: Through) -> None:
    """Reading resumes the visitor's connection, which hands over at once what waited there: more than may come."""
    gate: Deferred[None] = Deferred()
    seen: list[object] = []

    async def read(request: Request, next: Next) -> Response:
        await gate
        try:
            async for piece in request.body:
                seen.append(len(piece))
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        return Response()

    house = through(nothing, read, body_bytes=150_000)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        visitor.says(b"2710\r\n" + b"x" * 10000 + b"\r\n")
    assert visitor.paused
    gate.callback(None)
    house.clock.advance(0)
    assert visitor.answers([b"POST"])[0][0].status_code == 413
    assert seen[-1] == "CancelledError"
    assert house.done[0].reason == "body-too-large"
