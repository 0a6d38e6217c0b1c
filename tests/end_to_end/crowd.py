"""Visitors who ask all the time, over both versions of HTTP, and note what they did not get."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from types import TracebackType

from h2.events import ConnectionTerminated
from h2.exceptions import ProtocolError

from tests.end_to_end.house import House, nonce
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.test_http2 import Client

PATIENCE = 30.0
"""Seconds that a visitor waits for an answer before it calls that a failure."""


class Echo:
    """A service that takes a moment, gives back what it got, and counts how often it got what.

    :ivar got: bodies of POST → how often each came
    """

    def __init__(self, *origins: Origin, seconds: float = 0.02) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._never = threading.Event()
        self.got: Counter[bytes] = Counter()
        for origin in origins:
            origin.routes["/"] = self._answer

    def _answer(self, call: Call) -> None:
        body = b"".join(call.body())
        if body:
            with self._lock:
                self.got[body] += 1
        self._never.wait(self._seconds)
        body = body or b"got"
        # in one piece: an answer that has begun is nothing that anybody could repeat
        call.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class Crowd:
    """Visitors on threads of their own, from the beginning of the block to its end.

    :ivar failed: what went wrong, for a person
    :ivar asked: how many requests were answered as they should be
    """

    def __init__(self, house: House, *, http1: int = 6, http2: int = 2, forgive_posts: bool = False) -> None:
        self._house = house
        self._forgive_posts = forgive_posts
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        self.failed: list[str] = []
        self.asked = 0
        kinds = [self._over_http1] * http1 + [self._over_http2] * http2
        self._threads = [threading.Thread(target=kind, daemon=True) for kind in kinds]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE + 10)
            assert error is not None or not thread.is_alive()

    def go_on(self, requests: int = 40) -> None:
        """Wait until so many more requests were answered, or failed."""
        with self._progress:
            until = self.asked + requests
            assert self._progress.wait_for(lambda: self.asked >= until or len(self.failed) > 10, PATIENCE), self.failed

    def _note(self, failure: str | None) -> None:
        with self._progress:
            if failure is None:
                self.asked += 1
            else:
                self.failed.append(failure)
            self._progress.notify_all()

    def _over_http1(self) -> None:
        visitor = self._house.visitor(timeout=PATIENCE)
        for number in itertools.count():
            if self._over.is_set():
                visitor.close()
                return
            body = nonce().encode() if number % 2 else None
            what = f"HTTP/1.1, request {number}, {'POST' if body else 'GET'}"
            try:
                answer = visitor.ask("POST" if body else "GET", "/", body)
            except Exception as error:  # whatever it is, that one has failed
                visitor.close()
                self._note(f"{what}: {error!r}")
                continue
            good = answer.status == 200 and answer.body == (body or b"got")
            if body and self._forgive_posts and answer.status == 502:
                continue  # it may have been handled, so that nobody sends it again
            self._note(None if good else f"{what}: {answer}")

    def _over_http2(self) -> None:
        own = copy(self._house)  # whose TLS context a Client borrows for a moment
        while not self._over.is_set():
            try:
                with Client(own) as client:
                    self._ask(client)
            except Exception as error:
                self._note(f"HTTP/2: {repr(error)[-600:]}")

    def _ask(self, client: Client) -> None:
        client.socket.settimeout(PATIENCE)
        while not self._over.is_set():
            if any(isinstance(event, ConnectionTerminated) for event in client.seen):
                return
            try:
                streams = [client.ask("/") for _ in range(3)]
            except ProtocolError:  # it has heard GOAWAY
                return
            for stream in streams:
                status = client.status(stream)
                good = status == 200 and client.body(stream) == b"got"
                self._note(None if good else f"HTTP/2, stream {stream}: {status}")


@contextmanager
def busy(house: House, echo: Echo, **numbers: int) -> Iterator[Crowd]:
    """A crowd none of whose requests may fail, nor reach the service twice."""
    with Crowd(house, **numbers) as crowd:
        yield crowd
    assert not crowd.failed, (len(crowd.failed), crowd.asked, crowd.failed[:5])
    twice = {body: count for body, count in echo.got.items() if count > 1}
    assert not twice
