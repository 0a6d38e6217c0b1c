"""HTTP/2 as visitors speak it, through the whole path: curl, nghttp, h2load, and the h2 library with a WebSocket."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
)
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.sync.server import ServerConnection
from websockets.uri import parse_uri

from tests._support import require_program, sized
from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.test_websocket import websocket_service
from tests.http.h2.talk import patient
from tests.http.h2.test_floods import FLOODS

MIB = 1024 * 1024
SIZE = sized(8, 64) * MIB


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all of this file, with a service that shows what it was asked."""

    def show(call: Call) -> None:
        body = b"".join(call.body())
        call.answer(call.requestline.encode() + b"\n" + bytes(call.headers) + body)

    def count(call: Call) -> None:
        call.answer(b"%d\n" % sum(map(len, call.body())))

    def large(call: Call) -> None:
        call.send_response(200)
        call.send_header("Content-Length", str(SIZE))
        call.end_headers()
        for _ in range(SIZE // MIB):
            call.wfile.write(bytes(MIB))

    def refuse(call: Call) -> None:
        call.refuse(b"too large\n", 413)

    def trailers(call: Call) -> None:
        b"".join(call.body())
        call.begin_chunks({"Trailer": "X-Sum"})
        call.chunk(b"some text")
        call.wfile.write(b"0\r\nX-Sum: nine\r\n\r\n")

    routes = {"/show": show, "/count": count, "/large": large, "/refuse": refuse, "/trailers": trailers}
    with Origin(routes) as origin, open_house(tmp_path_factory.mktemp("served")) as house:
        origin.routes.update({f"/{number}": lambda call: call.answer(call.path.encode()) for number in range(100)})
        house.start_edge()
        house.agent("agent", origin.port)
        yield house


class Client:
    """A verified connection, and the h2 library's client on it."""

    def __init__(self, house: House, host: str = APP, authority: Path | None = None) -> None:
        context = ssl.create_default_context(cafile=str(authority or house.ca_file))
        context.set_alpn_protocols(["h2"])
        house._context, before = context, house.context
        try:
            self.socket = house.connect(host)
        finally:
            house._context = before
        assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = patient(H2Connection(H2Configuration(client_side=True, header_encoding="utf-8")))
        self.h2.initiate_connection()
        self.seen: list[Event] = []
        self.until(lambda event: isinstance(event, SettingsAcknowledged))

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Read until there is such an event."""
        while True:
            for number, event in enumerate(self.seen):
                if wanted(event):
                    del self.seen[number]
                    return event
            self.flush()
            data = self.socket.recv(65536)
            assert data, f"the edge closed; {self.seen}"
            for event in self.h2.receive_data(data):
                if isinstance(event, DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.seen.append(event)

    def ask(self, path: str, *more: tuple[str, str], method: str = "GET", end: bool = True, host: str = APP) -> int:
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":path", path), (":authority", host), *more]
        self.h2.send_headers(stream, fields, end_stream=end)
        return stream

    def status(self, stream: int) -> int:
        head = self.until(lambda event: isinstance(event, ResponseReceived) and event.stream_id == stream)
        assert isinstance(head, ResponseReceived)
        return int(str(dict(head.headers)[":status"]))  # type: ignore[arg-type,index]

    def body(self, stream: int) -> bytes:
        self.until(lambda event: isinstance(event, StreamEnded) and event.stream_id == stream)
        mine = [event for event in self.seen if isinstance(event, DataReceived) and event.stream_id == stream]
        return b"".join(event.data for event in mine)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


# curl


def test_curl(served: House) -> None:
    got = served.curl("--http2", "-i", "--cookie", "a=1", "--data", "posted", served.url("/show"))
    head, _, body = got.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/2 200"), got
    assert b"POST /show HTTP/1.1\n" in body
    assert body.endswith(b"\n\nposted")
    shown = body.lower()
    assert b"\ncookie: a=1\n" in shown
    assert b"\nvia: 2.0 wormhole\n" in shown
    assert b"\nx-forwarded-proto: https\n" in shown


def test_curl_up_and_down(served: House) -> None:
    (served.folder / "upload").write_bytes(os.urandom(SIZE))
    up = served.curl("--http2", "--upload-file", "upload", served.url("/count"))
    assert up.stdout == b"%d\n" % SIZE, up
    down = served.curl(
        "--http2", "--output", "down", "--write-out", "%{http_version} %{size_download}", served.url("/large")
    )
    assert down.stdout == b"2 %d" % SIZE, down


def test_curl_and_an_upload_that_is_refused_early(served: House) -> None:
    (served.folder / "upload").write_bytes(bytes(SIZE))
    got = served.curl("--http2", "-w", "%{http_code}", "--upload-file", "upload", served.url("/refuse"))
    assert (got.returncode, got.stdout) == (0, b"too large\n413"), got


def test_curl_hears_of_an_unknown_host_on_the_same_port(served: House) -> None:
    got = served.curl("--http2", "-i", "-H", "Host: nobody.test", served.url("/"))
    assert got.stdout.startswith(b"HTTP/2 404"), got


# nghttp and h2load


@pytest.mark.requires_program("nghttp")
def test_nghttp_asks_a_hundred_at_once(served: House) -> None:
    urls = [f"https://127.0.0.1:{served.port}/{number}" for number in range(100)]
    got = subprocess.run(
        [require_program("nghttp"), "--no-verify-peer", "-nv", f"-H:authority: {APP}", *urls],
        capture_output=True,
        timeout=30,
        check=False,
    )
    said = re.sub(rb"\x1b\[[0-9;]*m", b"", got.stdout)
    assert said.count(b":status: 200") == 100, said[-3000:] + got.stderr
    assert b"RST_STREAM" not in said


@pytest.mark.requires_program("nghttp")
def test_nghttp_gets_trailers(served: House) -> None:
    url = f"https://127.0.0.1:{served.port}/trailers"
    got = subprocess.run(
        [require_program("nghttp"), "--no-verify-peer", "-v", f"-H:authority: {APP}", url],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"x-sum: nine" in re.sub(rb"\x1b\[[0-9;]*m", b"", got.stdout), got


@pytest.mark.requires_program("h2load")
@pytest.mark.parametrize(("clients", "streams"), [(4, 1), (4, 16)])
def test_h2load(served: House, clients: int, streams: int) -> None:
    n = sized(400, 20000)
    got = subprocess.run(
        [require_program("h2load"), f"-n{n}", f"-c{clients}", f"-m{streams}", f"-H:authority: {APP}",
         f"https://{APP}:{served.port}/1", f"--connect-to=127.0.0.1:{served.port}"],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert b"%d succeeded, 0 failed, 0 errored, 0 timeout" % n in got.stdout, got.stdout + got.stderr
    assert b"status codes: %d 2xx" % n in got.stdout, got.stdout


# by hand


def test_a_slow_stream_and_a_fast_one_share_a_connection(served: House) -> None:
    with Client(served) as client:
        slow = client.ask("/count", method="POST", end=False)
        client.h2.send_data(slow, b"x" * 1000)
        for number in range(20):
            fast = client.ask(f"/{number}")
            assert client.status(fast) == 200
            assert client.body(fast) == b"/%d" % number
        client.h2.send_data(slow, b"y", end_stream=True)
        assert client.status(slow) == 200
        assert client.body(slow) == b"1001\n"


def test_a_websocket_over_http2(house: House) -> None:
    told: list[tuple[int | None, str | None]] = []
    ended = threading.Event()

    def handler(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)
        told.append((connection.close_code, connection.close_reason))
        ended.set()

    with websocket_service(handler) as port:
        house.start_edge()
        house.agent("agent", port)
        with Client(house) as client:
            stream = client.ask(
                "/chat", (":protocol", "websocket"), ("sec-websocket-version", "13"), method="CONNECT", end=False
            )
            assert client.status(stream) == 200
            # The library's own sans-IO core, from its opening on: HTTP/2 has opened it.
            protocol = ClientProtocol(parse_uri(house.url("/chat").replace("https", "wss")), state=State.OPEN)

            def say() -> None:
                for data in protocol.data_to_send():
                    for at in range(0, len(data), 16384):
                        client.h2.send_data(stream, data[at : at + 16384])

            def hear() -> Frame:
                while not (got := protocol.events_received()):
                    data = client.until(lambda event: isinstance(event, DataReceived) and event.stream_id == stream)
                    assert isinstance(data, DataReceived)
                    protocol.receive_data(data.data)
                frame = got[0]
                assert isinstance(frame, Frame)
                return frame

            for message in [b"hello", os.urandom(20000).hex().encode(), b"\xe2\x82\xac"]:
                protocol.send_text(message)
                say()
                assert hear() == Frame(Opcode.TEXT, message)
            # an ordinary request beside it: this service refuses what is no WebSocket
            assert client.status(client.ask("/chat")) == 426
            protocol.send_close(1000, "that is all")
            say()
            assert hear().opcode is Opcode.CLOSE
            client.until(lambda event: isinstance(event, StreamEnded) and event.stream_id == stream)
            client.h2.end_stream(stream)
            client.flush()
            refused = client.ask(
                "/forbidden", (":protocol", "websocket"), ("sec-websocket-version", "13"), method="CONNECT", end=False
            )
            assert client.status(refused) == 403
        assert ended.wait(10)
        assert told == [(1000, "that is all")]


def test_a_stop_lets_a_running_request_end(house: House, origin: Origin) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(call: Call) -> None:
        began.set()
        assert go_on.wait(20)
        call.answer(b"late")

    origin.routes["/slow"] = slow
    house.start_edge()
    house.agent("agent", origin.port)
    with Client(house) as client:
        stream = client.ask("/slow")
        client.flush()
        assert began.wait(10)
        house.edge.send(signal.SIGTERM)
        client.until(lambda event: isinstance(event, ConnectionTerminated))
        go_on.set()
        assert client.status(stream) == 200
        assert client.body(stream) == b"late"
    assert house.edge.wait(20) == 0


def test_a_visitor_that_does_not_read_is_shed(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> None:
    origin.routes["/large"] = lambda call: call.answer(bytes(4 * MIB))
    origin.text("/", b"quick")
    with open_house(tmp_path_factory.mktemp("shed"), limits={"stall": 2}) as house:
        house.start_edge()
        house.agent("agent", origin.port)
        with Client(house) as client:
            stuck = client.ask("/large")
            client.flush()
            # it reads, and never opens the window of this stream
            client.h2.acknowledge_received_data = lambda size, stream: None  # type: ignore[method-assign,assignment]
            reset = client.until(lambda event: isinstance(event, StreamReset))
            assert isinstance(reset, StreamReset)
            assert reset.stream_id == stuck


@pytest.mark.parametrize(
    "name", ["rapid reset", "MadeYouReset, DATA", "CONTINUATION", "PING", "WINDOW_UPDATE", "HPACK bomb"]
)
def test_a_flood_costs_little(served: House, name: str) -> None:
    """RELIABILITY 9, seen from outside: at most 20 MB and 2 s of CPU, and others are served."""

    def seconds() -> float:
        with open(f"/proc/{served.edge.pid}/stat") as file:
            figures = file.read().rpartition(")")[2].split()
        return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")

    before, memory = seconds(), served.edge.peak_memory()
    with Client(served) as client:
        try:
            for _, data in zip(range(sized(10_000, 100_000)), FLOODS[name](), strict=False):
                client.socket.sendall(data)
        except OSError:
            pass  # it was told to calm down, and did not listen
        assert served.get("/1").status == 200
    assert seconds() - before < 2.0
    assert served.edge.peak_memory() - memory < 20 * MIB
