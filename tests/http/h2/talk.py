"""Conversations with the HTTP/2 codec: raw frames in (hyperframe, hpack), events and frames as short tuples out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2.connection import ConnectionInputs, ConnectionState, H2Connection
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.http.h1.talk import short as h1_short
from wormhole_tw.http.events import Abandoned, Body, Closed, End, Event, Framing, ResponseHead, Writable
from wormhole_tw.http.h2 import H2Limits, H2ServerCodec
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.frames import PREFACE
from wormhole_tw.http.interfaces import StreamEvent

NONCE = b"the sample nonce"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455 §1.3."""

GET = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a.test")]
POST = [(":method", "POST"), *GET[1:]]
WEBSOCKET = [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]]

Fields = list[tuple[str, str]]


def short(event: Event) -> tuple[object, ...]:
    """What a test wants to see of an event."""
    if isinstance(event, Abandoned):
        return ("abandoned", ErrorCode(event.code).name)
    if isinstance(event, Writable):
        return ("writable",)
    if isinstance(event, Closed):
        return ("closed",)
    return h1_short(event)


def seen(events: Iterable[StreamEvent]) -> list[tuple[object, ...]]:
    return [(stream, *short(event)) for stream, event in events]


def patient(client: H2Connection) -> H2Connection:
    """The library does not speak any more after a GOAWAY; now it does, as others do."""
    machine = client.state_machine
    staying = {
        (state, ConnectionInputs.RECV_GOAWAY): (None, state)
        for state in (ConnectionState.IDLE, ConnectionState.CLIENT_OPEN, ConnectionState.SERVER_OPEN)
    }
    machine._transitions = {**machine._transitions, **staying}  # type: ignore[misc]
    return client


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame, however wrong."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class Talk:
    """One side's raw frames, and the codec of the other side that it speaks to.

    :ivar events: every event so far, short
    :ivar heard: every frame so far, short
    """

    codec: Any

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.now = 0.0
        self.events: list[tuple[object, ...]] = []
        self.heard: list[tuple[Any, ...]] = []
        self.pending = b""

    # what it says

    def say(self, data: bytes) -> list[tuple[object, ...]]:
        """Give the codec bytes; see the new events."""
        new = seen(self.codec.receive_data(data, self.now))
        self.events += new
        return new

    def frame(self, frame: Frame, *flags: str) -> list[tuple[object, ...]]:
        for flag in flags:
            frame.flags.add(flag)
        return self.say(frame.serialize())

    def settings(self, **settings: int) -> list[tuple[object, ...]]:
        names = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "connect": 8}
        return self.frame(SettingsFrame(0, {names[name]: value for name, value in settings.items()}))

    def block(self, fields: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
        return self.encoder.encode(list(fields))

    def head(
        self, stream: int, fields: Iterable[tuple[Any, Any]], *more: tuple[Any, Any], end: bool = True
    ) -> list[tuple[object, ...]]:
        """HEADERS."""
        flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
        return self.frame(HeadersFrame(stream, self.block([*fields, *more])), *flags)

    def data(self, stream: int, data: bytes = b"", *, end: bool = False, pad: int | None = None) -> Any:
        frame = DataFrame(stream, data)
        if pad is not None:
            frame.flags.add("PADDED")
            frame.pad_length = pad
        return self.frame(frame, *(["END_STREAM"] if end else []))

    def reset(self, stream: int, code: int = 8) -> list[tuple[object, ...]]:
        return self.frame(RstStreamFrame(stream, code))

    def window(self, stream: int, n: int) -> list[tuple[object, ...]]:
        return self.frame(WindowUpdateFrame(stream, n))

    def ping(self, data: bytes = b"12345678", *flags: str) -> list[tuple[object, ...]]:
        return self.frame(PingFrame(0, data), *flags)

    # what it hears

    def listen(self, room: int | None = None) -> list[tuple[Any, ...]]:
        """Frames that the codec has sent since the last time; fields decoded, DATA as it is."""
        pieces = self.codec.data_to_send() if room is None else self.codec.data_to_send(room)
        self.events += seen(self.codec.take_events())
        new = []
        for frame in self.frames(b"".join(pieces)):
            new.append(self.short(frame))
        self.heard += new
        return new

    def frames(self, data: bytes) -> Iterable[Frame]:
        data = self.pending + data
        while len(data) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(data[:9]))
            if len(data) < 9 + length:
                break
            assert length <= 16384
            frame.parse_body(memoryview(data[9 : 9 + length]))
            data = data[9 + length :]
            yield frame
        self.pending = data

    def short(self, frame: Frame) -> tuple[Any, ...]:
        flags = set(frame.flags)
        ended = ("end",) if "END_STREAM" in flags else ()
        if isinstance(frame, HeadersFrame | ContinuationFrame):
            if not isinstance(frame, HeadersFrame) or "END_HEADERS" not in flags:
                return ("BLOCK", frame.stream_id)
            return ("HEADERS", frame.stream_id, self.decoder.decode(frame.data, raw=True), *ended)
        if isinstance(frame, DataFrame):
            return ("DATA", frame.stream_id, frame.data, *ended)
        if isinstance(frame, RstStreamFrame):
            return ("RST_STREAM", frame.stream_id, ErrorCode(frame.error_code).name)
        if isinstance(frame, GoAwayFrame):
            return ("GOAWAY", frame.last_stream_id, ErrorCode(frame.error_code).name)
        if isinstance(frame, WindowUpdateFrame):
            return ("WINDOW_UPDATE", frame.stream_id, frame.window_increment)
        if isinstance(frame, PingFrame):
            return ("PING", frame.opaque_data, *(["ack"] if "ACK" in flags else []))
        assert isinstance(frame, SettingsFrame)
        return ("SETTINGS", "ack") if "ACK" in flags else ("SETTINGS", dict(frame.settings))

    def let_go(self) -> list[tuple[Any, ...]]:
        """What comes of time passing."""
        self.codec.let_go()
        self.codec.let_go()
        return self.listen()

    @property
    def goaway(self) -> str | None:
        """The code of the GOAWAY that ended the connection."""
        codes = [frame[2] for frame in self.heard if frame[0] == "GOAWAY"]
        return codes[-1] if codes else None

    @property
    def resets(self) -> list[tuple[int, str]]:
        return [frame[1:] for frame in self.heard if frame[0] == "RST_STREAM"]


class Peer(Talk):
    """A client of raw frames, and the codec that it speaks to."""

    codec: H2ServerCodec

    def __init__(self, limits: H2Limits | None = None, *, hello: bool = True, **settings: int) -> None:
        super().__init__()
        self.codec = H2ServerCodec(limits or H2Limits(), random=lambda n: NONCE[:n])
        if hello:
            self.say(PREFACE)
            self.settings(**settings)
            self.listen()
            self.heard.clear()

    def ask(
        self, stream: int, fields: Iterable[tuple[Any, Any]] = GET, *more: tuple[Any, Any], end: bool = True
    ) -> list[tuple[object, ...]]:
        """A request."""
        return self.head(stream, fields, *more, end=end)

    # what the edge answers

    def answer(
        self,
        stream: int,
        body: bytes = b"",
        *,
        status: int = 200,
        trailers: Any = (),
        fields: Any = (),
        end: bool = True,
    ) -> None:
        framing = Framing.CHUNKED if trailers or not end else Framing.LENGTH
        length = len(body) if framing is Framing.LENGTH else None
        self.codec.send(stream, ResponseHead(status, b"", list(fields), framing=framing, length=length))
        if body:
            self.codec.send(stream, Body(body))
        if end:
            self.codec.send(stream, End(list(trailers)))

    def lives(self, stream: int) -> bool:
        """Whether the connection still serves: a request on this new stream is answered whole."""
        self.events.clear()
        self.ask(stream)
        if (stream, "request", b"GET", b"/") not in self.events:
            return False
        self.answer(stream, b"alive")
        return any(frame[:3] == ("DATA", stream, b"alive") for frame in self.listen())
