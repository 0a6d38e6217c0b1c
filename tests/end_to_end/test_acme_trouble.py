"""CAs that are not as they should be: one that never answers, one that has forgotten who we are."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP, House
from tests.end_to_end.pebble import Pebble


@pytest.fixture
def pebble(house: House) -> Pebble:
    """A real CA, which the edge has its certificates from."""
    ca = Pebble(house.folder, house.programs, house.http_port)
    ca.start()
    del house.config["sites"][1]
    house.config["tls"] = ca.tls()
    house.write()
    return ca


@contextmanager
def silent_ca(folder: Path) -> Iterator[tuple[str, Path, threading.Event]]:
    """Takes connections and requests, and never answers: its directory, who vouches for it, and when it was asked."""
    authority = Authority(folder, "silent")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("silent-ca", "localhost"))
    asked = threading.Event()
    taken: list[ssl.SSLSocket] = []

    def serve() -> None:
        while True:
            try:
                connection = context.wrap_socket(listener.accept()[0], server_side=True)
            except OSError:
                return
            taken.append(connection)
            if connection.recv(1):
                asked.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://localhost:{listener.getsockname()[1]}/dir", authority.file, asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for connection in taken:
                connection.close()


def test_an_edge_that_stops_waits_for_no_ca(house: House) -> None:
    with silent_ca(house.folder) as (directory, authority, asked):
        house.config["tls"] = {
            "mode": "acme",
            "agree_tos": True,
            "directory": directory,
            "directory_ca_file": str(authority),
        }
        house.write()
        edge = house.start_edge()
        assert asked.wait(20)
        began = time.monotonic()
        assert edge.stop() == 0
        assert time.monotonic() - began < 15  # it waits 30 s for an answer


def test_a_ca_that_forgot_the_account(house: House, pebble: Pebble) -> None:
    edge = house.start_edge()
    edge.wait_for(f"a certificate for {APP}, valid until")
    pebble.stop()
    pebble.start()
    house.config["sites"][0]["hostnames"].append("new.example.test")
    house.write()
    edge.send(signal.SIGHUP)
    edge.wait_for("the CA does not know account .* any more: a new one is made")
    edge.wait_for("a certificate for new.example.test, valid until")
