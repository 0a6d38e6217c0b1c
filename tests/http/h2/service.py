"""A service of raw frames, and the client codec that speaks to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hyperframe.frame import Frame, GoAwayFrame

from tests.http.h2.talk import Talk
from wormhole_tw.http.events import Body, End, Framing, RequestHead
from wormhole_tw.http.h2 import H2ClientCodec, H2Limits
from wormhole_tw.http.h2.frames import PREFACE

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OK = [(":status", "200")]
TRAILERS = [("grpc-status", "0"), ("grpc-message", "fine")]


def request(method: bytes = b"GET", target: bytes = b"/", *fields: tuple[bytes, bytes], **more: Any) -> RequestHead:
    """A head as it comes from ``forwarding``."""
    return RequestHead(method, target, b"a.test", (1, 1), list(fields), **more)


def websocket() -> RequestHead:
    fields = [(b"Sec-WebSocket-Key", KEY), (b"Sec-WebSocket-Version", b"13")]
    return request(b"GET", b"/", *fields, upgrade=b"websocket")


class Service(Talk):
    """See the module.

    :ivar preface: what the client has said before its first frame
    """

    codec: H2ClientCodec

    def __init__(self, limits: H2Limits | None = None, *, hello: bool = True, **settings: int) -> None:
        super().__init__()
        self.codec = H2ClientCodec(limits or H2Limits().towards_services())
        self.preface: bytes | None = None
        if hello:
            self.settings(**settings)
            self.listen()
            self.heard.clear()

    def frames(self, data: bytes) -> Iterable[Frame]:
        if self.preface is None and data:
            self.preface, data = data[: len(PREFACE)], data[len(PREFACE) :]
        return super().frames(data)

    # what the edge asks

    def ask(self, head: RequestHead | None = None) -> int:
        """A whole request without a body; gives its stream."""
        stream = self.codec.send_whole(head or request())
        self.listen()
        return stream

    def begin(self, *fields: tuple[bytes, bytes], length: int | None = None) -> int:
        """The head of a request with a body."""
        stream = self.codec.new_stream()
        framing = Framing.CHUNKED if length is None else Framing.LENGTH
        self.codec.send(stream, request(b"POST", b"/", *fields, framing=framing, length=length))
        return stream

    def push(self, stream: int, data: bytes, *, end: bool = False, trailers: Any = ()) -> None:
        """A piece of its body."""
        if data:
            self.codec.send(stream, Body(data))
        if end or trailers:
            self.codec.send(stream, End(list(trailers)))
        self.listen()

    # what the service says

    def answer(self, stream: int, body: bytes = b"", *more: tuple[str, str], trailers: Any = None) -> None:
        """A whole answer."""
        whole = not body and trailers is None
        self.head(stream, OK, *more, end=whole)
        if body:
            self.data(stream, body, end=trailers is None)
        if trailers is not None:
            self.head(stream, trailers)
        self.listen()

    def leave(self, last: int = 0x7FFFFFFF, code: int = 0, why: bytes = b"") -> None:
        """GOAWAY."""
        self.frame(GoAwayFrame(0, last, code, why))
        self.listen()

    # what there is to see

    def lives(self) -> bool:
        """Whether another request is answered whole."""
        self.events.clear()
        if not self.codec.reusable:
            return False
        stream = self.ask()
        self.answer(stream, b"alive")
        return self.events == [(stream, "answer", 200), (stream, "body", b"alive"), (stream, "end")]

    def asked(self, stream: int) -> dict[bytes, bytes]:
        """The fields of a request's head, as they came."""
        return dict(next(frame[2] for frame in self.heard if frame[:2] == ("HEADERS", stream)))

    @property
    def fault(self) -> str | None:
        return self.codec.fault


def heads(service: Service, data: bytes) -> list[Any]:
    """Its events, without their streams."""
    return [event for _, event in service.codec.receive_data(data, 0.0)]


def opened(service: Service) -> int:
    """A WebSocket that the service has taken."""
    stream = service.ask(websocket())
    service.head(stream, [(":status", "200"), ("sec-websocket-protocol", "chat")], end=False)
    service.events.clear()
    service.heard.clear()
    return stream
