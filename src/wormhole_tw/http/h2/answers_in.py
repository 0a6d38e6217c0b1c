"""What comes from a service: heads of answers, their bodies and trailers, as events."""

from __future__ import annotations

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Body, End, Fields, InformationalHead, Raw, RawEnd, ResponseHead
from wormhole_tw.http.h2 import limits
from wormhole_tw.http.h2.client_connection import ClientConnection
from wormhole_tw.http.h2.faults import ConnectionFault, ErrorCode, StreamFault
from wormhole_tw.http.h2.frames import DEPENDS_ON_ITSELF, END_STREAM, Frame, FrameCutter
from wormhole_tw.http.h2.messages import RawFields, judge_trailers
from wormhole_tw.http.h2.receiving import Receiver
from wormhole_tw.http.h2.responses import judge_response
from wormhole_tw.http.h2.streams import TUNNEL, Stream
from wormhole_tw.http.h2.websocket import WEBSOCKET, acceptance

__all__ = ["AnswerReceiver"]

_ENABLE_PUSH = 2
_MAX_CONCURRENT_STREAMS = 3
_ENABLE_CONNECT_PROTOCOL = 8

_SWITCHING = b"Switching Protocols"


class AnswerReceiver(Receiver):
    """The incoming half of a connection to a service."""

    __slots__ = ()

    _connection: ClientConnection

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(connection, FrameCutter(connection.limits, preface=b""))

    def _take_settings(self, settings: dict[int, int]) -> None:
        connection = self._connection
        if settings.get(_ENABLE_PUSH, 0):
            # RFC 9113 §6.5.2
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a server that says it takes pushes")
        allowed = settings.get(_MAX_CONCURRENT_STREAMS)
        if allowed is not None:
            connection.allowed = min(allowed, connection.limits.streams)
        connects = settings.get(_ENABLE_CONNECT_PROTOCOL)
        if connects is not None:
            if connection.connects and not connects:
                # RFC 8441 §3
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "extended CONNECT is taken back")
            connection.connects = bool(connects)
        connection.settled = True

    def _on_headers(self, frame: Frame) -> None:
        connection = self._connection
        raw = self._decode(frame.payload)
        known = connection.streams.get(frame.stream)
        if known is None:
            if frame.stream in connection.given_up:
                connection.ignored.take(connection.now)
            else:
                self._on_closed(frame)
            return
        ended = bool(frame.flags & END_STREAM)
        try:
            if frame.flags & DEPENDS_ON_ITSELF:
                raise StreamFault("a stream that depends on itself")
            if known.remote_ended:
                raise StreamFault("HEADERS behind an end", ErrorCode.STREAM_CLOSED)
            if known.headless:
                self._on_head(known, raw, ended)
            else:
                self._on_trailers(known, raw, ended)
        except StreamFault as fault:
            connection.give_up(known, fault.code, fault.message)
        except HttpError as error:
            connection.give_up(known, ErrorCode.CANCEL, error.message.rstrip("."))

    def _on_head(self, stream: Stream, raw: RawFields, ended: bool) -> None:
        connection = self._connection
        request = stream.request
        assert request is not None
        headless = request.method == b"HEAD"
        head = judge_response(raw, ended=ended, headless=headless, limits=connection.limits)
        if type(head) is InformationalHead:
            stream.interim += sum([len(name) + len(value) for name, value in raw])
            if stream.interim > limits.INTERIM:
                raise StreamFault("interim answers without an end", ErrorCode.ENHANCE_YOUR_CALM)
            connection.library.answered(stream.machine, interim=True)
            connection.events.append((stream.id, head))
            return
        assert type(head) is ResponseHead
        connection.library.answered(stream.machine, interim=False)
        stream.headless = False
        if stream.tunnel and head.status < 300:
            self._switch(stream, head, ended)
            return
        stream.tunnel = False
        if headless or head.status in (204, 304):
            stream.left = 0
        else:
            stream.left = head.length
        connection.events.append((stream.id, head))
        if ended:
            self._end(stream, [])

    def _switch(self, stream: Stream, head: ResponseHead, ended: bool) -> None:
        """A success opens the WebSocket: for HTTP/1's side of it, that is a 101 with the proof of its key."""
        connection = self._connection
        fields = [line for line in head.fields if line[0] != b"sec-websocket-accept"]
        fields += [(b"Upgrade", WEBSOCKET), (b"Sec-WebSocket-Accept", acceptance(stream.key))]
        connection.events.append(
            (stream.id, ResponseHead(101, _SWITCHING, fields, (2, 0), keep_alive=False)),
        )
        stream.state = TUNNEL
        if ended:
            connection.library.end_came(stream.machine)
            stream.remote_ended = True
            connection.events.append((stream.id, RawEnd()))

    def _on_trailers(self, stream: Stream, raw: RawFields, ended: bool) -> None:
        if stream.tunnel or not ended:
            raise StreamFault("a second header block that is no trailer section")
        if stream.left:
            raise StreamFault("a body that is not as long as its head says")
        trailers = judge_trailers(raw, self._connection.limits)
        self._connection.library.answered(stream.machine, interim=False)
        self._end(stream, trailers)

    def _end(self, stream: Stream, trailers: Fields) -> None:
        connection = self._connection
        connection.library.end_came(stream.machine)
        stream.remote_ended = True
        connection.events.append((stream.id, End(trailers)))
        self._ended(stream)

    def _hand_out(self, stream: Stream, payload: bytes, ended: bool) -> None:
        events = self._connection.events
        if payload:
            events.append((stream.id, Raw(payload) if stream.tunnel else Body(payload)))
        if ended:
            events.append((stream.id, RawEnd() if stream.tunnel else End()))

    def _ended(self, stream: Stream) -> None:
        connection = self._connection
        if stream.machine.closed:
            connection.remove(stream)
        elif not stream.tunnel:
            # RFC 9113 §8.1: whoever has answered wants no more of the request
            connection.reset(stream, ErrorCode.NO_ERROR)

    def _on_closed(self, frame: Frame) -> None:
        # RFC 9113 §5.1: it ended in order, so that no frame can have been under way; or it was never ours
        if frame.stream > self._connection.highest or not frame.stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was never opened")
        raise ConnectionFault(ErrorCode.STREAM_CLOSED, "a frame on a stream that has ended")
