"""Who waits for a service is not slow, however short the edge's patience with visitors; and CONNECT leads nowhere."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest
from h2.events import DataReceived

from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.test_http2 import Client

WINDOW = 1.0
"""``limits.head``, ``body`` and ``stall``."""

SILENCE = 3.0
"""Seconds for which nobody says anything: three windows."""

MIB = 1024 * 1024

VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])


def after_a_while() -> None:
    threading.Event().wait(SILENCE)


class Service:
    """A private service that takes its time; ``go`` lets the event stream send one more."""

    def __init__(self, origin: Origin) -> None:
        self.go: queue.Queue[bytes] = queue.Queue()
        origin.routes.update({"/poll": self.poll, "/events": self.events, "/lazy": self.lazy, "/echo": self.echo})

    def poll(self, call: Call) -> None:
        after_a_while()
        call.answer(b"news\n")

    def events(self, call: Call) -> None:
        call.begin_chunks({"Content-Type": "text/event-stream"})
        while text := self.go.get(timeout=30):
            call.chunk(b"data: %b\n\n" % text)
        call.chunk(b"")

    def lazy(self, call: Call) -> None:
        """Reads nothing for a while, so that the upload stands still."""
        after_a_while()
        call.answer(b"%d\n" % sum(map(len, call.body())))

    def echo(self, call: Call) -> None:
        call.begin_chunks()
        for piece in call.body():
            call.chunk(piece)
        call.chunk(b"")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Service]]:
    """One house for all of this file, with little patience."""
    limits = {"head": WINDOW, "body": WINDOW, "stall": WINDOW}
    with Origin() as origin, open_house(tmp_path_factory.mktemp("served"), limits=limits) as house:
        service = Service(origin)
        house.start_edge()
        house.agent("agent", origin.port)
        yield house, service


@VERSIONS
@pytest.mark.requires_program("curl")
def test_a_long_poll(served: tuple[House, Service], version: str) -> None:
    house, _ = served
    got = house.curl(version, house.url("/poll"))
    assert (got.returncode, got.stdout) == (0, b"news\n"), got


@VERSIONS
@pytest.mark.requires_program("curl")
def test_an_upload_whose_service_does_not_read(served: tuple[House, Service], version: str) -> None:
    house, _ = served
    (house.folder / "upload").write_bytes(bytes(16 * MIB))
    got = house.curl(version, "--upload-file", "upload", house.url("/lazy"))
    assert (got.returncode, got.stdout) == (0, b"%d\n" % (16 * MIB)), got


def test_an_event_stream_over_http_1(served: tuple[House, Service]) -> None:
    house, service = served
    with house.visitor() as visitor:
        visitor.request("GET", "/events", headers={"Accept": "text/event-stream"})
        response = visitor.getresponse()
        for text in (b"first", b"second"):
            after_a_while()
            service.go.put(text)
            assert (response.readline(), response.readline()) == (b"data: %b\n" % text, b"\n")
        service.go.put(b"")
        assert response.read() == b""


def test_an_event_stream_over_http_2(served: tuple[House, Service]) -> None:
    """Each event arrives when it is sent: the next is sent only then."""
    house, service = served
    with Client(house) as client:
        stream = client.ask("/events", ("accept", "text/event-stream"))
        assert client.status(stream) == 200
        for text in (b"first", b"second"):
            after_a_while()
            service.go.put(text)
            event = client.until(lambda event: isinstance(event, DataReceived))
            assert isinstance(event, DataReceived)
            assert event.data == b"data: %b\n\n" % text
        service.go.put(b"")
        assert client.body(stream) == b""


def test_a_stream_both_ways_that_is_silent_over_http_1(served: tuple[House, Service]) -> None:
    house, _ = served
    with house.connect() as visitor, visitor.makefile("rb") as heard:
        visitor.sendall(b"POST /echo HTTP/1.1\r\nHost: app.example.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        visitor.sendall(b"3\r\none\r\n")
        while heard.readline() != b"\r\n":
            pass
        assert [heard.readline() for _ in range(2)] == [b"3\r\n", b"one\r\n"]
        after_a_while()
        visitor.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
        assert [heard.readline() for _ in range(4)] == [b"3\r\n", b"two\r\n", b"0\r\n", b"\r\n"]


def test_a_stream_both_ways_that_is_silent_over_http_2(served: tuple[House, Service]) -> None:
    house, _ = served
    with Client(house) as client:
        stream = client.ask("/echo", method="POST", end=False)
        client.h2.send_data(stream, b"one")
        event = client.until(lambda event: isinstance(event, DataReceived))
        assert isinstance(event, DataReceived)
        after_a_while()
        client.h2.send_data(stream, b"two", end_stream=True)
        assert (event.data, client.body(stream)) == (b"one", b"two")


def test_connect_over_http_1(served: tuple[House, Service]) -> None:
    house, _ = served
    with house.connect() as visitor, visitor.makefile("rb") as heard:
        visitor.sendall(b"CONNECT app.example.test:443 HTTP/1.1\r\nHost: app.example.test:443\r\n\r\n")
        answer = heard.read()
        assert answer.startswith(b"HTTP/1.1 501 ")
        assert b"\r\nX-Wormhole-Error: connect-refused\r\n" in answer


def test_connect_over_http_2(served: tuple[House, Service]) -> None:
    house, _ = served
    with Client(house) as client:
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", f"{APP}:443")])
        assert client.status(stream) == 501
        assert b"connect-refused" in client.body(stream)
        # the connection goes on
        assert client.status(client.ask("/nothing")) == 404
