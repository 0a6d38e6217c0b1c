"""``wormhole_tw.testing``, with which others test their middleware."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from wormhole_tw.errors import HttpError, MisuseError, NextFailed
from wormhole_tw.middleware import Next, Request, Response
from wormhole_tw.testing import FakeService, answer_to, pieces, through, unavailable


async def nothing(request: Request, next: Next) -> Response:
    return await next(request)


def test_a_request_goes_through_and_the_answer_comes_back() -> None:
    async def mark(request: Request, next: Next) -> Response:
        request.headers["X-Mark"] = "1"
        request.body = b"changed"
        response = await next(request)
        response.body = await response.body.read() + b"!"
        return response

    service = FakeService(Response(201, pieces(b"a", b"", b"b")))
    answer = answer_to([nothing, mark], Request("POST", "https://site.example/x?y", body=b"original"), service)
    assert (answer.status, answer.content) == (201, b"ab!")
    [sent] = service.requests
    assert (sent.method, sent.target, sent.path, sent.query) == ("POST", "/x?y", "/x", "y")
    assert (sent.content, sent.headers["X-Mark"]) == (b"changed", "1")


def test_an_answer_is_given_each_time_anew() -> None:
    service = FakeService(Response(200, b"same"))
    assert [answer_to(nothing, None, service).content for _ in range(2)] == [b"same"] * 2


def test_a_service_may_answer_by_the_request_or_fail() -> None:
    service = FakeService(lambda sent: Response(200, sent.method.encode()))
    assert answer_to(nothing, Request("PUT"), service).content == b"PUT"
    with pytest.raises(NextFailed) as caught:
        answer_to(nothing, None, FakeService(unavailable()))
    assert (caught.value.status, caught.value.reason) == (503, "no-agent")


def test_what_a_middleware_raises_comes_out() -> None:
    async def read(request: Request, next: Next) -> Response:
        return Response(200, await request.body.read(3))

    with pytest.raises(HttpError) as caught:
        answer_to(read, Request("POST", body=pieces(b"12", b"34")))
    assert caught.value.status == 413

    async def none(request: Request, next: Next) -> None:
        return None

    with pytest.raises(TypeError, match="NoneType"):
        answer_to(none)  # type: ignore[arg-type]


def test_one_that_waits_is_waited_for_or_cancelled() -> None:
    gate: Deferred[None] = Deferred()
    ended: list[BaseException] = []

    async def wait(request: Request, next: Next) -> Response:
        try:
            await gate
        except CancelledError as error:
            ended.append(error)
            raise
        return await next(request)

    with pytest.raises(MisuseError, match="use through"):
        answer_to(wait)
    assert len(ended) == 1
    gate = Deferred()
    found: list[object] = []
    waiting = through(wait)
    waiting.addBoth(found.append)
    assert found == []
    gate.callback(None)
    assert len(found) == 1


def test_a_body_in_pieces_goes_to_one_service_only() -> None:
    async def twice(request: Request, next: Next) -> Response:
        await next(request)
        return await next(request)

    with pytest.raises(MisuseError, match="given away already"):
        answer_to(twice, Request("POST", body=pieces(b"a")))
    service = FakeService()
    answer_to(twice, Request("POST", body=b"a"), service)
    assert [sent.content for sent in service.requests] == [b"a", b"a"]


def test_a_body_that_the_next_one_has_read_is_not_sent_again_without_it() -> None:
    async def twice(request: Request, next: Next) -> Response:
        await next(request)
        return await next(request)

    async def reads(request: Request, next: Next) -> Response:
        await request.body.read()
        return await next(request)

    with pytest.raises(MisuseError, match="given away already"):
        answer_to([twice, reads], Request("POST", body=pieces(b"a")))
