"""What must hold for any bytes at all: one function for each reader, which raises where it does not.

Each compares two readings: the bytes whole and the bytes cut up, ours and h11's, or what went in and what comes out.
How they are cut is taken from a checksum of them, so an input is a plain message that anybody can read.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TypeVar

import h11

from tests.conformance.origin import ambiguities
from tests.fuzz.cache_targets import caching
from tests.fuzz.h2_targets import h2_service, h2_visitor
from tests.fuzz.tls_targets import hello
from tests.wire.links import HELLO, HTTP, Link
from wormhole_tw.errors import HttpError, ProxyHeaderError
from wormhole_tw.http.events import Body, End, Failed, Framing, RequestHead, ResponseHead
from wormhole_tw.http.forwarding import (
    VisitorFacts,
    answer_towards_visitor,
    request_towards_origin,
    trailers_onwards,
)
from wormhole_tw.http.h1 import H1ClientCodec, H1Limits, H1ServerCodec
from wormhole_tw.http.h1.bodies import ChunkedReader
from wormhole_tw.http.interfaces import StreamEvent
from wormhole_tw.http.targets import normalise_host, normalise_target
from wormhole_tw.http.visitors import by_forwarded, by_x_forwarded
from wormhole_tw.net.proxy_protocol import ProxyHeader, ProxyReader, ProxyVersion, begins_like_header, encode_header
from wormhole_tw.wire.events import LinkClosed, LinkDead, LinkFailed
from wormhole_tw.wire.frames import HEADER_SIZE, MAX_DATA, PREFACE, FrameParser, encode_frame
from wormhole_tw.wire.session import Session, SessionConfig, Side

__all__ = ["TARGETS"]


def small_limits() -> H1Limits:
    """Small, so that inputs of a few hundred octets come to every limit; new, for they remember what they judged."""
    return H1Limits(head=4096, fields=20, target=512, chunk_line=32, chunk_extensions=64, trailers=256)


VISITOR = VisitorFacts("192.0.2.1")
OK = ResponseHead(200, b"OK", [], framing=Framing.LENGTH, length=0)

T = TypeVar("T")


def pieces(data: bytes) -> Iterator[bytes]:
    """The bytes cut up, the same way each time."""
    size = 1 + zlib.crc32(data) % 23
    for start in range(0, len(data), size):
        yield data[start : start + size]


def plain(events: list[StreamEvent]) -> list[object]:
    """Events without the pieces that a body came in."""
    out: list[object] = []
    for _, event in events:
        if isinstance(event, Body) and out and isinstance(out[-1], bytes):
            out[-1] += event.data
        elif isinstance(event, Body):
            out.append(event.data)
        elif isinstance(event, Failed):
            out.append((event.error.status, event.error.reason))
        else:
            out.append(event)
    return out


# HTTP, from visitors


def request(data: bytes) -> None:
    """A request: cut anywhere it is the same, h11 reads it as we do, and what goes on can be read in one way only."""
    whole = H1ServerCodec(small_limits())
    events = whole.receive_data(data, 0.0)
    cut = H1ServerCodec(small_limits())
    again = [event for piece in pieces(data) for event in cut.receive_data(piece, 0.0)]
    assert plain(again) == plain(events), (plain(again), plain(events))
    if not events or not isinstance(events[-1][1], End):
        return
    head, end = events[0][1], events[-1][1]
    assert isinstance(head, RequestHead)
    body = b"".join(event.data for _, event in events if isinstance(event, Body))
    _second_opinion(data.removeprefix(b"\r\n"), head, body)
    try:
        path, query = normalise_target(head.target)
        onward = request_towards_origin(head, path if query is None else path + b"?" + query, VISITOR)
    except HttpError as error:
        _is_400(error)
        return
    client = H1ClientCodec()
    stream = client.new_stream()
    if not onward.authority:
        return  # HTTP/1.0 without Host has no site here
    client.send(stream, onward)
    if body:
        client.send(stream, Body(body))
    client.send(stream, End(trailers_onwards(end.trailers)))
    sent = b"".join(client.data_to_send())
    assert ambiguities(sent[: sent.index(b"\r\n\r\n") + 4]) == []
    origin = h11.Connection(h11.SERVER)
    origin.receive_data(sent)
    found, read = _h11_message(origin)
    assert (found.method, read) == (head.method, body)
    assert origin.trailing_data == (b"", False)


def _is_400(error: HttpError) -> None:
    assert error.status == 400, error


def _second_opinion(data: bytes, head: RequestHead, body: bytes) -> None:
    """h11, which is laxer in much, reads the same request and the same body in the same octets."""
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(data)
    opinion = _raw_h11_message(judge, data)
    if opinion is None:
        return
    found, read = opinion
    assert (found.method, read) == (head.method, body), (found, read)
    assert len(found.headers) == len(head.fields) + (head.framing is not Framing.NONE) - _replaced(head, found)


def _replaced(head: RequestHead, found: h11.Request) -> int:
    """A Host that an absolute target added where there was none."""
    return int(not any(name == b"host" for name, _ in found.headers) and bool(head.authority))


_SPACED_EXTENSION = re.compile(rb"[0-9A-Fa-f][ \t]+;")
"""White space before a chunk's first semicolon: RFC 9112 §7.1.1 has it, h11 has not."""


def _raw_h11_message(connection: h11.Connection, data: bytes) -> tuple[h11.Request | h11.Response, bytes] | None:
    """h11's reading of what was not written by us; None where it is known to be the stricter one."""
    try:
        return _h11_message(connection)
    except h11.RemoteProtocolError:
        if _SPACED_EXTENSION.search(data):
            return None
        raise


def _h11_message(connection: h11.Connection) -> tuple[h11.Request | h11.Response, bytes]:
    head = connection.next_event()
    while isinstance(head, h11.InformationalResponse):
        head = connection.next_event()
    assert isinstance(head, h11.Request | h11.Response), head
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += bytes(event.data)
    return head, body


# HTTP, from origins


def answer(data: bytes) -> None:
    """An answer: cut anywhere it is the same, h11 reads it as we do, and a visitor reads what goes on so, too."""
    method = b"HEAD" if zlib.crc32(data) & 0x100 else b"GET"
    events = _answer_events(method, [data])
    assert plain(_answer_events(method, pieces(data))) == plain(events)
    heads = [event for _, event in events if isinstance(event, ResponseHead)]
    if not heads or any(isinstance(event, Failed) for _, event in events) or heads[0].status == 101:
        return
    head = heads[0]
    body = b"".join(event.data for _, event in events if isinstance(event, Body))
    judge = _h11_visitor(method)
    judge.receive_data(data)
    judge.receive_data(b"")
    opinion = _raw_h11_message(judge, data)
    if opinion is not None:
        found, read = opinion
        assert isinstance(found, h11.Response)
        assert (found.status_code, read) == (head.status, body)
    server = H1ServerCodec()
    server.receive_data(method + b" / HTTP/1.1\r\nHost: a.test\r\n\r\n", 0.0)
    server.send(1, answer_towards_visitor(head, lambda: (b"Date", b"now")))
    if body:
        server.send(1, Body(body))
    server.send(1, End())
    visitor = _h11_visitor(method)
    visitor.receive_data(b"".join(server.data_to_send()))
    found, read = _h11_message(visitor)
    assert isinstance(found, h11.Response)
    assert (found.status_code, read) == (head.status, body)
    assert visitor.trailing_data[0] == b""


def _answer_events(method: bytes, data: list[bytes] | Iterator[bytes]) -> list[StreamEvent]:
    codec = H1ClientCodec(small_limits())
    stream = codec.new_stream()
    codec.send(stream, RequestHead(method, b"/", b"a.test", (1, 1), []))
    codec.send(stream, End())
    events: list[StreamEvent] = []
    for piece in data:
        events += codec.receive_data(piece, 0.0)
    # what answers nothing is judged, or not, by whether it came in time
    first_end = next((i for i, (_, event) in enumerate(events) if isinstance(event, End | Failed)), None)
    if first_end is not None:
        return events[: first_end + 1]
    return events + codec.receive_eof(0.0)


def _h11_visitor(method: bytes) -> h11.Connection:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target=b"/", headers=[("Host", "a.test")]))
    connection.send(h11.EndOfMessage())
    return connection


# the parts


def chunks(data: bytes) -> None:
    """A chunked body: where it ends, and what is in it, whole and cut up, and by h11."""
    end, body, trailers = _read_chunks([data])
    assert _read_chunks(pieces(data)) == (end, body, trailers)
    if end is None or end < 0:
        return
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    opinion = _raw_h11_message(judge, data)
    if opinion is not None:
        assert opinion[1] == body
        assert judge.trailing_data[0] == data[end:]


def _read_chunks(data: list[bytes] | Iterator[bytes]) -> tuple[int | None, bytes, object]:
    """Where it ended (-1: nowhere; None: refused), the body, the trailers or the refusal."""
    reader = ChunkedReader(small_limits())
    out: list[bytes] = []
    before = 0
    for piece in data:
        try:
            end = reader.feed(piece, out)
        except HttpError as error:
            return None, b"".join(out), (error.status, error.reason)
        if end >= 0:
            return before + end, b"".join(out), reader.trailers
        before += len(piece)
    return -1, b"".join(out), None


def target(data: bytes) -> None:
    """A path has one form, and a host name too: what is in it already stays as it is."""
    for normalise in (_path, normalise_host):
        try:
            found = normalise(data)
        except HttpError as error:
            _is_400(error)
            continue
        text = found if isinstance(found, bytes) else found[0].encode()
        assert normalise(text) == (found if isinstance(found, bytes) else (found[0], None))
        if isinstance(found, bytes):
            assert found.startswith(b"/") or found == b"*"
            assert not {b".", b".."} & set(found.split(b"/"))


def _path(data: bytes) -> bytes:
    return normalise_target(data)[0]


# what proxies say


def proxy(data: bytes) -> None:
    """A header of the PROXY protocol: the same one however it is cut, and what is written again is read again."""
    found, rest = _read_header([data])
    assert _read_header(pieces(data)) == (found, rest)
    if not isinstance(found, ProxyHeader):
        assert found is None or data
        return
    assert data.endswith(rest)
    assert begins_like_header(data) or found.source is None
    version: ProxyVersion = "v1" if data.startswith(b"PROXY") else "v2"
    if found.source is None:
        written = encode_header(version, None)
    else:
        # an address that Python maps into IPv4 is of another family than its neighbour may be
        same = found.destination is not None and (":" in found.source[0]) == (":" in found.destination[0])
        tls = (found.tls_version, found.cipher) if found.secure else None
        written = encode_header(version, found.source, found.destination, authority=found.authority, tls=tls)
        again, _ = _read_header([written])
        assert isinstance(again, ProxyHeader)
        assert (again.source, again.authority, again.tls_version) == (found.source, found.authority, found.tls_version)
        assert again.destination == found.destination or not same
    assert begins_like_header(written) or version == "v1"


def _read_header(data: list[bytes] | Iterator[bytes]) -> tuple[ProxyHeader | str | None, bytes]:
    """The header, or why it is none (None: it is not whole), and what stands behind it."""
    reader = ProxyReader()
    parts = iter(data)
    for piece in parts:
        try:
            header = reader.feed(piece)
        except ProxyHeaderError as error:
            return str(error), b""
        if header is not None:
            return header, reader.rest + b"".join(parts)
    return None, b""


def forwarding(data: bytes) -> None:
    """Forwarding fields: whatever stands in them, an address is one, and nothing reaches into what a proxy added."""
    lines = data.split(b"\n")
    for name, read, added in (
        (b"X-Forwarded-For", by_x_forwarded, b"192.0.2.7"),
        (b"Forwarded", by_forwarded, b"for=192.0.2.7;proto=https;host=a.test"),
    ):
        told = read([(name, line) for line in lines], _is_proxy)
        for address in (told.address, *told.hops):
            assert not address or str(ip_address(address)) == address
        assert all(_is_proxy(hop) for hop in told.hops)
        alone = read([(name, added)], _is_proxy)
        assert read([*((name, line) for line in lines), (name, added)], _is_proxy) == alone
        assert read([(name, b", ".join([*lines, added]))], _is_proxy) == alone
    others = [(b"X-Forwarded-Host", data), (b"X-Forwarded-Proto", data), (b"X-Forwarded-Port", data)]
    told = by_x_forwarded(others, _is_proxy)
    assert told.host is None or not set(told.host) & set(b' ,;"\\\r\n')
    assert told.scheme in (None, "http", "https")
    assert 0 <= told.public_port <= 65535


def _is_proxy(address: str) -> bool:
    return address.startswith("10.")


# the tunnel


def frames(data: bytes) -> None:
    """Frames: the same ones however they are cut, nothing added, and little held."""
    whole, cut = FrameParser(expect_preface=False), FrameParser(expect_preface=False)
    found = whole.feed(data)
    again = []
    for piece in pieces(data):
        again += cut.feed(memoryview(piece))
        assert cut.held <= HEADER_SIZE + MAX_DATA
    assert again == found
    assert (whole.error is None) == (cut.error is None)
    if whole.error is None:
        assert whole.held == cut.held
        written = b"".join(encode_frame(*frame) for frame in found)
        assert data.startswith(written)
        # a header that is whole is not held any more: it is known
        assert len(data) - len(written) - whole.held in (0, HEADER_SIZE)


SMALL = SessionConfig(initial_credit=2048, max_window=8192, link_budget=16_384, max_streams=8, low_water=500)
EARLY = 64 * 1024
"""What a peer may make us hold before it is known."""


def session(data: bytes) -> None:
    """A tunnel's session, from its first octet or after the greeting, either side: it fails, and never raises."""
    kind = zlib.crc32(data) >> 8 & 3
    if kind < 2:
        peer = Session(Side.ACCEPTOR if kind else Side.DIALLER, config=SMALL, now=0.0)
        if not kind:
            peer.hello(HELLO, 0.0)
    else:
        link = Link(SMALL, role="edge").greet()
        peer = link.acceptor if kind == 2 else link.dialler
        link.acceptor.open(HTTP, 0.0)
        link.settle()
    sent, over = 0, False
    for piece in pieces(PREFACE + data if kind == 1 else data):
        events = peer.receive_data(piece, 0.0)
        assert not (over and events), "something comes behind the end"
        over = any(isinstance(event, LinkFailed | LinkClosed | LinkDead) for event in events)
        if over:
            break
        assert peer.held <= (EARLY if kind < 2 else SMALL.link_budget + MAX_DATA)
        for part in peer.data_to_send(1 << 17):
            sent += len(part)
    # every answer to a frame is of its size at most, PONG and RESET too
    assert sent <= 4096 + 8 * len(data)
    peer.handle_timer(1000.0)
    peer.receive_eof(1000.0)
    assert peer.open_streams == 0


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        *(request, answer, chunks, h2_visitor, h2_service),
        *(target, proxy, hello, forwarding, caching, frames, session),
    )
}
"""Name, which is that of its folder of seeds too → what must hold."""
