"""What comes from a visitor: heads of requests, their bodies and trailers, as events."""

from __future__ import annotations

from collections.abc import Callable

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Body, Closed, End, Failed, Raw, RawEnd, RequestHead
from wormhole_tw.http.h2 import frames, limits
from wormhole_tw.http.h2.connection import LEAVING, ServerConnection
from wormhole_tw.http.h2.faults import ConnectionFault, ErrorCode, StreamFault
from wormhole_tw.http.h2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, Frame, FrameCutter
from wormhole_tw.http.h2.messages import judge_trailers
from wormhole_tw.http.h2.receiving import Receiver
from wormhole_tw.http.h2.requests import judge_request
from wormhole_tw.http.h2.streams import AWAITING, Stream
from wormhole_tw.http.h2.websocket import key_field

__all__ = ["RequestReceiver"]


class RequestReceiver(Receiver):
    """The incoming half of a visitor's connection.

    :param random: ``random(n)`` gives n octets
    """

    __slots__ = ("_random",)

    _connection: ServerConnection

    def __init__(self, connection: ServerConnection, random: Callable[[int], bytes]) -> None:
        super().__init__(connection, FrameCutter(connection.limits))
        self._random = random

    def _on_headers(self, frame: Frame) -> None:
        stream, flags = frame.stream, frame.flags
        raw = self._decode(frame.payload)
        known = self._connection.streams.get(stream)
        if known is not None:
            self._on_trailers(known, raw, flags)
            return
        if stream in self._connection.given_up:
            self._connection.ignored.take(self._connection.now)
            return
        if stream <= self._connection.highest:
            self._on_closed(frame)
            return
        if not stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's stream has an even number")
        if self._connection.phase is LEAVING:
            self._connection.ignored.take(self._connection.now)
            self._connection.forget(stream)
            return
        self._connection.highest = stream
        if len(self._connection.streams) >= self._connection.limits.streams:
            self._connection.library.highest_inbound_stream_id = stream
            self._connection.refuse(stream, ErrorCode.REFUSED_STREAM)
            return
        ended = bool(flags & END_STREAM)
        machine = self._connection.library.opened(stream, ended=ended)
        self._connection.streams[stream] = known = Stream(stream, machine, remote_ended=ended)
        try:
            if flags & frames.DEPENDS_ON_ITSELF:
                raise StreamFault("a stream that depends on itself")
            head = judge_request(raw, ended=ended, limits=self._connection.limits)
        except StreamFault as fault:
            self._connection.give_up(known, fault.code, fault.message)
        except HttpError as error:
            known.known = known.deaf = True
            self._connection.events.append((stream, Failed(error)))
        else:
            self._begin(known, head)

    def _begin(self, stream: Stream, head: RequestHead) -> None:
        self._connection.updates.earn(limits.UPDATES_EARNED)
        stream.known = True
        stream.request = head
        stream.left = head.length
        if head.upgrade is not None:
            stream.tunnel = True
            line = key_field(self._random(16))
            stream.key = line[1]
            head.fields.append(line)
        self._connection.events.append((stream.id, head))
        if stream.remote_ended or stream.tunnel:
            self._connection.events.append((stream.id, End()))

    def _on_trailers(self, stream: Stream, raw: list[tuple[bytes, bytes]], flags: int) -> None:
        if stream.remote_ended:
            self._connection.give_up(stream, ErrorCode.STREAM_CLOSED, "a second end")
            return
        trailers: list[tuple[bytes, bytes]] = []
        try:
            if stream.tunnel or not flags & END_STREAM or flags & frames.DEPENDS_ON_ITSELF or stream.left:
                raise StreamFault("a second header block that is no trailer section")
            if not stream.deaf:
                trailers = judge_trailers(raw, self._connection.limits)
        except StreamFault as fault:
            self._connection.give_up(stream, fault.code, fault.message)
            return
        except HttpError as error:
            stream.deaf = True
            self._connection.events.append((stream.id, Failed(error)))
        self._show(HEADERS, END_HEADERS | END_STREAM, stream.id)
        stream.remote_ended = True
        if not stream.deaf:
            self._connection.events.append((stream.id, End(trailers)))
        self._ended(stream)

    def _take_settings(self, settings: dict[int, int]) -> None:
        """Nothing of a client's concerns us."""

    def _on_closed(self, frame: Frame) -> None:
        # closed, or passed over, or never opened: the library remembers which, and what that means
        if frame.kind == HEADERS:
            self._show(HEADERS, END_HEADERS | frame.flags & END_STREAM, frame.stream)
        else:
            self._show(DATA, 0, frame.stream, frame.payload + bytes(frame.flow - len(frame.payload)))
        self._connection.resets.take(self._connection.now)

    def _ended(self, stream: Stream) -> None:
        if not stream.machine.closed:
            return
        # our direction had ended before: a WebSocket's, or an answer's that came early
        self._connection.remove(stream)
        if stream.known:
            self._connection.events.append((stream.id, Closed()))

    def _hand_out(self, stream: Stream, payload: bytes, ended: bool) -> None:
        events = self._connection.events
        if not stream.tunnel:
            if payload:
                events.append((stream.id, Body(payload)))
            if ended:
                events.append((stream.id, End()))
        elif stream.state is AWAITING:
            if payload:
                stream.early.append(payload)
            stream.early_end = ended
        else:
            if payload:
                events.append((stream.id, Raw(payload)))
            if ended:
                events.append((stream.id, RawEnd()))
