"""Testing middleware without sockets, an edge or a service (docs/programmable-edge.md).

::

    def test_visitors_are_greeted() -> None:
        service = FakeService(Response.text(200, "hello"))
        answer = answer_to(Greeting(word="hi"), Request("GET", "https://site.example/"), service)
        assert answer.headers["X-Greeting"] == "hi"
        assert answer.content == b"hello"
        assert service.requests[0].headers["X-Greeted"] == "yes"

Where a middleware waits for something that the test has to bring about, :func:`through` gives a Deferred.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wormhole_tw.errors import MisuseError
from wormhole_tw.middleware import Headers, Middleware, NextFailed, Request, Response
from wormhole_tw.middleware.body import Body, Given, Source, again

__all__ = ["Answer", "FakeService", "Sent", "answer_to", "pieces", "through", "unavailable"]

T = TypeVar("T")

MOST = 1 << 26
"""Octets of a body that is kept for a test to look at."""


class Sent:
    """A request as the service got it.

    :ivar content: its whole body
    """

    def __init__(self, request: Request, content: bytes) -> None:
        self.method = request.method
        self.target = request.target
        self.path = request.path
        self.query = request.query
        self.headers = request.headers.copy()
        self.content = content


class Answer:
    """An answer as the visitor gets it.

    :ivar content: its whole body
    :ivar trailers: its trailer fields
    """

    def __init__(self, response: Response, content: bytes) -> None:
        self.status = response.status
        self.headers = response.headers.copy()
        self.content = content
        self.trailers: Headers = response.trailers.copy()


class FakeService:
    """Stands for what is behind the last middleware; it is a ``next``.

    :param answer: what it answers: a Response (each time anew), an exception that it raises
        (:class:`~wormhole_tw.errors.NextFailed` for a service that cannot be had), or a function of the
        :class:`Sent` request that gives one of the two
    :ivar requests: what it got, in order
    """

    def __init__(self, answer: Response | BaseException | Callable[[Sent], Response | BaseException] | None = None):
        self._answer = Response() if answer is None else answer
        self.requests: list[Sent] = []

    async def __call__(self, request: Request) -> Response:
        """Take a request, its body to the end, and answer."""
        source = request.body._source
        source.claim()
        sent = Sent(request, await _whole(again(source)))
        self.requests.append(sent)
        answer = self._answer
        if not isinstance(answer, Response | BaseException):
            answer = answer(sent)
        if isinstance(answer, BaseException):
            raise answer
        answer = answer.copy()
        answer._body = Body(again(answer.body._source))
        return answer


def through(
    middleware: Middleware | Iterable[Middleware], request: Request | None = None, service: FakeService | None = None
) -> Deferred[Answer]:
    """Send a request through one middleware or several, the visitor's first, and read the answer to its end.

    :returns: fails with what the middleware raises; cancel it to be a visitor who leaves
    """
    stack = list(middleware) if isinstance(middleware, Iterable) else [middleware]
    return Deferred.fromCoroutine(_through(stack, request or Request(), service or FakeService()))


def answer_to(
    middleware: Middleware | Iterable[Middleware], request: Request | None = None, service: FakeService | None = None
) -> Answer:
    """:func:`through` for a middleware that waits for nothing but its body and the service.

    :raises MisuseError: it waits for something that nobody brings about here
    """
    return _now(through(middleware, request, service))


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """A body that comes in these pieces."""
    for part in parts:
        yield part


async def _through(stack: list[Middleware], request: Request, service: FakeService) -> Answer:
    response = await _step(stack, request, service)
    content = await response.body.read(MOST)
    return Answer(response, content)


async def _step(stack: list[Middleware], request: Request, service: FakeService) -> Response:
    if not stack:
        return await service(request)
    first, *others = stack
    request = request.copy()
    request._body = Body(again(request.body._source))

    given = Given()

    def onwards(onward: Request) -> Awaitable[Response]:
        given.check(onward.body._source)
        answer = Deferred.fromCoroutine(_step(others, onward, service))
        given.add(onward.body._source, answer)
        return answer

    response = await first(request, onwards)
    if not isinstance(response, Response):
        raise TypeError(f"it returned {type(response).__name__} and no Response")
    return response


async def _whole(source: Source) -> bytes:
    """As a service takes a body: nobody else does any more."""
    content: list[bytes] = []
    while piece := await source.pull():
        content.append(piece)
    return b"".join(content)


def _now(deferred: Deferred[T]) -> T:
    results: list[Any] = []
    deferred.addBoth(results.append)
    if not results:
        deferred.addErrback(lambda _: None)
        deferred.cancel()
        raise MisuseError("the middleware waits for something: use through(), and bring that about")
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]  # type: ignore[no-any-return]


def unavailable() -> NextFailed:
    """What ``next`` raises when no agent is there."""
    return NextFailed(503, "no-agent", "The service behind this name is not connected right now.")
