"""What comes: frames judged by the streams that they are for, before the library sees them.

What both sides of a connection do alike stands here; heads of messages are ``requests_in``'s and ``answers_in``'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from h2.events import StreamReset
from h2.exceptions import ProtocolError
from hpack import HPACKError, OversizedHeaderListError

from wormhole_tw.http.events import Abandoned
from wormhole_tw.http.h2 import frames, limits
from wormhole_tw.http.h2.connection import ANNOUNCED, DRAIN_PING, LAST_STREAM, Connection
from wormhole_tw.http.h2.faults import ConnectionFault, ErrorCode
from wormhole_tw.http.h2.floods import Bucket
from wormhole_tw.http.h2.frames import ACK, DATA, END_STREAM, HEADERS, Frame, FrameCutter, frame_header
from wormhole_tw.http.h2.headers import RememberingDecoder

if TYPE_CHECKING:
    from h2.events import Event as LibraryEvent

    from wormhole_tw.http.h2.streams import Stream

__all__ = ["Receiver"]

_KNOWN_SETTINGS = (1, 2, 4, 5, 8)
"""What is shown to the library, which would keep every unknown one: HEADER_TABLE_SIZE, ENABLE_PUSH,
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, ENABLE_CONNECT_PROTOCOL."""


class Receiver(ABC):
    """The incoming half of a connection.

    :param cutter: cuts the peer's frames
    :ivar head_since: since when a header block has begun that is not whole
    """

    __slots__ = (
        "_connection",
        "_credit",
        "_cutter",
        "_decoder",
        "_empty",
        "_handlers",
        "_priorities",
        "_settings",
        "head_since",
    )

    def __init__(self, connection: Connection, cutter: FrameCutter) -> None:
        self._connection = connection
        self._decoder = RememberingDecoder(connection.limits.decoded)
        self._cutter = cutter
        self._credit = 0  # octets of DATA on streams that are given up
        self.head_since: float | None = None
        self._settings = Bucket("SETTINGS frames", limits.SETTINGS)
        self._empty = Bucket("empty DATA frames", limits.EMPTY_DATA)
        self._priorities = Bucket("frames without effect", limits.PRIORITIES)
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

    @abstractmethod
    def _on_headers(self, frame: Frame) -> None:
        """A head, or trailers."""

    @abstractmethod
    def _on_closed(self, frame: Frame) -> None:
        """HEADERS or DATA on a stream that was not opened, or has ended and was not reset by us."""

    @abstractmethod
    def _hand_out(self, stream: Stream, payload: bytes, ended: bool) -> None:
        """DATA, as events."""

    @abstractmethod
    def _ended(self, stream: Stream) -> None:
        """END_STREAM came, and was told."""

    def _on_data(self, frame: Frame) -> None:
        stream, payload = frame.stream, frame.payload
        known = self._connection.streams.get(stream)
        ended = bool(frame.flags & END_STREAM)
        if not payload and not ended:
            self._empty.take(self._connection.now)
        if known is None:
            if stream in self._connection.given_up:
                self._connection.ignored.take(self._connection.now)
                self._credit += frame.flow
            else:
                self._on_closed(frame)
            return
        if known.remote_ended or known.headless:
            self._credit += frame.flow
            code = ErrorCode.STREAM_CLOSED if known.remote_ended else ErrorCode.PROTOCOL_ERROR
            self._connection.give_up(known, code, "DATA in front of a head, or behind an end")
            return
        if frame.flow > self._connection.library.remote_flow_control_window(stream):
            if frame.flow > self._connection.library.inbound_flow_control_window:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA past the connection's window")
            self._credit += frame.flow
            self._connection.give_up(known, ErrorCode.FLOW_CONTROL_ERROR, "DATA past the stream's window")
            return
        size = len(payload)
        padding = frame.flow - size
        self._connection.library.data_came(known.machine, frame.flow, ended=ended)
        if padding:
            self._connection.library.acknowledge_received_data(padding, stream)
        known.unacknowledged += size
        if known.left is not None:
            known.left -= size
            if known.left < 0 or (ended and known.left):
                self._connection.give_up(known, ErrorCode.PROTOCOL_ERROR, "a body that is not as long as its head says")
                return
        known.remote_ended = ended
        if not known.deaf:
            self._hand_out(known, payload, ended)
        if ended:
            self._ended(known)

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
        self._connection.ignored.take(self._connection.now)

    def _on_window_update(self, frame: Frame) -> None:
        stream = frame.stream
        self._connection.updates.take(self._connection.now)
        known = self._connection.streams.get(stream) if stream else None
        if not int.from_bytes(frame.payload, "big") & LAST_STREAM:
            if not stream:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            if known is not None:
                self._connection.give_up(known, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
                return
        if not stream:
            self._show(frame.kind, 0, 0, frame.payload)
            self._connection.sender.windows_opened()
        elif known is None:
            self._judge_closed(stream)
        elif any(isinstance(event, StreamReset) for event in self._show(frame.kind, 0, stream, frame.payload)):
            self._connection.give_up(known, ErrorCode.FLOW_CONTROL_ERROR, "a window larger than any may be")
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
        self._take_settings(settings)
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

    @abstractmethod
    def _take_settings(self, settings: dict[int, int]) -> None:
        """What the library is not asked about."""

    def _on_ping(self, frame: Frame) -> None:
        if frame.flags & ACK and frame.payload == DRAIN_PING and self._connection.phase is ANNOUNCED:
            self._connection.shut_down()
            return
        self._connection.pings.take(self._connection.now)
        if not frame.flags & ACK:
            self._show(frame.kind, 0, 0, frame.payload)

    def _on_goaway(self, frame: Frame) -> None:
        self._priorities.take(self._connection.now)
        # its streams go on (RFC 9113 §6.8); the library would close the connection
        self._connection.peer_leaves = True
        payload = frame.payload
        last = int.from_bytes(payload[:4], "big") & LAST_STREAM
        self._connection.left(last, int.from_bytes(payload[4:8], "big"), payload[8:])

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
            self._connection.give_up(known, code, "a broken PRIORITY")
        elif stream > self._connection.highest:
            # a stream that is idle cannot be reset
            raise ConnectionFault(code, "a broken PRIORITY on a stream that is not open")

    def _on_unknown(self, frame: Frame) -> None:
        """RFC 9113 §5.5: ignored."""
        del frame
        self._priorities.take(self._connection.now)
