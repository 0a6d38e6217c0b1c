"""However a service's bytes are cut, the same comes of them; none raise; in ours the h2 library finds no fault."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings
from hypothesis import given
from hypothesis import strategies as st

from tests.http.h2.service import OK, TRAILERS, Service, request, websocket
from tests.http.h2.talk import raw, seen
from wormhole_tw.http.events import Body, End, Framing, Raw, RawEnd
from wormhole_tw.http.h2 import H2ClientCodec, H2Limits


def asks(codec: H2ClientCodec) -> None:
    """The requests of the conversation."""
    for _ in range(6):
        codec.send_whole(request())
    stream = codec.new_stream()
    codec.send(stream, request(b"POST", b"/", framing=Framing.CHUNKED))
    codec.send_whole(websocket())
    codec.data_to_send()


def conversation() -> bytes:
    """Some of everything that a service may say."""
    recorded = bytearray()
    service = Service(hello=False)
    say = service.say
    service.say = lambda data: (recorded.extend(data), say(data))[1]  # type: ignore[method-assign]
    service.settings(window=100000, connect=1)
    asks(service.codec)
    service.head(1, [(":status", "103"), ("link", "x")], end=False)
    service.head(1, OK, ("content-length", "5"), end=False)
    service.ping()
    service.data(1, b"first", pad=7)
    service.head(3, OK, end=False)
    service.window(0, 70000)
    service.data(3, b"message")
    service.data(1, end=True)
    service.head(3, TRAILERS)
    service.head(5, [(":status", "200"), ("X", "malformed")])
    service.reset(7)
    service.head(9, OK, ("content-length", "3"), end=False)
    service.data(9, b"long", end=True)
    service.head(13, OK)
    service.head(15, OK, end=False)
    service.data(15, b"frame")
    service.settings(streams=3)
    service.say(raw(7, 0, 0, (11).to_bytes(4, "big") + bytes(4)))
    service.say(raw(9, 0, 0))
    return bytes(recorded)


CONVERSATION = conversation()


def told(pieces: list[bytes]) -> list[object]:
    codec = H2ClientCodec(H2Limits().towards_services())
    events: list[object] = []
    first = True
    for piece in pieces:
        events += seen(codec.receive_data(piece, 0.0))
        if first and codec.settled:
            first = False
            asks(codec)
    return [events, b"".join(codec.data_to_send())]


SETTINGS = raw(4, 0, 0, b"\0\x04\0\1\x86\xa0\0\x08\0\0\0\1")
assert CONVERSATION.startswith(SETTINGS)
REST = CONVERSATION[len(SETTINGS) :]
WHOLE = told([SETTINGS, REST])


def test_the_conversation_has_it_all() -> None:
    kinds = {event[1] for event in WHOLE[0]}  # type: ignore[attr-defined]
    assert kinds == {"interim", "answer", "body", "end", "failed", "abandoned", "raw"}


@given(st.sets(st.integers(1, len(REST) - 1), max_size=60))
def test_any_chopping_gives_the_same_events(cuts: set[int]) -> None:
    at = [0, *sorted(cuts), len(REST)]
    assert told([SETTINGS, *[REST[a:b] for a, b in pairwise(at)]]) == WHOLE


def test_octet_by_octet() -> None:
    assert told([bytes((octet,)) for octet in CONVERSATION]) == WHOLE


BLOCK = Service().block([*OK, ("x", "y")])
FRAME = st.builds(
    raw,
    st.sampled_from([*range(10), 10, 16, 255]),
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 0x20, 0x25, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 5, 7, 0x7FFFFFFF, 0xFFFFFFFF]),
    st.one_of(
        st.sampled_from([b"", bytes(4), bytes(5), bytes(6), bytes(8), b"\0\0\0\x01", BLOCK, b"\x05" + BLOCK]),
        st.just(b"\x7f\xff\xff\xff"),
        st.binary(max_size=40),
    ),
)  # fmt: skip


@given(st.lists(st.one_of(FRAME, st.binary(max_size=30)), max_size=30), st.booleans())
def test_random_frames_never_raise(pieces: list[bytes], connect: bool) -> None:
    codec = H2ClientCodec(H2Limits(streams=3).towards_services())
    codec.receive_data(raw(4, 0, 0, b"\0\x08\0\0\0\1" if connect else b""), 0.0)
    for number, piece in enumerate(pieces):
        if codec.reusable:
            if number % 3 == 0 and connect:
                codec.send_whole(websocket())
            elif number % 3 == 1:
                codec.send(codec.new_stream(), request(b"POST", b"/", framing=Framing.CHUNKED))
            else:
                codec.send_whole(request())
        for stream, event in codec.receive_data(piece, float(number)):
            if isinstance(event, Body | Raw):
                codec.acknowledge(stream, len(event.data))
            elif isinstance(event, End):
                codec.reset(stream)
        if number % 2:
            codec.data_to_send()
        codec.take_events()
    codec.receive_eof(99.0)
    assert codec.should_close


STEPS = "ask post data end answer body done trailers reset cancel settings finish"
STEP = st.sampled_from(STEPS.split())


@given(st.lists(st.tuples(STEP, st.integers(0, 5)), max_size=80), st.sampled_from([5, 100, 70000]))
def test_the_h2_library_finds_nothing_wrong(steps: list[tuple[str, int]], window: int) -> None:
    """An independent server judges what leaves; what arrives there is what was sent, once and in order."""
    server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    server.local_settings = Settings(client=False, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
    server.initiate_connection()
    codec = H2ClientCodec(H2Limits(streams=5).towards_services())
    streams: list[int] = []
    open_: set[int] = set()  # our side, as we know it
    answering: dict[int, str] = {}  # the server's side
    sent: dict[int, bytes] = {}
    got: dict[int, bytes] = {}
    over: set[int] = set()

    def exchange() -> None:
        while True:
            data = b"".join(codec.data_to_send())
            for event in server.receive_data(data):
                number: Any = getattr(event, "stream_id", None)
                if isinstance(event, RequestReceived):
                    answering[number] = "none"
                    got[number] = b""
                elif isinstance(event, DataReceived):
                    got[number] += event.data
                    if number in answering:
                        server.acknowledge_received_data(event.flow_controlled_length, number)
                elif isinstance(event, StreamReset):
                    answering.pop(number, None)
                else:
                    assert not isinstance(event, TrailersReceived | StreamEnded) or number in got
            back = server.data_to_send()
            events = codec.receive_data(back, 0.0) if back else codec.take_events()
            for number, told in events:
                if isinstance(told, Body | Raw):
                    codec.acknowledge(number, len(told.data))
                elif seen([(number, told)])[0][1] in ("end", "failed", "abandoned"):
                    assert number not in over
                    over.add(number)
                    open_.discard(number)
            if not data and not back:
                return

    exchange()
    for step, index in steps:
        stream = streams[index % len(streams)] if streams else 0
        if step in ("ask", "post") and codec.reusable:
            if step == "ask":
                streams.append(codec.send_whole(request()))
            else:
                streams.append(codec.new_stream())
                codec.send(streams[-1], request(b"POST", b"/", framing=Framing.CHUNKED))
                open_.add(streams[-1])
            sent[streams[-1]] = b""
        elif step == "data" and stream in open_:
            piece = b"%d." % len(sent[stream]) * 9
            codec.send(stream, Body(piece))
            sent[stream] += piece
        elif step == "end" and stream in open_:
            codec.send(stream, End())
            open_.discard(stream)
        elif step == "trailers" and stream in open_:
            codec.send(stream, End([(b"x", b"y")]))
            open_.discard(stream)
        elif step == "answer" and answering.get(stream) == "none":
            server.send_headers(stream, OK)
            answering[stream] = "head"
        elif step == "body" and answering.get(stream) == "head":
            server.send_data(stream, b"answer")
        elif step == "done" and answering.get(stream) == "head":
            server.end_stream(stream)
            del answering[stream]
        elif step == "cancel" and stream in answering:
            server.reset_stream(stream, 8)
            del answering[stream]
        elif step == "reset" and stream:
            codec.reset(stream)
            open_.discard(stream)
        elif step == "settings":
            server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window + index * 100})
        exchange()
    for stream, data in got.items():
        assert sent[stream].startswith(data)
    assert codec.fault is None


@given(st.lists(st.sampled_from(["send", "got", "end", "theirs", "finish"]), max_size=20))
def test_websockets_end_each_way_by_itself(steps: list[str]) -> None:
    service = Service(connect=1, window=30)
    stream = service.ask(websocket())
    service.head(stream, OK, end=False)
    service.events.clear()
    sent, ours, theirs, finished = b"", False, False, False
    for step in steps:
        if step == "send" and not ours:
            service.codec.send(stream, Raw(b"octets"))
            sent += b"octets"
        elif step == "end" and not ours:
            service.codec.send(stream, RawEnd())
            ours = True
        elif step == "finish":
            service.codec.finish(stream)
            ours = finished = True
        elif step in ("got", "theirs") and not theirs:
            service.data(stream, b"x", end=step == "theirs")
            theirs = step == "theirs"
        service.listen()
        if theirs:
            service.window(stream, 20) if not service.codec.idle else None
            service.listen()
    heard = b"".join(frame[2] for frame in service.heard if frame[0] == "DATA")
    assert sent.startswith(heard)
    assert service.goaway is None
    assert len([event for event in service.events if event[1] == "raw end"]) <= 1
    if not finished:
        service.codec.finish(stream)
    service.let_go()
    assert service.codec.idle
