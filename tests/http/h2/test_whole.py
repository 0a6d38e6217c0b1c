"""Requests and answers that are whole: what is done with them in one step is what several would have done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.http.h2.talk import GET, POST, Peer, raw
from wormhole_tw.http.events import Body, End, Framing, ResponseHead
from wormhole_tw.http.h2.library import Library
from wormhole_tw.http.h2.limits import MAX_FRAME, H2Limits


def whole(body: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> ResponseHead:
    return ResponseHead(status, b"OK", list(fields), framing=Framing.LENGTH, length=len(body))


def in_one(peer: Peer, stream: int, body: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> None:
    peer.codec.send_whole(stream, whole(body, *fields, status=status), body)


def in_steps(peer: Peer, stream: int, body: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> None:
    peer.codec.send(stream, whole(body, *fields, status=status))
    if body:
        peer.codec.send(stream, Body(body))
    peer.codec.send(stream, End())


Way = Callable[..., None]


def conversation(answer: Way) -> tuple[list[Any], list[Any], dict[int, Any]]:
    """Three requests, answered; then the client goes on as if two of them were not over."""
    peer = Peer()
    for stream in (1, 3, 5):
        peer.head(stream, GET)
    answer(peer, 3, b"three", (b"X", b"1"))
    answer(peer, 1, b"one", (b"X", b"1"))
    peer.listen()
    answer(peer, 5, b"five" * 1000, (b"Set-Cookie", b"secret=1"))
    peer.listen()
    closed = {stream: machine.closed_by for stream, machine in peer.codec._connection.library.streams.items()}
    peer.reset(1)
    peer.window(3, 100)
    peer.head(7, POST, end=False)
    peer.head(3, GET)
    peer.listen()
    # of each stream by itself: heads of several do not wait for bodies where these go one by one
    return sorted(peer.heard, key=lambda frame: str(frame[1])), peer.events, closed


def test_whole_answers_are_the_same_in_one_step() -> None:
    heard, events, closed = conversation(in_one)
    assert (heard, events, closed) == conversation(in_steps)
    assert ("DATA", 5, b"five" * 1000, "end") in heard
    assert [frame for frame in heard if frame[0] == "GOAWAY"] == [("GOAWAY", 7, "STREAM_CLOSED")]


def test_a_request_without_a_body_opens_the_stream_that_the_library_would() -> None:
    def library() -> Library:
        made = Library(H2Limits())
        made.receive_data(raw(4, 0, 0, (4).to_bytes(2, "big") + (70000).to_bytes(4, "big")))
        made.receive_data(raw(4, 1, 0))
        made.opened(1, ended=False)
        return made

    def inside(made: Library, stream: int) -> dict[str, Any]:
        machine = made.streams[stream]
        state = vars(machine.state_machine)
        windows = (machine.inbound_flow_control_window, machine.outbound_flow_control_window)
        skip = ("state_machine", "_inbound_window_manager", "config")
        rest = {name: value for name, value in vars(machine).items() if name not in skip}
        return {**state, **rest, "windows": windows, "highest": made.highest_inbound_stream_id}

    ours, theirs = library(), library()
    ours.opened(3, ended=True)
    theirs.receive_data(raw(1, 5, 3))
    assert inside(ours, 3) == inside(theirs, 3)
    assert inside(ours, 3)["windows"] == (H2Limits().window, 70000)
    # windows that change afterwards change for it, too, and for those that come
    for made in (ours, theirs):
        made.receive_data(raw(4, 0, 0, (4).to_bytes(2, "big") + (80000).to_bytes(4, "big")))
    ours.opened(5, ended=True)
    theirs.receive_data(raw(1, 5, 5))
    assert [inside(ours, n) for n in (3, 5)] == [inside(theirs, n) for n in (3, 5)]
    assert inside(ours, 3)["windows"] == (H2Limits().window, 80000)


def test_an_answer_that_its_window_does_not_hold_goes_in_pieces() -> None:
    peer = Peer(window=10)
    peer.head(1, GET)
    peer.head(3, GET)
    peer.listen()
    in_one(peer, 1, b"twelve bytes")
    in_one(peer, 3, b"short")
    assert [frame for frame in peer.listen() if frame[0] == "DATA"] == [
        ("DATA", 1, b"twelve byt"),
        ("DATA", 3, b"short", "end"),
    ]
    peer.window(1, 2)
    assert peer.listen() == [("DATA", 1, b"es", "end")]


def test_an_answer_longer_than_a_frame() -> None:
    peer = Peer()
    peer.head(1, GET)
    peer.listen()
    in_one(peer, 1, b"x" * (MAX_FRAME + 1))
    assert [len(frame[2]) for frame in peer.listen() if frame[0] == "DATA"] == [MAX_FRAME, 1]


def test_a_head_longer_than_a_frame() -> None:
    peer = Peer()
    peer.head(1, GET)
    peer.listen()
    in_one(peer, 1, b"body", (b"x", b"~" * (MAX_FRAME * 2)))
    frames = peer.listen()
    assert frames[-1] == ("DATA", 1, b"body", "end")
    assert [frame[0] for frame in frames] == ["BLOCK", "BLOCK", "BLOCK", "DATA"]


def test_no_room() -> None:
    """A transport that takes nothing gets the head, and the body when it has room."""
    peer = Peer()
    peer.head(1, GET)
    peer.listen()
    in_one(peer, 1, b"body")
    assert [frame[0] for frame in peer.listen(room=0)] == ["HEADERS"]
    assert peer.listen() == [("DATA", 1, b"body", "end")]


def test_whoever_is_in_the_middle_of_a_body_keeps_its_turn() -> None:
    peer = Peer()
    for stream in (1, 3):
        peer.head(stream, GET)
    peer.listen()
    peer.codec.send(1, ResponseHead(200, b"OK", [], framing=Framing.CHUNKED))
    peer.codec.send(1, Body(b"x" * 2 * MAX_FRAME))
    peer.listen(room=1)
    in_one(peer, 3, b"short")
    assert [frame[1] for frame in peer.listen() if frame[0] == "DATA"] == [1, 3]


@pytest.mark.parametrize(("status", "method"), [(304, "GET"), (204, "GET"), (200, "HEAD")])
def test_what_has_no_body_gets_none(status: int, method: str) -> None:
    peer = Peer()
    peer.head(1, [(":method", method), *GET[1:]])
    peer.listen()
    in_one(peer, 1, b"body", status=status)
    head = peer.listen()
    assert [frame[0] for frame in head] == ["HEADERS"]
    assert head[0][-1] == "end"


def test_an_answer_before_the_request_is_whole() -> None:
    peer = Peer()
    peer.head(1, POST, end=False)
    peer.listen()
    in_one(peer, 1, b"no")
    assert [frame[0] for frame in peer.listen()] == ["HEADERS", "DATA"]
    assert peer.let_go() == [("RST_STREAM", 1, "NO_ERROR")]


def test_an_answer_to_a_stream_that_is_gone() -> None:
    peer = Peer()
    peer.head(1, GET)
    peer.reset(1)
    peer.listen()
    in_one(peer, 1, b"no")
    assert peer.listen() == []
