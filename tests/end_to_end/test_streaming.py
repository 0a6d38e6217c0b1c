"""Streaming both ways, at once, and answers that come before their request has ended."""

from __future__ import annotations

import os
import queue
import statistics
import threading
import time

import pytest

from tests.end_to_end.house import House, nonce
from tests.end_to_end.origin import Call, Origin

MIB = 1024 * 1024
EVENTS = 100

SOON = 0.050
"""Seconds from an event's sending to its arrival."""

AT_LAST = 0.500
"""What a single one may take on a machine that is doing other things, too."""


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_server_sent_events_arrive_at_once(house: House, origin: Origin, framing: str) -> None:
    """Each is sent when the one before has arrived, so that none can be pushed along by the next."""
    wanted: queue.Queue[bool] = queue.Queue()

    def events(call: Call) -> None:
        if framing == "chunked":
            call.begin_chunks({"Content-Type": "text/event-stream"})
            send = call.chunk
        else:
            call.send_response(200)
            call.send_header("Content-Type", "text/event-stream")
            call.send_header("Connection", "close")
            call.end_headers()
            send = call.wfile.write
        while wanted.get(timeout=30):
            send(b"data: %d\n\n" % time.monotonic_ns())
        if framing == "chunked":
            call.chunk(b"")

    origin.routes["/events"] = events
    house.start_edge()
    house.agent("agent", origin.port)
    took: list[float] = []
    with house.visitor() as visitor:
        visitor.request("GET", "/events", headers={"Accept": "text/event-stream"})
        response = visitor.getresponse()  # the head comes before the first event
        assert response.headers["Content-Type"] == "text/event-stream"
        for _ in range(EVENTS):
            wanted.put(True)
            line = response.readline()
            took.append((time.monotonic_ns() - int(line.removeprefix(b"data: "))) / 1e9)
            assert response.readline() == b"\n"
        wanted.put(False)
        assert response.read() == b""
    assert statistics.median(took) <= SOON, sorted(took)[-10:]
    assert max(took) <= AT_LAST, sorted(took)[-10:]


def test_an_upload_is_echoed_while_it_runs(house: House, origin: Origin) -> None:
    """Every piece is sent when the one before has come back."""

    def echo(call: Call) -> None:
        call.begin_chunks()
        for piece in call.body():
            call.chunk(piece)
        call.chunk(b"")

    origin.routes["/echo"] = echo
    house.start_edge()
    house.agent("agent", origin.port)
    with house.connect() as visitor:
        visitor.sendall(b"POST /echo HTTP/1.1\r\nHost: app.example.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        # The answer's head is there before a byte of the body was sent.
        file = visitor.makefile("rb")
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        while file.readline() != b"\r\n":
            pass
        for _ in range(20):
            piece = nonce().encode()
            visitor.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert read_chunk(file) == piece
        visitor.sendall(b"0\r\n\r\n")
        assert read_chunk(file) == b""


def test_a_large_upload_is_echoed_while_it_runs(house: House, origin: Origin) -> None:
    """32 MiB each way at once: neither direction may wait for the other's end."""

    def echo(call: Call) -> None:
        call.begin_chunks()
        for piece in call.body():
            call.chunk(piece)
        call.chunk(b"")

    origin.routes["/echo"] = echo
    house.start_edge()
    house.agent("agent", origin.port)
    body = os.urandom(32 * MIB)
    (house.folder / "large").write_bytes(body)
    # curl sends and takes at the same time; what one direction did not let pass would stop the other.
    echoed = house.curl("--upload-file", "large", "--header", "Expect:", house.url("/echo"), deadline=25)
    assert echoed.returncode == 0, echoed.stderr
    assert echoed.stdout == body


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_early_413_reaches_the_visitor(house: House, origin: Origin, framing: str) -> None:
    """The service answers after the first piece of the body and closes, while the visitor goes on sending."""
    closed = threading.Event()

    def refuse(call: Call) -> None:
        next(call.body())
        call.refuse(b"too much for me\n", 413, {"X-Said-By": "the service"})
        closed.set()

    origin.routes["/up"] = refuse
    edge = house.start_edge()
    house.agent("agent", origin.port)
    # curl reads while it sends, and stops sending where an answer of 400 or more has come.
    (house.folder / "large").write_bytes(bytes(64 * MIB))
    extra = ["--header", "Transfer-Encoding: chunked"] if framing == "chunked" else []
    sent = house.curl(
        "--upload-file", "large", "--header", "Expect:", *extra, "--dump-header", "head", house.url("/up"), deadline=25
    )
    assert b"too much for me" in sent.stdout, sent
    head = (house.folder / "head").read_text()
    assert head.startswith("HTTP/1.1 413 "), head
    assert "X-Said-By: the service" in head
    assert closed.wait(5)
    # One that looks only when it has sent everything gets it too, where the edge reads the rest of what was refused.
    with house.visitor() as visitor:
        answer = visitor.ask("POST", "/up", bytes(1_000_000))
        assert answer.status == 413
        assert answer.body == b"too much for me\n"
    assert "Traceback" not in edge.output


def test_expect_100_continue_is_the_services_to_say(house: House, origin: Origin) -> None:
    def take(call: Call) -> None:
        call.answer(b"%d" % sum(map(len, call.body())))

    origin.routes["/up"] = take
    house.start_edge()
    house.agent("agent", origin.port)
    with house.connect() as visitor:
        visitor.sendall(
            b"PUT /up HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        file = visitor.makefile("rb")
        assert file.readline().startswith(b"HTTP/1.1 100 ")
        assert file.readline() == b"\r\n"
        visitor.sendall(b"hello")
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"


def read_chunk(file: object) -> bytes:
    size = int(file.readline(), 16)  # type: ignore[attr-defined]
    data: bytes = file.read(size)  # type: ignore[attr-defined]
    assert file.readline() == b"\r\n"  # type: ignore[attr-defined]
    return data


def test_events_of_one_do_not_wait_for_a_download_of_another(house: House, origin: Origin) -> None:
    """The same link, a saturating download beside: control and small frames get their turn."""
    stop = threading.Event()
    wanted: queue.Queue[bool] = queue.Queue()
    block = bytes(256 * 1024)

    def flood(call: Call) -> None:
        call.begin_chunks()
        while not stop.is_set():
            call.chunk(block)
        call.chunk(b"")

    def events(call: Call) -> None:
        call.begin_chunks()
        while wanted.get(timeout=30):
            call.chunk(b"data: %d\n\n" % time.monotonic_ns())
        call.chunk(b"")

    origin.routes.update({"/flood": flood, "/events": events})
    house.start_edge()
    house.agent("agent", origin.port)
    pieces: list[int] = []

    def download() -> None:
        with house.visitor() as visitor:
            visitor.request("GET", "/flood")
            response = visitor.getresponse()
            while data := response.read(MIB):
                pieces.append(len(data))

    downloading = threading.Thread(target=download, daemon=True)
    downloading.start()
    took: list[float] = []
    with house.visitor() as visitor:
        visitor.request("GET", "/events")
        response = visitor.getresponse()
        for _ in range(EVENTS):
            wanted.put(True)
            line = response.readline()
            took.append((time.monotonic_ns() - int(line.removeprefix(b"data: "))) / 1e9)
            assert response.readline() == b"\n"
        wanted.put(False)
    stop.set()
    downloading.join(20)
    assert not downloading.is_alive()
    assert len(pieces) > 1
    assert statistics.median(took) <= SOON, sorted(took)[-10:]
