"""gRPC through the whole path: grpcio's client over TLS, an edge, a tunnel, an agent, and grpcio's server."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.end_to_end.house import APP, OTHER, House, open_house
from tests.end_to_end.origin import Origin
from tests.end_to_end.programs import free_port

grpc = pytest.importorskip("grpc", reason="grpcio is not installed") if not os.environ.get("CI") else __import__("grpc")

SERVICE = "wormhole.test.Echo"
SOON = 20.0
"""Seconds for a call that has nothing to wait for."""

LARGE = 3 * 1024 * 1024
"""Octets of a message that is many windows long; grpcio takes 4 MiB."""


class Echo:
    """What the server does, and what it has seen of it.

    :ivar ended: why each call of ``Wait`` ended
    """

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.news = threading.Condition()
        self.metadata: dict[str, Any] = {}
        self.running = 0

    def handlers(self) -> Any:
        def unary(function: Callable[..., bytes]) -> Any:
            return grpc.unary_unary_rpc_method_handler(function)

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Unary": unary(self.unary),
                "Fail": unary(self.fail),
                "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
                "Count": grpc.unary_stream_rpc_method_handler(self.count),
                "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
                "Refuse": grpc.stream_unary_rpc_method_handler(self.refuse),
                "Both": grpc.stream_stream_rpc_method_handler(self.both),
            },
        )

    def unary(self, message: bytes, context: Any) -> bytes:
        self.metadata = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"), ("x-raw-bin", b"\0\xff")))
        return message[::-1]

    def fail(self, message: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: ü")
        raise AssertionError

    def wait(self, message: bytes, context: Any) -> Iterator[bytes]:
        done = threading.Event()
        context.add_callback(done.set)
        with self.news:
            self.running += 1
            self.news.notify_all()
        if message:
            yield message
        done.wait(SOON)
        with self.news:
            self.ended.append("cancelled" if done.is_set() else "never")
            self.running -= 1
            self.news.notify_all()

    def count(self, message: bytes, context: Any) -> Iterator[bytes]:
        size, number = map(int, message.split())
        for at in range(number):
            yield at.to_bytes(4, "big") + bytes(size - 4)

    def sum(self, messages: Iterator[bytes], context: Any) -> bytes:
        digest, number, size = hashlib.sha256(), 0, 0
        for message in messages:
            digest.update(message)
            number += 1
            size += len(message)
        return b"%d %d %s" % (number, size, digest.hexdigest().encode())

    def refuse(self, messages: Iterator[bytes], context: Any) -> bytes:
        next(messages)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
        raise AssertionError

    def both(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for message in messages:
            yield b"re: " + message

    def until(self, true: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(true, SOON)


class Served:
    """A house with an agent beside a grpcio server."""

    def __init__(self, house: House, echo: Echo, port: int) -> None:
        self.house = house
        self.echo = echo
        self.port = port

    def channel(self, host: str = APP, *options: tuple[str, Any]) -> Any:
        return grpc.secure_channel(
            f"127.0.0.1:{self.house.port}",
            grpc.ssl_channel_credentials(self.house.ca_file.read_bytes()),
            options=[
                ("grpc.ssl_target_name_override", host),
                ("grpc.default_authority", host),
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_retries", 0),
                ("grpc.max_receive_message_length", 2 * LARGE),
                *options,
            ],
        )


def start_server(echo: Echo, port: int, *options: tuple[str, Any]) -> Any:
    server = grpc.server(
        ThreadPoolExecutor(max_workers=40),
        handlers=[echo.handlers()],
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2 * LARGE), *options],
    )
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    return server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One house for all of this file: ``app`` speaks h2c as grpcio does, ``other`` is said to and does not."""
    echo, port = Echo(), free_port()
    server = start_server(echo, port)
    with Origin() as origin, open_house(tmp_path_factory.mktemp("grpc")) as house:
        for backend in house.config["backends"]:
            backend["protocol"] = "h2c"
        house.write()
        house.start_edge()
        house.agent("agent", port)
        house.agent("wrong", origin.port, backend="other")
        yield Served(house, echo, port)
    server.stop(0).wait()


@pytest.fixture
def channel(served: Served) -> Iterator[Any]:
    with served.channel() as channel:
        yield channel


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def test_unary(served: Served, channel: Any) -> None:
    call = channel.unary_unary(path("Unary"))
    answer, details = call.with_call(b"hello", timeout=SOON, metadata=(("x-asked", "yes"), ("x-some-bin", b"\0\1")))
    assert answer == b"olleh"
    assert details.code() is grpc.StatusCode.OK
    assert dict(details.initial_metadata())["x-first"] == "1"
    assert dict(details.trailing_metadata()) == {"x-last": "2", "x-raw-bin": b"\0\xff"}
    seen = served.echo.metadata
    assert seen["x-asked"] == "yes"
    assert seen["x-some-bin"] == b"\0\1"
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert seen["user-agent"].startswith("grpc-python")
    assert seen["x-request-id"]


def test_large_messages_both_ways(channel: Any) -> None:
    message = os.urandom(LARGE)
    assert channel.unary_unary(path("Unary"))(message, timeout=SOON) == message[::-1]


def test_a_status_with_its_message(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path("Fail"))(b"", timeout=SOON)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == "not today: ü"


def test_a_method_that_is_not_there(channel: Any) -> None:
    """The answer is trailers only."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path("Nothing"))(b"", timeout=SOON)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stream_of_answers(channel: Any) -> None:
    for size, number in ((4, 3000), (100_000, 100)):
        call = channel.unary_stream(path("Count"))(b"%d %d" % (size, number), timeout=SOON)
        assert [int.from_bytes(message[:4], "big") for message in call] == list(range(number))
        assert call.code() is grpc.StatusCode.OK


def test_a_stream_of_requests(channel: Any) -> None:
    messages = [os.urandom(size) for size in (1, 70_000, 3, 200_000) * 25]
    answer = channel.stream_unary(path("Sum"))(iter(messages), timeout=SOON)
    whole = b"".join(messages)
    assert answer == b"100 %d %s" % (len(whole), hashlib.sha256(whole).hexdigest().encode())


def test_an_answer_that_comes_before_the_request_is_whole(channel: Any) -> None:
    stop = threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"first"
        stop.wait(SOON)

    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(path("Refuse"))(messages(), timeout=SOON)
    stop.set()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert channel.unary_unary(path("Unary"))(b"ab", timeout=SOON) == b"ba"


def test_both_ways_in_turn(channel: Any) -> None:
    """A conversation: nothing is said before the last word was answered."""
    answered = threading.Semaphore(1)

    def messages() -> Iterator[bytes]:
        for number in range(50):
            assert answered.acquire(timeout=SOON)
            yield b"%d" % number

    call = channel.stream_stream(path("Both"))(messages(), timeout=SOON)
    for number, answer in enumerate(call):
        assert answer == b"re: %d" % number
        answered.release()
    assert number == 49
    assert call.code() is grpc.StatusCode.OK


def test_a_deadline_reaches_the_service(served: Served, channel: Any) -> None:
    before = len(served.echo.ended)
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream(path("Wait"))(b"begun", timeout=0.5))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    served.echo.until(lambda: len(served.echo.ended) > before)
    assert served.echo.ended[-1] == "cancelled"


@pytest.mark.parametrize("message", [b"", b"begun"], ids=["before an answer", "after its first message"])
def test_a_call_that_is_cancelled_ends_at_the_service(served: Served, channel: Any, message: bytes) -> None:
    """Without a deadline, so that the service hears of it by the RST_STREAM alone."""
    before = len(served.echo.ended)
    call = channel.unary_stream(path("Wait"))(message)
    if message:
        assert next(call) == message
    served.echo.until(lambda: served.echo.running > 0)
    call.cancel()
    served.echo.until(lambda: len(served.echo.ended) > before)
    assert served.echo.ended[-1] == "cancelled"
    assert channel.unary_unary(path("Unary"))(b"ab", timeout=SOON) == b"ba"


def test_many_calls_at_once(served: Served) -> None:
    """More than one connection takes at a time, from several channels; no answer is another's."""
    channels = [served.channel() for _ in range(3)]
    calls = {
        number: channels[number % 3].unary_unary(path("Unary")).future(b"%06d" % number, timeout=SOON)
        for number in range(600)
    }
    for number, call in calls.items():
        assert call.result() == (b"%06d" % number)[::-1]
    for channel in channels:
        channel.close()


def test_one_reader_that_stops_does_not_hold_the_others(served: Served) -> None:
    """All of them share one connection to the service."""
    with served.channel() as slow, served.channel() as quick:
        stopped = [slow.unary_stream(path("Count"))(b"100000 1000", timeout=60) for _ in range(8)]
        for call in stopped:
            next(call)
        began = time.monotonic()
        for _ in range(100):
            assert quick.unary_unary(path("Unary"))(b"ab", timeout=SOON) == b"ba"
        assert time.monotonic() - began < 10
        for call in stopped:
            call.cancel()


def test_the_services_keepalive_is_answered(served: Served, tmp_path: Any) -> None:
    """A server that pings ten times a second, and gives up on a connection that does not answer."""
    echo, port = Echo(), free_port()
    options = (
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    server = start_server(echo, port, *options)
    with open_house(tmp_path) as house:
        for backend in house.config["backends"]:
            backend["protocol"] = "h2c"
        house.write()
        house.start_edge()
        house.agent("agent", port)
        with Served(house, echo, port).channel() as channel:
            call = channel.unary_stream(path("Wait"))(b"begun", timeout=4)
            assert next(call) == b"begun"
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.stop(0).wait()


def test_a_service_that_leaves_its_connections_loses_no_call(served: Served, tmp_path: Any) -> None:
    """grpcio's ``max_connection_age``: GOAWAY every second, under load."""
    echo, port = Echo(), free_port()
    options = (("grpc.max_connection_age_ms", 500), ("grpc.max_connection_age_grace_ms", 3000))
    server = start_server(echo, port, *options)
    with open_house(tmp_path) as house:
        for backend in house.config["backends"]:
            backend["protocol"] = "h2c"
        house.write()
        house.start_edge()
        house.agent("agent", port)
        with Served(house, echo, port).channel() as channel:
            call = channel.unary_unary(path("Unary"))
            until = time.monotonic() + 4
            number = 0
            while time.monotonic() < until:
                futures = [call.future(b"ab", timeout=SOON) for _ in range(20)]
                assert [future.result() for future in futures] == [b"ba"] * 20
                number += 20
            assert number > 100
    server.stop(0).wait()


def test_http1_visitors_get_trailers_too(served: Served) -> None:
    """curl shows what a gRPC answer is made of."""
    body = b"\0\0\0\0\2ab"
    request = served.house.folder / "message"
    request.write_bytes(body)
    answer = served.house.curl(
        "--include",
        *("--header", "content-type: application/grpc", "--header", "te: trailers", "--header", "connection: te"),
        *("--data-binary", f"@{request}"),
        served.house.url(path("Unary")),
    ).stdout
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-type: application/grpc" in head.lower()
    assert b"Via: 2.0 wormhole" in head
    assert b"\0\0\0\0\2ba" in rest
    assert b"grpc-status: 0" in rest.lower()


def test_a_service_without_http2_is_named(served: Served) -> None:
    answer = served.house.get("/", OTHER)
    assert (answer.status, answer.reason) == (502, "not-http2")
    assert b"HTTP/2" in answer.body
    line = served.house.edge.wait_for("does not speak HTTP/2 with prior knowledge")
    assert "other" in line.string
    assert 'protocol = "h2c"' in line.string
    with served.channel(OTHER) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path("Unary"))(b"", timeout=SOON)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_reload_changes_the_protocol(tmp_path: Any) -> None:
    echo, port = Echo(), free_port()
    server = start_server(echo, port)
    with open_house(tmp_path) as house:
        house.start_edge()
        house.agent("agent", port)
        with Served(house, echo, port).channel() as channel:
            call = channel.unary_unary(path("Unary"))
            with pytest.raises(grpc.RpcError):
                call(b"ab", timeout=SOON)
            house.config["backends"][0]["protocol"] = "h2c"
            house.write()
            house.edge.process.send_signal(signal.SIGHUP)
            house.edge.wait_for("configuration reloaded")
            assert call(b"ab", timeout=SOON) == b"ba"
    server.stop(0).wait()
