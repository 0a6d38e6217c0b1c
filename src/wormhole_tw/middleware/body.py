"""Bodies as middleware reads them: an asynchronous iterator of octets, from memory, from a connection, or from code.

What comes from a connection is bounded: a :class:`Pipe` is told when its octets were taken, and whoever fills it lets
its peer wait until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred

from wormhole_tw.errors import HttpError, MisuseError, NextFailed
from wormhole_tw.http.events import Fields
from wormhole_tw.middleware.headers import Headers

__all__ = ["READ_LIMIT", "Body", "Given", "Meter", "Owner", "Pieces", "Pipe", "Source", "Whole", "again", "source_of"]

READ_LIMIT = 1 << 20
"""Octets that :meth:`Body.read` takes where it is not told otherwise: forms and API calls fit, uploads do not."""


_WENT = (
    "this body was given away already, and goes on as it comes: read it before that (await request.body.read()) to "
    "have it twice"
)


_TWO = "two read one body at the same time"

_EMPTY = 64
"""Empty pieces in a row after which whoever makes them has to let the others have their turn: who reads a file beyond
its end brings nothing else, for ever."""


class Meter(Protocol):
    """Measures the time that a middleware takes itself."""

    def go(self) -> None:
        """It is at work."""

    def rest(self) -> None:
        """It waits for a visitor, a service, or another middleware."""

    def fresh(self) -> None:
        """It has brought something: its time begins anew."""

    @property
    def left(self) -> float:
        """Seconds of its time that are left."""


class Owner(Protocol):
    """Whose code makes a body."""

    meter: Meter

    def drive(self, step: Awaitable[bytes]) -> Awaitable[bytes]:
        """Run one step of it."""

    def turn_end(self) -> Awaitable[None]:
        """Let everybody else have their turn."""

    def blamed(self, error: Exception) -> Exception:
        """It has raised: what those who wait for the body get in the place of that."""


class Source(Protocol):
    """Where a body comes from."""

    length: int | None
    """Octets of the whole, where that is known."""

    begun: bool
    """Something of it was taken."""

    gone: bool
    """It goes to a service as it comes, so that nobody else can read it."""

    home: object
    """The request in whose life it can be read; None for any, or where that is not known yet."""

    trailers: Headers
    """Complete when the body has ended."""

    async def pull(self) -> bytes:
        """The next piece; nothing at the end."""

    def claim(self) -> None:
        """Somebody takes it over as a whole.

        :raises MisuseError: somebody has
        """


class Whole:
    """Octets in memory, which may be read any number of times."""

    __slots__ = ("_over", "begun", "data", "length", "trailers")

    gone = False
    home: object = None

    def __init__(self, data: bytes, trailers: Headers | None = None) -> None:
        self.data = data
        self.length: int | None = len(data)
        self.begun = False
        self.trailers = Headers() if trailers is None else trailers
        self._over = False

    async def pull(self) -> bytes:
        if self._over:
            return b""
        self.begun = self._over = True
        return self.data

    def claim(self) -> None:
        """It can be given away again and again."""


class Pieces:
    """What a middleware makes: an asynchronous iterator, usually a generator.

    :ivar running: its code is at work, or waits for something
    """

    __slots__ = ("_iterator", "_over", "_owner", "begun", "gone", "home", "length", "running", "trailers")

    def __init__(self, pieces: AsyncIterable[bytes], trailers: Headers | None = None) -> None:
        self.length: int | None = None
        self.begun = False
        self.gone = False
        self.home: object = None
        self.running = False
        self.trailers = Headers() if trailers is None else trailers
        self._iterator: AsyncIterator[bytes] = aiter(pieces)
        self._owner: Owner | None = None
        self._over = False

    def own(self, owner: Owner) -> bool:
        """Say whose code it is; False where somebody was named before."""
        if self._owner is not None:
            return False
        self._owner = owner
        return True

    async def pull(self) -> bytes:
        self.begun = True
        empty = 0
        while not self._over:
            if self.running:
                raise MisuseError(_TWO)
            piece = await self._step(tired=empty == _EMPTY)
            if piece:
                return piece
            empty = empty + 1 if empty < _EMPTY else 1
        return b""

    async def _step(self, *, tired: bool) -> bytes:
        owner = self._owner
        if owner is None:
            return await self._next()
        piece = b""
        owner.meter.go()
        try:
            if tired:
                await owner.turn_end()
            piece = await owner.drive(self._next())
            return piece
        except (CancelledError, NextFailed, HttpError):
            self._over = True
            raise
        except Exception as error:
            self._over = True
            raise owner.blamed(error) from error
        finally:
            owner.meter.rest()
            if piece or self._over:
                owner.meter.fresh()

    async def _next(self) -> bytes:
        self.running = True
        try:
            piece = await anext(self._iterator)
        except StopAsyncIteration:
            self._over = True
            return b""
        finally:
            self.running = False
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"a body is made of bytes, and this one has {type(piece).__name__} in it")
        return bytes(piece)

    def claim(self) -> None:
        if self.gone:
            raise MisuseError(_WENT)
        self.gone = True

    async def close(self) -> None:
        """Let the code that makes it come to its end; what runs just now was told so, and is left to itself."""
        begun, self._over = self.begun and not self._over, True
        close = getattr(self._iterator, "aclose", None)
        if begun and close is not None and not self.running:
            self.running = True
            try:
                await close()
            finally:
                self.running = False


class Pipe:
    """What comes from a connection.

    :param taken: is told how many octets were taken
    :param wanted: is told that somebody waits for more
    :param length: octets of the whole, where that is known
    :ivar gone: it goes on past here, as it comes: nobody can read it any more
    """

    __slots__ = (
        "_claimed",
        "_held",
        "_taken",
        "_waiter",
        "_wanted",
        "begun",
        "failure",
        "gone",
        "held",
        "home",
        "length",
        "over",
        "trailers",
    )

    def __init__(
        self,
        taken: Callable[[int], object],
        length: int | None = None,
        wanted: Callable[[], object] | None = None,
    ) -> None:
        self.length = length
        self.begun = False
        self.gone = False
        self.over = False
        self.held = 0
        self.home: object = None
        self.trailers = Headers()
        self._taken = taken
        self._wanted = wanted
        self._held: deque[bytes] = deque()
        self.failure: BaseException | None = None
        self._waiter: Deferred[None] | None = None
        self._claimed = False

    # who fills it

    def feed(self, data: bytes) -> None:
        """A piece has come."""
        self._held.append(data)
        self.held += len(data)
        self._wake()

    def finish(self, trailers: Fields) -> None:
        """That was all."""
        self.over = True
        self.trailers.extend(trailers)
        self._wake()

    def fail(self, error: BaseException) -> None:
        """No more of it will come; whoever waits for it, now or later, gets the error."""
        if not self.over:
            self.over = True
            self.failure = error
            self._wake()

    def drain(self) -> list[bytes]:
        """Take all that waits, for somebody who is given the pieces themselves from here on."""
        pieces, self.held = list(self._held), 0
        self._held.clear()
        self.gone = True
        self._wake()
        return pieces

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    # who reads it

    async def pull(self) -> bytes:
        self.begun = True
        while not self._held:
            if self.failure is not None:
                raise self.failure
            if self.gone:
                raise MisuseError(_WENT)
            if self.over:
                return b""
            if self._waiter is not None:
                raise MisuseError(_TWO)
            waiter: Deferred[None] = Deferred()
            self._waiter = waiter
            if self._wanted is not None:
                self._wanted()
            try:
                await waiter
            except CancelledError:
                if self._waiter is waiter:
                    self._waiter = None
                raise
        piece = self._held.popleft()
        self.held -= len(piece)
        self._taken(len(piece))
        return piece

    def claim(self) -> None:
        if self._claimed:
            raise MisuseError(_WENT)
        self._claimed = True


class Given:
    """The bodies that one middleware has given to ``next``: what is read as it comes is there once."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given: list[tuple[Source, Deferred[Any]]] = []

    def check(self, source: Source) -> None:
        """It is to be given away.

        :raises MisuseError: somebody behind has read something of it, or may yet
        """
        for given, answer in self._given:
            if given is source and (source.begun or not answer.called):
                raise MisuseError(_WENT)

    def add(self, source: Source, answer: Deferred[Any]) -> None:
        """It was.

        :param answer: fires when whoever got it has answered
        """
        if not isinstance(source, Whole):
            self._given.append((source, answer))


class Body:
    """A message's body: iterate over its pieces, or :meth:`read` it whole.

    It can be read once, unless it was read whole: then it stays in memory, and goes on from there.

    ::

        async for piece in request.body:
            ...
    """

    __slots__ = ("_answer", "_meter", "_source")

    def __init__(self, source: Source, meter: Meter | None = None, *, answer: bool = False) -> None:
        """Made by requests and answers; ``request.body = b"…"`` is how to set one.

        :param answer: it is an answer's
        """
        self._source = source
        self._meter = meter
        self._answer = answer

    @property
    def length(self) -> int | None:
        """Octets of the whole, where that is known before its end."""
        return self._source.length

    @property
    def trailers(self) -> Headers:
        """The trailer fields (RFC 9110 §6.5): those of a body from a connection are there when it has ended."""
        return self._source.trailers

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._pull()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self, limit: int = READ_LIMIT) -> bytes:
        """The whole of it (or what was not read yet); it stays in memory, so that it can still be passed on.

        :param limit: octets that it may have at most
        :raises HttpError: it has more: 413 for a request, 502 for an answer, which is what the visitor gets where
            nobody catches it
        """
        source = self._source
        if isinstance(source, Whole):
            if len(source.data) > limit:
                raise self._too_long()
            return source.data
        if source.length is not None and not source.begun and source.length > limit:
            raise self._too_long()
        pieces: list[bytes] = []
        size = 0
        while piece := await self._pull():
            size += len(piece)
            if size > limit:
                raise self._too_long()
            pieces.append(piece)
        data = b"".join(pieces)
        self._source = Whole(data, source.trailers)
        return data

    def _too_long(self) -> HttpError:
        if self._answer:
            return HttpError(502, "answer-too-large", "The service's answer is longer than what reads it takes.")
        return HttpError(413, "body-too-large", "The body of the request is too large.")

    async def _pull(self) -> bytes:
        if self._source.gone:
            raise MisuseError(_WENT)
        meter = self._meter
        if meter is None:
            return await self._source.pull()
        meter.rest()
        try:
            return await self._source.pull()
        finally:
            meter.go()


def source_of(body: bytes | AsyncIterable[bytes] | Body, trailers: Headers | None = None) -> Source:
    """What a body that somebody has set comes from.

    :raises TypeError: it is no body
    """
    if isinstance(body, Body):
        return body._source
    if isinstance(body, bytes | bytearray | memoryview):
        return Whole(bytes(body), trailers)
    if isinstance(body, AsyncIterable):
        return Pieces(body, trailers)
    raise TypeError(f"a body is bytes or an asynchronous iterator of bytes, not {type(body).__name__}")


def again(source: Source) -> Source:
    """The same for another reader: what is in memory from its beginning, everything else from where it is."""
    return Whole(source.data, source.trailers) if isinstance(source, Whole) else source
