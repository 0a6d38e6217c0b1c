"""Conversations with codecs: bytes in, events as short tuples out."""

from __future__ import annotations

from collections.abc import Iterable

from wormhole_tw.http.events import (
    Body,
    End,
    Event,
    Failed,
    Framing,
    InformationalHead,
    Raw,
    RawEnd,
    RequestHead,
    ResponseHead,
)
from wormhole_tw.http.h1 import H1ClientCodec, H1ServerCodec
from wormhole_tw.http.interfaces import StreamEvent

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = ResponseHead(200, b"OK", [], framing=Framing.LENGTH, length=0)


def short(event: Event) -> tuple[object, ...]:
    """What a test wants to see of an event."""
    if isinstance(event, RequestHead):
        return ("request", event.method, event.target)
    if isinstance(event, ResponseHead):
        return ("answer", event.status)
    if isinstance(event, InformationalHead):
        return ("interim", event.status)
    if isinstance(event, Body):
        return ("body", event.data)
    if isinstance(event, Raw):
        return ("raw", event.data)
    if isinstance(event, End):
        return ("end", *event.trailers)
    if isinstance(event, RawEnd):
        return ("raw end",)
    assert isinstance(event, Failed)
    return ("failed", event.error.status, event.error.reason)


def joined(events: Iterable[StreamEvent]) -> list[tuple[object, ...]]:
    """The events with their stream, pieces of one body joined: what does not depend on how the bytes were cut."""
    out: list[tuple[object, ...]] = []
    for stream, event in events:
        seen = (stream, *short(event))
        if seen[1] in ("body", "raw") and out and out[-1][:2] == seen[:2]:
            out[-1] = (*seen[:2], out[-1][2] + seen[2])  # type: ignore[operator]
        else:
            out.append(seen)
    return out


def told(codec: H1ServerCodec | H1ClientCodec, data: bytes) -> list[tuple[object, ...]]:
    """Feed bytes, see events."""
    return joined(codec.receive_data(data, 0.0))


def said(codec: H1ServerCodec | H1ClientCodec) -> bytes:
    """What the codec sends."""
    return b"".join(codec.data_to_send())


def answer(codec: H1ServerCodec, stream: int, head: ResponseHead = OK, *bodies: bytes) -> bytes:
    """Send a whole answer, see its bytes."""
    codec.send(stream, head)
    for body in bodies:
        codec.send(stream, Body(body))
    codec.send(stream, End())
    return said(codec)


def ask(codec: H1ClientCodec, method: bytes = b"GET", upgrade: bytes | None = None) -> int:
    """Send a whole request without a body, forget its bytes."""
    stream = codec.new_stream()
    codec.send(stream, RequestHead(method, b"/", b"a.test", (1, 1), [], upgrade=upgrade))
    codec.send(stream, End())
    said(codec)
    return stream
