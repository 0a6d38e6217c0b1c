"""Houses whose routes compress, what their services say, and threads that work when they are told to."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.python.failure import Failure

from tests.edge.house import House, Visitor
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import LocalAnswer
from wormhole_tw.edge.compressing import Compressors
from wormhole_tw.http.coding import CodingRules
from wormhole_tw.net.threads import Job

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PAGE = b"<p>The quick brown fox</p>\n" * 100
LARGE = b"".join(b'{"id": %d, "of": %d}\n' % (number, number * number % 997) for number in range(30_000))
NOISE = Random(7).randbytes(300_000)


def get(coding: bytes = b"gzip", *, method: bytes = b"GET", version: bytes = b"1.1", more: bytes = b"") -> bytes:
    return b"%s / HTTP/%s\r\nHost: app.test\r\nAccept-Encoding: %s\r\n%s\r\n" % (method, version, coding, more)


def sized(body: bytes, more: bytes = b"") -> bytes:
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Hands:
    """Threads that work when they are told to."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.done = 0
        self.closed = False

    def run(self, call: Any, done: Any) -> Any:
        job = Job(call, done)
        self.jobs.append(job)
        return job

    def work(self) -> None:
        """Do the first one."""
        job = self.jobs.pop(0)
        if job.done is not None:
            try:
                result = job.call()
            except Exception:  # as a thread would
                result = Failure()
            self.done += 1
            job.done(result)

    def work_off(self) -> None:
        while self.jobs:
            self.work()

    def close(self) -> None:
        self.closed = True


class Press(House):
    """A house whose routes compress.

    :param hands: threads; None for none
    """

    def __init__(self, rules: CodingRules | None = None, *, hands: Hands | None = None, **options: Any) -> None:
        self.rules = rules or CodingRules()
        self.local: LocalAnswer | None = None
        super().__init__(**options)
        if hands is not None:
            self.context.compressors = Compressors(self.timers, hands)  # type: ignore[arg-type]

    def catalog(self, protocol: str) -> Catalog:
        usual = super().catalog(protocol)
        sites = [
            replace(
                site,
                routes=tuple(replace(route, compress=self.rules, answer=self.local) for route in site.routes),
            )
            for site in usual.sites
        ]
        return Catalog(sites, usual.backends.values(), own_names=["edge.test"])

    def answers_itself(self, answer: LocalAnswer) -> None:
        self.local = answer
        self.catalogs.swap(self.catalog("http/1.1"))

    def ask(self, request: bytes | None = None, **options: Any) -> Visitor:
        visitor = self.visitor(**options)
        visitor.says(get() if request is None else request)
        return visitor

    def close(self) -> None:
        assert self.context.compressors.running == 0 or any(True for _ in self.context.connections)
        super().close()
        assert self.context.compressors.running == 0


def fields(head: Any) -> dict[bytes, bytes]:
    return dict(head.headers)


def judged_chunks(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        found, data = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found
