"""A visitor that speaks HTTP/2, by the h2 library, to a house without a network."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from tests.edge.house import House, Turning
from tests.http.h2.talk import patient
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.h2_listener import H2VisitorConnection

GET = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "app.test")]
POST = [(":method", "POST"), *GET[1:]]
WEBSOCKET = [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]]


class Answer:
    """What came on one stream."""

    def __init__(self) -> None:
        self.interim: list[int] = []
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = b""
        self.trailers: list[Any] = []
        self.ended = False
        self.reset: int | None = None


class H2Visitor(Turning):
    """A socket with a client behind it.

    :param greedy: gives every octet back to the windows at once
    """

    def __init__(self, house: House, *, capacity: int = 65536, greedy: bool = True, **facts: Any) -> None:
        connection = H2VisitorConnection(
            house.context, ConnectionFacts(**{"address": "192.0.2.7", "port": 40000, **facts})
        )
        super().__init__(connection, capacity=capacity)
        self.connection = connection
        self.turn = house.turn
        self.greedy = greedy
        self.client = patient(H2Connection(H2Configuration(client_side=True, header_encoding="utf-8")))
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        self.events: list[Event] = []
        connection.makeConnection(self)

    def hello(self, *, window: int | None = None) -> H2Visitor:
        self.client.initiate_connection()
        if window is not None:
            self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.say()
        self.hear()
        return self

    def say(self) -> None:
        """What the client has to say."""
        data = self.client.data_to_send()
        if data and not self.disconnected:
            self.deliver(data)

    def hear(self) -> None:
        """Read until there is nothing more."""
        while data := self.take_all():
            for event in self.client.receive_data(data):
                self.events.append(event)
                self._keep(event)
            self.say()

    def _keep(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaways.append((event.last_stream_id or 0, int(event.error_code)))  # type: ignore[arg-type]
            return
        stream = getattr(event, "stream_id", None)
        if stream is None:
            return
        answer = self.answers.setdefault(stream, Answer())
        if isinstance(event, InformationalResponseReceived):
            answer.interim.append(int(dict(event.headers)[":status"]))  # type: ignore[arg-type,index]
        elif isinstance(event, ResponseReceived):
            fields = dict(event.headers)  # type: ignore[arg-type]
            answer.status = int(fields.pop(":status"))  # type: ignore[arg-type]
            answer.fields = fields  # type: ignore[assignment]
        elif isinstance(event, DataReceived):
            answer.body += event.data
            if self.greedy:
                self.client.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)

    def ask(self, fields: Any = GET, *more: tuple[str, str], end: bool = True) -> int:
        """A request; gives its stream."""
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, [*fields, *more], end_stream=end)
        self.say()
        return stream

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """As much of a body as the windows allow."""
        size = min(len(data), self.client.local_flow_control_window(stream))
        for at in range(0, size, 16384):
            self.client.send_data(stream, data[at : min(at + 16384, size)])
        if end:
            self.client.end_stream(stream)
        self.say()

    def __getitem__(self, stream: int) -> Answer:
        self.hear()
        return self.answers.setdefault(stream, Answer())
