"""The ``h2`` library's connection, set up so that nothing in it decides what is ours to decide.

It keeps the states of streams, the windows and the settings.  It sees only frames that were judged before
(``receiving``), because it ends the whole connection for many a fault of one stream; and header blocks are decoded by
us and shown to it empty, for its own judgement of them (Content-Length among it) cannot be switched off.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionInputs, ConnectionState, H2Connection
from h2.events import Event
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamClosedBy, StreamInputs, StreamState
from hpack import Decoder, HeaderTuple

from wormhole_tw.http.h2.frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, frame_header
from wormhole_tw.http.h2.headers import RememberingEncoder
from wormhole_tw.http.h2.limits import MAX_FRAME, REMEMBERED, TABLE_SIZE, H2Limits

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["SWEEP", "Library"]


def _config(*, client_side: bool) -> H2Configuration:
    return H2Configuration(
        client_side=client_side,
        header_encoding=None,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )


_SERVER = _config(client_side=False)
_CLIENT = _config(client_side=True)

SWEEP = 64
"""New streams between two looks for closed ones."""

_FIRST_WINDOW = 65535
"""What every connection begins with (RFC 9113 §6.9.2)."""


class _Blank(Decoder):
    """Stands where the library would decode a header block a second time."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        return []


class Library(H2Connection):
    """One side of a connection, its SETTINGS queued.

    Of what leaves, the library keeps the states; :meth:`head` and :meth:`ended` tell it, and its own way of writing
    (which costs more than all else of a small answer) is not gone.
    """

    MAX_CLOSED_STREAMS = REMEMBERED

    def __init__(self, limits: H2Limits, *, client: bool = False) -> None:
        super().__init__(_CLIENT if client else _SERVER)
        self._opened = 0
        self._windows: tuple[int, int] | None = None
        self.decoder = _Blank()
        self.encoder = RememberingEncoder()
        settings = {
            SettingCodes.HEADER_TABLE_SIZE: TABLE_SIZE,
            SettingCodes.INITIAL_WINDOW_SIZE: limits.window,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.head,
        }
        if client:
            settings[SettingCodes.ENABLE_PUSH] = 0
        else:
            settings[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.streams
            settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self.local_settings = Settings(client=client, initial_values=settings)
        self.initiate_connection()
        if limits.connection_window > _FIRST_WINDOW:
            self.increment_flow_control_window(limits.connection_window - _FIRST_WINDOW)
        if not client:
            self.receive_data(PREFACE)

    @property
    def has_output(self) -> bool:
        """It has something to say of its own."""
        return bool(self._data_to_send)

    def receive_data(self, data: Buffer) -> list[Event]:
        """See the base class."""
        # it may be SETTINGS, or the answer to ours
        self._windows = None
        return super().receive_data(data)

    def sweep(self) -> None:
        """Forget what is closed; no setting shall reach it any more."""
        # asked for what it does beside counting
        _ = self.open_inbound_streams

    def _new(self, stream_id: int) -> H2Stream:
        self._opened += 1
        if self._opened % SWEEP == 0:
            self.sweep()
        return self._begin_new_stream(stream_id, AllowedStreamIDs.ODD)

    def open(self, stream_id: int) -> H2Stream:
        """We open a stream; its head follows by :meth:`head`."""
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        return self._new(stream_id)

    def unopen(self, stream_id: int) -> None:
        """Its head will not follow."""
        del self.streams[stream_id]

    def answered(self, stream: H2Stream, *, interim: bool) -> None:
        """The head of an answer came, final or interim, as :meth:`opened` takes a request's."""
        stream.state_machine.process_input(
            StreamInputs.RECV_INFORMATIONAL_HEADERS if interim else StreamInputs.RECV_HEADERS
        )

    def end_came(self, stream: H2Stream) -> None:
        """That head had END_STREAM."""
        stream.state_machine.process_input(StreamInputs.RECV_END_STREAM)

    def opened(self, stream_id: int, *, ended: bool) -> H2Stream:
        """The peer has opened a stream, with a head that is judged elsewhere.

        The same as showing it an empty header block, at a fifth of the cost; where it is whole with its head, at a
        twentieth.
        """
        if ended and self.state_machine.state is ConnectionState.SERVER_OPEN:
            return self._opened_whole(stream_id)
        self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        stream = self._new(stream_id)
        stream.state_machine.process_input(StreamInputs.RECV_HEADERS)
        if ended:
            stream.state_machine.process_input(StreamInputs.RECV_END_STREAM)
        return stream

    def _opened_whole(self, stream_id: int) -> H2Stream:
        """What :meth:`opened` makes of a request without a body, as most are, and without its steps."""
        self._opened += 1
        if self._opened % SWEEP == 0:
            self.sweep()
        windows = self._windows
        if windows is None:
            windows = self._windows = self.local_settings.initial_window_size, self.remote_settings.initial_window_size
        stream = H2Stream(stream_id, self.config, *windows)
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        machine = stream.state_machine
        machine.state = StreamState.HALF_CLOSED_REMOTE
        machine.client = False
        machine.headers_received = True
        self.streams[stream_id] = stream
        self.highest_inbound_stream_id = stream_id
        return stream

    def data_came(self, stream: H2Stream, flow: int, *, ended: bool) -> None:
        """DATA came on a stream that was open for it, within its windows.

        The same as showing it, at a fifth of the cost and without three copies.

        :param flow: octets that count for flow control
        """
        self._inbound_flow_control_window_manager.window_consumed(flow)
        stream._inbound_window_manager.window_consumed(flow)
        machine = stream.state_machine
        machine.process_input(StreamInputs.RECV_DATA)
        if ended:
            machine.process_input(StreamInputs.RECV_END_STREAM)

    def head(
        self,
        stream: H2Stream,
        fields: list[tuple[bytes, bytes]],
        *,
        end: bool,
        interim: bool = False,
        more: bytes = b"",
    ) -> list[bytes]:
        """A header block as frames: a request's head, an answer's, an interim one, or trailers.

        :param more: what follows ``fields`` in the block
        """
        machine = stream.state_machine
        machine.process_input(StreamInputs.SEND_INFORMATIONAL_HEADERS if interim else StreamInputs.SEND_HEADERS)
        if end:
            machine.process_input(StreamInputs.SEND_END_STREAM)
        return _block_frames(self.encoder.encode(fields) + more, END_STREAM if end else 0, stream.stream_id)

    def whole(self, stream: H2Stream, fields: list[tuple[bytes, bytes]], data: bytes) -> bytes:
        """A whole answer as frames, which ends its stream: :meth:`head`, one DATA frame and :meth:`ended` in one step.

        :param stream: open for it; its request is whole
        :param data: at most a frame, within the windows of stream and connection
        """
        stream_id, size = stream.stream_id, len(data)
        block = self.encoder.encode(fields)
        self.outbound_flow_control_window -= size
        stream.outbound_flow_control_window -= size
        machine = stream.state_machine
        machine.headers_sent = True
        machine.state = StreamState.CLOSED
        machine.stream_closed_by = StreamClosedBy.SEND_END_STREAM
        if len(block) > MAX_FRAME:
            head = b"".join(_block_frames(block, 0, stream_id))
        else:
            head = frame_header(len(block), HEADERS, END_HEADERS, stream_id) + block
        return b"%s%s%s" % (head, frame_header(size, DATA, END_STREAM, stream_id), data)

    def ended(self, stream: H2Stream) -> None:
        """A frame with END_STREAM is written."""
        stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)


def _block_frames(block: bytes, flags: int, stream_id: int) -> list[bytes]:
    """A header block as HEADERS, and as many CONTINUATION behind it as it takes."""
    size = len(block)
    if size <= MAX_FRAME:
        return [frame_header(size, HEADERS, flags | END_HEADERS, stream_id) + block]
    out: list[bytes] = []
    kind = HEADERS
    for at in range(0, size, MAX_FRAME):
        piece = block[at : at + MAX_FRAME]
        if at + MAX_FRAME >= size:
            flags |= END_HEADERS
        out.append(frame_header(len(piece), kind, flags, stream_id) + piece)
        kind, flags = CONTINUATION, 0
    return out
