"""WebSocket with the ``websockets`` library at both ends, over TLS, through the whole path."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.end_to_end.house import APP, House

MIB = 1024 * 1024
MAX_SIZE = 4 * MIB


@contextmanager
def websocket_service(handler: Callable[[ServerConnection], None]) -> Iterator[int]:
    """A WebSocket service on a free port of loopback; gives the port."""
    with serve(handler, "127.0.0.1", 0, max_size=MAX_SIZE, process_request=refuse_some) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(10)


def refuse_some(connection: ServerConnection, request: object) -> object:
    path = request.path  # type: ignore[attr-defined]
    return connection.respond(403, "not you\n") if path == "/forbidden" else None


def talk(house: House, path: str = "/chat") -> ClientConnection:
    """A verified WebSocket."""
    plain = socket.create_connection(("127.0.0.1", house.port), timeout=10)
    secure = house.context.wrap_socket(plain, server_hostname=APP)
    take_tickets(secure)
    return connect(
        f"ws://{APP}:{house.port}{path}",  # the socket is secure already
        sock=secure,
        subprotocols=None,
        max_size=MAX_SIZE,
        open_timeout=10,
        close_timeout=10,
    )


def take_tickets(secure: ssl.SSLSocket) -> None:
    """Read what TLS says behind the handshake before there are two threads.

    This client reads in a thread of its own.  Python 3.11 lets OpenSSL write in one thread while it takes a ticket in
    another; what was written is lost then, and nobody hears of it.
    """
    secure.settimeout(0)
    while not (secure.session is not None and secure.session.has_ticket):
        readable, _, _ = select.select([secure], [], [], 10)
        assert readable, "no ticket came"
        with suppress(ssl.SSLWantReadError):
            early = secure.recv(1)
            raise AssertionError(f"before anything was asked: {early!r}")
    secure.settimeout(10)


def echo(connection: ServerConnection) -> None:
    for message in connection:
        if message == "close 4001":
            connection.close(4001, "as you wish")
            return
        connection.send(message)


@pytest.mark.deadline(60)
def test_a_thousand_messages_and_a_large_one(house: House) -> None:
    with websocket_service(echo) as port:
        house.start_edge()
        house.agent("agent", port)
        with talk(house) as visitor:
            for number in range(500):
                text = f"message {number}"
                visitor.send(text)
                assert visitor.recv(10) == text
            # And as many that are under way together, text and binary in turn.
            sent = [f"{n}" if n % 2 else os.urandom(n) for n in range(500)]
            sending = threading.Thread(target=lambda: [visitor.send(message) for message in sent], daemon=True)
            sending.start()
            assert [visitor.recv(10) for _ in sent] == sent
            sending.join(10)
            large = os.urandom(MIB)
            visitor.send(large)
            assert visitor.recv(20) == large
            assert visitor.ping().wait(10)


def test_close_codes_and_pings_both_ways(house: House) -> None:
    closed: list[tuple[int | None, str | None]] = []
    pinged: list[bool] = []
    told = threading.Event()

    def handler(connection: ServerConnection) -> None:
        pinged.append(connection.ping().wait(10))
        try:
            echo(connection)
            connection.recv(10)
        except ConnectionClosed:
            pass
        closed.append((connection.close_code, connection.close_reason))
        told.set()

    with websocket_service(handler) as port:
        house.start_edge()
        house.agent("agent", port)
        with talk(house) as visitor:
            visitor.send("once")
            assert visitor.recv(10) == "once"
            assert pinged == [True]
            visitor.send("close 4001")
            with pytest.raises(ConnectionClosed):
                visitor.recv(10)
            assert (visitor.close_code, visitor.close_reason) == (4001, "as you wish")
        assert told.wait(10)
        told.clear()
        with talk(house) as visitor:
            visitor.send("twice")
            assert visitor.recv(10) == "twice"
            visitor.close(4002, "that is all")
        assert told.wait(10)
        assert closed[-1] == (4002, "that is all")
        # What is no 101 is an ordinary answer.
        with pytest.raises(InvalidStatus) as refused, talk(house, "/forbidden"):
            pass
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"not you\n"
        assert house.get("/chat").status == 426


def test_a_visitor_that_vanishes_ends_the_services_connection(house: House) -> None:
    ended = threading.Event()
    began = threading.Event()

    def handler(connection: ServerConnection) -> None:
        began.set()
        with pytest.raises(ConnectionClosed):
            connection.recv()
        ended.set()

    with websocket_service(handler) as port:
        house.start_edge()
        house.agent("agent", port)
        with talk(house) as visitor:
            assert began.wait(10)
            visitor.socket.shutdown(socket.SHUT_RDWR)
            assert ended.wait(10)
