"""A crowd of slow visitors: ``python -m tests.end_to_end.slow PORT CA NUMBER``, in a program of its own.

Each comes as anybody does and gets a first answer.  On SIGUSR1 all ask for something and go on so slowly that it
would take hours: a head, a body or the reading of an answer, over HTTP/1.1 and HTTP/2.  None of them ever leaves: only
a reset ends it, and an answer that it was shed, or the end of the edge's side, moves it to nothing.

On standard output: ``in place`` when all are there, ``slow`` when all have begun, then one line of JSON when all are
gone, kind → [how many, the longest time in seconds that one of them stayed, how many are still there].
"""

from __future__ import annotations

import json
import random
import resource
import select
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from h2.settings import SettingCodes

HOST = "app.example.test"

EVERY = 1.0
"""Seconds between two drips of a visitor, on average and more or less."""

SPREAD = 2.0
"""Seconds in which they begin, one after the other: people and machines are never all at the same moment."""

PATIENCE = 60.0
"""Seconds after which those that are still there are given up."""

SMALL = 60_000
"""Octets of an answer that fits into the edge's buffers and the kernel's: the service has done with it at once."""

Drips = Iterator[bytes]
"""What it says bit by bit; a bit of none is an octet that it reads instead."""


def forever(bit: bytes) -> Drips:
    while True:
        yield bit


# HTTP/1.1: what it says at first, and what then.


def head() -> tuple[bytes, Drips]:
    return b"GET /1 HTTP/1.1\r\nHost: app.example.test\r\nX-Slow: ", forever(b"x")


def body() -> tuple[bytes, Drips]:
    return b"POST /1 HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 100000\r\n\r\n", forever(b"x")


def chunks() -> tuple[bytes, Drips]:
    opening = b"POST /1 HTTP/1.1\r\nHost: app.example.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    return opening, forever(b"1;some=extension\r\nx\r\n")


def reader() -> tuple[bytes, Drips]:
    return b"GET /endless HTTP/1.1\r\nHost: app.example.test\r\n\r\n", forever(b"")


def small_reader() -> tuple[bytes, Drips]:
    return b"GET /%d HTTP/1.1\r\nHost: app.example.test\r\n\r\n" % SMALL, forever(b"")


# HTTP/2: the same, on the second stream of a connection.


def ask(client: H2Connection, method: str, path: str) -> bytes:
    fields = [(":method", method), (":scheme", "https"), (":path", path), (":authority", HOST)]
    client.send_headers(client.get_next_available_stream_id(), fields, end_stream=method == "GET")
    return client.data_to_send()


def h2_head(client: H2Connection) -> tuple[bytes, Drips]:
    return ask(client, "GET", "/1")[:-1], forever(b"")


def h2_body(client: H2Connection) -> tuple[bytes, Drips]:
    def drips() -> Drips:
        while True:
            client.send_data(3, b"x")
            yield client.data_to_send()

    return ask(client, "POST", "/1"), drips()


def h2_window(client: H2Connection) -> tuple[bytes, Drips]:
    """The stream's window opens by single octets."""
    client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})

    def drips() -> Drips:
        while True:
            client.increment_flow_control_window(1, 3)
            yield client.data_to_send()

    return ask(client, "GET", f"/{SMALL}"), drips()


def h2_reader(client: H2Connection) -> tuple[bytes, Drips]:
    """The windows are open, and the socket is not read."""
    client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 24})
    client.increment_flow_control_window(1 << 24)
    return ask(client, "GET", "/endless"), forever(b"")


H1_KINDS: dict[str, Callable[[], tuple[bytes, Drips]]] = {
    "head": head,
    "body": body,
    "chunks": chunks,
    "reader": reader,
    "small answer": small_reader,
}
H2_KINDS: dict[str, Callable[[H2Connection], tuple[bytes, Drips]]] = {
    "HTTP/2 head": h2_head,
    "HTTP/2 body": h2_body,
    "HTTP/2 window": h2_window,
    "HTTP/2 reader": h2_reader,
}
KINDS = [*H1_KINDS, *H2_KINDS]


class Slow:
    """One of them.  It comes as anybody does, and has a first answer at once."""

    def __init__(self, kind: str, port: int, context: ssl.SSLContext) -> None:
        self.kind = kind
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", port))
        self.socket = context.wrap_socket(plain, server_hostname=HOST)
        self._client: H2Connection | None = None
        if kind in H2_KINDS:
            self._client = H2Connection(H2Configuration(client_side=True))
            self._visit_by_h2(self._client)
        else:
            self.socket.sendall(b"GET /1 HTTP/1.1\r\nHost: app.example.test\r\n\r\n")
            got = b""
            while not got.partition(b"\r\n\r\n")[2]:
                got += self.socket.recv(4096)
        self.began = self.due = 0.0
        self.ended: float | None = None
        self._drips: Drips = iter(())

    def _visit_by_h2(self, client: H2Connection) -> None:
        client.initiate_connection()
        self.socket.sendall(client.data_to_send() + ask(client, "GET", "/1"))
        while True:
            events = client.receive_data(self.socket.recv(4096))
            self.socket.sendall(client.data_to_send())
            if any(isinstance(event, StreamEnded) for event in events):
                return

    def slow_down(self) -> None:
        if self._client is not None:
            opening, self._drips = H2_KINDS[self.kind](self._client)
        else:
            opening, self._drips = H1_KINDS[self.kind]()
        self.socket.sendall(opening)
        self.socket.setblocking(False)
        self.began = time.monotonic()

    def drip(self) -> None:
        bit = next(self._drips)
        try:
            if bit:
                self.socket.send(bit)
            else:
                socket.socket.recv(self.socket, 1)  # below TLS: an octet of a record
        except OSError:
            pass  # nothing is there, or its end is closed; a reset is told by epoll


def crowd(port: int, authority: str, number: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, number + 100)), hard))
    plain, h2 = (ssl.create_default_context(cafile=authority) for _ in range(2))
    h2.set_alpn_protocols(["h2"])
    kinds = [KINDS[index % len(KINDS)] for index in range(number)]
    everybody = [Slow(kind, port, h2 if kind in H2_KINDS else plain) for kind in kinds]
    print("in place", flush=True)
    signal.sigwait({signal.SIGUSR1})
    poll = select.epoll()
    there: dict[int, Slow] = {}
    for slow in everybody:
        slow.slow_down()
        time.sleep(SPREAD / number)
        descriptor = slow.socket.fileno()
        there[descriptor] = slow
        poll.register(descriptor, 0)  # only errors and hang-ups, which are always told
    print("slow", flush=True)
    for slow in everybody:
        slow.due = time.monotonic() + EVERY * random.random()
    until = time.monotonic() + PATIENCE
    while there and time.monotonic() < until:
        for descriptor, _ in poll.poll(0.005):
            poll.unregister(descriptor)
            there.pop(descriptor).ended = time.monotonic()
        now = time.monotonic()
        for slow in there.values():
            if slow.due <= now:
                slow.due = now + EVERY * random.uniform(0.5, 1.5)
                slow.drip()
    report = {}
    for kind in KINDS:
        mine = [slow for slow in everybody if slow.kind == kind]
        stayed = [slow.ended - slow.began for slow in mine if slow.ended is not None]
        report[kind] = [len(mine), round(max(stayed, default=0.0), 2), len(mine) - len(stayed)]
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    crowd(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
