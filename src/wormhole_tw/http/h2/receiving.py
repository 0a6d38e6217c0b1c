"""What comes: frames judged by the streams that they are for, before the library sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from h2.events import StreamReset
from h2.exceptions import ProtocolError
from hpack import HPACKError, OversizedHeaderListError

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Abandoned, Body, Closed, End, Failed, Raw, RawEnd, RequestHead
from wormhole_tw.http.h2 import frames, limits
from wormhole_tw.http.h2.connection import ANNOUNCED, DRAIN_PING, LAST_STREAM, LEAVING, Connection
from wormhole_tw.http.h2.faults import ConnectionFault, ErrorCode, StreamFault
from wormhole_tw.http.h2.floods import Bucket
from wormhole_tw.http.h2.frames import ACK, DATA, END_HEADERS, END_STREAM, HEADERS, Frame, FrameCutter, frame_header
from wormhole_tw.http.h2.headers import RememberingDecoder
from wormhole_tw.http.h2.requests import judge_request, judge_trailers
from wormhole_tw.http.h2.streams import AWAITING, Stream
from wormhole_tw.http.h2.websocket import key_field

if TYPE_CHECKING:
    from h2.events import Event as LibraryEvent

__all__ = ["Receiver"]

_KNOWN_SETTINGS = (1, 2, 4, 5, 8)
"""What is shown to the library, which would keep every unknown one: HEADER_TABLE_SIZE, ENABLE_PUSH,
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, ENABLE_CONNECT_PROTOCOL."""


class Receiver:
    """The incoming half of a connection.

    :param random: ``random(n)`` gives n octets
    :ivar head_since: since when a header block has begun that is not whole
    """

    __slots__ = (
        "_connection",
        "_credit",
        "_cutter",
        "_decoder",
        "_empty",
        "_handlers",
        "_ignored",
        "_pings",
        "_priorities",
        "_random",
        "_settings",
        "head_since",
    )

    def __init__(self, connection: Connection, random: Callable[[int], bytes]) -> None:
        self._connection = connection
        self._random = random
        self._decoder = RememberingDecoder(connection.limits.decoded)
        self._cutter = FrameCutter(connection.limits)
        self._credit = 0  # octets of DATA on streams that are given up
        self.head_since: float | None = None
        self._pings = Bucket("PING frames", limits.PINGS)
        self._settings = Bucket("SETTINGS frames", limits.SETTINGS)
        self._empty = Bucket("empty DATA frames", limits.EMPTY_DATA)
        self._priorities = Bucket("frames without effect", limits.PRIORITIES)
        self._ignored = Bucket("frames on streams that were reset", limits.IGNORED)
        self._handlers: dict[int, Callable[[Frame], None]] = {
            DATA: self._on_data,
            HEADERS: self._on_headers,
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS_FRAME: self._on_settings,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
        }

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes; what comes of them is in the connection's events."""
        connection = self._connection
        connection.now = now
        handlers = self._handlers
        try:
            for frame in self._cutter.cut(data):
                handlers.get(frame.kind, self._on_unknown)(frame)
        except ConnectionFault as fault:
            connection.die(fault.code, fault.message)
        except ProtocolError as error:
            # the library has written its GOAWAY
            connection.die(None, str(error))
        if connection.dead:
            self.head_since = None
            return
        if self._credit:
            update = frame_header(4, frames.WINDOW_UPDATE, 0, 0) + self._credit.to_bytes(4, "big")
            connection.sender.control(update)
            self._credit = 0
        if not self._cutter.in_head:
            self.head_since = None
        elif self.head_since is None:
            self.head_since = now

    def _show(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> list[LibraryEvent]:
        """Let the library see a frame.

        :raises ProtocolError: it breaks the connection
        """
        return self._connection.library.receive_data(frame_header(len(payload), kind, flags, stream) + payload)

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return self._decoder.decode(block, raw=True)  # type: ignore[return-value]
        except OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is far too large") from error
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block is no HPACK") from error

    def _on_headers(self, frame: Frame) -> None:
        stream, flags = frame.stream, frame.flags
        raw = self._decode(frame.payload)
        known = self._connection.streams.get(stream)
        if known is not None:
            self._on_trailers(known, raw, flags)
            return
        if stream in self._connection.given_up:
            self._ignored.take(self._connection.now)
            return
        shown = END_HEADERS | flags & END_STREAM
        if stream <= self._connection.highest:
            # closed, or passed over: the library remembers which, and what that means
            self._show(HEADERS, shown, stream)
            self._connection.resets.take(self._connection.now)
            return
        if not stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's stream has an even number")
        if self._connection.phase is LEAVING:
            self._ignored.take(self._connection.now)
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
            self._connection.give_up(known, fault.code)
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
            self._connection.give_up(stream, ErrorCode.STREAM_CLOSED)
            return
        trailers: list[tuple[bytes, bytes]] = []
        try:
            if stream.tunnel or not flags & END_STREAM or flags & frames.DEPENDS_ON_ITSELF or stream.left:
                raise StreamFault("a second header block that is no trailer section")
            if not stream.deaf:
                trailers = judge_trailers(raw, self._connection.limits)
        except StreamFault as fault:
            self._connection.give_up(stream, fault.code)
            return
        except HttpError as error:
            stream.deaf = True
            self._connection.events.append((stream.id, Failed(error)))
        self._show(HEADERS, END_HEADERS | END_STREAM, stream.id)
        stream.remote_ended = True
        if stream.machine.closed:
            self._over(stream)
        elif not stream.deaf:
            self._connection.events.append((stream.id, End(trailers)))

    def _on_data(self, frame: Frame) -> None:
        stream, payload = frame.stream, frame.payload
        known = self._connection.streams.get(stream)
        ended = bool(frame.flags & END_STREAM)
        if not payload and not ended:
            self._empty.take(self._connection.now)
        if known is None:
            if stream in self._connection.given_up:
                self._ignored.take(self._connection.now)
                self._credit += frame.flow
            else:
                self._show(DATA, 0, stream, payload + bytes(frame.flow - len(payload)))
                self._connection.resets.take(self._connection.now)
            return
        if known.remote_ended:
            self._credit += frame.flow
            self._connection.give_up(known, ErrorCode.STREAM_CLOSED)
            return
        if frame.flow > self._connection.library.remote_flow_control_window(stream):
            if frame.flow > self._connection.library.inbound_flow_control_window:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA past the connection's window")
            self._credit += frame.flow
            self._connection.give_up(known, ErrorCode.FLOW_CONTROL_ERROR)
            return
        size = len(payload)
        padding = frame.flow - size
        self._show(DATA, frame.flags & END_STREAM, stream, payload + bytes(padding))
        if padding:
            self._connection.library.acknowledge_received_data(padding, stream)
        known.unacknowledged += size
        if known.left is not None:
            known.left -= size
            if known.left < 0 or (ended and known.left):
                self._connection.give_up(known, ErrorCode.PROTOCOL_ERROR)
                return
        known.remote_ended = ended
        if not known.deaf:
            self._hand_out(known, payload, ended)
        if ended and known.machine.closed:
            self._over(known)

    def _over(self, stream: Stream) -> None:
        """Our direction had ended before: a WebSocket's, or an answer's that came early."""
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

    def _on_reset(self, frame: Frame) -> None:
        stream = frame.stream
        known = self._connection.streams.get(stream)
        if known is None:
            self._judge_closed(stream)
            return
        self._connection.resets.take(self._connection.now)
        self._show(frames.RST_STREAM, 0, stream, frame.payload)
        self._connection.remove(known)
        if known.known:
            self._connection.events.append((stream, Abandoned(int.from_bytes(frame.payload, "big"))))

    def _judge_closed(self, stream: int) -> None:
        """A frame without effect on a stream that is not open: it was, or the peer invents (RFC 9113 §5.1)."""
        if stream > self._connection.highest and stream not in self._connection.given_up:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was never opened")
        self._ignored.take(self._connection.now)

    def _on_window_update(self, frame: Frame) -> None:
        stream = frame.stream
        self._connection.updates.take(self._connection.now)
        known = self._connection.streams.get(stream) if stream else None
        if not int.from_bytes(frame.payload, "big") & LAST_STREAM:
            if not stream:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            if known is not None:
                self._connection.give_up(known, ErrorCode.PROTOCOL_ERROR)
                return
        if not stream:
            self._show(frame.kind, 0, 0, frame.payload)
            self._connection.sender.windows_opened()
        elif known is None:
            self._judge_closed(stream)
        elif any(isinstance(event, StreamReset) for event in self._show(frame.kind, 0, stream, frame.payload)):
            self._connection.give_up(known, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self._connection.sender.window_opened(known)

    def _on_settings(self, frame: Frame) -> None:
        self._settings.take(self._connection.now)
        payload = frame.payload
        if frame.flags & ACK:
            self._show(frame.kind, ACK, 0)
            return
        settings: dict[int, int] = {}
        for at in range(0, len(payload), 6):
            settings[int.from_bytes(payload[at : at + 2], "big")] = int.from_bytes(payload[at + 2 : at + 6], "big")
        if limits.MAX_FRAME <= settings.get(5, 0) < 1 << 24:
            settings[5] = limits.MAX_FRAME
        if 1 in settings:
            settings[1] = min(settings[1], limits.TABLE_SIZE)
        shown = [
            name.to_bytes(2, "big") + settings[name].to_bytes(4, "big") for name in _KNOWN_SETTINGS if name in settings
        ]
        self._connection.library.sweep()
        self._show(frame.kind, 0, 0, b"".join(shown))
        self._connection.sender.windows_opened()

    def _on_ping(self, frame: Frame) -> None:
        if frame.flags & ACK and frame.payload == DRAIN_PING and self._connection.phase is ANNOUNCED:
            self._connection.shut_down()
            return
        self._pings.take(self._connection.now)
        if not frame.flags & ACK:
            self._show(frame.kind, 0, 0, frame.payload)

    def _on_goaway(self, frame: Frame) -> None:
        self._priorities.take(self._connection.now)
        # its streams go on (RFC 9113 §6.8); the library would close the connection
        self._connection.peer_leaves = True

    def _on_priority(self, frame: Frame) -> None:
        """Nobody's order of streams is followed (RFC 9113 §5.3.2); the frame still has its form (§6.3)."""
        self._priorities.take(self._connection.now)
        payload, stream = frame.payload, frame.stream
        if len(payload) != 5:
            code = ErrorCode.FRAME_SIZE_ERROR
        elif int.from_bytes(payload[:4], "big") & LAST_STREAM == stream:
            code = ErrorCode.PROTOCOL_ERROR
        else:
            return
        known = self._connection.streams.get(stream)
        if known is not None:
            self._connection.give_up(known, code)
        elif stream > self._connection.highest:
            # a stream that is idle cannot be reset
            raise ConnectionFault(code, "a broken PRIORITY on a stream that is not open")

    def _on_unknown(self, frame: Frame) -> None:
        """RFC 9113 §5.5: ignored."""
        del frame
        self._priorities.take(self._connection.now)
