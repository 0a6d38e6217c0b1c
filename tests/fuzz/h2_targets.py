"""What must hold for any octets at all on HTTP/2, from visitors and from services: see ``targets``.

Inputs are frames, behind the first octets and the SETTINGS that every connection begins with.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Abandoned, Body, End, Failed, Framing, InformationalHead, RequestHead, ResponseHead
from wormhole_tw.http.forwarding import (
    VisitorFacts,
    answer_towards_visitor,
    interim_towards_visitor,
    request_towards_origin,
    trailers_onwards,
)
from wormhole_tw.http.h1 import H1ClientCodec, H1ServerCodec
from wormhole_tw.http.h2 import H2ClientCodec, H2Limits, H2ServerCodec
from wormhole_tw.http.h2.frames import PREFACE
from wormhole_tw.http.interfaces import StreamEvent
from wormhole_tw.http.targets import normalise_target

__all__ = ["h2_service", "h2_visitor"]

VISITOR = VisitorFacts("192.0.2.1")
SETTINGS = b"\0\0\6\4\0\0\0\0\0\0\x08\0\0\0\1"
"""ENABLE_CONNECT_PROTOCOL, which is a server's to say and means nothing of a client."""


def small_limits() -> H2Limits:
    """As for HTTP/1: small, and new."""
    return H2Limits(head=1024, fields=20, target=512, streams=8, window=4096, connection_window=65536)


def _pieces(data: bytes) -> Iterator[bytes]:
    size = 1 + zlib.crc32(data) % 23
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _plain(events: list[StreamEvent]) -> list[object]:
    """Events that can be compared."""
    return [
        (stream, event.error.status, event.error.reason) if isinstance(event, Failed) else (stream, event)
        for stream, event in events
    ]


def h2_visitor(data: bytes) -> None:
    """The same however it is cut; what goes on breaks neither an HTTP/1 head nor an HTTP/2 one."""
    events = _heard([data])
    assert _plain(_heard(_pieces(data))) == _plain(events)
    for _, event in events:
        if isinstance(event, RequestHead):
            try:
                path, query = normalise_target(event.target)
                target = path if query is None else path + b"?" + query
                onward = request_towards_origin(event, target, VISITOR)
            except HttpError:
                continue
            _send_on(onward)
        elif isinstance(event, End):
            trailers_onwards(event.trailers)


def _heard(data: Iterable[bytes]) -> list[StreamEvent]:
    codec = H2ServerCodec(small_limits(), random=bytes)
    events = codec.receive_data(PREFACE + SETTINGS, 0.0)
    for piece in data:
        events += codec.receive_data(piece, 0.0)
        codec.data_to_send()
    return events + codec.receive_eof(0.0)


def _send_on(onward: RequestHead) -> None:
    plain = H1ClientCodec()
    plain.send(plain.new_stream(), onward)
    assert plain.data_to_send()
    service = H2ClientCodec()
    service.receive_data(SETTINGS, 0.0)
    service.send(service.new_stream(), onward)
    assert service.data_to_send()


def h2_service(data: bytes) -> None:
    """The same however it is cut; what goes on to a visitor breaks neither HTTP/1 nor HTTP/2."""
    events = _answered([data])
    assert _plain(_answered(_pieces(data))) == _plain(events)
    over: set[int] = set()
    visitors: dict[int, tuple[H1ServerCodec, H2ServerCodec]] = {}
    for stream, event in events:
        assert stream not in over
        plain, many = visitors.setdefault(stream, _visitors(b"HEAD" if stream == 3 else b"GET"))
        if isinstance(event, InformationalHead):
            for codec in (plain, many):
                codec.send(1, interim_towards_visitor(event))
        elif isinstance(event, ResponseHead) and event.status != 101:
            for codec in (plain, many):
                codec.send(1, answer_towards_visitor(event, lambda: (b"Date", b"now")))
        elif isinstance(event, Body):
            for codec in (plain, many):
                codec.send(1, event)
        elif isinstance(event, End):
            over.add(stream)
            for codec in (plain, many):
                codec.send(1, End(trailers_onwards(event.trailers)))
                assert codec.data_to_send()
        elif isinstance(event, Failed | Abandoned):
            over.add(stream)


def _answered(data: Iterable[bytes]) -> list[StreamEvent]:
    codec = H2ClientCodec(small_limits())
    events = codec.receive_data(SETTINGS, 0.0)
    for method, upgrade, framing in (
        (b"GET", None, Framing.NONE),
        (b"HEAD", None, Framing.NONE),
        (b"POST", None, Framing.CHUNKED),
        (b"GET", b"websocket", Framing.NONE),
        (b"GET", None, Framing.NONE),
    ):
        head = RequestHead(method, b"/", b"a.test", (1, 1), [(b"Sec-WebSocket-Key", b"k")], framing, upgrade=upgrade)
        if framing is Framing.NONE:
            codec.send_whole(head)
        else:
            codec.send(codec.new_stream(), head)
    codec.data_to_send()
    for piece in data:
        events += codec.receive_data(piece, 0.0)
        codec.data_to_send()
    return events + codec.receive_eof(0.0)


def _visitors(method: bytes) -> tuple[H1ServerCodec, H2ServerCodec]:
    plain = H1ServerCodec()
    plain.receive_data(method + b" / HTTP/1.1\r\nHost: a.test\r\n\r\n", 0.0)
    many = H2ServerCodec()
    indexed = b"\x82" if method == b"GET" else b"\x02\x04HEAD"
    block = indexed + b"\x87\x84\x01\x06a.test"
    many.receive_data(PREFACE + SETTINGS + len(block).to_bytes(3, "big") + b"\1\5\0\0\0\1" + block, 0.0)
    return plain, many
