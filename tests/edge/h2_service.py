"""A service that speaks HTTP/2, by the h2 library, behind a stream of a house's agent."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings

from tests.edge.h2_visitor import H2Visitor
from tests.edge.house import House, Stream, Visitor
from tests.http.h2.talk import patient

Fields = list[tuple[str, str]]

CONNECT = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}

GET1 = b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n"
POST1 = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Request:
    """What came on one stream."""

    def __init__(self, event: RequestReceived) -> None:
        self.fields: dict[str, str] = dict(event.headers)  # type: ignore[arg-type]
        self.body = b""
        self.trailers: Any = []
        self.ended = False
        self.reset: int | None = None
        self.answered = False


class Service:
    """A server on the house's latest stream.

    :param greedy: gives every octet back to the windows at once
    :param settings: of its first SETTINGS
    :ivar requests: by stream
    """

    def __init__(
        self,
        stream: Stream,
        *,
        greedy: bool = True,
        hello: bool = True,
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        self.stream = stream
        self.greedy = greedy
        self.server = patient(H2Connection(H2Configuration(client_side=False, header_encoding="utf-8")))
        self.server.local_settings = Settings(client=False, initial_values=settings)
        self.requests: dict[int, Request] = {}
        self.goaways: list[int] = []
        self.events: list[Event] = []
        self.server.initiate_connection()
        if hello:
            self.say()
            self.hear()

    def say(self) -> None:
        """What the server has to say."""
        data = self.server.data_to_send()
        if data and not self.stream.disconnected:
            self.stream.deliver(data)

    def hear(self) -> None:
        """Read until there is nothing more."""
        while data := self.stream.take_all():
            for event in self.server.receive_data(data):
                self.events.append(event)
                self._keep(event)
            self.say()

    def _keep(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaways.append(int(event.error_code))  # type: ignore[arg-type]
        elif isinstance(event, RequestReceived):
            self.requests[event.stream_id] = Request(event)  # type: ignore[index]
        else:
            request = self.requests.get(getattr(event, "stream_id", None) or 0)
            if request is None:
                return
            if isinstance(event, DataReceived):
                request.body += event.data
                if self.greedy:
                    self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)  # type: ignore[arg-type]
            elif isinstance(event, TrailersReceived):
                request.trailers = event.headers
            elif isinstance(event, StreamEnded):
                request.ended = True
            elif isinstance(event, StreamReset):
                request.reset = int(event.error_code)

    @property
    def unanswered(self) -> list[int]:
        """Streams whose answer has not begun, and can."""
        return [
            number
            for number, request in self.requests.items()
            if request.ended and request.reset is None and not request.answered
        ]

    def __getitem__(self, stream: int) -> Request:
        self.hear()
        return self.requests[stream]

    def __len__(self) -> int:
        self.hear()
        return len(self.requests)

    def head(self, stream: int, *more: tuple[str, str], status: str = "200", end: bool = False) -> None:
        self.server.send_headers(stream, [(":status", status), *more], end_stream=end)
        self.say()

    def data(self, stream: int, data: bytes, *, end: bool = False) -> int:
        """As much of a body as the windows allow; gives how much."""
        size = min(len(data), self.server.local_flow_control_window(stream))
        for at in range(0, size, 16384):
            self.server.send_data(stream, data[at : min(at + 16384, size)])
        if end:
            self.server.end_stream(stream)
        self.say()
        return size

    def answer(self, stream: int, body: bytes = b"", *more: tuple[str, str], trailers: Fields | None = None) -> None:
        """A whole answer, in one read."""
        self.requests[stream].answered = True
        self.server.send_headers(stream, [(":status", "200"), *more], end_stream=not body and trailers is None)
        if body:
            self.server.send_data(stream, body, end_stream=trailers is None)
        if trailers is not None:
            self.server.send_headers(stream, trailers, end_stream=True)
        self.say()

    def reset(self, stream: int, code: int) -> None:
        self.requests[stream].answered = True
        self.server.reset_stream(stream, code)
        self.say()


def service_of(house: House, number: int = -1, **options: Any) -> Service:
    """A service on one of the house's streams."""
    return Service(house.streams[number], **options)


def visit(house: House, **options: Any) -> H2Visitor:
    return H2Visitor(house, **options).hello()


def asked(house: House, request: bytes = GET1) -> Visitor:
    visitor = house.visitor()
    visitor.says(request)
    return visitor


def status(visitor: Visitor) -> int:
    [(head, _)] = visitor.answers()
    return int(head.status_code)


def warmed(house: House) -> Service:
    """The service of a connection that has served a request."""
    visitor = asked(house)
    service = service_of(house)
    service.answer(max(service.requests), b"warm")
    assert visitor.answers()[0][1] == b"warm"
    visitor.lose()
    return service
