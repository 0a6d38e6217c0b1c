"""However the bytes are cut, the same comes of them; and no bytes at all raise."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests._support import require_corpus
from tests.http.h2.talk import GET, POST, WEBSOCKET, Peer, raw, seen
from wormhole_tw.http.events import Body, End, Framing, Raw, RawEnd, RequestHead, ResponseHead
from wormhole_tw.http.h2 import H2Limits, H2ServerCodec
from wormhole_tw.http.h2.frames import PREFACE


def conversation() -> bytes:
    """Some of everything that a client may say."""
    recorded = bytearray()
    peer = Peer(hello=False)
    say = peer.say
    peer.say = lambda data: (recorded.extend(data), say(data))[1]  # type: ignore[method-assign]
    peer.say(PREFACE)
    peer.settings(window=100000)
    peer.ask(1)
    peer.ask(3, POST, end=False)
    peer.data(3, b"first", pad=7)
    peer.ping()
    peer.window(0, 70000)
    peer.ask(5, [*GET, ("cookie", "a"), ("cookie", "b")])
    peer.data(3, b"second")
    peer.ask(3, [("x", "trailer")])
    peer.ask(7, WEBSOCKET, end=False)
    peer.data(7, b"early")
    peer.ask(9, [*GET, ("X", "malformed")])
    peer.ask(11, [*GET, ("expect", "refused")])
    peer.reset(5)
    peer.ask(13, POST, ("content-length", "3"), end=False)
    peer.data(13, b"long", end=True)
    peer.say(raw(9, 0, 0))
    return bytes(recorded)


CONVERSATION = conversation()


def told(pieces: list[bytes]) -> list[object]:
    codec = H2ServerCodec(random=lambda n: bytes(n))
    events: list[object] = []
    for piece in pieces:
        events += seen(codec.receive_data(piece, 0.0))
    return [events, b"".join(codec.data_to_send())]


WHOLE = told([CONVERSATION])


@given(st.sets(st.integers(1, len(CONVERSATION) - 1), max_size=60))
def test_any_chopping_gives_the_same_events(cuts: set[int]) -> None:
    at = [0, *sorted(cuts), len(CONVERSATION)]
    assert told([CONVERSATION[a:b] for a, b in pairwise(at)]) == WHOLE


def test_octet_by_octet() -> None:
    assert told([bytes((octet,)) for octet in CONVERSATION]) == WHOLE


BLOCK = Peer().block([*GET, ("x", "y")])
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
@example([raw(1, 5, 1, BLOCK), raw(1, 5, 1, BLOCK)], True)
def test_random_frames_never_raise(pieces: list[bytes], answers: bool) -> None:
    codec = H2ServerCodec(H2Limits(streams=3))
    codec.receive_data(PREFACE + raw(4, 0, 0), 0.0)
    for number, piece in enumerate(pieces):
        for stream, event in codec.receive_data(piece, float(number)):
            if answers and isinstance(event, RequestHead):
                codec.send(stream, ResponseHead(200, b"", [], framing=Framing.CHUNKED))
                codec.send(stream, Body(b"x" * 100))
            elif answers and isinstance(event, Body):
                codec.acknowledge(stream, len(event.data))
            elif answers and isinstance(event, End):
                codec.send(stream, End())
        codec.data_to_send()
        codec.take_events()
    codec.receive_eof(99.0)
    assert codec.should_close


STEPS = "ask data end answer body done reset cancel window ws switch raw over"
STEP = st.sampled_from(STEPS.split())


@given(st.lists(st.tuples(STEP, st.sampled_from([1, 3, 5, 7, 9])), max_size=80))
def test_legal_conversations_stay_so(steps: list[tuple[str, int]]) -> None:
    """Both sides do what the other can bear; nothing is broken, and what is sent arrives once and in order."""
    peer = Peer(window=50)
    codec = peer.codec
    state: dict[int, set[str]] = {}
    sent: dict[int, bytes] = {}
    from tests.http.h2.test_server import switched

    for step, stream in steps:
        now = state.get(stream, set())
        gone = any(event[0] == stream and event[1] in ("closed", "abandoned") for event in peer.events)
        if step in ("ask", "ws") and not now and stream > max(state, default=0):
            state[stream] = {"open", step}
            peer.ask(stream, POST if step == "ask" else WEBSOCKET, end=False)
        elif step in ("data", "end") and "open" in now and not gone:
            peer.data(stream, b"x", end=step == "end")
            now -= {"open"} if step == "end" else set()
        elif step == "answer" and "ask" in now and "answered" not in now:
            now.add("answered")
            codec.send(stream, ResponseHead(200, b"", [], framing=Framing.CHUNKED))
        elif step == "switch" and "ws" in now and "answered" not in now:
            now |= {"answered", "raw"}
            codec.send(stream, switched())
        elif step in ("body", "raw") and "answered" in now and "done" not in now:
            data = b"%d" % len(steps) * 20
            codec.send(stream, Raw(data) if "raw" in now else Body(data))
            if not gone:
                sent[stream] = sent.get(stream, b"") + data
        elif step in ("done", "over") and "answered" in now and "done" not in now:
            now.add("done")
            codec.send(stream, RawEnd() if "raw" in now else End())
        elif step == "reset" and now and not gone:
            codec.reset(stream)
        elif step == "cancel" and now and not gone:
            peer.reset(stream)
        elif step == "window" and now:
            peer.window(stream, 100)
        peer.listen()
    assert peer.goaway is None
    for stream, data in sent.items():
        assert data.startswith(b"".join(frame[2] for frame in peer.heard if frame[:2] == ("DATA", stream)))
    for stream in state:
        assert sum(event[0] == stream and event[1] in ("closed", "abandoned") for event in peer.events) <= 1


def corpus(kind: str) -> list[tuple[str, dict[str, object]]]:
    folder = require_corpus("corpora", "http2-frames")
    found: list[tuple[str, dict[str, object]]] = []
    for path in sorted(Path(folder).glob("*/*.json")):
        case = json.loads(path.read_text())
        if bool(case["error"]) == (kind == "error"):
            found.append((f"{path.parent.name}/{path.stem}", case))
    return found


@pytest.mark.parametrize("kind", ["error", "normal"])
def test_recorded_frames(kind: str) -> None:
    """The http2jp frames: those with an error end the connection or their stream; none raises."""
    cases = corpus(kind)
    assert cases
    for name, case in cases:
        peer = Peer()
        peer.ask(1)
        peer.say(bytes.fromhex(str(case["wire"])))
        peer.listen()
        if kind == "error":
            assert peer.goaway is not None or peer.resets, name
