"""WebSockets towards a service that takes them over HTTP/2 (RFC 8441): ``websockets`` at one end, h2 at the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamReset, WindowUpdated
from h2.settings import SettingCodes, Settings
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side

from tests.end_to_end.house import House
from tests.end_to_end.test_websocket import talk
from tests.http.h2.talk import patient

SETTINGS = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1, SettingCodes.MAX_CONCURRENT_STREAMS: 100}


class Connection:
    """One connection of the service, which echoes what is said on any of its streams."""

    def __init__(self, plain: socket.socket) -> None:
        self.socket = plain
        self.server = patient(H2Connection(H2Configuration(client_side=False, header_encoding="utf-8")))
        self.server.local_settings = Settings(client=False, initial_values=SETTINGS)
        self.server.initiate_connection()
        self.ends: dict[int, Protocol] = {}
        self.queued: dict[int, bytes] = {}
        self.over: set[int] = set()

    def run(self) -> None:
        with self.socket, suppress(OSError):
            self.socket.sendall(self.server.data_to_send())
            while data := self.socket.recv(65536):
                for event in self.server.receive_data(data):
                    self.handle(event)
                for stream in list(self.queued):
                    self.write(stream)
                self.socket.sendall(self.server.data_to_send())

    def handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            fields = dict(event.headers)
            stream = event.stream_id
            if fields[":method"] == "CONNECT":
                assert fields[":protocol"] == "websocket"
                self.ends[stream] = Protocol(Side.SERVER)
                self.queued[stream] = b""
                self.server.send_headers(stream, [(":status", "200")])
            else:
                self.server.send_headers(stream, [(":status", "200")])
                self.server.send_data(stream, b"plain", end_stream=True)
        elif isinstance(event, DataReceived):
            self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            end = self.ends[event.stream_id]
            end.receive_data(event.data)
            for frame in end.events_received():
                if frame.opcode is Opcode.TEXT:
                    end.send_text(frame.data)
                elif frame.opcode is Opcode.BINARY:
                    end.send_binary(frame.data)
            for piece in end.data_to_send():
                self.queued[event.stream_id] += piece
                if not piece:
                    self.over.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.queued.pop(event.stream_id, None)
        else:
            assert not isinstance(event, WindowUpdated) or event.delta

    def write(self, stream: int) -> None:
        data = self.queued[stream]
        while data and (room := min(self.server.local_flow_control_window(stream), 16384)):
            self.server.send_data(stream, data[:room])
            data = data[room:]
        self.queued[stream] = data
        if not data and stream in self.over:
            self.server.end_stream(stream)
            del self.queued[stream]


@contextmanager
def service() -> Iterator[tuple[int, list[Connection]]]:
    """On a free port of loopback; gives the port, and its connections."""
    connections: list[Connection] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection = Connection(listening.accept()[0])
                    connections.append(connection)
                    thread = threading.Thread(target=connection.run, daemon=True)
                    thread.start()
                    threads.append(thread)

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listening.getsockname()[1], connections
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            for connection in connections:
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


def test_websockets_share_a_connection(house: House) -> None:
    with service() as (port, connections):
        house.config["backends"][0]["protocol"] = "h2c"
        house.write()
        house.start_edge()
        house.agent("agent", port)
        with talk(house) as one, talk(house) as other:
            large = bytes(range(256)) * 4096
            one.send(large)
            for number in range(100):
                other.send(f"message {number}")
                assert other.recv(timeout=10) == f"message {number}"
            assert one.recv(timeout=10) == large
            assert house.get("/").body == b"plain"
            asked = [connection for connection in connections if connection.ends]
            assert len(asked) == 1
            assert len(asked[0].ends) == 2
            one.close(4001, "enough")
            assert one.close_code == 4001
            other.send("as ever")
            assert other.recv(timeout=10) == "as ever"
