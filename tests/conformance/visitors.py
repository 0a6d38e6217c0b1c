"""Visitors with a loopback address of their own each, so that the origin knows whose request it has got."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import h11

from tests.conformance.recordings import Recorded

__all__ = ["Answer", "Dial", "Talk", "answers_in", "as_many", "converse", "dialler", "source_address", "visit_all"]

AT_ONCE = 64
"""Visitors at a time: most of them wait for a timeout of the server's."""

PATIENCE = 20.0
"""Seconds for a connection to end: far more than any timeout of the servers here."""

A = TypeVar("A")
B = TypeVar("B")

Dial = Callable[[str], ssl.SSLSocket]
"""Source address → a TLS connection."""


@dataclass
class Answer:
    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)

    def value(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.fields if key == name), None)


@dataclass
class Talk:
    """What came of a conversation.

    :ivar raw: what the server said
    :ivar closed: it ended the connection, and nobody had to give up waiting
    :ivar broken: why what it said is no sequence of answers, or empty
    """

    raw: bytes = b""
    closed: bool = False
    answers: list[Answer] = field(default_factory=list)
    broken: str = ""

    @property
    def status(self) -> int:
        """Of the first answer, or 0."""
        return self.answers[0].status if self.answers else 0


def source_address(number: int) -> str:
    return f"127.{77 + number // 62500}.{1 + number // 250 % 250}.{1 + number % 250}"


def dialler(port: int, context: ssl.SSLContext, server_name: str) -> Dial:
    """Connections to a port of 127.0.0.1."""

    def dial(source: str) -> ssl.SSLSocket:
        with socket.socket() as plain:
            plain.settimeout(PATIENCE)
            plain.bind((source, 0))
            plain.connect(("127.0.0.1", port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(plain, server_hostname=server_name, suppress_ragged_eofs=True)

    return dial


def converse(
    dial: Dial, source: str, steps: Sequence[bytes], delays: Sequence[float] = (), method: bytes = b"GET"
) -> Talk:
    """Send the steps, and read until the server ends the connection."""
    talk = Talk()
    with dial(source) as visitor:
        try:
            for step, delay in zip(steps, delays or [0.0] * len(steps), strict=True):
                if delay:
                    time.sleep(delay)
                if step:
                    visitor.sendall(step)
        except OSError:
            pass  # it is refused before it is whole: what was said of that can still be read
        until = time.monotonic() + PATIENCE
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < until:
                try:
                    data = visitor.recv(65536)
                except TimeoutError:
                    raise
                except OSError:
                    data = b""
                if not data:
                    talk.closed = True
                    break
                talk.raw += data
    talk.answers, talk.broken = answers_in(talk.raw, [method])
    return talk


def answers_in(raw: bytes, methods: Sequence[bytes]) -> tuple[list[Answer], str]:
    """Read answers as a strict client does.

    :param methods: of the requests; GET for those past the end
    :returns: the answers, and why the rest is none
    """
    found: list[Answer] = []
    while raw:
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        if re.match(rb"[^\r\n]*\n", raw) and not re.match(rb"HTTP/1\.[01] [1-9][0-9][0-9] [^\r\n]*\r\n", raw):
            return found, f"no status line: {raw[:60]!r}"
        judge = h11.Connection(h11.CLIENT)
        judge.send(h11.Request(method=method, target=b"/", headers=[("Host", "a")]))
        judge.send(h11.EndOfMessage())
        judge.receive_data(raw)
        answer = Answer(0, [])
        try:
            while True:
                event = judge.next_event()
                if event is h11.NEED_DATA:
                    judge.receive_data(b"")
                elif isinstance(event, h11.InformationalResponse):
                    answer.interim.append(event.status_code)
                elif isinstance(event, h11.Response):
                    answer.status = event.status_code
                    answer.fields = [(bytes(name), bytes(value)) for name, value in event.headers]
                elif isinstance(event, h11.Data):
                    answer.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return found, f"unexpected {event!r}"
        except h11.RemoteProtocolError as error:
            if answer.status:
                found.append(answer)
            return found, str(error)
        found.append(answer)
        raw = judge.trailing_data[0]
    return found, ""


def visit_all(dial: Dial, cases: Sequence[Recorded], first: int = 0) -> list[tuple[Recorded, str, Talk]]:
    """Every case on a connection of its own, from an address of its own.

    :param first: number of the first address
    """

    def one(numbered: tuple[int, Recorded]) -> tuple[Recorded, str, Talk]:
        number, case = numbered
        source = source_address(first + number)
        return case, source, converse(dial, source, case.steps, case.delays, case.method)

    return as_many(one, list(enumerate(cases)))


def as_many(work: Callable[[A], B], items: Iterable[A], at_once: int = AT_ONCE) -> list[B]:
    """Do it for each of them, many at a time; results in their order."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(work, items))
