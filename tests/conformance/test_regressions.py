"""What has gone wrong in other servers and proxies, and in the framework under this one, by its public name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from tests.conformance.origin import JudgingOrigin
from tests.conformance.recordings import HOST
from tests.conformance.visitors import Dial, Talk, answers_in, as_many, converse, dialler, source_address
from tests.end_to_end.house import OTHER, House

POST = b"POST / HTTP/1.1\r\nHost: " + HOST + b"\r\n"
BEHIND = b"GET /behind HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"

REFUSED = [
    ("Twisted CVE-2020-10108", POST + b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n", 400),
    ("Twisted CVE-2020-10109", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("Twisted CVE-2022-24801, a sign", POST + b"Content-Length: +5\r\n\r\nhello", 400),
    (
        "Twisted CVE-2022-24801, 0x in chunks",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        400,
    ),
    (
        "Twisted CVE-2022-24801, LF in an extension",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5;\nhello\r\n0\r\n\r\n",
        400,
    ),
    ("Twisted CVE-2022-24801, odd white space", POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("h11 CVE-2025-43859", POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX2\r\nok\r\n0\r\n\r\n", 400),
    ("Go CVE-2023-39326", POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"a" * 250 + b"\r\nx\r\n" * 30, 400),
    ("Pingora CVE-2026-2835", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("Pingora CVE-2026-2835, identity", POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400),
]


def test_named_ones_are_refused(dial: Dial, origin: JudgingOrigin) -> None:
    def one(number: int) -> tuple[int, list[int]]:
        talk = converse(dial, source_address(40000 + number), [REFUSED[number][1] + BEHIND])
        return number, [answer.status for answer in talk.answers]

    for number, statuses in as_many(one, range(len(REFUSED))):
        name, _, status = REFUSED[number]
        assert statuses == [status], name
        found = origin.by_visitor().get(source_address(40000 + number), [])
        assert [request.target for request in found] == [], name


@pytest.mark.parametrize("target", ["/\r\nX-Evil: 1", "/ HTTP/1.1\r\nX: y", "/\nGET /evil HTTP/1.1"])
def test_twisted_cve_2019_12387(target: str, dial: Dial, origin: JudgingOrigin) -> None:
    """What stands in a target never becomes a line: escaped it stays escaped, bare it is refused."""
    source = source_address(40100 + len(target))
    escaped = target.replace("\r", "%0D").replace("\n", "%0A").replace(" ", "%20")
    talk = converse(
        dial, source, [b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (escaped.encode(), HOST)]
    )
    assert talk.status == 200
    [found] = origin.by_visitor()[source]
    assert (found.target, found.faults, found.odd) == (escaped.encode(), [], [])


@pytest.mark.parametrize(
    "path", [b'/"><script>alert(1)</script>', b"/%22%3E%3Cscript%3E", b"//evil.test/x", b"/\\evil.test"]
)
def test_twisted_cve_2022_39348_and_2024_41810(path: bytes, house: House) -> None:
    """No page and no redirect of the edge's own repeats what a visitor sent as markup or as another site."""
    for host in (HOST, b"evil.test"):
        with closing(socket.create_connection(("127.0.0.1", house.http_port), 10)) as plain:
            plain.sendall(b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, host))
            raw = b""
            while data := plain.recv(65536):
                raw += data
        head, _, body = raw.partition(b"\r\n\r\n")
        assert b"<script" not in body
        assert b"evil" not in body
        location = [line for line in head.split(b"\r\n") if line.lower().startswith(b"location:")]
        assert all(line.startswith(b"Location: https://" + HOST + b":") for line in location), location
        assert bool(location) == (host == HOST)


class EarlyOrigin:
    """Answers as soon as it has the head, and reads nothing of the body for a while."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.heads: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with closing(connection):
            connection.settimeout(10)
            taken = b""
            try:
                while data := connection.recv(65536):
                    taken += data
                    while b"\r\n\r\n" in taken:
                        head, _, taken = taken.partition(b"\r\n\r\n")
                        self.heads.append(head)
                        small = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
                        connection.sendall(
                            small if head.startswith(b"POST") else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                        )
            except OSError:
                pass

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def early(house: House) -> Iterator[EarlyOrigin]:
    with closing(EarlyOrigin()) as origin:
        agent = house.agent("early", origin.port, backend="other")
        yield origin
        agent.stop()


def converse_in_turn(dial: Dial, source: str, first: bytes, awaited: bytes, then: bytes) -> Talk:
    """Send the rest once the answer to the first is there, and read until the server ends the connection."""
    talk = Talk()
    with dial(source) as visitor:
        visitor.sendall(first)
        while awaited not in talk.raw:
            data = visitor.recv(65536)
            assert data, talk.raw
            talk.raw += data
        with suppress(OSError):  # it may be closed already
            visitor.sendall(then)
            while data := visitor.recv(65536):
                talk.raw += data
    talk.answers, talk.broken = answers_in(talk.raw, [b"POST"])
    return talk


@pytest.mark.parametrize("size", [100, 60_000, 3_000_000])
def test_what_is_left_of_a_body_is_no_request(size: int, house: House, early: EarlyOrigin) -> None:
    """Pingora CVE-2025-4366: a service answers early; neither its next request nor the visitor's begins in that body.

    The body is made of requests, so that an end that is missed by any number of octets would be seen.
    """
    inner = b"GET /inner HTTP/1.1\r\nHost: " + OTHER.encode() + b"\r\n\r\n"
    body = (inner * (size // len(inner) + 1))[:size]
    dial = dialler(house.port, house.context, OTHER)
    head = b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n" % (OTHER.encode(), size)
    last = b"GET /last HTTP/1.1\r\nHost: " + OTHER.encode() + b"\r\nConnection: close\r\n\r\n"
    for number in range(4):
        early.heads.clear()
        if size > 1_000_000:
            talk = converse(dial, source_address(40200 + number), [head, body + last], [0.0, 0.05 * (number % 2)])
        else:
            # so little could be at the service before its answer, and whoever takes it for requests there is lost
            talk = converse_in_turn(dial, source_address(40200 + number), head, b"\r\n\r\nno", body + last)
        assert talk.status == 403
        assert [answer.status for answer in talk.answers] in ([403], [403, 200])
        # the origin itself takes the rest of a body for requests, so what counts is what the edge wrote as heads
        lines = [found.partition(b"\r\n")[0] for found in early.heads if b"\r\nX-Forwarded-For: " in found]
        assert lines in (
            [b"POST / HTTP/1.1"],
            [b"POST / HTTP/1.1", b"GET /last HTTP/1.1"],
        )
        assert (len(lines) == 2) == (len(talk.answers) == 2)
