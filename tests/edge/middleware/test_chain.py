"""Requests through middleware, as conversations between a visitor and a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from twisted.internet.defer import Deferred

from tests.edge.middleware.house import MiddlewareHouse
from wormhole_tw.errors import HttpError, NextFailed
from wormhole_tw.middleware import Next, Request, Response

Through = Callable[..., MiddlewareHouse]

GET = b"GET /a?b=c HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Service: yes\r\n\r\nok"


async def nothing(request: Request, next: Next) -> Response:
    return await next(request)


def test_one_that_does_nothing_changes_nothing(through: Through) -> None:
    house = through(nothing)
    visitor = house.visitor()
    for number in range(2):
        visitor.says(GET)
        [*_, (head, _, _)] = house.stream.requests()
        assert (head.method, head.target) == (b"GET", b"/a?b=c")
        fields = dict(head.headers)
        assert fields[b"x-forwarded-for"] == b"192.0.2.7"
        assert fields[b"x-request-id"]
        house.stream.deliver(OK)
        [(answer, body)] = visitor.answers()
        assert (answer.status_code, body) == (200, b"ok")
        assert [value for name, value in answer.headers if name == b"via"] == [b"1.1 wormhole"]
        assert (b"x-service", b"yes") in answer.headers
        assert len(house.done) == number + 1
    assert len(house.streams) == 1
    done = house.done[0]
    assert (done.status, done.sent, done.attempts, done.reason) == (200, 2, 1, "")
    assert done.upstream is not None
    assert house.context.counters.requests == 2
    assert house.context.counters.answers[2] == 2


def test_requests_and_answers_are_changed(through: Through) -> None:
    async def change(request: Request, next: Next) -> Response:
        assert (request.method, request.path, request.query) == ("GET", "/a", "b=c")
        assert (request.address, request.host, request.scheme) == ("192.0.2.7", "app.test", "http")
        assert request.url == "http://app.test/a?b=c"
        request.method = "POST"
        request.target = "/x/../y?z"
        request.headers["X-Mine"] = "1"
        request.body = b"hello"
        response = await next(request)
        response.status = 201
        response.headers["X-Mine"] = "2"
        del response.headers["X-Service"]
        response.body = await response.body.read() + b"!"
        return response

    house = through(change)
    visitor = house.visitor()
    visitor.says(GET)
    [(head, body, _)] = house.stream.requests()
    assert (head.method, head.target, body) == (b"POST", b"/y?z", b"hello")
    assert (b"x-mine", b"1") in head.headers
    house.stream.deliver(OK)
    [(answer, body)] = visitor.answers()
    assert (answer.status_code, answer.reason, body) == (201, b"Created", b"ok!")
    assert (b"x-mine", b"2") in answer.headers
    assert (b"content-length", b"3") in answer.headers
    assert b"x-service" not in dict(answer.headers)


def test_an_early_answer_asks_no_service(through: Through) -> None:
    async def early(request: Request, next: Next) -> Response:
        return Response.text(403, "no")

    house = through(early)
    visitor = house.visitor()
    visitor.says(GET * 3)
    assert [(answer.status_code, body) for answer, body in visitor.answers()] == [(403, b"no")] * 3
    assert not house.streams
    assert [done.status for done in house.done] == [403] * 3


def test_they_run_in_order_and_back(through: Through) -> None:
    seen: list[str] = []

    def one(name: str) -> object:
        async def run(request: Request, next: Next) -> Response:
            seen.append(f"{name} {request.headers.get('X-Way', '-')}")
            request.headers["X-Way"] = (request.headers.get("X-Way") or "") + name
            request.notes[name] = True
            response = await next(request)
            seen.append(f"{name} back")
            response.headers["X-Back"] = (response.headers.get("X-Back") or "") + name
            assert sorted(request.notes) == ["a", "b", "c"]
            return response

        return run

    house = through(one("a"), one("b"), one("c"))
    visitor = house.visitor()
    visitor.says(GET)
    [(head, _, _)] = house.stream.requests()
    assert dict(head.headers)[b"x-way"] == b"abc"
    house.stream.deliver(OK)
    [(answer, body)] = visitor.answers()
    assert (dict(answer.headers)[b"x-back"], body) == (b"cba", b"ok")
    assert seen == ["a -", "b a", "c ab", "c back", "b back", "a back"]


def test_a_body_streams_through(through: Through) -> None:
    house = through(nothing)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert house.stream.read().endswith(b"\r\n\r\n")
    visitor.says(b"5\r\nhello\r\n")
    assert b"hello" in house.stream.read()
    visitor.says(b"5\r\nworld\r\n0\r\nX-Sum: 7\r\n\r\n")
    [(_, body, trailers)] = house.stream.requests()
    assert (body, trailers) == (b"helloworld", [(b"x-sum", b"7")])
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n")
    assert b"ok" in visitor.hears()
    house.stream.deliver(b"0\r\nX-T: 1\r\n\r\n")
    assert visitor.hears() == b"0\r\nX-T: 1\r\n\r\n"
    assert house.done[0].received == 10


async def upper(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece.upper()


def test_bodies_are_changed_while_they_stream(through: Through) -> None:
    async def loud(request: Request, next: Next) -> Response:
        request.body = upper(request.body)
        response = await next(request)
        response.body = upper(response.body)
        return response

    house = through(loud, loud)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhello")
    assert b"HELLO" in house.stream.read()
    visitor.says(b"world")
    [(_, body, _)] = house.stream.requests()
    assert body == b"HELLOWORLD"
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    assert visitor.hears().endswith(b"3\r\nONE\r\n")
    house.stream.deliver(b"3\r\ntwo\r\n0\r\nX-T: 1\r\n\r\n")
    assert visitor.hears() == b"3\r\nTWO\r\n0\r\nX-T: 1\r\n\r\n"
    assert house.done[0].sent == 6


def test_a_body_is_read_whole_and_sent_on(through: Through) -> None:
    async def read(request: Request, next: Next) -> Response:
        assert await request.body.read() == b"helloworld"
        return await next(request)

    house = through(read)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert not house.streams
    visitor.says(b"5\r\nworld\r\n0\r\n\r\n")
    [(head, body, _)] = house.stream.requests()
    assert body == b"helloworld"
    assert (b"content-length", b"10") in head.headers
    house.stream.deliver(OK)
    assert len(visitor.answers([b"POST"])) == 1


def test_a_body_that_is_too_long_to_read_is_413(through: Through) -> None:
    async def read(request: Request, next: Next) -> Response:
        return Response(200, await request.body.read(4))

    house = through(read)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello")
    [(answer, _)] = visitor.answers([b"POST"])
    assert answer.status_code == 413
    assert dict(answer.headers)[b"x-wormhole-error"] == b"body-too-large"


def test_a_visitor_who_waits_for_a_100_gets_it_when_the_body_is_read(through: Through) -> None:
    async def read(request: Request, next: Next) -> Response:
        await request.body.read()
        return await next(request)

    house = through(read)
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert visitor.hears() == b"HTTP/1.1 100 \r\n\r\n"
    visitor.says(b"hi")
    [(head, body, _)] = house.stream.requests()
    assert body == b"hi"
    assert b"expect" not in dict(head.headers)
    house.stream.deliver(OK)
    assert len(visitor.answers([b"PUT"])) == 1


def test_a_100_of_the_service_passes(through: Through) -> None:
    house = through(nothing)
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert b"Expect: 100-continue" in house.stream.read()
    house.stream.deliver(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    heard = visitor.hears()
    assert heard.startswith(b"HTTP/1.1 103 ")
    assert heard.endswith(b"HTTP/1.1 100 \r\n\r\n")
    visitor.says(b"hi")
    assert house.stream.read() == b"hi"
    house.stream.deliver(OK)
    assert len(visitor.answers([b"PUT"])) == 1


def test_what_waits_for_a_middleware_is_bounded(through: Through) -> None:
    gate: Deferred[None] = Deferred()

    async def wait(request: Request, next: Next) -> Response:
        await gate
        return await next(request)

    house = through(wait)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n")
    sent = 0
    while not visitor.paused and sent < 1000000:
        visitor.says(b"x" * 10000)
        sent += 10000
    assert 64 * 1024 <= sent < 300_000
    gate.callback(None)
    total = len(house.stream.read())
    while sent < 1000000:
        while visitor.paused:
            total += len(house.stream.read())
        visitor.says(b"x" * 10000)
        sent += 10000
    total += len(house.stream.read())
    assert total > 1000000
    house.stream.deliver(OK)
    assert len(visitor.answers([b"POST"])) == 1


@pytest.mark.parametrize("changed", [False, True])
def test_a_slow_visitor_holds_the_service_up(through: Through, changed: bool) -> None:
    async def one(request: Request, next: Next) -> Response:
        response = await next(request)
        if changed:
            response.body = upper(response.body)
        return response

    house = through(one)
    visitor = house.visitor(capacity=65536)
    visitor.says(GET)
    stream = house.stream
    stream.read()
    stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    sent = 0
    while not stream.paused and sent < 1000000:
        stream.deliver(b"x" * 10000)
        sent += 10000
    assert sent < 400_000
    heard = b""
    while sent < 1000000:
        while stream.paused:
            heard += visitor.take(16384)
            house.clock.advance(0)
        stream.deliver(b"x" * 10000)
        sent += 10000
    while more := visitor.hears():
        heard += more
        house.clock.advance(0)
    assert heard.upper().count(b"X") >= 1000000
    assert [done.sent for done in house.done] == [1000000]


# what fails


def test_what_it_raises_is_that_requests_500(through: Through, logged_failures, log_lines) -> None:
    async def wrong(request: Request, next: Next) -> Response:
        if request.path == "/wrong":
            raise ValueError("oh no")
        return await next(request)

    house = through(nothing, wrong)
    visitor, other = house.visitor(), house.visitor()
    other.says(GET)
    for _ in range(5):
        visitor.says(GET.replace(b"/a", b"/wrong"))
        [(answer, body)] = visitor.answers()
        assert answer.status_code == 500
        assert dict(answer.headers)[b"x-wormhole-error"] == b"middleware-failed"
        assert b"oh no" not in body
    house.stream.deliver(OK)
    assert other.answers()[0][0].status_code == 200
    assert [done.reason for done in house.done] == ["middleware-failed"] * 5 + [""]
    assert len(logged_failures.flush(ValueError)) == 1
    assert len(log_lines.matching("failed: ValueError")) == 1
    assert "middleware test:1 of site app failed: ValueError: oh no" in log_lines.text
    house.pass_time(61)
    visitor = house.visitor()
    visitor.says(GET.replace(b"/a", b"/wrong"))
    assert "(4 more since the last such line)" in log_lines.text
    logged_failures.flush(ValueError)


@pytest.mark.parametrize("answer", [None, "text", b"octets"])
def test_what_is_no_response_is_500(through: Through, logged_failures, answer: object) -> None:
    async def wrong(request: Request, next: Next) -> object:
        return answer

    house = through(wrong)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.answers()[0][0].status_code == 500
    assert len(logged_failures.flush(TypeError)) == 1


def test_a_service_that_is_not_there_is_told_as_without_middleware(through: Through) -> None:
    house = through(nothing, agents=0)
    visitor = house.visitor()
    visitor.says(GET)
    [(answer, _)] = visitor.answers()
    assert answer.status_code == 503
    assert dict(answer.headers)[b"x-wormhole-error"] == b"no-agent"
    assert dict(answer.headers)[b"retry-after"] == b"2"
    assert house.done[0].reason == "no-agent"


def test_a_service_that_fails_can_be_stood_in_for(through: Through) -> None:
    async def fallback(request: Request, next: Next) -> Response:
        try:
            return await next(request)
        except NextFailed as error:
            return Response.text(200, f"in its place: {error.status} {error.reason}")

    house = through(fallback, agents=0)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.answers()[0][1] == b"in its place: 503 no-agent"


def test_an_http_error_is_answered_with_the_edges_page(through: Through) -> None:
    async def teapot(request: Request, next: Next) -> Response:
        raise HttpError(418, "teapot", "This is one.")

    house = through(teapot)
    visitor = house.visitor()
    visitor.says(GET)
    [(answer, body)] = visitor.answers()
    assert (answer.status_code, dict(answer.headers)[b"x-wormhole-error"]) == (418, b"teapot")
    assert b"This is one." in body


def test_one_that_takes_too_long_is_504(through: Through, log_lines) -> None:
    cancelled: list[object] = []

    async def slow(request: Request, next: Next) -> Response:
        await Deferred(cancelled.append)
        return await next(request)

    house = through(slow, timeout=3)
    visitor = house.visitor()
    visitor.says(GET)
    house.pass_time(2)
    assert visitor.hears() == b""
    house.pass_time(2)
    [(answer, _)] = visitor.answers()
    assert (answer.status_code, dict(answer.headers)[b"x-wormhole-error"]) == (504, b"middleware-timeout")
    assert len(cancelled) == 1
    assert "middleware test:0 of site app took longer than its timeout of 3 s" in log_lines.text


def test_the_services_time_and_the_visitors_are_not_its(through: Through) -> None:
    async def read(request: Request, next: Next) -> Response:
        await request.body.read()
        return await next(request)

    house = through(nothing, read, timeout=3, body=100, first_byte=100)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\n")
    house.pass_time(20)
    visitor.says(b"hi")
    house.stream.read()
    house.pass_time(20)
    house.stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][0].status_code == 200


def test_a_visitor_who_leaves_cancels_it(through: Through) -> None:
    cancelled: list[object] = []

    async def slow(request: Request, next: Next) -> Response:
        await Deferred(cancelled.append)
        return await next(request)

    house = through(nothing, slow)
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert len(cancelled) == 1
    assert house.done[0].reason == "visitor-gone"


def test_a_visitor_who_leaves_takes_the_service_call_along(through: Through) -> None:
    house = through(nothing, nothing)
    visitor = house.visitor()
    visitor.says(GET)
    stream = house.stream
    stream.read()
    visitor.lose()
    assert stream.aborted


def test_one_that_does_not_let_go_is_named(through: Through, log_lines) -> None:
    async def stubborn(request: Request, next: Next) -> Response:
        while True:
            try:
                await Deferred()
            except BaseException:
                if gone:
                    raise
        return Response()

    gone: list[int] = []
    house = through(stubborn, timeout=5)
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert house.done[0].reason == "visitor-gone"
    house.pass_time(6)
    assert "goes on 5 s after its request was over: it must let CancelledError pass" in log_lines.text
    gone.append(1)


def test_one_that_blocks_is_named_with_its_time(through: Through, log_lines, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("wormhole_tw.edge.middleware.entry.perf_counter", lambda: now[0])

    async def outer(request: Request, next: Next) -> Response:
        return await next(request)

    async def blocks(request: Request, next: Next) -> Response:
        now[0] += 0.5
        return Response()

    house = through(outer, blocks)
    visitor = house.visitor()
    visitor.says(GET)
    assert len(log_lines.matching("held everybody up")) == 1
    assert "middleware test:1 of site app held everybody up for 0.50 s" in log_lines.text


def test_next_twice_sends_twice_what_can_be_sent_twice(through: Through) -> None:
    async def twice(request: Request, next: Next) -> Response:
        first = await next(request)
        request.path = "/second"
        second = await next(request)
        return Response(200, await first.body.read() + await second.body.read())

    house = through(twice)
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.read()
    house.stream.deliver(OK)
    [_, (head, _, _)] = house.stream.requests()
    assert head.target == b"/second?b=c"
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"okok"
    assert house.done[0].attempts == 2


def test_next_twice_with_a_body_that_went_is_an_error(through: Through, logged_failures) -> None:
    async def twice(request: Request, next: Next) -> Response:
        await next(request)
        return await next(request)

    house = through(twice)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi")
    house.stream.read()
    house.stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][0].status_code == 500
    [failure] = logged_failures.flush()
    assert "read it before" in str(failure.value)


def test_asyncio_is_refused_with_a_sentence(through: Through, logged_failures) -> None:
    class Future:
        def __await__(self):
            yield self

    async def other_loop(request: Request, next: Next) -> Response:
        await Future()
        return Response()

    house = through(other_loop)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.answers()[0][0].status_code == 500
    [failure] = logged_failures.flush()
    assert "there is no asyncio loop here" in str(failure.value)


def test_a_body_that_fails_midway_is_cut(through: Through, logged_failures) -> None:
    async def broken(request: Request, next: Next) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            raise ValueError("no more")

        return Response(200, pieces())

    house = through(nothing, broken)
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.disconnected
    assert house.done[0].reason == "middleware-failed"
    assert len(logged_failures.flush(ValueError)) == 1


def test_an_answer_that_the_service_cuts_is_cut(through: Through) -> None:
    async def change(request: Request, next: Next) -> Response:
        response = await next(request)
        response.body = upper(response.body)
        return response

    for house in (through(nothing), through(change)):
        visitor = house.visitor()
        visitor.says(GET)
        house.stream.read()
        house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        assert b"abc" in visitor.hears().lower()
        house.stream.lose()
        assert visitor.disconnected
        assert house.done[0].reason == "service-failed"


# heads without bodies, upgrades


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 99\r\n\r\n'),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_answers_without_a_body_are_as_without_middleware(
    through: Through, build, method: bytes, answer: bytes
) -> None:
    heard = []
    for house in (build(), through(nothing), through(nothing, nothing)):
        visitor = house.visitor()
        visitor.says(method + b" / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        house.stream.read()
        house.stream.deliver(answer)
        heard.append(visitor.hears())
    assert heard[0]
    assert heard[1] == heard[0]
    assert heard[2] == heard[0]


def test_a_head_of_what_is_made_here(through: Through) -> None:
    async def made(request: Request, next: Next) -> Response:
        return Response.text(200, "hello")

    house = through(made)
    visitor = house.visitor()
    visitor.says(b"HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n" + GET)
    answers = visitor.answers([b"HEAD", b"GET"])
    assert [(dict(answer.headers)[b"content-length"], body) for answer, body in answers] == [
        (b"5", b""),
        (b"5", b"hello"),
    ]


def test_an_upgrade_passes_with_its_headers_changed(through: Through) -> None:
    async def mark(request: Request, next: Next) -> Response:
        assert request.upgrade == "websocket"
        request.headers["X-Mine"] = "1"
        response = await next(request)
        response.headers["X-Mine"] = "2"
        assert response.status == 101
        assert await response.body.read() == b""
        return response

    house = through(nothing, mark)
    visitor = house.visitor()
    visitor.says(b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    stream = house.stream
    assert b"X-Mine: 1" in stream.read()
    stream.deliver(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
    heard = visitor.hears()
    assert heard.startswith(b"HTTP/1.1 101 ")
    assert b"X-Mine: 2" in heard
    assert heard.endswith(b"\r\n\r\nfirst")
    visitor.says(b"to the service")
    assert stream.read() == b"to the service"
    stream.deliver(b"to the visitor")
    assert visitor.hears() == b"to the visitor"
    visitor.end_reading()
    stream.end_reading()
    assert house.done[0].status == 101


def test_an_upgrade_is_refused_by_another_answer(through: Through) -> None:
    async def refuse(request: Request, next: Next) -> Response:
        await next(request)
        return Response.text(403, "no")

    house = through(refuse)
    visitor = house.visitor()
    visitor.says(b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    stream = house.stream
    stream.read()
    stream.deliver(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert visitor.answers()[0][1] == b"no"
    assert stream.disconnected or stream.aborted
